"""The HTTP side of a provider: its address, the client that asks it, and what the environment adds.

One pooled client for each provider, with HTTP/1.1 and streaming. A proxy of the server's
environment (``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY``, ``NO_PROXY``; SOCKS too) is honoured,
and never used for this machine itself. Certificates are those that the system trusts, and those of
a file or folder that ``SSL_CERT_FILE``, ``REQUESTS_CA_BUNDLE`` or ``SSL_CERT_DIR`` names.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from ...context.config_file import SelectedModel
from ...loops.errors import ConfigError

ANTHROPIC_URL = "https://api.anthropic.com"
OPENAI_URL = "https://api.openai.com/v1"

CONNECT_TIMEOUT = 10.0
SILENCE_TIMEOUT = 600.0
"""Seconds without a byte. Local servers think for minutes before the first one."""
CA_FILES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
CA_FOLDER = "SSL_CERT_DIR"
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


def base_url(choice: SelectedModel) -> str:
    """Where the choice's requests go: the configured address, else its API's own."""
    default = ANTHROPIC_URL if choice.api == "anthropic" else OPENAI_URL
    return (choice.base_url or default).rstrip("/")


def shown_address(url: str) -> str:
    """``url`` as it may be said: without user, password, query and fragment."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    netloc = f"{host}:{parts.port}" if parts.port else host
    return urlunsplit((parts.scheme, netloc, parts.path, "", ""))


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine itself, by name or number."""
    host = host.strip("[]").lower().rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or bool(mapped and mapped.is_loopback)


def proxy_for(url: str) -> str | None:
    """The proxy on the way to ``url``, by the server's environment.

    Raises:
        ConfigError: it is of a kind that nothing here can speak; names the variable's scheme.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host):
        return None
    proxies = getproxies()
    named = proxies.get(parts.scheme) or proxies.get("all")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if not named or proxy_bypass(host) or proxy_bypass(f"{host}:{port}"):
        return None
    named = named if "://" in named else f"http://{named}"
    scheme = urlsplit(named).scheme.lower()
    if scheme not in PROXY_SCHEMES:
        raise ConfigError(
            f"The server's environment names a proxy of the kind {scheme}://, which is not known. "
            f"Use one of {', '.join(f'{one}://' for one in PROXY_SCHEMES)}, or put the provider's "
            "host into NO_PROXY."
        )
    return named


def tls_context(environ: Mapping[str, str] | None = None) -> ssl.SSLContext:
    """The certificates that connections of the server trust. Reads files: call it off the event
    loop.

    Raises:
        ConfigError: a variable names a file or folder that cannot be used.
    """
    environ = os.environ if environ is None else environ
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    _load_system(context)
    for name in CA_FILES:
        if environ.get(name):
            _load(context, name, environ[name])
    for folder in environ.get(CA_FOLDER, "").split(os.pathsep):
        if folder and Path(folder).is_dir():
            context.load_verify_locations(capath=folder)
    return context


def _load_system(context: ssl.SSLContext) -> None:
    """The system's own store; where Python finds none, the bundle of certifi."""
    paths = ssl.get_default_verify_paths()
    file, folder = paths.openssl_cafile, paths.openssl_capath
    known = [one for one in (file,) if one and Path(one).is_file()]
    for one in known:
        context.load_verify_locations(cafile=one)
    if folder and Path(folder).is_dir():
        context.load_verify_locations(capath=folder)
    try:
        import certifi
    except ImportError:
        return
    if not known:
        context.load_verify_locations(cafile=certifi.where())


def _load(context: ssl.SSLContext, variable: str, path: str) -> None:
    try:
        if Path(path).is_dir():
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as error:
        reason = (
            "does not exist" if isinstance(error, FileNotFoundError) else "holds no certificates"
        )
        raise ConfigError(
            f"{variable} of the server's environment names {path}, which {reason}. Correct it or "
            "unset it, and start the server again."
        ) from None


def open_http_client(url: str) -> httpx2.AsyncClient:
    """A client with its own pool for the provider at ``url``. Reads files: call it off the event
    loop.

    Raises:
        ConfigError: the environment's proxy or certificates cannot be used.
    """
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(SILENCE_TIMEOUT, connect=CONNECT_TIMEOUT),
        limits=httpx2.Limits(max_connections=1000, max_keepalive_connections=100),
        verify=tls_context(),
        proxy=proxy_for(url),
        trust_env=False,
    )
