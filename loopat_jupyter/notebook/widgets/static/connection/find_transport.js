/**
 * Chooses the transport to a loop: HTTP to the page's own server where the loop is there, else the
 * kernel. Where neither works, the error says why.
 */
import { readServerConfig } from "./server_config.js";
import { HttpTransport } from "./http_transport.js";
import { KernelTransport } from "./kernel_transport.js";
import { ApiError } from "./api_error.js";

/**
 * @param {object} model the widget's model
 * @param {string} loopId
 * @param {Document} page
 * @returns {Promise<{transport: import("./http_transport.js").LoopTransport, loop: object}>}
 * @throws {ApiError} no transport works; `retryable` when it is worth trying again
 */
export async function findTransport(model, loopId, page) {
  const server = readServerConfig(page);
  let serverError = null;
  if (server !== null) {
    const http = new HttpTransport(server, loopId, page);
    try {
      return { transport: http, loop: await http.loop() };
    } catch (error) {
      if (!(error instanceof ApiError) || error.retryable) throw error;
      serverError = error;
    }
  }
  return findKernelTransport(model, serverError);
}

async function findKernelTransport(model, serverError) {
  const transport = new KernelTransport(model);
  try {
    return { transport, loop: await transport.loop() };
  } catch (error) {
    transport.close();
    if (error.code !== "no_kernel") throw error;
    const code = serverError?.code ?? "no_kernel";
    throw new ApiError(code, noTransportMessage(serverError), { status: serverError?.status });
  }
}

function noTransportMessage(serverError) {
  if (serverError === null) {
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
  const reason = here[serverError.code] ?? serverError.message.replace(/\.$/, "");
  return `${reason}, and the notebook's kernel does not answer. Run the cell again.`;
}
