"""The libraries themselves, as apps call them, inside of a boundary: what is observed of each."""

from __future__ import annotations

import contextvars
import functools
import json
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jwt
import jwt.api_jwt
import pytest
from joserfc import jwt as joserfc_jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey, RSAKey

from jwt_audit.identity.caller import Identity, Reason, Status
from jwt_audit.request import Request, current_request
from jwt_audit.settings.environment import load
from opentelemetry.instrumentation.jwt_audit.hooks import boundary
from opentelemetry.instrumentation.jwt_audit.hooks.wsgi import run_wsgi
from opentelemetry.instrumentation.jwt_audit.pipeline import Pipeline
from support.audited import observing
from support.issuer import SECRET, SigningKey, b64, claims, jwks, jwks_server, signing_key

with warnings.catch_warnings():
    import authlib.deprecate  # noqa: F401  it sets a filter of its own

    warnings.simplefilter("ignore")  # Authlib says that its own JOSE is to go; apps use it all the same
    from authlib.jose import JsonWebToken
    from authlib.jose import errors as authlib_errors
    from authlib.oauth2.rfc6750.errors import InvalidTokenError
    from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
    from jose import jwt as python_jose
    from jose.exceptions import JOSEError

RSA, OTHER, HS = signing_key(), signing_key("RS256", 1), signing_key("HS256")
PEM = RSA.pem.decode()
R = Reason


@pytest.fixture(autouse=True)
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    """Nothing configured."""
    with observing(tmp_path) as made:
        yield made


def serve(app: Callable[[str], object], *, query: str = "", **headers: str) -> Request:
    """One request through the boundary to ``app``, which gets the token of its header, cookie or query."""
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "QUERY_STRING": query}
    environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    seen: list[Request] = []

    def wsgi(environ: Any, start_response: Any) -> list[bytes]:
        request = current_request()
        assert request is not None
        seen.append(request)
        credential = environ.get("HTTP_AUTHORIZATION") or environ.get("HTTP_COOKIE") or environ["QUERY_STRING"]
        try:
            app(credential.replace("=", " ").split()[-1])
            start_response("200 OK", [])
        except ACCEPTED_FAILURES:
            start_response("401 Unauthorized", [])
        return [b"done"]

    body = run_wsgi(wsgi, environ, lambda *_: None)
    assert list(body) == [b"done"]
    body.close()  # type: ignore[attr-defined]  # the boundary's body has it
    return seen[0]


ACCEPTED_FAILURES = (jwt.PyJWTError, JoseError, authlib_errors.JoseError, JOSEError, InvalidTokenError, ValueError)


def bearer(app: Callable[[str], object], token: str) -> Identity:
    return serve(app, authorization=f"Bearer {token}").identity


def verdict(found: Identity) -> object:
    return found.subject if found.verified else found.reason


def live(**changes: Any) -> dict[str, Any]:
    """Claims that hold now."""
    now = int(time.time())
    return claims(**{"iat": now, "exp": now + 600, "aud": None, **changes})


# How each library is told to verify under a key


def by_pyjwt(token: str, key: Any, algorithms: list[str], **how: Any) -> object:
    return jwt.decode(token, key, algorithms=algorithms, **how)


def by_joserfc(token: str, key: Any, algorithms: list[str], **how: Any) -> object:
    imported = OctKey.import_key(key) if isinstance(key, bytes) else RSAKey.import_key(key)
    return joserfc_jwt.decode(token, imported, algorithms=algorithms)


def by_authlib(token: str, key: Any, algorithms: list[str], **how: Any) -> object:
    return JsonWebToken(algorithms).decode(token, key)


def by_python_jose(token: str, key: Any, algorithms: list[str], **how: Any) -> object:
    return python_jose.decode(token, key, algorithms=algorithms, **how)


LIBRARIES = {"pyjwt": by_pyjwt, "joserfc": by_joserfc, "authlib": by_authlib, "python-jose": by_python_jose}
each_library = pytest.mark.parametrize("library", LIBRARIES.values(), ids=list(LIBRARIES))


def none_token(**changes: Any) -> str:
    return ".".join([b64(b'{"alg":"none"}'), b64(json.dumps(live(**changes)).encode()), ""])


@each_library
def test_a_good_token_is_verified_by_the_app(library: Any) -> None:
    """Under a public key and under a shared secret."""
    for key, signer, algorithm in ((PEM, RSA, "RS256"), (SECRET, HS, "HS256")):
        found = bearer(functools.partial(library, key=key, algorithms=[algorithm]), signer.sign(live()))
        assert (found.status, found.subject, found.session) == (Status.VERIFIED, "u1001", "s-1")
        assert found.verified_by == "app"


@each_library
def test_a_refused_token_gives_its_reason(library: Any) -> None:
    """Each library has its own exceptions; the reasons are ours."""
    cases = [
        (OTHER.sign(live()), R.SIGNATURE_MISMATCH),
        (RSA.sign(live(exp=1_000_000_000)), R.EXPIRED),
        (RSA.sign(live(nbf=4_000_000_000)), R.NOT_YET_VALID),
        (HS.sign(live()), R.ALGORITHM_NOT_ALLOWED),
        (none_token(), R.ALGORITHM_NOT_ALLOWED),
        ("eyJ0.eyJ0.x", R.MALFORMED),
        ("opaque", R.UNSUPPORTED_TOKEN),
    ]
    for token, reason in cases:
        assert verdict(bearer(lambda token: library(token, PEM, ["RS256"]), token)) is reason


@each_library
def test_nothing_is_observed_of_other_tokens(library: Any) -> None:
    """A refresh token in the body or query, verified: the request's own credential says who it is, or nobody."""
    own, other = RSA.sign(live()), RSA.sign(live(sub="mallory"))

    def exchange(token: str) -> None:
        library(other, PEM, ["RS256"])

    assert verdict(bearer(exchange, own)) is None
    assert serve(exchange, query=other).identity.status is Status.ABSENT

    def both(token: str) -> None:
        exchange(token)
        library(token, PEM, ["RS256"])
        exchange(token)

    assert verdict(bearer(both, own)) == "u1001"


@each_library
def test_a_cookie_and_an_odd_header_count(library: Any) -> None:
    """Wherever in the headers the token stands."""

    def app(token: str) -> None:
        library(token, PEM, ["RS256"])

    assert serve(app, cookie=f"a=b; session={RSA.sign(live())}").identity.subject == "u1001"
    assert bearer(app, RSA.sign(live())).subject == "u1001"
    assert serve(app, authorization=f"JWT {RSA.sign(live())}").identity.subject == "u1001"
    assert serve(app, x_token=RSA.sign(live()), query=RSA.sign(live())).identity.status is Status.VERIFIED


@each_library
def test_another_thread_without_context_finds_the_request(library: Any) -> None:
    """A pool that carries no context over; the object is changed, so the record has it."""
    token, failures = RSA.sign(live()), []

    def work() -> None:
        try:
            contextvars.Context().run(library, token, PEM, ["RS256"])
        except ACCEPTED_FAILURES as error:
            failures.append(error)

    def app(_: str) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    assert bearer(app, token).subject == "u1001"
    assert failures == []


@each_library
def test_several_keys_are_tried(library: Any) -> None:
    """One of them holds: the failures before it are forgotten, those after it too."""

    def app(token: str) -> None:
        for key in (OTHER.pem.decode(), PEM, OTHER.pem.decode()):
            try:
                library(token, key, ["RS256"])
            except ACCEPTED_FAILURES:
                continue

    assert bearer(app, RSA.sign(live())).subject == "u1001"


@each_library
def test_an_id_token_beside_the_bearer(library: Any) -> None:
    """Both verified, in either order: the one that came first in the headers."""
    access, other = RSA.sign(live()), RSA.sign(live(sub="u2002"))
    for order in ((access, other), (other, access)):

        def app(_: str, order: Any = order) -> None:
            for token in order:
                library(token, PEM, ["RS256"])

        assert serve(app, authorization=f"Bearer {access}", x_id_token=other).identity.subject == "u1001"


@each_library
def test_of_two_bearer_tokens_the_app_says_which(library: Any) -> None:
    """Until it does they are ``multiple_tokens``; two headers may have become one on the way."""
    first, second = RSA.sign(live(sub="mallory")), RSA.sign(live())
    header = f"Bearer {first}, Bearer {second}"
    assert serve(lambda _: None, authorization=header).identity.reason is R.MULTIPLE_TOKENS
    assert serve(lambda _: library(second, PEM, ["RS256"]), authorization=header).identity.subject == "u1001"
    assert serve(lambda _: library(first, PEM, ["RS256"]), authorization=header).identity.subject == "mallory"


@pytest.mark.parametrize("library", [by_pyjwt, by_python_jose], ids=["pyjwt", "python-jose"])
def test_expired_but_accepted(library: Any) -> None:
    """``verify_exp: False``: the app serves it; it is nobody's identity, and the record says whose it was."""
    app = functools.partial(library, key=PEM, algorithms=["RS256"], options={"verify_exp": False})
    found = bearer(app, RSA.sign(live(exp=1_000_000_000)))
    assert (found.status, found.subject) == (Status.EXPIRED, None)
    assert found.audit["jwt.expired.subject"] == "u1001"


@pytest.mark.parametrize("library", [by_joserfc, by_authlib], ids=["joserfc", "authlib"])
def test_claims_returned_of_an_expired_token(library: Any) -> None:
    """These libraries leave the validation to another call."""
    found = bearer(lambda token: library(token, PEM, ["RS256"]), RSA.sign(live(exp=1_000_000_000)))
    assert (found.status, found.subject) == (Status.EXPIRED, None)


@pytest.mark.parametrize("library", [by_pyjwt, by_python_jose], ids=["pyjwt", "python-jose"])
def test_a_token_that_was_only_looked_into(library: Any) -> None:
    """``verify_signature: False`` proves nothing, neither way."""
    for token in (RSA.sign(live()), OTHER.sign(live()), none_token(), RSA.sign(live(exp=1_000_000_000))):
        found = bearer(lambda token: library(token, PEM, ["RS256"], options={"verify_signature": False}), token)
        assert (found.status, found.reason, found.subject) == (Status.UNVERIFIED, None, None)
        assert found.audit["jwt.error"] == "keys_unavailable"


def test_pyjwt_reads_the_options_of_instance_and_call() -> None:
    """An instance that verifies nothing, and one that does with a call that does not."""
    lax = jwt.PyJWT({"verify_signature": False})
    assert bearer(lambda token: lax.decode(token, PEM, ["RS256"]), RSA.sign(live())).subject is None
    strict = jwt.PyJWT()
    found = bearer(lambda token: strict.decode_complete(token, options={"verify_signature": False}), RSA.sign(live()))
    assert found.subject is None
    found = bearer(lambda token: strict.decode_complete(jwt=token, key=PEM, algorithms=["RS256"]), RSA.sign(live()))
    assert found.subject == "u1001"


def test_pyjwt_by_every_name() -> None:
    """The module's functions, a subclass that overrides `decode`, a PyJWK for a key."""

    class Own(jwt.PyJWT):
        def decode(self, *args: Any, **kwargs: Any) -> Any:
            return super().decode(*args, **kwargs)

    names = (getattr(jwt, "decode_complete", jwt.decode), jwt.decode, jwt.api_jwt.decode_complete, Own().decode)
    for decode in names:  # before 2.10 the package itself has no decode_complete
        app = functools.partial(decode, key=PEM, algorithms=["RS256"])
        assert bearer(app, RSA.sign(live())).subject == "u1001"
    key = jwt.PyJWK(RSA.jwk("k1", alg="RS256"))
    assert bearer(lambda token: jwt.decode(token, key, ["RS256"]), RSA.sign(live())).subject == "u1001"
    assert bearer(lambda token: jwt.decode(token.encode(), key, ["RS256"]), RSA.sign(live())).subject == "u1001"


strict = pytest.mark.skipif(
    not hasattr(jwt.exceptions, "InvalidSubjectError"), reason="PyJWT before 2.10 takes any type"
)


@pytest.mark.parametrize(
    ("claims_", "how", "reason"),
    [
        ({"aud": "other"}, {"audience": "api"}, R.AUDIENCE_MISMATCH),
        ({"aud": "other"}, {}, R.AUDIENCE_MISMATCH),
        ({}, {"issuer": "https://other.example.com"}, R.ISSUER_MISMATCH),
        pytest.param({"sub": 17}, {}, R.CLAIM_MISSING, marks=strict),
        pytest.param({"jti": 17}, {}, R.CLAIM_MISSING, marks=strict),
        ({"exp": None}, {"options": {"require": ["exp"]}}, R.CLAIM_MISSING),
        ({"exp": "soon"}, {}, R.CLAIM_MISSING),
    ],
)
def test_pyjwt_refuses_claims(claims_: Any, how: Any, reason: Reason) -> None:
    """After the signature held."""
    assert verdict(bearer(lambda token: jwt.decode(token, PEM, ["RS256"], **how), RSA.sign(live(**claims_)))) is reason


def test_pyjwt_takes_a_numeric_subject_where_it_is_told_to() -> None:
    """Its decimal string is the identity."""
    found = bearer(
        lambda token: jwt.decode(token, PEM, ["RS256"], options={"verify_sub": False}), RSA.sign(live(sub=17))
    )
    assert found.subject == "17"


def test_pyjwt_with_a_public_key_as_secret() -> None:
    """PyJWT refuses it itself, and so does the rule."""
    found = bearer(lambda token: jwt.decode(token, PEM, ["HS256", "RS256"]), HS.sign(live()))
    assert verdict(found) is R.ALGORITHM_NOT_ALLOWED


@pytest.mark.parametrize("key", ["", b"", {"kty": "oct", "k": ""}])
def test_an_empty_secret_proves_nothing(key: Any) -> None:
    """As of a variable that is not set: python-jose takes it, and so does whoever signs with it."""
    accepted: list[Any] = []

    def app(token: str) -> None:
        accepted.append(python_jose.decode(token, key, algorithms=["HS256"]))

    found = bearer(app, SigningKey(b"", "HS256").sign(live(sub="ceo")))
    assert [claimed["sub"] for claimed in accepted] == ["ceo"]
    assert verdict(found) is R.ALGORITHM_NOT_ALLOWED


def test_pyjwt_finds_no_key() -> None:
    """A key set without the token's key, or unreachable, is told apart from a bad token."""
    client = jwt.PyJWKClient("http://127.0.0.1:9/jwks", timeout=1)
    found = bearer(client.get_signing_key_from_jwt, RSA.sign(live(), kid="k1"))
    assert (found.status, found.reason) == (Status.UNVERIFIED, R.KEYS_UNAVAILABLE)


def test_pyjwt_found_the_key_and_that_is_all() -> None:
    """To have looked for a key is no verification; not to find one is a refusal."""
    with jwks_server() as server:
        server.body = jwks(RSA.jwk("k1"), OTHER.jwk("k3"))
        client = jwt.PyJWKClient(server.url)
        found = bearer(client.get_signing_key_from_jwt, RSA.sign(live(), kid="k1"))
        assert (found.status, found.reason) == (Status.UNVERIFIED, None)
        assert verdict(bearer(client.get_signing_key_from_jwt, RSA.sign(live(), kid="k2"))) is R.UNKNOWN_KEY


def test_a_wrong_call_is_no_verdict() -> None:
    """An app that calls its library wrongly has not judged the token."""

    def app(token: str) -> None:
        with pytest.raises(TypeError):
            jwt.decode(token, PEM, ["RS256"], audience=17)  # type: ignore[arg-type]

    assert bearer(app, RSA.sign(live())).reason is None


def test_python_jose_tells_its_reasons_by_words() -> None:
    """Audience and issuer."""
    for how, reason in (({"audience": "x"}, R.AUDIENCE_MISMATCH), ({"issuer": "x"}, R.ISSUER_MISMATCH)):
        token = RSA.sign(live(aud="api"))
        how.setdefault("audience", "api")
        assert (
            verdict(bearer(functools.partial(python_jose.decode, key=PEM, algorithms=["RS256"], **how), token))
            is reason
        )
    app = functools.partial(python_jose.decode, key=PEM, algorithms=["RS256"], options={"require_jti": True})
    assert verdict(bearer(app, RSA.sign(live(jti=None)))) is R.CLAIM_MISSING


def test_none_is_no_algorithm_even_where_it_is_listed() -> None:
    """Authlib and joserfc accept the token; nobody is identified, and the record says why."""

    def by_authlib_none(token: str) -> None:
        assert JsonWebToken(["none"]).decode(token, "")["sub"] == "ceo"

    def by_joserfc_none(token: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            key = OctKey.import_key(SECRET)
            assert joserfc_jwt.decode(token, key, algorithms=["none"]).claims["sub"] == "ceo"

    for app in (by_authlib_none, by_joserfc_none):
        assert verdict(bearer(app, none_token(sub="ceo"))) is R.ALGORITHM_NOT_ALLOWED


def key_set(*keys: Any) -> KeySet:
    whole: Any = {"keys": list(keys)}
    found: KeySet = KeySet.import_key_set(whole)
    return found


def test_keys_found_by_a_function_are_looked_at_too() -> None:
    """Key sets and functions, as joserfc and Authlib take them."""
    keys = key_set(RSA.jwk("k1"), OTHER.jwk("k2"))
    token = RSA.sign(live(), kid="k1")
    assert bearer(lambda token: joserfc_jwt.decode(token, keys), token).subject == "u1001"
    assert bearer(lambda token: joserfc_jwt.decode(token, key=lambda _: keys.keys[0]), token).subject == "u1001"
    assert bearer(lambda token: JsonWebToken(["RS256"]).decode(token, lambda header, payload: PEM), token).subject
    confused = bearer(lambda token: JsonWebToken(["RS256", "HS256"]).decode(token, lambda *_: PEM), HS.sign(live()))
    assert verdict(confused) is R.ALGORITHM_NOT_ALLOWED
    others = {"keys": [OTHER.jwk("k2"), OTHER.jwk("k3")]}
    assert verdict(bearer(lambda token: JsonWebToken(["RS256"]).decode(token, others), token)) is R.UNKNOWN_KEY
    found = bearer(lambda token: joserfc_jwt.decode(token, key_set(*others["keys"])), token)
    assert verdict(found) is R.UNKNOWN_KEY


@pytest.mark.parametrize(
    ("options", "changes", "expected"),
    [
        ({"aud": {"essential": True, "value": "api"}}, {"aud": "api"}, "u1001"),
        ({"aud": {"essential": True, "value": "api"}}, {"aud": "other"}, R.AUDIENCE_MISMATCH),
        ({"iss": {"essential": True, "value": "https://x"}}, {}, R.ISSUER_MISMATCH),
        ({"scope": {"essential": True}}, {}, R.CLAIM_MISSING),
        ({}, {"exp": 1_000_000_000}, R.EXPIRED),
        ({}, {"nbf": 4_000_000_000}, R.NOT_YET_VALID),
    ],
)
def test_the_claims_are_validated_later(options: Any, changes: Any, expected: object) -> None:
    """What the app finds wrong with the claims counts against the token; joserfc and Authlib alike."""

    def with_joserfc(token: str) -> None:
        decoded = joserfc_jwt.decode(token, RSAKey.import_key(PEM), algorithms=["RS256"])
        joserfc_jwt.JWTClaimsRegistry(**options).validate(decoded.claims)

    def with_authlib(token: str) -> None:
        JsonWebToken(["RS256"]).decode(token, PEM, claims_options=options).validate()

    for app in (with_joserfc, with_authlib):
        assert verdict(bearer(app, RSA.sign(live(**changes)))) == expected


class Validator(JWTBearerTokenValidator):  # type: ignore[misc]  # untyped upstream
    def get_jwks(self) -> Any:
        return key_set(RSA.jwk("k1"))


@pytest.mark.parametrize(
    ("changes", "header", "expected"),
    [
        ({}, {"typ": "at+jwt"}, "u1001"),
        ({}, {"typ": "JWT"}, R.TYPE_MISMATCH),
        ({"iss": "https://other.example.com"}, {"typ": "at+jwt"}, R.ISSUER_MISMATCH),
        ({"aud": "other"}, {"typ": "at+jwt"}, R.AUDIENCE_MISMATCH),
        ({"client_id": None}, {"typ": "at+jwt"}, R.CLAIM_MISSING),
        ({"exp": 1_000_000_000}, {"typ": "at+jwt"}, R.EXPIRED),
    ],
)
def test_a_resource_protector_of_authlib(changes: Any, header: Any, expected: object) -> None:
    """RFC 9068 by Authlib: joserfc verifies, Authlib judges issuer and type after it."""
    validator = Validator(issuer="https://as.example.com/", resource_server="api")

    def app(token: str) -> None:
        found = validator.authenticate_token(token)
        validator.validate_token(found, None, None)

    whole = live(**{"aud": "api", "client_id": "c-1", **changes})
    assert verdict(bearer(app, RSA.sign(whole, kid="k1", **header))) == expected


def test_the_app_gets_what_the_library_gives() -> None:
    """Results, exceptions and names are unchanged."""
    token = RSA.sign(live())
    got: list[Any] = []
    serve(lambda _: got.append(jwt.api_jwt.decode_complete(token, PEM, ["RS256"])), authorization=token)
    assert got[0]["payload"] == jwt.decode(token, options={"verify_signature": False})
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(OTHER.sign(live()), PEM, ["RS256"])
    assert jwt.PyJWT.decode_complete.__name__ == "decode_complete"


def test_outside_of_requests_and_when_off_nothing_happens() -> None:
    """Scripts verify tokens too."""
    token = RSA.sign(live())
    assert jwt.decode(token, PEM, ["RS256"])["sub"] == "u1001"
    boundary.install(None)
    assert jwt.decode(token, PEM, ["RS256"])["sub"] == "u1001"


def test_with_keys_of_ours_the_app_only_chooses_the_token(tmp_path: Path) -> None:
    """Our verdict on the request's one token stands; where we find none, or several, we judge the one the app took."""
    (tmp_path / "key.pem").write_bytes(RSA.pem)
    good, foreign = RSA.sign(live()), OTHER.sign(live(sub="mallory"))
    under_theirs = functools.partial(jwt.decode, key=OTHER.pem.decode(), algorithms=["RS256"])
    under_ours = functools.partial(jwt.decode, key=PEM, algorithms=["RS256"])
    with observing(tmp_path, public_key=tmp_path / "key.pem"):
        # one token: ours says what it is worth, whatever the app thinks of it
        assert verdict(bearer(under_theirs, good)) == "u1001"
        assert verdict(bearer(under_theirs, foreign)) is R.SIGNATURE_MISMATCH
        # in a cookie, or beside another: the app says which
        assert serve(under_ours, cookie=f"session={good}").identity.subject == "u1001"
        assert verdict(serve(under_theirs, cookie=f"session={foreign}").identity) is R.SIGNATURE_MISMATCH
        assert serve(under_theirs, cookie=f"session={good}").identity.status is Status.ABSENT
        twice = serve(lambda _: under_ours(good), authorization=f"Bearer {foreign}, Bearer {good}").identity
        assert twice.subject == "u1001"
        neither = serve(lambda _: None, authorization=f"Bearer {foreign}, Bearer {good}").identity
        assert neither.reason is R.MULTIPLE_TOKENS


@pytest.mark.parametrize(
    ("source", "there", "elsewhere"),
    [
        ("header:x-gateway", {"x_gateway": "{}"}, [{"cookie": "a={}"}, {"x_other": "{}"}, {"authorization": "JWT {}"}]),
        ("bearer", {"authorization": "Bearer {}"}, [{"cookie": "a={}"}, {"x_other": "{}"}]),
        ("cookie:session", {"cookie": "session={}"}, [{"cookie": "other={}"}, {"authorization": "JWT {}"}]),
    ],
)
def test_the_token_that_the_app_chooses_counts_from_its_own_source_alone(
    tmp_path: Path, source: str, there: dict[str, str], elsewhere: list[dict[str, str]]
) -> None:
    """An issuer that is bound to a source: the app's success with a token from another one is no way around."""
    (tmp_path / "key.pem").write_bytes(RSA.pem)
    table = f'[[issuer]]\nissuer = "https://as.example.com/"\npublic_key = "key.pem"\nsource = "{source}"\n'
    (tmp_path / "issuers.toml").write_text(table)
    good, other = RSA.sign(live()), RSA.sign(live(sub="u2002"))

    def app(_: str) -> None:
        jwt.decode(good, PEM, ["RS256"])

    def shown(where: dict[str, str], token: str) -> Identity:
        headers = {name: value.format(token) for name, value in where.items()}
        return serve(app, query="a", **headers).identity

    with observing(tmp_path, issuers_file=tmp_path / "issuers.toml"):
        assert shown(there, good).subject == "u1001"
        assert not [where for where in elsewhere if shown(where, good).verified]
        if source.startswith("header"):
            assert shown(there, f"{other}, {good}").subject == "u1001"  # beside another the app says which


def test_with_wrong_settings_nothing_is_observed(tmp_path: Path) -> None:
    """They may have been meant to forbid what the app accepts."""
    config, problems = load({}, spool=tmp_path, excluded_paths=["/*"], public_key=tmp_path / "missing.pem")
    assert len(problems) == 1
    wrong = Pipeline(config, suppress=nullcontext)
    boundary.install(wrong)
    found = bearer(lambda token: jwt.decode(token, PEM, ["RS256"]), RSA.sign(live()))
    assert (found.status, found.reason) == (Status.UNVERIFIED, R.KEYS_UNAVAILABLE)
    wrong.stop()


def test_settings_narrow_what_the_app_accepts(tmp_path: Path) -> None:
    """ISSUER without a key: only that issuer's tokens are identities."""
    with observing(tmp_path, issuer="https://other.example.com"):
        assert verdict(bearer(lambda token: jwt.decode(token, PEM, ["RS256"]), RSA.sign(live()))) is R.ISSUER_MISMATCH
