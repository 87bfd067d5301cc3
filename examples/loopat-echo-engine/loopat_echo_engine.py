"""An engine without a model: it repeats the message, and counts its words in the sandbox."""

from __future__ import annotations

import shlex

from loopat_jupyter.engines.plugin import EngineSetup
from loopat_jupyter.loops.errors import SandboxLost
from loopat_jupyter.loops.ports.engine import Engine, Turn, TurnHost

CALL = "call_1"
"""An id of a tool call is unique within its turn."""


class EchoEngine:
    """Implements :class:`loopat_jupyter.loops.ports.engine.Engine`."""

    name = "echo"  # the entry point's
    durable_choices = True  # a person may answer days later, after a restart of the server

    def __init__(self, setup: EngineSetup) -> None:
        self._tools = setup.tools

    async def run(self, turn: Turn, host: TurnHost) -> None:
        # This is called once when the turn begins, and once more after each answer of a person.
        # The journal says what has been done, so that nothing is done or shown twice.
        if not turn.journal:
            for word in turn.content.split():
                await host.text(f"{word} ")  # stored and sent when this returns
            await host.journal({"echoed": True})
        command = f"wc -w <<< {shlex.quote(turn.content)}"
        bash = {"command": command}
        await host.tool_call(CALL, "Bash", bash)
        # Raises TurnSuspended where a person has to be asked. Let it pass: the turn is stored,
        # and run() is called again with the answer, which this same call then returns.
        decision = await host.permission(
            CALL, "Bash", bash, kind="other", title=command, display_name="Bash"
        )
        if decision.allowed:
            ok, result = await self._run_command(command, host)
        else:
            ok, result = False, decision.denial
        await host.tool_result(CALL, ok, result)
        await host.text(f"\n{result.strip()} words\n" if ok else f"\nNot counted: {result}\n")

    async def _run_command(self, command: str, host: TurnHost) -> tuple[bool, str]:
        sandbox = await host.sandbox()  # starts one where the loop has none
        try:
            done = await sandbox.run(command, timeout=self._tools.bash_timeout)
        except SandboxLost as error:
            return False, error.message
        return done.exit_code == 0, done.output

    async def prepare(self) -> None:
        """There is nothing to load ahead."""

    async def close_loop(self, loop_id: str) -> None:
        """Nothing is kept for a loop."""

    async def close(self) -> None:
        """Nothing is kept open."""


def make_engine(setup: EngineSetup) -> Engine:
    return EchoEngine(setup)
