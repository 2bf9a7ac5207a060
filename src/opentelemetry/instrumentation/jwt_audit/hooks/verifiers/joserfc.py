"""joserfc, and with it Authlib's resource protectors.

It returns the claims of an expired token: to validate them is a call apart.
"""

from __future__ import annotations

from typing import Any

from jwt_audit.identity.caller import Reason

from .watch import Decoder, Parameter, Validator, by_name

_BY_CLAIM = {
    "aud": Reason.AUDIENCE_MISMATCH,
    "iss": Reason.ISSUER_MISMATCH,
    "typ": Reason.TYPE_MISMATCH,
    "exp": Reason.EXPIRED,
    "nbf": Reason.NOT_YET_VALID,
    "iat": Reason.NOT_YET_VALID,
}

_by_class = by_name(
    {
        "BadSignatureError": Reason.SIGNATURE_MISMATCH,
        "UnsupportedAlgorithmError": Reason.ALGORITHM_NOT_ALLOWED,
        "UnsupportedKeyAlgorithmError": Reason.ALGORITHM_NOT_ALLOWED,
        "ConflictAlgorithmError": Reason.ALGORITHM_NOT_ALLOWED,
        "InvalidKeyIdError": Reason.UNKNOWN_KEY,
        "InvalidCritHeaderParameterNameError": Reason.CRITICAL_HEADER,
        "ExpiredTokenError": Reason.EXPIRED,
        "InvalidTokenError": Reason.NOT_YET_VALID,
        "MissingClaimError": Reason.CLAIM_MISSING,
        "DecodeError": Reason.MALFORMED,
        "JoseError": Reason.REJECTED_BY_APP,
        "ValueError": Reason.REJECTED_BY_APP,  # a key or algorithm that does not fit, in some versions
    }
)


def refusal(error: BaseException) -> Reason | None:
    """By the claim that is wrong, else by class; joserfc and `authlib.jose` name them alike."""
    if type(error).__name__ == "InvalidClaimError":
        claim = getattr(error, "claim", None) or getattr(error, "claim_name", None)
        return _BY_CLAIM.get(str(claim), Reason.CLAIM_MISSING)
    return _by_class(error)


def _claims(token: Any) -> object:
    return token.claims


def validators(module: str, *paths: str) -> tuple[Validator, ...]:
    """Validators whose object is the claims themselves."""
    return tuple(Validator(module, path, Parameter(0, "self"), refusal) for path in paths)


HOOKS: tuple[Decoder | Validator, ...] = (
    Decoder("joserfc.jwt", "decode", Parameter(0, "value"), Parameter(1, "key"), refusal, claims=_claims, calls=True),
    Validator("joserfc.jwt", "JWTClaimsRegistry.validate", Parameter(1, "claims"), refusal),
)
