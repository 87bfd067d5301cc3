/**
 * Abort signals put together. (`AbortSignal.any` is too new for browsers that Jupyter supports.)
 */

/**
 * A signal that aborts when one of `signals` does, or by its own `abort`. Call `unlink` when done:
 * it also aborts, so that whatever still hangs on it ends.
 * @param {...AbortSignal} signals
 * @returns {{signal: AbortSignal, abort: () => void, unlink: () => void}}
 */
export function linked(...signals) {
  const own = new AbortController();
  const abort = () => own.abort();
  for (const signal of signals) {
    signal.addEventListener("abort", abort);
    if (signal.aborted) abort();
  }
  const unlink = () => {
    for (const signal of signals) signal.removeEventListener("abort", abort);
    abort();
  };
  return { signal: own.signal, abort, unlink };
}
