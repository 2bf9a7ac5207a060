"""Keycloak, the real one, from Maven Central: fetched once into a cache, started in memory on a free port.

``python -m support.keycloak`` (``make keycloak``) starts one to try things on and stays until Ctrl-C.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

VERSION = "26.5.6"
ADMIN = "admin"
PASSWORD = "admin"  # of a server on loopback that forgets everything at its end
START_SECONDS = 180.0


class MissingError(Exception):
    """What this needs is not on the machine; the text says what."""


def home() -> Path:
    """Where Keycloak is unpacked; fetched when it is not there yet. Raises MissingError."""
    if shutil.which("java") is None:
        raise MissingError("Java (17 or later) is not here")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jwt-audit"
    cache.mkdir(parents=True, exist_ok=True)
    found = cache / f"keycloak-{VERSION}"
    with (cache / "keycloak.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.is_dir():
            _fetch(cache)
    return found


def _fetch(cache: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingError("Maven is not here to fetch Keycloak")
    print(f"fetching Keycloak {VERSION} (165 MB) into {cache} ...", file=sys.stderr)
    artifact = f"org.keycloak:keycloak-quarkus-dist:{VERSION}:zip"
    line = [maven, "-q", "-B", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={cache}"]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False)
    archive = cache / f"keycloak-quarkus-dist-{VERSION}.zip"
    if done.returncode or not archive.is_file():
        raise MissingError(f"Keycloak {VERSION} could not be fetched from Maven Central")
    # Unpacked under another name first: an interrupted one is never taken for whole.
    part = cache / "keycloak.part"
    shutil.rmtree(part, ignore_errors=True)
    shutil.unpack_archive(archive, part)
    script = part / f"keycloak-{VERSION}" / "bin" / "kc.sh"
    script.chmod(0o755)
    (part / f"keycloak-{VERSION}").rename(cache / f"keycloak-{VERSION}")
    archive.unlink()


class Keycloak:
    """A running server and its admin API. All calls raise OSError or AssertionError where it fails."""

    def __init__(self, url: str) -> None:
        self.url = url

    def issuer(self, realm: str) -> str:
        return f"{self.url}/realms/{realm}"

    def jwks(self, realm: str) -> str:
        return f"{self.issuer(realm)}/protocol/openid-connect/certs"

    def token(self, realm: str, **form: str) -> str:
        """An access token for these form parameters."""
        url = f"{self.issuer(realm)}/protocol/openid-connect/token"
        return str(_call("POST", url, form=form)["access_token"])

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the admin API, as the administrator."""
        token = self.token("master", grant_type="password", client_id="admin-cli", username=ADMIN, password=PASSWORD)
        return _call(method, f"{self.url}/admin{path}", body=body, token=token)

    def realm(self, name: str, *, clients: list[Mapping[str, Any]], people: Mapping[str, str]) -> None:
        """Make a realm with its clients and people (name to password)."""
        users = [
            {
                "username": person,
                "enabled": True,
                "email": f"{person}@example.com",
                "emailVerified": True,
                "firstName": person,
                "lastName": person,
                "credentials": [{"type": "password", "value": password, "temporary": False}],
            }
            for person, password in people.items()
        ]
        self.admin("POST", "/realms", {"realm": name, "enabled": True, "clients": clients, "users": users})

    def rotate(self, realm: str, priority: int) -> None:
        """A new RSA signing key, of a higher priority than those before."""
        config = {"priority": [str(priority)], "enabled": ["true"], "active": ["true"], "algorithm": ["RS256"]}
        component = {
            "name": f"rsa-{priority}",
            "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider",
            "config": config,
        }
        self.admin("POST", f"/realms/{realm}/components", component)

    def signing_keys(self, realm: str) -> dict[str, str]:
        """kid to the component that provides it, of the RS256 signing keys."""
        keys = self.admin("GET", f"/realms/{realm}/keys")["keys"]
        return {key["kid"]: key["providerId"] for key in keys if key.get("algorithm") == "RS256"}

    def remove_key(self, realm: str, kid: str) -> None:
        self.admin("DELETE", f"/realms/{realm}/components/{self.signing_keys(realm)[kid]}")


def _call(method: str, url: str, *, form: Any = None, body: Any = None, token: str | None = None) -> Any:
    data = None if form is None else urllib.parse.urlencode(form).encode()
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    if body is not None:
        data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
    asked = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            said = answer.read()
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{method} {url}: {error.code} {error.read()[:300]!r}") from error
    return json.loads(said) if said else None


@contextmanager
def running() -> Iterator[Keycloak]:
    """A fresh server on a free port of loopback, gone with all its data at the end. Raises MissingError."""
    root = home()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    line = [str(root / "bin" / "kc.sh"), "start-dev", "--db=dev-mem", "--http-host=127.0.0.1", f"--http-port={port}"]
    environment = os.environ | {"KC_BOOTSTRAP_ADMIN_USERNAME": ADMIN, "KC_BOOTSTRAP_ADMIN_PASSWORD": PASSWORD}
    environment["JAVA_OPTS_APPEND"] = "-XX:TieredStopAtLevel=1 -Xmx512m"
    log = root / f"start-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*line, f"--hostname={url}", "--cache=local"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # kc.sh starts a JVM: both are ended as one group
        )
    try:
        _up(process, url, log)
        yield Keycloak(url)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.unlink()


def _up(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        assert process.poll() is None, f"Keycloak ended: {log.read_text('utf-8', 'replace')[-2000:]}"
        try:
            with urllib.request.urlopen(f"{url}/realms/master", timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"Keycloak did not come up: {log.read_text('utf-8', 'replace')[-2000:]}")


def main() -> None:
    try:
        with running() as keycloak:
            print(f"Keycloak {VERSION} at {keycloak.url}, administrator {ADMIN}, password {PASSWORD}; Ctrl-C ends it")
            signal.pause()
    except MissingError as error:
        sys.exit(f"keycloak: {error}")
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
