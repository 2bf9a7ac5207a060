"""The compact form, taken apart strictly."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwt_audit.identity.caller import Reason
from jwt_audit.tokens.jws import MAX_TOKEN, TokenRefusedError, parse
from support.issuer import b64, claims

HEADER = {"alg": "RS256", "typ": "JWT", "kid": "k-1"}
SIGNATURE = b64(b"signature")


def made(header: Any, payload: Any, signature: str = SIGNATURE) -> str:
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    return f"{b64(parts[0])}.{b64(parts[1])}.{signature}"


def reason(token: str) -> Reason:
    with pytest.raises(TokenRefusedError) as caught:
        parse(token)
    return caught.value.reason


def test_the_parts_are_those_of_the_token() -> None:
    """The signing input is what was received, blanks in the JSON and all."""
    token = made(b'{"alg" : "RS256","typ" : "JWT"}', claims())
    jws = parse(token)
    assert jws.header == {"alg": "RS256", "typ": "JWT"}
    assert jws.payload == claims()
    assert (jws.algorithm, jws.key_id, jws.signature) == ("RS256", None, b"signature")
    assert jws.signing_input.decode() == token.rpartition(".")[0]


@pytest.mark.parametrize(
    "token",
    [
        "",
        "eyJ.eyJ",
        f"eyJ.eyJ.{SIGNATURE}",
        made(b'{"alg":"RS256"', {}),
        made({"typ": "JWT"}, {}),
        made({"alg": 7}, {}),
        made({"alg": None}, {}),
        made({**HEADER, "kid": 7}, {}),
        made({**HEADER, "kid": None}, {}),
        made({**HEADER, "kid": ["k-1"]}, {}),
        made(HEADER, []),
        made(HEADER, b"null"),
        made(HEADER, b""),
        made(HEADER, b'"text"'),
        made(HEADER, b'{"sub":"\xff\xfe"}'),
        made(HEADER, b'{"sub":"\xc0\x80"}'),
        made(HEADER, '{"sub":"u"}'.encode("utf-16")),
        made(HEADER, b'\xef\xbb\xbf{"sub":"u"}'),
        made(HEADER, b'{"sub":"a"} {"sub":"b"}'),
        made(HEADER, b'{"sub":"a","sub":"b"}'),
        made(HEADER, b'{"sub":"a","\\u0073ub":"b"}'),
        made(HEADER, b'{"act":{"sub":"a","sub":"b"}}'),
        made(b'{"alg":"none","alg":"RS256"}', {}),
        made(HEADER, b'{"exp":NaN}'),
        made(HEADER, b'{"exp":Infinity}'),
        made(HEADER, b'{"exp":1e999}'),
        made(HEADER, b'{"exp":' + b"9" * 6000 + b"}"),
        made(HEADER, b'{"sub":"\\ud800"}'),
        made(HEADER, b'{"a":' * 2000 + b"1" + b"}" * 2000),
        made(HEADER, b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"),
        made(HEADER, b'{"a":' + b"[" * 11_000),
        f"{b64(b'{}')}..",
    ],
)
def test_what_is_no_jwt_is_malformed(token: str) -> None:
    """Neither a parser's laxness nor its limits can be used: the answer is a reason."""
    assert reason(token) is Reason.MALFORMED


@pytest.mark.parametrize("parts", [(0,), (1,), (2,), (0, 1, 2)])
def test_padding_is_told(parts: tuple[int, ...]) -> None:
    """Whole padding is read, since some gateways sign over it; whether that is allowed is the issuer's matter."""
    bare = [b64(item) for item in (b'{"alg":"RS256","x":1}', b'{"sub":"u1001"}1'[:-1] + b" ", b"\xff\xfe\xfb\xef")]
    padded = [text + "=" * (-len(text) % 4) if index in parts else text for index, text in enumerate(bare)]
    assert not parse(".".join(bare)).padded
    assert parse(".".join(padded)).padded == (padded != bare)
    assert parse(".".join(padded)).signing_input == ".".join(padded[:2]).encode()


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize(
    "spelling",
    [
        "short padding",
        "long padding",
        "padding within",
        "standard alphabet",
        "unused bits",
        "line break",
        "one character",
    ],
)
def test_base64_has_one_spelling(part: int, spelling: str) -> None:
    """Another spelling of the same bytes is refused, so a token has one text and one digest."""
    data = (b'{"alg":"RS256","x":"\xc3\xbf?>"}', b'{"sub":"\xc3\xbf?>?"}', b"\xff\xfe\xfb\xef?>x")
    parts = [b64(item if len(item) % 3 else item.replace(b"}", b" }")) for item in data]  # so that bits are left over
    assert parse(".".join(parts)).algorithm == "RS256"
    good = parts[part]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    parts[part] = {
        "short padding": good + "=" * (1 if -len(good) % 4 == 2 else 3),
        "long padding": good + "=" * (-len(good) % 4 + 1),
        "padding within": good[:4] + "=" + good[4:],
        "standard alphabet": base64.b64encode(base64.urlsafe_b64decode(good + "==")).decode().rstrip("="),
        "unused bits": good[:-1] + alphabet[alphabet.index(good[-1]) + 1],
        "line break": good[:5] + "\n" + good[5:],
        "one character": good + "A" * ((1 - len(good)) % 4 or 4),
    }[spelling]
    assert parts[part] != good
    assert reason(".".join(parts)) is Reason.MALFORMED


@pytest.mark.parametrize(
    "extra",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": []},
        {"crit": None},
        {"crit": "b64"},
        {"b64": False, "crit": ["b64"]},
        {"b64": False},
        {"b64": True},
    ],
)
def test_critical_headers_are_refused(extra: dict[str, Any]) -> None:
    """No extension is understood here, so one that must be understood ends it (RFC 7515, 4.1.11)."""
    assert reason(made({**HEADER, **extra}, claims())) is Reason.CRITICAL_HEADER


def test_too_much_is_not_parsed() -> None:
    """10,000 claims, or one long one, are over the limit before anything is decoded."""
    assert reason(made(HEADER, {f"claim{number}": number for number in range(10_000)})) is Reason.TOO_LARGE
    assert reason("ey" + "J" * MAX_TOKEN) is Reason.TOO_LARGE


def test_a_thousand_claims_are_no_problem() -> None:
    """Many claims within the limit are a token like any other."""
    payload = {f"{number:x}": number for number in range(1000)}
    assert parse(made(HEADER, payload)).payload == payload


def test_encrypted_tokens_are_told_from_broken_ones() -> None:
    """Five parts are a JWE (RFC 7516), and a first part that is no JSON object is some other kind of token."""
    assert reason(f"{b64(b'{}')}.a.b.c.d") is Reason.UNSUPPORTED_TOKEN
    assert reason(made([1], {})) is Reason.UNSUPPORTED_TOKEN


def test_what_it_claims_is_kept_and_capped() -> None:
    """Of a refused token only issuer, key id and algorithm remain, as text, bounded and printable."""
    header = {"alg": "RS256\n", "kid": "../" * 500, "jku": "https://evil.example.com/"}
    claimed = parse(made(header, claims(iss="x" * 5000, email="u@example.com"))).claimed
    assert claimed["jwt.claimed.algorithm"] == "RS256\\x0a"
    assert len(str(claimed["jwt.claimed.key_id"])) == 128
    assert len(str(claimed["jwt.claimed.issuer"])) == 256
    assert len(claimed) == 3
    with pytest.raises(TokenRefusedError) as caught:
        parse(made(HEADER, b"no json"))
    assert caught.value.claimed == {"jwt.claimed.key_id": "k-1", "jwt.claimed.algorithm": "RS256"}


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.text(max_size=80)
    | st.builds(made, _json | st.binary(max_size=40), _json | st.binary(max_size=40), st.text(max_size=10))
    | st.builds(made, st.fixed_dictionaries({"alg": _json, "kid": _json}), _json)
)
def test_any_text_is_a_jws_or_refused(token: str) -> None:
    """No input raises anything but the refusal."""
    try:
        jws = parse(token)
    except TokenRefusedError:
        return
    assert isinstance(jws.payload, dict)
