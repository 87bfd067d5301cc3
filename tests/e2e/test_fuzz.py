"""Schemathesis over the served OpenAPI document: whatever is sent, the answer is a described one.

Deterministic (hypothesis derandomized) and bounded; every case is followed by the same checks a
client generator would rely on. Path ids are unknown ones, and loops that exist, in turns; the one
stream that never ends (``/events`` of a loop that exists) is left to the contract tests.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from loopat_jupyter.api import openapi
from tests.support.caller import check_error
from tests.support.server import JupyterServer

EXAMPLES = 12
SEED = 20_261_123
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
LABELS = [
    f"{verb.upper()} {path}"
    for path, item in openapi.build("http://127.0.0.1/")["paths"].items()
    for verb in item
    if verb in {"get", "post", "put", "delete"} and path != "/openapi.json"  # the document itself
]


@pytest.fixture(scope="module")
def schema(server: JupyterServer) -> Any:
    return schemathesis.openapi.from_url(f"{server.api_url}/openapi.json")


@pytest.fixture(scope="module")
def person(server: JupyterServer) -> Iterator[requests.Session]:
    """A logged-in browser, as the checks' HTTP library has it."""
    cookies, headers = server.log_in()
    with requests.Session() as session:
        session.cookies.update(cookies)
        session.headers.update(headers)
        yield session


@pytest.fixture(scope="module")
def operations(schema: Any) -> dict[str, APIOperation[Any, Any, Any, Any]]:
    found = [result.ok() for result in schema.get_all_operations()]
    return {operation.label: operation for operation in found}


def new_loop(server: JupyterServer) -> str:
    answer = httpx.post(f"{server.api_url}/loops", headers=server.session, timeout=30)
    return str(answer.json()["id"])


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("label", LABELS)
def test_every_answer_is_one_that_the_document_describes(
    label: str,
    mode: GenerationMode,
    operations: dict[str, APIOperation[Any, Any, Any, Any]],
    server: JupyterServer,
    person: requests.Session,
) -> None:
    operation = operations[label]
    if mode is GenerationMode.NEGATIVE and not (
        operation.body or operation.query or operation.path_parameters or operation.headers
    ):
        pytest.skip("takes nothing that could be wrong")
    turns = itertools.count()
    endless = label.endswith("/events")

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        if "loop_id" in (case.path_parameters or {}) and next(turns) % 2 and not endless:
            case.path_parameters["loop_id"] = new_loop(server)
        response = case.call(base_url=server.api_url, session=person, timeout=30)
        case.validate_response(response, checks=CHECKS)
        if response.status_code >= 400:
            content = response.content
            head = httpx.Request(operation.method.upper(), server.api_url)
            check_error(
                httpx.Response(
                    response.status_code,
                    headers={k: v[0] for k, v in response.headers.items()},
                    content=content,
                    request=head,
                )
            )

    send()


def test_the_fuzzed_operations_are_the_served_ones(
    operations: dict[str, APIOperation[Any, Any, Any, Any]],
) -> None:
    assert sorted(operations) == sorted(LABELS)
