/**
 * Combines abort signals. (`AbortSignal.any` is too new for browsers that Jupyter supports.)
 */

/**
 * A signal that aborts when one of `signals` does, or by its own `abort`. Call `dispose` when done:
 * it also aborts, so that everything that still uses the signal ends.
 * @param {...AbortSignal} signals
 * @returns {{signal: AbortSignal, abort: () => void, dispose: () => void}}
 */
export function abortAny(...signals) {
  const own = new AbortController();
  const abort = () => own.abort();
  for (const signal of signals) {
    signal.addEventListener("abort", abort);
    if (signal.aborted) abort();
  }
  const dispose = () => {
    for (const signal of signals) signal.removeEventListener("abort", abort);
    abort();
  };
  return { signal: own.signal, abort, dispose };
}
