/**
 * The Jupyter server's address and token, from the configuration in the page.
 *
 * JupyterLab and Notebook put their configuration into the page. Other front ends (VS Code, Colab)
 * have none, and then the page cannot reach a server. Only the page's own origin is accepted.
 */

/**
 * @typedef {{api: string, token: string}} ServerConfig  `api` ends in a slash
 * @param {Document} page
 * @returns {ServerConfig | null}
 */
export function readServerConfig(page) {
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
    return null; // an element of that id that is not Jupyter's
  }
}

/**
 * The headers that authenticate a request. Made anew for each, since the XSRF cookie may change.
 * @param {ServerConfig} server
 * @param {Document} page
 * @returns {Record<string, string>}
 */
export function authHeaders(server, page) {
  const xsrf = /(?:^|;\s*)_xsrf=([^;]*)/.exec(page.cookie)?.[1];
  return {
    ...(server.token ? { Authorization: `token ${server.token}` } : {}),
    ...(xsrf ? { "X-XSRFToken": xsrf } : {}),
  };
}
