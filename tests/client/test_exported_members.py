"""The public names are exactly ``__all__``; everything else is private; the server stays out."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

from loopat_jupyter import client


def test_all_names_every_public_member_and_nothing_else():
    public = {
        name
        for name, value in vars(client).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }
    assert public == set(client.__all__)
    assert list(client.__all__) == sorted(client.__all__, key=_isort_order)


def _isort_order(name: str) -> tuple[bool, str]:
    return (not name[0].isupper(), name)


def test_every_error_is_in_the_tree_of_the_docstring():
    from loopat_jupyter.client import _errors

    errors = [n for n in client.__all__ if inspect.isclass(getattr(client, n))]
    errors = [n for n in errors if issubclass(getattr(client, n), Exception)]
    assert len(errors) == 16
    for name in errors:
        assert f" {name}" in (_errors.__doc__ or ""), name
        assert getattr(client, name).code


def test_one_error_class_for_each_type_of_the_contract():
    types = {
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "not_found_error",
        "conflict_error",
        "rate_limit_error",
        "internal_error",
    }
    assert {c.type for c in client.APIError.__subclasses__()} == types


def test_the_core_that_both_clients_share_opens_no_connection_and_never_waits():
    doing = re.compile(r"httpx\.(Async)?(Client|HTTPTransport)\(|\bsleep\(|\basyncio\.|\bsocket\.")
    core = sorted(Path(client.__file__).parent.glob("*.py"))
    assert len(core) > 10
    for module in core:
        assert not doing.search(module.read_text()), module.name


def test_importing_it_imports_nothing_of_the_server():
    code = (
        "import sys, loopat_jupyter.client\n"
        "heavy = {'tornado', 'jupyter_server', 'pydantic', 'pydantic_ai', 'traitlets'}\n"
        "packages = {'api', 'loops', 'engines', 'sandboxes', 'context', 'store', 'extension'}\n"
        "names = set(sys.modules)\n"
        "assert not heavy & names, heavy & names\n"
        "assert not {f'loopat_jupyter.{name}' for name in packages} & names\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_both_clients_offer_the_same():
    pairs = [
        (client.Client, client.AsyncClient),
        (client.Loops, client.AsyncLoops),
        (client.Loop, client.AsyncLoop),
        (client.Loop.__base__, client.AsyncLoop.__base__),  # its files and transcripts
        (client.Choice, client.AsyncChoice),
        (client.Tokens, client.AsyncTokens),
    ]
    for one, other in pairs:
        ours = {n for n in vars(one) if not n.startswith("_")} - {"close"}
        theirs = {n for n in vars(other) if not n.startswith("_")} - {"aclose"}
        assert ours == theirs
        for name in ours:
            if not inspect.isfunction(getattr(one, name)):
                continue
            mine = inspect.signature(getattr(one, name)).parameters
            yours = inspect.signature(getattr(other, name)).parameters
            assert list(mine) == list(yours), name
