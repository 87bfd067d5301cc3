"""The served OpenAPI document and its page: the router's own words, and nothing from outside."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from loopat_jupyter.api import routes
from tests.support.caller import ERRORS, Caller
from tests.support.server import BASE_URL, JupyterServer
from tests.support.sse import OF_CONNECTION, STORED

VERBS = ("get", "post", "put", "patch", "delete", "head", "options")
LIMITS = {"limit": (1, 100)}


@pytest.fixture(scope="session")
def document(server: JupyterServer) -> dict[str, Any]:
    answer = httpx.get(f"{server.api_url}/openapi.json", timeout=30)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    found: dict[str, Any] = answer.json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for verb in VERBS:
            if verb in item:
                yield verb.upper(), path, item[verb]


def resolve(document: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in value:
        target: Any = document
        for step in value["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        value = target
    return value


def test_the_head_of_the_document(document: dict[str, Any], server: JupyterServer) -> None:
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"] == "Loopat Loop API"
    assert document["info"]["version"] == "1.0.0"
    urls = [entry["url"] for entry in document["servers"]]
    assert any(url.rstrip("/").endswith("loopat/api/v1") for url in urls), urls
    assert not any("://" in url and str(server.port) not in url for url in urls), urls
    assert any(BASE_URL in url or not url.startswith("/") for url in urls), urls


def test_the_component_schemas_keep_their_names(document: dict[str, Any]) -> None:
    names = {"Loop", "LoopList", "ApiTokenView", "ApiTokenCreated", "Error"}
    assert names <= set(document["components"]["schemas"])
    schemes = document["components"]["securitySchemes"]
    assert {"BearerAuth", "CookieAuth"} <= set(schemes)
    assert schemes["BearerAuth"]["type"] == "http"
    assert schemes["BearerAuth"]["scheme"] == "bearer"
    assert schemes["BearerAuth"]["bearerFormat"] == "la_<48 hex>"
    assert schemes["CookieAuth"]["type"] == "apiKey"
    assert schemes["CookieAuth"]["in"] == "cookie"


def test_the_document_and_the_router_have_the_same_operations(document: dict[str, Any]) -> None:
    described = {
        (verb, path) for verb, path, _ in operations(document) if verb not in {"HEAD", "OPTIONS"}
    }
    routed = set()
    for path, handler in routes.ROUTES:
        for verb in handler.SUPPORTED_METHODS:
            method = getattr(handler, verb.lower(), None)
            own = method is not None and "unimplemented" not in getattr(method, "__name__", "")
            if own and verb not in {"HEAD", "OPTIONS"}:
                routed.add((verb, path))
    assert {entry for entry in routed if "assets" not in entry[1]} == {
        entry for entry in described if "assets" not in entry[1]
    }


async def test_every_route_but_the_documents_needs_credentials(nobody: Caller) -> None:
    open_paths = {"/openapi.json", "/docs"}
    for path, _ in routes.ROUTES:
        filled = re.sub(r"{[a-z_]+}", "x", path)
        for verb in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            answer = await nobody.request(verb, filled)
            if path in open_paths and verb == "GET":
                assert answer.status_code == 200, (verb, path)
            else:
                assert answer.status_code == 401, (verb, path, answer.text)


async def test_every_described_operation_is_served(
    session: Caller, document: dict[str, Any]
) -> None:
    for verb, path, _ in operations(document):
        if path == "/loops" and verb == "POST":
            continue
        answer = await session.request(verb, re.sub(r"{[a-z_]+}", "unknown", path))
        assert answer.status_code != 405, (verb, path)


def test_every_operation_is_complete(document: dict[str, Any]) -> None:
    ids = []
    for verb, path, operation in operations(document):
        where = f"{verb} {path}"
        assert operation.get("summary"), where
        assert operation.get("operationId"), where
        ids.append(operation["operationId"])
        declared = {
            (p["in"], p["name"])
            for p in (resolve(document, p) for p in operation.get("parameters", []))
        }
        for name in re.findall(r"{([a-z_]+)}", path):
            assert ("path", name) in declared, where
        for parameter in (resolve(document, p) for p in operation.get("parameters", [])):
            assert parameter.get("description"), (where, parameter["name"])
            if parameter["name"] in LIMITS:
                schema = resolve(document, parameter["schema"])
                assert (schema["minimum"], schema["maximum"]) == LIMITS[parameter["name"]]
                assert schema["default"] == 20
        assert has_example(document, operation), f"{where} has no example"
    assert len(set(ids)) == len(ids)


def has_example(document: dict[str, Any], operation: dict[str, Any]) -> bool:
    bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
    for body in (resolve(document, b) for b in bodies):
        for media in body.get("content", {}).values():
            schema = resolve(document, media.get("schema", {}))
            if media.get("example") or media.get("examples") or schema.get("examples"):
                return True
    return not any(resolve(document, b).get("content") for b in operation["responses"].values())


def test_every_operation_lists_the_statuses_it_can_answer(document: dict[str, Any]) -> None:
    for verb, path, operation in operations(document):
        where = f"{verb} {path}"
        statuses = set(operation["responses"])
        assert any(s.startswith("2") for s in statuses), where
        if operation.get("security") == []:
            continue
        expected = {"401", "403", "500"}
        if "{" in path:
            expected |= {"404"}
        if "requestBody" in operation:
            expected |= {"400", "413"}
        if path != "/me/tokens" and not path.startswith("/me/tokens/"):
            expected |= {"429"}
        assert expected <= statuses, f"{where}: {expected - statuses} missing of {statuses}"
        for status, answer in operation["responses"].items():
            if int(status) < 400:
                continue
            assert int(status) in ERRORS, (where, status)
            schema = resolve(document, answer)["content"]["application/json"]["schema"]
            assert schema.get("$ref", "").endswith("/Error"), (where, status)


def test_token_operations_list_cookie_auth_alone(document: dict[str, Any]) -> None:
    for verb, path, operation in operations(document):
        security = operation.get("security", document.get("security"))
        if path.startswith("/me/tokens"):
            assert security == [{"CookieAuth": []}], (verb, path)
        elif path in {"/openapi.json", "/docs"} or path.startswith("/docs"):
            assert security == [], (verb, path)
        else:
            assert {"BearerAuth": []} in security, (verb, path)
            assert {"CookieAuth": []} in security, (verb, path)


def test_the_error_codes_of_the_contract_are_all_in_the_document(
    document: dict[str, Any],
) -> None:
    text = str(document)
    for types in ERRORS.values():
        for kind, codes in types.items():
            for word in (kind, *codes):
                assert f"'{word}'" in text, word


def test_the_event_table_is_in_the_document(document: dict[str, Any]) -> None:
    text = str(document)
    for name in STORED | OF_CONNECTION:
        assert f"'{name}'" in text, name


def test_every_reference_in_the_document_resolves(document: dict[str, Any]) -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                resolve(document, value)
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(document)


async def test_the_page_loads_nothing_from_outside(nobody: Caller) -> None:
    answer = await nobody.get("/docs")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    page = answer.text
    assert "openapi.json" in page or "docs/assets" in page or "docs.js" in page
    sources = re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)["']""", page)
    assert sources
    base = str(answer.url)
    for source in sources:
        if source.startswith(("#", "data:")):
            continue
        target = httpx.URL(base).join(source)
        assert target.host == "127.0.0.1", source
        asset = await nobody.http.get(target)
        assert asset.status_code == 200, source
        kind = asset.headers["Content-Type"]
        if "javascript" in kind or "css" in kind:
            loads = r"""(?:import\s*\(?|from|@import|url\(|fetch\()\s*["']?https?://"""
            assert not re.search(loads, asset.text), source


@pytest.mark.parametrize(
    "name", ["../../extension.py", "%2e%2e/routes.py", "nothing.js", "..%2Fdocs.py", "%00"]
)
async def test_the_pages_assets_are_no_way_to_other_files(nobody: Caller, name: str) -> None:
    answer = await nobody.get(f"/docs/assets/{name}")
    assert answer.status_code in {401, 404}, answer.text
