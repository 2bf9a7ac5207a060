"""A coverage-guided fuzzer over everything that reads what strangers send: tokens, headers, key sets, files.

Run it for as long as you like, with a Python that atheris has wheels for:

    pip install atheris && python tests/support/fuzzing.py -max_total_time=600 CORPUS_DIRECTORY

`check` is the property. What earlier runs found worth keeping is in tests/vectors/fuzz.txt, one input a
line in base64, and goes through `check` at every run of the tests.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from jwt_audit import attributes as attr
from jwt_audit.errors import KeySourceError
from jwt_audit.evidence.canonical import canonical
from jwt_audit.evidence.record import request_record
from jwt_audit.identity.caller import ABSENT, Identity, refused
from jwt_audit.identity.privacy import Policy, Privacy, Pseudonyms
from jwt_audit.settings.issuer import IssuerSettings
from jwt_audit.settings.issuer_file import presets, read_issuers
from jwt_audit.tokens import verify
from jwt_audit.tokens.algorithms import ASYMMETRIC, SYMMETRIC
from jwt_audit.tokens.extract import Sources
from jwt_audit.tokens.issuers import Issuers
from jwt_audit.tokens.jwks import parse_jwks, parse_pem, parse_secret
from jwt_audit.tokens.jws import TokenRefusedError, parse
from jwt_audit.tokens.observed import AppTokens, Verification
from jwt_audit.tokens.verify import TokenVerifier
from support.headers import request_with
from support.issuer import FixedKeys, signing_issuer, signing_key
from support.shapes import SHAPES, header_of, key_file, token_of

NOW = 1_795_500_001
SECRET = bytes(range(64))
ISSUER = "https://as.example.com/"
PRIVACY = Privacy(Policy.PSEUDONYM, Policy.OFF, Policy.RAW, Pseudonyms(SECRET), fingerprint=True)
SOURCES = Sources(["bearer", "header:x-token", "cookie:session", "websocket"])
HEADERS = ("authorization", "x-token", "cookie", "sec-websocket-protocol")
PUBLIC = b"""{"keys":[{"kty":"EC","crv":"P-256","kid":"e","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
"y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},{"kty":"OKP","crv":"Ed25519","kid":"o",
"x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"""


CLAIMS: dict[str, Any] = {
    "subject": ("sub", "/a/0/b"),
    "session": ("sid", "jti"),
}
MAPPING = (("/realm_access/roles", attr.USER_ROLES), ("scope", "x.scopes"))
ISSUERS = Issuers(
    [
        signing_issuer(
            FixedKeys(parse_secret(SECRET, frozenset())),
            SYMMETRIC,
            issuer=ISSUER,
            padded=True,
            claims=MAPPING,
            **CLAIMS,
        ),
        signing_issuer(
            FixedKeys(parse_secret(SECRET, frozenset())),
            SYMMETRIC,
            issuer="https://t/{tenantid}/",
            tenant=True,
            typ="at+jwt",
            audience=("api",),
            audience_header="signer",
        ),
        signing_issuer(FixedKeys(parse_jwks(PUBLIC)), ASYMMETRIC, audience=("api",)),
    ]
)
VERIFIER = TokenVerifier(ISSUERS, now=lambda: NOW, privacy=PRIVACY)
APP = AppTokens(IssuerSettings("test", claims=MAPPING, **CLAIMS), now=lambda: NOW, privacy=PRIVACY)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: bytes, payload: bytes) -> str:
    """A token of these bytes with a signature that is right, whatever they say."""
    signing_input = f"{_encoded(header)}.{_encoded(payload)}"
    return f"{signing_input}.{_encoded(hmac.new(SECRET, signing_input.encode(), hashlib.sha256).digest())}"


def _is_ours(token: str) -> bool:
    """By another way than the verifier's: whether the signature is made with the secret."""
    signing_input, _, last = token.rpartition(".")
    given = base64.urlsafe_b64decode(last + "=" * (-len(last) % 4))
    hashes = (hashlib.sha256, hashlib.sha384, hashlib.sha512)
    return any(given == hmac.new(SECRET, signing_input.encode(), how).digest() for how in hashes)


def _recordable(identity: Identity) -> None:
    """What was found can be told everywhere: in bounds, of the declared types, and without what is to be hidden."""
    for shown in (identity.telemetry, identity.logged, identity.audit):
        for name, value in shown.items():
            assert name.isascii(), name
            items = value if isinstance(value, list) else [value]
            assert isinstance(value, (str, bool, int, list)), name
            assert len(items) <= attr.MAX_ITEMS, name
            for item in items:
                assert not isinstance(item, str) or (len(item) <= attr.MAX_TEXT * 10 and item.isprintable()), name
                assert not isinstance(item, int) or -(2**63) <= item < 2**63, name
    assert "enduser.id" not in identity.telemetry
    assert "enduser.id" not in identity.logged
    assert identity.verified or "enduser.id" not in identity.audit
    request = request_with()
    request.identify(identity)
    record = request_record(request, attr.EVENT_REQUEST, ended=0)
    canonical(record)


def a_token(data: bytes) -> None:
    """Any text in the place of a token: verified only if its signature is right by another count."""
    text = data.decode("latin-1")
    token(text)


def token(text: str) -> None:
    try:
        jws = parse(text)
        chosen = VERIFIER._choose(jws, "bearer")
        identity, _ = verify._examined(jws, chosen, chosen.keys.keys, NOW)
    except TokenRefusedError as error:
        identity = refused(error.reason, extra=error.claimed)
    if identity.verified:
        assert _is_ours(text)
        assert jws.algorithm in SYMMETRIC
    kept = VERIFIER.verify(text)
    assert (kept.status, kept.reason) == (identity.status, identity.reason) or not text.isascii()
    _recordable(kept)
    seen = APP.judge(Verification(text, True))
    if seen is not None:
        _recordable(seen)


def a_signed_token(data: bytes) -> None:
    """Any header and payload, rightly signed: the rules alone stand between them and an identity."""
    header, _, payload = data.partition(b"\0")
    token(signed(header or b'{"alg":"HS256"}', payload))


def a_payload(data: bytes) -> None:
    """Any claims under a good header."""
    token(signed(b'{"alg":"HS256","typ":"at+jwt"}', b'{"iss":"' + ISSUER.encode() + b'",' + data + b"}"))


def some_headers(data: bytes) -> None:
    """Any values in the headers that are looked at: a token or an answer, never both."""
    values = [part.decode("latin-1") for part in data.split(b"\0")[:4]]
    shown = SOURCES.present(request_with(*zip(HEADERS, values, strict=False)))
    assert (shown.token is None) != (shown.identity is None)
    assert shown.identity is None or not shown.identity.verified
    assert shown.identity in (None, ABSENT) or shown.identity.reason is not None


def a_key_set(data: bytes) -> None:
    """Any bytes where a key set, a PEM file or a secret is expected: keys, or an error of ours."""
    for read in (parse_jwks, parse_pem, lambda secret: parse_secret(secret, frozenset())):
        try:
            keys = read(data)
        except KeySourceError:
            continue
        for key in keys.keys:
            assert key.algorithms
            assert "none" not in key.algorithms
            for algorithm in key.algorithms:
                assert not key.verifies(algorithm, b"data", b"\0" * 64)


def a_file_of_issuers(data: bytes) -> None:
    """Any TOML, or none: tables, and what is wrong with them."""
    with tempfile.NamedTemporaryFile(dir=_folder) as file:
        file.write(data)
        file.flush()
        found = read_issuers(Path(file.name), IssuerSettings("variables"), (), ())
    assert found.issuers or found.problems
    for problem in found.problems:
        assert all(isinstance(part, str) and part for part in problem)


_folder = tempfile.gettempdir()
KINDS: tuple[Callable[[bytes], None], ...] = (
    a_token,
    a_signed_token,
    a_payload,
    some_headers,
    a_key_set,
    a_file_of_issuers,
)


def check(data: bytes) -> None:
    """The property: the first byte says what the rest stands for. Raises for what must not happen."""
    if data:
        KINDS[data[0] % len(KINDS)](data[1:])


def seeds() -> list[bytes]:
    """Inputs to begin with: what real issuers, gateways and operators write."""
    found = []
    for shape in SHAPES.values():
        text = token_of(shape)
        found.append(b"\x00" + text.encode())
        found.append(b"\x03" + " ".join(header_of(shape, text)[1:]).encode() + b"\0" + text.encode())
        if shape["payload"] is not None:
            header, payload = ({**(shape["header"] or {}), "alg": "HS256"}, {**shape["payload"], "iss": ISSUER})
            found.append(b"\x01" + json.dumps(header).encode() + b"\0" + json.dumps(payload).encode())
            found.append(b"\x02" + json.dumps(shape["payload"]).encode()[1:-1])
        found.append(b"\x04" + key_file(shape))
    found += [b"\x04" + signing_key(name).pem for name in ("RS256", "ES256", "EdDSA")]
    found.append(b"\x04" + signing_key("RS256").pem_certificate)
    found += [
        b"\x05[[issuer]]\npreset = '%s'\nissuer = 'https://a.example.com/'\n" % name.encode() for name in presets()
    ]
    found.append(
        b"\x05[[issuer]]\nissuer = 'x'\njwks = 'https://a/{kid}'\n[issuer.claims]\n'user.roles' = ['/a/b', 'c']\n"
    )
    return found


if __name__ == "__main__":
    import atheris  # type: ignore[import-untyped]  # a tool of its own, not needed for the tests

    for name in [name for name in sys.modules if name.startswith(("jwt_audit", "support"))]:
        del sys.modules[name]  # to be imported again, watched
    with atheris.instrument_imports(include=["jwt_audit"]):
        from support import fuzzing
    for number, seed in enumerate(fuzzing.seeds()):
        (Path(sys.argv[-1]) / f"seed-{number}").write_bytes(seed)
    atheris.Setup(sys.argv, fuzzing.check)
    atheris.Fuzz()
