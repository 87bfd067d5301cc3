"""Which model a body names, whatever the pieces it comes in; and what is refused as unclear."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from loopat_jupyter.engines.gateway.model_field import AmbiguousModel, ModelFieldParser


def named(body: bytes, size: int) -> str:
    found = ModelFieldParser()
    for at in range(0, len(body), size):
        found.feed(body[at : at + size])
    return found.end()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m"}',
        b' \r\n\t{ "model" : "m" } \n',
        b'{"messages":[{"model":"other","text":"}]{[\\"\\\\"}],"model":"m","max_tokens":-1.5e+3}',
        b'{"a":true,"b":null,"c":"","d":{},"e":[],"model":"\\u006d","f":0}',
        '{"content":"é€𝄞 \\u00e9 \\"model\\": \\"other\\"","model":"m"}'.encode(),
        b'{"model":"m","input":{"models":["other"],"Model":"other"}}',
    ],
)
def test_the_model_is_found(body: bytes, size: int) -> None:
    assert named(body, size) == "m"


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    "body",
    [
        b"", b"   ", b"{}", b"[]", b'"model"', b"null", b'{"model":"m"', b'{"model":"m"} {}',
        b'{"model":"m"}x', b'{"model":"m",}', b'{,"model":"m"}', b'{"model":"m" "a":1}',
        b'{"model" "m"}', b'{"a":1}', b'{"model":1}', b'{"model":null}', b'{"model":["m"]}',
        b'{"model":"m","model":"m"}', b'{"model":"m","Model":"other"}',
        b'{"MODEL":"m"}', b'{"model":"m","mod\\u0065l":"other"}',
        b'{"mod\\u0065l":"other","model":"m"}',
        b'{"model":"m","models":["other"]}', b'{"model":"m","Fallbacks":["other"]}',
        b'{"a":[/* " */],"model":"m"}', b'{"a":\'x\',"model":"m"}', b'{a:1,"model":"m"}',
        b'{"a":[1}],"model":"m"}', b'{"a":tru,"model":"m"}', b'{"a":01,"model":"m"}',
        b'{"a":,"model":"m"}', b'{"a":"\n","model":"m"}', b'{"a":"\x00","model":"m"}',
        b'{"a":"\\\x01","model":"m"}', b'{"mo\xffdel":1,"model":"m"}', b'{"model":"\\x"}',
        '{"model":"m"}'.encode("utf-16"), '{"model":"m"}'.encode("utf-16-le"),
        '{"model":"m"}'.encode("utf-16-be"), '{"model":"m"}'.encode("utf-32"),
        b'\xef\xbb\xbf{"model":"m"}', b'{"' + b"a" * 2000 + b'":1,"model":"m"}',
        b'{"model":"' + b"m" * 2000 + b'"}', b'{"a":' + b"1" * 5000 + b',"model":"m"}',
        b'{"a":' + b"[" * 500 + b"]" * 500 + b',"model":"m"}', b'{"a":{"b":1]},"model":"m"}',
    ],
)  # fmt: skip
def test_what_is_unclear_is_refused(body: bytes, size: int) -> None:
    with pytest.raises(AmbiguousModel):
        named(body, size)


def test_the_name_is_there_before_the_body_ends() -> None:
    found = ModelFieldParser()
    found.feed(b'{"model":"m","messages":[')
    assert found.name == "m"


def _value(dice: random.Random, depth: int) -> Any:
    kind = dice.randrange(7 if depth else 5)
    if kind == 5:
        return [_value(dice, depth - 1) for _ in range(dice.randrange(4))]
    if kind == 6:
        return {_text(dice): _value(dice, depth - 1) for _ in range(dice.randrange(4))}
    return [dice.randrange(-99, 99), dice.random(), None, dice.random() < 0.5, _text(dice)][kind]


def _text(dice: random.Random) -> str:
    return "".join(dice.choice('ab"\\{}[],:\n\té€𝄞 ') for _ in range(dice.randrange(12)))


def test_every_object_that_json_writes_is_read(record_property: Any) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    dice = random.Random(seed)
    for _ in range(300):
        content = {f"k{n}{_text(dice)}": _value(dice, 4) for n in range(dice.randrange(5))}
        items = [*content.items(), ("model", "the model")]
        dice.shuffle(items)
        body = json.dumps(dict(items), ensure_ascii=dice.random() < 0.5).encode()
        assert named(body, dice.choice([1, 2, 5, 64, 10_000])) == "the model"
