/**
 * Work that is done at most once per animation frame, however often it is requested.
 */

/**
 * @param {() => boolean | void} work returns true when it wants to be called again
 * @returns {{request: () => void, cancel: () => void}}
 */
export function oncePerFrame(work) {
  let handle = null;
  const run = () => {
    handle = null;
    if (work() === true) request();
  };
  const request = () => {
    handle ??= requestAnimationFrame(run);
  };
  const cancel = () => {
    if (handle !== null) cancelAnimationFrame(handle);
    handle = null;
  };
  return { request, cancel };
}
