"""The CLI's session file of a loop, read and repaired through the sandbox.

It lies in the loop's home and belongs to the agent like everything there. Nothing in it is trusted:
whatever it makes the CLI do passes the permission hook like any other call.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...loops.errors import TurnFailure
from ...loops.ports.sandbox import FileError, Sandbox
from .launch import CONFIG_DIR

OUTPUT_LIMIT = 1 << 20
"""Bytes that are read from the program of :mod:`.session_file`."""
PYTHON = "python3"


@dataclass(frozen=True, slots=True)
class CliSession:
    """The file of one session id, as one sandbox sees it."""

    sandbox: Sandbox
    id: str

    @property
    def _config_dir(self) -> str:
        return f"{self.sandbox.home}/{CONFIG_DIR}"

    async def exists(self) -> bool:
        try:
            found = await self.sandbox.file(
                "glob", pattern=f"*/{self.id}.jsonl", path=f"{self._config_dir}/projects"
            )
        except FileError:
            return False
        return bool(found["paths"])

    async def open_calls(self, not_allowed: Sequence[str] = ()) -> dict[str, str] | None:
        """The calls of the last model message that have no result, with their tools, in order;
        ``None`` when the file is gone. ``not_allowed``: calls that were never allowed to run; a
        result that they have nevertheless is dropped first, and what came after it."""
        return await self._run([["drop_results", *not_allowed]] if not_allowed else [])

    async def defer(self, call_id: str) -> None:
        """Have the CLI ask about this call again when it resumes the session."""
        await self._run([["defer", call_id]])

    async def close(self, call_id: str, text: str, *, ok: bool = False) -> None:
        """Give this call a result; usually a failed one that says why it has no other."""
        await self._run([["close", call_id, text, "ok" if ok else "failed"]])

    async def _run(self, operations: Sequence[Sequence[str]]) -> dict[str, str] | None:
        """Run the program of :mod:`.session_file` in the sandbox. Raises ``TurnFailure``."""
        process = await self.sandbox.spawn(
            [PYTHON, "-I", "-S", "-c", _program(), self._config_dir, self.id]
        )
        try:
            await process.write(json.dumps(operations).encode())
            await process.close_stdin()
            output = b""
            while (chunk := await process.read()) and len(output) < OUTPUT_LIMIT:
                output += chunk
            report = json.loads(output)
            if not report["found"]:
                return None
            return {str(call_id): str(tool) for call_id, tool in report["open"]}
        except (ValueError, KeyError, TypeError, BrokenPipeError) as error:
            raise TurnFailure(
                "The agent's own record of this conversation cannot be read, so it cannot go on "
                "where it was. Send a message to continue."
            ) from error
        finally:
            await process.kill()


@cache
def _program() -> str:
    return Path(__file__).with_name("session_file.py").read_text()
