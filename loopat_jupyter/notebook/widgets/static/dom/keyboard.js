/**
 * Captures keys that are pressed in a widget before the notebook's shortcuts see them.
 *
 * A notebook has shortcuts on plain keys: Shift+Enter runs the cell, arrows change cells, letters
 * delete them. It listens at the document, in Notebook 7 in the capture phase. So this listens at
 * the window in the capture phase, which comes first, and stops the event. The browser's default
 * action (typing, undo, pressing a button) still happens. Saving, Tab and Escape are left to the
 * notebook.
 */

/**
 * @param {HTMLElement} root
 * @param {(event: KeyboardEvent) => void} [onKey] called for each captured key
 * @returns {() => void} removes the listener
 */
export function captureKeys(root, onKey = () => undefined) {
  const listener = (event) => {
    if (isSaveShortcut(event) || ["Tab", "Escape"].includes(event.key)) return;
    if (!(event.target instanceof Node) || !root.contains(event.target)) return;
    onKey(event);
    event.stopPropagation();
  };
  window.addEventListener("keydown", listener, true);
  return () => window.removeEventListener("keydown", listener, true);
}

function isSaveShortcut(event) {
  return (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s";
}
