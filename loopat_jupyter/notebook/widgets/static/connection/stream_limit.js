/**
 * Limits how many streams this page keeps open at once.
 *
 * A browser opens six connections to a server that speaks HTTP/1.1, for all its tabs together. A
 * page full of widgets would use them all, and Jupyter could not even save the notebook. So the
 * widgets of a page share a few leases: a waiting stream gets the lease of one that has had it long
 * enough, which then waits. A stream resumes from its cursor, so its events come later, but all.
 */

const MAX_STREAMS = 2;
const LEASE_TIME = 1_500; // ms for which a lease is kept while others wait

export class StreamLimit {
  #available;
  #leaseTime;
  #waiting = [];
  #leases = []; // oldest first
  #timer = null;

  /** @param {number} [size] streams @param {number} [leaseTime] ms */
  constructor(size = MAX_STREAMS, leaseTime = LEASE_TIME) {
    this.#available = size;
    this.#leaseTime = leaseTime;
  }

  /**
   * Wait for a lease.
   * @param {AbortSignal} signal ends the wait
   * @returns {Promise<{signal: AbortSignal, release: () => void} | null>} the lease: its `signal`
   *   aborts when it is revoked; call `release` in any case. Null when the wait was ended.
   */
  acquire(signal) {
    return new Promise((resolve) => {
      const waiter = { grant: (lease) => (unlisten(), resolve(lease)) };
      const giveUp = () => {
        this.#waiting = this.#waiting.filter((one) => one !== waiter);
        unlisten();
        resolve(null);
      };
      const unlisten = () => signal.removeEventListener("abort", giveUp);
      signal.addEventListener("abort", giveUp);
      this.#waiting.push(waiter);
      if (signal.aborted) giveUp();
      this.#grantWaiting();
    });
  }

  #grantWaiting() {
    while (this.#available > 0 && this.#waiting.length > 0) {
      this.#waiting.shift().grant(this.#lease());
    }
    if (this.#waiting.length > 0 && this.#leases.length > 0) this.#revokeOldest();
  }

  #lease() {
    this.#available -= 1;
    const stop = new AbortController();
    const release = () => this.#release(lease);
    const lease = { since: Date.now(), stop, signal: stop.signal, release };
    this.#leases.push(lease);
    return lease;
  }

  #release(lease) {
    if (!this.#leases.includes(lease)) return;
    this.#leases = this.#leases.filter((one) => one !== lease);
    this.#available += 1;
    this.#grantWaiting();
  }

  /** Revoke the oldest lease as soon as its time is over. */
  #revokeOldest() {
    clearTimeout(this.#timer);
    const oldest = this.#leases.find((lease) => !lease.signal.aborted);
    if (oldest === undefined) return;
    const left = Math.max(0, oldest.since + this.#leaseTime - Date.now());
    this.#timer = setTimeout(() => {
      if (this.#waiting.length > 0) oldest.stop.abort();
    }, left);
  }
}

/**
 * The page's only limit. It is a global, because every widget has its own copy of this module.
 * @returns {StreamLimit}
 */
export function streamLimitOfPage() {
  const name = Symbol.for("loopat.streamLimit.1");
  globalThis[name] ??= new StreamLimit();
  return globalThis[name];
}
