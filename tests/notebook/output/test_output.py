"""The transcript of a loop below a chat: shown at once, rewritten at the end of each turn."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import nbformat
import pytest
from nbconvert import HTMLExporter, MarkdownExporter

from loopat_jupyter.client import Client, Loop, RetryPolicy
from loopat_jupyter.notebook.output import Follower, TranscriptRecord, _markdown, turn_markdown
from loopat_jupyter.notebook.output._markdown import loop_markdown
from loopat_jupyter.transcript.json import parse_turn
from tests.support.frontend import FrontEnd
from tests.support.server import JupyterServer

pytestmark = pytest.mark.slow(8)

TRANSCRIPT = "application/vnd.loopat.transcript+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
TIMEOUT = 30


@pytest.fixture(scope="module")
def demo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with JupyterServer(tmp_path_factory.mktemp("output")) as running:
        yield running


@pytest.fixture(scope="module")
def client(demo_server: JupyterServer) -> Iterator[Client]:
    with Client(demo_server.url, demo_server.token) as one:
        yield one


@pytest.fixture(scope="module")
def notebook(demo_server: JupyterServer) -> Iterator[FrontEnd]:
    with FrontEnd(demo_server) as one:
        yield one


class Recorder:
    """Keeps the transcripts that a follower hands over."""

    def __init__(self) -> None:
        self.documents: list[Mapping[str, Any]] = []
        self._changed = threading.Condition()

    def __call__(self, document: Mapping[str, Any], turn_count: int | None) -> None:
        with self._changed:
            self.documents.append(document)
            self._changed.notify_all()

    def turns(self, number: int) -> Mapping[str, Any]:
        """Wait for a transcript with that many turns that have ended."""

        def has_come() -> bool:
            turns = self.documents[-1]["turns"] if self.documents else []
            return sum(turn["status"] == "done" for turn in turns) >= number

        with self._changed:
            assert self._changed.wait_for(has_come, TIMEOUT), self.documents
            return self.documents[-1]


def test_a_follower_hands_over_a_transcript_at_the_end_of_each_turn(client: Client):
    loop, recorder = client.loops.create("followed"), Recorder()
    follower = Follower(client.address, loop.id, recorder)
    for number in range(1, 4):
        loop.ask(f"count {number}")
        assert recorder.turns(number)["turns"][-1]["message"] == f"count {number}"
    assert len(recorder.documents) <= 4, "not for every delta"
    follower.close()
    assert not follower.is_alive
    loop.ask("count 1")
    assert len(recorder.documents) <= 4


def test_a_follower_that_nobody_holds_ends(client: Client):
    loop, recorder = client.loops.create("forgotten"), Recorder()
    follower: Follower | None = Follower(client.address, loop.id, recorder)
    thread = next(t for t in threading.enumerate() if t.name == f"loopat transcript {loop.id}")
    del follower
    gc.collect()
    thread.join(TIMEOUT)
    assert not thread.is_alive()


def test_a_follower_waits_for_a_server_that_is_away(tmp_path_factory: pytest.TempPathFactory):
    soon = RetryPolicy(longest=0.2)
    server = JupyterServer(tmp_path_factory.mktemp("away"))
    with server, Client(server.url, server.token, retry=soon) as own:
        loop, recorder = own.loops.create("patient"), Recorder()
        follower = Follower(own.address, loop.id, recorder, retry=soon)
        loop.ask("count 1")
        recorder.turns(1)
        server.restart()
        loop.ask("count 2")
        recorder.turns(2)
        follower.close()


def test_a_loop_that_is_gone_ends_its_follower(client: Client):
    follower = Follower(client.address, "loop_00000000-0000-4000-8000-000000000000", Recorder())
    give_up = time.monotonic() + TIMEOUT
    while follower.is_alive and time.monotonic() < give_up:
        threading.Event().wait(0.01)
    assert follower.failure is not None
    assert follower.failure.code == "loop_not_found"
    follower.close()


def transcript_of(notebook: FrontEnd, cell: str) -> dict[str, Any]:
    found = [o["data"] for o in notebook.outputs[cell] if TRANSCRIPT in o.get("data", {})]
    assert len(found) == 1
    return dict(found[0])


def test_a_chat_shows_its_transcript_and_finds_its_loop_again(notebook: FrontEnd, client: Client):
    notebook.run("from loopat_jupyter import LoopChat; import threading")
    ran = notebook.run("chat = LoopChat(title='chatted'); chat", "chat")
    assert [list(data)[-1] for data in ran.data] == [WIDGET, TRANSCRIPT]
    loop = client.loops.get(transcript_of(notebook, "chat")[TRANSCRIPT]["loop_id"])
    assert loop.title == "chatted"

    loop.ask("!echo printed; echo '<script>x()</script>'")
    notebook.listen(lambda: "printed" in transcript_of(notebook, "chat")["text/markdown"])
    markdown = transcript_of(notebook, "chat")["text/markdown"]
    assert markdown.startswith("<details><summary>Transcript of <b>chatted</b>: 1 turn</summary>")
    assert "<script" not in markdown
    assert transcript_of(notebook, "chat")[TRANSCRIPT]["seq"] > 0

    again = notebook.run("chat.close(); chat = LoopChat(); chat", "chat")
    assert again.status == "ok", again.outputs
    assert transcript_of(notebook, "chat")[TRANSCRIPT]["loop_id"] == loop.id
    ran = notebook.run(
        "chat.close(); print([t.name for t in threading.enumerate() if 'loopat' in t.name])"
    )
    assert ran.stdout == "[]\n"

    saved = json.dumps(notebook.document())
    for secret in (notebook.server.token, f":{notebook.server.port}", str(notebook.server.home)):
        assert secret not in saved

    document = nbformat.from_dict(json.loads(saved))
    for exporter in (HTMLExporter(), MarkdownExporter()):
        page, _ = exporter.from_notebook_node(document)
        assert "Transcript of <b>chatted</b>" in page
        assert "printed" in page
        assert "<script>x()" not in page


def test_a_transcript_is_bounded_and_says_what_it_leaves_out(client: Client):
    loop = client.loops.create("long")
    for number in range(3):
        loop.ask(f"think {number} {'x' * 30_000}")
    document = loop.transcript("json")
    whole = loop_markdown(document, 3)
    assert "3 turns" in whole
    assert "characters left out" in whole
    assert len(whole) < 3 * (_markdown.LOOP_TEXT_LIMIT + 2 * _markdown.THINKING_LIMIT)
    many = {**document, "turns": document["turns"] * 40}
    shown = loop_markdown(many, 120)
    assert len(shown) <= _markdown.LOOP_LIMIT + 1000
    assert "of 120 turns (the loop has them all)" in shown
    huge = {**document, "turns": [_turn_of_many_calls(3000)]}
    assert len(loop_markdown(huge, 1)) <= _markdown.LOOP_LIMIT + 1000


def _turn_of_many_calls(number: int) -> dict[str, Any]:
    call = {"type": "tool", "tool": "Bash", "input": {"command": "a" * 9000}, "ok": True}
    parts = [{**call, "tool_use_id": str(n), "result": "b" * 9000} for n in range(number)]
    return {"status": "done", "message": "m" * 100_000, "parts": parts, "usage": None}


def test_what_a_person_decided_is_in_the_transcript(client: Client):
    loop = client.loops.create("decided")
    answers = iter([True, False])
    loop.ask("!echo a", permission_mode="default", on_choice=lambda choice: next(answers))
    loop.ask("ask Tea? | Yes | No", on_choice=lambda choice: "Yes")
    shown = loop_markdown(loop.transcript("json"), 2)
    assert "**Allowed** by a Jupyter session" in shown
    assert "> Tea?" in shown
    assert "**Answer**\n\n- `Yes`" in shown


def test_parts_of_a_newer_server_do_not_break_it():
    turn = {"status": "later", "message": None, "parts": [{"type": "hologram"}, {}]}
    assert "hologram" in turn_markdown(parse_turn(turn))


@pytest.mark.parametrize(
    "data",
    [None, [], {}, {"loop_id": 1}, {"loop_id": "loop_x"}, {"loop_id": "../x", "seq": 1}],
)
def test_a_malformed_record_in_a_file_is_none(data: Any):
    assert TranscriptRecord.parse(data) is None


def test_a_record_is_read_as_it_was_written(client: Client):
    loop: Loop = client.loops.create("recorded")
    record = TranscriptRecord(loop.id, 3)
    assert TranscriptRecord.parse(json.loads(json.dumps(record.to_json()))) == record
    assert set(record.to_json()) == {"version", "loop_id", "seq"}
