"""Who is who behind a Hub: owners, other people, administrators, tokens and their scopes, XSRF."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tests.support.caller import expect
from tests.support.hub import NAVIGATION, Browser, Hub

from .conftest import ANA, BEN, ROOT, Session

pytestmark = pytest.mark.slow(15)


async def test_a_loop_belongs_to_the_hubs_user(ana: Browser, session: Session) -> None:
    page = session(ana)
    loop = await page.create(title="on the Hub")
    assert loop["created_by"] == ANA
    events = await page.turn(loop["id"], "hello")
    assert events[-1].name == "done"
    assert loop["id"] in [one["id"] for one in (await page.get("/loops")).json()["data"]]


async def test_another_person_comes_neither_to_the_server_nor_to_its_loops(
    hub: Hub, ana: Browser, ben: Browser, session: Session, caller: Session
) -> None:
    loop_id = await session(ana).loop()
    minted = (await session(ben).post("/me/tokens", json={"label": "of ben"})).json()["token"]
    intruders = {
        "a Hub token": f"token {ben.token()}",
        "a Hub token, as bearer": f"Bearer {ben.token()}",
        "an API token of another server": f"Bearer {minted}",
    }
    for path in ("/loops", f"/loops/{loop_id}", f"/loops/{loop_id}/events"):
        for what, authorization in intruders.items():
            answer = await caller(ANA, Authorization=authorization).get(path)
            code = "invalid_token" if minted in authorization else "missing_credentials"
            assert expect(answer, 401, code), what
        answer = await caller(ANA, Cookie=ben.cookie(), **_as_headers(ben)).get(path)
        expect(answer, 401, "missing_credentials")
    page = ben.http.get(hub.server_url(ANA) + "files/welcome.txt", headers=NAVIGATION)
    assert page.status_code == 403, page.text
    expect(await session(ben).get(f"/loops/{loop_id}"), 404, "loop_not_found")


def _as_headers(browser: Browser) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in browser.headers().items()}


async def test_an_administrator_who_may_enter_is_not_the_owner(
    hub: Hub, ana: Browser, session: Session, caller: Session, people: Callable[[str], Browser]
) -> None:
    loop_id = await session(ana).loop()
    admin = Browser(hub, ROOT).log_in()
    try:
        visiting = caller(ANA, Authorization=f"token {admin.token()}")
        assert (await visiting.get("/loops")).json()["data"] == []
        expect(await visiting.get(f"/loops/{loop_id}"), 403, "not_loop_owner")
        expect(
            await visiting.post(f"/loops/{loop_id}/messages", json={"content": "x"}),
            403,
            "not_loop_owner",
        )
        assert (await visiting.create())["created_by"] == ROOT
    finally:
        admin.close()


@pytest.mark.parametrize(
    ("scopes", "lets_in"),
    [
        ((), True),
        ((f"access:servers!user={ANA}",), True),
        (("users:activity!user",), False),
        ((f"access:servers!server={ANA}/other",), False),
        (("read:users:name!user",), False),
    ],
)
async def test_a_hub_token_is_as_good_as_its_scopes(
    ana: Browser, caller: Session, scopes: tuple[str, ...], lets_in: bool
) -> None:
    secret = ana.token(*scopes)
    program = caller(ANA, Authorization=f"token {secret}")
    answer = await program.get("/loops")
    if lets_in:
        assert answer.status_code == 200
        assert (await program.create())["created_by"] == ANA
    else:
        expect(answer, 401, "missing_credentials")


async def test_api_tokens_are_made_in_the_browser_and_by_no_token(
    ana: Browser, session: Session, caller: Session
) -> None:
    page = session(ana)
    made = await page.post("/me/tokens", json={"label": "from the Hub"})
    assert made.status_code == 201
    token = made.json()
    listed = (await page.get("/me/tokens")).json()["tokens"]
    assert listed[0]["tokenId"] == token["tokenId"]
    for authorization in (f"token {ana.token()}", f"Bearer {token['token']}"):
        program = caller(ANA, Authorization=authorization)
        assert (await program.get("/loops")).status_code == 200
        expect(await program.get("/me/tokens"), 401, "missing_credentials")
        expect(await program.post("/me/tokens", json={}), 401, "missing_credentials")
    assert (await page.delete(f"/me/tokens/{token['tokenId']}")).status_code == 204
    program = caller(ANA, Authorization=f"Bearer {token['token']}")
    expect(await program.get("/loops"), 401, "invalid_token")


async def test_a_cookie_alone_changes_nothing(ana: Browser, caller: Session) -> None:
    cookies = ana.cookie()
    fetch = {"Sec_Fetch_Mode": "cors", "Sec_Fetch_Site": "same-origin"}
    bare = caller(ANA, Cookie=cookies, **fetch)
    expect(await bare.post("/loops", json={}), 403, "xsrf_failed")
    expect(await bare.post("/me/tokens", json={}), 403, "xsrf_failed")
    wrong = caller(ANA, Cookie=cookies, X_XSRFToken="0" * 32, **fetch)
    expect(await wrong.post("/loops", json={}), 401, "missing_credentials")
    elsewhere = caller(ANA, Cookie=cookies, Sec_Fetch_Mode="no-cors", Sec_Fetch_Site="cross-site")
    expect(await elsewhere.get("/loops"), 401, "missing_credentials")


async def test_nobody_gets_an_answer_for_programs_and_no_login_page(
    hub: Hub, ana: Browser, caller: Session
) -> None:
    nobody = caller(ANA, Accept="text/html")
    for path in ("/loops", "/me/tokens", "/nothing"):
        expect(await nobody.get(path), 401, "missing_credentials")
    assert (await nobody.get("/openapi.json")).status_code == 200
    away = httpx.get(f"{hub.server_url(BEN + '-who-never-came')}loopat/api/v1/loops")
    assert away.status_code >= 300, "the Hub answers for a server that is not there"
