"""What an Authorization header shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwt_audit.identity import Reason, Status
from jwt_audit.tokens.extract import bearer
from jwt_audit.tokens.jws import MAX_TOKEN
from support.issuer import b64

JWT = f"{b64(b'{}')}x.{b64(b'{}')}.c2ln"
OTHER = f"{JWT}A"


@pytest.mark.parametrize(
    "value",
    [f"Bearer {JWT}", f"bearer {JWT}", f"BEARER {JWT}", f"Bearer   {JWT}", f"Bearer\t{JWT}", f" Bearer \t{JWT} \t"],
)
def test_a_bearer_token_is_found_however_the_scheme_is_written(value: str) -> None:
    """The scheme has no case (RFC 9110, 11.1), and blanks around the token do no harm."""
    assert bearer([value]).token == JWT


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        ["Basic dXNlcjpwYXNz"],
        ["ApiKey 0123456789"],
        ["0123456789"],
        ['Digest username="u", realm="r", nonce="n", uri="/", response="x"'],
        ["AWS4-HMAC-SHA256 Credential=A/20260101/x, SignedHeaders=host, Signature=00"],
        ["Basic dXNlcjpwYXNz", "Basic b3RoZXI6cGFzcw=="],
        ["Basic " + "x" * 40_000],
        ["Token \xff\xfe"],
    ],
)
def test_other_schemes_are_no_tokens(values: list[str]) -> None:
    """Basic, Digest, signatures and API keys leave the token absent, and are not looked into."""
    shown = bearer(values)
    assert shown.token is None
    assert shown.identity is not None
    assert shown.identity.status is Status.ABSENT
    assert shown.identity.reason is None


@pytest.mark.parametrize(
    ("value", "reason", "status"),
    [
        ("Bearer", Reason.MALFORMED, Status.INVALID),
        ("Bearer ", Reason.MALFORMED, Status.INVALID),
        (f"Bearer {JWT} {JWT}", Reason.MALFORMED, Status.INVALID),
        (f"Bearer {JWT}\xff", Reason.MALFORMED, Status.INVALID),
        (f"Bearer {JWT},", Reason.MALFORMED, Status.INVALID),
        (f"Bearer {JWT}.x", Reason.MALFORMED, Status.INVALID),
        (f"Bearer {JWT[: JWT.rindex('.')]}", Reason.MALFORMED, Status.INVALID),
        (f"Bearer ey{'x' * 30_000}", Reason.TOO_LARGE, Status.INVALID),
        (f"Bearer {JWT}.x.x", Reason.UNSUPPORTED_TOKEN, Status.UNVERIFIED),
        ("Bearer ghs_invented0000", Reason.UNSUPPORTED_TOKEN, Status.UNVERIFIED),
        ("Bearer ya29.a0invented-_0000", Reason.UNSUPPORTED_TOKEN, Status.UNVERIFIED),
        ("Bearer v4.public.bm90IGEgSldU", Reason.UNSUPPORTED_TOKEN, Status.UNVERIFIED),
        ("Bearer v4.local.bm90IGEgSldU.Zm9vdGVy", Reason.UNSUPPORTED_TOKEN, Status.UNVERIFIED),
        ("Bearer null", Reason.UNSUPPORTED_TOKEN, Status.UNVERIFIED),
        (f"DPoP {JWT}", Reason.UNSUPPORTED_TOKEN, Status.UNVERIFIED),
        (f"JWT {JWT}", Reason.UNSUPPORTED_TOKEN, Status.UNVERIFIED),
        (JWT, Reason.UNSUPPORTED_TOKEN, Status.UNVERIFIED),
    ],
)
def test_what_cannot_be_verified_has_a_reason(value: str, reason: Reason, status: Status) -> None:
    """A bearer credential that is no signed JWT is recognised by its looks and told, never a crash."""
    shown = bearer([value])
    assert shown.token is None
    assert shown.identity is not None
    assert (shown.identity.reason, shown.identity.status) == (reason, status)


@pytest.mark.parametrize(
    "values",
    [
        [f"Bearer {JWT}", f"Bearer {OTHER}"],
        [f"Bearer {JWT},Bearer {OTHER}"],
        [f"Bearer {JWT}, Bearer {OTHER}"],
        [f"Bearer {JWT}", "Basic dXNlcjpwYXNz"],
        ["Basic dXNlcjpwYXNz", f"Bearer {JWT}"],
        [f"Basic dXNlcjpwYXNz,Bearer {JWT}"],
        [f"DPoP {JWT}", f"Bearer {JWT}"],
        [JWT, OTHER],
    ],
)
def test_two_credentials_prove_nothing(values: list[str]) -> None:
    """The app may use the one that we did not verify: so neither is an identity."""
    shown = bearer(values)
    assert shown.token is None
    assert shown.identity is not None
    assert shown.identity.reason is Reason.MULTIPLE_TOKENS


@pytest.mark.parametrize("values", [[f"Bearer {JWT}", f"bearer  {JWT}"], [f"Bearer {JWT},Bearer {JWT}"]])
def test_the_same_token_twice_is_one_token(values: list[str]) -> None:
    """Only two different tokens are a contradiction."""
    assert bearer(values).token == JWT


def test_the_limit_counts_the_token() -> None:
    """A token of exactly 16 KiB is handed on, one character more is too large."""
    longest = JWT + "A" * (MAX_TOKEN - len(JWT))
    assert bearer([f"Bearer {longest}"]).token == longest
    refused = bearer([f"Bearer {longest}A"]).identity
    assert refused is not None
    assert refused.reason is Reason.TOO_LARGE


@given(
    st.lists(st.text(st.characters(max_codepoint=255), max_size=60) | st.sampled_from([f"Bearer {JWT}"]), max_size=3)
)
def test_any_headers_give_a_token_or_an_answer(values: list[str]) -> None:
    """Whatever latin-1 text the headers hold, there is exactly one of the two."""
    shown = bearer(values)
    assert (shown.token is None) != (shown.identity is None)
    if shown.identity is not None:
        assert not shown.identity.verified
