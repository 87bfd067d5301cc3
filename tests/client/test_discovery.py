"""Where ``connect()`` looks, in which order, and what it says when there is nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from loopat_jupyter.client import (
    ServerAddress,
    ServerNotFound,
    find_server,
    running_servers,
    server_with_pid,
)
from loopat_jupyter.client._http import client_options

HUB = {
    "JUPYTERHUB_API_TOKEN": "hubtoken",
    "JUPYTERHUB_SERVICE_URL": "http://0.0.0.0:4567/user/a%40b/",
    "JUPYTERHUB_SERVICE_PREFIX": "/user/a%40b/",
}


def announce(directory: Path, pid: int, **info: object) -> None:
    """The file as Jupyter writes it."""
    body = {
        "url": "http://its-name.example:8888/x/",
        "hostname": "127.0.0.1",
        "port": 8888,
        "base_url": "/x/",
        "secure": False,
        "password": False,
        "token": "t",
        "pid": pid,
        "sock": "",
        **info,
    }
    (directory / f"jpserver-{pid}.json").write_text(json.dumps(body))


def kernel(directory: Path, pid: int | str) -> dict[str, str]:
    return {"JPY_PARENT_PID": str(pid), "JUPYTER_RUNTIME_DIR": str(directory)}


def test_the_order_is_variables_then_hub_then_parent(tmp_path: Path):
    announce(tmp_path, 41)
    everything = {
        "LOOPAT_URL": "https://x.example/",
        "LOOPAT_TOKEN": "la_1",
        **HUB,
        **kernel(tmp_path, 41),
    }
    found = find_server(everything)
    assert (found.url, found.token, found.found_by) == ("https://x.example/", "la_1", "LOOPAT_URL")
    del everything["LOOPAT_URL"]
    found = find_server(everything)
    assert found.api_url == "http://127.0.0.1:4567/user/a%40b/loopat/api/v1/"
    assert found.authorization == "token hubtoken"
    del everything["JUPYTERHUB_API_TOKEN"]
    found = find_server(everything)
    assert found == ServerAddress("http://127.0.0.1:8888/x/", "t", "JPY_PARENT_PID", own=True)


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"url": "x"}'])
def test_nothing_found_names_all_three(tmp_path: Path, content: str | None):
    if content is not None:
        (tmp_path / "jpserver-41.json").write_text(content)
    with pytest.raises(ServerNotFound) as error:
        find_server(kernel(tmp_path, 41))
    for name in ("LOOPAT_URL", "LOOPAT_TOKEN", "JUPYTERHUB_API_TOKEN", "JPY_PARENT_PID"):
        assert name in str(error.value)


def test_a_broken_variable_is_named(tmp_path: Path):
    with pytest.raises(ServerNotFound, match="LOOPAT_URL"):
        find_server({"LOOPAT_URL": "localhost:8888"})


@pytest.mark.parametrize(
    ("bound", "reached"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("", "127.0.0.1"),
        ("*", "127.0.0.1"),
        ("::", "[::1]"),
        ("::1", "[::1]"),
        ("localhost", "localhost"),
        ("10.1.2.3", "10.1.2.3"),
    ],
)
def test_the_own_server_is_reached_over_loopback_where_it_can_be(
    tmp_path: Path, bound: str, reached: str
):
    announce(tmp_path, 41, hostname=bound)
    found = find_server(kernel(tmp_path, 41))
    assert found.url == f"http://{reached}:8888/x/"
    assert found.own


@pytest.mark.parametrize("hostname", ["0.0.0.0", "::", "10.1.2.3"])
def test_the_own_server_is_never_asked_through_a_proxy(tmp_path: Path, hostname: str):
    announce(tmp_path, 41, hostname=hostname)
    assert client_options(find_server(kernel(tmp_path, 41)), None)["trust_env"] is False
    assert client_options(find_server(HUB), None)["trust_env"] is False
    assert client_options(ServerAddress("http://far.example/", "t"), None)["trust_env"] is True


def test_a_server_with_a_password_and_no_token_says_what_to_do(tmp_path: Path):
    announce(tmp_path, 41, token="", password=True)
    with pytest.raises(ServerNotFound, match="loopat token create"):
        find_server(kernel(tmp_path, 41))


def test_a_server_without_credentials_is_spoken_to_as_a_page_does(tmp_path: Path):
    announce(tmp_path, 41, token="")
    headers = client_options(find_server(kernel(tmp_path, 41)), None)["headers"]
    assert headers["Cookie"] == f"_xsrf={headers['X-XSRFToken']}"
    assert "Authorization" not in headers


def test_a_pid_is_a_number_and_no_path(tmp_path: Path):
    with pytest.raises(ServerNotFound):
        find_server(kernel(tmp_path, "../../41"))


def test_a_server_on_a_socket(tmp_path: Path):
    announce(tmp_path, 41, sock="/run/x.sock", base_url="/b/")
    found = find_server(kernel(tmp_path, 41))
    assert (found.socket, found.api_url) == ("/run/x.sock", "http://localhost/b/loopat/api/v1/")


def test_running_servers_have_a_live_process_youngest_first(tmp_path: Path):
    announce(tmp_path, os.getpid())
    os.utime(tmp_path / f"jpserver-{os.getpid()}.json", (1, 1))
    announce(tmp_path, os.getppid(), port=9)
    announce(tmp_path, 2**22 + 5)
    urls = [found.url for found in running_servers({"JUPYTER_RUNTIME_DIR": str(tmp_path)})]
    assert urls == ["http://127.0.0.1:9/x/", "http://127.0.0.1:8888/x/"]


def test_a_server_is_found_by_its_pid_once_it_has_written_its_address(tmp_path: Path):
    environ = {"JUPYTER_RUNTIME_DIR": str(tmp_path)}
    assert server_with_pid(41, environ) is None
    announce(tmp_path, 41)
    assert server_with_pid(41, environ) == ServerAddress(
        "http://127.0.0.1:8888/x/", "t", "running server", own=True
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://h:1",
        "http://h:1/",
        "http://h:1/?token=secret",
        "http://h:1/loopat/api/v1",
        "http://h:1/loopat/api/v1/#x",
    ],
)
def test_the_api_url_follows_from_any_form_of_the_url(url: str):
    assert ServerAddress(url).api_url == "http://h:1/loopat/api/v1/"
    assert ServerAddress(url).server_url == "http://h:1/"


def test_local_servers_are_not_reached_through_a_proxy():
    assert ServerAddress("http://127.0.0.1:1/").is_local
    assert ServerAddress("http://[::1]:1/").is_local
    assert ServerAddress("http://localhost:1/").is_local
    assert not ServerAddress("http://hub.example/").is_local
