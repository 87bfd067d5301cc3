import assert from "node:assert/strict";
import { test } from "node:test";

import {
  countInvisible,
  direction,
  oneLine,
  stripControls,
  visibleSegments,
} from "../../../loopat_jupyter/notebook/widgets/static/dom/text_sanitizer.js";

const shown = (text) =>
  visibleSegments(text)
    .map((segment) => (segment.mark ? `⟨${segment.text}⟩` : segment.text))
    .join("");

test("terminal escapes go away, whatever their kind", () => {
  assert.equal(stripControls("\u001b[1;31mred\u001b[0m"), "red");
  assert.equal(stripControls("\u001b]0;title\u0007text"), "text");
  assert.equal(stripControls("\u001b]8;;https://a.example\u001b\\link\u001b]8;;\u001b\\"), "link");
  assert.equal(stripControls("\u001bP1$r0m\u001b\\x\u009b2Jy\u001b(Bz"), "xyz");
  assert.equal(stripControls("cut off \u001b["), "cut off ");
});

test("control characters go away and lines keep their ends", () => {
  assert.equal(stripControls("a\u0000b\u0007c\td\r\ne\rf\n"), "abc\td\ne\nf\n");
});

test("what a person judges loses nothing, and what is unseen gets a mark", () => {
  assert.equal(shown("rm -rf \u202efdp.x"), "rm -rf ⟨RLO⟩fdp.x");
  assert.equal(shown("a\u200bb\u00a0c\ufeffd"), "a⟨ZWSP⟩b⟨NBSP⟩c⟨BOM⟩d");
  assert.equal(shown("echo \u001b[8mhidden"), "echo ⟨ESC⟩[8mhidden");
  assert.equal(shown("a\rb"), "a⟨CR⟩b");
  assert.equal(shown("x\u3164y\u2800z\u{e0041}"), "x⟨U+3164⟩y⟨U+2800⟩z⟨U+E0041⟩");
});

test("ordinary text of any language is ordinary", () => {
  for (const text of ["ls -la\n\tx", "schöne Grüße", "日本語", "שלום", "مرحبا", "👩‍💻 ✔️ 👍🏽"]) {
    assert.equal(countInvisible(text), 0, JSON.stringify(text));
    assert.equal(shown(text), text);
  }
});

test("joining marks and text again gives the text", () => {
  const text = "a\u202eb\u200bc\nd";
  const back = visibleSegments(text)
    .map((one) =>
      one.mark ? String.fromCodePoint(parseInt(one.title.split("U+")[1], 16)) : one.text,
    )
    .join("");
  assert.equal(back, text);
});

test("a line among ours is one line, bounded, and turns nothing around", () => {
  assert.equal(oneLine("a\n  b\u202ec\u0007"), "a bc");
  assert.equal(oneLine("x".repeat(300)).length, 200);
});

test("a text runs the way its first letter does", () => {
  assert.equal(direction("  - שלום world"), "rtl");
  assert.equal(direction("hello שלום"), "ltr");
  assert.equal(direction(""), "ltr");
});
