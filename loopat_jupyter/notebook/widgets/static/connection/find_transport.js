/**
 * Which way to the loop: straight to the page's own server where the loop is there, else through
 * the kernel, else a sentence that says why not.
 */
import { findServer } from "./server_config.js";
import { DirectPort } from "./http_transport.js";
import { KernelPort } from "./kernel_transport.js";
import { Refusal } from "./api_error.js";

/**
 * @param {object} model the widget's model
 * @param {string} loopId
 * @param {Document} page
 * @returns {Promise<{port: import("./http_transport.js").Port, loop: object}>}
 * @throws {Refusal} neither way leads there; `passing` when it is worth trying again
 */
export async function findPort(model, loopId, page) {
  const address = findServer(page);
  let refused = null;
  if (address !== null) {
    const direct = new DirectPort(address, loopId, page);
    try {
      return { port: direct, loop: await direct.loop() };
    } catch (error) {
      if (!(error instanceof Refusal) || error.passing) throw error;
      refused = error;
    }
  }
  return throughKernel(model, refused);
}

async function throughKernel(model, refused) {
  const port = new KernelPort(model);
  try {
    return { port, loop: await port.loop() };
  } catch (error) {
    port.close();
    if (error.code !== "no_kernel") throw error;
    throw new Refusal(refused?.code ?? "no_kernel", neither(refused), { status: refused?.status });
  }
}

function neither(refused) {
  if (refused === null) {
    return (
      "This page has no Jupyter server with loopat, and the notebook's kernel does not answer. " +
      "Start the kernel and run the cell again."
    );
  }
  const here = {
    loop_not_found: "This Jupyter server has no such loop",
    not_loop_owner: "This loop belongs to somebody else",
    not_here: "The loopat extension does not answer in this Jupyter server",
  };
  const reason = here[refused.code] ?? refused.message.replace(/\.$/, "");
  return `${reason}, and the notebook's kernel does not answer. Run the cell again.`;
}
