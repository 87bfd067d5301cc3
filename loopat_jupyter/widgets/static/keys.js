/**
 * Whose a key is, while the focus is in one of our widgets: ours, except for saving the notebook.
 *
 * Jupyter's shortcuts would run the cell on Shift+Enter, edit it on the Enter that presses a
 * button, and undo in it on Ctrl+Z. JupyterLab listens for them on the way up, where they can be
 * stopped. Notebook 7 listens on the way down, before any listener of ours; it leaves alone what is
 * below an element with this attribute, and looks at it anew for each key.
 */
const SUPPRESSES = "data-lm-suppress-shortcuts";

/** @param {HTMLElement} element the widget's root */
export function keepKeys(element) {
  const judge = (event) => {
    if (!element.isConnected) window.removeEventListener("keydown", judge, true);
    element.toggleAttribute(SUPPRESSES, !saves(event));
  };
  element.setAttribute(SUPPRESSES, "");
  element.addEventListener("keydown", (event) => {
    if (!saves(event)) event.stopPropagation();
  });
  element.addEventListener("focusin", () => window.addEventListener("keydown", judge, true));
  element.addEventListener("focusout", () => window.removeEventListener("keydown", judge, true));
}

function saves(event) {
  return (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s";
}
