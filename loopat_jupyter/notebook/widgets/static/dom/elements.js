/**
 * Creating DOM nodes. Text is inserted as text: nothing in these sources writes HTML.
 */

/**
 * An element. Properties: `class`, `data` (data attributes), `on` (listeners); names with a dash
 * and `role`, `for`, `dir` are attributes; everything else is a property of the element.
 * @param {string} tag
 * @param {object | null} [properties]
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {HTMLElement}
 */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) setProperty(element, name, value);
  element.append(
    ...children.filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

function setProperty(element, name, value) {
  if (value === undefined || value === null) return;
  if (name === "class") element.className = value;
  else if (name === "data") Object.assign(element.dataset, value);
  else if (name === "on") {
    for (const [event, listener] of Object.entries(value))
      element.addEventListener(event, listener);
  } else if (name.includes("-") || name === "role" || name === "for" || name === "dir") {
    element.setAttribute(name, value);
  } else {
    element[name] = value;
  }
}

/** Set text only where it differs, so that no layout or announcement happens without a change. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Untrusted text in an element of its own, so that it cannot reorder the text beside it. */
export function isolated(text, properties = {}) {
  return h("bdi", { dir: "auto", ...properties }, text);
}

const SVG = "http://www.w3.org/2000/svg";

/** A 16 × 16 icon of one path, drawn in the colour of the text. @param {string} path */
export function icon(path) {
  const svg = document.createElementNS(SVG, "svg");
  const drawn = document.createElementNS(SVG, "path");
  for (const [name, value] of Object.entries({ viewBox: "0 0 16 16", width: "16", height: "16" })) {
    svg.setAttribute(name, value);
  }
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "loopat-icon");
  drawn.setAttribute("d", path);
  svg.append(drawn);
  return svg;
}

/** An id that no other element of the page has. */
let counter = 0;
export function uniqueId(stem) {
  counter += 1;
  return `loopat-${stem}-${Date.now().toString(36)}${Math.floor(Math.random() * 1e6)}-${counter}`;
}
