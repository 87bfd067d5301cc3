"""A real ``jupyter server`` process on a real port of 127.0.0.1, with everything it owns.

Each server has its own directory: home, Jupyter's config, data, runtime and root directories.
It is ready when it says so in its log. The log is kept; a failing test shows it (conftest).
The base URL holds an escaped character, because that is where URL building goes wrong.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.support import acp_agent
from tests.support.ports import free_port

BASE_URL = "/a%40b/"
API = "loopat/api/v1"
FACES = ("jupyterlab", "jupyter_lsp", "notebook", "notebook_shim")
"""Server extensions of the front ends: seconds of each start, and few tests look at them."""

READY = re.compile(r"is running at:|Use Control-C to stop this server")
START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0

KEPT_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "COVERAGE_PROCESS_START")


ENGINE = os.environ.get("LOOPAT_TEST_ENGINE", "builtin")
"""The engine of servers whose test does not name one: the suite runs over each of them."""

running: list[JupyterServer] = []
"""Every server that is up, for the report of a failing test."""


def base_environment() -> dict[str, str]:
    """What of this process's environment the servers of tests get, with quick imports."""
    kept = {k: os.environ[k] for k in KEPT_ENVIRONMENT if k in os.environ}
    path = [str(Path(__file__).parent / "quick_start"), os.environ.get("PYTHONPATH", "")]
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, path))}


class JupyterServer:
    """One server; can be started again on the same home and port after it was stopped.

    ``options`` are command line options, ``config`` is the text of a
    ``jupyter_server_config.py``, ``model`` the content of the home's ``config.json``. With
    ``faces`` it serves JupyterLab and Notebook too.
    """

    def __init__(
        self,
        directory: Path,
        *,
        options: Sequence[str] = (),
        config: str = "",
        model: Mapping[str, Any] | None = None,
        home: Path | None = None,
        env: Mapping[str, str] | None = None,
        faces: bool = False,
    ) -> None:
        self.directory = directory
        self.home = home or directory / "loopat"
        self.root = directory / "root"
        without = () if faces else FACES
        self.options = [f"--ServerApp.jpserver_extensions={name}=False" for name in without]
        self.options += options
        self.env = dict(env or {})
        self.token = secrets.token_hex(16)
        self.port = free_port()
        self.process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._reader: threading.Thread | None = None
        self._closed = False
        for name in ("config", "data", "runtime", "root", "user"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        self.home.mkdir(mode=0o700, exist_ok=True)
        (directory / "config" / "jupyter_server_config.py").write_text(config)
        if model is not None:
            self.configure_model(model)

    def configure_model(self, model: Mapping[str, Any]) -> None:
        (self.home / "config.json").write_text(json.dumps(model, indent=2))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{BASE_URL}"

    @property
    def api_url(self) -> str:
        return f"{self.url}{API}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        with self._news:
            return "".join(self._lines)

    def workdir(self, loop_id: str) -> Path:
        return self.home / "loops" / loop_id / "workdir"

    # ------------------------------------------------------------------ life

    def spawn(self) -> None:
        """Start the process; :meth:`wait_ready` waits for it."""
        command = [
            sys.executable, "-m", "jupyter_server", "--allow-root",
            "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={self.port}",
            "--ServerApp.port_retries=0", "--ServerApp.open_browser=False",
            f"--ServerApp.base_url={BASE_URL}", f"--ServerApp.root_dir={self.root}",
            f"--IdentityProvider.token={self.token}", *self._engine(), *self.options,
        ]  # fmt: skip
        env = base_environment() | {
            "HOME": str(self.directory / "user"),
            "LOOPAT_HOME": str(self.home),
            "JUPYTER_CONFIG_DIR": str(self.directory / "config"),
            "JUPYTER_DATA_DIR": str(self.directory / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.directory / "runtime"),
            "JUPYTER_PLATFORM_DIRS": "1",
            "PYTHONUNBUFFERED": "1",
            **self.env,
        }
        self._lines, self._closed = [], False
        self.process = subprocess.Popen(
            command, env=env, cwd=self.root, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._keep_output, daemon=True)
        self._reader.start()
        running.append(self)

    def _engine(self) -> list[str]:
        named = any("LoopatExtension.engine" in option for option in self.options)
        return [] if named else [f"--LoopatExtension.engine={ENGINE}"]

    def wait_ready(self) -> JupyterServer:
        self.wait_log(READY, timeout=START_TIMEOUT)
        self._wait_port()
        return self

    def _wait_port(self) -> None:
        """Jupyter says that it runs just before its loop opens the port; nothing says when."""
        give_up = time.monotonic() + START_TIMEOUT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except ConnectionRefusedError:
                assert time.monotonic() < give_up, f"port {self.port} stays shut:\n{self.log}"
                with self._news:
                    self._news.wait(0.02)
            else:
                return

    def start(self) -> JupyterServer:
        self.spawn()
        return self.wait_ready()

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

    def wait_log(self, pattern: str | re.Pattern[str], timeout: float = STOP_TIMEOUT) -> str:
        """Wait until a line of the log matches; the line."""
        found: list[str] = []

        def seen() -> bool:
            found.extend(line for line in self._lines if re.search(pattern, line))
            return bool(found) or self._closed

        with self._news:
            self._news.wait_for(seen, timeout)
        assert found, f"no {pattern!r} in the server's log:\n{self.log}"
        return found[0]

    def kill(self) -> None:
        """``kill -9``."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self._collect()

    def _collect(self) -> None:
        assert self.process is not None
        assert self._reader is not None
        # A process that outlived the server may still hold the pipe: it is not waited for.
        self._reader.join(2)
        if not self._reader.is_alive() and self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None
        running.remove(self)

    def restart(self) -> JupyterServer:
        self.kill()
        return self.start()

    def __enter__(self) -> JupyterServer:
        return self.start() if self.process is None else self

    def __exit__(self, *exc: object) -> None:
        if self.process is not None:
            self.stop()

    # ------------------------------------------------------------------ credentials

    @property
    def session(self) -> dict[str, str]:
        """Headers of a caller with the Jupyter server token."""
        return {"Authorization": f"token {self.token}"}

    def log_in(self) -> tuple[dict[str, str], dict[str, str]]:
        """Log a new browser in, as its form does: its cookies, and the headers that pass XSRF."""
        with httpx.Client(base_url=self.url, timeout=STOP_TIMEOUT) as browser:
            browser.get("login").raise_for_status()
            xsrf = browser.cookies["_xsrf"]
            answer = browser.post("login", data={"password": self.token, "_xsrf": xsrf})
            assert answer.status_code == 302, answer.text
            return dict(browser.cookies), {"X-XSRFToken": xsrf}

    def mint(self, label: str = "test") -> dict[str, Any]:
        """A new API token of the server's owner: the whole answer of ``POST /me/tokens``."""
        cookies, headers = self.log_in()
        with httpx.Client(cookies=cookies, headers=headers, timeout=STOP_TIMEOUT) as browser:
            answer = browser.post(f"{self.api_url}/me/tokens", json={"label": label})
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created


def mock_provider(
    url: str, *, api: str = "anthropic", key: str = "key-of-the-test"
) -> dict[str, Any]:
    """A ``config.json`` whose one provider is the mock model at ``url``."""
    base = url if api == "anthropic" else f"{url}/v1"
    provider = {"api": api, "baseUrl": base, "apiKey": key, "models": [{"id": "mock-1"}]}
    config: dict[str, Any] = {"default": "mock/mock-1", "providers": {"mock": provider}}
    if ENGINE == "acp":
        config["agents"] = {"small": acp_agent.section()}
    return config
