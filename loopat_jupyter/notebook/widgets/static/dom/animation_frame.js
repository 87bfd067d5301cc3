/**
 * Work that is done at most once a frame, however often it is asked for.
 */

/**
 * @param {() => boolean | void} work returns true when it wants to be called again
 * @returns {{ask: () => void, stop: () => void}}
 */
export function onceAFrame(work) {
  let handle = null;
  const run = () => {
    handle = null;
    if (work() === true) ask();
  };
  const ask = () => {
    handle ??= requestAnimationFrame(run);
  };
  const stop = () => {
    if (handle !== null) cancelAnimationFrame(handle);
    handle = null;
  };
  return { ask, stop };
}
