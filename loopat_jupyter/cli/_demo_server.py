"""The Jupyter server that ``loopat demo`` starts and stops."""

from __future__ import annotations

import importlib.util
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from ._exit import CommandFailed
from ._terminal import plain

START_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0
LOG_TAIL = 15
REFUSAL_PREFIX = "loopat is not available:"
"""Begins the extension's log line that says why it does not load."""


class DemoServer:
    """A server on a free port of 127.0.0.1 over its own home; JupyterLab where it is installed.

    It reads no configuration of the user, only that of its Python environment. Its log is
    ``server.log`` in the home. The token is passed in the environment, because other users can
    read the arguments of a process.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.log_file = home / "server.log"
        self.token = secrets.token_hex(24)
        self.has_lab = importlib.util.find_spec("jupyterlab") is not None
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def lab_url(self) -> str | None:
        return f"{self.url}lab?token={self.token}" if self.has_lab else None

    def start(self) -> None:
        """Start it and wait until the Loop API responds.

        Raises:
            CommandFailed: it did not start; the end of its log is printed.
        """
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = self.home / "files"
        files.mkdir(exist_ok=True)
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                [
                    sys.executable,
                    "-m",
                    "loopat_jupyter.cli._demo_server_main",
                    *self._arguments(files),
                ],
                env=self._environment(),
                cwd=files,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def _arguments(self, files: Path) -> list[str]:
        root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        return [
            "jupyterlab" if self.has_lab else "jupyter_server",
            "--ServerApp.ip=127.0.0.1",
            "--ServerApp.port=0",
            "--no-browser",
            f"--ServerApp.root_dir={files}",
            "--ServerApp.jpserver_extensions={'loopat_jupyter': True}",
            *root,
        ]

    def _environment(self) -> dict[str, str]:
        own = {
            "LOOPAT_HOME": str(self.home),
            "JUPYTER_TOKEN": self.token,
            "JUPYTER_CONFIG_DIR": str(self.home / "jupyter"),
            "PYTHONUNBUFFERED": "1",
        }
        foreign = ("JUPYTERHUB_", "JPY_")
        return {k: v for k, v in os.environ.items() if not k.startswith(foreign)} | own

    def _wait_until_ready(self) -> None:
        """Poll until the server has written its address file, which it does once it listens."""
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT
        while not self._is_ready():
            if self._process.poll() is not None:
                raise self._failure(f"the server ended with code {self._process.returncode}")
            if time.monotonic() > deadline:
                raise self._failure(f"the server did not answer within {START_TIMEOUT:.0f} s")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        from loopat_jupyter.client import (
            Client,
            ConnectionFailed,
            InternalError,
            RetryPolicy,
            UnexpectedResponse,
            server_with_pid,
        )

        address = server_with_pid(self.pid)
        if address is None:
            return False
        self.url = address.url
        with Client(self.url, self.token, retry=RetryPolicy(attempts=1)) as client:
            try:
                client.loops.page(limit=1)
            except (ConnectionFailed, InternalError):
                return False
            except UnexpectedResponse as error:
                raise self._failure("the server runs, but without loopat") from error
        return True

    def _failure(self, what: str) -> CommandFailed:
        """The error, with the extension's own reason, else after printing the end of the log."""
        lines = self.log_file.read_text("utf-8", "replace").splitlines()
        reasons = [line.partition(REFUSAL_PREFIX)[2] for line in lines if REFUSAL_PREFIX in line]
        if reasons:
            return CommandFailed(reasons[-1].strip())
        print(plain("\n".join(lines[-LOG_TAIL:])), file=sys.stderr)
        return CommandFailed(f"{what}; the end of {self.log_file} is above")

    def stop(self) -> None:
        """Stop it and wait for its process; kill it after ``STOP_TIMEOUT`` seconds."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        process.terminate()
        process.stdin.close()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._process = None

    def wait(self) -> int:
        """Wait until it ends by itself, and return its exit code."""
        assert self._process is not None
        return self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
