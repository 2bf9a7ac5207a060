"""Authlib: its own ``authlib.jose``, and what its resource protectors add to joserfc.

``authlib.jose`` takes ``none`` for an algorithm where the caller lists it, and returns the claims of
an expired token.
"""

from __future__ import annotations

from typing import Any

from jwt_audit.identity.caller import Reason

from . import joserfc
from .watch import Decoder, Parameter, Validator


def _refusal(error: BaseException) -> Reason | None:
    if type(error) is ValueError and str(error) in ("Key not found", "Invalid JSON Web Key Set"):
        return Reason.UNKNOWN_KEY
    return joserfc.refusal(error)


def _claims(result: Any) -> object:
    return result


HOOKS: tuple[Decoder | Validator, ...] = (
    Decoder(
        "authlib.jose.rfc7519.jwt",
        "JsonWebToken.decode",
        Parameter(1, "s"),
        Parameter(2, "key"),
        _refusal,
        claims=_claims,
        calls=True,
    ),
    *joserfc.validators("authlib.jose.rfc7519.claims", "JWTClaims.validate"),
    *joserfc.validators("authlib.oauth2.claims", "BaseClaims.validate", "JWTClaims.validate"),
    *joserfc.validators("authlib.oauth2.rfc9068.claims", "JWTAccessTokenClaims.validate"),
)
