"use strict";

const STREAM_SHOWN = 15_000; // ms of a stream that the page shows

function cookie(name) {
  const found = document.cookie.split("; ").find((pair) => pair.startsWith(`${name}=`));
  return found === undefined ? null : decodeURIComponent(found.slice(name.length + 1));
}

/* Swagger UI waits for a response's end, and a watched loop has none: show what came so far. */
async function fetchStart(url, options) {
  const response = await fetch(url, options);
  const type = response.headers.get("Content-Type") || "";
  if (!type.startsWith("text/event-stream")) return response;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const timer = setTimeout(() => reader.cancel(), STREAM_SHOWN);
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    text += value;
  }
  clearTimeout(timer);
  return new Response(text, { status: response.status, headers: response.headers });
}

/* A browser session's request needs Jupyter's XSRF token; one with a Bearer token does not. */
function prepare(request) {
  const token = cookie("_xsrf");
  if (token !== null && new URL(request.url, location.href).origin === location.origin) {
    request.headers["X-XSRFToken"] = token;
  }
  request.userFetch = fetchStart;
  return request;
}

function followColorScheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
  dark.addEventListener("change", apply);
  apply();
}

followColorScheme();
document.getElementById("base").textContent = new URL(".", location.href).href.slice(0, -1);

SwaggerUIBundle({
  url: document.getElementById("document").href,
  dom_id: "#reference",
  requestInterceptor: prepare,
  persistAuthorization: false,
  validatorUrl: null,
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  defaultModelExpandDepth: 2,
  displayRequestDuration: true,
});
