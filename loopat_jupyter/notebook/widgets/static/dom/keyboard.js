/**
 * Keys that are pressed in a widget are the widget's.
 *
 * A notebook has shortcuts on plain keys: Shift+Enter runs the cell, arrows change cells, letters
 * delete them. It listens at the document, in Notebook 7 before the element that has the focus
 * hears of it. So keys are taken at the window, the first of all. What a key does by itself (type,
 * undo, press a button, change a radio button) it still does. Saving, Tab and Escape stay the
 * notebook's.
 */

/**
 * @param {HTMLElement} root
 * @param {(event: KeyboardEvent) => void} [take] sees each key that is kept
 * @returns {() => void} gives the keys back
 */
export function keepKeys(root, take = () => undefined) {
  const listener = (event) => {
    if (saves(event) || ["Tab", "Escape"].includes(event.key)) return;
    if (!(event.target instanceof Node) || !root.contains(event.target)) return;
    take(event);
    event.stopPropagation();
  };
  window.addEventListener("keydown", listener, true);
  return () => window.removeEventListener("keydown", listener, true);
}

function saves(event) {
  return (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s";
}
