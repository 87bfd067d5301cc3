"""Killing the processes that an agent has started inside the sandbox.

Agents start tools in sessions of their own, so killing the agent's process group would let them
live on. A short shell script, run inside because only there are the process ids known, follows the
parent ids in ``/proc``. Where the processes of a sandbox cannot see each other (tier ``landlock``)
it finds nothing: see docs/security.md.
"""

from __future__ import annotations

import time

from ...loops.errors import SandboxLost
from ...loops.ports.sandbox import Sandbox

TIMEOUT = 5.0
"""Seconds for the script."""
MARK = "LOOPAT_AGENT"
"""An environment variable of the agent, inherited by what it starts. It identifies those processes
when the agent has died and init has become their parent."""

_SCRIPT = r"""
declare -A parent born marked; found=(); root={root}; mark={mark}
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
  (( born[$pid] >= {since} )) && found+=("$pid")
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
    """Kill the descendants of the process ``root``, not ``root`` itself.

    ``younger_than``: only those started within so many seconds. ``mark``: also the processes with
    this value of :data:`MARK`, for a ``root`` that has died. A sandbox that is lost while the
    script runs is no error: its processes have ended with it.
    """
    # A moment, not an age: on a busy machine the script may begin long after this line. Processes
    # begin at a time of CLOCK_BOOTTIME in hundredths of a second, rounded down (proc(5), stat).
    since = 0
    if younger_than is not None:
        since = int((time.clock_gettime(time.CLOCK_BOOTTIME) - younger_than) * 100) - 2
    script = _SCRIPT.format(root=root, since=since, mark=mark, variable=MARK)
    try:
        await sandbox.run(script, timeout=TIMEOUT)
    except SandboxLost:
        return
