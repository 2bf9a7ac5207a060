"""From claims to what is recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jwt_audit.attributes import text
from jwt_audit.identity.caller import ActorType, Identity, Reason, Status
from jwt_audit.identity.privacy import Policy, Privacy, Pseudonyms
from jwt_audit.settings.issuer import IssuerSettings
from jwt_audit.tokens.claims import MAX_TIME, audience_matches, expired, times, verified
from jwt_audit.tokens.jws import TokenRefusedError

SETTINGS = IssuerSettings("test")


def identity(claims: dict[str, Any], mapping: dict[str, str] | None = None) -> Identity:
    return verified(claims, replace(SETTINGS, claims=tuple((mapping or {}).items())), None)


@pytest.mark.parametrize(
    ("claims", "subject"),
    [
        ({"sub": "u1"}, "u1"),
        ({"sub": 1001}, "1001"),
        ({"sub": -1}, "-1"),
        ({"sub": 2**70}, str(2**70)),
        ({"sub": "100000000000000000001"}, "100000000000000000001"),
        ({"user_id": 7}, "7"),
        ({"sub": "u1", "user_id": 7}, "u1"),
        ({"sub": "", "user_id": 7}, "7"),
        ({"sub": ""}, None),
        ({}, None),
        ({"sub": "u\0\r\nadmin"}, "u\0\r\nadmin"),
        ({"sub": "x" * 2000}, "x" * 2000),
    ],
)
def test_the_subject_is_text(claims: dict[str, Any], subject: str | None) -> None:
    """Text as it is, or an integer as its decimal string; the first claim that is there. Recorded in its form."""
    found = identity(claims)
    assert found.subject == subject
    assert found.audit.get("enduser.id") == (None if subject is None else text(subject))


@pytest.mark.parametrize("value", [None, True, 1.5, 1001.0, 2**600, {}, {"id": "u1"}, [], ["u1"]])
def test_a_subject_that_is_no_name_is_no_identity(value: Any) -> None:
    """An object never becomes an identity, and no other claim takes its place."""
    with pytest.raises(TokenRefusedError) as caught:
        identity({"sub": value, "user_id": "u2"})
    assert caught.value.reason is Reason.CLAIM_MISSING


@pytest.mark.parametrize(
    ("claims", "session", "claim"),
    [
        ({"sid": "s", "jti": "j"}, "s", "sid"),
        ({"session_state": "s", "jti": "j"}, "s", "session_state"),
        ({"jti": "j"}, "j", "jti"),
        ({"sid": {"x": 1}, "jti": "j"}, "j", "jti"),
        ({"sid": "", "session_id": 5}, "5", "session_id"),
        ({}, None, None),
    ],
)
def test_the_session_and_the_claim_it_came_from(claims: dict[str, Any], session: str | None, claim: str | None) -> None:
    """The first usable claim of the list is the session, and is named."""
    found = identity(claims)
    assert (found.session, found.session_claim) == (session, claim)


@pytest.mark.parametrize("name", ["azp", "client_id", "cid", "appid"])
def test_a_token_without_a_subject_is_its_client(name: str) -> None:
    """Nobody is named, so the actor is the program that acts (Keycloak's lightweight tokens)."""
    found = identity({name: "batch"})
    assert found.verified
    assert "enduser.id" not in found.telemetry
    assert (found.actor_id, found.actor) == ("batch", ActorType.SERVICE)


@pytest.mark.parametrize(
    ("claims", "actor"),
    [
        ({"sub": "M2m@clients", "azp": "M2m", "gty": "client-credentials"}, ActorType.SERVICE),
        ({"sub": "c1", "client_id": "c1"}, ActorType.SERVICE),
        ({"sub": "o1", "oid": "o1", "azp": "c1", "idtyp": "app"}, ActorType.SERVICE),
        ({"sub": "o1", "oid": "o1", "azp": "c1"}, ActorType.SERVICE),
        ({"sub": "o1", "oid": "o1", "azp": "c1", "scp": "read"}, ActorType.USER),
        ({"sub": "d0", "azp": "Batch", "preferred_username": "service-account-batch"}, ActorType.SERVICE),
        ({"sub": "d0", "azp": "web", "preferred_username": "service-account-batch"}, ActorType.USER),
        ({"sub": "system:serviceaccount:shop:web"}, ActorType.SERVICE),
        ({"sub": "spiffe://example.org/web"}, ActorType.SERVICE),
        ({"sub": "u1", "azp": "web"}, ActorType.USER),
        ({"sub": "u1", "idtyp": "user"}, ActorType.USER),
        ({"iss": "supabase", "role": "service_role"}, ActorType.SERVICE),
        ({"sub": "u1", "role": "service_role"}, ActorType.SERVICE),
        ({"iss": "supabase", "role": "anon"}, ActorType.USER),
        ({"sub": "u1", "role": "authenticated"}, ActorType.USER),
        ({}, ActorType.USER),
    ],
)
def test_programs_are_told_from_people(claims: dict[str, Any], actor: ActorType) -> None:
    """A token made for a program that acts for itself is a service's."""
    assert identity(claims).actor_type is actor


@pytest.mark.parametrize(
    ("name", "attribute", "claims", "value"),
    [
        ("/realm_access/roles", "user.roles", {"realm_access": {"roles": ["a", "b"]}}, ["a", "b"]),
        ("cognito:groups", "user.roles", {"cognito:groups": ["admins"]}, ["admins"]),
        ("https://example.com/roles", "user.roles", {"https://example.com/roles": ["a"]}, ["a"]),
        ("a.b", "x.y", {"a.b": 1, "a": {"b": 2}}, 1),
        ("/a~1b/~0c", "x.y", {"a/b": {"~c": "v"}}, "v"),
        ("/amr/0/method", "x.y", {"amr": [{"method": "password"}]}, "password"),
        ("/amr/00", "x.y", {"amr": ["p"]}, None),
        ("/amr/-", "x.y", {"amr": ["p"]}, None),
        ("/amr/7", "x.y", {"amr": ["p"]}, None),
        ("/a/b", "x.y", {"a": "text"}, None),
        ("role", "user.roles", {"role": "admin"}, ["admin"]),
        ("role", "x.y", {"role": "admin"}, "admin"),
        ("scope", "oauth.scope", {"scope": "openid  profile"}, ["openid", "profile"]),
        ("scope", "oauth.scope", {"scope": ["read", "write"]}, ["read", "write"]),
        ("scp", "oauth.scope", {"scp": ""}, []),
        ("roles", "user.roles", {"roles": []}, []),
        ("roles", "user.roles", {}, None),
        ("roles", "user.roles", {"roles": [{"id": 1}]}, None),
        ("roles", "user.roles", {"roles": None}, None),
        ("tenant", "x.y", {"tenant": {"id": 1}}, None),
        ("n", "x.y", {"n": 2**63}, str(2**63)),
        ("flag", "x.y", {"flag": True}, True),
        ("long", "x.y", {"long": "x" * 5000}, "x" * 5000),
        ("many", "x.y", {"many": ["x"] * 500}, ["x"] * 500),
    ],
)
def test_other_claims_by_mapping(name: str, attribute: str, claims: dict[str, Any], value: Any) -> None:
    """A literal name or a JSON Pointer; what has no form as an attribute is left out; absent is not empty."""
    assert identity(claims, {name: attribute}).claims.get(attribute) == value


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, (None, None, None)),
        ({"exp": 100}, (None, 110, 100)),
        ({"exp": 100.9}, (None, 110.9, 100)),
        ({"exp": "100"}, (None, 110, 100)),
        ({"exp": 100, "nbf": 50, "iat": 60}, (50, 110, 100)),
        ({"nbf": -62135596800}, (-62135596810, None, None)),
        ({"exp": MAX_TIME}, (None, MAX_TIME + 10, MAX_TIME)),
    ],
)
def test_times(claims: dict[str, Any], expected: tuple[float | None, float | None, int | None]) -> None:
    """A fraction is legal, digits in a string are taken as the number, and the leeway is in both ends."""
    assert times(claims, 10) == expected


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value",
    [
        None, True, "", "tomorrow", "-1", "1e9", "9" * 13, "٣", [1], {},
        1795503600000, 10**50, 1e308, -1e308, float("nan"), float("inf"),
    ],
)  # fmt: skip
def test_what_is_no_time_is_told(name: str, value: Any) -> None:
    """Null, words, milliseconds and absurd numbers are no times: the claim counts as missing."""
    with pytest.raises(TokenRefusedError) as caught:
        times({name: value}, 10)
    assert caught.value.reason is Reason.CLAIM_MISSING


@pytest.mark.parametrize(
    ("claims", "matches"),
    [
        ({"aud": "api"}, True),
        ({"aud": ["other", "api"]}, True),
        ({"aud": ["other", 7, None]}, False),
        ({"aud": "API"}, False),
        ({"aud": "api "}, False),
        ({"aud": []}, False),
        ({"aud": {"api": 1}}, False),
        ({"aud": None, "client_id": "api"}, False),
        ({"aud": "other", "client_id": "api"}, False),
        ({"client_id": "api"}, True),
        ({"client_id": "other"}, False),
        ({"azp": "api"}, False),
        ({}, False),
    ],
)
def test_the_audience(claims: dict[str, Any], matches: bool) -> None:
    """Exact, in text or list; only a token without any audience is judged by its client (Cognito)."""
    assert audience_matches(claims, frozenset(("api",))) is matches


def test_an_expired_token_is_nobody_but_tells_whose_it_was() -> None:
    """Subject and session of an expired token go under names of their own, into the audit record alone."""
    found = expired({"sub": 7, "sid": "s"}, SETTINGS, {"jwt.claimed.issuer": "i"})
    assert (found.status, found.reason) == (Status.EXPIRED, Reason.EXPIRED)
    assert (found.subject, found.session, found.actor_id) == (None, None, "anonymous")
    assert dict(found.extra) == {
        "jwt.claimed.issuer": "i",
        "jwt.expired.subject": "7",
        "jwt.expired.session": "s",
    }
    assert dict(found.telemetry) == {"jwt.status": "expired", "jwt.error": "expired"}


def test_other_parts_of_the_identity() -> None:
    """Issuer, token id and client are text, bounded; what is of another type is left out."""
    found = identity({"sub": "u", "iss": "i" * 2000, "jti": 5, "azp": {"x": 1}, "cid": "c\n"})
    assert (found.issuer, found.token_id, found.client) == ("i" * 2000, "5", "c\n")
    assert (found.audit["jwt.issuer"], found.audit["jwt.client_id"]) == (text("i" * 2000), "c\\x0a")


@pytest.mark.parametrize(
    ("claims", "client"),
    [
        ({"sid": "sess_1", "azp": "https://app.example.com"}, None),
        ({"sid": "sess_1", "azp": "http://localhost:3000"}, None),
        ({"sid": "sess_1", "azp": "chrome-extension://abcdefgh"}, None),
        ({"sid": "sess_1", "azp": "https://app.example.com", "client_id": "c1"}, "c1"),
        ({"sid": "sess_1", "azp": "c1"}, "c1"),
        ({"sid": "sess_1", "azp": "https://app.example.com/client"}, "https://app.example.com/client"),
        ({"sid": "s-1", "azp": "https://app.example.com"}, "https://app.example.com"),
        ({"azp": "https://app.example.com"}, "https://app.example.com"),
    ],
)
def test_the_origin_of_a_page_is_no_client(claims: dict[str, Any], client: str | None) -> None:
    """Clerk writes it into ``azp``; elsewhere a client may well be called by a URL."""
    found = identity({"sub": "u", **claims})
    assert (found.client, found.actor) == (client, ActorType.USER)
    assert ("jwt.client_id" in found.audit) == (client is not None)


NAMES = ["DOMAIN\\alice", "C:\\x64\\new", "a\\\\b", "a\nb", "\u2028", "x" * 5000, "…sha256:" + "0" * 32, "J\u00fcrgen"]


@pytest.mark.parametrize("name", NAMES)
def test_the_app_is_given_what_the_token_says(name: str) -> None:
    """No backslash is doubled, nothing is cut; spans, log records and the audit record have its one form."""
    everything = {"sub": name, "iss": name, "sid": name, "jti": name, "azp": name, "act": {"sub": name, "iss": name}}
    found = identity({**everything, "team": name, "roles": [name]}, {"team": "x.team", "roles": "user.roles"})
    whole = (found.subject, found.issuer, found.session, found.token_id, found.client, found.acting)
    assert set(whole) == {name} == {found.acting_issuer}
    assert dict(found.claims) == {"x.team": name, "user.roles": [name]}
    form = text(name)
    assert found.actor_id == form
    for shown in (found.telemetry, found.logged, found.audit):
        assert {shown[key] for key in ("enduser.id", "jwt.issuer", "session.id", "x.team")} == {form}
        assert shown["user.roles"] == [form]
    assert {found.audit[key] for key in ("jwt.id", "jwt.client_id", "jwt.act.subject", "jwt.act.issuer")} == {form}


def test_a_pseudonym_is_of_the_form() -> None:
    """So an issuer with a line break in its name cannot borrow another's people."""
    privacy = Privacy(Policy.PSEUDONYM, Policy.PSEUDONYM, Policy.PSEUDONYM, Pseudonyms(bytes(32)))
    first = identity({"iss": "a\nb", "sub": "c"}).with_privacy(privacy)
    second = identity({"iss": "a", "sub": "b\nc"}).with_privacy(privacy)
    assert first.actor_id != second.actor_id
    assert first.actor_id == privacy.shown(Policy.PSEUDONYM, "subject", "a\\x0ab", "c")
