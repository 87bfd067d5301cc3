"""The parsers of ``%loop`` and ``%%loop``, and their usage errors."""

from __future__ import annotations

from argparse import Namespace
from typing import get_args

from IPython.core.error import UsageError
from IPython.core.magic_arguments import MagicArgumentParser

from loopat_jupyter.client import PermissionMode

MODES: tuple[str, ...] = get_args(PermissionMode)
ON_CHOICE = ("auto", "ask", "wait", "fail", "deny", "allow")
COMMANDS = {
    "new": "make a loop and use it; run again, the cell finds the loop it made",
    "use": "use a loop from here on",
    "list": "show the loops",
    "stop": "interrupt the running turn; queued ones then run",
    "status": "show how the loop stands",
    "cost": "show what the loop has used so far",
}


def unquoted(text: str) -> str:
    """A word without the quotes around it, which IPython's splitting keeps."""
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text


def cell_parser() -> MagicArgumentParser:
    """The parser of ``%%loop``'s first line."""
    parser = MagicArgumentParser(prog="%%loop", description="Send the cell's text to a loop.")
    add = parser.add_argument
    add("--loop", "-l", type=unquoted, metavar="NAME", help="the loop, by title or id")
    add("--var", "-v", type=_variable, metavar="NAME", help="keep the result in this variable")
    add("--mode", "-m", choices=MODES, help="the permission mode of this turn")
    add("--no-stream", action="store_true", help="show the output when the turn has ended")
    add(
        "--attach",
        "-a",
        type=unquoted,
        action="append",
        default=[],
        metavar="NAME[:HOW]",
        help="give the agent a variable: a summary (text), or a file (csv, parquet, png)",
    )
    add("--interpolate", "-i", action="store_true", help="replace {name} by the variable's text")
    add(
        "--on-choice",
        choices=ON_CHOICE,
        default="auto",
        help="what happens when the agent asks: auto asks a person who is there, else fails",
    )
    return parser


def line_parser() -> MagicArgumentParser:
    """The parser of ``%loop``."""
    parser = MagicArgumentParser(prog="%loop", description="Loops of this notebook.")
    commands = parser.add_subparsers(dest="command", metavar="|".join(COMMANDS))
    for name, text in COMMANDS.items():
        _fill(commands.add_parser(name, help=text), name)
    return parser


def command_parser(name: str) -> MagicArgumentParser:
    """The parser of ``%loop NAME`` alone."""
    return _fill(MagicArgumentParser(prog=f"%loop {name}"), name)


def _fill(parser: MagicArgumentParser, name: str) -> MagicArgumentParser:
    add = parser.add_argument
    if name == "list":
        add("--all", action="store_true", help="archived ones too")
        return parser
    many = "+" if name == "use" else "*"
    add("name", nargs=many, type=unquoted, metavar="TITLE" if name == "new" else "NAME")
    if name == "new":
        add("--fresh", action="store_true", help="a new one in any case")
    if name in {"new", "use"}:
        add("--var", type=_variable, metavar="NAME", help="keep the loop's handle in this variable")
    return parser


def parse(parser: MagicArgumentParser, line: str) -> Namespace:
    """Raises ``UsageError`` with a sentence that names the command."""
    try:
        parsed: Namespace = parser.parse_argstring(line)
    except UsageError as error:
        raise UsageError(f"{parser.prog}: {error}") from None
    except ValueError as error:  # quotes that do not match
        raise UsageError(f"{parser.prog}: {error}") from None
    return parsed


def options_of(parser: MagicArgumentParser) -> list[str]:
    """The long options, for completion."""
    return [o for a in parser._actions for o in a.option_strings if o.startswith("--")]


def _variable(text: str) -> str:
    if not text.isidentifier():
        raise UsageError(f"{text!r} is no name for a variable")
    return text
