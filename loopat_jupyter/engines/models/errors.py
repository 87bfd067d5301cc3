"""What went wrong with a call, as one :class:`~.port.ModelError` in the provider's own words.

The words are bounded, hold no key, and say which address was asked. Providers put their errors in
many shapes and places; :func:`error_text` knows the ones that have been seen.
"""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from .port import ModelError

MESSAGE_LIMIT = 500
RETRIED_STATUS = frozenset({408, 409, 425, 429})
NOT_RETRIED_STATUS = frozenset({501, 505})
LENGTH_STATUS = frozenset({400, 413, 422, 500, 503})

_TOO_LONG = re.compile(
    r"context[\s_-]?(length|window|size|limit)|maximum context|context_length_exceeded"
    r"|max(imum)? (prompt|input|model|sequence|context)[\s_]?(length|len|tokens)"
    r"|(prompt|inputs?|request|conversation|messages?|query|body)[\w\s`']{0,24}"
    r"\btoo (long|large|big|many)"
    r"|too (many|long|large)[\w\s]{0,12} (tokens|prompt|input|message|context)"
    r"|token (limit|count)[\w\s():,.]{0,60}exceed|exceed\w*[\w\s`'()]{0,60}"
    r"(tokens?\b|context|token limit|input limit|prompt limit|length)"
    r"|tokens?\W{1,3}(exceed|must be <=|is greater than|in excess)"
    r"|reduce (the |your )?(length|size|number|prompt|input|messages?|context)"
    r"|(input|prompt)[\s_]length|longer than the (maximum|model|context|max)"
    r"|must have (less|fewer) than \d+ tokens|request_too_large|string_above_max_length"
    r"|tokens_limit_reached|tokens to keep|larger than the (context|model|max)"
    r"|shorten (the |your )?(prompt|input|message|conversation)|does not fit"
    r"|n_ctx|num_ctx|max_position_embeddings|max_model_len|max_seq_len"
    r"|context\W{1,3}(the )?overflow"
    r"|\u8d85\u957f|\u8fc7\u957f|\u592a\u957f|\u8d85\u8fc7[^\u3002]{0,16}(\u957f\u5ea6|\u9650\u5236|\u4e0a\u9650)|\u4e0a\u4e0b\u6587",
    re.IGNORECASE,
)
"""A conversation that is too long, in the words of the providers and servers that were seen."""

_SIGN_OF_LENGTH = re.compile(
    r"token|length|context|too (long|large|big|many)|maximum|exceed|window|\u957f\u5ea6",
    re.IGNORECASE,
)
"""What a refusal because of length holds at least."""

_OUTPUT_TOO_LARGE = re.compile(
    r"max_(completion_|output_|new_)?tokens\b(?!.{0,40}context).{0,80}?"
    r"(too (large|high|big)|at most|maximum|less than or equal|must be|exceed|greater than|<=)"
    r"|(completion|output) tokens.{0,40}(at most|maximum|limit)",
    re.IGNORECASE | re.DOTALL,
)
_OF_THE_INPUT = re.compile(r"input|prompt|context", re.IGNORECASE)
_QUOTA = re.compile(r"insufficient_quota|quota|billing|credit|balance|payment", re.IGNORECASE)

_LIMITS = (
    r"maximum context length (?:is|of) (\d+)",
    r"maximum (?:prompt|input|model) length (?:is|of) (\d+)",
    r"> (\d+)",
    r"allowed \((\d+)\)",
    r"with (\d+) maximum context",
    r"(?:token|context) (?:length |window |size )?limit(?: of| is)?:? \(?(\d+)",
    r"(?:limit|maximum) (?:is|of) (\d+)",
    r"must be <= (\d+)",
    r"context (?:length|size|window)(?: of| is|:)? ?\(?(\d+)",
    r"n_ctx\W{1,4}(\d+)",
    r"max size: (\d+) tokens",
    r"range of input length should be \[\d+, ?(\d+)\]",
    r"less than (\d+) tokens",
    r"limit (\d+), requested",
)


def response_error(
    status: int, body: bytes, headers: Mapping[str, str], *, address: str, secrets: Sequence[str]
) -> ModelError:
    """The error of an answer that is no success. ``address`` is where it was asked for."""
    content = parse_json(body)
    text = error_text(content) if content is not None else _plain_text(body, headers)
    if 300 <= status < 400:
        text = text or "It redirects elsewhere; write the final address as baseUrl."
    text = text or "The provider refused the request."
    where = f" (HTTP status {status} from {address})"
    return _classified(status, text, content, headers, where=where, secrets=secrets)


def content_error(content: Any, *, address: str, secrets: Sequence[str]) -> ModelError:
    """The error that came as content: inside a stream, or as a whole answer with status 200."""
    status = status_in(content) or 0
    return _classified(
        status,
        error_text(content) or "The provider reported an error.",
        content,
        {},
        where=f" (from {address})",
        secrets=secrets,
    )


def _classified(
    status: int,
    text: str,
    content: Any,
    headers: Mapping[str, str],
    *,
    where: str,
    secrets: Sequence[str],
) -> ModelError:
    detail = text if content is None else f"{text} {json.dumps(content, ensure_ascii=False)}"
    detail = detail[:20_000]
    output = status in LENGTH_STATUS | {0} and is_output_too_large(detail)
    fits_not = not output and is_too_long(status, detail)
    return ModelError(
        clean(text, secrets) + where,
        retryable=not fits_not and is_retryable(status, detail, content, headers),
        retry_after=retry_after(headers),
        too_long=fits_not,
        maybe_too_long=not output
        and not fits_not
        and status in (400, 422)
        and _SIGN_OF_LENGTH.search(detail) is not None,
        window=window_in(detail) if fits_not else None,
        output_limit=_output_limit(detail) if output else None,
        detail=detail,
        status=status,
    )


def is_output_too_large(detail: str) -> bool:
    """Whether more output was asked for than the model gives; the conversation is not the cause."""
    return bool(_OUTPUT_TOO_LARGE.search(detail)) and not _OF_THE_INPUT.search(detail)


def is_too_long(status: int, detail: str) -> bool:
    """Whether the conversation does not fit; ``status`` 0 where there is none."""
    if status == 413:
        return True
    if status and status not in LENGTH_STATUS:
        return False
    return _TOO_LONG.search(detail) is not None


def is_retryable(status: int, detail: str, content: Any, headers: Mapping[str, str]) -> bool:
    """Whether the same request may succeed later. The provider's own word goes first."""
    hint = headers.get("x-should-retry", "").lower()
    if hint in ("true", "false"):
        return hint == "true"
    if status == 429 and _QUOTA.search(detail) and "rate" not in detail.lower():
        return False
    if status:
        return status in RETRIED_STATUS or (status >= 500 and status not in NOT_RETRIED_STATUS)
    kind = _kind(content)
    return any(
        word in kind
        for word in ("overloaded", "rate_limit", "api_error", "server", "timeout", "unavailable")
    )


def window_in(detail: str) -> int | None:
    """The model's window, where the refusal names it."""
    plain = re.sub(r"(?<=\d)[,_](?=\d{3})", "", detail)
    for pattern in _LIMITS:
        found = re.search(pattern, plain, re.IGNORECASE)
        if found and int(found[1]) >= 256:
            return int(found[1])
    return None


def _output_limit(detail: str) -> int | None:
    plain = re.sub(r"(?<=\d)[,_](?=\d{3})", "", detail)
    numbers = [int(number) for number in re.findall(r"\d+", plain) if 256 <= int(number) < 10**7]
    return min(numbers) if numbers else None


def error_text(content: Any) -> str:
    """The provider's own words in an error body, wherever they are; empty where there are none."""
    if isinstance(content, str):
        return content.strip()
    if isinstance(content, list):
        return "; ".join(filter(None, map(error_text, content[:5])))
    if not isinstance(content, Mapping):
        return ""
    if "loc" in content and isinstance(content.get("msg"), str):  # FastAPI's validation errors
        path = ".".join(str(part) for part in content["loc"]) if content["loc"] else ""
        return f"{path}: {content['msg']}" if path else str(content["msg"])
    for name in (
        "error",
        "message",
        "detail",
        "msg",
        "errors",
        "error_description",
        "reason",
        "title",
    ):
        words = error_text(content.get(name))
        if words:
            raw = content.get("metadata")
            inner = error_text(raw.get("raw")) if isinstance(raw, Mapping) else ""
            return f"{words}: {inner}" if inner and inner not in words else words
    return ""


def is_error(content: Mapping[str, Any]) -> bool:
    """Whether a JSON object that came as a success, or inside a stream, reports an error."""
    if content.get("type") == "error" or content.get("error"):
        return True
    if content.get("object") == "error":
        return True
    if any(content.get(name) for name in ("choices", "content", "delta", "type", "usage")):
        return False
    code = content.get("code", content.get("status"))
    return bool(
        error_text({name: content.get(name) for name in ("message", "detail", "msg", "errors")})
    ) and (code not in (0, 200, "0", "200", "ok") or "detail" in content)


def status_in(content: Any) -> int | None:
    """The HTTP status that an error object names as its code."""
    if isinstance(content, list) and content:
        return status_in(content[0])
    if not isinstance(content, Mapping):
        return None
    for name in ("status", "status_code", "code"):
        value = content.get(name)
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:
            return value
    return status_in(content.get("error"))


def _kind(content: Any) -> str:
    if not isinstance(content, Mapping):
        return ""
    inner = content.get("error")
    found = [content.get("type"), content.get("code")]
    if isinstance(inner, Mapping):
        found += [inner.get("type"), inner.get("code"), inner.get("status")]
    return " ".join(str(one) for one in found if one).lower()


def _plain_text(body: bytes, headers: Mapping[str, str]) -> str:
    text = body.decode("utf-8", "replace").strip()
    if looks_like_html(body) or "html" in headers.get("content-type", "").lower():
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        named = " ".join(title[1].split()) if title else ""
        page = f"a web page titled {named!r}" if named else "a web page"
        return (
            f"It answered with {page}, not as an API does. Is baseUrl right, and is there a login "
            "or a proxy on the way?"
        )
    return text


def looks_like_html(body: bytes) -> bool:
    return re.match(rb"\s*<(!doctype|html|head|body)", body[:200], re.IGNORECASE) is not None


def web_page_error(body: bytes, *, address: str, secrets: Sequence[str]) -> ModelError:
    """A page for people where an answer was expected."""
    text = _plain_text(body, {"content-type": "text/html"})
    return ModelError(f"{clean(text, secrets)} (from {address})")


def parse_json(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the provider asks to wait."""
    milliseconds = headers.get("retry-after-ms", "")
    if re.fullmatch(r"\d+(\.\d+)?", milliseconds):
        return float(milliseconds) / 1000
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError):
        return None


def clean(text: str, secrets: Sequence[str]) -> str:
    """One short line without the keys."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "***")
    text = " ".join(text.split())
    return text if len(text) <= MESSAGE_LIMIT else f"{text[:MESSAGE_LIMIT]}…"
