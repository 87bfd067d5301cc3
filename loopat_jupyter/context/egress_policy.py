"""Which destinations a loop's profiles allow: ``profiles/<name>/network.json``.

``{"allow": ["example.org", "*.example.org:8443", "python-packages"]}``: hosts, with or without
port (without: 80 and 443), names below a domain, and *presets*, whose names have no dot. Presets
for package registries follow this machine's own configuration of pip and npm, so that a mirror
that was set there is what the sandbox gets. Nothing is allowed by default, and a file that is
broken allows nothing: the turn fails, and says where.
"""

from __future__ import annotations

import configparser
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..loops.destinations import (
    HTTP_PORT,
    HTTPS_PORT,
    BadDestination,
    Pattern,
    parse_pattern,
)
from ..loops.errors import ConfigError
from ..loops.ports.network import Egress

FILE = "network.json"
FILE_LIMIT = 256 * 1024
GIT_HOSTS = ("github.com", "*.githubusercontent.com", "gitlab.com", "bitbucket.org", "codeberg.org")
PIP_FILES = (
    "/etc/xdg/pip/pip.conf", "/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf",
    f"{sys.prefix}/pip.conf",
)  # fmt: skip
NPM_FILES = ("/etc/npmrc", "~/.npmrc")

Presets = Callable[[], Mapping[str, Sequence[str]]]


def loop_egress(home: Path, profiles: Iterable[str], presets: Presets) -> Egress:
    """What the loop with these profiles may reach; ``presets`` reads the administrator's own.

    Does file I/O. Raises ``ConfigError`` that names the file.
    """
    found: dict[Pattern, None] = {}
    for name in profiles:
        where = f"profiles/{name}/{FILE}"
        for entry in _entries(home / "profiles" / name / FILE, where):
            found.update(dict.fromkeys(_patterns(entry, where, presets)))
    return Egress(tuple(found))


def _entries(path: Path, where: str) -> list[str]:
    try:
        with path.open("rb") as file:
            content: Any = json.loads(file.read(FILE_LIMIT))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{where}, line {error.lineno}: it is not valid JSON: {error.msg}."
        ) from None
    except (OSError, ValueError, RecursionError):  # no UTF-8, a number without end
        raise ConfigError(f"{where}: it cannot be read.") from None
    allow = content.get("allow", []) if isinstance(content, dict) else None
    if not isinstance(allow, list) or not all(isinstance(entry, str) for entry in allow):
        raise ConfigError(f'{where}: write {{"allow": ["host", "host:port", "*.domain", …]}}.')
    return allow


def _patterns(entry: str, where: str, presets: Presets) -> Iterator[Pattern]:
    if "." in entry or ":" in entry:
        yield _pattern(entry, where)
        return
    own = presets()
    if entry in own:
        yield from (_pattern(one, f"config.json, network.presets.{entry}") for one in own[entry])
    elif entry in PRESETS:
        yield from PRESETS[entry]()
    else:
        known = ", ".join(sorted({*own, *PRESETS}))
        raise ConfigError(f"{where}: there is no preset {entry!r}. There are: {known}.")


def _pattern(entry: str, where: str) -> Pattern:
    try:
        return parse_pattern(entry)
    except BadDestination as error:
        raise ConfigError(f"{where}: {entry!r} names no destination: {error}.") from None


# ------------------------------------------------------------------- presets


def _git_hosts() -> Iterator[Pattern]:
    return map(parse_pattern, GIT_HOSTS)


def _python_packages() -> Iterator[Pattern]:
    """The indexes that pip uses on this machine: its configuration's, else its own default."""
    urls = [os.environ.get("PIP_INDEX_URL", ""), *os.environ.get("PIP_EXTRA_INDEX_URL", "").split()]
    for file in [os.environ.get("PIP_CONFIG_FILE", ""), *PIP_FILES]:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(_text(file))
        except configparser.Error:
            continue  # pip will say so
        for section in ("global", "install"):
            urls.append(parser.get(section, "index-url", fallback=""))
            urls += parser.get(section, "extra-index-url", fallback="").split()
    patterns = list(_of_urls(urls))
    return iter(patterns or _pip_default())


def _text(file: str) -> str:
    """What a file of this machine's configuration holds; nothing where there is none."""
    try:
        return Path(file).expanduser().read_text(encoding="utf-8")
    except (OSError, RuntimeError, UnicodeDecodeError):
        return ""


def _pip_default() -> list[Pattern]:
    try:
        from pip._internal.models.index import PyPI
    except ImportError:
        return []
    hosts = (PyPI.netloc, PyPI.file_storage_domain)
    return [parse_pattern(f"{host}:{HTTPS_PORT}") for host in hosts]


def _npm_packages() -> Iterator[Pattern]:
    """The registries that npm's configuration on this machine names."""
    urls = [os.environ.get(name, "") for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY")]
    for file in [os.environ.get("NPM_CONFIG_USERCONFIG", ""), *NPM_FILES]:
        for name, equals, value in (line.partition("=") for line in _text(file).splitlines()):
            if equals and name.strip().rpartition(":")[2] == "registry":
                urls.append(value.strip())
    return _of_urls(urls)


def _of_urls(urls: Iterable[str]) -> Iterator[Pattern]:
    """The hosts of URLs, each with its one port; what is no URL is left out."""
    for url in urls:
        try:
            address = urlsplit(url)
            port = address.port or {"http": HTTP_PORT, "https": HTTPS_PORT}.get(address.scheme)
            if port and address.scheme in ("http", "https") and address.hostname:
                host = f"[{address.hostname}]" if ":" in address.hostname else address.hostname
                yield parse_pattern(f"{host}:{port}")
        except ValueError:
            continue


PRESETS = {
    "git-hosts": _git_hosts,
    "npm-packages": _npm_packages,
    "python-packages": _python_packages,
}
"""Presets that come with loopat, by name."""
