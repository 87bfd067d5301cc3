"""Which server a command connects to, and which loop an argument names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from ._exit import CommandFailed, ExitCode

if TYPE_CHECKING:
    from loopat_jupyter.client import Client, Loop

LoopArgument = Annotated[str, typer.Argument(metavar="LOOP", help="Id, its beginning, or title.")]

HOW_TO_START = "start one with `jupyter lab`, or try `loopat demo`"


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The server's URL and token as the command line and the environment give them."""

    url: str | None = None
    token: str | None = None

    def connect(self) -> Client:
        """A client of that server, or without a URL of a server that runs on this machine.

        Raises:
            CommandFailed: there is none.
        """
        from loopat_jupyter.client import Client, ServerNotFound, find_server

        if self.url is not None:
            try:
                return Client(self.url, self.token)
            except ValueError as error:
                raise CommandFailed(f"--url: {error}", ExitCode.USAGE) from error
        try:
            return Client(find_server())
        except ServerNotFound as error:
            if error.__cause__ is not None:  # LOOPAT_URL is set, and wrong
                raise
        return self._find_running_server()

    def _find_running_server(self) -> Client:
        """A client of a server of this user that has the extension and accepts its token."""
        from loopat_jupyter.client import Client, LoopatError, RetryPolicy, running_servers

        refused: list[str] = []
        for address in running_servers():
            with Client(address, retry=RetryPolicy(attempts=1)) as candidate:
                try:
                    candidate.loops.page(limit=1)
                except LoopatError as error:
                    refused.append(f"{address.url}: {error.message}")
                    continue
            return Client(address)
        tried = f" (tried {'; '.join(refused)})" if refused else ""
        raise CommandFailed(
            f"no loopat server found on this machine{tried}: {HOW_TO_START}, or set LOOPAT_URL "
            "and LOOPAT_TOKEN",
            ExitCode.NO_SERVER,
        )


def find_loop(client: Client, wanted: str) -> Loop:
    """The loop with that id, a unique beginning of its id, or exactly that title.

    Raises:
        CommandFailed: there is none, or more than one.
    """
    from loopat_jupyter.client import NotFoundError

    if len(wanted) == len("loop_") + 36 and wanted.startswith("loop_"):
        try:
            return client.loops.get(wanted)
        except NotFoundError as error:
            raise CommandFailed(f"there is no loop {wanted}") from error
    found = [
        loop
        for loop in client.loops.list(archived=True)
        if loop.title == wanted or (wanted and loop.id.startswith((wanted, f"loop_{wanted}")))
    ]
    if len(found) > 1:
        ids = ", ".join(loop.id for loop in found[:5])
        raise CommandFailed(f"{len(found)} loops match {wanted!r}: name one by its id ({ids})")
    if not found:
        raise CommandFailed(f"there is no loop {wanted!r}; `loopat loops list` shows them")
    return found[0]
