"""A client of the Loop API, for notebooks, scripts and programs.

    from loopat_jupyter.client import connect

    with connect() as client:
        loop = client.loops.create("tidy up")
        print(loop.ask("which files are here?").text)
        for event in loop.send("!git status"):
            ...

:class:`Client` (blocking) and :class:`AsyncClient` (asyncio) have the same methods. An
``AsyncClient`` belongs to one event loop. A ``Client`` may be shared between threads; a stream of
it is read by one thread. A turn runs in the server, whether or not anybody reads its events.

The modules of this package do no I/O: requests (``_requests``), the meaning of responses
(``_http``), events (``_events``, ``_decode``), resuming a stream (``_resume``), retries
(``_retry``), choices (``_choice_policy``). ``_async`` does the I/O; ``_sync`` is generated from it.

Of third parties it imports httpx and httpx-sse only, and nothing of the server.
"""

from __future__ import annotations

from ._address import ServerAddress
from ._async.client import AsyncClient, AsyncTokens, connect_async
from ._async.loop import AsyncChoice, AsyncLoop, AsyncOnChoice
from ._async.loops import AsyncLoops
from ._async.stream import AsyncEventStream
from ._choice_policy import Decision
from ._discovery import find_server, running_servers, server_with_pid
from ._errors import (
    APIError,
    AuthenticationError,
    ChoiceRequired,
    ConflictError,
    ConnectionFailed,
    InternalError,
    InvalidRequestError,
    LoopatError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerNotFound,
    StreamLost,
    UnexpectedResponse,
)
from ._events import (
    AssistantDelta,
    ChoiceResolved,
    Done,
    Event,
    Interrupted,
    Option,
    Ping,
    Question,
    Queued,
    RequiresChoice,
    SdkMessage,
    Snapshot,
    Started,
    ThinkingDelta,
    ToolCall,
    ToolResult,
    TurnError,
    UnknownEvent,
)
from ._models import (
    ApiToken,
    CurrentTurn,
    FileInfo,
    FileType,
    Folder,
    HistoryToolCall,
    Isolation,
    LoopInfo,
    LoopPage,
    Message,
    MessagePage,
    NetworkRequest,
    PermissionMode,
    Rule,
    Usage,
)
from ._result import TurnChoice, TurnFailed, TurnInterrupted, TurnResult, TurnToolCall
from ._retry import RetryPolicy
from ._sync.client import Client, Tokens, connect
from ._sync.loop import Choice, Loop, OnChoice
from ._sync.loops import Loops
from ._sync.stream import EventStream

__all__ = [
    "APIError",
    "ApiToken",
    "AssistantDelta",
    "AsyncChoice",
    "AsyncClient",
    "AsyncEventStream",
    "AsyncLoop",
    "AsyncLoops",
    "AsyncOnChoice",
    "AsyncTokens",
    "AuthenticationError",
    "Choice",
    "ChoiceRequired",
    "ChoiceResolved",
    "Client",
    "ConflictError",
    "ConnectionFailed",
    "CurrentTurn",
    "Decision",
    "Done",
    "Event",
    "EventStream",
    "FileInfo",
    "FileType",
    "Folder",
    "HistoryToolCall",
    "InternalError",
    "Interrupted",
    "InvalidRequestError",
    "Isolation",
    "Loop",
    "LoopInfo",
    "LoopPage",
    "LoopatError",
    "Loops",
    "Message",
    "MessagePage",
    "NetworkRequest",
    "NotFoundError",
    "OnChoice",
    "Option",
    "PermissionDeniedError",
    "PermissionMode",
    "Ping",
    "Question",
    "Queued",
    "RateLimitError",
    "RequiresChoice",
    "RetryPolicy",
    "Rule",
    "SdkMessage",
    "ServerAddress",
    "ServerNotFound",
    "Snapshot",
    "Started",
    "StreamLost",
    "ThinkingDelta",
    "Tokens",
    "ToolCall",
    "ToolResult",
    "TurnChoice",
    "TurnError",
    "TurnFailed",
    "TurnInterrupted",
    "TurnResult",
    "TurnToolCall",
    "UnexpectedResponse",
    "UnknownEvent",
    "Usage",
    "connect",
    "connect_async",
    "find_server",
    "running_servers",
    "server_with_pid",
]
