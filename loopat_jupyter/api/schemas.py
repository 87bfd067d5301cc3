"""The models of requests and responses: they validate what comes in, and the component schemas of
the OpenAPI document are generated from them.

A component's name is part of the API. It is the model's ``title``: the name of its class, unless
the class has to be called otherwise. In a request unknown fields are ignored, and a wrong JSON type
is refused, never converted. A docstring here is the component's description, in Markdown.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel
from pydantic.annotated_handlers import GetJsonSchemaHandler
from pydantic.json_schema import SkipJsonSchema

from ..loops.errors import (
    ContentTooLarge,
    InvalidParameter,
    MetadataTooLarge,
    MissingContent,
    TitleTooLong,
)
from ..loops.models import to_json
from ..loops.ports.engine import PermissionMode, TurnState
from ..loops.ports.files import UploadPart

TITLE_LIMIT = 200
METADATA_LIMIT = 16 << 10
CONTENT_LIMIT = 1 << 20
LABEL_LIMIT = 100
KEY_LIMIT = 256
LAST_TURNS_LIMIT = 10_000
UPLOAD_ID = "^[A-Za-z0-9_-]{1,64}$"
SIZE_LIMIT = 1 << 50
"""Bytes of a file: more than any disk has. The real limit is the administrator's."""


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise InvalidParameter("A text in the request holds a NUL character.")
    return text


Text = Annotated[str, AfterValidator(_no_nul)]
"""A string that can be stored and shown. JSON with lone surrogates does not get this far."""

Timestamp = Annotated[
    str,
    Field(json_schema_extra={"format": "date-time", "examples": ["2026-01-31T12:00:00.000000Z"]}),
]


Absent = SkipJsonSchema[None]
"""The type of a field that is left out where there is nothing to say: it is never ``null``."""


class ApiModel(BaseModel):
    """Made of what a caller sent: a wrong JSON type is refused, an unknown field ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")


class RequestBody(ApiModel):
    """A JSON body. :func:`.handler.parse` drops fields that are ``null``, so its schema lets an
    optional field be ``null``."""

    extra_schema: ClassVar[dict[str, Any]] = {}
    """What the component says beside the fields."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: Any, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        reference = handler(core_schema)
        schema = handler.resolve_ref_schema(reference)
        schema |= cls.extra_schema
        required = schema.get("required", ())
        for name, field in schema["properties"].items():
            if name in required or "anyOf" in field:
                continue
            outer = {key: field.pop(key) for key in ("description", "default") if key in field}
            schema["properties"][name] = {"anyOf": [field, {"type": "null"}], **outer}
        return reference


class ResponseModel(BaseModel):
    """Made by this server, where the names agree straight from a record of the domain."""

    model_config = ConfigDict(from_attributes=True)


# --------------------------------------------------------------------------- tokens


class CamelCaseModel(ResponseModel):
    """The tokens' fields are in camelCase, as clients of the original API expect."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)


class CreateToken(RequestBody):
    label: Text = Field(
        default="default",
        description="Trimmed; at most 100 characters.",
        json_schema_extra={"maxLength": LABEL_LIMIT},
    )

    @field_validator("label")
    @classmethod
    def _trim(cls, label: str) -> str:
        label = label.strip()
        if len(label) > LABEL_LIMIT:
            raise InvalidParameter(f"A label has at most {LABEL_LIMIT} characters.")
        return label or "default"


class ApiTokenView(CamelCaseModel):
    """A token without its secret."""

    token_id: str = Field(pattern="^tok_[0-9a-f]{12}$")
    label: str
    created_at: Timestamp
    last_used_at: Timestamp | Absent = Field(default=None, description="Absent until first used.")


class ApiTokenCreated(CamelCaseModel):
    """A new token; the only time its secret is shown."""

    token_id: str = Field(pattern="^tok_[0-9a-f]{12}$")
    token: str = Field(pattern="^la_[0-9a-f]{48}$")
    label: str
    created_at: Timestamp


class ApiTokenList(ResponseModel):
    tokens: list[ApiTokenView]


# --------------------------------------------------------------------------- loops


class FolderView(ApiModel):
    """A folder under the Jupyter server's root directory, seen at `workdir/<last part>`."""

    path: Text = Field(description="Relative to the Jupyter server's root directory.")
    write: bool = Field(default=False, description="Whether the sandbox may write into it.")

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: item for name, item in value.items() if item is not None}
        return value


class CreateLoop(RequestBody):
    title: Text = Field(
        default="untitled",
        description="Trimmed; at most 200 characters.",
        json_schema_extra={"maxLength": TITLE_LIMIT},
    )
    metadata: dict[Text, Text] = Field(
        default_factory=dict, description="Yours; 16 KiB as compact JSON; never shown to the agent."
    )
    profiles: list[Text] | None = Field(
        default=None, description="Absent: your default profiles.", max_length=100
    )
    vault: Text | None = Field(default=None, description="Absent: your default vault.")
    repo: Text | None = Field(default=None, description="A repository to clone into the workdir.")
    folders: list[FolderView] = Field(
        default_factory=list, description="Jupyter sessions only.", max_length=32
    )

    @field_validator("title")
    @classmethod
    def _trim(cls, title: str) -> str:
        title = title.strip()
        if len(title) > TITLE_LIMIT:
            raise TitleTooLong(f"A title has at most {TITLE_LIMIT} characters.")
        return title or "untitled"

    @field_validator("profiles")
    @classmethod
    def _once_each(cls, profiles: list[str] | None) -> list[str] | None:
        return None if profiles is None else list(dict.fromkeys(profiles))

    @field_validator("metadata", mode="before")
    @classmethod
    def _bound_count(cls, metadata: Any) -> Any:
        # Each entry takes several bytes; looking at every one of millions would take long.
        if isinstance(metadata, dict) and len(metadata) > METADATA_LIMIT:
            raise MetadataTooLarge("Metadata takes at most 16 KiB as compact JSON.")
        return metadata

    @field_validator("metadata")
    @classmethod
    def _bound(cls, metadata: dict[str, str]) -> dict[str, str]:
        if len(to_json(metadata).encode()) > METADATA_LIMIT:
            raise MetadataTooLarge("Metadata takes at most 16 KiB as compact JSON.")
        return metadata


class SandboxView(ResponseModel):
    """What the sandbox enforces and what it does not, as sentences."""

    isolates: bool
    enforced: list[str]
    gaps: list[str]


class CurrentTurnView(ResponseModel):
    turn_id: str
    started_at: Timestamp | None
    pending_choice_id: str | None


class LoopObject(ResponseModel):
    """A loop. What it is doing now is in the response to a request for a single loop."""

    model_config = ConfigDict(title="Loop")

    id: str = Field(examples=["loop_2f1c7f6e-6d0a-4d0e-9a3b-0d8f0c5a1b2c"])
    title: str
    created_at: Timestamp
    created_by: str
    archived: bool
    archived_at: Timestamp | None
    metadata: dict[str, str]
    profiles: list[str]
    vault: str
    repo: str | None
    folders: list[FolderView]
    engine: str = Field(description="Which engine runs the turns.")
    sandbox: str = Field(description="The sandbox's tier.")
    durable_choices: bool = Field(description="Whether a choice outlives sandbox and server.")
    engine_reason: str | None = Field(None, description="Why that engine; of a single loop.")
    isolation: SandboxView | None = Field(
        None, description="What the sandbox enforces, and what it does not; of a single loop."
    )
    busy: bool | Absent = None
    queue_depth: int | Absent = Field(default=None, description="Messages behind the running one.")
    turn_count: int | Absent = Field(default=None, description="Turns accepted so far.")
    current_turn: CurrentTurnView | None = None


class LoopList(ResponseModel):
    data: list[LoopObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class NetworkRequestView(ResponseModel):
    """One request of the sandbox, sent or refused."""

    id: str
    started_at: Timestamp
    kind: Literal["connect", "http", "model"] = Field(
        description="A tunnel, a plain request, or a model call through the gateway."
    )
    host: str
    port: int
    verdict: Literal["allowed", "refused", "failed"]
    reason: str
    bytes_out: int
    bytes_in: int


class NetworkList(ResponseModel):
    data: list[NetworkRequestView]
    has_more: bool
    last_id: str | None


# --------------------------------------------------------------------------- messages


class SendMessage(RequestBody):
    extra_schema = {"required": ["content"]}  # an absent one has an error code of its own

    content: Text | Absent = Field(
        default=None,
        description="The message: 1 MiB of UTF-8, not blank. Required.",
        json_schema_extra={"minLength": 1, "maxLength": CONTENT_LIMIT},
    )
    permission_mode: PermissionMode | None = Field(
        default=None, description="For this turn only. Absent: the loop's own mode."
    )

    @field_validator("content")
    @classmethod
    def _bound(cls, content: str | None) -> str | None:
        if content is not None and len(content.encode()) > CONTENT_LIMIT:
            raise ContentTooLarge("A message has at most 1 MiB of UTF-8.")
        return content

    def required_content(self) -> str:
        """Raises ``MissingContent`` for an absent, ``null`` or blank one."""
        if self.content is None or not self.content.strip():
            raise MissingContent('A message needs "content": the text for the agent.')
        return self.content


class ToolCallView(ResponseModel):
    tool_use_id: str
    tool: str
    input: Any
    ok: bool | None
    result: str = Field(description="At most 10 KB: head and tail.")


class UsageView(ResponseModel):
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_usd: float | Absent = None


class MessageView(ResponseModel):
    id: str
    turn_id: str
    role: Literal["user", "assistant"]
    content: str
    created_at: Timestamp
    status: TurnState
    tool_calls: list[ToolCallView]
    usage: UsageView | None
    seq: int | None = Field(
        default=None,
        description="With `order=desc`: the number of the turn's `started` event; `/events` after "
        "the one before it replays the turn. Null while it has not begun.",
    )


class MessageList(ResponseModel):
    data: list[MessageView]
    has_more: bool
    last_id: str | None


# --------------------------------------------------------------------------- choices and rules


class ChoiceAnswer(RequestBody):
    """For a permission `allow` (and `remember`), for a question `answers`."""

    extra_schema = {"anyOf": [{"required": ["allow"]}, {"required": ["answers"]}]}

    allow: bool | None = None
    remember: Literal["loop"] | None = None
    answers: dict[str, str | list[str]] | None = Field(
        default=None, description="Question id or text -> value; all questions at once."
    )


class RuleView(ResponseModel):
    rule_id: str
    tool: str
    prefix: str | None
    created_at: Timestamp


class RuleList(ResponseModel):
    rules: list[RuleView]


# --------------------------------------------------------------------------- files


class FileView(ResponseModel):
    """One name in a loop's workdir."""

    name: str
    path: str | None = Field(
        description="From the workdir on. `null` where the name is not UTF-8: rename it inside."
    )
    type: Literal["file", "directory", "folder", "symlink", "other"] = Field(
        description="`folder`: a folder of the Jupyter server that the loop was created with; its "
        "files are read and written there. `other`: a pipe, a socket or a device."
    )
    size: int | None = Field(description="Bytes, of a `file` alone.")
    modified: Timestamp | None


class FileList(ResponseModel):
    """A page of a directory, in the order of the names' bytes."""

    path: str
    data: list[FileView]
    has_more: bool
    last_id: str | None = Field(description="What `after` takes for the next page.")
    truncated: bool = Field(
        description="The directory has more names than are looked at (100,000)."
    )


class FileReceivedView(ResponseModel):
    """What there is of a file after a request that put it, or a part of it."""

    model_config = ConfigDict(title="FileReceived")

    path: str
    received: int = Field(description="Bytes so far; where the next part begins.")
    size: int = Field(description="Bytes of the whole.")
    complete: bool
    file: FileView | None = Field(description="Once it is complete.")


# --------------------------------------------------------------------------- query strings


def whole_number(value: Any, digits: int = 9) -> Any:
    """The number that a query string's text is; other text is left for the model to refuse."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= digits:
        return int(value)
    return value


def _flag(value: Any) -> Any:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


class PageQuery(ApiModel):
    limit: int = Field(default=20, ge=1, le=100)
    after: Text | None = None

    _read_limit = field_validator("limit", mode="before")(whole_number)


class MessagesQuery(PageQuery):
    order: Literal["asc", "desc"] = "asc"


class LoopsQuery(PageQuery):
    before: Text | None = None
    archived: bool = False

    _read_archived = field_validator("archived", mode="before")(_flag)


class FilesQuery(PageQuery):
    path: Text = ""


class PutQuery(ApiModel):
    """All three or none of them."""

    upload: str | None = Field(default=None, pattern=UPLOAD_ID)
    offset: int | None = Field(default=None, ge=0, le=SIZE_LIMIT)
    size: int | None = Field(default=None, ge=0, le=SIZE_LIMIT)

    @field_validator("offset", "size", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        return whole_number(value, digits=16)

    def part(self) -> UploadPart | None:
        """Raises ``InvalidParameter`` where one of the three is missing."""
        given = (self.upload, self.offset, self.size)
        if all(one is None for one in given):
            return None
        if self.upload is None or self.offset is None or self.size is None:
            raise InvalidParameter("A part of a file needs upload, offset and size.")
        return UploadPart(self.upload, self.offset, self.size)


class TranscriptQuery(ApiModel):
    format: Literal["json", "md", "ipynb"] = "json"
    turn: Text | None = None
    last: int | None = Field(default=None, ge=1, le=LAST_TURNS_LIMIT)

    _read_last = field_validator("last", mode="before")(whole_number)
