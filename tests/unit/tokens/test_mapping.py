"""What becomes of the claims that an operator asks for: kept as far as they can be, and a mark where not whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwt_audit.attributes import MAX_ITEMS, digest_of
from jwt_audit.identity.caller import Identity, Reason, Status
from jwt_audit.identity.privacy import Policy, Privacy, Pseudonyms
from jwt_audit.settings.issuer import IssuerSettings
from jwt_audit.tokens.claims import verified
from jwt_audit.tokens.jws import TokenRefusedError
from jwt_audit.tokens.mapping import mapped

ZITADEL = "urn:zitadel:iam:org:project:roles"
MAPPING = (("roles", "user.roles"),)
MANY = [f"group-{number}" for number in range(100)]


def identity(claims: dict[str, Any], *mapping: tuple[str, str]) -> Identity:
    return verified(claims, IssuerSettings("test", subject=(), session=(), claims=mapping or MAPPING), None)


def mark(value: Any, attribute: str = "user.roles") -> list[str]:
    return [f"{attribute}…sha256:{digest_of(value)}"]


@pytest.mark.parametrize(
    ("value", "kept", "whole"),
    [
        (["a", "b"], ["a", "b"], True),
        ("a", ["a"], True),
        ([], [], True),
        (["a", 7, True, 1.5], ["a", "7", "True", "1.5"], True),
        (MANY[:MAX_ITEMS], MANY[:MAX_ITEMS], True),
        (None, None, True),
        (["a", None, "b"], ["a", "b"], False),
        (["a", {"name": "b"}], ["a"], False),
        (["a", ["b"]], ["a"], False),
        (["a", 2**600], ["a"], False),
        ([None], None, False),
        ([{"name": "a"}], None, False),
        (MANY, MANY[:MAX_ITEMS], False),
        ({"admin": {"178": "acme.example.com"}, "viewer": {"178": "acme.example.com"}}, ["admin", "viewer"], False),
        ({"admin": True, "editor": False, "viewer": True}, ["admin", "viewer"], False),
        ({"admin": {}}, ["admin"], False),
        ({"roles": ["a", "b"]}, None, False),
        ({"account": {"roles": ["manage-account"]}}, None, False),
        ({"name": "admin"}, None, False),
        ({}, None, False),
        (2**600, None, False),
    ],
)
def test_a_claim_is_kept_as_far_as_it_can_be(value: Any, kept: list[str] | None, whole: bool) -> None:
    """On spans, log records and in the record alike, and what is left out is told beside it, by name and digest."""
    found = identity({"roles": value})
    for shown in (found.telemetry, found.logged, found.audit):
        assert shown.get("user.roles") == kept
        assert shown.get("jwt.claims_partial") == (None if whole else mark(value))
    assert found.claims.get("user.roles") == (MANY if value is MANY else kept)


def test_the_roles_of_zitadel() -> None:
    """By the name of the claim as Zitadel writes it (case N13 of the public reports)."""
    roles = {"admin": {"17": "acme.example.com"}, "viewer": {"17": "acme.example.com"}}
    assert identity({ZITADEL: roles}, (ZITADEL, "user.roles")).telemetry["user.roles"] == ["admin", "viewer"]


values = st.recursive(
    st.none() | st.text("ab\\\n…", max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=6,
)
nested = values.filter(lambda value: isinstance(value, (list, dict)))


@given(st.lists(nested, min_size=2, max_size=2, unique_by=digest_of))
def test_two_claims_never_become_one(pair: list[Any]) -> None:
    """Whatever is left out of either."""
    first, second = (identity({"roles": value}).audit for value in pair)
    assert first != second


def test_two_long_lists_never_become_one() -> None:
    """Who has a hundred groups is told from who has one more."""
    first, second = (identity({"roles": value}).audit for value in (MANY, [*MANY, "admins"]))
    assert first["user.roles"] == second["user.roles"]
    assert first["jwt.claims_partial"] != second["jwt.claims_partial"]


def test_the_first_claim_that_gives_a_value_counts() -> None:
    """One that gives none is marked only where no other does."""
    both = (("a", "user.roles"), ("b", "user.roles"))
    assert "jwt.claims_partial" not in identity({"a": {"x": 1}, "b": ["r"]}, *both).audit
    assert "jwt.claims_partial" not in identity({"a": ["r"], "b": {"x": 1}}, *both).audit
    assert identity({"a": ["r", None], "b": ["s"]}, *both).audit["jwt.claims_partial"] == mark(["r", None])
    assert identity({"a": {"x": 1}, "b": {"y": 1}}, *both).audit["jwt.claims_partial"] == mark({"x": 1})


def test_the_mark_follows_the_policy() -> None:
    """A digest of what says who somebody is could be guessed: it is keyed under a pseudonym, and gone under off."""
    mapping = (("roles", "user.roles"), ("mails", "user.email"))
    found = identity({"roles": ["a", None], "mails": ["a@example.com", None]}, *mapping)
    hidden = found.with_privacy(Privacy(Policy.PSEUDONYM, Policy.OFF, Policy.RAW, Pseudonyms(bytes(32))))
    assert hidden.audit["jwt.claims_partial"] == mark(["a", None]) + mark(["a@example.com", None], "user.email")
    assert hidden.logged["jwt.claims_partial"] == mark(["a", None])
    partial = hidden.telemetry["jwt.claims_partial"]
    assert isinstance(partial, list)
    assert partial[:1] == mark(["a", None])
    assert partial[1].startswith("user.email…hmac-sha256:")
    assert digest_of(["a@example.com", None]) not in json.dumps(partial)


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({}, "the token has no such claim"),
        ({"roles": None}, "it is null"),
        ({"roles": {"x": 1}}, "it is an object: name what is in it by a JSON Pointer"),
        ({"roles": {"x": True}}, "it is an object: the names of its members are recorded, not what is in them"),
        ({"roles": ["a", {}, None]}, "2 of its 3 items are left out: neither texts nor numbers"),
        ({"roles": MANY}, "it has 100 items, of which 64 are recorded"),
        ({"roles": 2**600}, "it is a number of more than 512 bits"),
        ({"roles": ["a"]}, None),
    ],
)
def test_what_is_missing_is_said_in_words(claims: dict[str, Any], why: str | None) -> None:
    """For whoever maps claims."""
    assert [found.why for found in mapped(claims, MAPPING)] == [why]


def test_a_claim_that_nests_too_deeply_is_no_claim() -> None:
    """It is refused, and raises nothing else."""
    deep: Any = [None]
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(TokenRefusedError) as caught:
        identity({"roles": deep})
    assert caught.value.reason is Reason.MALFORMED
    assert identity({}).status is Status.VERIFIED
    while deep:  # taken apart by hand: its own end would nest as deeply
        deep = deep.pop()
