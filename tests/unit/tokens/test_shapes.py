"""The tokens that real issuers mint, with the identity that is right for each.

Each goes the whole way: a file of issuers, a request's headers, the rules; and through `jwt-audit token
inspect`, under the same file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from jwt_audit.cli.main import main
from jwt_audit.identity.caller import Identity, Status
from jwt_audit.settings.environment import load
from jwt_audit.settings.variables import PREFIX
from jwt_audit.tokens.extract import Sources
from jwt_audit.tokens.issuers import KeyRing, make_issuers
from jwt_audit.tokens.verify import TokenVerifier
from support.headers import request_with
from support.shapes import DECIDED, IAT, REASONS, SHAPES, expected, header_of, issuer_of, source_of, token_of


def file_of(shape: dict[str, Any], folder: Path) -> Path:
    path = folder / "issuers.toml"
    path.write_text(issuer_of(shape, folder))
    return path


def identity_of(shape: dict[str, Any], folder: Path) -> Identity:
    """What a request that carries the shape's token proves."""
    config, problems = load({f"{PREFIX}ISSUERS_FILE": str(file_of(shape, folder))})
    assert problems == []
    told: list[str] = []
    issuers = make_issuers(
        config.issuers, KeyRing(warn_operator=lambda message, **_: told.append(message)), lambda *_, **__: None
    )
    assert issuers is not None
    verifier = TokenVerifier(issuers, now=lambda: IAT + 1)
    try:
        assert verifier.wait_ready(60)
        presented = Sources([*config.sources, *issuers.token_sources]).present(
            request_with(header_of(shape, token_of(shape)))
        )
        if presented.token is None:
            assert presented.identity is not None
            return presented.identity
        assert presented.source == source_of(shape)
        return verifier.verify(presented.token, presented.source)
    finally:
        verifier.close()
        assert told == []


def check(shape: dict[str, Any], attributes: dict[str, Any], actor: tuple[str, str]) -> None:
    name = shape["name"]
    if name in REASONS:
        reason = REASONS[name]
        assert shape["outcome"] != "verified"
        assert attributes.get("jwt.error") == (None if reason is None else reason.value)
        assert attributes["jwt.status"] == (
            "absent" if reason is None else "unverified" if reason.value == "unsupported_token" else "invalid"
        )
        claimed = {"jwt.claimed.issuer", "jwt.claimed.key_id", "jwt.claimed.algorithm"}
        assert set(attributes) <= {"jwt.status", "jwt.error"} | claimed
        assert actor[0] == "anonymous"
        return
    assert shape["outcome"] == "verified" or name in DECIDED
    assert attributes == expected(shape)
    subject, client = attributes.get("enduser.id"), attributes.get("jwt.client_id")
    assert actor[0] == (subject or client or "unknown")
    assert actor[1] == (shape["expect"]["actor_type"] if subject or not client else "service")


@pytest.mark.parametrize("name", list(SHAPES))
def test_shape(name: str, tmp_path: Path) -> None:
    """With the right key the record carries exactly the expected identity, else none and a reason."""
    identity = identity_of(SHAPES[name], tmp_path)
    check(SHAPES[name], dict(identity.audit), (identity.actor_id, identity.actor.value))
    if name in REASONS:
        assert identity.status is not Status.VERIFIED
        assert (identity.subject, identity.session, identity.issuer, identity.client) == (None, None, None, None)


@pytest.mark.parametrize("name", list(SHAPES))
def test_shape_inspected(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`jwt-audit token inspect` says the same of it, and never shows the token."""
    shape = SHAPES[name]
    monkeypatch.setenv(f"{PREFIX}ISSUERS_FILE", str(file_of(shape, tmp_path)))
    token = token_of(shape)
    header, value = header_of(shape, token)
    given = value if "DPoP" in value or header == "Cookie" else token
    words = ["token", "inspect", "--json", "--at", str(IAT + 1), "--header", header]
    shown = CliRunner().invoke(main, words, input=given + "\n", catch_exceptions=False)
    assert shown.exit_code == 0
    found = json.loads(shown.stdout)
    assert list(found)[:5] == ["status", "error", "issuer_config", "attributes", "actor"]
    assert list(found)[5:] == ["mismatches", "hints", "mappings"]
    assert (found["status"] == "verified") <= (found["mismatches"] == [])
    assert (found["status"], found["error"]) == (
        found["attributes"]["jwt.status"],
        found["attributes"].get("jwt.error"),
    )
    check(shape, found["attributes"], (found["actor"]["id"], found["actor"]["type"]))
    if found["status"] == "verified":
        assert found["issuer_config"] == (shape["payload"].get("iss") or "[[issuer]] 1")
    plain = CliRunner().invoke(main, [part for part in words if part != "--json"], input=given, catch_exceptions=False)
    assert plain.exit_code == 0
    assert plain.stdout.startswith(found["status"])
    for part in token.split(".")[1:]:
        assert len(part) < 12 or part not in shown.output + plain.output


@pytest.mark.parametrize("name", ["keycloak-access-user", "google-iap", "stress-alg-none"])
def test_shape_inspected_by_a_process(name: str, tmp_path: Path) -> None:
    """The installed command, an environment, a pipe."""
    shape = SHAPES[name]
    token = token_of(shape)
    shown = subprocess.run(
        [str(Path(sys.executable).with_name("jwt-audit")), "token", "inspect", "--json", "--at", "2026-11-24T06:00:01Z"]
        + (["--header", "X-Goog-IAP-JWT-Assertion"] if name == "google-iap" else []),
        input=token,
        env={**os.environ, f"{PREFIX}ISSUERS_FILE": str(file_of(shape, tmp_path))},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert shown.stderr == ""
    found = json.loads(shown.stdout)
    check(shape, found["attributes"], (found["actor"]["id"], found["actor"]["type"]))


def test_a_person_under_another_name(tmp_path: Path) -> None:
    """PingFederate names people by a claim of the operator's: once the table says which, the actor is that person."""
    shape = SHAPES["stress-pingfederate-no-iss"]
    keys = issuer_of(shape, tmp_path).replace('subject = "sub"', 'subject = ["sub", "Username"]')
    (tmp_path / "issuers.toml").write_text(keys)
    config, problems = load({f"{PREFIX}ISSUERS_FILE": str(tmp_path / "issuers.toml")})
    assert problems == []
    issuers = make_issuers(config.issuers, KeyRing(warn_operator=lambda *_, **__: None), lambda *_, **__: None)
    assert issuers is not None
    verifier = TokenVerifier(issuers, now=lambda: IAT + 1)
    try:
        assert verifier.wait_ready(60)
        identity = verifier.verify(token_of(shape))
    finally:
        verifier.close()
    assert (identity.actor_id, identity.actor.value, identity.client) == ("u1001", "user", "ping-client")


def test_nothing_is_left_out_in_silence() -> None:
    """What is to be decided is decided, and every refusal is a shape."""
    undecided = {name for name, shape in SHAPES.items() if shape["outcome"] in ("decide", "policy")}
    assert undecided == DECIDED
    assert set(REASONS) <= set(SHAPES)
    assert len(SHAPES) == 63
