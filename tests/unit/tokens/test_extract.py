"""Where a request shows its token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwt_audit.identity.caller import Reason, Status
from jwt_audit.tokens.extract import NOTHING, Presented, Sources, bearer
from jwt_audit.tokens.jws import MAX_TOKEN
from support.headers import request_with
from support.issuer import b64

JWT = f"{b64(b'{}')}x.{b64(b'{}')}.c2ln"
OTHER = f"{JWT}A"


@pytest.mark.parametrize(
    "value",
    [
        f"Bearer {JWT}",
        f"bearer {JWT}",
        f"DPoP {JWT}",
        f"BEARER {JWT}",
        f"Bearer   {JWT}",
        f"Bearer\t{JWT}",
        f" Bearer \t{JWT} \t",
    ],
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
        ("DPoP ghs_invented0000", Reason.UNSUPPORTED_TOKEN, Status.UNVERIFIED),
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


EVERY = Sources(["bearer", "header:x-assertion", "cookie:session", "websocket"])


def presented(sources: Sources, *pairs: tuple[str, str]) -> Presented:
    return sources.present(request_with(*pairs))


@pytest.mark.parametrize(
    ("pair", "source"),
    [
        (("authorization", f"Bearer {JWT}"), "bearer"),
        (("x-assertion", JWT), "header:x-assertion"),
        (("X-Assertion", f"Bearer {JWT}"), "header:x-assertion"),
        (("x-assertion", f"JWT {JWT}"), "header:x-assertion"),
        (("x-assertion", f"{JWT}, {JWT}"), "header:x-assertion"),
        (("cookie", f"session={JWT}"), "cookie:session"),
        (("cookie", f'a=b; session="{JWT}" ; c=d'), "cookie:session"),
        (("cookie", f"session={JWT}; session={JWT}"), "cookie:session"),
        (("sec-websocket-protocol", f"bearer, {JWT}"), "websocket"),
        (("sec-websocket-protocol", f"chat,Bearer,{JWT}"), "websocket"),
    ],
)
def test_each_source_shows_its_token(pair: tuple[str, str], source: str) -> None:
    """And says which it was, since some issuers count from one place alone."""
    assert presented(EVERY, pair) == Presented(JWT, None, source)
    assert presented(Sources([source]), pair) == Presented(JWT, None, source)
    for name in EVERY.names:
        if name != source:
            assert presented(Sources([name]), pair) is NOTHING


@pytest.mark.parametrize(
    "pair",
    [
        ("x-assertion", ""),
        ("x-assertion-2", JWT),
        ("cookie", f"Session={JWT}"),
        ("cookie", f"xsession={JWT}; session="),
        ("cookie", "session"),
        ("sec-websocket-protocol", JWT),
        ("sec-websocket-protocol", "bearer"),
        ("sec-websocket-protocol", f"chat, {JWT}"),
        ("authorization", "Basic dXNlcjpwYXNz"),
    ],
)
def test_other_places_show_nothing(pair: tuple[str, str]) -> None:
    """The names of cookies have case (RFC 6265); a subprotocol counts only after ``bearer``."""
    assert presented(EVERY, pair) is NOTHING


@pytest.mark.parametrize(
    "pairs",
    [
        [("x-assertion", JWT), ("x-assertion", OTHER)],
        [("x-assertion", f"{JWT},{OTHER}")],
        [("cookie", f"session={JWT}; session={OTHER}")],
        [("cookie", f"session={JWT}"), ("cookie", f"session={OTHER}")],
        [("sec-websocket-protocol", f"bearer, {JWT}, bearer, {OTHER}")],
        [("authorization", f"Bearer {JWT}"), ("authorization", f"Bearer {OTHER}"), ("x-assertion", JWT)],
    ],
)
def test_two_tokens_in_one_source_prove_nothing(pairs: list[tuple[str, str]]) -> None:
    """Nor does the next source help: the first that shows a credential decides."""
    identity = presented(EVERY, *pairs).identity
    assert identity is not None
    assert identity.reason is Reason.MULTIPLE_TOKENS


def test_the_order_is_the_operators() -> None:
    """A gateway's token and the app's may come together: the source that is named first counts."""
    both = [("authorization", f"Bearer {JWT}"), ("x-assertion", OTHER)]
    assert presented(Sources(["bearer", "header:x-assertion"]), *both).token == JWT
    assert presented(Sources(["header:x-assertion", "bearer"]), *both).token == OTHER
    opaque = [("authorization", "Bearer ghs_invented0000"), ("x-assertion", OTHER)]
    assert presented(Sources(["bearer", "header:x-assertion"]), *opaque).token is None
    basic = [("authorization", "Basic dXNlcjpwYXNz"), ("x-assertion", OTHER)]
    assert presented(Sources(["bearer", "header:x-assertion"]), *basic).token == OTHER


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["authorization", "x-assertion", "cookie", "sec-websocket-protocol"]),
            st.text(st.characters(max_codepoint=255), max_size=60),
        ),
        max_size=4,
    )
)
def test_any_values_in_any_source_give_a_token_or_an_answer(pairs: list[tuple[str, str]]) -> None:
    """Whatever latin-1 text they hold, there is exactly one of the two, and never an exception."""
    shown = presented(EVERY, *pairs)
    assert (shown.token is None) != (shown.identity is None)
