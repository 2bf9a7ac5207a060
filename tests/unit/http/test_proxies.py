"""Which proxy the environment names."""

from __future__ import annotations

import pytest

from jwt_audit.errors import KeySourceError
from jwt_audit.http.exchange import ExchangeError, Failure
from jwt_audit.http.proxies import Proxy, proxy_for
from jwt_audit.tokens import fetch


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("http://proxy.example:3128", Proxy("proxy.example", 3128)),
        ("http://proxy.example", Proxy("proxy.example", 80)),
        ("https://proxy.example", Proxy("proxy.example", 443, tls=True)),
        ("proxy.example:3128", Proxy("proxy.example", 3128)),
        ("http://[::1]:3128", Proxy("::1", 3128)),
        ("http://me:pa%40ss@proxy.example:3128", Proxy("proxy.example", 3128, login="me:pa@ss")),
        ("", None),
    ],
)
def test_each_form_of_the_variable(monkeypatch: pytest.MonkeyPatch, value: str, expected: Proxy | None) -> None:
    """As curl takes it; a login is not shown."""
    monkeypatch.setenv("HTTPS_PROXY", value)
    found = proxy_for("https://collector.example/v1/logs")
    assert found == expected
    assert "pa@ss" not in repr(found)
    assert proxy_for("http://collector.example/") is None


@pytest.mark.parametrize("value", ["socks5://me:secret@proxy.example:1080", "http://", "http://[:1", "http://p:99999"])
def test_what_is_no_proxy_is_told_and_not_repeated(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Rather than go past a proxy that somebody wants."""
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(ExchangeError) as caught:
        proxy_for("https://collector.example/")
    assert caught.value.failure is Failure.UNREACHABLE
    assert caught.value.detail == "HTTPS_PROXY is not an http:// or https:// URL"


def test_where_none_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """What NO_PROXY lists, and this machine always."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "internal.example,.corp.example")
    for host in ("localhost", "127.0.0.1:4318", "[::1]", "internal.example", "a.corp.example:8080"):
        assert proxy_for(f"http://{host}/") is None
        assert proxy_for(f"https://{host}/") is None
    assert proxy_for("https://other.example/") is not None


def test_keys_over_plain_http_use_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """It could put its own keys in the place of the issuer's."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with pytest.raises(KeySourceError, match=r"cannot be reached \(.*(?:not known|resolution|No address)"):
        fetch.get("http://keycloak.invalid/jwks", http_hosts=["keycloak.invalid"])
