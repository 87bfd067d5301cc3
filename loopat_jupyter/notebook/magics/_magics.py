"""The magics ``%loop`` and ``%%loop``: they parse the line, carry it out and show the result."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.display import display

from loopat_jupyter.client import Loop
from loopat_jupyter.notebook.output import TranscriptRecord, bundle, find_previous_loop
from loopat_jupyter.transcript.escape import escape_html

from ._arguments import cell_parser, line_parser, parse
from ._attach import Attachment, attach
from ._errors import as_usage_error
from ._interpolate import interpolate
from ._session import MagicsSession
from ._tables import cost_table, loops_table, status_table
from ._turn import CellTurn


@magics_class
class LoopMagics(Magics):
    """Registered by ``%load_ext loopat_jupyter``."""

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self.names: dict[str, Any] = shell.user_ns
        self.session = MagicsSession()

    # ------------------------------------------------------------- %%loop

    @cell_magic("loop")  # type: ignore[arg-type]
    def cell(self, line: str, cell: str) -> None:
        """Send the cell's text to a loop, and show its turn while it runs.

        ::

            %%loop [--loop NAME] [--var NAME] [--mode MODE] [--no-stream]
                   [--attach NAME[:HOW]] [--interpolate] [--on-choice POLICY]

        --loop NAME       the loop, by title or id; else the current one, the one that this cell
                          used before, or a new one
        --var NAME        keep the result (text, tool calls, usage) in this variable
        --mode MODE       default, acceptEdits, bypassPermissions, plan, dontAsk or auto
        --no-stream       show the output when the turn has ended
        --attach NAME     give the agent a variable: a summary in its message; NAME:csv,
                          NAME:parquet and NAME:png make it a file in its working directory
        --interpolate     replace {name} by the text of that variable
        --on-choice       when the agent asks: auto (a person who is there, else fail), ask, wait,
                          fail, deny or allow

        Interrupting the cell interrupts the turn.
        """
        options = parse(cell_parser(), line)
        with as_usage_error():
            self._run(options, self._prompt(options, cell))

    def _prompt(self, options: Namespace, cell: str) -> tuple[str, list[Attachment]]:
        text = cell.strip()
        if not text:
            raise UsageError("%%loop: the cell is empty: write the message below the first line")
        names = self.names
        if options.interpolate:
            text = interpolate(text, names)
        attached = [attach(spec, names) for spec in options.attach]
        return "\n\n".join([text, *(one.text for one in attached)]), attached

    def _run(self, options: Namespace, prompt: tuple[str, list[Attachment]]) -> None:
        content, attached = prompt
        loop, note = self.session.loop_for_cell(options.loop)
        if note:
            self._show(f"*{escape_html(note, None)}*", None, note)
        for one in attached:
            if one.file is not None:
                name, data = one.file
                loop.put(data, name)
        turn = CellTurn(
            loop,
            content,
            mode=options.mode,
            on_choice=options.on_choice,
            live=not options.no_stream,
        )
        try:
            turn.run()
        finally:
            if options.var:
                self.names[options.var] = turn.result

    # ------------------------------------------------------------- %loop

    @line_magic("loop")  # type: ignore[arg-type]
    def line(self, line: str) -> None:
        """Loops of this notebook.

        ::

            %loop new [TITLE] [--fresh] [--var NAME]   make a loop and use it; run again, the cell
                                                       finds the loop it made
            %loop use NAME [--var NAME]                use a loop from here on
            %loop list [--all]                         show the loops
            %loop stop [NAME]                          interrupt the running turn
            %loop status [NAME]                        show how the loop stands
            %loop cost [NAME]                          show what it has used so far
        """
        options = parse(line_parser(), line)
        command = options.command or ("status" if self.session.loop_id else "list")
        name = " ".join(getattr(options, "name", []))
        with as_usage_error():
            getattr(self, f"_{command}")(name, options)

    def _new(self, name: str, options: Namespace) -> None:
        loop, state = None, "uses the loop it made before"
        if not options.fresh:
            previous = find_previous_loop(self.session.client)
            loop = previous.loop
            if loop is not None and name and loop.title != name:
                loop = None  # another title than before means another loop
        if loop is None:
            loop, state = self.session.create(name), "a new loop"
        self._show_chosen(self.session.choose(loop), state, options)

    def _use(self, name: str, options: Namespace) -> None:
        self._show_chosen(self.session.choose(self.session.find(name)), "in use", options)

    def _show_chosen(self, loop: Loop, state: str, options: Namespace) -> None:
        if options.var:
            self.names[options.var] = loop
        shown = f"**{escape_html(loop.title)}**: {state}"
        self._show(shown, TranscriptRecord(loop.id), f"{loop.title!r}: {state} ({loop.id})")

    def _list(self, name: str, options: Namespace) -> None:
        archived = bool(getattr(options, "all", False))
        loops = list(self.session.client.loops.list(archived=archived))
        self._show(loops_table(loops, self.session.loop_id), None)

    def _stop(self, name: str, options: Namespace) -> None:
        loop = self._named(name)
        busy = loop.info.busy
        if busy:
            loop.interrupt()
        state = "its running turn is interrupted" if busy else "no turn is running"
        self._show(f"**{escape_html(loop.title)}**: {state}", None)

    def _status(self, name: str, options: Namespace) -> None:
        self._show(status_table(self._named(name)), None)

    def _cost(self, name: str, options: Namespace) -> None:
        loop = self._named(name)
        self._show(cost_table(loop.title, loop.history()), None)

    def _named(self, name: str) -> Loop:
        return self.session.find(name).refresh() if name else self.session.current_loop()

    @staticmethod
    def _show(markdown: str, record: TranscriptRecord | None, plain: str | None = None) -> None:
        display(bundle(markdown, record, plain), raw=True)
