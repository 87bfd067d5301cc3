"use strict";

function cookie(name) {
  const found = document.cookie.split("; ").find((pair) => pair.startsWith(`${name}=`));
  return found === undefined ? null : decodeURIComponent(found.slice(name.length + 1));
}

/* A browser session's request needs Jupyter's XSRF token; a Bearer request ignores it. */
function withXsrfToken(request) {
  const token = cookie("_xsrf");
  if (token !== null && new URL(request.url, location.href).origin === location.origin) {
    request.headers["X-XSRFToken"] = token;
  }
  return request;
}

SwaggerUIBundle({
  url: new URL("openapi.json", location.href).href,
  dom_id: "#reference",
  requestInterceptor: withXsrfToken,
  persistAuthorization: false,
  validatorUrl: null,
});
