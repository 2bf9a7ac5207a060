"""Signed heads: one line, one form, one key."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from jwt_audit.errors import RecordError
from jwt_audit.evidence import heads
from jwt_audit.evidence.chain import Position
from jwt_audit.evidence.heads import SignedHead
from jwt_audit.evidence.signing import Signer

SIGNER = Signer.generate()
SIGNED = heads.sign(Position("s", 7, "ab" * 32, 5), SIGNER, now=9)


def test_a_head_is_one_line() -> None:
    """Canonical bytes, tab, base64 of the signature, newline; read back it is the same."""
    assert SIGNED.line == SIGNED.data + b"\t" + base64.b64encode(SIGNED.signature) + b"\n"
    assert SIGNED.data == (
        b'{"algorithm":"EdDSA","hash":"' + b"ab" * 32 + b'","key_id":"' + SIGNER.public_key.key_id.encode()
        + b'","number":"7","stream_id":"s","time":"9","type":"jwt-audit/head/v1"}'
    )  # fmt: skip
    assert heads.parse_line(SIGNED.line) == heads.parse_line(SIGNED.line[:-1]) == SIGNED
    assert heads.parse(SIGNED.data, SIGNED.signature_text.encode()) == SIGNED


def test_a_head_is_verified_by_its_key_alone() -> None:
    """The key it names, under that key's algorithm, over these bytes."""
    assert SIGNED.verified_by(SIGNER.public_key)
    assert not SIGNED.verified_by(Signer.generate().public_key)


@pytest.mark.parametrize("change", [{"key_id": "0" * 64}, {"algorithm": "none"}, {"algorithm": "ES256"}])
def test_a_head_that_names_another_key_or_algorithm_is_not_verified(change: dict[str, Any]) -> None:
    """Though the signature over its bytes is right: no downgrade, no confusion."""
    head = dataclasses.replace(SIGNED.head, **change)
    forged = SignedHead(head, head.canonical(), SIGNER.sign(head.canonical()))
    assert SIGNER.public_key.verifies(forged.signature, forged.data)
    assert not forged.verified_by(SIGNER.public_key)


def test_a_signature_does_not_move_to_another_head() -> None:
    """Number, hash, stream and time are all inside what is signed."""
    for change in ({"number": 8}, {"hash": "cd" * 32}, {"stream_id": "t"}, {"time": 10}):
        head = dataclasses.replace(SIGNED.head, **change)
        assert not SignedHead(head, head.canonical(), SIGNED.signature).verified_by(SIGNER.public_key)


def test_the_bytes_of_a_head_serve_for_nothing_else() -> None:
    """They hold their type, which no record and no token has."""
    assert b'"type":"jwt-audit/head/v1"' in SIGNED.data


def test_an_ecdsa_head_is_the_same_each_time() -> None:
    """RFC 6979: what is sent again is equal byte for byte."""
    signer = Signer(ec.generate_private_key(ec.SECP256R1()))
    position = Position("s", 7, "ab" * 32, 5)
    assert heads.sign(position, signer, now=9) == heads.sign(position, signer, now=9)


DATA, SIGNATURE = SIGNED.data, SIGNED.signature_text.encode()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\n", id="only a newline"),
        pytest.param(DATA, id="no signature"),
        pytest.param(DATA + b"\t", id="an empty signature"),
        pytest.param(DATA + b" " + SIGNATURE, id="no tab"),
        pytest.param(SIGNATURE + b"\t" + DATA, id="swapped"),
        pytest.param(DATA + b"\t" + SIGNATURE + b"\t", id="a second tab"),
        pytest.param(DATA + b"\t" + SIGNATURE[:-1], id="signature too short"),
        pytest.param(DATA + b"\t!" + SIGNATURE[1:], id="no base64"),
        pytest.param(DATA + b"\t" + SIGNATURE + b"\r\n", id="a carriage return"),
        pytest.param(DATA.replace(b'"7"', b'"07"') + b"\t" + SIGNATURE, id="a number with a zero before"),
        pytest.param(DATA.replace(b'"7"', b"7") + b"\t" + SIGNATURE, id="a number that is none"),
        pytest.param(DATA.replace(b'"7"', b'" 7"') + b"\t" + SIGNATURE, id="a space in the number"),
        pytest.param(DATA.replace(b'"7"', b'"1_0"') + b"\t" + SIGNATURE, id="an underscore in the number"),
        pytest.param(DATA.replace(b"head/v1", b"head/v2") + b"\t" + SIGNATURE, id="another type"),
        pytest.param(DATA.replace(b'"time":"9",', b"") + b"\t" + SIGNATURE, id="no time"),
        pytest.param(DATA.replace(b'"time":"9"', b'"time":"9","time":"9"') + b"\t" + SIGNATURE, id="a member twice"),
        pytest.param(DATA[:-1] + b',"x":"y"}\t' + SIGNATURE, id="a member more"),
        pytest.param(b"[]\t" + SIGNATURE, id="a list"),
        pytest.param(b"\xff\t" + SIGNATURE, id="no UTF-8"),
    ],
)
def test_nothing_else_is_read_as_a_head(line: bytes) -> None:
    """One spelling of each head, as of each record."""
    with pytest.raises(RecordError):
        heads.parse_line(line)
