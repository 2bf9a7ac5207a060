"""Which proxy the environment names for a URL."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from .exchange import ExchangeError, Failure
from .hosts import is_loopback


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where it listens, whether it is spoken to by TLS, and its credentials (``user:password``), if any."""

    host: str
    port: int
    tls: bool = False
    login: str | None = field(default=None, repr=False)


def proxy_for(url: str) -> Proxy | None:
    """The proxy that HTTPS_PROXY or HTTP_PROXY (in either case) names for ``url``; None where there is none.

    None also for this machine itself and for what NO_PROXY lists. Raises ExchangeError where the
    variable holds something else than an http(s) URL; the message does not repeat it.
    """
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    target = urlsplit(url)
    proxies = getproxies_environment()
    if is_loopback(target.hostname or "") or proxy_bypass_environment(target.netloc.rpartition("@")[2], proxies):
        return None
    value = proxies.get(target.scheme)
    if not value:
        return None
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in ("http", "https"):
        variable = f"{target.scheme.upper()}_PROXY"
        raise ExchangeError(Failure.UNREACHABLE, f"{variable} is not an http:// or https:// URL")
    tls = parts.scheme == "https"
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
    return Proxy(host, port or (443 if tls else 80), tls, login)
