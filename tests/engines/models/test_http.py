"""What the machine's environment adds to the way to a provider: proxies and certificates."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from loopat_jupyter.engines.models.http import (
    is_loopback,
    open_http_client,
    proxy_for,
    shown_address,
    tls_context,
)
from loopat_jupyter.loops.errors import ConfigError

NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_the_environment_s_proxy_is_used_but_for_what_it_excepts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.corp.test:3128")
    monkeypatch.setenv("HTTP_PROXY", "proxy.corp.test:3129")
    monkeypatch.setenv("NO_PROXY", "inside.test,.corp.test")
    assert proxy_for("https://api.test/v1") == "http://proxy.corp.test:3128"
    assert proxy_for("http://api.test/v1") == "http://proxy.corp.test:3129"
    assert proxy_for("https://inside.test/v1") is None
    assert proxy_for("https://models.corp.test") is None


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "127.9.8.7", "[::1]", "model.localhost", "[::ffff:127.0.0.1]"],
)
def test_this_machine_is_never_asked_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy.corp.test:3128")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.corp.test:3128")
    assert proxy_for(f"http://{host}:11434/v1") is None
    assert is_loopback(host)
    assert not is_loopback("127.0.0.1.example.test")


async def test_a_socks_proxy_works_and_an_unknown_one_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    await open_http_client("https://api.test").aclose()
    monkeypatch.setenv("ALL_PROXY", "socks4://127.0.0.1:9")
    with pytest.raises(ConfigError, match="socks4://"):
        open_http_client("https://api.test")


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_certificates_that_are_not_there_are_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"{name}.*does not exist"):
        tls_context({name: str(tmp_path / "missing.pem")})
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    with pytest.raises(ConfigError, match=rf"{name}.*holds no certificates"):
        tls_context({name: str(empty)})


def test_the_system_s_certificates_are_trusted_and_those_of_a_folder_too(tmp_path: Path) -> None:
    context = tls_context({"SSL_CERT_DIR": f"{tmp_path}:/nowhere"})
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert tls_context({}).cert_store_stats()["x509_ca"] > 10


def test_an_address_is_said_without_what_could_be_secret() -> None:
    assert shown_address("https://u:p@h.test:8/v1?key=s#x") == "https://h.test:8/v1"
