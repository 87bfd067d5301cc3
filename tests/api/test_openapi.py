"""The OpenAPI document: valid, the same as the router, and its examples fit its schemas."""

import re
from collections.abc import Iterator
from typing import Any, get_args

import httpx
import pytest
from jsonschema import Draft202012Validator
from tornado import web
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from loopat_jupyter.api import schemas
from loopat_jupyter.api.errors import STATUS, error_body
from loopat_jupyter.api.openapi import build, read_source
from loopat_jupyter.api.routes import ROUTES, handlers
from loopat_jupyter.loops import models
from loopat_jupyter.loops.ports.engine import TurnState
from loopat_jupyter.loops.turn_context import SUMMARY_LIMIT
from loopat_jupyter.transcript import RENDERERS
from tests.api.schema import escape, validator
from tests.support.described import check_described
from tests.support.server import API

SERVER = "/a%40b/loopat/api/v1"
VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")
ASSETS = "/docs/assets/{name}"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return build(SERVER)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def contents(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Pointer and value of every media type object."""
    for method, path, operation in operations(document):
        base = f"/paths/{escape(path)}/{method.lower()}"
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            yield f"{base}/requestBody/content/{escape(kind)}", content
        for status, response in operation["responses"].items():
            for kind, content in response.get("content", {}).items():
                yield f"{base}/responses/{status}/content/{escape(kind)}", content


def test_it_is_a_valid_openapi_3_1_document(document: dict[str, Any]) -> None:
    from openapi_spec_validator import OpenAPIV31SpecValidator

    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_every_schema_is_valid_json_schema(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_the_router_and_the_document_have_the_same_operations(document: dict[str, Any]) -> None:
    described = {(method, path) for method, path, _ in operations(document)}
    assert described == {
        (verb, path)
        for path, handler in ROUTES
        for verb in VERBS
        if is_implemented(handler, verb) and path != ASSETS
    }


def test_an_address_takes_the_methods_that_its_handler_implements() -> None:
    for pattern, handler in handlers():
        implemented = {verb for verb in VERBS if is_implemented(handler, verb)}
        assert set(handler.methods()) == implemented, pattern


def is_implemented(handler: type[web.RequestHandler], verb: str) -> bool:
    method = getattr(handler, verb.lower())
    return bool(method is not web.RequestHandler._unimplemented_method)


def test_every_described_path_reaches_its_own_handler_in_the_real_router(
    document: dict[str, Any],
) -> None:
    application = web.Application(handlers())
    handler_of = dict(ROUTES)
    for path in [*document["paths"], ASSETS]:
        address = "/loopat/api/v1" + re.sub(r"{[a-z_]+}", "some%2Fthing", path)
        line = RequestStartLine("GET", address, "HTTP/1.1")
        request = HTTPServerRequest(start_line=line, headers=HTTPHeaders({"Host": "x"}))
        found = application.find_handler(request)
        assert found.handler_class is handler_of[path], path
        arguments = found.path_args or []
        assert arguments == [b"some/thing"] * path.count("{"), path


def test_path_parameters_are_declared_and_required(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        parameters = operation.get("parameters", [])
        declared = [p["name"] for p in parameters if p["in"] == "path"]
        assert sorted(declared) == sorted(re.findall(r"{([a-z_]+)}", path)), f"{method} {path}"
        assert all(p.get("required", False) == (p["in"] == "path") for p in parameters)


def test_parameters_have_a_description_and_bounds(document: dict[str, Any]) -> None:
    bounds = {"string": {"maxLength", "enum"}, "integer": {"minimum", "maximum"}}
    for method, path, operation in operations(document):
        for parameter in operation.get("parameters", []):
            where = f"{method} {path} {parameter['name']}"
            assert parameter["description"], where
            if parameter["schema"]["type"] == "boolean":
                continue
            assert bounds[parameter["schema"]["type"]] & set(parameter["schema"]), where


def test_every_example_fits_its_schema(document: dict[str, Any]) -> None:
    checked = 0
    for pointer, content in contents(document):
        examples = [e["value"] for e in content.get("examples", {}).values()]
        if "example" in content:
            examples.append(content["example"])
        assert examples, f"{pointer} has no example"
        schema = validator(document, f"{pointer}/schema")
        for example in examples:
            schema.validate(example)
            checked += 1
    assert checked > 100


def test_every_parameter_example_fits_its_schema(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        for index, parameter in enumerate(operation.get("parameters", [])):
            pointer = f"/paths/{escape(path)}/{method.lower()}/parameters/{index}/schema"
            examples = [*parameter["schema"].get("examples", [])]
            if "example" in parameter:
                examples.append(parameter["example"])
            if "default" in parameter["schema"]:
                examples.append(parameter["schema"]["default"])
            for example in examples:
                validator(document, pointer).validate(example)


def test_every_error_is_the_one_shape_grouped_by_the_one_table(document: dict[str, Any]) -> None:
    messages = read_source()["x-error-messages"]
    for method, path, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) < 400:
                continue
            content = response["content"]["application/json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Error"}
            for code, example in content["examples"].items():
                assert STATUS[code] == int(status), f"{method} {path}"
                assert example["value"] == error_body(code, messages[code])


def test_statuses_that_ask_for_patience_say_for_how_long(document: dict[str, Any]) -> None:
    patient = {
        status
        for _, _, operation in operations(document)
        for status, response in operation["responses"].items()
        if "Retry-After" in response.get("headers", {})
    }
    assert patient == {"429", "503"}


def test_every_error_code_has_an_example() -> None:
    source = read_source()
    assert set(source["x-error-messages"]) == set(STATUS)
    assert set(source["x-error-statuses"]) == set(STATUS.values()) - {405}  # no operation's own


def test_what_every_route_can_answer_is_implied(document: dict[str, Any]) -> None:
    own = read_source()["paths"]
    handler_of = dict(ROUTES)
    for verb, path, operation in operations(document):
        codes = {
            code
            for status, response in operation["responses"].items()
            if int(status) >= 400
            for code in response["content"]["application/json"]["examples"]
        }
        credentials = handler_of[path].credentials
        assert set(own[path][verb.lower()].get("x-errors", ())) <= codes, path
        assert {"forbidden", "internal"} <= codes, path
        known = credentials != "none"
        assert ("missing_credentials" in codes) == known, path
        assert ("xsrf_failed" in codes) == (known and verb != "GET"), path
        assert ("body_too_large" in codes) == (known and verb != "GET"), path
        by_token = credentials == "any"
        assert ({"invalid_token", "too_many_requests"} <= codes) == by_token, path


def test_security_is_what_the_handlers_ask_for(document: dict[str, Any]) -> None:
    expected = {
        "any": [{"BearerAuth": []}, {"CookieAuth": []}],
        "session": [{"CookieAuth": []}],
        "none": [],
    }
    handler_of = dict(ROUTES)
    for method, path, operation in operations(document):
        credentials = handler_of[path].credentials
        assert operation["security"] == expected[credentials], f"{method} {path}"


QUERIES = {
    "listLoops": schemas.LoopsQuery,
    "listMessages": schemas.MessagesQuery,
    "listNetwork": schemas.PageQuery,
    "listFiles": schemas.FilesQuery,
    "putFile": schemas.PutQuery,
    "getTranscript": schemas.TranscriptQuery,
}
"""What validates an operation's query string. Streams read ``include`` and ``after_seq`` alone."""


def test_a_query_string_is_described_as_it_is_validated(document: dict[str, Any]) -> None:
    seen = set()
    for _, _, operation in operations(document):
        described = {
            p["name"]: p["schema"] for p in operation.get("parameters", []) if p["in"] == "query"
        }
        model = QUERIES.get(operation["operationId"])
        if model is None:
            assert set(described) <= {"include", "after_seq"}
            continue
        seen.add(operation["operationId"])
        validated = model.model_json_schema()["properties"]
        assert set(described) == set(validated), operation["operationId"]
        for name, schema in validated.items():
            kinds = schema.get("anyOf", [schema])
            kind = next(kind for kind in kinds if kind.get("type") != "null")
            for key in ("type", "minimum", "maximum", "enum", "pattern"):
                assert described[name].get(key) == kind.get(key), (operation["operationId"], name)
            if schema.get("default"):
                assert described[name]["default"] == schema["default"]
    assert seen == set(QUERIES)


def test_what_is_written_by_hand_has_the_code_s_limits_and_states(
    document: dict[str, Any],
) -> None:
    components = document["components"]["schemas"]
    turn, part = (components[f"Transcript{name}"]["properties"] for name in ("Turn", "Part"))
    resolved = components["ChoiceResolvedEvent"]["properties"]
    assert turn["status"]["enum"] == list(get_args(TurnState))
    for words, kind in (
        (components["RequiresChoiceEvent"]["properties"]["kind"], models.ChoiceKind),
        (part["kind"]["anyOf"][0], models.ChoiceKind),
        (resolved["outcome"], models.Outcome),
        (part["outcome"]["anyOf"][0], models.Outcome),
        (resolved["source"], models.Source),
        (part["source"]["anyOf"][0], models.Source),
    ):
        assert words["enum"] == list(get_args(kind))
    summary = components["ToolCallEvent"]["properties"]["input_summary"]
    assert summary["maxLength"] == SUMMARY_LIMIT
    send = document["paths"]["/loops/{loop_id}/messages"]["post"]
    key = next(p for p in send["parameters"] if p["name"] == "Idempotency-Key")
    assert key["schema"]["maxLength"] == schemas.KEY_LIMIT
    export = document["paths"]["/loops/{loop_id}/transcript"]["get"]
    formats = next(p for p in export["parameters"] if p["name"] == "format")
    assert formats["schema"]["enum"] == list(RENDERERS)


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "described"),
    [
        ("GET", "/loops", 200, "", True),
        ("GET", "/loops", 201, "", False),
        ("DELETE", "/loops/x/rules/y", 404, "not_found", True),
        ("GET", "/loops/x/files/a/b%2Fc?x=1", 404, "not_found", True),
        ("GET", "/loops/x", 404, "not_found", False),
        ("GET", "/loops", 409, "idempotency_key_reused", False),
        ("PATCH", "/loops", 405, "method_not_allowed", True),
        ("GET", "/nothing", 404, "not_found", True),
    ],
)
def test_an_answer_that_the_document_does_not_list_is_noticed(
    method: str, path: str, status: int, code: str, described: bool
) -> None:
    request = httpx.Request(method, f"http://127.0.0.1/a%40b/{API}{path}")
    answer = httpx.Response(status, json={"error": {"code": code}}, request=request)
    if described:
        check_described(answer)
    else:
        with pytest.raises(AssertionError):
            check_described(answer)


def test_a_response_says_absent_and_null_as_the_server_does(document: dict[str, Any]) -> None:
    loop = document["components"]["schemas"]["Loop"]
    for absent in ("busy", "queue_depth", "turn_count"):
        assert absent not in loop["required"]
        assert "anyOf" not in loop["properties"][absent]
    for null in ("archived_at", "repo"):
        assert null in loop["required"]
        assert {"type": "null"} in loop["properties"][null]["anyOf"]
    token = document["components"]["schemas"]["ApiTokenView"]
    assert set(token["properties"]) == {"tokenId", "label", "createdAt", "lastUsedAt"}
    assert "lastUsedAt" not in token["required"]


def test_a_request_takes_null_for_absent_but_not_for_what_it_needs(
    document: dict[str, Any],
) -> None:
    create = validator(document, "/components/schemas/CreateLoop")
    create.validate({"title": None, "metadata": None, "folders": None, "unknown": 1})
    assert not create.is_valid({"title": "x" * 201})
    send = validator(document, "/components/schemas/SendMessage")
    send.validate({"content": "x", "permission_mode": None})
    for wrong in ({}, {"content": None}, {"content": ""}, {"content": "x", "permission_mode": "y"}):
        assert not send.is_valid(wrong), wrong


def test_the_server_is_this_one(document: dict[str, Any]) -> None:
    assert [server["url"] for server in document["servers"]] == [SERVER]
