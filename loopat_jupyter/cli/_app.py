"""The command tree, and the exit code for every way a command can end.

This module and the modules of the commands import typer and the standard library only; each
command imports the client, rich and the rest when it runs, because their import is slow.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from loopat_jupyter import __version__

from . import _chat, _demo, _doctor, _files, _loops, _messages, _network, _tokens
from ._connection import ServerOptions
from ._exit import EPILOG, CommandFailed, ExitCode, exit_code_of, print_error
from ._terminal import tolerate_narrow_encodings

app = typer.Typer(
    name="loopat",
    help="AI-agent loops that live in a Jupyter server. `loopat demo` is the guided first run.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(_demo.demo)
app.command("chat")(_chat.chat)
app.command("send")(_messages.send)
app.command("watch")(_messages.watch)
app.command("network")(_network.network)
app.command("files")(_files.files)
app.command("put")(_files.put)
app.command("get")(_files.get)
app.command("export")(_files.export)
app.command("doctor")(_doctor.doctor)
app.add_typer(_loops.app, name="loops")
app.add_typer(_tokens.app, name="token")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"loopat {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(help="Base URL of the Jupyter server. Else found: LOOPAT_URL, a Hub, the "
                     "server of this kernel, a server running on this machine."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(help="Token for --url. Others on this machine can read your command line: "
                     "LOOPAT_TOKEN is the better place."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show it.")
    ] = False,
) -> None:  # fmt: skip
    """AI-agent loops that live in a Jupyter server. `loopat demo` is the guided first run."""
    context.obj = ServerOptions(url, token or os.environ.get("LOOPAT_TOKEN"))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. Failures are one line on stderr."""
    tolerate_narrow_encodings()
    try:
        outcome = app(args=list(arguments), prog_name="loopat", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # the reader of stdout is gone: flushing at exit must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except CommandFailed as error:
        print_error(str(error))
        return error.code
    except Exception as error:
        return _report_failure(error)
    return outcome if isinstance(outcome, int) else ExitCode.OK


def _report_failure(error: Exception) -> int:
    """Print an expected failure and return its exit code; re-raise any other, with traceback."""
    describe = getattr(error, "format_message", None)  # typer's usage errors have it
    if describe is not None:
        return _report_usage_error(error, str(describe()))
    if isinstance(error, typer.Abort):
        return ExitCode.INTERRUPTED
    from loopat_jupyter.client import LoopatError

    if isinstance(error, LoopatError):
        print_error(error.message)
        return exit_code_of(error)
    if isinstance(error, OSError):  # a file or folder that the command line named
        print_error(str(error))
        return ExitCode.FAILED
    raise error


def _report_usage_error(error: Exception, message: str) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        print(message, file=sys.stderr)
        return ExitCode.USAGE
    context = getattr(error, "ctx", None)
    hint = f" (see `{context.command_path} --help`)" if context is not None else ""
    if (
        type(error).__name__ == "NoSuchOption"
        and context is not None
        and context.info_name == "send"
    ):
        hint = f". A message that begins with a dash: {context.command_path} LOOP -- MESSAGE"
        message = message.rstrip(".")
    print_error(message + hint)
    return ExitCode.USAGE
