"""A loop's transcript: whole, in order, in three formats, and nothing in it that executes."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import nbclient
import nbconvert
import nbformat
import pytest
from markdown_it import MarkdownIt

from loopat_jupyter.api.openapi import build
from tests.api.schema import validator
from tests.support.caller import Caller, expect
from tests.support.mock_model import Gate, Hold, MockModel, Text, Tool, bash
from tests.support.server import JupyterServer

People = Callable[[str], Caller]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def export(caller: Caller, loop_id: str, **query: Any) -> httpx.Response:
    answer = await caller.get(f"/loops/{loop_id}/transcript", params=query)
    assert answer.status_code == 200, answer.text
    return answer


async def transcript_of(caller: Caller, loop_id: str, **query: Any) -> dict[str, Any]:
    """The transcript as JSON, which is as the OpenAPI document says."""
    answer = await export(caller, loop_id, **query)
    assert answer.headers["Content-Type"] == "application/vnd.loopat.transcript+json"
    transcript: dict[str, Any] = answer.json()
    validator(build("/"), "/components/schemas/Transcript").validate(transcript)
    return transcript


async def markdown(caller: Caller, loop_id: str, **query: Any) -> str:
    answer = await export(caller, loop_id, format="md", **query)
    assert answer.headers["Content-Type"] == "text/markdown; charset=utf-8"
    return answer.text


async def notebook(caller: Caller, loop_id: str, **query: Any) -> Any:
    """The transcript as a notebook, which is a valid one."""
    answer = await export(caller, loop_id, format="ipynb", **query)
    assert answer.headers["Content-Type"] == "application/x-ipynb+json"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{loop_id}.ipynb"'
    made = nbformat.reads(answer.text, as_version=4)
    nbformat.validate(made)
    assert (made.nbformat, made.nbformat_minor) == (4, 5)
    ids = [cell.id for cell in made.cells]
    assert len(set(ids)) == len(ids)
    return made


async def a_conversation(caller: Caller, model: MockModel, loop_id: str) -> None:
    """A permission that is given and one that is not, a question, an edit, an interruption."""
    script = model.script(
        [Text("Let me "), Text("look."), bash("seq 3; exit 3")],
        [Text("And write."), Tool("Write", {"file_path": "a.txt", "content": "<b>hello</b>"})],
        [bash("echo no")],
        [Text("All **done**.")],
    )
    async with caller.send(loop_id, script.message("Do it."), mode="default") as stream:
        for allow in (True, True, False):
            asked = (await stream.until("requires_choice")).data
            body: dict[str, Any] = {"allow": allow}
            if asked["payload"]["tool"] == "Write":
                body["remember"] = "loop"
            await caller.choose(loop_id, asked["choice_id"], **body)
        await stream.rest()
    question = {
        "question": "Tea or coffee?",
        "header": "Drink",
        "options": [{"label": "Tea", "description": ""}, {"label": "Coffee", "description": ""}],
        "multiSelect": False,
    }
    script = model.script([Tool("AskUserQuestion", {"questions": [question]})], [Text("Tea then.")])
    async with caller.send(loop_id, script.message("Ask me.")) as stream:
        asked = (await stream.until("requires_choice")).data
        ident = asked["payload"]["questions"][0]["id"]
        await caller.choose(loop_id, asked["choice_id"], answers={ident: "Tea"})
        await stream.rest()
    gate = Gate()
    script = model.script([Text("Working"), Hold(gate)])
    async with caller.send(loop_id, script.message("Never mind.")) as stream:
        await stream.until("assistant_delta")
        await caller.interrupt(loop_id)
        await stream.rest()
    gate.open()


@pytest.mark.builtin("its tools' names and results")
async def test_the_transcript_is_whole_and_in_order(api: Caller, model: MockModel) -> None:
    loop_id = await api.loop(title="A title")
    await a_conversation(api, model, loop_id)
    transcript = await transcript_of(api, loop_id)
    log = await api.log(loop_id)
    assert (transcript["version"], transcript["loop_id"], transcript["title"]) == (
        1,
        loop_id,
        "A title",
    )
    assert transcript["seq"] == log[-1].seq
    first, second, third = transcript["turns"]
    assert [turn["status"] for turn in transcript["turns"]] == ["done", "done", "interrupted"]
    assert "Do it." in first["message"]
    assert first["usage"]["input_tokens"] > 0
    kinds = [(p["type"], p.get("tool") or p.get("text") or p["kind"]) for p in first["parts"]]
    assert kinds == [
        ("text", "Let me look."), ("tool", "Bash"), ("choice", "permission"),
        ("text", "And write."), ("tool", "Write"), ("choice", "permission"),
        ("tool", "Bash"), ("choice", "permission"), ("text", "All **done**."),
    ]  # fmt: skip
    shell, allowed = first["parts"][1:3]
    assert shell["input"] == {"command": "seq 3; exit 3"}
    assert (shell["ok"], "1\n2\n3" in shell["result"]) == (False, True)
    assert (allowed["outcome"], allowed["source"]) == ("allowed", "api")
    assert TIME.fullmatch(allowed["resolved_at"])
    assert allowed["tool_use_id"] == shell["tool_use_id"]
    assert first["parts"][5]["rule"]["tool"] == "Write"
    assert first["parts"][7]["outcome"] == "denied"
    answered = next(part for part in second["parts"] if part["type"] == "choice")
    assert list(answered["answers"].values()) == ["Tea"]
    assert third["parts"] == [{"type": "text", "text": "Working"}]


@pytest.mark.builtin("its tools' names and results")
async def test_the_notebook_is_valid_the_same_each_time_and_complete(
    session: Caller, model: MockModel
) -> None:
    loop_id = await session.loop(title="A *title* <b>")
    await a_conversation(session, model, loop_id)
    made = await notebook(session, loop_id)
    assert made == await notebook(session, loop_id)
    assert made.metadata.loopat == {
        "version": 1, "loop_id": loop_id, "seq": (await session.log(loop_id))[-1].seq,
    }  # fmt: skip
    assert made.cells[0].source.startswith("# A \\*title\\* &lt;b&gt;\n")
    code = [cell for cell in made.cells if cell.cell_type == "code"]
    assert [cell.source for cell in code] == ["%%bash\nseq 3; exit 3", "%%bash\necho no"]
    assert [cell.execution_count for cell in code] == [1, 2]
    assert all(cell.metadata.tags == ["skip-execution"] for cell in code)
    (output,) = code[0].outputs
    assert (output.output_type, output.name) == ("stream", "stderr")
    assert "1\n2\n3" in output.text
    text = "\n".join(cell.source for cell in made.cells)
    for words in (
        "> Let me look.", "> All **done**.", "**Allowed** by a Jupyter session, 20",
        "for the rest of the loop", "**Denied** by a Jupyter session", "> Tea or coffee?",
        "- `Tea`", "**Interrupted**", "tokens in",
    ):  # fmt: skip
        assert words in text, words
    details = next(cell.source for cell in made.cells if "<details>" in cell.source)
    assert "Write a.txt (done)" in details
    assert '```json\n{\n  "file_path": "a.txt",\n  "content": "<b>hello</b>"\n}\n```' in details
    assert "AskUserQuestion" not in text


async def test_the_markdown_is_a_document_of_quotes_and_fences(
    api: Caller, model: MockModel
) -> None:
    loop_id = await api.loop(title="Notes")
    script = model.script([bash("echo '```'; echo '<script>'")], [Text("# Head\n```\nopen <i>")])
    await api.turn(loop_id, script.message("Hi <script>"), mode="auto")
    text = await markdown(api, loop_id)
    assert text.startswith("# Notes\n")
    assert "\n## Turn 1\n" in text
    assert "> # Head" in text
    html = MarkdownIt("commonmark", {"html": True}).render(text)
    assert "<script" not in html
    assert "<i>" not in html
    assert html.count("<h1>") == 2  # ours, and the one in the agent's quote
    assert html.rstrip().endswith("</p>")


async def test_tokens_and_paths_of_the_host_are_redacted(
    session: Caller, model: MockModel, server: JupyterServer
) -> None:
    token = server.mint()["token"]
    loop_id = await session.loop(title=f"with {token}")
    workdir = server.workdir(loop_id)
    half = len(token) // 2
    script = model.script(
        [
            Text(f"See {token[:half]}"), Text(f"{token[half:]} at {workdir}/x.csv"),
            bash(f"echo {server.url}lab?token={server.token} {workdir}; echo {server.root}/a.py"),
        ],
        [Text(f"Authorization: token {server.token}")],
    )  # fmt: skip
    await session.turn(loop_id, script.message(f"Use {token}"), mode="auto")
    for wanted in ("json", "md", "ipynb"):
        text = (await export(session, loop_id, format=wanted)).text
        for secret in (token, server.token, str(server.home), str(server.root)):
            assert secret not in text, (wanted, secret)
        for instead in ("la_…", "/workdir/x.csv", "lab?token=…", "./a.py"):
            assert instead in text, (wanted, instead)


async def test_one_turn_or_the_newest_ones(api: Caller, model: MockModel) -> None:
    loop_id = await api.loop()
    turns = []
    for number in range(3):
        script = model.script([Text(f"answer {number}")])
        turns.append((await api.turn(loop_id, script.message()))[0].data["turn_id"])
    assert [t["turn_id"] for t in (await transcript_of(api, loop_id))["turns"]] == turns
    assert [t["turn_id"] for t in (await transcript_of(api, loop_id, last=2))["turns"]] == turns[1:]
    assert [t["turn_id"] for t in (await transcript_of(api, loop_id, turn=turns[1]))["turns"]] == [
        turns[1]
    ]
    assert "answer 1" in await markdown(api, loop_id, turn=turns[1])
    other = await api.loop()
    for query, status, code in (
        ({"turn": "turn_unknown"}, 404, "not_found"),
        ({"format": "html"}, 400, "invalid_parameter"),
        ({"format": ""}, 400, "invalid_parameter"),
        ({"last": 0}, 400, "invalid_parameter"),
        ({"last": "x"}, 400, "invalid_parameter"),
        ({"last": 1, "turn": turns[0]}, 400, "invalid_parameter"),
    ):
        expect(await api.get(f"/loops/{loop_id}/transcript", params=query), status, code)
    answer = await api.get(f"/loops/{other}/transcript", params={"turn": turns[0]})
    expect(answer, 404, "not_found")


async def test_a_loop_without_turns_and_an_archived_one_have_a_transcript_too(
    api: Caller, model: MockModel
) -> None:
    loop_id = await api.loop(title="empty")
    assert (await transcript_of(api, loop_id))["turns"] == []
    assert len((await notebook(api, loop_id)).cells) == 1
    assert (await markdown(api, loop_id)).startswith("# empty")
    await api.delete(f"/loops/{loop_id}")
    assert (await transcript_of(api, loop_id))["archived"] is True


async def test_a_turn_that_runs_waits_or_is_queued_is_exported_as_far_as_it_is(
    api: Caller, model: MockModel
) -> None:
    loop_id = await api.loop()
    script = model.script([Text("first"), bash("echo hi")], [Text("end")])
    async with api.send(loop_id, script.message(), mode="default") as stream:
        asked = (await stream.until("requires_choice")).data
        async with api.send(loop_id, "later") as queued:
            await queued.until("queued")
            transcript = await transcript_of(api, loop_id)
            assert [turn["status"] for turn in transcript["turns"]] == ["waiting", "queued"]
            parts = transcript["turns"][0]["parts"]
            assert parts[-1]["outcome"] is None
            text = await markdown(api, loop_id)
            for words in ("**Not decided yet**", "**Waiting** for a person", "**Queued**"):
                assert words in text
            await notebook(api, loop_id)
            await api.choose(loop_id, asked["choice_id"], allow=True)
            await stream.rest()
            await queued.rest()


async def test_a_failed_turn_is_exported_with_its_error(
    new_server: Callable[..., JupyterServer], recorder: Any
) -> None:
    broken = {"default": "x/y", "providers": {"x": {"apiKey": "${NO_SUCH_VARIABLE}"}}}
    server = new_server(model=broken).start()
    async with Caller(server, recorder, headers=server.session) as caller:
        loop_id = await caller.loop()
        await caller.turn(loop_id, "hello")
        (turn,) = (await transcript_of(caller, loop_id))["turns"]
        assert turn["status"] == "error"
        assert turn["error"]["code"] == "agent_error"
        assert "**Error** `agent_error`" in await markdown(caller, loop_id)


async def test_the_transcript_is_its_owners_alone(
    person: People, somebody: str, nobody: Caller
) -> None:
    loop_id = await person(somebody).loop()
    path = f"/loops/{loop_id}/transcript"
    expect(await person("mallory").get(path), 403, "not_loop_owner")
    expect(await nobody.get(path), 401, "missing_credentials")
    assert json.loads((await person(somebody).get(path)).text)["turns"] == []


HELD = """
import time
from pathlib import Path

from loopat_jupyter.api import transcript

write_down = transcript._render


def held(*arguments):
    while not Path(GATE).exists():
        time.sleep(0.01)
    return write_down(*arguments)


transcript._render = held
"""


async def test_a_long_transcript_is_rendered_while_the_server_does_other_things(
    new_server: Callable[..., JupyterServer], recorder: Any, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    server = new_server(model=None, config=f"GATE = {str(gate)!r}\n{HELD}").start()
    async with Caller(server, recorder, headers=server.session) as caller:
        loop_id = await caller.loop()
        await caller.turn(loop_id, "count 300")
        writing = asyncio.ensure_future(export(caller, loop_id, format="md"))
        for _ in range(20):
            assert (await caller.state(loop_id))["turn_count"] == 1
        assert not writing.done()
        gate.touch()
        text = (await writing).text
        assert "299" in text
        assert text.rstrip().endswith("out.*")


async def test_a_notebook_runs_nothing_in_nbclient_and_shows_nothing_that_executes_in_nbconvert(
    api: Caller, model: MockModel, tmp_path: Path
) -> None:
    loop_id = await api.loop(title="<script>evil(1)</script>")
    hostile = "<script>evil(2)</script> <img src=x onerror=evil(3)> [x](javascript:evil(4))"
    script = model.script([bash(f"touch {tmp_path}/ran; echo '{hostile}'")], [Text(hostile)])
    await api.turn(loop_id, script.message(hostile), mode="auto")
    made = await notebook(api, loop_id)
    page, _ = nbconvert.HTMLExporter(template_name="basic").from_notebook_node(made)
    assert "evil(2)" in page
    assert not re.search(r"<script[^>]*>evil|<img[^>]*evil|href=.javascript", page)
    before = [cell.get("outputs") for cell in made.cells]
    client = nbclient.NotebookClient(made, resources={"metadata": {"path": str(tmp_path)}})
    await client.async_execute()
    assert [cell.get("outputs") for cell in made.cells] == before
    assert not (tmp_path / "ran").exists()
