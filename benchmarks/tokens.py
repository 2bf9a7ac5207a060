"""Token verification: what is found in the cache, what is not, and a flood of bad tokens.

- Hit: from the header's value to the identity, beyond reading the header itself.
- Miss: the same for tokens that were never seen, against PyJWT's ``decode`` of these tokens with the
  ready key object, issuer and audience.
- Flood: tokens of which no two are alike and none verifies, in a fresh process; what its resident
  memory grows by after the first quarter, when the caches are full.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import jwt
from jwt.utils import base64url_encode

from jwt_audit.identity.caller import Status
from jwt_audit.request import Request
from opentelemetry.instrumentation.jwt_audit.pipeline import Pipeline, compose

from . import issuer
from .figures import Figure, quantile
from .workers import resident, running

ALGORITHMS = ("RS256", "ES256", "EdDSA", "HS256")


class Verifying:
    """A pipeline that verifies under one key."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def each(self, tokens: list[str], status: Status) -> float:
        """CPU microseconds of a token, the mean over ``tokens``. Raises where one of them is not ``status``."""
        requests = [_request(token) for token in tokens]
        identifier = self._pipeline.identifier
        begun = time.thread_time_ns()
        for request in requests:
            presented = identifier.begin(request)
            if presented is not None:  # as an app does: the first of a flood waits for the key to be read again
                identifier.decide(request, presented)
        taken = (time.thread_time_ns() - begun) / len(tokens) / 1e3
        for request in requests:
            if request.identity.status is not status:
                raise RuntimeError(f"a token is {request.identity.status.value}, not {status.value}")
        return taken


def _request(token: str) -> Request:
    request = Request(kind="http", method="GET", path="/", started=0, clock=0, request_id="")
    request.authorization = (f"Bearer {token}",)
    return request


@contextmanager
def _verifying(key: Any, algorithm: str) -> Iterator[Verifying]:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "key"
        file.write_bytes(key if algorithm == "HS256" else issuer.public_pem(key))
        keys: dict[str, Any] = {"secret_file" if algorithm == "HS256" else "public_key": str(file)}
        pipeline = compose(
            suppress=nullcontext,
            issuer=issuer.ISSUER,
            audience=issuer.AUDIENCE,
            spool=str(Path(directory) / "spool"),
            **keys,
        )
        assert pipeline is not None
        try:
            yield Verifying(pipeline)
        finally:
            pipeline.stop()


def run(quick: bool) -> Iterator[Figure]:
    """Hit, miss by algorithm, flood."""
    yield _hit(3 if quick else 25, 200 if quick else 2000)
    for algorithm in ALGORITHMS:
        yield _miss(algorithm, 3 if quick else 15, 20 if quick else 150)
    yield _flood(2000 if quick else 120_000)


def _hit(rounds: int, count: int) -> Figure:
    key = issuer.private_key("RS256")
    known = issuer.tokens(key, "RS256", issuer.PEOPLE)
    asked = [known[n % len(known)] for n in range(count)]
    with _verifying(key, "RS256") as verifying:
        verifying.each(known, Status.VERIFIED)
        values = [verifying.each(asked, Status.VERIFIED) for _ in range(rounds)]
    return Figure("tokens", "cache hit, RS256", "us", 3.0, values, f"{len(known[0])} characters a token")


def _miss(algorithm: str, rounds: int, count: int) -> Figure:
    key = issuer.private_key(algorithm)
    public = key if algorithm == "HS256" else key.public_key()
    found = []
    with _verifying(key, algorithm) as verifying:
        for serial in range(rounds + 1):
            fresh = issuer.tokens(key, algorithm, count, start=serial * count)
            ours = verifying.each(fresh, Status.VERIFIED)
            begun = time.thread_time_ns()
            for token in fresh:
                jwt.decode(token, public, algorithms=[algorithm], audience=issuer.AUDIENCE, issuer=issuer.ISSUER)
            found.append((ours, (time.thread_time_ns() - begun) / count / 1e3))
    found = found[1:]
    ours, theirs = (quantile([one[n] for one in found], 0.5) for n in range(2))
    detail = f"jwt.decode {theirs:.1f} us, ours {ours:.1f} us"
    return Figure("tokens", f"cache miss, {algorithm}", "x jwt.decode", 1.2, [a / b for a, b in found], detail)


class Flood:
    """Bad tokens, each another one."""

    def __init__(self) -> None:
        self._stack = _verifying(issuer.private_key("HS256"), "HS256")
        self._verifying = self._stack.__enter__()
        self._start = 0

    def run(self, count: int) -> dict[str, Any]:
        good = issuer.tokens(issuer.private_key("HS256"), "HS256", 1)[0]
        middle, signature = good.split(".")[1:]
        for _ in range(count // 100):
            batch = []
            for _ in range(100):
                self._start += 1
                header = b'{"alg":"HS256","typ":"JWT","kid":"%0128d"}' % self._start
                batch.append(f"{base64url_encode(header).decode()}.{middle}.{signature}")
            self._verifying.each(batch, Status.INVALID)
        return {"memory": resident()}

    def flush(self) -> None:
        self._stack.__exit__(None, None, None)


def subject() -> Flood:
    return Flood()


def _flood(count: int) -> Figure:
    with running("tokens") as worker:
        first = worker.run(count // 4)["memory"]
        last = worker.run(count - count // 4)["memory"]
        worker.flush()
    detail = f"{count:,} tokens, {first:.1f} MiB after the first quarter"
    return Figure("tokens", "growth in a flood of bad tokens", "MiB", 2.0, [last - first], detail)
