import assert from "node:assert/strict";
import { test } from "node:test";

import {
  Transcript,
  pendingChoice,
  visibleText,
} from "../../../loopat_jupyter/notebook/widgets/static/state/transcript.js";

let seq = 0;
const event = (name, data, turn = "turn_1") => ({
  name,
  data: { ...data, turn_id: turn },
  seq: (seq += 1),
});
const made = (...events) => {
  const transcript = new Transcript();
  for (const one of events) transcript.apply(one, 1000);
  return transcript;
};
const started = (content, turn) => event("started", { content, cold_start: false }, turn);
const CHOICE = { choice_id: "choice_1", kind: "permission", payload: { tool: "Bash" } };

test("a turn is made of its parts in their order", () => {
  const transcript = made(
    started("go"),
    event("thinking_delta", { text: "hm" }),
    event("thinking_delta", { text: "m" }),
    event("assistant_delta", { text: "I " }),
    event("assistant_delta", { text: "run." }),
    event("tool_call", { tool_use_id: "t1", tool: "Bash", input_summary: "ls" }),
    event("tool_result", { tool_use_id: "t1", ok: false }),
    event("assistant_delta", { text: "Failed." }),
    event("done", { usage: { input_tokens: 1 } }),
  );
  const turn = transcript.turns.get("turn_1");
  assert.deepEqual(
    turn.parts.map((part) => [part.kind, part.text ?? part.ok]),
    [
      ["thinking", "hmm"],
      ["text", "I run."],
      ["tool", false],
      ["text", "Failed."],
    ],
  );
  assert.deepEqual([turn.content, turn.state, turn.usage], ["go", "done", { input_tokens: 1 }]);
  assert.equal(visibleText(turn), "I run.Failed.");
  assert.equal(transcript.current, null);
});

test("an event that came before changes nothing", () => {
  const transcript = made(started("go"), event("assistant_delta", { text: "once" }));
  const again = { name: "assistant_delta", data: { text: "once", turn_id: "turn_1" }, seq };
  assert.equal(transcript.apply(again), false);
  assert.equal(visibleText(transcript.turns.get("turn_1")), "once");
});

test("a choice is pending until it is resolved, by whomever", () => {
  const transcript = made(started("go"), event("requires_choice", CHOICE));
  const turn = transcript.turns.get("turn_1");
  assert.equal(turn.state, "waiting");
  assert.equal(pendingChoice(turn).request.choice_id, "choice_1");
  const resolved = { choice_id: "choice_1", source: "api", outcome: "denied" };
  transcript.apply(event("choice_resolved", resolved));
  assert.equal(turn.state, "running");
  assert.equal(pendingChoice(turn), null);
  assert.equal(turn.parts[0].resolved.outcome, "denied");
});

test("a snapshot begins a turn of which nothing else is known, and never doubles it", () => {
  const snapshot = (turn, text) => ({
    name: "snapshot",
    data: { turn_id: turn, assistant_text_so_far: text, choice: CHOICE },
    seq: null,
  });
  const transcript = made(snapshot("turn_9", "so far"));
  transcript.apply(snapshot("turn_9", "so far and more"));
  const turn = transcript.turns.get("turn_9");
  assert.deepEqual([visibleText(turn), turn.state], ["so far", "waiting"]);
  transcript.apply({ name: "assistant_delta", data: { turn_id: "turn_9", text: "!" }, seq: 40 });
  assert.equal(visibleText(turn), "so far!");
});

test("turns keep the order in which they began, and the oldest can be left out", () => {
  const transcript = made(started("a", "turn_1"), started("b", "turn_2"), started("c", "turn_3"));
  assert.deepEqual(transcript.dropOldest(2), ["turn_1"]);
  assert.deepEqual([...transcript.turns.keys()], ["turn_2", "turn_3"]);
});

test("what is of a connection alone, or unknown, makes no turn", () => {
  const transcript = made({ name: "ping", data: {}, seq: null }, event("from_the_future", {}));
  assert.equal(transcript.turns.size, 0);
  assert.equal(transcript.cursor, seq);
});

test("an end says how long the turn took only where both ends were seen", () => {
  const transcript = new Transcript();
  transcript.apply(started("old"), null);
  transcript.apply(event("error", { code: "agent_error", message: "no" }), null);
  const { startedAt, endedAt, error } = transcript.turns.get("turn_1");
  assert.deepEqual([startedAt, endedAt, error.code], [null, null, "agent_error"]);
});
