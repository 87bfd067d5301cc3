/**
 * Whether the page is visible: a tab in the background gives its connection up after a while.
 */
const HIDDEN_LIMIT = 20_000; // ms hidden after which a connection is given up

export class PageVisibility {
  /** @param {Document} page */
  constructor(page) {
    this.page = page;
  }

  /** Wait until the page is visible. @param {AbortSignal} signal ends the wait */
  whenVisible(signal) {
    return new Promise((resolve) => {
      const look = () => {
        if (this.page.hidden && !signal.aborted) return;
        this.page.removeEventListener("visibilitychange", look);
        signal.removeEventListener("abort", look);
        resolve();
      };
      this.page.addEventListener("visibilitychange", look);
      signal.addEventListener("abort", look);
      look();
    });
  }

  /** Call `callback` once the page was hidden for a while. @returns {() => void} stops watching */
  onHiddenTooLong(callback) {
    let timer;
    const look = () => {
      clearTimeout(timer);
      if (this.page.hidden) timer = setTimeout(callback, HIDDEN_LIMIT);
    };
    this.page.addEventListener("visibilitychange", look);
    look();
    return () => {
      clearTimeout(timer);
      this.page.removeEventListener("visibilitychange", look);
    };
  }
}
