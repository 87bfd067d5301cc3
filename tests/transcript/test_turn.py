"""A turn is built of its events, the same on the server and in a notebook."""

from __future__ import annotations

from typing import Any

from loopat_jupyter.transcript.json import parse_turn
from loopat_jupyter.transcript.markdown import MarkdownStyle, parts_blocks
from loopat_jupyter.transcript.redaction import Redactor
from loopat_jupyter.transcript.turn import (
    ChoicePart,
    Part,
    TextPart,
    ToolPart,
    TranscriptTurn,
    TurnBuilder,
    build_turn,
)

TOKEN = "la_" + "0" * 48
ASKED: dict[str, Any] = {
    "choice_id": "choice_1",
    "kind": "permission",
    "payload": {"tool": "Bash", "command": "ls"},
}
EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("started", {"content": "hello", "cold_start": False}),
    ("thinking_delta", {"text": "Let"}),
    ("thinking_delta", {"text": " me see."}),
    ("assistant_delta", {"text": f"See {TOKEN[:20]}"}),
    ("assistant_delta", {"text": f"{TOKEN[20:]}."}),
    ("tool_call", {"tool_use_id": "1", "tool": "Bash", "input_summary": "ls"}),
    ("requires_choice", ASKED),
    ("choice_resolved", {"choice_id": "choice_1", "outcome": "allowed", "source": "web"}),
    ("tool_result", {"tool_use_id": "1", "ok": True}),
    ("sdk_message", {"anything": 1}),
    ("assistant_delta", {"text": "Done."}),
    ("done", {"usage": {"input_tokens": 1, "output_tokens": 2}}),
]


def test_the_parts_are_in_the_order_of_the_events() -> None:
    builder = TurnBuilder()
    for name, data in EVENTS:
        builder.apply(name, data)
    turn = builder.turn
    assert (turn.message, turn.status) == ("hello", "done")
    assert turn.usage == {"input_tokens": 1, "output_tokens": 2}
    assert turn.parts == [
        TextPart("thinking", "Let me see."),
        TextPart("text", f"See {TOKEN}."),
        ToolPart("1", "Bash", "ls", ok=True),
        ChoicePart("choice_1", None, "permission", ASKED["payload"], "allowed", "web"),
        TextPart("text", "Done."),
    ]
    assert turn.text == f"See {TOKEN}.Done."


def test_a_turn_that_is_read_meanwhile_goes_on() -> None:
    builder = TurnBuilder()
    for number in range(5):
        builder.apply("assistant_delta", {"text": f"{number} "})
        assert builder.turn.text == "".join(f"{n} " for n in range(number + 1))
    assert len(builder.turn.parts) == 1


def test_a_stored_turn_is_redacted_and_keeps_the_status_that_was_stored() -> None:
    details = {
        "tool_call": {"input": {"command": "ls /srv/home"}},
        "tool_result": {"result": TOKEN},
    }
    events = [(name, {**data, **details.get(name, {})}) for name, data in EVENTS]
    stored = TranscriptTurn(turn_id="turn_1", status="waiting", message=TOKEN)
    turn = build_turn(stored, events, Redactor({"/srv/home": "~"}))
    assert TOKEN not in str(turn)
    assert turn.status == "waiting"
    assert turn.parts[2] == ToolPart("1", "Bash", {"command": "ls ~"}, ok=True, result="la_…")
    assert isinstance(turn.parts[1], TextPart)
    assert turn.parts[1].text == "See la_…."


def blocks(part: Part, style: MarkdownStyle | None = None) -> str:
    return "\n\n".join(parts_blocks([part], frozenset(), style or MarkdownStyle()))


def test_a_tool_call_is_folded_up_with_what_is_known_of_it() -> None:
    assert blocks(ToolPart("1", "Bash", "ls", ok=True)) == "- Bash ls (done)"
    whole = blocks(ToolPart("1", "Bash", {"command": "ls\n-l"}, True, "\x1b[1ma\x1b[0m\rb"))
    assert whole == (
        "<details><summary>Bash ls -l (done)</summary>\n\n```bash\nls\n-l\n```\n\n"
        "```text\na\nb\n```\n\n</details>"
    )
    other = blocks(ToolPart("1", "<b>", {"a": 1}), MarkdownStyle(escape_code=True))
    assert "<summary>&#60;b&#62; (no result yet)</summary>" in other
    assert '```json\n{\n  "a": 1\n}\n```' in other


def test_a_question_is_shown_by_its_choice_and_not_by_the_call_that_asked_it_too() -> None:
    call = ToolPart("1", "AskUserQuestion", {"questions": []}, ok=True)
    question = {"id": "q", "question": "Tea?", "options": [{"label": "Yes"}]}
    choice = ChoicePart("choice_1", "1", "question", {"questions": [question]})
    choice.outcome, choice.source, choice.answers = "answered", "api", {"q": ["Yes", "`b"]}
    turn = TranscriptTurn(parts=[call, choice])
    (shown,) = parts_blocks(turn.parts, turn.question_calls())
    assert shown == (
        "**Question of the agent**, with the options `Yes`\n\n> Tea?\n\n**Answer**\n\n"
        "- `Yes`\n- <code>&#96;b</code>\n\n**Answered** by an API token."
    )


def test_a_turn_of_another_version_of_the_server_is_read_as_far_as_it_is_known() -> None:
    turn = parse_turn({"status": "later", "new": 1, "parts": [{"type": "hologram"}, {}]})
    assert turn == TranscriptTurn(
        status="later", parts=[ToolPart("", "hologram", None), ToolPart("", "None", None)]
    )
