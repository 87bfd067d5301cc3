/**
 * The one place where untrusted text (of agents, tools and files) is made safe to display. No DOM.
 *
 * - `stripControls` for text to read: removes terminal escapes and control characters.
 * - `visibleSegments` for text that a person decides on (a command, an input, a path): removes
 *   nothing; a character that cannot be seen, or that reorders others, becomes a visible mark.
 * - `escapeHtml` for text within the HTML that the Markdown parser makes.
 */

// CSI, OSC (to BEL or ST), other string sequences (DCS, SOS, PM, APC), two-character escapes.
const TERMINAL =
  /(?:\u001b\[|\u009b)[0-?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b\u009c]*(?:\u0007|\u001b\\|\u009c)?|\u001b[PX^_][^\u001b\u009c]*(?:\u001b\\|\u009c)?|\u001b[ -/]*[0-~]?/g;
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g;

/** Bidirectional controls: embeddings, overrides, isolates and marks. */
const BIDI = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const OVERRIDE = /([\u202d\u202e])/; // with a group, so that `split` keeps them
const INCOMPLETE_ESCAPE = /(?:\u001b[^A-Za-z~\u001b]{0,200}|\r)$/;

// Invisible or blank: controls, format characters, default-ignorables, private use, special spaces,
// line separators, and letters without a glyph.
const INVISIBLE =
  /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Cn}\p{DI}\p{Zl}\p{Zp}\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000\u2800]/u;
const EMOJI_JOINTS = /(?<=\p{Extended_Pictographic}|\ufe0f|\p{EMod})[\u200d\ufe0f]/u;

/**
 * Text without terminal escapes and control characters; line ends are `\n`.
 * @param {string} text
 * @returns {string}
 */
export function stripControls(text) {
  return text.replace(TERMINAL, "").replace(/\r\n?/g, "\n").replace(CONTROLS, "");
}

/**
 * Text on one line, also without bidirectional controls: for a title or a summary among our text.
 * @param {string} text
 * @param {number} [limit] characters, after which it is cut with an ellipsis
 * @returns {string}
 */
export function oneLine(text, limit = 200) {
  const line = stripControls(text).replace(BIDI, "").replace(/\s+/g, " ").trim();
  return line.length > limit ? `${line.slice(0, limit - 1)}…` : line;
}

/**
 * @typedef {{text: string, mark: false} | {text: string, mark: true, title: string}} Segment
 *
 * Text in segments: visible text, and marks for characters that cannot be seen. Line feeds and tabs
 * count as visible. Nothing is left out.
 * @param {string} text
 * @returns {Segment[]}
 */
export function visibleSegments(text) {
  const found = [];
  let ordinary = "";
  let before = "";
  for (const character of text) {
    if (isVisible(character, before)) {
      ordinary += character;
    } else {
      if (ordinary) found.push({ text: ordinary, mark: false });
      ordinary = "";
      found.push(markFor(character));
    }
    before = character;
  }
  if (ordinary) found.push({ text: ordinary, mark: false });
  return found;
}

/** The number of characters of `text` that cannot be seen. @param {string} text */
export function countInvisible(text) {
  return visibleSegments(text).filter((segment) => segment.mark).length;
}

function isVisible(character, before) {
  if (character === "\n" || character === "\t" || character === " ") return true;
  if (!INVISIBLE.test(character)) return true;
  return EMOJI_JOINTS.test(before + character) && before !== "";
}

function markFor(character) {
  const code = character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return { text: NAMES[code] ?? `U+${code}`, mark: true, title: `an unseen character, U+${code}` };
}

const NAMES = {
  "0000": "NUL",
  "0007": "BEL",
  "0008": "BS",
  "000D": "CR",
  "001B": "ESC",
  "007F": "DEL",
  "00A0": "NBSP",
  "00AD": "SHY",
  "200B": "ZWSP",
  "200C": "ZWNJ",
  "200D": "ZWJ",
  "200E": "LRM",
  "200F": "RLM",
  "202A": "LRE",
  "202B": "RLE",
  "202C": "PDF",
  "202D": "LRO",
  "202E": "RLO",
  2028: "LS",
  2029: "PS",
  2066: "LRI",
  2067: "RLI",
  2068: "FSI",
  2069: "PDI",
  FEFF: "BOM",
};

const STRONG = /[\p{L}\p{N}]/u;
const RIGHT_TO_LEFT =
  /[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u;

/**
 * The direction of a text, by its first letter.
 * @param {string} text
 * @returns {"ltr" | "rtl"}
 */
export function direction(text) {
  const first = STRONG.exec(text.slice(0, 1000))?.[0] ?? "";
  return RIGHT_TO_LEFT.test(first) ? "rtl" : "ltr";
}

/** Text as HTML. @param {string} text @returns {string} */
export function escapeHtml(text) {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** Whether a text has a bidirectional override. @param {string} text */
export function hasOverride(text) {
  return OVERRIDE.test(text);
}

/** A text split at its overrides, which are the pieces of odd index. @param {string} text */
export function splitOverrides(text) {
  return text.split(OVERRIDE);
}

/**
 * A text that is still growing, without a terminal escape whose end is missing.
 * @param {string} text
 * @returns {{whole: string, open: string}} `open` is the unfinished escape, or empty
 */
export function splitIncompleteEscape(text) {
  const at = text.search(INCOMPLETE_ESCAPE);
  return at < 0 ? { whole: text, open: "" } : { whole: text.slice(0, at), open: text.slice(at) };
}

/**
 * Bytes of `text` in UTF-8.
 * @param {string} text
 * @returns {number}
 */
export function utf8Length(text) {
  return new TextEncoder().encode(text).length;
}
