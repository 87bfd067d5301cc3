/**
 * Whether somebody can see the page: a tab in the background needs no connection for long.
 */
const DROWSY = 20_000; // ms out of sight after which a connection is given up

export class Sight {
  /** @param {Document} page */
  constructor(page) {
    this.page = page;
  }

  /** Wait until the page is seen. @param {AbortSignal} signal gives up */
  seen(signal) {
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

  /** Call `lost` once nobody has seen the page for a while. @returns {() => void} stops that */
  whenLost(lost) {
    let timer;
    const look = () => {
      clearTimeout(timer);
      if (this.page.hidden) timer = setTimeout(lost, DROWSY);
    };
    this.page.addEventListener("visibilitychange", look);
    look();
    return () => {
      clearTimeout(timer);
      this.page.removeEventListener("visibilitychange", look);
    };
  }
}
