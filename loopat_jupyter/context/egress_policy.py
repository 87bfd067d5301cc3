"""Which destinations a loop's profiles allow: ``profiles/<name>/network.json``.

``{"allow": ["example.org", "*.example.org:8443", "python-packages"]}``: hosts, with or without
port (without: 80 and 443), names below a domain, and *presets*, whose names have no dot. Presets
for package registries follow this machine's own configuration of pip and npm, so that a sandbox
may reach the mirror that is configured there. Nothing is allowed by default. A file that cannot be
read allows nothing: the turn fails, and its message names the file. The policy is enforced by
:mod:`loopat_jupyter.sandboxes.proxy.egress_policy`.
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
    """What a loop with these profiles may reach, in the order of the profiles.

    ``presets`` reads the administrator's own presets from ``config.json``. Does file I/O; raises
    ``ConfigError`` with the file's name.
    """
    found: dict[Pattern, None] = {}
    for name in profiles:
        where = f"profiles/{name}/{FILE}"
        for entry in _read_allow_list(home / "profiles" / name / FILE, where):
            found.update(dict.fromkeys(_patterns(entry, where, presets)))
    return Egress(tuple(found))


def _read_allow_list(path: Path, where: str) -> list[str]:
    try:
        with path.open("rb") as file:
            content: Any = json.loads(file.read(FILE_LIMIT))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{where}, line {error.lineno}: it is not valid JSON: {error.msg}."
        ) from None
    except (OSError, ValueError, RecursionError):  # no UTF-8, an endless number, deep nesting
        raise ConfigError(f"{where}: it cannot be read.") from None
    allow = content.get("allow", []) if isinstance(content, dict) else None
    if not isinstance(allow, list) or not all(isinstance(entry, str) for entry in allow):
        raise ConfigError(f'{where}: write {{"allow": ["host", "host:port", "*.domain", …]}}.')
    return allow


def _patterns(entry: str, where: str, presets: Presets) -> Iterator[Pattern]:
    if "." in entry or ":" in entry:
        yield _pattern(entry, where)
        return
    custom = presets()
    if entry in custom:
        yield from (_pattern(one, f"config.json, network.presets.{entry}") for one in custom[entry])
    elif entry in PRESETS:
        yield from PRESETS[entry]()
    else:
        known = ", ".join(sorted({*custom, *PRESETS}))
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
    """The indexes that pip uses on this machine: the configured ones, else pip's default."""
    urls = [os.environ.get("PIP_INDEX_URL", ""), *os.environ.get("PIP_EXTRA_INDEX_URL", "").split()]
    for file in [os.environ.get("PIP_CONFIG_FILE", ""), *PIP_FILES]:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(_read_text(file))
        except configparser.Error:
            continue  # pip itself reports it to whoever runs pip
        for section in ("global", "install"):
            urls.append(parser.get(section, "index-url", fallback=""))
            urls += parser.get(section, "extra-index-url", fallback="").split()
    patterns = list(_url_patterns(urls))
    return iter(patterns or _pip_default())


def _read_text(file: str) -> str:
    """The text of a configuration file of this machine; empty where there is none."""
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
        for name, equals, value in (line.partition("=") for line in _read_text(file).splitlines()):
            if equals and name.strip().rpartition(":")[2] == "registry":
                urls.append(value.strip())
    return _url_patterns(urls)


def _url_patterns(urls: Iterable[str]) -> Iterator[Pattern]:
    """The hosts of URLs, each with its one port; values that are no http(s) URL are skipped."""
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
"""The package's own presets, by name."""
