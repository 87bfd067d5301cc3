"""``loopat token``: API tokens, written to the database of a server on this machine.

The server may be running: it reads tokens from the same database. Only the SHA-256 of a token is
stored; the token itself is printed once.
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
    _run_in_database(
        home, lambda connection: insert_token(connection, record, token_digest(secret))
    )
    if json:
        print_json({**_token_json(record), "token": secret})
    else:
        print(secret)


@app.command("list")
def list_(home: Home = None, user: User = None, json: Json = False) -> None:
    """The tokens, newest first. The secrets are not kept anywhere."""
    from loopat_jupyter.store.tokens import list_tokens

    from ._printers import print_json

    owner = _owner(user)
    found = _run_in_database(home, lambda connection: list_tokens(connection, owner))
    if json:
        print_json([_token_json(token) for token in found])
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

    missing = _run_in_database(home, delete)
    if missing:
        raise CommandFailed(f"there is no token {', '.join(missing)}")
    if json:
        print_json(token_ids)


def _owner(user: str | None) -> str:
    from loopat_jupyter.api.auth import OWNER

    return user or os.environ.get("JUPYTERHUB_USER") or OWNER


def find_home(home: Path | None) -> Path:
    """The home of the server on this machine: the argument, ``LOOPAT_HOME`` or ``~/.loopat``."""
    chosen = home or Path(os.environ.get("LOOPAT_HOME") or "~/.loopat")
    return chosen.expanduser().absolute()


def _run_in_database(home: Path | None, query: Callable[[sqlite3.Connection], T]) -> T:
    """Run ``query`` in a transaction of the home's database."""
    from loopat_jupyter.store import Database, StoreUnusable
    from loopat_jupyter.store.lock import is_locked
    from loopat_jupyter.store.network_fs import is_network_file_system

    home_path = find_home(home)
    _check_home(home_path)
    if is_network_file_system(home_path) and is_locked(home_path):
        raise CommandFailed(
            f"{home_path} is on a network file system, where only the running server can open the "
            "database: stop it first, or make the token in the browser"
        )
    try:
        database = Database(home_path / "loopat.db")
    except StoreUnusable as error:
        raise CommandFailed(str(error)) from error
    try:
        return database.run_now(lambda connection, _events: query(connection))
    except sqlite3.Error as error:
        raise CommandFailed(f"the database in {home_path} refused: {error}") from error
    finally:
        database.close()


def _check_home(home: Path) -> None:
    """Raise ``CommandFailed`` where there is no home yet, or one of another user.

    A database file of another user would make the server unable to start.
    """
    if not home.is_dir():
        raise CommandFailed(
            f"there is no home at {home}: start the server once, or name it with --home"
        )
    if home.stat().st_uid != os.geteuid():
        raise CommandFailed(f"{home} belongs to another user: run this as that user")


def _token_json(token: TokenRecord) -> dict[str, Any]:
    view = {"tokenId": token.token_id, "label": token.label, "createdAt": token.created_at}
    return view if token.last_used_at is None else {**view, "lastUsedAt": token.last_used_at}


def _print_table(tokens: list[TokenRecord]) -> None:
    from rich import box
    from rich.table import Table

    from ._printers import console_for_text
    from ._terminal import one_line

    console = console_for_text()
    if not tokens:
        console.print("no tokens; `loopat token create LABEL` makes one")
        return
    table = Table("id", "label", "created", "last used", box=box.SIMPLE_HEAD)
    for token in tokens:
        used = one_line(token.last_used_at or "never")
        table.add_row(token.token_id, one_line(token.label), one_line(token.created_at), used)
    console.print(table)
