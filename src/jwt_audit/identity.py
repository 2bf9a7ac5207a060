"""Who makes a request, as far as it is proved.

Invariants: ``subject`` and ``session`` are set only when ``status`` is VERIFIED. What an expired
token said (its signature holds) is kept apart, under ``expired_*``; what an unproved token merely
claims is kept apart under ``claimed``, and goes into the audit record alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from types import MappingProxyType

from . import attributes as attr
from .attributes import Value

_NOTHING: Mapping[str, Value] = MappingProxyType({})


class Status(str, Enum):
    """What is known of the request's token; the values of the attribute ``jwt.status``."""

    VERIFIED = "verified"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    INVALID = "invalid"
    UNVERIFIED = "unverified"
    ABSENT = "absent"


class Reason(str, Enum):
    """Why a token is not verified; the values of the attribute ``jwt.error``. A closed list."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    UNSUPPORTED_TOKEN = "unsupported_token"
    ALGORITHM_NOT_ALLOWED = "algorithm_not_allowed"
    UNKNOWN_KEY = "unknown_key"
    KEYS_UNAVAILABLE = "keys_unavailable"
    SIGNATURE_MISMATCH = "signature_mismatch"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    ISSUER_MISMATCH = "issuer_mismatch"
    AUDIENCE_MISMATCH = "audience_mismatch"
    TYPE_MISMATCH = "type_mismatch"
    CLAIM_MISSING = "claim_missing"
    CRITICAL_HEADER = "critical_header"
    MULTIPLE_TOKENS = "multiple_tokens"
    REJECTED_BY_APP = "rejected_by_app"


class ActorType(str, Enum):
    """The values of ``audit.actor.type`` in the draft audit signal."""

    USER = "user"
    SERVICE = "service"
    SYSTEM = "system"


ANONYMOUS = "anonymous"
"""The actor without a token, or with a refused one."""
UNKNOWN = "unknown"
"""The actor of a verified token that names nobody."""


@dataclass(frozen=True)
class Identity:
    """The outcome of looking at a request's token.

    ``expires_at`` is in seconds since the epoch. ``claims`` holds what the operator asked for beside
    the fixed set, already bounded, by attribute name. ``extra`` is for the audit record alone: of an
    unproved token only its claimed ``iss``, ``kid`` and ``alg`` (capped), of an expired one its
    subject and session.
    """

    status: Status
    reason: Reason | None = None
    subject: str | None = None
    session: str | None = None
    session_claim: str | None = None
    issuer: str | None = None
    expires_at: int | None = None
    token_id: str | None = None
    client: str | None = None
    actor_type: ActorType = ActorType.USER
    verified_by: str | None = None
    claims: Mapping[str, Value] = field(default_factory=lambda: _NOTHING)
    extra: Mapping[str, Value] = field(default_factory=lambda: _NOTHING)

    @property
    def verified(self) -> bool:
        return self.status is Status.VERIFIED

    @cached_property
    def actor_id(self) -> str:
        """``audit.actor.id``: the subject, else the client that acts for itself, else who we cannot name."""
        if not self.verified:
            return ANONYMOUS
        return self.subject or self.client or UNKNOWN

    @cached_property
    def actor(self) -> ActorType:
        """``audit.actor.type``: a token that names only a client is a service."""
        if self.verified and self.subject is None and self.client is not None:
            return ActorType.SERVICE
        return self.actor_type

    @cached_property
    def telemetry(self) -> Mapping[str, Value]:
        """What spans and log records carry (design table): computed once for all uses of a token."""
        found: dict[str, Value] = {attr.JWT_STATUS: self.status.value}
        if self.reason is not None:
            found[attr.JWT_ERROR] = self.reason.value
        if self.verified:
            if self.subject is not None:
                found[attr.ENDUSER_ID] = self.subject
            if self.session is not None:
                found[attr.SESSION_ID] = self.session
            if self.issuer is not None:
                found[attr.JWT_ISSUER] = self.issuer
            if self.expires_at is not None:
                found[attr.JWT_EXPIRES_AT] = self.expires_at
            found.update(self.claims)
        return MappingProxyType(found)

    @cached_property
    def audit(self) -> Mapping[str, Value]:
        """What the audit record carries of the token, beside the mandatory ``audit.*`` attributes."""
        found = dict(self.telemetry)
        if self.verified:
            if self.expires_at is not None:
                found[attr.JWT_EXPIRES_AT_ISO] = attr.iso_8601(self.expires_at)
            if self.token_id is not None:
                found[attr.JWT_ID] = self.token_id
            if self.session_claim is not None:
                found[attr.JWT_SESSION_CLAIM] = self.session_claim
            if self.client is not None:
                found[attr.JWT_CLIENT] = self.client
            if self.verified_by is not None:
                found[attr.JWT_VERIFIED_BY] = self.verified_by
        found.update(self.extra)
        return MappingProxyType(found)


ABSENT = Identity(Status.ABSENT)
"""The identity of a request that carries no token."""

UNDECIDED = Identity(Status.UNVERIFIED, extra=MappingProxyType({attr.JWT_ERROR: Reason.KEYS_UNAVAILABLE.value}))
"""The identity of a token that only the app can verify, until it does; the reason is for a record alone:
spans and log records that were written before the app spoke shall not tell a failure."""


def refused(reason: Reason, *, extra: Mapping[str, Value] = _NOTHING) -> Identity:
    """The identity of a request whose token proves nothing, for this reason."""
    status = {
        Reason.EXPIRED: Status.EXPIRED,
        Reason.NOT_YET_VALID: Status.NOT_YET_VALID,
        Reason.UNSUPPORTED_TOKEN: Status.UNVERIFIED,
        Reason.KEYS_UNAVAILABLE: Status.UNVERIFIED,
    }.get(reason, Status.INVALID)
    return Identity(status, reason, extra=extra)
