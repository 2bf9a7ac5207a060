"""python-jose raises one class of exception for nearly everything, so the reason is read from the message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jwt_audit.identity.caller import Reason

from .watch import Decoder, Parameter, by_name

_by_class = by_name(
    {
        "ExpiredSignatureError": Reason.EXPIRED,
        "JWTClaimsError": Reason.CLAIM_MISSING,
        "JOSEError": Reason.REJECTED_BY_APP,
    }
)

_BY_MESSAGE = {
    "Signature verification failed": Reason.SIGNATURE_MISMATCH,
    "The specified alg value is not allowed": Reason.ALGORITHM_NOT_ALLOWED,
    "Invalid or unsupported algorithm": Reason.ALGORITHM_NOT_ALLOWED,
    "The token is not yet valid": Reason.NOT_YET_VALID,
    "Invalid audience": Reason.AUDIENCE_MISMATCH,
    "Invalid issuer": Reason.ISSUER_MISMATCH,
    "missing required key": Reason.CLAIM_MISSING,
}


def _refusal(error: BaseException) -> Reason | None:
    reason = _by_class(error)
    if reason in (None, Reason.EXPIRED):
        return reason
    message = str(error)
    return next((refusal for beginning, refusal in _BY_MESSAGE.items() if message.startswith(beginning)), reason)


def _signed(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return bool((Parameter(3, "options").of(args, kwargs) or {}).get("verify_signature", True))


HOOKS = (Decoder("jose.jwt", "decode", Parameter(0, "token"), Parameter(1, "key"), _refusal, _signed),)
