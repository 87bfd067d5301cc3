"""Ending what an agent runs inside the sandbox, also what has a process group of its own.

Agents start tools in sessions of their own, so killing the agent's group would let them live on.
Run inside, as one short shell command: only there are the process ids known. Where the processes of
a sandbox cannot see each other (tier ``landlock``) nothing is found: see docs/security.md.
"""

from __future__ import annotations

from ...loops.errors import SandboxLost
from ...loops.ports.sandbox import Sandbox

TIMEOUT = 5.0
MARK = "LOOPAT_AGENT"
"""A variable of an agent's environment, by which what it started is known when it has died."""

_SCRIPT = r"""
declare -A parent born marked; found=(); root={root}; mark={mark}
read -r up _ < /proc/uptime; up=${{up/./}}
for stat in /proc/[0-9]*/stat; do
  {{ read -r line < "$stat"; }} 2>/dev/null || continue
  pid=${{line%% *}}; rest=(${{line##*) }})
  parent[$pid]=${{rest[1]}}; born[$pid]=${{rest[19]}}
done
if [[ -n $mark ]]; then
  while read -r name; do name=${{name#/proc/}}; marked[${{name%/environ}}]=1
  done < <(grep -lsazx "{variable}=$mark" /proc/[0-9]*/environ)
fi
for pid in "${{!parent[@]}}"; do
  up_to=$pid; steps=0
  while [[ -n $up_to && $up_to != "$root" && $up_to != 0 && steps -lt 64 ]]; do
    up_to=${{parent[$up_to]}}; ((steps++))
  done
  [[ $up_to == "$root" || -n ${{marked[$pid]}} ]] && [[ $pid != "$root" ]] || continue
  (( {age} < 0 || up - born[$pid] <= {age} )) && found+=("$pid")
done
(( ${{#found[@]}} )) || exit 0
kill -STOP "${{found[@]}}" 2>/dev/null  # so that none does anything when its child ends
kill -KILL "${{found[@]}}" 2>/dev/null
for pid in "${{found[@]}}"; do  # a signal is no death yet
  for ((looks = 0; looks < 2000; looks++)); do
    {{ read -r line < "/proc/$pid/stat"; }} 2>/dev/null || break
    rest=(${{line##*) }}); [[ ${{rest[0]}} == [ZX] ]] && break
  done
done
"""


async def kill_descendants(
    sandbox: Sandbox, root: int, *, younger_than: float | None = None, mark: str = ""
) -> None:
    """Kill what ``root`` has started, and what that has started: all of it, or what is younger
    than so many seconds. ``root`` itself goes on.

    ``mark``: ``root`` is dead, so its children are nobody's; this is its :data:`MARK`.
    """
    age = -1 if younger_than is None else int(younger_than * 100) + 2
    script = _SCRIPT.format(root=root, age=age, mark=mark, variable=MARK)
    try:
        await sandbox.run(script, timeout=TIMEOUT)
    except SandboxLost:
        return  # with it everything has ended
