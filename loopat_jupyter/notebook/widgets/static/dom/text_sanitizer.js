/**
 * Text that others wrote: what may be shown of it, and how. Pure.
 *
 * Agents, tools and files are not trusted. Two treatments:
 * - `plain` for text that is read: terminal escapes and control characters go away.
 * - `segments` for text that a person must judge (a command, an input, a path): nothing goes away,
 *   and whatever could not be seen, or would turn the order of what can, gets a visible mark.
 */

// CSI, OSC (to BEL or ST), other string sequences (DCS, SOS, PM, APC), two-character escapes.
const TERMINAL =
  /(?:\u001b\[|\u009b)[0-?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b\u009c]*(?:\u0007|\u001b\\|\u009c)?|\u001b[PX^_][^\u001b\u009c]*(?:\u001b\\|\u009c)?|\u001b[ -/]*[0-~]?/g;
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g;

/** Bidirectional controls: embeddings, overrides, isolates and marks. */
const BIDI = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

// Invisible or blank: controls, format characters, default-ignorables, private use, odd spaces,
// line separators, and letters that look like nothing.
const UNSEEN =
  /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Cn}\p{DI}\p{Zl}\p{Zp}\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000\u2800]/u;
const EMOJI_JOINTS = /(?<=\p{Extended_Pictographic}|\ufe0f|\p{EMod})[\u200d\ufe0f]/u;

/**
 * Text without terminal escapes and control characters; line ends are `\n`.
 * @param {string} text
 * @returns {string}
 */
export function plain(text) {
  return text.replace(TERMINAL, "").replace(/\r\n?/g, "\n").replace(CONTROLS, "");
}

/**
 * `plain` text without bidirectional controls: for a line among ours (a title, a summary).
 * @param {string} text
 * @param {number} [limit] characters, after which it is cut with an ellipsis
 * @returns {string}
 */
export function oneLine(text, limit = 200) {
  const line = plain(text).replace(BIDI, "").replace(/\s+/g, " ").trim();
  return line.length > limit ? `${line.slice(0, limit - 1)}…` : line;
}

/**
 * @typedef {{text: string, mark: false} | {text: string, mark: true, title: string}} Segment
 *
 * Text to be judged, in pieces: ordinary ones, and marks that stand for a character which would
 * not be seen. Line feeds and tabs are ordinary. Nothing is left out.
 * @param {string} text
 * @returns {Segment[]}
 */
export function segments(text) {
  const found = [];
  let ordinary = "";
  let before = "";
  for (const character of text) {
    if (isSeen(character, before)) {
      ordinary += character;
    } else {
      if (ordinary) found.push({ text: ordinary, mark: false });
      ordinary = "";
      found.push(marked(character));
    }
    before = character;
  }
  if (ordinary) found.push({ text: ordinary, mark: false });
  return found;
}

/** How many characters of `text` would not be seen. @param {string} text */
export function countUnseen(text) {
  return segments(text).filter((segment) => segment.mark).length;
}

function isSeen(character, before) {
  if (character === "\n" || character === "\t" || character === " ") return true;
  if (!UNSEEN.test(character)) return true;
  return EMOJI_JOINTS.test(before + character) && before !== "";
}

function marked(character) {
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
 * Which way a text runs, by its first letter.
 * @param {string} text
 * @returns {"ltr" | "rtl"}
 */
export function direction(text) {
  const first = STRONG.exec(text.slice(0, 1000))?.[0] ?? "";
  return RIGHT_TO_LEFT.test(first) ? "rtl" : "ltr";
}

/**
 * Bytes of `text` in UTF-8.
 * @param {string} text
 * @returns {number}
 */
export function utf8Length(text) {
  return new TextEncoder().encode(text).length;
}
