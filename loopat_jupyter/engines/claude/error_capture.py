"""The lent model, with an ear for refusals: what the provider itself said when it did not answer.

The CLI tells only part of it, and tries again where that cannot help. Nothing is changed on the
way; but what a provider says is not there is not asked for a second time in the same turn.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from ...loops.ports.network import Headers, ModelRequestRefused, ModelResponse, ModelUpstream

HEARD_MAX = 8192
NOT_THERE = 404
FINAL = frozenset({400, 401, 403, NOT_THERE})
"""What will be refused again, however often it is asked."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """``status`` is ``None`` where the provider was not reached at all."""

    status: int | None
    text: str

    @property
    def final(self) -> bool:
        return self.status in FINAL


class ErrorCapturingUpstream:
    """Implements :class:`~loopat_jupyter.loops.ports.network.ModelUpstream` over another one."""

    def __init__(self, upstream: ModelUpstream) -> None:
        self._upstream = upstream
        self.refusal: Refusal | None = None
        """The last one; ``None`` when the last request was answered."""

    @property
    def host(self) -> str:
        return self._upstream.host

    @property
    def port(self) -> int:
        return self._upstream.port

    async def send_request(
        self, method: str, target: str, headers: Headers, body: AsyncIterator[bytes] | None
    ) -> ModelResponse:
        if self.refusal is not None and self.refusal.status == NOT_THERE:
            raise ModelRequestRefused(self.refusal.text)
        try:
            answer = await self._upstream.send_request(method, target, headers, body)
        except OSError as error:
            self.refusal = Refusal(None, str(error))
            raise
        self.refusal = None
        return answer if answer.status < 400 else _CapturingResponse(answer, self)


class _CapturingResponse:
    """A refusal on its way to the CLI."""

    def __init__(self, answer: ModelResponse, ear: ErrorCapturingUpstream) -> None:
        self._answer = answer
        self._ear = ear
        self.status = answer.status
        self.headers = answer.headers

    async def body(self) -> AsyncIterator[bytes]:
        heard = b""
        async for piece in self._answer.body():
            heard += piece[: HEARD_MAX - len(heard)]
            self._ear.refusal = Refusal(self.status, heard.decode("utf-8", "replace"))
            yield piece

    async def close(self) -> None:
        await self._answer.close()
