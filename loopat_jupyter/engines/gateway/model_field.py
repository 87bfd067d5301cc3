"""Which model a request's body names, read as the body streams by.

A provider's parser decides in the end, so whatever two parsers might read differently is refused:
a second ``model`` (in whatever case or escapes), comments, other encodings than UTF-8, control
characters, and the keys with which some gateways let a request name further models. Values are
skipped, not parsed: a body of many megabytes costs no memory and holds up nobody.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator

KEY_MAX = 1024
"""Bytes of one key of the body, of a number, and of the model's name."""
DEPTH = 200
FALLBACK_KEYS = frozenset({"models", "fallbacks"})

_INSIDE = rb"[ !#-\[\]-\xff]*+(?:\\[ -\xff][ !#-\[\]-\xff]*+)*+"
_SPACE = re.compile(rb"[ \t\r\n]*+")
_PLAIN = re.compile(rb'(?:[-+.0-9eEtrufalsn:, \t\r\n]++|"' + _INSIDE + rb'")*+')
_TEXT = re.compile(_INSIDE)
_SCALAR = re.compile(rb"[-+.0-9a-zA-Z]*+")
_CLOSER = {0x7B: 0x7D, 0x5B: 0x5D}
_QUOTE, _BACKSLASH, _COLON, _COMMA = b'"\\:,'
_OPEN, _CLOSE = b"{}"

Steps = Generator[None, bytes, None]


class AmbiguousModel(ValueError):
    """It cannot be said with certainty which model is named; the message says why."""


class ModelFieldParser:
    """Feed the body; ``name`` is there as soon as it was read, ``None`` until then."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._data = b""
        self._at = 0
        self._whole = False
        self._steps = self._read()
        next(self._steps)

    def feed(self, data: bytes) -> None:
        """The next piece of the body. Raises :class:`AmbiguousModel`."""
        if data:
            self._steps.send(data)

    def end(self) -> str:
        """The body is over: the model it names. Raises :class:`AmbiguousModel`."""
        if not self._whole:
            raise AmbiguousModel("it is no whole JSON object")
        if self.name is None:
            raise AmbiguousModel("it names no model")
        return self.name

    # ------------------------------------------------------------------ the grammar

    def _read(self) -> Steps:
        yield from self._more()
        if (yield from self._next()) != _OPEN:
            raise AmbiguousModel("it is no JSON object")
        byte = yield from self._next()
        while byte == _QUOTE:
            raw = yield from self._text(KEY_MAX)
            if (yield from self._next()) != _COLON:
                raise AmbiguousModel("it is no valid JSON")
            yield from self._member(_decoded(raw))
            byte = yield from self._next()
            if byte == _COMMA:
                byte = yield from self._next()
                if byte != _QUOTE:
                    raise AmbiguousModel("it is no valid JSON")
            elif byte != _CLOSE:
                raise AmbiguousModel("it is no valid JSON")
        if byte != _CLOSE:
            raise AmbiguousModel("it is no valid JSON")
        self._whole = True
        while True:
            self._at = self._match(_SPACE)
            if self._at < len(self._data):
                raise AmbiguousModel("something follows its JSON object")
            yield from self._more()

    def _member(self, key: str) -> Steps:
        folded = key.casefold()
        if folded in FALLBACK_KEYS:
            raise AmbiguousModel(f"it names more models than one ({key!r})")
        if folded != "model":
            yield from self._value()
            return
        if self.name is not None or key != "model":
            raise AmbiguousModel("it names a model twice")
        if (yield from self._next()) != _QUOTE:
            raise AmbiguousModel("its model is no string")
        self.name = _decoded((yield from self._text(KEY_MAX)))

    def _value(self) -> Steps:
        byte = yield from self._next()
        if byte == _QUOTE:
            yield from self._text(None)
        elif byte in _CLOSER:
            yield from self._nested(byte)
        else:
            self._at -= 1
            yield from self._scalar()

    def _nested(self, opener: int) -> Steps:
        closers = [_CLOSER[opener]]
        while closers:
            self._at = self._match(_PLAIN)
            byte = yield from self._byte()
            if byte == _QUOTE:
                yield from self._text(None)
            elif byte == closers[-1]:
                closers.pop()
            elif byte in _CLOSER and len(closers) < DEPTH:
                closers.append(_CLOSER[byte])
            elif byte not in b" \t\r\n,:-+.0123456789eEtrufalsn":
                raise AmbiguousModel("it is no valid JSON, or nested too deeply")

    def _scalar(self) -> Steps:
        raw = b""
        while True:
            end = self._match(_SCALAR)
            raw, self._at = raw + self._data[self._at : end], end
            if end < len(self._data) or len(raw) > KEY_MAX:
                break
            yield from self._more()
        try:
            json.loads(raw[: KEY_MAX + 1])
        except ValueError:
            raise AmbiguousModel("it is no valid JSON") from None

    # ------------------------------------------------------------------ the bytes

    def _match(self, pattern: re.Pattern[bytes]) -> int:
        found = pattern.match(self._data, self._at)
        assert found is not None
        return found.end()

    def _more(self) -> Steps:
        self._data = yield
        self._at = 0

    def _byte(self) -> Generator[None, bytes, int]:
        while self._at >= len(self._data):
            yield from self._more()
        self._at += 1
        return self._data[self._at - 1]

    def _next(self) -> Generator[None, bytes, int]:
        """The next byte that is no white space."""
        while True:
            self._at = self._match(_SPACE)
            if self._at < len(self._data):
                return (yield from self._byte())
            yield from self._more()

    def _text(self, keep: int | None) -> Generator[None, bytes, bytes]:
        """A string's bytes, its opening quote being read; of one that is not kept, none."""
        raw = bytearray()
        while True:
            end = self._match(_TEXT)
            if keep is not None:
                raw += self._data[self._at : end]
                if len(raw) > keep:
                    raise AmbiguousModel("it has a key or model of more than 1 KiB")
            self._at = end
            byte = yield from self._byte()
            if byte == _QUOTE:
                return bytes(raw)
            if byte == _BACKSLASH:
                escaped = yield from self._byte()
                if escaped < 0x20:
                    raise AmbiguousModel("it has a control character in a string")
                raw += bytes((byte, escaped)) if keep is not None else b""
            elif byte < 0x20:
                raise AmbiguousModel("it has a control character in a string")
            else:
                self._at -= 1  # the string went on in the next piece


def _decoded(raw: bytes) -> str:
    try:
        text: str = json.loads(b'"' + raw + b'"')
    except ValueError:
        raise AmbiguousModel("it is no valid JSON") from None
    return text
