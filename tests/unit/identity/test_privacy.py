"""What is shown of people, by each policy, and that nothing else lets it through."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jwt_audit.errors import KeySourceError
from jwt_audit.identity.caller import Identity, Reason, Status, refused
from jwt_audit.identity.privacy import RAW_EVERYWHERE, Policy, Privacy, Pseudonyms, is_personal
from jwt_audit.settings.environment import load
from jwt_audit.settings.variables import PREFIX

KEY, OTHER = Pseudonyms(bytes(range(32))), Pseudonyms(bytes(range(1, 33)))
ALICE = Identity(
    Status.VERIFIED,
    subject="alice@example.com",
    session="s-17",
    session_claim="sid",
    issuer="https://a.example.com/",
    expires_at=1_795_500_000,
    token_id="j-17",
    client="web-shop",
    acting="admin@example.com",
    claims={
        "user.roles": ["auditor"],
        "user.email": "alice@example.com",
        "app.tenant": "t-7",
        "user.groups": ["g-1", "g-2"],
    },
)
PERSONAL = ("alice@example.com", "s-17", "j-17", "admin@example.com", "g-1")


def alice(policy: Policy, keys: Pseudonyms | None = KEY) -> Identity:
    return ALICE.with_privacy(Privacy(policy, policy, policy, keys))


def test_raw_is_as_the_token_has_it() -> None:
    """The default shows everything, and costs no copy."""
    assert ALICE.with_privacy(RAW_EVERYWHERE) is ALICE
    assert ALICE.telemetry["enduser.id"] == "alice@example.com"
    assert ALICE.logged is ALICE.telemetry
    assert ALICE.audit["user.email"] == "alice@example.com"
    assert "jwt.pseudonym.key_id" not in ALICE.audit


def test_pseudonyms_take_the_place_of_people() -> None:
    """The subject under its own name, session, token id, acting party and personal claims under theirs."""
    hidden = alice(Policy.PSEUDONYM)
    for shown in (hidden.telemetry, hidden.logged, hidden.audit):
        assert not [secret for secret in PERSONAL if secret in str(dict(shown))]
        assert "enduser.id" not in shown
        assert shown["enduser.pseudo.id"] == KEY.pseudonym("subject", ALICE.issuer, "alice@example.com")
        assert shown["session.id"] == KEY.pseudonym("session", ALICE.issuer, "s-17")
        assert shown["jwt.pseudonym.key_id"] == KEY.key_id
        assert (shown["user.roles"], shown["app.tenant"]) == (["auditor"], "t-7")
        assert shown["user.groups"] == [KEY.pseudonym("claim", ALICE.issuer, item) for item in ("g-1", "g-2")]
        assert (shown["jwt.issuer"], shown["jwt.expires_at"]) == (ALICE.issuer, ALICE.expires_at)
    assert hidden.actor_id == hidden.audit["enduser.pseudo.id"]
    assert hidden.audit["jwt.client_id"] == "web-shop"
    assert hidden.audit["jwt.act.subject"] == KEY.pseudonym("subject", ALICE.issuer, "admin@example.com")
    assert hidden.subject == "alice@example.com"  # for the app itself


def test_off_shows_nobody() -> None:
    """Issuer, expiry, status, roles and tenant stay; the actor is unknown."""
    for hidden in (alice(Policy.OFF), alice(Policy.OFF, None), alice(Policy.PSEUDONYM, None)):
        for shown in (hidden.telemetry, hidden.logged, hidden.audit):
            assert not [secret for secret in PERSONAL if secret in str(dict(shown))]
            assert {"enduser.id", "enduser.pseudo.id", "session.id", "user.email"} & set(shown) == set()
            assert shown["user.roles"] == ["auditor"]
        assert hidden.actor_id == "unknown"


def test_each_signal_has_its_policy() -> None:
    """Raw in the record, pseudonyms on spans, nothing in logs."""
    identity = ALICE.with_privacy(Privacy(Policy.PSEUDONYM, Policy.OFF, Policy.RAW, KEY))
    assert "enduser.pseudo.id" in identity.telemetry
    assert "enduser.id" not in identity.telemetry
    assert not {"enduser.id", "enduser.pseudo.id"} & set(identity.logged)
    assert identity.audit["enduser.id"] == identity.actor_id == "alice@example.com"


@pytest.mark.parametrize("policy", list(Policy))
def test_an_expired_token_tells_by_the_same_policy(policy: Policy) -> None:
    """Whose it was is personal too."""
    extra = {
        "jwt.claimed.issuer": "https://a.example.com/",
        "jwt.expired.subject": "alice@example.com",
        "jwt.expired.session": "s-17",
    }
    shown = dict(refused(Reason.EXPIRED, extra=extra).with_privacy(Privacy(policy, policy, policy, KEY)).audit)
    if policy is Policy.RAW:
        assert shown["jwt.expired.subject"] == "alice@example.com"
        return
    assert not [secret for secret in PERSONAL if secret in str(shown)]
    person = KEY.pseudonym("subject", "https://a.example.com/", "alice@example.com")
    assert shown.get("jwt.expired.subject") == (person if policy is Policy.PSEUDONYM else None)
    assert shown["jwt.claimed.issuer"] == "https://a.example.com/"


def test_a_pseudonym_tells_nothing_and_joins_what_belongs_together() -> None:
    """The same for the same person of the same issuer under the same key, and for nobody else."""
    one = KEY.pseudonym("subject", "https://a/", "alice")
    assert (
        one
        == KEY.pseudonym("subject", "https://a/", "alice")
        == Pseudonyms(bytes(range(32))).pseudonym("subject", "https://a/", "alice")
    )
    others = {
        KEY.pseudonym("subject", "https://b/", "alice"),
        KEY.pseudonym("subject", "https://a/", "bob"),
        KEY.pseudonym("session", "https://a/", "alice"),
        OTHER.pseudonym("subject", "https://a/", "alice"),
        KEY.fingerprint("alice"),
    }
    assert len(others | {one}) == 6
    assert len(one) == 64
    assert KEY.key_id != OTHER.key_id
    assert "alice" not in one


def test_short_keys_are_refused() -> None:
    """What can be guessed hides nobody."""
    with pytest.raises(KeySourceError, match="31 bytes"):
        Pseudonyms(b"x" * 31)


def test_the_fingerprint_is_for_the_record_alone() -> None:
    """Of any token, verified or not; keyed, so that nobody can try tokens against it."""
    privacy = Privacy(pseudonyms=KEY, fingerprint=True)
    for identity in (ALICE, refused(Reason.SIGNATURE_MISMATCH)):
        shown = identity.with_privacy(privacy, "e30.e30.x")
        assert shown.audit["jwt.fingerprint"] == KEY.fingerprint("e30.e30.x")
        assert "jwt.fingerprint" not in {*shown.telemetry, *shown.logged}
    assert "jwt.fingerprint" not in ALICE.with_privacy(replace(privacy, fingerprint=False), "e30.e30.x").audit


@pytest.mark.parametrize(
    ("name", "personal"),
    [
        ("user.email", True),
        ("user.name", True),
        ("enduser.x", True),
        ("user.roles", False),
        ("enduser.role", False),
        ("app.tenant", False),
        ("username", False),
    ],
)
def test_what_is_personal(name: str, personal: bool) -> None:
    """The namespaces of the semantic conventions that describe people, roles and scopes excepted."""
    assert is_personal(name) == personal


def env(**settings: str) -> dict[str, str]:
    return {PREFIX + name: value for name, value in settings.items()}


@pytest.mark.parametrize(
    ("text", "policies"),
    [
        ("raw", ("raw", "raw", "raw")),
        ("off", ("off", "off", "off")),
        ("spans=off", ("off", "raw", "raw")),
        ("pseudonym, audit=raw", ("pseudonym", "pseudonym", "raw")),
        ("spans=pseudonym,logs=off,audit=raw", ("pseudonym", "off", "raw")),
    ],
)
def test_the_setting(tmp_path: Path, text: str, policies: tuple[str, str, str]) -> None:
    """One word for all, or one for each signal."""
    key = tmp_path / "key"
    key.write_bytes(bytes(32) + b"\n")
    config, problems = load(env(PII=text, PSEUDONYM_KEY_FILE=str(key)))
    assert problems == []
    assert (config.privacy.spans.value, config.privacy.logs.value, config.privacy.audit.value) == policies


@pytest.mark.parametrize("text", ["pseudonyms", "spans", "span=off", "spans=", "spans=hidden", "RAW"])
def test_a_wrong_setting_shows_nobody(text: str) -> None:
    """It was meant to hide something: so everything is hidden until it is mended."""
    config, problems = load(env(PII=text))
    assert [problem.variable for problem in problems] == [f"{PREFIX}PII"]
    assert config.privacy == Privacy(Policy.OFF, Policy.OFF, Policy.OFF)


@pytest.mark.parametrize("key", [None, b"", b"short", "/no/such/file"])
def test_without_a_key_there_are_no_pseudonyms(tmp_path: Path, key: Any) -> None:
    """What needs one is left out, never shown; what does not is as it was."""
    settings = {"PII": "pseudonym,audit=raw", "TOKEN_FINGERPRINT": "true"}
    if key is not None:
        path = tmp_path / "key"
        if isinstance(key, bytes):
            path.write_bytes(key)
        settings["PSEUDONYM_KEY_FILE"] = str(path)
    config, problems = load(env(**settings))
    assert {problem.variable for problem in problems} == {f"{PREFIX}PSEUDONYM_KEY_FILE"}
    shown = ALICE.with_privacy(config.privacy, "e30.e30.x")
    assert "enduser.pseudo.id" not in shown.telemetry
    assert "enduser.id" not in shown.telemetry
    assert shown.audit["enduser.id"] == "alice@example.com"
    assert "jwt.fingerprint" not in shown.audit


def test_the_key_is_in_no_digest_and_no_message(tmp_path: Path) -> None:
    """The stream is bound to the policy, not to the secret."""
    key = tmp_path / "key"
    digests = []
    for secret in (b"a" * 32, b"b" * 32):
        key.write_bytes(secret)
        config, _ = load(env(PII="pseudonym", PSEUDONYM_KEY_FILE=str(key)))
        assert secret.decode() not in repr(config)
        digests.append(config.digest)
    assert digests[0] == digests[1] != load(env(PII="off", PSEUDONYM_KEY_FILE=str(key)))[0].digest
