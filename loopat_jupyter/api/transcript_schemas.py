"""The shape of a transcript as JSON; :mod:`loopat_jupyter.transcript.json` writes it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator

from ..loops.ports.engine import TurnState
from .schemas import ApiModel, Text, Timestamp, UsageView, whole_number

LAST_LIMIT = 10_000


class TranscriptPartView(ApiModel):
    """Something that happened in a turn. Which fields it has depends on its `type`."""

    model_config = ConfigDict(title="TranscriptPart")

    type: Literal["text", "thinking", "tool", "choice"]
    text: str | None = Field(default=None, description="Of `text` and `thinking`.")
    tool_use_id: str | None = Field(
        default=None, description="Of `tool`, and of the `choice` that a tool call made."
    )
    tool: str | None = None
    input: Any = None
    ok: bool | None = Field(default=None, description="`null` while the call has no result.")
    result: str | None = Field(default=None, description="At most 10 KB: head and tail.")
    choice_id: str | None = None
    kind: Literal["permission", "question"] | None = None
    payload: dict[str, Any] | None = Field(
        default=None, description="As in the event `requires_choice`."
    )
    outcome: Literal["allowed", "denied", "answered", "cancelled"] | None = None
    source: Literal["api", "web", "policy"] | None = Field(
        default=None, description="Who decided: an API token, a Jupyter session, the server."
    )
    resolved_at: Timestamp | None = None
    answers: dict[str, Any] | None = None
    rule: dict[str, Any] | None = None


class TranscriptErrorView(ApiModel):
    model_config = ConfigDict(title="TranscriptError")

    code: str
    message: str


class TranscriptTurnView(ApiModel):
    model_config = ConfigDict(title="TranscriptTurn")

    turn_id: str
    status: TurnState
    created_at: Timestamp
    started_at: Timestamp | None
    ended_at: Timestamp | None
    engine: str | None
    message: str
    usage: UsageView | None
    error: TranscriptErrorView | None
    parts: list[TranscriptPartView] = Field(description="In the order they happened.")


class TranscriptView(ApiModel):
    """A loop's transcript up to its event `seq`."""

    model_config = ConfigDict(title="Transcript")

    version: Literal[1]
    loop_id: str
    title: str
    created_at: Timestamp
    archived: bool
    seq: int
    turns: list[TranscriptTurnView] = Field(description="Oldest first.")


class TranscriptQuery(ApiModel):
    format: Literal["json", "md", "ipynb"] = "json"
    turn: Text | None = None
    last: int | None = Field(default=None, ge=1, le=LAST_LIMIT)

    _read_last = field_validator("last", mode="before")(whole_number)
