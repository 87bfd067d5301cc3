"""A real JupyterHub on 127.0.0.1: Hub, its Node proxy, and one Jupyter server for each person.

The Hub's configuration is the one of ``docs/jupyterhub.md``, word by word; below it comes what a
test machine needs (ports, a login without passwords, a spawner without system users). Everything
lies in one directory, also the people's home directories. Nothing outlives :meth:`Hub.stop`: it
names every process that did, kills it and fails.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil
import pytest

from .ports import free_port
from .server import API, STOP_TIMEOUT, base_environment

GUIDE = Path(__file__).parents[2] / "docs" / "jupyterhub.md"
START_TIMEOUT = 90.0
READY = r"JupyterHub is now running"
PREFIX = "/team/"
"""The Hub's base URL: a deployment may have one."""

OF_A_TEST_MACHINE = """

# ---- below: what a test machine needs
import os
c.JupyterHub.bind_url = {bind!r}
c.JupyterHub.hub_bind_url = {hub!r}
c.ConfigurableHTTPProxy.api_url = {proxy_api!r}
c.ConfigurableHTTPProxy.command = [{proxy!r}]
c.ConfigurableHTTPProxy.pid_file = {pid_file!r}
c.JupyterHub.db_url = {database!r}
c.JupyterHub.cookie_secret_file = {cookie_secret!r}
c.JupyterHub.last_activity_interval = 1
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.Authenticator.admin_users = {{"root@it"}}
c.JupyterHub.allow_named_servers = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = {homes!r}
c.Spawner.cmd = [{python!r}, "-m", "jupyterhub.singleuser"]
c.Spawner.args = ["--LoopatExtension.ping_interval=1"] + ["--allow-root"] * (os.geteuid() == 0)
c.Spawner.http_timeout = c.Spawner.start_timeout = 90
c.Spawner.environment.update({environment!r})
c.JupyterHub.services += [{{"name": "test", "api_token": {service_token!r}}}]
c.JupyterHub.load_roles += [{{"name": "test", "services": ["test"], "scopes": [
    "list:users", "read:users", "read:users:activity", "read:servers", "delete:servers"]}}]
"""


def documented_config() -> str:
    """The ``jupyterhub_config.py`` that the guide tells an administrator to write."""
    found = re.search(
        r"<!-- jupyterhub_config\.py -->\n```python\n(.*?)```", GUIDE.read_text(), re.DOTALL
    )
    assert found, "docs/jupyterhub.md has no jupyterhub_config.py below its mark"
    return found[1]


def find_proxy() -> str:
    """configurable-http-proxy, a program of npm: ``LOOPAT_TEST_CHP``, else from the path.

    Where there is none the test is skipped; in CI it fails.
    """
    found = os.environ.get("LOOPAT_TEST_CHP") or shutil.which("configurable-http-proxy")
    if found is not None:
        return found
    reason = "configurable-http-proxy (of npm) is not here; LOOPAT_TEST_CHP may name it"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class Hub:
    """One Hub. ``environment`` is given to every person's server."""

    def __init__(self, directory: Path, *, environment: Mapping[str, str] | None = None) -> None:
        proxy = find_proxy()
        self.directory = directory
        self.homes = directory / "homes"
        self.homes.mkdir(parents=True)
        self.port, hub_port, api_port = free_port(), free_port(), free_port()
        self.service_token = secrets.token_hex(16)
        self.process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._closed = False
        self._reader: threading.Thread | None = None
        kept = {k: os.environ[k] for k in ("TMPDIR",) if k in os.environ}
        self.config = directory / "jupyterhub_config.py"
        self.config.write_text(
            documented_config()
            + OF_A_TEST_MACHINE.format(
                bind=f"http://127.0.0.1:{self.port}{PREFIX}",
                hub=f"http://127.0.0.1:{hub_port}",
                proxy_api=f"http://127.0.0.1:{api_port}",
                proxy=proxy,
                pid_file=str(directory / "proxy.pid"),
                database=f"sqlite:///{directory / 'hub.sqlite'}",
                cookie_secret=str(directory / "cookie_secret"),
                homes=str(self.homes / "{username}"),
                python=sys.executable,
                environment={
                    "JUPYTER_PLATFORM_DIRS": "1",
                    "JUPYTERHUB_ACTIVITY_INTERVAL": "1",
                    **kept,
                    **(environment or {}),
                },
                service_token=self.service_token,
            )
        )

    # ------------------------------------------------------------------ life

    def start(self) -> Hub:
        env = base_environment() | {
            "HOME": str(self.directory),
            "CONFIGPROXY_AUTH_TOKEN": secrets.token_hex(16),
            "PYTHONUNBUFFERED": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", str(self.config)],
            env=env, cwd=self.directory, text=True, errors="replace", start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._keep_output, daemon=True)
        self._reader.start()
        self.wait_log(READY, START_TIMEOUT)
        return self

    def _keep_output(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._closed = True
            self._news.notify_all()

    @property
    def log(self) -> str:
        """What Hub, proxy and all servers said."""
        with self._news:
            return "".join(self._lines)

    def wait_log(self, pattern: str, timeout: float = START_TIMEOUT) -> str:
        """Wait until a line of the log matches; the line."""
        found: list[str] = []

        def seen() -> bool:
            found.extend(line for line in self._lines if re.search(pattern, line))
            return bool(found) or self._closed

        with self._news:
            self._news.wait_for(seen, timeout)
        assert found, f"no {pattern!r} in the Hub's log:\n{self.log}"
        return found[0]

    def stop(self) -> None:
        """End the Hub, its proxy and all servers. Fails when something is left of them."""
        if self.process is None:
            return
        mine = psutil.Process(self.process.pid).children(recursive=True)
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT)
        finally:
            _, left = psutil.wait_procs(mine, timeout=5)
            named = [f"{one.pid} {one.name()}" for one in left]
            for one in left:
                one.kill()
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
            if self._reader is not None:
                self._reader.join(5)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None
        assert not named, f"still there after the Hub ended: {named}"

    def __enter__(self) -> Hub:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    # ------------------------------------------------------------------ addresses

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PREFIX}"

    @property
    def api_url(self) -> str:
        return f"{self.url}hub/api"

    def server_url(self, name: str, server: str = "") -> str:
        """A person's server as the world sees it: through the proxy."""
        path = "/".join(quote(part, safe="@~") for part in (name, server) if part)
        return f"{self.url}user/{path}/"

    def home(self, name: str) -> Path:
        """A person's home directory; what lies in it before the first start is found there."""
        home = self.homes / name
        if not home.exists():
            home.mkdir()
            (home / "welcome.txt").write_text(f"the home of {name}\n")
        return home

    # ------------------------------------------------------------------ what a Hub service may ask

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A request of the service ``test``, which may see and stop everybody's servers."""
        headers = {"Authorization": f"token {self.service_token}"}
        answer = httpx.request(
            method, f"{self.api_url}{path}", headers=headers, timeout=START_TIMEOUT, **options
        )
        assert answer.status_code < 400, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    def server_of(self, name: str, server: str = "") -> dict[str, Any] | None:
        """What the Hub says about a server; ``None`` when it does not run."""
        user = self.ask("GET", f"/users/{quote(name)}").json()
        servers: dict[str, dict[str, Any]] = user["servers"]
        return servers.get(server)


@dataclass(frozen=True)
class PersonsServer:
    """A person's server, as :class:`tests.support.caller.Caller` wants to know it."""

    hub: Hub
    name: str
    server: str = ""

    @property
    def url(self) -> str:
        return self.hub.server_url(self.name, self.server)

    @property
    def port(self) -> int:
        return self.hub.port

    @property
    def root(self) -> Path:
        """The person's home: what their server shows as its files."""
        return self.hub.home(self.name)

    @property
    def api_url(self) -> str:
        return f"{self.url}{API}"


class Browser:
    """A person at a browser: the login form, the cookies, the XSRF tokens of each path."""

    def __init__(self, hub: Hub, name: str) -> None:
        self.hub = hub
        self.name = name
        self.http = httpx.Client(timeout=START_TIMEOUT, follow_redirects=True)

    def close(self) -> None:
        self.http.close()

    def log_in(self) -> Browser:
        """Through the Hub's own form."""
        self.http.get(f"{self.hub.url}hub/login").raise_for_status()
        data = {"username": self.name, "password": "x", "_xsrf": self.xsrf("hub/")}
        answer = self.http.post(
            f"{self.hub.url}hub/login?next=%2Fteam%2Fhub%2Fhome", data=data, headers=NAVIGATION
        )
        assert answer.status_code == 200, answer.text
        assert answer.url.path == f"{PREFIX}hub/home", answer.url
        return self

    def xsrf(self, path: str) -> str:
        """The newest ``_xsrf`` cookie of that path below the Hub's base."""
        found = [
            str(one.value)
            for one in self.http.cookies.jar
            if one.name == "_xsrf" and one.path == PREFIX + path
        ]
        assert found, f"no _xsrf for {path}: {[(c.name, c.path) for c in self.http.cookies.jar]}"
        return found[-1]

    def token(self, *scopes: str, owner: str | None = None) -> str:
        """A Hub token of this person, of all their rights unless ``scopes`` are named."""
        name = quote(owner or self.name)
        body = {"scopes": list(scopes)} if scopes else {}
        answer = self.http.post(
            f"{self.hub.api_url}/users/{name}/tokens",
            json=body,
            headers={"X-XSRFToken": self.xsrf("hub/")},
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])

    def spawn(self, server: str = "") -> Browser:
        """Start the person's server, wait until it is ready, and be let in (OAuth)."""
        path = f"users/{quote(self.name)}"
        path += f"/servers/{quote(server)}" if server else "/server"
        headers = {"X-XSRFToken": self.xsrf("hub/")}
        answer = self.http.post(f"{self.hub.api_url}/{path}", headers=headers)
        assert answer.status_code in {201, 202}, answer.text
        if answer.status_code == 202:
            last = list(self._progress(path, headers))[-1]
            assert last.get("ready"), f"{last}\n{self.hub.log}"
        self.enter(server)
        return self

    def _progress(self, path: str, headers: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        with self.http.stream(
            "GET", f"{self.hub.api_url}/{path}/progress", headers=headers
        ) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    event = json.loads(line[6:])
                    yield event
                    if event.get("ready") or event.get("failed"):
                        return

    def enter(self, server: str = "") -> httpx.Response:
        """Open a page of the server: the Hub's OAuth leaves its cookies in this browser."""
        return self.http.get(self.page(server), headers=NAVIGATION)

    def page(self, server: str = "") -> str:
        """A page that needs a login and is there without JupyterLab."""
        return self.hub.server_url(self.name, server) + "files/welcome.txt"

    def stop(self, server: str = "") -> None:
        """Stop the server and wait until the Hub says that it is gone."""
        path = f"users/{quote(self.name)}"
        path += f"/servers/{quote(server)}" if server else "/server"
        answer = self.http.delete(
            f"{self.hub.api_url}/{path}", headers={"X-XSRFToken": self.xsrf("hub/")}
        )
        assert answer.status_code in {202, 204}, answer.text
        if answer.status_code == 202:
            pause = threading.Event()
            while self.hub.server_of(self.name, server) is not None:
                pause.wait(0.1)  # the Hub has no event for a stopped server

    # ------------------------------------------------------------------ the person's session

    def cookie(self, server: str = "") -> str:
        """What the browser sends to that server as ``Cookie``, the more specific paths first."""
        request = httpx.Request("GET", self.hub.server_url(self.name, server))
        self.http.cookies.set_cookie_header(request)
        return str(request.headers["Cookie"])

    def headers(self, server: str = "") -> dict[str, str]:
        """What a page of that server sends with its requests, without the cookies."""
        parts = [quote(part, safe="@~") for part in (self.name, server) if part]
        return {"X-XSRFToken": self.xsrf(f"user/{'/'.join(parts)}/"), **FETCH}


NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}
"""What browsers say when a person opens a page."""
FETCH = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
"""What browsers say when a script of the page asks."""
