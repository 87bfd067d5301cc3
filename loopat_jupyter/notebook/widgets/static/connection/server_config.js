/**
 * Where the Jupyter server is, seen from the page: the same origin, and nothing else.
 *
 * JupyterLab and Notebook put their configuration into the page. Other front ends (VS Code, Colab)
 * have none, and then there is no server to speak with from here.
 */

/**
 * @typedef {{api: string, token: string}} Address  `api` ends in a slash
 * @param {Document} page
 * @returns {Address | null}
 */
export function findServer(page) {
  const config = readConfig(page);
  if (config === null || typeof config.baseUrl !== "string") return null;
  const base = new URL(config.baseUrl.replace(/\/*$/, "/"), page.location.origin);
  if (base.origin !== page.location.origin) return null;
  return { api: new URL("loopat/api/v1/", base).href, token: String(config.token ?? "") };
}

function readConfig(page) {
  const element = page.getElementById("jupyter-config-data");
  if (element === null) return null;
  try {
    return JSON.parse(element.textContent ?? "");
  } catch {
    return null; // somebody else's element of that name
  }
}

/**
 * The headers that let a request of this page in. Read anew for each: cookies change.
 * @param {Address} address
 * @param {Document} page
 * @returns {Record<string, string>}
 */
export function credentials(address, page) {
  const xsrf = /(?:^|;\s*)_xsrf=([^;]*)/.exec(page.cookie)?.[1];
  return {
    ...(address.token ? { Authorization: `token ${address.token}` } : {}),
    ...(xsrf ? { "X-XSRFToken": xsrf } : {}),
  };
}
