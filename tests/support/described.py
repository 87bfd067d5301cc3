"""What the OpenAPI document says an operation answers, against what it answered."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import httpx

from loopat_jupyter.api.openapi import build

from .server import API


@cache
def _operations() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    """Each path of the document as a pattern, with its operations by method."""
    return [
        (re.compile(re.sub(r"{[a-z_]+}", "[^/]+", path.replace("{path}", ".+"))), item)
        for path, item in build("/")["paths"].items()
    ]


def check_described(answer: httpx.Response) -> None:
    """The answer's status, and its error code, are among those that the document lists.

    An address or a method that is no operation's is not looked at, nor is what a JupyterHub's proxy
    answers in the server's place.
    """
    if "x-jupyterhub-version" in answer.headers and answer.status_code in (302, 424, 503):
        return
    path = answer.request.url.raw_path.decode().partition("?")[0].partition(API)[2]
    operation = next(
        (
            item[method]
            for pattern, item in _operations()
            if (method := answer.request.method.lower()) in item and pattern.fullmatch(path)
        ),
        None,
    )
    if operation is None:
        return
    where = f"{operation['operationId']}: {answer.status_code}"
    described = operation["responses"].get(str(answer.status_code))
    assert described is not None, f"{where} is not described"
    if answer.status_code >= 400:
        code = answer.json()["error"]["code"]
        assert code in described["content"]["application/json"]["examples"], f"{where} {code}"
