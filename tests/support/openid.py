"""A second real OpenID provider: npm's oidc-provider, with a person who signs in by the authorization code flow."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from .keycloak import MissingError

SOURCE = Path(__file__).parent / "oidc-provider"
START_SECONDS = 60.0
CALLBACK = "http://127.0.0.1/callback"


def home() -> Path:
    """Where the provider is installed; done when it is not there yet. Raises MissingError."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise MissingError("Node.js with npm is not here")
    lock_file = SOURCE / "package-lock.json"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jwt-audit"
    found = cache / f"oidc-provider-{hashlib.sha256(lock_file.read_bytes()).hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "oidc-provider.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (found / "ready").exists():
            found.mkdir(exist_ok=True)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(SOURCE / name, found)
            line = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            done = subprocess.run(line, cwd=found, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode:
                raise MissingError("oidc-provider could not be installed from the npm registry")
            (found / "ready").touch()
    return found


class Provider:
    """A running provider; ``issuer`` is its URL."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.issuer = f"http://127.0.0.1:{port}"

    def client_token(self, resource: str) -> str:
        """A token that the client ``orders-job`` gets for itself."""
        login = base64.b64encode(b"orders-job:orders-secret-of-the-job").decode()
        form = {"grant_type": "client_credentials", "resource": resource, "scope": "orders:read"}
        return self._token(form, Authorization=f"Basic {login}")

    def person_token(self, person: str, resource: str) -> str:
        """A token of a person who signs in at the client ``web``, by code and PKCE."""
        verifier = secrets.token_urlsafe(32)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "client_id": "web",
            "response_type": "code",
            "redirect_uri": CALLBACK,
            "scope": "openid orders:read",
            "resource": resource,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        code = self._sign_in(f"/auth?{urlencode(query)}", person)
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "client_id": "web"}
        return self._token(form | {"code_verifier": verifier, "resource": resource})

    def _sign_in(self, path: str, person: str) -> str:
        """Follow the redirects as a browser would, answering the login and the consent page; the code."""
        cookies: dict[str, str] = {}
        prompts: list[dict[str, str]] = [{"prompt": "login", "login": person, "password": "any"}, {"prompt": "consent"}]
        for _ in range(12):
            status, headers, _ = self._call("GET", path, cookies=cookies)
            if status == 200:
                form = prompts.pop(0)
                status, headers, _ = self._call("POST", path, urlencode(form), cookies=cookies)
            assert status in (302, 303), status
            location = dict(headers)["location"]
            if location.startswith(CALLBACK):
                return parse_qs(urlsplit(location).query)["code"][0]
            parts = urlsplit(location)
            path = parts.path + (f"?{parts.query}" if parts.query else "")
        raise AssertionError("the sign-in did not come to an end")

    def _token(self, form: dict[str, str], **headers: str) -> str:
        status, _, said = self._call("POST", "/token", urlencode(form), cookies=None, **headers)
        assert status == 200, said[:300]
        return str(json.loads(said)["access_token"])

    def _call(
        self, method: str, path: str, body: str | None = None, *, cookies: dict[str, str] | None = None, **headers: Any
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        if cookies:
            headers["Cookie"] = "; ".join(map("=".join, cookies.items()))
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            found = [(name.lower(), value) for name, value in answer.getheaders()]
            said: Any = answer.read()
        finally:
            connection.close()
        if cookies is not None:
            for name, value in found:
                if name == "set-cookie":
                    cookies.update({key: morsel.value for key, morsel in SimpleCookie(value).items()})
        return answer.status, found, said


@contextmanager
def running() -> Iterator[Provider]:
    """A fresh provider on a free port of loopback. Raises MissingError."""
    root = home()
    shutil.copy(SOURCE / "provider.mjs", root)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with (root / f"{port}.log").open("wb") as log:
        line = ["node", "provider.mjs", str(port)]
        process = subprocess.Popen(line, cwd=root, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + START_SECONDS
        while True:
            assert process.poll() is None, (root / f"{port}.log").read_text()[-2000:]
            assert time.monotonic() < until, "oidc-provider did not come up"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield Provider(port)
    finally:
        process.kill()
        process.wait()
        (root / f"{port}.log").unlink()
