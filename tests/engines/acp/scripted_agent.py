"""An ACP agent that does what its prompt says: a JSON list of steps, the last text of the prompt.

The program that tests of the protocol's edges hand to the sandbox's Python, standard library only.
The first argument is how it behaves before any prompt: ``well``, or badly.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

OPTIONS = [
    {"optionId": "yes", "name": "Go ahead", "kind": "allow_once"},
    {"optionId": "ever", "name": "Always", "kind": "allow_always"},
    {"optionId": "no", "name": "Rather not", "kind": "reject_once"},
]
writing = threading.Lock()
answers = {}
cancelled = threading.Event()
deaf = threading.Event()
state = {"asked": 0, "prompt": [], "mode": "free"}


def send(**message):
    with writing:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def update(**fields):
    send(method="session/update", params={"sessionId": "s1", "update": fields})


def text(said, kind="agent_message_chunk"):
    update(sessionUpdate=kind, content={"type": "text", "text": said})


def ask(call, options):
    state["asked"] += 1
    number = 1000 + state["asked"]
    answered = answers[number] = threading.Event()
    params = {"sessionId": "s1", "toolCall": call, "options": options}
    send(id=number, method="session/request_permission", params=params)
    answered.wait()
    return answered.outcome


def step(what, *args):
    if what == "text":
        text(args[0])
    elif what == "thought":
        text(args[0], "agent_thought_chunk")
    elif what == "update":
        update(**args[0])
    elif what == "ask":
        outcome = ask(args[0], args[1] if len(args) > 1 else OPTIONS)
        text(f"<{outcome.get('optionId') or outcome['outcome']}>")
    elif what == "ask aside":
        threading.Thread(target=ask, args=(args[0], OPTIONS), daemon=True).start()
    elif what == "request":
        state["asked"] += 1
        number = 1000 + state["asked"]
        answered = answers[number] = threading.Event()
        send(id=number, method=args[0], params=args[1])
        answered.wait()
        text(json.dumps(answered.message.get("error", {}).get("code")))
    elif what == "form":
        state["asked"] += 1
        number = 1000 + state["asked"]
        answered = answers[number] = threading.Event()
        send(id=number, method="elicitation/create", params={"sessionId": "s1", **args[0]})
        answered.wait()
        text(json.dumps(answered.message.get("result", answered.message.get("error"))))
    elif what == "prompt":
        text(json.dumps(state["prompt"]))
    elif what == "mode":
        text(state["mode"])
    elif what == "env":
        text(os.environ.get(args[0], "(none)"))
    elif what == "raw":
        with writing:
            sys.stdout.write(args[0] + "\n")
            sys.stdout.flush()
    elif what == "line":
        with writing:
            sys.stdout.write("x" * args[0])
            sys.stdout.flush()
    elif what == "stderr":
        sys.stderr.write(args[0])
        sys.stderr.flush()
    elif what == "many":
        for number in range(args[0]):
            text(f"{number} ")
    elif what == "run":
        # A tool with a session of its own, as agents start them.
        tool = subprocess.Popen(["bash", "-c", args[0]], start_new_session=True)
        text("running")
        while tool.poll() is None and not cancelled.is_set():
            time.sleep(0.01)
    elif what == "wait":
        cancelled.wait()
    elif what == "deaf":
        deaf.set()
    elif what == "sleep":
        time.sleep(1000)
    elif what == "exit":
        os._exit(args[0])


def prompt(message):
    cancelled.clear()
    state["prompt"] = [block["text"] for block in message["params"]["prompt"]]
    steps = json.loads(state["prompt"][-1])
    result = {"stopReason": "end_turn"}
    for one in steps:
        if one[0] == "stop":
            result = {"stopReason": one[1]}
        elif one[0] == "result":
            result = one[1]
        elif one[0] == "error":
            send(id=message["id"], error=one[1])
            return
        else:
            step(*one)
        if cancelled.is_set():
            result = {"stopReason": "cancelled"}
            break
    send(id=message["id"], result=result)


def request(message, behaviour):
    method, params = message["method"], message.get("params") or {}
    modes = {
        "currentModeId": "free",
        "availableModes": [{"id": "free", "name": "Free"}, {"id": "careful", "name": "Careful"}],
    }
    if method == "initialize":
        capabilities = {"loadSession": "loads" in behaviour}
        version = 99 if "future" in behaviour else 1
        return {"protocolVersion": version, "agentCapabilities": capabilities}
    if method == "session/new":
        return {"sessionId": "s1", **({"modes": modes} if "modes" in behaviour else {})}
    if method == "session/load":
        text("an old word")
        update(sessionUpdate="tool_call", toolCallId="old", title="old", status="completed")
        return {}
    if method == "session/set_mode":
        state["mode"] = params["modeId"]
        return {}
    return None


def misbehave(behaviour):
    if "garbage" in behaviour:
        while True:
            sys.stdout.write("I am no agent at all.\n")
    if "greeting" in behaviour:
        sys.stdout.write("Welcome!\n\n")
    if "dies" in behaviour:
        sys.stderr.write("Traceback\n  boom\nKeyError: 'the reason'\n")
        sys.exit(3)
    if "silent" in behaviour:
        sys.stderr.write("thinking about it\n")
        sys.stderr.flush()
        time.sleep(1000)


def main():
    behaviour = sys.argv[1:]
    misbehave(behaviour)
    for line in sys.stdin:
        message = json.loads(line)
        method = message.get("method")
        if method is None:
            answered = answers.pop(message["id"], None)
            if answered is not None:
                result = message.get("result") or {}
                answered.message = message
                answered.outcome = result.get("outcome", {"outcome": "refused"})
                answered.set()
        elif method == "session/cancel":
            if not deaf.is_set():
                cancelled.set()
        elif method == "session/prompt":
            threading.Thread(target=prompt, args=(message,), daemon=True).start()
        elif "login" in behaviour and method == "session/new":
            problem = {"code": -32000, "message": "Authentication required"}
            send(id=message["id"], error=problem)
        else:
            send(id=message["id"], result=request(message, behaviour))


if __name__ == "__main__":
    main()
