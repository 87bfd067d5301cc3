"""The documents as served: open to everybody, whole, cached, and from this server alone."""

import gzip
import re
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import resources
from typing import Any

import httpx
import pytest

from loopat_jupyter.api.docs_handlers import ASSETS, PAGE_POLICY, STATIC
from loopat_jupyter.api.openapi import build
from tests.api.schema import fits_stream_event, validator
from tests.support.caller import Caller, Recorder, expect
from tests.support.server import API, BASE_URL, JupyterServer
from tests.support.sse import Event

OWN = ("docs.html", "docs.css", "docs.js")
URL = re.compile(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", re.IGNORECASE)


async def test_the_served_document_is_the_generated_one_for_this_server(nobody: Caller) -> None:
    answer = await nobody.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == build(f"{BASE_URL}{API}")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/assets/docs.css", "text/css; charset=utf-8"),
        ("/docs/assets/docs.js", "text/javascript; charset=utf-8"),
        ("/docs/assets/swagger-ui.css", "text/css; charset=utf-8"),
        ("/docs/assets/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    ],
)
async def test_a_file_of_the_page_comes_as_it_is_with_its_type(
    nobody: Caller, path: str, kind: str
) -> None:
    name = path.rpartition("/")[2]
    file = STATIC.joinpath(ASSETS.get(name, "docs.html"))
    for encoding in ("gzip", "identity"):
        answer = await nobody.get(path, headers={"Accept-Encoding": encoding})
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == kind
        assert answer.headers.get("Content-Encoding", "identity") == encoding
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.content == file.read_bytes()


async def test_a_document_is_sent_again_only_when_it_changed(nobody: Caller) -> None:
    for path in ("/openapi.json", "/docs", "/docs/assets/docs.js"):
        first = await nobody.get(path)
        assert first.headers["Cache-Control"] == "no-cache"
        assert first.headers["Vary"] == "Accept-Encoding"
        again = await nobody.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        other = await nobody.get(path, headers={"If-None-Match": '"other"'})
        assert other.status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "docs.html",
        "README.md",
        "vendor%2fswagger-ui%2fLICENSE",
        "..%2fdocs.html",
        "..%2f..%2fdocuments.py",
        "%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "%2fetc%2fpasswd",
        "docs.css%00",
        "docs.css%2f",
        "DOCS.CSS",
        "docs.css%ff",
        "..%5cdocs.html",
    ],
)
async def test_only_the_listed_names_are_files(nobody: Caller, session: Caller, name: str) -> None:
    expect(await nobody.get(f"/docs/assets/{name}"), 401, "missing_credentials")
    expect(await session.get(f"/docs/assets/{name}"), 404, "not_found")


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [value for key in ("src", "href") if (value := given.get(key))]
        self.inline += tag == "style" or (tag == "script" and "src" not in given)
        self.inline += any(name == "style" or name.startswith("on") for name in given)


def test_the_page_names_only_its_own_files() -> None:
    page = Links()
    page.feed(STATIC.joinpath("docs.html").read_text())
    assert page.inline == 0
    files = {link for link in page.found if not link.startswith(("#", "data:"))}
    assert files == {"openapi.json", *(f"docs/assets/{name}" for name in ASSETS)}


@pytest.mark.parametrize("name", OWN)
def test_our_own_files_name_no_other_host(name: str) -> None:
    assert URL.findall(STATIC.joinpath(name).read_text()) == []


def test_the_vendored_files_load_nothing_and_have_no_map() -> None:
    vendored = STATIC / "vendor" / "swagger-ui"
    css = vendored.joinpath("swagger-ui.css").read_text()
    script = vendored.joinpath("swagger-ui-bundle.js").read_text()
    assert "sourceMappingURL" not in css + script
    assert "@import" not in css
    assert {link[:5] for link in re.findall(r"url\([\"']?([^)\"']{5})", css)} == {"data:"}
    for text in (css, script):
        assert not re.search(r"/(?:home|root|tmp|work)/", text)
    licence = vendored.joinpath("LICENSE").read_text()
    assert "Apache License" in licence
    assert vendored.joinpath("NOTICE").is_file()


async def test_the_page_s_policy_lets_nothing_in_from_outside(nobody: Caller) -> None:
    policy = (await nobody.get("/docs")).headers["Content-Security-Policy"]
    assert PAGE_POLICY in policy
    assert "frame-ancestors 'self'" in policy
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["connect-src"] == "'self'"
    other = await nobody.get("/docs/assets/docs.js")
    assert other.headers["Content-Security-Policy"].endswith("default-src 'none'")


def test_every_static_file_is_inside_the_package() -> None:
    package = resources.files("loopat_jupyter")
    for path in ASSETS.values():
        assert (package / "api" / "static" / path).is_file()


def test_the_script_compresses_to_what_a_slow_line_bears() -> None:
    script = STATIC.joinpath(ASSETS["swagger-ui-bundle.js"]).read_bytes()
    assert len(gzip.compress(script)) < 600_000


# --------------------------------------------------------------------------- described and sent


async def test_what_the_server_sends_is_what_the_document_says(
    new_server: Callable[..., JupyterServer], recorder: Recorder
) -> None:
    server = new_server(model=None, options=["--LoopatExtension.ping_interval=0.2"]).start()
    document = httpx.get(f"{server.api_url}/openapi.json").json()
    check = Checker(document)
    async with Caller(server, recorder, headers=server.session) as caller:
        caller.http.event_hooks["response"].append(check.answer)
        loop_id = await caller.loop(title="described and sent", metadata={"a": "b"})
        await use_everything(caller, loop_id, check)
        for path in (f"/loops/{loop_id}", f"/loops/{loop_id}/messages", f"/loops/{loop_id}/rules"):
            await caller.get(path)
        await caller.get("/loops")
        await use_files(caller, loop_id)
        for wanted in ("json", "md", "ipynb"):
            await caller.get(f"/loops/{loop_id}/transcript", params={"format": wanted})
    for stream in recorder.streams:
        for event in stream.events:
            check.event(event)
    assert check.statuses >= {200, 201, 202, 404}
    assert check.names >= set(document_events(document)) - {"error", "sdk_message"}


async def use_everything(caller: Caller, loop_id: str, check: "Checker") -> None:
    """A turn with a permission, one with a question, a queued one, an interrupted one."""
    async with caller.send(loop_id, "!echo hi", mode="default") as stream:
        asked = (await stream.until("requires_choice")).data
        async with caller.watch(loop_id) as watching:
            assert (await watching.event()).name == "snapshot"
        await caller.choose(loop_id, asked["choice_id"], allow=True, remember="loop")
        await stream.rest()
    async with caller.send(loop_id, "ask Tea or coffee? | Tea | Coffee") as stream:
        asked = (await stream.until("requires_choice")).data
        question = asked["payload"]["questions"][0]["id"]
        await caller.choose(loop_id, asked["choice_id"], answers={question: "Tea"})
        await stream.rest()
    await caller.turn(loop_id, "think it over")
    expect(await caller.choose(loop_id, asked["choice_id"], allow=True), 404, "choice_not_found")
    async with caller.send(loop_id, "count 10000") as first:
        await first.until("assistant_delta")
        await first.until("ping")
        async with caller.send(loop_id, "hello") as second:
            assert (await second.event()).name == "queued"
            await caller.get(f"/loops/{loop_id}")
            await caller.interrupt(loop_id)
            await first.rest()
            await second.rest()


async def use_files(caller: Caller, loop_id: str) -> None:
    """A whole file, a part of one, a listing, a file back, and what is refused."""
    path = f"/loops/{loop_id}/files"
    part = {"upload": "u", "offset": 0, "size": 2}
    await caller.request("PUT", f"{path}/a", content=b"x")
    await caller.request("PUT", f"{path}/b", content=b"x", params=part)
    await caller.request("PUT", f"{path}/b", content=b"xyz", params=part)
    await caller.get(path)
    await caller.get(path, params={"after": "%"})
    await caller.get(f"{path}/a")
    await caller.get(f"{path}/none")


def document_events(document: dict[str, Any]) -> list[str]:
    kinds = document["components"]["schemas"]["StreamEvent"]["oneOf"]
    return [kind["properties"]["event"]["const"] for kind in kinds]


class Checker:
    """Holds every answer and event against the document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.statuses: set[int] = set()
        self.names: set[str] = set()

    async def answer(self, answer: httpx.Response) -> None:
        path = answer.request.url.path.partition(API)[2]
        template, operation = next(
            (template, item[answer.request.method.lower()])
            for template, item in self.document["paths"].items()
            if re.fullmatch(re.sub(r"{[a-z_]+}", "[^/]+", template), path)
        )
        self.statuses.add(answer.status_code)
        described = operation["responses"][str(answer.status_code)]
        kind = answer.headers["Content-Type"].partition(";")[0]
        if "content" not in described:
            assert await answer.aread() == b"", template
            return
        assert kind in described["content"], (template, kind)
        reference = described["content"][kind]["schema"].get("$ref")
        if reference is None:
            return
        await answer.aread()
        body = answer.json()
        validator(self.document, reference.removeprefix("#")).validate(body)
        name = reference.rpartition("/")[2]
        undeclared = set(body) - set(self.document["components"]["schemas"][name]["properties"])
        assert not undeclared, f"{template}: {undeclared} is sent and not in {name}"

    def event(self, event: Event) -> None:
        self.names.add(event.name)
        assert fits_stream_event(self.document, event.name, event.seq, event.data), event
