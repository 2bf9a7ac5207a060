"""No representation of what holds a token, a secret or a key shows it: debuggers, log lines and tracebacks do that."""

from __future__ import annotations

import json

import pytest

from jwt_audit.identity.caller import Identity
from jwt_audit.request import in_flight
from jwt_audit.settings.environment import load
from jwt_audit.settings.issuer import IssuerSettings
from jwt_audit.settings.variables import PREFIX
from jwt_audit.tokens.cache import Cache, Result
from jwt_audit.tokens.extract import Sources
from jwt_audit.tokens.issuers import Issuers
from jwt_audit.tokens.jwks import parse_secret
from jwt_audit.tokens.jws import TokenRefusedError, parse
from jwt_audit.tokens.observation import Observation
from jwt_audit.tokens.observed import AppTokens, Verification
from jwt_audit.tokens.verify import TokenVerifier
from support.headers import request_with
from support.issuer import NOW, SECRET, FixedKeys, claims, signing_issuer, signing_key

TOKEN = signing_key("HS256").sign(claims(), kid="k")


def everything() -> list[object]:
    """One of each that has met the token or its key."""
    request = request_with(("Authorization", f"Bearer {TOKEN}"))
    in_flight.add(request)
    seen = Verification(TOKEN, True, (SECRET, SECRET.decode()))
    app = AppTokens(IssuerSettings("test", subject=(), session=()), now=lambda: NOW + 1)
    observation = Observation(app.judge)
    observation.saw(request, seen, {"claims": TOKEN})
    in_flight.discard(request)
    keys = parse_secret(SECRET, frozenset())
    issuers = Issuers([signing_issuer(FixedKeys(keys), keys.algorithms)])
    verifier = TokenVerifier(issuers, now=lambda: NOW + 1)
    identity = verifier.verify(TOKEN)
    assert isinstance(identity, Identity)
    assert identity.verified
    assert request.identity.verified
    cache = Cache(4)
    cache.put(b"digest", Result(identity, NOW))
    refusals: list[object] = []
    for wrong in (TOKEN[:-4], TOKEN + ".", TOKEN.replace(".", ".e30", 1), "x" + TOKEN):
        with pytest.raises(TokenRefusedError) as caught:
            parse(wrong)
        refusals += [caught.value, str(caught.value), caught.value.claimed]
    return [
        Sources(["bearer"]).present(request),
        parse(TOKEN),
        seen,
        request,
        request.observed,
        observation,
        app,
        keys,
        keys.keys[0],
        issuers,
        verifier,
        identity,
        cache,
        Result(identity, NOW),
        load({f"{PREFIX}HEADERS": f"authorization={TOKEN}"})[0],
        *refusals,
    ]


def test_nothing_shows_the_token_or_its_key() -> None:
    """By ``repr`` and by ``str``."""
    for one in everything():
        for shown in (repr(one), str(one)):
            assert not [part for part in TOKEN.split(".") if part in shown], type(one)
            assert SECRET.decode() not in shown
            assert json.dumps(claims())[1:-1] not in shown
