/**
 * How many streams this page may hold open at once.
 *
 * A browser opens six connections to a server that speaks HTTP/1.1, for all its tabs together. A
 * page full of widgets would take them all, and Jupyter could not even save the notebook. So the
 * widgets of a page share a few: who waits gets the place of who has had one long enough, and
 * that one waits in turn. A stream resumes from its cursor, so nothing is missed, only later.
 */

const SIZE = 2;
const TURN = 1_500; // ms that a place may be kept while others wait

export class Slots {
  #free;
  #turn;
  #waiting = [];
  #leases = []; // oldest first
  #timer = null;

  /** @param {number} [size] @param {number} [turn] ms */
  constructor(size = SIZE, turn = TURN) {
    this.#free = size;
    this.#turn = turn;
  }

  /**
   * Wait for a place.
   * @param {AbortSignal} signal gives up waiting
   * @returns {Promise<{signal: AbortSignal, free: () => void} | null>} `signal` aborts when it is
   *   somebody else's turn; call `free` in any case. Null when given up.
   */
  take(signal) {
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
      this.#settle();
    });
  }

  #settle() {
    while (this.#free > 0 && this.#waiting.length > 0) {
      this.#waiting.shift().grant(this.#lease());
    }
    if (this.#waiting.length > 0 && this.#leases.length > 0) this.#rotate();
  }

  #lease() {
    this.#free -= 1;
    const stop = new AbortController();
    const lease = { since: Date.now(), stop, signal: stop.signal, free: () => this.#end(lease) };
    this.#leases.push(lease);
    return lease;
  }

  #end(lease) {
    if (!this.#leases.includes(lease)) return;
    this.#leases = this.#leases.filter((one) => one !== lease);
    this.#free += 1;
    this.#settle();
  }

  /** Ask the longest holder to make room as soon as it has had its turn. */
  #rotate() {
    clearTimeout(this.#timer);
    const oldest = this.#leases.find((lease) => !lease.signal.aborted);
    if (oldest === undefined) return;
    const left = Math.max(0, oldest.since + this.#turn - Date.now());
    this.#timer = setTimeout(() => {
      if (this.#waiting.length > 0) oldest.stop.abort();
    }, left);
  }
}

/** The one of this page: every widget brings its own copy of this module. @returns {Slots} */
export function slotsOfPage() {
  const name = Symbol.for("loopat.slots.1");
  globalThis[name] ??= new Slots();
  return globalThis[name];
}
