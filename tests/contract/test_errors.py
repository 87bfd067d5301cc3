"""Every refusal has the contract's envelope, the right code, and changes nothing."""

import json
from typing import Any

import pytest

from tests.support.caller import Caller, expect
from tests.support.server import JupyterServer

NO_OBJECTS = ["null", "[]", '"text"', "1", "true", '["content"]']
NO_JSON = ["{", '{"title": }', "title=x", '{"a": 1} x', "{'a': 1}", "\x00", '{"title": NaN}']


async def test_an_unknown_loop_is_loop_not_found_on_every_route(session: Caller) -> None:
    for loop_id in (
        "loop_00000000-0000-4000-8000-000000000000",
        "malformed",
        "%F0%9F%90%8D",
        "a'b",
    ):
        for method, rest in (
            ("GET", ""), ("DELETE", ""), ("POST", "/messages"), ("GET", "/messages"),
            ("GET", "/events"), ("POST", "/interrupt"), ("POST", "/choices/choice_x"),
            ("GET", "/rules"), ("DELETE", "/rules/rule_x"),
        ):  # fmt: skip
            answer = await session.request(method, f"/loops/{loop_id}{rest}")
            expect(answer, 404, "loop_not_found")


async def test_a_wrong_method_is_method_not_allowed(session: Caller) -> None:
    loop_id = await session.loop()
    for method, path in (
        ("PUT", "/loops"), ("DELETE", "/loops"), ("PATCH", f"/loops/{loop_id}"),
        ("POST", f"/loops/{loop_id}"), ("DELETE", f"/loops/{loop_id}/messages"),
        ("POST", f"/loops/{loop_id}/events"), ("GET", f"/loops/{loop_id}/interrupt"),
        ("GET", f"/loops/{loop_id}/choices/choice_x"), ("POST", f"/loops/{loop_id}/rules"),
        ("POST", "/openapi.json"), ("DELETE", "/docs"),
    ):  # fmt: skip
        expect(await session.request(method, path), 405, "method_not_allowed")


async def test_a_method_of_no_standard_is_refused_like_any_other(
    session: Caller, nobody: Caller
) -> None:
    for method in ("PROPFIND", "FINISH", "REQUEST", "WRITE_ERROR", "PATH_ARGS", "LOG", "CALLER"):
        expect(await session.request(method, "/loops"), 405, "method_not_allowed")
        expect(await nobody.request(method, "/loops"), 401, "missing_credentials")


@pytest.mark.parametrize("body", NO_OBJECTS + NO_JSON)
async def test_a_body_that_is_no_json_object_is_invalid_json(session: Caller, body: str) -> None:
    loop_id = await session.loop()
    for path in ("/loops", f"/loops/{loop_id}/messages"):
        expect(await session.post(path, content=body.encode()), 400, "invalid_json")
    assert (await session.state(loop_id))["turn_count"] == 0


@pytest.mark.parametrize(
    "body", [b"\xff\xfe{\x00}\x00", b'{"content": "\xff"}', b'{"content": "\xed\xa0\x80"}']
)
async def test_a_body_that_is_not_utf8_is_invalid_json(session: Caller, body: bytes) -> None:
    loop_id = await session.loop()
    expect(await session.post(f"/loops/{loop_id}/messages", content=body), 400, "invalid_json")
    assert (await session.state(loop_id))["turn_count"] == 0


async def test_a_form_is_invalid_json(session: Caller) -> None:
    loop_id = await session.loop()
    answer = await session.post(f"/loops/{loop_id}/messages", data={"content": "x"})
    expect(answer, 400, "invalid_json")
    answer = await session.post(f"/loops/{loop_id}/messages", files={"content": b"x"})
    expect(answer, 400, "invalid_json")


@pytest.mark.parametrize(
    "body",
    [
        {"title": 5}, {"title": ["a"]}, {"title": True}, {"metadata": []}, {"metadata": "a"},
        {"metadata": {"a": 1}}, {"metadata": {"a": None}}, {"metadata": {"a": {"b": "c"}}},
        {"profiles": "a"}, {"profiles": [1]}, {"profiles": {"a": "b"}}, {"vault": 5},
        {"vault": ["default"]}, {"repo": 5}, {"repo": {}}, {"folders": "a"}, {"folders": {}},
        {"folders": ["a"]}, {"folders": [{"path": 5, "write": True}]},
        {"folders": [{"path": ".", "write": "yes"}]}, {"folders": [{"write": True}]},
    ],
)  # fmt: skip
async def test_a_wrong_type_in_a_loop_is_invalid_parameter(
    session: Caller, server: JupyterServer, body: dict[str, Any]
) -> None:
    before = sorted(p.name for p in (server.home / "loops").glob("*"))
    expect(await session.post("/loops", json=body), 400, "invalid_parameter")
    assert sorted(p.name for p in (server.home / "loops").glob("*")) == before


@pytest.mark.parametrize(
    "body",
    [
        {"content": 5}, {"content": ["x"]}, {"content": {"text": "x"}}, {"content": True},
        {"content": "x", "permission_mode": "yolo"}, {"content": "x", "permission_mode": 5},
        {"content": "x", "permission_mode": "Default"}, {"content": "x", "permission_mode": ""},
    ],
)  # fmt: skip
async def test_a_wrong_type_in_a_message_is_invalid_parameter(
    session: Caller, body: dict[str, Any]
) -> None:
    loop_id = await session.loop()
    expect(await session.post(f"/loops/{loop_id}/messages", json=body), 400, "invalid_parameter")
    assert (await session.state(loop_id))["turn_count"] == 0


@pytest.mark.parametrize("query", ["archived=yes", "archived=1", "archived=", "archived=True"])
async def test_archived_is_true_or_false(session: Caller, query: str) -> None:
    expect(await session.get(f"/loops?{query}"), 400, "invalid_parameter")


async def test_null_optional_fields_count_as_absent_and_unknown_ones_are_ignored(
    session: Caller,
) -> None:
    loop = await session.create(
        title=None, metadata=None, profiles=None, vault=None, repo=None, surprise={"a": None}
    )
    assert (loop["title"], loop["metadata"], loop["repo"]) == ("untitled", {}, None)
    answer = await session.post(
        f"/loops/{loop['id']}/messages",
        json={"content": "hello", "permission_mode": None, "surprise": 1},
    )
    assert answer.status_code == 200, answer.text


async def test_a_body_over_8_mib_is_body_too_large(session: Caller, api: Caller) -> None:
    loop_id = await session.loop()
    body = json.dumps({"content": "x" * (8 * 2**20 + 1)}).encode()
    for caller in (session, api):
        for path in ("/loops", f"/loops/{loop_id}/messages"):
            expect(await caller.post(path, content=body), 413, "body_too_large")
    assert (await session.state(loop_id))["turn_count"] == 0


async def test_credentials_are_checked_before_the_size_of_a_body(nobody: Caller) -> None:
    answer = await nobody.post("/loops", content=b"x" * (8 * 2**20 + 1))
    expect(answer, 401, "missing_credentials")


async def test_existence_comes_before_the_body(session: Caller) -> None:
    for body in (b"{", b"null", b"{}", b'{"content": 5}'):
        answer = await session.post("/loops/loop_unknown/messages", content=body)
        expect(answer, 404, "loop_not_found")


async def test_state_comes_before_the_body(session: Caller) -> None:
    loop_id = await session.loop()
    assert (await session.delete(f"/loops/{loop_id}")).status_code == 204
    for body in (b"{", b"null", b"{}", b'{"content": 5}', b'{"content": "fine"}'):
        answer = await session.post(f"/loops/{loop_id}/messages", content=body)
        expect(answer, 400, "loop_archived")


async def test_an_unknown_choice_comes_before_the_body(session: Caller) -> None:
    loop_id = await session.loop()
    for body in (b"{", b"{}", b'{"allow": "yes"}'):
        answer = await session.post(f"/loops/{loop_id}/choices/choice_unknown", content=body)
        expect(answer, 404, "choice_not_found")


@pytest.mark.parametrize(
    "text",
    [
        "a\x00b",
        "\ud800",
        "\udfff x",
        "\ufeffhello",
        "\u2028 \u0085",
        "\r\n\r\nid: 7\r\nevent: done",
    ],
)
async def test_hostile_text_is_refused_or_kept_whole_and_breaks_no_stream(
    session: Caller, text: str
) -> None:
    body = json.dumps({"title": text, "metadata": {"k": text}})
    answer = await session.post("/loops", content=body)
    assert answer.status_code in {201, 400}, answer.text
    if answer.status_code == 201:
        assert (await session.get(f"/loops/{answer.json()['id']}")).status_code == 200
        await session.delete(f"/loops/{answer.json()['id']}")
    loop_id = await session.loop()
    body = json.dumps({"content": text + " please"})
    answer = await session.post(f"/loops/{loop_id}/messages", content=body)
    assert answer.status_code in {200, 400}, answer.text
    if answer.status_code == 200:  # the recorder holds the stored log against the wire form
        assert (await session.log(loop_id))[-1].name == "done"
    assert (await session.get("/loops?limit=2")).status_code == 200


async def test_a_utf8_byte_order_mark_before_the_body_is_answered_not_crashed(
    session: Caller,
) -> None:
    answer = await session.post("/loops", content=b"\xef\xbb\xbf{}")
    assert answer.status_code in {201, 400}
    if answer.status_code == 400:
        expect(answer, 400, "invalid_json")
    else:
        await session.delete(f"/loops/{answer.json()['id']}")


async def test_deeply_nested_json_is_refused_not_crashed(session: Caller) -> None:
    body = b'{"metadata": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    answer = await session.post("/loops", content=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] in {"invalid_json", "invalid_parameter"}


async def test_a_huge_number_is_refused_not_crashed(session: Caller) -> None:
    answer = await session.post("/loops", content=b'{"title": ' + b"9" * 100_000 + b"}")
    assert answer.status_code == 400, answer.text
    for query in ("limit=" + "9" * 5000, "limit=1e400", "limit=%00"):
        expect(await session.get(f"/loops?{query}"), 400, "invalid_parameter")
