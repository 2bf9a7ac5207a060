"""PyJWT, and with it flask-jwt-extended, djangorestframework-simplejwt, fastapi-users and most FastAPI apps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import wrapt

from jwt_audit.identity.caller import Reason

from .watch import Decoder, Parameter, by_name

_REFUSAL = by_name(
    {
        "InvalidSignatureError": Reason.SIGNATURE_MISMATCH,
        "ExpiredSignatureError": Reason.EXPIRED,
        "ImmatureSignatureError": Reason.NOT_YET_VALID,
        "InvalidAudienceError": Reason.AUDIENCE_MISMATCH,
        "InvalidIssuerError": Reason.ISSUER_MISMATCH,
        "InvalidAlgorithmError": Reason.ALGORITHM_NOT_ALLOWED,
        "InvalidIssuedAtError": Reason.CLAIM_MISSING,
        "InvalidSubjectError": Reason.CLAIM_MISSING,
        "InvalidJTIError": Reason.CLAIM_MISSING,
        "MissingRequiredClaimError": Reason.CLAIM_MISSING,
        "PyJWKClientConnectionError": Reason.KEYS_UNAVAILABLE,
        "PyJWKClientError": Reason.UNKNOWN_KEY,
        "DecodeError": Reason.MALFORMED,
        "PyJWTError": Reason.REJECTED_BY_APP,
    }
)


def _signed(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """By the options of the instance under those of the call."""
    options = {**getattr(args[0], "options", {}), **(Parameter(4, "options").of(args, kwargs) or {})}
    return bool(options.get("verify_signature", True))


HOOKS = (
    Decoder("jwt.api_jwt", "PyJWT.decode_complete", Parameter(1, "jwt"), Parameter(2, "key"), _REFUSAL, _signed),
    Decoder(
        "jwt.jwks_client",
        "PyJWKClient.get_signing_key_from_jwt",
        Parameter(1, "token"),
        Parameter(2, ""),
        _REFUSAL,
        selects=True,
    ),
)


def install() -> None:
    """`HOOKS` are for the class; the names in the modules are methods bound to it before that."""
    for name in ("jwt.api_jwt", "jwt"):
        wrapt.register_post_import_hook(_bind_again, name)


def _bind_again(module: Any) -> None:
    instance = getattr(getattr(module, "decode_complete", None), "__self__", None)
    if instance is not None:
        module.decode_complete = instance.decode_complete
