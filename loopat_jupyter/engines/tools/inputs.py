"""The inputs of the tools, under the names and fields that models are trained on.

The JSON schemas that a model is given are made from these classes, and its input is validated by
them. Unknown fields are ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

LONGEST_SECONDS = 1000


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return _without_nul(text)


Plain = Annotated[str, AfterValidator(_without_nul)]
Named = Annotated[str, AfterValidator(_not_blank)]


class ToolInput(BaseModel):
    model_config = ConfigDict(extra="ignore")

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The input's schema for a model: no titles, no references, no ``null`` alternatives."""
        schema = cls.model_json_schema()
        plain: dict[str, Any] = _plain(schema, schema.get("$defs", {}))
        return plain


class BashInput(ToolInput):
    command: Named = Field(description="The command, run by bash in the workdir.")
    description: str | None = Field(
        None, description="What the command does, in five to ten words, for the person."
    )
    timeout: float | None = Field(
        None,
        gt=0,
        description="Milliseconds until it is killed. Needed for what takes longer than two "
        "minutes; ten minutes are the most.",
    )
    run_in_background: bool | None = Field(
        None, description="Return at once and leave it running; its output goes to a file."
    )

    def seconds(self, default: float, longest: float) -> float:
        """The timeout in seconds. Models send milliseconds; below 1000 it can only be seconds."""
        if self.timeout is None:
            return default
        seconds = self.timeout / 1000 if self.timeout >= LONGEST_SECONDS else self.timeout
        return min(seconds, longest)


class ReadInput(ToolInput):
    file_path: Named = Field(description="The file, absolute or relative to the workdir.")
    offset: int | None = Field(None, ge=0, description="The first line to read, counted from 1.")
    limit: int | None = Field(None, ge=1, description="How many lines to read; 2000 unless set.")


class WriteInput(ToolInput):
    file_path: Named = Field(description="The file, absolute or relative to the workdir.")
    content: str = Field(description="The whole new content of the file.")


class EditInput(ToolInput):
    file_path: Named = Field(description="The file, absolute or relative to the workdir.")
    old_string: str = Field(description="The text to replace, exactly as it is in the file.")
    new_string: str = Field(description="The text to put there.")
    replace_all: bool | None = Field(None, description="Replace every occurrence, not just one.")


class GlobInput(ToolInput):
    pattern: Named = Field(description="Such as **/*.py")
    path: Plain | None = Field(None, description="Where to look; the workdir unless set.")


class GrepInput(ToolInput):
    """Options that are not known are kept, so that the result can say that they did nothing."""

    model_config = ConfigDict(extra="allow")

    pattern: Named = Field(description="A regular expression.")
    path: Plain | None = Field(None, description="Where to look; the workdir unless set.")
    glob: Plain | None = Field(None, description="Only files whose name matches, such as *.py")
    output_mode: Literal["content", "files_with_matches", "count"] | None = Field(
        None, description="Matching lines, files (unless set), or counts for each file."
    )
    ignore_case: bool | None = Field(None, alias="-i", description="Ignore case.")
    lines_after: int | None = Field(
        None, alias="-A", ge=0, le=100, description="Lines to show after each match."
    )
    lines_before: int | None = Field(
        None, alias="-B", ge=0, le=100, description="Lines to show before each match."
    )
    lines_around: int | None = Field(
        None, alias="-C", ge=0, le=100, description="Lines to show before and after each match."
    )
    line_numbers: bool | None = Field(None, alias="-n", description="Always shown.")
    multiline: bool | None = Field(
        None, description="Let a match span lines; the dot matches line ends too."
    )
    type: Plain | None = Field(None, description="Only files of a type, such as py, js, md.")
    head_limit: int | None = Field(
        None, ge=1, description="The most lines or files to show; 500 unless set."
    )


class OptionInput(ToolInput):
    label: Named = Field(description="One to five words.")
    description: str = Field("", description="What choosing it means.")


class QuestionInput(ToolInput):
    question: Named = Field(description="The whole question.")
    header: str = Field("", description="A very short label, at most 12 characters.")
    options: list[OptionInput] = Field(
        min_length=2,
        max_length=20,
        description="The answers offered; any other text is possible too.",
    )
    multiSelect: bool = Field(False, description="Whether several answers may be chosen.")  # noqa: N815


class AskUserQuestionInput(ToolInput):
    questions: list[QuestionInput] = Field(
        min_length=1, max_length=20, description="All are asked, and answered, at once."
    )


def _plain(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_plain(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return _plain({**definitions[name], **rest}, definitions)
    if "anyOf" in schema:
        kept = [option for option in schema["anyOf"] if option != {"type": "null"}]
        if len(kept) == 1:
            schema = {**kept[0], **{k: v for k, v in schema.items() if k != "anyOf"}}
    result = {
        key: _plain(value, definitions)
        for key, value in schema.items()
        if key != "$defs" and not (key == "title" and isinstance(value, str))
    }
    if result.get("default", 0) is None:
        del result["default"]
    return result
