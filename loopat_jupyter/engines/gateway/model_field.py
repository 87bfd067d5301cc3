"""Which model a request's body names, found while the body streams through.

A provider's own JSON parser decides in the end, so whatever two parsers might read differently is
refused: a second ``model`` (in any case or escapes), comments, other encodings than UTF-8, control
characters, and the keys with which some gateways let a request name further models.

Values are skipped, not parsed. A program in the sandbox may send 32 MiB of small items, which a
JSON parser turns into more than 800 MB of objects while it holds the interpreter for two seconds;
here a body costs no memory, and the parser can be left after each piece.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator

KEY_MAX = 1024
"""Bytes of one key of the body, of a number, and of the model's name."""
MAX_DEPTH = 200
FALLBACK_KEYS = frozenset({"models", "fallbacks"})
"""Keys with which a request can name further models."""

_IN_STRING = rb"[ !#-\[\]-\xff]*+(?:\\[ -\xff][ !#-\[\]-\xff]*+)*+"
_SPACE = re.compile(rb"[ \t\r\n]*+")
_PLAIN_VALUES = re.compile(rb'(?:[-+.0-9eEtrufalsn:, \t\r\n]++|"' + _IN_STRING + rb'")*+')
_STRING_PART = re.compile(_IN_STRING)
_SCALAR = re.compile(rb"[-+.0-9a-zA-Z]*+")
_CLOSER = {0x7B: 0x7D, 0x5B: 0x5D}
_QUOTE, _BACKSLASH, _COLON, _COMMA = b'"\\:,'
_OPEN, _CLOSE = b"{}"

Parsing = Generator[None, bytes, None]


class AmbiguousModel(ValueError):
    """It is not certain which model is named; the message starts with "it"."""


class ModelFieldParser:
    """Incremental parser of a body's top-level object; ``name`` is ``None`` until it was read."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._data = b""
        self._position = 0
        self._complete = False
        self._parsing = self._object()
        next(self._parsing)

    def feed(self, data: bytes) -> None:
        """Parse the next piece of the body. Raises :class:`AmbiguousModel`."""
        if data:
            self._parsing.send(data)

    def end(self) -> str:
        """The body is complete: the model it names. Raises :class:`AmbiguousModel`."""
        if not self._complete:
            raise AmbiguousModel("it is no whole JSON object")
        if self.name is None:
            raise AmbiguousModel("it names no model")
        return self.name

    # ------------------------------------------------------------------ the grammar

    def _object(self) -> Parsing:
        yield from self._next_piece()
        if (yield from self._token()) != _OPEN:
            raise AmbiguousModel("it is no JSON object")
        byte = yield from self._token()
        while byte == _QUOTE:
            raw = yield from self._string(KEY_MAX)
            if (yield from self._token()) != _COLON:
                raise AmbiguousModel("it is no valid JSON")
            yield from self._member(_decoded(raw))
            byte = yield from self._token()
            if byte == _COMMA:
                byte = yield from self._token()
                if byte != _QUOTE:
                    raise AmbiguousModel("it is no valid JSON")
            elif byte != _CLOSE:
                raise AmbiguousModel("it is no valid JSON")
        if byte != _CLOSE:
            raise AmbiguousModel("it is no valid JSON")
        self._complete = True
        while True:
            self._position = self._match(_SPACE)
            if self._position < len(self._data):
                raise AmbiguousModel("something follows its JSON object")
            yield from self._next_piece()

    def _member(self, key: str) -> Parsing:
        folded = key.casefold()
        if folded in FALLBACK_KEYS:
            raise AmbiguousModel(f"it names more models than one ({key!r})")
        if folded != "model":
            yield from self._value()
            return
        if self.name is not None or key != "model":
            raise AmbiguousModel("it names a model twice")
        if (yield from self._token()) != _QUOTE:
            raise AmbiguousModel("its model is no string")
        self.name = _decoded((yield from self._string(KEY_MAX)))

    def _value(self) -> Parsing:
        byte = yield from self._token()
        if byte == _QUOTE:
            yield from self._string(None)
        elif byte in _CLOSER:
            yield from self._nested(byte)
        else:
            self._position -= 1
            yield from self._scalar()

    def _nested(self, opener: int) -> Parsing:
        closers = [_CLOSER[opener]]
        while closers:
            self._position = self._match(_PLAIN_VALUES)
            byte = yield from self._byte()
            if byte == _QUOTE:
                yield from self._string(None)
            elif byte == closers[-1]:
                closers.pop()
            elif byte in _CLOSER and len(closers) < MAX_DEPTH:
                closers.append(_CLOSER[byte])
            elif byte not in b" \t\r\n,:-+.0123456789eEtrufalsn":
                raise AmbiguousModel("it is no valid JSON, or nested too deeply")

    def _scalar(self) -> Parsing:
        raw = b""
        while True:
            end = self._match(_SCALAR)
            raw, self._position = raw + self._data[self._position : end], end
            if end < len(self._data) or len(raw) > KEY_MAX:
                break
            yield from self._next_piece()
        try:
            json.loads(raw[: KEY_MAX + 1])
        except ValueError:
            raise AmbiguousModel("it is no valid JSON") from None

    # ------------------------------------------------------------------ the bytes

    def _match(self, pattern: re.Pattern[bytes]) -> int:
        found = pattern.match(self._data, self._position)
        assert found is not None
        return found.end()

    def _next_piece(self) -> Parsing:
        """Wait for :meth:`feed`; the piece before must be consumed."""
        self._data = yield
        self._position = 0

    def _byte(self) -> Generator[None, bytes, int]:
        while self._position >= len(self._data):
            yield from self._next_piece()
        self._position += 1
        return self._data[self._position - 1]

    def _token(self) -> Generator[None, bytes, int]:
        """Consume the next byte that is no white space."""
        while True:
            self._position = self._match(_SPACE)
            if self._position < len(self._data):
                return (yield from self._byte())
            yield from self._next_piece()

    def _string(self, limit: int | None) -> Generator[None, bytes, bytes]:
        """Consume a string behind its opening quote. Returns its bytes, at most ``limit``; none
        where ``limit`` is ``None``."""
        raw = bytearray()
        while True:
            end = self._match(_STRING_PART)
            if limit is not None:
                raw += self._data[self._position : end]
                if len(raw) > limit:
                    raise AmbiguousModel("it has a key or model of more than 1 KiB")
            self._position = end
            byte = yield from self._byte()
            if byte == _QUOTE:
                return bytes(raw)
            if byte == _BACKSLASH:
                escaped = yield from self._byte()
                if escaped < 0x20:
                    raise AmbiguousModel("it has a control character in a string")
                raw += bytes((byte, escaped)) if limit is not None else b""
            elif byte < 0x20:
                raise AmbiguousModel("it has a control character in a string")
            else:
                self._position -= 1  # the piece ended inside the string


def _decoded(raw: bytes) -> str:
    try:
        text: str = json.loads(b'"' + raw + b'"')
    except ValueError:
        raise AmbiguousModel("it is no valid JSON") from None
    return text
