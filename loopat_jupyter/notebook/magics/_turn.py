"""One turn in a cell: the message is sent, the turn shown while it runs, and its error raised."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from IPython.core.error import UsageError

from loopat_jupyter.client import (
    Loop,
    LoopatError,
    OnChoice,
    PermissionMode,
    Started,
    TurnResult,
)
from loopat_jupyter.notebook.output import LiveTurn, TranscriptRecord, bundle, turn_markdown
from loopat_jupyter.transcript.escape import clean, truncate_middle
from loopat_jupyter.transcript.json import parse_turn
from loopat_jupyter.transcript.turn import TranscriptTurn

from ._choices import Prompts, has_front_end, policy
from ._interrupt import Interrupting
from ._live import LiveOutput

PLAIN_LIMIT = 60_000
"""Characters of the agent's text in the output for consoles."""


@dataclass(slots=True)
class CellTurn:
    """Call ``run()`` once. ``result`` is the turn so far, also after an exception."""

    loop: Loop
    content: str
    mode: PermissionMode | None = None
    on_choice: str = "auto"
    live: bool = True
    result: TurnResult = field(default_factory=TurnResult)
    _live: LiveTurn = field(default_factory=LiveTurn)
    _final: TranscriptTurn | None = None
    """The turn in the server's transcript, when it has ended."""
    _prompts: Prompts = field(default_factory=Prompts)
    _started: bool = False

    def run(self) -> TurnResult:
        """Send the message and follow its turn to the end.

        Raises:
            KeyboardInterrupt: the person interrupted; the turn has been ended in the server.
            LoopatError: as :meth:`Loop.ask`.
        """
        interrupting = Interrupting(self.loop.interrupt, lambda: self._started)
        decide = policy(self.on_choice, self._prompts.show, interrupting)
        try:
            self._refuse_if_choice_pending(decide)
            with LiveOutput(self._bundle, live=self.live and has_front_end()) as output:
                try:
                    with interrupting:
                        self._follow(output, decide)
                finally:
                    self._show_final_transcript(output)
        except KeyboardInterrupt:
            self._print_interruption(interrupting.failure)
            raise
        finally:
            self._prompts.close()
        return self.result.raise_for_status()

    def _follow(self, output: LiveOutput, decide: OnChoice) -> None:
        with self.loop.send(self.content, on_choice=decide, permission_mode=self.mode) as events:
            for event in events:
                self._started = self._started or isinstance(event, Started)
                with output.lock:
                    self.result.add(event)
                    self._live.add(event)
                output.changed()

    def _show_final_transcript(self, output: LiveOutput) -> None:
        """Show the server's transcript of the turn instead: it has the results of the tools."""
        if self.result.status == "running" or self.result.turn_id is None:
            return
        try:
            document = self.loop.transcript("json", turn=self.result.turn_id)
        except LoopatError:  # the turn was read to its end: what is shown is right, if terser
            return
        with output.lock:
            self._final = parse_turn(document["turns"][0])

    def _refuse_if_choice_pending(self, decide: OnChoice) -> None:
        """A message would be queued behind a turn that waits for a person, for ever if nobody is
        there."""
        pending = self.loop.pending_choice() if decide != "wait" else None
        if pending is None:
            return
        if callable(decide):
            self.loop.decide(pending.request, decide)
            return
        raise UsageError(
            "a turn of this loop waits for a person to decide, and this message would wait behind "
            "it. Nothing was sent: answer the choice, or %loop stop"
        )

    def _bundle(self) -> dict[str, Any]:
        record = TranscriptRecord(self.loop.id, self._live.seq)
        turn = self._final or self._live.turn
        plain = truncate_middle(clean(turn.text), PLAIN_LIMIT)  # a terminal obeys what it is sent
        markdown = turn_markdown(turn) if self._final else self._live.markdown()
        return bundle(markdown, record, plain or self.result.status)

    def _print_interruption(self, failure: LoopatError | None) -> None:
        if failure is not None:
            print(f"The server could not be told to interrupt the turn: {failure.message}")
        elif not self._started:
            print("The message is queued behind another turn, and will run when it is its time.")
        elif self.result.status == "running":
            print("The turn may still be running: %loop stop ends it.")
