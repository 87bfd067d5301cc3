"""The name that a Jupyter credential resolves to, and what a token is made of."""

import re
from typing import Any

import pytest
from jupyter_server.auth import IdentityProvider, User
from jupyter_server.auth.identity import LegacyIdentityProvider, PasswordIdentityProvider
from jupyter_server.auth.login import LegacyLoginHandler
from tornado.web import RequestHandler

from loopat_jupyter.api.auth import OWNER, new_token, resolve_owner, token_digest

ANNA = User(username="anna")


class OwnProvider(IdentityProvider):
    """A deployment's own."""


class OwnLogin(LegacyLoginHandler):
    """A login handler of the old kind that a deployment extended."""


class ForeignLogin(RequestHandler):
    """A login handler of the old kind that a deployment wrote itself."""


@pytest.mark.parametrize("provider", [IdentityProvider, PasswordIdentityProvider])
def test_jupyter_s_random_names_are_all_the_one_owner(provider: type[IdentityProvider]) -> None:
    names = {
        resolve_owner(provider(), User(username=name)) for name in ("anonymous1", "anonymous2")
    }
    assert names == {OWNER}


def test_a_deployment_s_own_provider_names_its_users() -> None:
    assert resolve_owner(OwnProvider(), ANNA) == "anna"


@pytest.mark.parametrize(
    ("login", "name"),
    [(LegacyLoginHandler, OWNER), (OwnLogin, OWNER), (ForeignLogin, "anna")],
)
def test_with_an_old_style_login_handler_it_is_that_one_that_names(login: Any, name: str) -> None:
    provider = LegacyIdentityProvider(login_handler_class=login)
    assert resolve_owner(provider, ANNA) == name


def test_a_server_started_by_hand_under_a_hub_still_has_one_owner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JUPYTERHUB_USER", "anna")  # a terminal of a Hub's server has it
    assert resolve_owner(IdentityProvider(), User(username="anonymous1")) == OWNER
    assert resolve_owner(OwnProvider(), ANNA) == "anna"


def test_tokens_are_of_the_contract_s_form_and_do_not_repeat() -> None:
    tokens = {new_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(re.fullmatch(r"la_[0-9a-f]{48}", token) for token in tokens)


def test_a_digest_takes_any_text_a_header_can_hold() -> None:
    assert len(token_digest("la_\udcff")) == 64
    assert token_digest("la_a") != token_digest("la_b")
