"""A stand-in for the CLI that misbehaves; run inside the sandbox as ``bad_cli.py MODE …``."""

import json
import sys
import time


def say(**message):
    sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def until_asked(subtype):
    for line in sys.stdin:
        message = json.loads(line)
        if message.get("type") == subtype:
            return message
    sys.exit(0)


def initialize():
    asked = until_asked("control_request")
    answer = {"hook_on_failure_supported": True, "hooks_applied": True}
    response = {"subtype": "success", "request_id": asked["request_id"], "response": answer}
    say(type="control_response", response=response)


mode = sys.argv[1]
if mode == "old":
    sys.exit("error: unknown option '--await-initialize'")
if mode == "silent":
    time.sleep(1000)
initialize()
until_asked("user")
if mode == "garbage":
    while True:
        print("<html>502 Bad Gateway</html>", flush=True)
if mode == "line":
    while True:
        sys.stdout.write("x" * 65536)
if mode == "flood":
    while True:
        say(type="noise", text="x" * 100)
if mode == "shapes":
    say(type="stream_event", event={"type": "message_start", "message": 5})
    time.sleep(1000)
if mode == "dies":
    start = {"type": "message_start", "message": {"id": "m"}}
    say(type="stream_event", event=start)
    delta = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "half"}}
    say(type="stream_event", event=delta)
    sys.exit("Segmentation fault, they say")
if mode in ("mute", "deaf"):
    if mode == "deaf":
        start = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}}
        say(type="stream_event", event=start)
    time.sleep(1000)
