"""Who makes a request, as far as it is proved.

Invariants: ``subject`` and ``session`` are set only when ``status`` is VERIFIED. What an expired
token said (its signature holds) is kept apart, under ``expired_*``; what an unproved token merely
claims is kept apart under ``claimed``, and goes into the audit record alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from types import MappingProxyType
from typing import Any

from .. import attributes as attr
from ..anyvalue import wrap
from ..attributes import Value
from .privacy import RAW_EVERYWHERE, Kind, Policy, Privacy

_NOTHING: Mapping[str, Value] = MappingProxyType({})
_EXPIRED: tuple[tuple[str, Kind], ...] = ((attr.JWT_EXPIRED_SUBJECT, "subject"), (attr.JWT_EXPIRED_SESSION, "session"))


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
"""The actor of a verified token that names neither subject nor client."""


@dataclass(frozen=True)
class Identity:
    """What a request's token proves of its caller.

    ``expires_at`` is in seconds since the epoch. ``acting`` is who acts for the subject (RFC 8693, 4.1), and
    ``acting_issuer`` who issued that name, if the token says so. ``bound`` says that only the holder of a certain key
    may use the token (``dpop``, ``mtls``), which is not checked here. ``claims`` holds what the operator asked for
    beside the fixed set, by attribute name; ``partial`` has, for each attribute that holds only a part of its
    claim or nothing of it, the digest of the whole claim. ``extra`` is for the audit record alone: of an unproved
    token only its claimed ``iss``, ``kid`` and ``alg`` (cut to a maximum length), of an expired one its subject and
    session.

    The fields are as the token has them. `telemetry`, `logged`, `audit` and `actor_id` show them as ``privacy``
    allows, printable and of limited length (`attributes.text`): in the same form on every signal, so that a value
    seen on one can be searched for on the others.
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
    acting: str | None = None
    acting_issuer: str | None = None
    bound: str | None = None
    fingerprint: str | None = None
    claims: Mapping[str, Value] = field(default_factory=lambda: _NOTHING)
    partial: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Value] = field(default_factory=lambda: _NOTHING)
    privacy: Privacy = field(default=RAW_EVERYWHERE, compare=False, repr=False)

    @property
    def verified(self) -> bool:
        """Whether the token was verified: otherwise nobody is named."""
        return self.status is Status.VERIFIED

    def with_privacy(self, privacy: Privacy, token: str | None = None) -> Identity:
        """This identity, shown as ``privacy`` allows. ``token`` is fingerprinted if ``privacy`` asks for it."""
        if privacy is RAW_EVERYWHERE:
            return self
        privacy = privacy.with_current_key()
        fingerprint = self.fingerprint
        if privacy.fingerprint and privacy.pseudonyms is not None and token is not None:
            fingerprint = privacy.pseudonyms.fingerprint(token)
        return replace(self, privacy=privacy, fingerprint=fingerprint)

    @cached_property
    def actor_id(self) -> str:
        """``audit.actor.id``: the subject, else the client that acts for itself, else `UNKNOWN` or `ANONYMOUS`."""
        if not self.verified:
            return ANONYMOUS
        if self.subject is None:
            return _text(self.client) or UNKNOWN
        return self._shown(self.privacy.audit, "subject", self.subject) or UNKNOWN

    @cached_property
    def actor(self) -> ActorType:
        """``audit.actor.type``: a token that names only a client is a service."""
        if self.verified and self.subject is None and self.client is not None:
            return ActorType.SERVICE
        return self.actor_type

    @cached_property
    def telemetry(self) -> Mapping[str, Value]:
        """The attributes of spans: computed once for all uses of a token."""
        return MappingProxyType(self._attributes(self.privacy.spans))

    @cached_property
    def logged(self) -> Mapping[str, Value]:
        """The attributes of log records."""
        if self.privacy.logs is self.privacy.spans:
            return self.telemetry
        return MappingProxyType(self._attributes(self.privacy.logs))

    @cached_property
    def audit(self) -> Mapping[str, Value]:
        """The attributes of the audit record, beside the mandatory ``audit.*`` ones."""
        policy = self.privacy.audit
        attributes = self._attributes(policy)
        if self.verified:
            if self.expires_at is not None:
                attributes[attr.JWT_EXPIRES_AT_ISO] = attr.iso_8601(self.expires_at)
            more = {
                attr.JWT_ID: self._shown(policy, "token", self.token_id),
                attr.JWT_SESSION_CLAIM: self.session_claim,
                attr.JWT_CLIENT: _text(self.client),
                attr.JWT_VERIFIED_BY: self.verified_by,
                attr.JWT_ACT_SUBJECT: self._shown(policy, "subject", self.acting, by=self.acting_issuer),
                attr.JWT_ACT_ISSUER: _text(self.acting_issuer),
                attr.JWT_BOUND: self.bound,
            }
            attributes.update({name: value for name, value in more.items() if value is not None})
        attributes.update(self.extra if policy is Policy.RAW else self._hidden_extra(policy))
        if self.fingerprint is not None:
            attributes[attr.JWT_FINGERPRINT] = self.fingerprint
        return MappingProxyType(attributes)

    @cached_property
    def otlp_json(self) -> Mapping[str, Any]:
        """`audit` and the actor in OTLP's JSON form, as they stand in a record's canonical bytes."""
        attributes = {**self.audit, attr.ACTOR_ID: self.actor_id, attr.ACTOR_TYPE: self.actor.value}
        return MappingProxyType({name: wrap(value) for name, value in attributes.items()})

    def _attributes(self, policy: Policy) -> dict[str, Value]:
        """The status and, of a verified token, who the caller is, as a policy shows it."""
        attributes: dict[str, Value] = {attr.JWT_STATUS: self.status.value}
        if self.reason is not None:
            attributes[attr.JWT_ERROR] = self.reason.value
        if not self.verified:
            return attributes
        subject = self._shown(policy, "subject", self.subject)
        session = self._shown(policy, "session", self.session)
        issuer = _text(self.issuer)
        if subject is not None:
            attributes[attr.ENDUSER_ID if policy is Policy.RAW else attr.ENDUSER_PSEUDO_ID] = subject
        if session is not None:
            attributes[attr.SESSION_ID] = session
        if issuer is not None:
            attributes[attr.JWT_ISSUER] = issuer
        if self.expires_at is not None:
            attributes[attr.JWT_EXPIRES_AT] = self.expires_at
        claims = {name: _bounded(value) for name, value in self.claims.items()}
        attributes.update(self.privacy.shown_claims(policy, issuer, claims))
        if self.partial and (partial := self.privacy.shown_partial(policy, issuer, self.partial)):
            attributes[attr.JWT_CLAIMS_PARTIAL] = partial
        if policy is Policy.PSEUDONYM and self.privacy.pseudonyms is not None:
            attributes[attr.JWT_PSEUDONYM_KEY] = self.privacy.pseudonyms.key_id
        return attributes

    def _shown(self, policy: Policy, kind: Kind, value: str | None, *, by: str | None = None) -> str | None:
        """A value in its recorded form, as a policy shows it; a pseudonym is made from that form too."""
        return self.privacy.shown(policy, kind, _text(by or self.issuer), _text(value))

    def _hidden_extra(self, policy: Policy) -> dict[str, Value]:
        """What an expired token said of a person, as a policy shows it."""
        extra = dict(self.extra)
        issuer = extra.get(attr.JWT_CLAIMED_ISSUER)
        by = issuer if isinstance(issuer, str) else None
        for name, kind in _EXPIRED:
            value = extra.pop(name, None)
            shown = self.privacy.shown(policy, kind, by, value) if isinstance(value, str) else None
            if shown is not None:
                extra[name] = shown
                if self.privacy.pseudonyms is not None:
                    extra[attr.JWT_PSEUDONYM_KEY] = self.privacy.pseudonyms.key_id
        return extra


def _text(value: str | None) -> str | None:
    return None if value is None else attr.text(value)


def _bounded(value: Value) -> Value:
    """A claim's value in its recorded form. If a list is cut here, `Identity.partial` has its digest."""
    if isinstance(value, list):
        return list(map(attr.text, value[: attr.MAX_ITEMS]))
    return attr.text(value) if isinstance(value, str) else value


ABSENT = Identity(Status.ABSENT)
"""The identity of a request that carries no token."""

UNDECIDED = Identity(Status.UNVERIFIED, extra=MappingProxyType({attr.JWT_ERROR: Reason.KEYS_UNAVAILABLE.value}))
"""The identity of a token that only the app can verify, until it does. The reason is for the record alone:
spans and log records that are written before the app verifies the token must not report a failure."""


def refused(reason: Reason, *, extra: Mapping[str, Value] = _NOTHING) -> Identity:
    """The identity of a request whose token proves nothing, for this reason."""
    status = {
        Reason.EXPIRED: Status.EXPIRED,
        Reason.NOT_YET_VALID: Status.NOT_YET_VALID,
        Reason.UNSUPPORTED_TOKEN: Status.UNVERIFIED,
        Reason.KEYS_UNAVAILABLE: Status.UNVERIFIED,
    }.get(reason, Status.INVALID)
    return Identity(status, reason, extra=extra)
