"""A model behind an API, called through pydantic-ai."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import httpx2
from pydantic_ai import messages as wire
from pydantic_ai.direct import model_request_stream
from pydantic_ai.models import ModelRequestParameters, StreamedResponse
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from ...context.config_file import SelectedModel
from .api_registry import load_api
from .context_sizes import guess_window
from .delta_tap import DeltaTap, current_tap
from .errors import as_model_error
from .messages import ModelReply
from .port import ModelError, ModelRequest, ModelText, ModelThinking, OnDelta, ToolSpec
from .wire_messages import from_wire, to_wire


class RemoteModel:
    """Implements :class:`~loopat_jupyter.engines.models.port.Model`. Importing and connecting takes
    seconds: create it off the event loop."""

    def __init__(self, choice: SelectedModel, http: httpx2.AsyncClient) -> None:
        self._choice = choice
        self._api = load_api(choice)
        self._model = self._api.connect(choice, http)
        self.name = f"{choice.provider}/{choice.model}"
        self.window = choice.context_window or guess_window(
            choice.model,
            known=self._model.context_window,
            own_address=choice.base_url is not None,
        )

    async def complete(self, request: ModelRequest, show: OnDelta) -> ModelReply:
        tap = DeltaTap(show)
        token = current_tap.set(tap)
        try:
            return await self._complete(request, show, tap)
        finally:
            current_tap.reset(token)

    async def _complete(self, request: ModelRequest, show: OnDelta, tap: DeltaTap) -> ModelReply:
        messages, parameters = to_wire(request.messages), _parameters(request)
        with as_model_error(self._choice.api_key, self._api.SDK_ERROR):
            opened = model_request_stream(
                self._model,
                messages,
                model_settings=self._settings(),
                model_request_parameters=parameters,
                instrument=False,
            )
            async with opened as streamed:
                async for event in streamed:
                    delta = _delta(event)
                    if isinstance(delta, ModelText):
                        delta = ModelText(tap.remaining(delta.text))
                    if delta is not None and delta.text:
                        await show(delta)
                return from_wire(_checked_response(streamed, tap))

    def _settings(self) -> ModelSettings:
        settings: dict[str, Any] = {**self._api.SETTINGS}
        if self._choice.max_tokens is not None:
            settings["max_tokens"] = self._choice.max_tokens
        if self._choice.thinking is not None:
            settings["thinking"] = self._choice.thinking
        return cast(ModelSettings, settings)


def _parameters(request: ModelRequest) -> ModelRequestParameters:
    instructions = [wire.InstructionPart(content=request.instructions)]
    return ModelRequestParameters(
        function_tools=_tools(request.tools),
        instruction_parts=instructions if request.instructions.strip() else [],
    )


def _tools(specs: Sequence[ToolSpec]) -> list[ToolDefinition]:
    return [
        ToolDefinition(
            name=spec.name,
            description=spec.description,
            parameters_json_schema=dict(spec.schema),
            strict=False,
        )
        for spec in specs
    ]


def _delta(event: object) -> ModelText | ModelThinking | None:
    if isinstance(event, wire.PartStartEvent):
        if isinstance(event.part, wire.TextPart):
            return ModelText(event.part.content)
        if isinstance(event.part, wire.ThinkingPart):
            return ModelThinking(event.part.content)
    elif isinstance(event, wire.PartDeltaEvent):
        if isinstance(event.delta, wire.TextPartDelta):
            return ModelText(event.delta.content_delta)
        if isinstance(event.delta, wire.ThinkingPartDelta):
            return ModelThinking(event.delta.content_delta or "")
    return None


def _checked_response(streamed: StreamedResponse, tap: DeltaTap) -> wire.ModelResponse:
    """The whole response. Raises :class:`ModelError` where the model refused, or the stream stopped
    without the provider's end marker."""
    response = streamed.get()
    if response.finish_reason == "content_filter" and not response.parts:
        raise ModelError("It refused to answer (content filter).")
    if not (tap.ended or (response.provider_details or {}).get("finish_reason")):
        raise ModelError("The answer ended before it was complete.", retryable=True)
    return response
