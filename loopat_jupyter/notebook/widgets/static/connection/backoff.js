/**
 * Exponential backoff with jitter, up to a limit.
 */
const FIRST_DELAY = 400;
const MAX_DELAY = 15_000;

export class Backoff {
  failures = 0;

  /** @param {() => number} [random] from 0 to 1 */
  constructor(random = Math.random) {
    this.random = random;
  }

  /** Begin again with the shortest delay, after a success. */
  reset() {
    this.failures = 0;
  }

  /**
   * Milliseconds to wait after one more failure.
   * @param {number} [retryAfter] seconds that the server asked for
   */
  next(retryAfter) {
    const ceiling = Math.min(MAX_DELAY, FIRST_DELAY * 2 ** this.failures);
    this.failures += 1;
    const own = ceiling * (0.5 + this.random() / 2);
    return Math.max(own, (retryAfter ?? 0) * 1000);
  }
}

/**
 * Wait until the time is over, `signal` aborts, or the browser is online again.
 * @param {number} ms
 * @param {AbortSignal} signal
 */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const finish = () => {
      clearTimeout(timer);
      globalThis.removeEventListener?.("online", finish);
      signal.removeEventListener("abort", finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    globalThis.addEventListener?.("online", finish);
    signal.addEventListener("abort", finish);
    if (signal.aborted) finish();
  });
}
