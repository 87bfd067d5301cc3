"""The widgets' Python half over a real server: what they take, what they keep, what they refuse."""

from __future__ import annotations

import json
import threading

import pytest

import loopat_jupyter
from loopat_jupyter.client import AuthenticationError, Client, NotFoundError, ServerNotFound
from loopat_jupyter.notebook.widgets import ChoicePrompt, LoopChat
from tests.support.mock_model import MockModel, Text, bash
from tests.support.server import JupyterServer

CODE = {"_esm", "_css", "_anywidget_id"}


@pytest.fixture
def kernel(widget_server: JupyterServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that a kernel finds its server by."""
    monkeypatch.setenv("LOOPAT_URL", widget_server.url)
    monkeypatch.setenv("LOOPAT_TOKEN", widget_server.token)


def test_a_chat_is_of_a_loop_of_its_id_or_of_a_new_one(client: Client, kernel: None) -> None:
    loop = client.loops.create("Mine")
    assert LoopChat(loop).loop_id == loop.id
    assert LoopChat(loop.id).loop_id == loop.id
    fresh = LoopChat(title="Fresh")
    assert client.loops.get(fresh.loop_id).title == "Fresh"
    with pytest.raises(TypeError, match="not int"):
        LoopChat(3)  # type: ignore[arg-type]


def test_the_top_of_the_package_offers_them_when_asked() -> None:
    assert loopat_jupyter.LoopChat is LoopChat
    assert loopat_jupyter.ChoicePrompt is ChoicePrompt
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = loopat_jupyter.Nonsense


def test_what_is_not_there_is_said_in_a_sentence(
    kernel: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFoundError, match="loop"):
        LoopChat("loop_unknown")
    monkeypatch.setenv("LOOPAT_TOKEN", "la_" + 48 * "0")
    with pytest.raises(AuthenticationError, match="token"):
        LoopChat()
    for name in ("LOOPAT_URL", "LOOPAT_TOKEN", "JPY_PARENT_PID", "JUPYTERHUB_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ServerNotFound, match="LOOPAT_URL"):
        LoopChat()


def test_nothing_that_must_stay_out_of_a_notebook_is_in_a_trait(
    client: Client, widget_server: JupyterServer, model: MockModel
) -> None:
    """Traits are saved with the notebook; only ids are in them."""
    loop = client.loops.create("Secret title")
    script = model.script([Text("word of the agent"), bash("cat /etc/secret")], [Text("x")])
    with loop.send(script.message(), permission_mode="default", on_choice="wait") as events:
        asked = next(event for event in events if event.name == "requires_choice")
        prompt = ChoicePrompt(loop.choice(asked))  # type: ignore[arg-type]
    assert (prompt.loop_id, prompt.choice_id) == (loop.id, asked.data["choice_id"])
    assert prompt.seq == asked.seq
    for widget in (LoopChat(loop), prompt):
        state = {k: v for k, v in widget.get_state().items() if k not in CODE}
        own = {k: v for k, v in state.items() if not k.startswith("_")}
        assert set(own) <= {"loop_id", "choice_id", "seq", "layout", "tabbable", "tooltip"}
        text = json.dumps(state, default=str) + repr(widget)
        for secret in (widget_server.token, "127.0.0.1", "/", "Secret", "word of"):
            assert secret not in text.replace("application/", ""), secret
    loop.interrupt()


def test_a_closed_widget_leaves_no_thread(client: Client) -> None:
    loop = client.loops.create()
    chat = LoopChat(loop)
    chat._handle_custom_msg({"op": "loop", "id": 1, "args": {}}, [])
    assert f"loopat {loop.id}" in {thread.name for thread in threading.enumerate()}
    chat.close()
    assert f"loopat {loop.id}" not in {thread.name for thread in threading.enumerate()}
    chat.close()


def test_a_widget_nobody_asks_has_no_thread(client: Client) -> None:
    loop = client.loops.create()
    LoopChat(loop)
    assert f"loopat {loop.id}" not in {thread.name for thread in threading.enumerate()}
