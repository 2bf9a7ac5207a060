"""The life of keys: a real JWKS server and real files that come, change, fail and go."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from jwt_audit.errors import KeySourceError
from jwt_audit.tokens.jwks import KeySet, parse_jwks, parse_pem
from jwt_audit.tokens.keys import FileKeys, KeySource, UrlKeys
from support.issuer import JwksServer, Start, Told, eventually, jwks, jwks_server, signing_key

OLD = signing_key("ES256").jwk("old")
NEW = signing_key("ES256", 1).jwk("new")


@pytest.fixture
def server() -> Iterator[JwksServer]:
    with jwks_server() as server:
        server.body = jwks(OLD)
        yield server


class Timed(UrlKeys):
    """Keys behind a URL that note when each fetch begins, by their own thread's clock."""

    def __init__(self, *args: Any, **life: Any) -> None:
        super().__init__(*args, **life)
        self.begun: list[float] = []

    def _read(self) -> tuple[KeySet | None, float]:
        self.begun.append(time.monotonic())
        return super()._read()

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self.begun)]


def url_keys(url: str, told: Told, **life: Any) -> Timed:
    quick: dict[str, Any] = {"interval": 0.2, "retry": (0.05, 0.1), "age": 60, "deadline": 5.0}
    return Timed(url, contextlib.nullcontext, told, **{**quick, **life})


def ids(source: KeySource) -> list[str | None] | None:
    return None if source.keys is None else [key.id for key in source.keys.keys]


def test_the_first_fetch_is_in_the_background(server: JwksServer, told: Told, start: Start) -> None:
    """Starting waits for nothing; the first answer can be waited for."""

    release = threading.Event()

    def slow(handler: BaseHTTPRequestHandler) -> None:
        release.wait(4)
        server.write(handler)

    server.answer = slow
    source = start(url_keys(server.url, told, deadline=5))
    assert (source.answered(), source.keys) == (False, None)
    assert not source.answered(0.05)
    release.set()
    assert source.answered(60)
    assert ids(source) == ["old"]
    assert not source.refreshing
    assert told == []


def test_down_at_start_then_up(told: Told, start: Start) -> None:
    """It is told once, tried again with growing pauses, and works as soon as the issuer is there."""
    with jwks_server() as gone:
        port = int(gone.url.split(":")[2].split("/")[0])
    source = start(url_keys(gone.url, told))
    assert source.answered(60)
    assert source.keys is None
    time.sleep(0.3)
    assert len(told) == 1
    assert "Connection refused" in told[0]
    assert "tokens stay unverified" in told[0]
    with jwks_server(port) as server:
        server.body = jwks(OLD)
        assert eventually(lambda: ids(source) == ["old"])


@pytest.mark.parametrize(
    ("status", "body"), [(500, b""), (200, b"<html>"), (200, b'{"keys":[]}'), (200, b"{}"), (200, b" " * (2**20 + 1))]
)
def test_a_failure_keeps_the_keys(server: JwksServer, told: Told, start: Start, status: int, body: bytes) -> None:
    """An error, rubbish, an empty set or too long an answer takes nobody's identity away."""
    source = start(url_keys(server.url, told, age=0.05))
    assert eventually(lambda: ids(source) == ["old"])
    keys = source.keys
    server.status, server.body = status, body
    count = len(server.requests)
    assert eventually(lambda: len(server.requests) >= count + 4)
    assert source.keys is keys
    assert len(told) == 1
    assert "its old keys are used" in told[0]
    server.status, server.body = 200, jwks(NEW)
    assert eventually(lambda: ids(source) == ["new"])


def test_a_hanging_issuer_is_left_and_asked_again(server: JwksServer, told: Told, start: Start) -> None:
    """The deadline ends each try, and one is under way at a time."""
    source = url_keys(server.url, told, age=0.05, deadline=0.5)
    source.load()
    release = threading.Event()

    def hang(_: BaseHTTPRequestHandler) -> None:
        release.wait(60)

    server.answer = hang
    start(source)
    try:
        assert eventually(lambda: len(source.begun) >= 4)
        assert ids(source) == ["old"]
        assert all(gap >= 0.5 for gap in source.gaps[1:])  # the first was before the issuer hung
        waited = "did not answer in time (0.5 s passed while waiting for the head of the answer)"
        assert told == [f"{server.url}: {waited}; its old keys are used until it is back"]
    finally:
        release.set()


def test_stale_keys_end(server: JwksServer, told: Told, start: Start) -> None:
    """After the bound there are no keys rather than old ones, and that is told; then they may come back."""
    source = start(url_keys(server.url, told, age=0.05, max_stale=0.3))
    assert eventually(lambda: ids(source) == ["old"])
    body, server.body = server.body, b"rubbish"
    failing = time.monotonic()
    assert eventually(lambda: source.keys is None)
    assert time.monotonic() - failing > 0.2
    assert len(told) == 2
    assert "too old" in told[1]
    server.body = body
    assert eventually(lambda: ids(source) == ["old"])


def test_an_unchanged_answer_keeps_the_very_set(server: JwksServer, told: Told, start: Start) -> None:
    """Verified results are tied to the set; only a change may end them."""
    source = start(url_keys(server.url, told, age=0.02))
    assert eventually(lambda: len(server.requests) >= 1 and source.keys is not None)
    keys = source.keys
    count = len(server.requests)
    assert eventually(lambda: len(server.requests) >= count + 3)
    assert source.keys is keys
    server.body = jwks(OLD, NEW)
    assert eventually(lambda: ids(source) == ["old", "new"])


def test_cache_control_within_bounds(server: JwksServer, told: Told, start: Start) -> None:
    """The issuer says how often, but neither at every moment nor next year."""
    server.headers = {"Cache-Control": "max-age=0"}
    source = url_keys(server.url, told, age_bounds=(0.1, 0.2))
    start(source)
    assert eventually(lambda: len(server.requests) >= 4)
    server.headers = {"Cache-Control": "max-age=31536000"}
    count = len(server.requests)
    assert eventually(lambda: len(server.requests) >= count + 3)
    assert all(gap >= 0.1 for gap in source.gaps)


def test_unknown_keys_cause_one_fetch_an_interval(server: JwksServer, told: Told, start: Start) -> None:
    """However many tokens ask, the issuer is asked once, and again only after the interval."""
    source = url_keys(server.url, told, interval=0.3)
    start(source)
    assert eventually(lambda: source.keys is not None)

    def wanted_thrice() -> bool:
        for _ in range(1000):
            source.want(None)
        return len(source.begun) >= 4

    assert eventually(wanted_thrice)
    assert all(gap >= 0.3 for gap in source.gaps[1:])  # what is read at the start does not count
    assert len(server.requests) <= len(source.begun)


def test_a_wanted_key_comes_at_once(server: JwksServer, told: Told, start: Start) -> None:
    """The first token of a new key causes a fetch immediately, even right after the start."""
    source = start(url_keys(server.url, told, interval=3600))
    assert eventually(lambda: source.keys is not None and not source.refreshing)
    server.body = jwks(OLD, NEW)
    source.want(None)
    assert source.refreshing  # so that the request can wait for it
    assert eventually(lambda: not source.refreshing)
    assert ids(source) == ["old", "new"]


def test_closed_means_quiet(server: JwksServer, told: Told, start: Start) -> None:
    """After closing nothing is fetched, whatever is wanted; the keys stay."""
    source = start(url_keys(server.url, told, age=0.02, interval=0.01))
    assert eventually(lambda: source.keys is not None)
    source.close()
    assert eventually(lambda: all(thread.name != "jwt-audit-keys" for thread in threading.enumerate()))
    count = len(server.requests)
    source.want(None)
    time.sleep(0.1)
    assert len(server.requests) == count
    assert not source.refreshing
    assert ids(source) == ["old"]


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # servers that preload do just this
def test_a_forked_child_reads_on(server: JwksServer, told: Told, start: Start) -> None:
    """Threads do not survive a fork: the child starts its own and sees a rotation."""
    source = start(url_keys(server.url, told, age=0.05))
    assert eventually(lambda: source.keys is not None)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            source.after_fork()
            answered = source.answered()
            server_sees = eventually(lambda: ids(source) == ["new"])
            os.write(writer, b"ok" if server_sees and answered else b"no")
        finally:
            os._exit(0)
    os.close(writer)
    server.body = jwks(NEW)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"ok"
    os.waitpid(child, 0)


def test_fetches_are_suppressed(server: JwksServer, told: Told, start: Start) -> None:
    """Each fetch runs inside the given context, so that no span comes of it."""
    inside: list[str] = []

    @contextlib.contextmanager
    def suppress() -> Iterator[None]:
        inside.append("in")
        yield
        inside.append("out")

    source = start(UrlKeys(server.url, suppress, told))
    assert eventually(lambda: source.keys is not None)
    assert inside == ["in", "out"]


def test_the_query_of_a_url_is_not_told(told: Told, start: Start) -> None:
    """It may hold an access key."""
    with jwks_server() as server:
        server.status = 403
        source = start(url_keys(f"{server.url}?apikey=SECRET", told))
        assert source.answered(60)
    assert told == [f"{server.url}: it answers 403; tokens stay unverified until it is back"]


def test_a_flaw_does_not_end_the_thread(told: Told, start: Start) -> None:
    """A reading that raises what nobody thought of counts as failed, and is tried again."""

    class Flawed(KeySource):
        calls = 0

        def _read(self) -> tuple[KeySet | None, float]:
            self.calls += 1
            if self.calls < 3:
                raise ZeroDivisionError
            return parse_jwks(jwks(OLD)), 60

    source = start(Flawed("flawed", told, retry=(0.01, 0.02)))
    assert eventually(lambda: ids(source) == ["old"])
    assert told == ["flawed: ZeroDivisionError; tokens stay unverified until it is back"]


# Files


def replace(path: Path, data: bytes) -> None:
    fresh = path.with_suffix(".fresh")
    fresh.write_bytes(data)
    fresh.replace(path)


def test_a_file_is_read_again_when_it_changes(tmp_path: Path, told: Told, start: Start) -> None:
    """Replaced, rewritten in place, or behind a symbolic link that is turned, as Kubernetes does."""
    path, link = tmp_path / "jwks.json", tmp_path / "link"
    path.write_bytes(jwks(OLD))
    link.symlink_to(path)
    source = start(FileKeys(link, parse_jwks, told, age=0.02))
    assert eventually(lambda: ids(source) == ["old"])
    keys = source.keys
    time.sleep(0.1)
    assert source.keys is keys
    replace(path, jwks(NEW))
    assert eventually(lambda: ids(source) == ["new"])
    path.write_bytes(jwks(OLD, NEW))
    assert eventually(lambda: ids(source) == ["old", "new"])
    other = tmp_path / "other.json"
    other.write_bytes(jwks(OLD))
    turned = tmp_path / "turned"
    turned.symlink_to(other)
    turned.replace(link)
    assert eventually(lambda: ids(source) == ["old"])
    assert told == []


def test_a_broken_file_keeps_the_keys_and_recovers(tmp_path: Path, told: Told, start: Start) -> None:
    """Half a file, or none, is told once; the file as it was before brings no false calm."""
    path = tmp_path / "key.pem"
    path.write_bytes(signing_key().pem)
    source = FileKeys(path, parse_pem, told, age=0.02, retry=(0.02, 0.02), max_stale=0.3)
    source.load()
    start(source)
    path.write_bytes(signing_key().pem[:50])
    assert eventually(lambda: len(told) == 1)
    assert source.keys is not None
    path.unlink()
    assert eventually(lambda: source.keys is None)
    assert "too old" in told[1]
    path.write_bytes(signing_key().pem)
    assert eventually(lambda: source.keys is not None)


def test_a_file_that_comes_back_unchanged_is_read(tmp_path: Path, told: Told, start: Start) -> None:
    """After the keys were given up, the very file they came from gives them again."""
    path, away = tmp_path / "key.pem", tmp_path / "away"
    path.write_bytes(signing_key().pem)
    source = start(FileKeys(path, parse_pem, told, age=0.02, retry=(0.02, 0.02), max_stale=0.1))
    assert eventually(lambda: source.keys is not None)
    path.rename(away)
    assert eventually(lambda: source.keys is None)
    away.rename(path)
    assert eventually(lambda: source.keys is not None)


def test_loading_tells_what_is_wrong(tmp_path: Path, told: Told) -> None:
    """A file that is missing, a directory, or too long."""
    long = tmp_path / "long"
    long.write_bytes(b" " * (2**20 + 1))
    for path, why in ((tmp_path / "missing", "No such file"), (tmp_path, "directory"), (long, "longer")):
        with pytest.raises(KeySourceError, match=why):
            FileKeys(path, parse_pem, told).load()
