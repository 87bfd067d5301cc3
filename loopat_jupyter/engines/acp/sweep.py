"""Ending an agent's processes inside the sandbox, also those that have a group of their own.

Agents start tools in sessions of their own, so killing the agent's group would let them live on.
Run inside, as one short shell command: only there are the process ids known.
"""

from __future__ import annotations

from ...loops.errors import SandboxLost
from ...loops.ports import Sandbox

TIMEOUT = 5.0

_SCRIPT = r"""
declare -A parent born; root={root}
read -r up _ < /proc/uptime; up=${{up/./}}
for stat in /proc/[0-9]*/stat; do
  {{ read -r line < "$stat"; }} 2>/dev/null || continue
  pid=${{line%% *}}; rest=(${{line##*) }})
  parent[$pid]=${{rest[1]}}; born[$pid]=${{rest[19]}}
done
for pid in "${{!parent[@]}}"; do
  up_to=$pid; steps=0
  while [[ -n $up_to && $up_to != "$root" && $up_to != 0 && steps -lt 64 ]]; do
    up_to=${{parent[$up_to]}}; ((steps++))
  done
  [[ $up_to == "$root" && $pid != "$root" ]] || continue
  (( {age} < 0 || up - born[$pid] <= {age} )) && kill -KILL "$pid" 2>/dev/null
done
"""


async def sweep(sandbox: Sandbox, root: int, *, younger_than: float | None = None) -> None:
    """Kill what ``root`` has started, and what that has started: all of it, or what is younger
    than so many seconds. ``root`` itself goes on."""
    age = -1 if younger_than is None else int(younger_than * 100) + 2
    try:
        await sandbox.run(_SCRIPT.format(root=root, age=age), timeout=TIMEOUT)
    except SandboxLost:
        return  # with it everything has ended
