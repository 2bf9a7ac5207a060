"""The key of pseudonyms changes while the process runs, and what is shown of one token stays under one key."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from jwt_audit.identity import pseudonym_key
from jwt_audit.identity.caller import Identity, Status
from jwt_audit.identity.privacy import MAX_KEY, Policy, Privacy, Pseudonyms
from jwt_audit.identity.pseudonym_key import PseudonymKeyFile, read_key
from jwt_audit.settings.environment import load
from opentelemetry.instrumentation.jwt_audit import wiring
from support.headers import request_with
from support.issuer import claims, signing_key

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
ALICE = Identity(Status.VERIFIED, subject="alice", session="s-1")
Live = tuple[Path, PseudonymKeyFile, list[str]]


def put(path: Path, key: bytes) -> None:
    """As a rotation does: whole or not at all."""
    beside = path.with_name("beside")
    beside.write_bytes(key)
    beside.replace(path)


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Live:
    """A key file that is looked at each time it is asked for."""
    monkeypatch.setattr(pseudonym_key, "RECHECK_SECONDS", 0.0)
    path, told = tmp_path / "pseudonyms", list[str]()
    put(path, OLD)
    return path, PseudonymKeyFile(path, read_key(path), told.append), told


def test_another_key_in_the_file_is_used_from_then_on(live: Live) -> None:
    """And each identity stays under the key of its time, in all that is ever shown of it."""
    path, keys, told = live
    privacy = Privacy(Policy.PSEUDONYM, Policy.PSEUDONYM, Policy.PSEUDONYM, keys(), current=keys)
    before, also_before = ALICE.with_privacy(privacy), ALICE.with_privacy(privacy)
    assert before.telemetry["enduser.pseudo.id"] == Pseudonyms(OLD).pseudonym("subject", None, "alice")
    put(path, NEW + b"\n")
    after = ALICE.with_privacy(privacy)
    assert before.audit["enduser.pseudo.id"] == also_before.audit["enduser.pseudo.id"] == before.actor_id
    assert also_before.logged["jwt.pseudonym.key_id"] == Pseudonyms(OLD).key_id
    for shown in (after.telemetry, after.logged, after.audit):
        assert shown["enduser.pseudo.id"] == Pseudonyms(NEW).pseudonym("subject", None, "alice") == after.actor_id
        assert shown["jwt.pseudonym.key_id"] == Pseudonyms(NEW).key_id
    assert told == []


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (Path.unlink, "cannot be read (No such file or directory)"),
        (lambda path: put(path, b"short"), "holds 5 bytes where at least 32 are needed"),
        (lambda path: put(path, b"x" * 10**6), f"holds more than {MAX_KEY} bytes"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read (Is a directory)"),
    ],
)
def test_a_file_that_cannot_be_used_changes_nothing(live: Live, spoil: Callable[[Path], object], why: str) -> None:
    """The key of before goes on, which is told once for each spell; a good one is found again."""
    path, keys, told = live
    first = keys()
    for spell in (1, 2):
        spoil(path)
        assert [keys().key_id for _ in range(3)] == [first.key_id] * 3
        assert len(told) == spell
        assert why in told[-1]
        if path.is_dir():
            path.rmdir()
        put(path, OLD)
        assert keys().key_id == first.key_id
    put(path, NEW)
    assert keys().key_id == Pseudonyms(NEW).key_id
    assert len(told) == 2


def test_the_file_is_left_alone_for_a_while(tmp_path: Path) -> None:
    """Not looked at for each token."""
    path = tmp_path / "pseudonyms"
    put(path, OLD)
    keys = PseudonymKeyFile(path, read_key(path), lambda _: None)
    keys()
    put(path, NEW)
    assert keys().key_id == Pseudonyms(OLD).key_id


def test_a_running_app_takes_the_new_key(tmp_path: Path, live: Live) -> None:
    """Through the parts as an app has them, for tokens that come after."""
    path, _, _ = live
    (tmp_path / "issuer.pem").write_bytes(signing_key().pem)
    config, problems = load({}, public_key=tmp_path / "issuer.pem", pii="pseudonym", pseudonym_key_file=path)
    assert problems == []
    identifier = wiring.identifier(config, suppress=nullcontext)
    shown = []
    for number, key in enumerate((OLD, NEW)):
        put(path, key)
        token = signing_key().sign(claims(iat=None, exp=int(time.time()) + 600, jti=str(number)))
        request = request_with(("Authorization", f"Bearer {token}"))
        assert identifier.begin(request) is None
        shown.append(request.identity.telemetry["jwt.pseudonym.key_id"])
    identifier.close()
    assert shown == [Pseudonyms(OLD).key_id, Pseudonyms(NEW).key_id]
