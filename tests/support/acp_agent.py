"""A small but real agent that speaks the Agent Client Protocol, for tests that need one.

It calls the loop's model through the gateway (Anthropic Messages, streaming) and has the tools
Read, Write, Edit, Glob and Grep. Before each tool that is not a read it asks for permission; with
AskUserQuestion it has the client show a form. Its
sessions are files in its home, so another process can load them. Standard library only; the module
is both the program, which is handed to the sandbox's Python as text, and what tests import::

    {"agent": "small", "agents": {"small": section()}}
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TOOLS = {
    "Bash": ("execute", ["command"]),
    "Read": ("read", ["file_path"]),
    "Write": ("edit", ["file_path", "content"]),
    "Edit": ("edit", ["file_path", "old_string", "new_string"]),
    "Glob": ("search", ["pattern"]),
    "Grep": ("search", ["pattern"]),
    "AskUserQuestion": ("think", []),
}
OPTIONS = [
    {"optionId": "once", "name": "Allow once", "kind": "allow_once"},
    {"optionId": "always", "name": "Always allow", "kind": "allow_always"},
    {"optionId": "no", "name": "Reject", "kind": "reject_once"},
]
USAGE = {
    "inputTokens": "input_tokens",
    "outputTokens": "output_tokens",
    "cachedReadTokens": "cache_read_input_tokens",
    "cachedWriteTokens": "cache_creation_input_tokens",
}
DENIED = "User denied permission to run this."
MODEL_CALLS = 50
ATTEMPTS = 3
OUTPUT = 100_000
"""Bytes of a command's output that the model sees."""


def section(**more: Any) -> dict[str, Any]:
    """This agent, as ``agents.NAME`` of ``config.json`` describes it."""
    return {
        "command": ["python3", "-I", "-S", "-c", Path(__file__).read_text()],
        "env": {"MODEL_URL": "{model_url}", "MODEL_KEY": "{model_key}", "MODEL": "{model}"},
        "asks": True,
        **more,
    }


class Cancelled(Exception):
    """The prompt was cancelled."""


class Failed(Exception):
    """The prompt cannot go on; the message is for the person."""


class Again(Failed):
    """The model's answer failed before anything of it was shown, and may come another time."""


class Peer:
    """Our side of the JSON-RPC connection."""

    def __init__(self) -> None:
        self._writing = threading.Lock()
        self._waiting: dict[int, tuple[threading.Event, list[Any]]] = {}
        self._next = 0

    def send(self, message: dict[str, Any]) -> None:
        data = (json.dumps({"jsonrpc": "2.0", **message}) + "\n").encode()
        with self._writing:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def ask(self, method: str, params: dict[str, Any], cancelled: threading.Event) -> Any:
        with self._writing:
            self._next += 1
            number = self._next
        answered, answer = self._waiting[number] = (threading.Event(), [])
        self.send({"id": number, "method": method, "params": params})
        answered.wait()
        if cancelled.is_set() or not answer:
            raise Cancelled
        return answer[0]

    def take_answer(self, message: dict[str, Any]) -> None:
        answered, answer = self._waiting.pop(message["id"])
        if "result" in message:
            answer.append(message["result"])
        answered.set()


class Session:
    """One conversation, and the prompt that runs in it."""

    def __init__(self, peer: Peer, session_id: str, messages: list[dict[str, Any]]) -> None:
        self.id = session_id
        self.messages = messages
        self._peer = peer
        self._cancelled = threading.Event()
        self._connection: http.client.HTTPConnection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._shown = False
        self._usage = dict.fromkeys(USAGE, 0)
        self._seen: dict[str, int] = {}

    def update(self, **update: Any) -> None:
        self._peer.send(
            {"method": "session/update", "params": {"sessionId": self.id, "update": update}}
        )

    def cancel(self) -> None:
        self._cancelled.set()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(2)

    def prompt(self, texts: list[str]) -> dict[str, Any]:
        self._cancelled.clear()
        self._usage = dict.fromkeys(USAGE, 0)
        blocks = [{"type": "text", "text": text} for text in texts]
        self.messages.append({"role": "user", "content": blocks})
        try:
            reason = self._turn()
        except Cancelled:
            reason = "cancelled"
        finally:
            self.repair()
            save(self)
        usage = {**self._usage, "totalTokens": sum(self._usage.values())}
        return {"stopReason": reason, "usage": usage}

    def _turn(self) -> str:
        for _ in range(MODEL_CALLS):
            blocks, stop = self._ask_model_patiently()
            self.messages.append({"role": "assistant", "content": blocks or [_text("")]})
            calls = [block for block in blocks if block["type"] == "tool_use"]
            if not calls:
                return "max_tokens" if stop == "max_tokens" else "end_turn"
            for call in calls:
                self._announce(call)
            results: list[dict[str, Any]] = []
            self.messages.append({"role": "user", "content": results})
            for call in calls:
                results.append(self._settle(call))
        return "max_turn_requests"

    def repair(self) -> None:
        """Give every call of a prompt that was cut off a result: the model insists."""
        for number, message in enumerate(list(self.messages)):
            blocks = message["content"]
            calls = [b["id"] for b in blocks if b["type"] == "tool_use"]
            if message["role"] != "assistant" or not calls:
                continue
            after = self.messages[number + 1 : number + 2]
            if not after or after[0]["role"] != "user":
                after = [{"role": "user", "content": []}]
                self.messages.insert(number + 1, after[0])
            had = {b.get("tool_use_id") for b in after[0]["content"]}
            for call in calls:
                if call not in had:
                    result = {"type": "tool_result", "tool_use_id": call, "content": "cut off"}
                    after[0]["content"].insert(0, result)

    # ------------------------------------------------------------------ the model

    def _ask_model_patiently(self) -> tuple[list[dict[str, Any]], str]:
        for _ in range(ATTEMPTS - 1):
            with contextlib.suppress(Again):
                return self._ask_model()
        return self._ask_model()

    def _ask_model(self) -> tuple[list[dict[str, Any]], str]:
        address = urlsplit(os.environ["MODEL_URL"])
        body = {
            "model": os.environ["MODEL"],
            "max_tokens": 4096,
            "stream": True,
            "messages": self.messages,
            "tools": [_schema(name, fields) for name, (_, fields) in TOOLS.items()],
        }
        headers = {"x-api-key": os.environ["MODEL_KEY"], "content-type": "application/json"}
        self._shown = False
        connection = self._connection = http.client.HTTPConnection(
            address.hostname or "", address.port or 80
        )
        try:
            connection.request("POST", f"{address.path}/v1/messages", json.dumps(body), headers)
            response = connection.getresponse()
            if response.status != 200:
                kind = Again if response.status in (429, 500, 503, 529) else Failed
                raise kind(_provider_error(response.read()))
            return self._read_answer(response)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if self._cancelled.is_set():
                raise Cancelled from error
            kind = Failed if self._shown else Again
            raise kind(f"the model's answer broke off: {error}") from error
        finally:
            connection.close()

    def _read_answer(self, response: http.client.HTTPResponse) -> tuple[list[Any], str]:
        blocks: list[dict[str, Any]] = []
        stop = ""
        for line in response:
            if self._cancelled.is_set():
                raise Cancelled
            if not line.startswith(b"data: "):
                continue
            event = json.loads(line[6:])
            if event["type"] == "error":
                raise (Failed if self._shown else Again)(event["error"]["message"])
            if event["type"] == "message_start":
                self._count(event["message"]["usage"], skip="output_tokens")
            elif event["type"] == "content_block_start":
                blocks.append({**event["content_block"], "json": ""})
            elif event["type"] == "content_block_delta":
                self._delta(blocks[event["index"]], event["delta"])
            elif event["type"] == "message_delta":
                stop = event["delta"].get("stop_reason") or stop
                self._count(event["usage"])
            elif event["type"] == "message_stop":
                return [_kept(block) for block in blocks if block["type"] != "thinking"], stop
        if self._cancelled.is_set():
            raise Cancelled
        raise (Failed if self._shown else Again)("the model's answer broke off")

    def _delta(self, block: dict[str, Any], delta: dict[str, Any]) -> None:
        self._shown = True
        if delta["type"] == "text_delta":
            block["text"] += delta["text"]
            self.update(sessionUpdate="agent_message_chunk", content=_text(delta["text"]))
        elif delta["type"] == "thinking_delta":
            self.update(sessionUpdate="agent_thought_chunk", content=_text(delta["thinking"]))
        elif delta["type"] == "input_json_delta":
            block["json"] += delta["partial_json"]

    def _count(self, usage: dict[str, Any], skip: str = "") -> None:
        for ours, theirs in USAGE.items():
            if theirs != skip:
                self._usage[ours] += usage.get(theirs) or 0

    # ------------------------------------------------------------------ tools

    def _announce(self, call: dict[str, Any]) -> None:
        kind, _ = TOOLS.get(call["name"], ("other", []))
        seen = self._seen[call["id"]] = self._seen.get(call["id"], 0) + 1
        call["shown_id"] = call["id"] if seen == 1 else f"{call['id']}-{seen}"
        self.update(
            sessionUpdate="tool_call",
            toolCallId=call["shown_id"],
            title=call["name"],
            kind=kind,
            status="pending",
            rawInput=call["input"],
        )

    def _settle(self, call: dict[str, Any]) -> dict[str, Any]:
        ok, text = self._decide(call)
        self.update(
            sessionUpdate="tool_call_update",
            toolCallId=call.pop("shown_id"),
            status="completed" if ok else "failed",
            content=[{"type": "content", "content": _text(text)}],
        )
        return {
            "type": "tool_result",
            "tool_use_id": call["id"],
            "content": text,
            "is_error": not ok,
        }

    def _decide(self, call: dict[str, Any]) -> tuple[bool, str]:
        name, given = call["name"], call["input"]
        if name not in TOOLS:
            return False, f"There is no tool {name}."
        kind, fields = TOOLS[name]
        if not isinstance(given, dict):
            return False, f"The input of {name} is no JSON object."
        wrong = [field for field in fields if not isinstance(given.get(field), str)]
        if wrong:
            return False, f"The input of {name} is not valid: {', '.join(wrong)}"
        if name == "AskUserQuestion":
            return self._question(call)
        if kind != "read" and not self._may(call, kind):
            return False, DENIED
        if self._cancelled.is_set():
            raise Cancelled
        shown_id = call["shown_id"]
        self.update(sessionUpdate="tool_call_update", toolCallId=shown_id, status="in_progress")
        try:
            outcome: tuple[bool, str] = getattr(self, f"_{name.lower()}")(given)
        except (OSError, ValueError, re.error) as error:
            return False, str(error)
        return outcome

    def _may(self, call: dict[str, Any], kind: str) -> bool:
        given = call["input"]
        where = [{"path": given["file_path"]}] if "file_path" in given else []
        title = given.get("command") or f"{call['name']} {given.get('file_path')}"
        tool_call = {
            "toolCallId": call["shown_id"],
            "title": title,
            "kind": kind,
            "rawInput": given,
            "locations": where,
        }
        answer = self._peer.ask(
            "session/request_permission",
            {"sessionId": self.id, "toolCall": tool_call, "options": OPTIONS},
            self._cancelled,
        )
        return bool(answer["outcome"].get("optionId") == "once")

    def _question(self, call: dict[str, Any]) -> tuple[bool, str]:
        """As a form: one property for each question."""
        questions = call["input"].get("questions")
        try:
            properties = {f"question_{n}": _property(q) for n, q in enumerate(questions)}
            asked = "\n".join(question["question"] for question in questions)
        except (AttributeError, KeyError, TypeError):
            return False, "These are no questions."
        if not properties:
            return False, "There is no question."
        answer = self._peer.ask(
            "elicitation/create",
            {
                "sessionId": self.id,
                "toolCallId": call["shown_id"],
                "mode": "form",
                "message": asked,
                "requestedSchema": {"type": "object", "properties": properties},
            },
            self._cancelled,
        )
        if answer["action"] != "accept":
            return False, f"The form was not filled: {answer['action']}"
        return True, f"The user answered: {json.dumps(answer['content'], ensure_ascii=False)}"

    def _bash(self, given: dict[str, Any]) -> tuple[bool, str]:
        with tempfile.TemporaryFile() as output:
            process = self._process = subprocess.Popen(
                ["bash", "-c", given["command"]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            if given.get("run_in_background"):
                self._process = None
                return True, f"Runs in the background as pid {process.pid}."
            try:
                process.wait(given.get("timeout", 120_000) / 1000)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            self._process = None
            if self._cancelled.is_set():
                raise Cancelled
            output.seek(0)
            text = _shortened(output.read()).rstrip("\n") or "(no output)"
        code = process.returncode
        return code == 0, f"{text}\nexit code {code}" if code else text

    def _read(self, given: dict[str, Any]) -> tuple[bool, str]:
        return True, Path(given["file_path"]).read_text(errors="replace")

    def _write(self, given: dict[str, Any]) -> tuple[bool, str]:
        path = Path(given["file_path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(given["content"])
        return True, f"Wrote {path}"

    def _edit(self, given: dict[str, Any]) -> tuple[bool, str]:
        path = Path(given["file_path"])
        text = path.read_text()
        if text.count(given["old_string"]) != 1:
            return False, "old_string is not there exactly once."
        path.write_text(text.replace(given["old_string"], given["new_string"]))
        return True, f"Edited {path}"

    def _glob(self, given: dict[str, Any]) -> tuple[bool, str]:
        found = sorted(str(path) for path in Path().glob(given["pattern"]))
        return True, "\n".join(found) or "(no file matches)"

    def _grep(self, given: dict[str, Any]) -> tuple[bool, str]:
        wanted = re.compile(given["pattern"])
        found = [
            f"{path}:{line}"
            for path in sorted(Path().rglob("*"))
            if path.is_file()
            for line in path.read_text(errors="replace").splitlines()
            if wanted.search(line)
        ]
        return True, "\n".join(found) or "(no match)"


def _shortened(data: bytes) -> str:
    if len(data) > OUTPUT:
        data = data[: OUTPUT // 2] + b"\n(left out)\n" + data[-OUTPUT // 2 :]
    return data.decode(errors="replace")


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _property(question: dict[str, Any]) -> dict[str, Any]:
    options = [
        {"const": one["label"], "title": one["label"], "description": one.get("description")}
        for one in question["options"]
    ]
    text = {"title": question.get("header"), "description": question["question"]}
    if question.get("multiSelect"):
        return {**text, "type": "array", "items": {"anyOf": options}}
    return {**text, "type": "string", "oneOf": options}


def _schema(name: str, fields: list[str]) -> dict[str, Any]:
    properties = {field: {"type": "string"} for field in fields}
    schema = {"type": "object", "properties": properties, "required": fields}
    return {"name": name, "description": name, "input_schema": schema}


def _kept(block: dict[str, Any]) -> dict[str, Any]:
    """A block as it goes into the conversation."""
    sent = block.pop("json")
    if block["type"] == "tool_use":
        try:
            block["input"] = json.loads(sent or "{}")
        except ValueError:
            block["input"] = None
    return block


def _provider_error(body: bytes) -> str:
    try:
        error = json.loads(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return body[:300].decode(errors="replace")


def _place(session_id: str) -> Path:
    name = "".join(c for c in session_id if c.isalnum())
    return Path(os.environ["HOME"]) / ".small-agent" / f"{name}.json"


def save(session: Session) -> None:
    path = _place(session.id)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(session.messages))


def load(peer: Peer, session_id: str) -> Session | None:
    try:
        session = Session(peer, session_id, json.loads(_place(session_id).read_text()))
    except (OSError, ValueError):
        return None
    for message in session.messages:
        kind = "user_message_chunk" if message["role"] == "user" else "agent_message_chunk"
        for block in message["content"]:
            if block["type"] == "text":
                session.update(sessionUpdate=kind, content=block)
    return session


class Agent:
    def __init__(self) -> None:
        self._peer = Peer()
        self._sessions: dict[str, Session] = {}

    def serve(self) -> None:
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if "method" not in message:
                self._peer.take_answer(message)
            elif message["method"] == "session/cancel":
                self._cancel(message["params"]["sessionId"])
            elif message["method"] == "session/prompt":
                threading.Thread(target=self._answer, args=(message,), daemon=True).start()
            elif "id" in message:
                self._answer(message)

    def _cancel(self, session_id: str) -> None:
        session = self._sessions.get(session_id)
        if session is not None:
            session.cancel()

    def _answer(self, message: dict[str, Any]) -> None:
        params = message.get("params") or {}
        try:
            result = self._do(message["method"], params)
        except Failed as error:
            problem = {"code": -32603, "message": str(error)}
            self._peer.send({"id": message["id"], "error": problem})
        else:
            self._peer.send({"id": message["id"], "result": result})

    def _do(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        if method == "initialize":
            return {"protocolVersion": 1, "agentCapabilities": {"loadSession": True}}
        if method == "session/new":
            session = Session(self._peer, f"small{secrets.token_hex(8)}", [])
            self._sessions[session.id] = session
            return {"sessionId": session.id}
        if method == "session/load":
            loaded = load(self._peer, params["sessionId"])
            if loaded is None:
                raise Failed("there is no such session")
            self._sessions[loaded.id] = loaded
            return {}
        if method == "session/prompt":
            texts = [block["text"] for block in params["prompt"]]
            return self._sessions[params["sessionId"]].prompt(texts)
        raise Failed(f"there is no method {method}")


if __name__ == "__main__":
    Agent().serve()
