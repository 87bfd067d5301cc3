"""Every route of the API, in one list. Tests hold the OpenAPI document equal to it."""

from __future__ import annotations

import re

from .choices import ChoiceHandler, RuleHandler, RulesHandler
from .docs_handlers import DocsAssetHandler, DocsHandler, OpenApiHandler
from .events import EventsHandler
from .files import FileHandler, FilesHandler
from .handler import LoopatHandler, UnknownRoute
from .loops import LoopHandler, LoopsHandler
from .messages import InterruptHandler, MessagesHandler
from .network import NetworkHandler
from .tokens import TokenHandler, TokensHandler
from .transcript import TranscriptHandler

PREFIX = r"/loopat/api"

ROUTES: tuple[tuple[str, type[LoopatHandler]], ...] = (
    ("/me/tokens", TokensHandler),
    ("/me/tokens/{token_id}", TokenHandler),
    ("/loops", LoopsHandler),
    ("/loops/{loop_id}", LoopHandler),
    ("/loops/{loop_id}/messages", MessagesHandler),
    ("/loops/{loop_id}/events", EventsHandler),
    ("/loops/{loop_id}/interrupt", InterruptHandler),
    ("/loops/{loop_id}/choices/{choice_id}", ChoiceHandler),
    ("/loops/{loop_id}/rules", RulesHandler),
    ("/loops/{loop_id}/rules/{rule_id}", RuleHandler),
    ("/loops/{loop_id}/network", NetworkHandler),
    ("/loops/{loop_id}/files", FilesHandler),
    ("/loops/{loop_id}/files/{path}", FileHandler),
    ("/loops/{loop_id}/transcript", TranscriptHandler),
    ("/openapi.json", OpenApiHandler),
    ("/docs", DocsHandler),
    ("/docs/assets/{name}", DocsAssetHandler),
)


def pattern(path: str) -> str:
    """The router's pattern for a path of :data:`ROUTES`; ``{path}`` takes slashes too."""
    ids = re.sub(r"{(?!path})[a-z_]+}", "([^/]+)", path)
    return f"{PREFIX}/v1{ids.replace('{path}', '(.+)')}"


def handlers() -> list[tuple[str, type[LoopatHandler]]]:
    """What the extension registers; the last one takes every unknown address."""
    known = [(pattern(path), handler) for path, handler in ROUTES]
    return [*known, (rf"{PREFIX}(?:/.*)?", UnknownRoute)]
