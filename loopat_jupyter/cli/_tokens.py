"""``loopat token``: API tokens, straight in the home of a server on this machine.

The server may be running: it notices a revoked token by itself. Only the SHA-256 of a token is
stored; the token is printed once.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ._exit import CommandFailed, ExitCode

if TYPE_CHECKING:
    from loopat_jupyter.loops.models import TokenRecord

T = TypeVar("T")
LABEL_LIMIT = 100

app = typer.Typer(
    help="Make, list and revoke API tokens of a server on this machine.", no_args_is_help=True
)

Home = Annotated[
    Path | None, typer.Option(help="The server's home. Default: LOOPAT_HOME, else ~/.loopat.")
]
User = Annotated[
    str | None,
    typer.Option(help="Whose tokens: a Hub's or an identity provider's user name. Default: the "
                 "owner of a single-user server, or JUPYTERHUB_USER."),
]  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command("create")
def create(
    label: Annotated[str, typer.Argument(help="What it is for.")] = "default",
    home: Home = None,
    user: User = None,
    json: Json = False,
) -> None:
    """Make a token. It is shown this once."""
    from loopat_jupyter.api.auth import new_token, new_token_record, token_digest
    from loopat_jupyter.store.tokens import insert_token

    from ._printers import print_json

    name = label.strip() or "default"
    if len(name) > LABEL_LIMIT or not name.isprintable():
        raise CommandFailed(
            f"a label has at most {LABEL_LIMIT} printable characters", ExitCode.USAGE
        )
    secret = new_token()
    record = new_token_record(_owner(user), name)
    _run(home, lambda connection: insert_token(connection, record, token_digest(secret)))
    if json:
        print_json({**_view(record), "token": secret})
    else:
        print(secret)


@app.command("list")
def list_(home: Home = None, user: User = None, json: Json = False) -> None:
    """The tokens, newest first. The secrets are not kept anywhere."""
    from loopat_jupyter.store.tokens import list_tokens

    from ._printers import print_json

    owner = _owner(user)
    found = _run(home, lambda connection: list_tokens(connection, owner))
    if json:
        print_json([_view(token) for token in found])
    else:
        _print_table(found)


@app.command("revoke")
def revoke(
    token_ids: Annotated[list[str], typer.Argument(metavar="TOKEN_ID...")],
    home: Home = None,
    user: User = None,
    json: Json = False,
) -> None:
    """Revoke tokens. Takes effect at once, also for open streams."""
    from loopat_jupyter.store.tokens import delete_token

    from ._printers import print_json

    owner = _owner(user)

    def delete(connection: sqlite3.Connection) -> list[str]:
        return [one for one in token_ids if not delete_token(connection, owner, one)]

    missing = _run(home, delete)
    if missing:
        raise CommandFailed(f"there is no token {', '.join(missing)}")
    if json:
        print_json(token_ids)


def _owner(user: str | None) -> str:
    from loopat_jupyter.api.auth import OWNER

    return user or os.environ.get("JUPYTERHUB_USER") or OWNER


def find_home(home: Path | None) -> Path:
    """Where the server of this machine keeps its things, unless a trait says otherwise."""
    chosen = home or Path(os.environ.get("LOOPAT_HOME") or "~/.loopat")
    return chosen.expanduser().absolute()


def _run(home: Path | None, job: Callable[[sqlite3.Connection], T]) -> T:
    """Run ``job`` in a transaction of the home's database."""
    from loopat_jupyter.store import Database, StoreUnusable
    from loopat_jupyter.store.lock import is_locked
    from loopat_jupyter.store.network_fs import is_network_file_system

    place = find_home(home)
    _check_home(place)
    if is_network_file_system(place) and is_locked(place):
        raise CommandFailed(
            f"{place} is on a network file system, where only the running server can open the "
            "database: stop it first, or make the token in the browser"
        )
    try:
        database = Database(place / "loopat.db")
    except StoreUnusable as error:
        raise CommandFailed(str(error)) from error
    try:
        return database.run_now(lambda connection, _events: job(connection))
    except sqlite3.Error as error:
        raise CommandFailed(f"the database in {place} refused: {error}") from error
    finally:
        database.close()


def _check_home(place: Path) -> None:
    """A home is made by its server; files of another user in it would lock that server out."""
    if not place.is_dir():
        raise CommandFailed(
            f"there is no home at {place}: start the server once, or name it with --home"
        )
    if place.stat().st_uid != os.geteuid():
        raise CommandFailed(f"{place} belongs to another user: run this as that user")


def _view(token: TokenRecord) -> dict[str, Any]:
    view = {"tokenId": token.token_id, "label": token.label, "createdAt": token.created_at}
    return view if token.last_used_at is None else {**view, "lastUsedAt": token.last_used_at}


def _print_table(tokens: list[TokenRecord]) -> None:
    from rich import box
    from rich.table import Table

    from loopat_jupyter.transcript.escape import one_line

    from ._printers import console_for_text

    console = console_for_text()
    if not tokens:
        console.print("no tokens; `loopat token create LABEL` makes one")
        return
    table = Table("id", "label", "created", "last used", box=box.SIMPLE_HEAD)
    for token in tokens:
        used = one_line(token.last_used_at or "never")
        table.add_row(token.token_id, one_line(token.label), one_line(token.created_at), used)
    console.print(table)
