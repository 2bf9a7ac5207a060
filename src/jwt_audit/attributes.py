"""Attribute names, and the only values that may stand under them.

Names are the semantic conventions' where they have one, the draft audit signal's ``audit.*``, and
our own under ``jwt.*``. A value is str, int64, bool or a list of str, bounded: a lone surrogate, an
integer of 2^63 or a mixed list would cost the OpenTelemetry exporter the attribute and a traceback.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime, timezone
from typing import Any

Value = str | int | bool | list[str]

# Semantic conventions
ENDUSER_ID = "enduser.id"
ENDUSER_PSEUDO_ID = "enduser.pseudo.id"
SESSION_ID = "session.id"
USER_ROLES = "user.roles"
HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
URL_PATH = "url.path"
CLIENT_ADDRESS = "client.address"
PEER_ADDRESS = "network.peer.address"
USER_AGENT = "user_agent.original"
ERROR_TYPE = "error.type"

# Our own
JWT_STATUS = "jwt.status"
JWT_ERROR = "jwt.error"
JWT_ISSUER = "jwt.issuer"
JWT_EXPIRES_AT = "jwt.expires_at"
JWT_EXPIRES_AT_ISO = "jwt.expires_at.iso"
JWT_ID = "jwt.id"
JWT_SESSION_CLAIM = "jwt.session_claim"
JWT_CLIENT = "jwt.client_id"
JWT_VERIFIED_BY = "jwt.verified_by"
JWT_ACT_SUBJECT = "jwt.act.subject"
JWT_ACT_ISSUER = "jwt.act.issuer"
JWT_BOUND = "jwt.bound"
JWT_CLAIMS_PARTIAL = "jwt.claims_partial"
JWT_FINGERPRINT = "jwt.fingerprint"
JWT_PSEUDONYM_KEY = "jwt.pseudonym.key_id"
JWT_EXPIRED_SUBJECT = "jwt.expired.subject"
JWT_EXPIRED_SESSION = "jwt.expired.session"
JWT_CLAIMED_ISSUER = "jwt.claimed.issuer"
JWT_CLAIMED_KEY_ID = "jwt.claimed.key_id"
JWT_CLAIMED_ALGORITHM = "jwt.claimed.algorithm"
REQUEST_ID = "request.id"
REQUEST_DURATION = "http.server.request.duration_us"
TRACE_FLAGS = "audit.trace_flags"

# The draft audit signal
RECORD_ID = "audit.record.id"
ACTOR_ID = "audit.actor.id"
ACTOR_TYPE = "audit.actor.type"
ACTION = "audit.action"
OUTCOME = "audit.outcome"
TARGET_ID = "audit.target.id"
TARGET_TYPE = "audit.target.type"
SOURCE_ID = "audit.source.id"
SOURCE_TYPE = "audit.source.type"
SCHEMA_VERSION = "audit.schema.version"
DECISION = "audit.decision"
STREAM_ID = "audit.sequence.stream_id"
NUMBER = "audit.sequence.number"
PREVIOUS_HASH = "audit.sequence.previous_hash"
END = "audit.sequence.end"
INTEGRITY = "audit.integrity."
INTEGRITY_CANONICAL = "audit.integrity.canonical"
INTEGRITY_HASH = "audit.integrity.hash"
INTEGRITY_VALUE = "audit.integrity.value"
INTEGRITY_ALGORITHM = "audit.integrity.algorithm"

# What binds a stream, in its first record; a head, and what the shipper says of other streams
STREAM_RESOURCE = "audit.stream.resource"
STREAM_ALGORITHM = "audit.stream.algorithm"
STREAM_KEY_ID = "audit.stream.key_id"
STREAM_PUBLIC_KEY = "audit.stream.public_key"
STREAM_CONFIG = "audit.stream.config_digest"
STREAM_EXCLUDED = "audit.stream.excluded_paths"
STREAM_EXCLUDED_METHODS = "audit.stream.excluded_methods"
STREAM_LOCAL = "audit.stream.local"
STREAM_RETENTION = "audit.stream.retention"
STREAM_LIMIT = "audit.stream.limit"
STREAM_HOST = "audit.stream.host"
STREAM_PID = "audit.stream.pid"
STREAM_KNOWN = "audit.stream.known"
RECOVERED_STREAM = "audit.recovered.stream_id"
RECOVERED_NUMBER = "audit.recovered.number"
RECOVERED_HASH = "audit.recovered.hash"
RECOVERED_HEAD = "audit.recovered.head_number"
LOST_COUNT = "audit.lost.count"
LOST_REFUSED = "audit.lost.refused"
LOST_SINCE = "audit.lost.since"
UNDELIVERED_STREAM = "audit.undelivered.stream_id"
UNDELIVERED_NUMBER = "audit.undelivered.number"
UNDELIVERED_ID = "audit.undelivered.record_id"
UNDELIVERED_HASH = "audit.undelivered.hash"
UNDELIVERED_PREVIOUS = "audit.undelivered.previous_hash"
UNDELIVERED_REASON = "audit.undelivered.reason"
PRUNED_STREAM = "audit.pruned.stream_id"
PRUNED_NUMBER = "audit.pruned.number"
PRUNED_HASH = "audit.pruned.hash"

# Events
EVENT_REQUEST = "http.request"
EVENT_RECEIVED = "http.request.received"
EVENT_LATE = "http.request.late"
EVENT_WEBSOCKET_OPEN = "websocket.open"
EVENT_WEBSOCKET_CLOSE = "websocket.close"
EVENT_STREAM_START = "audit.stream.start"
EVENT_STREAM_END = "audit.stream.end"
EVENT_STREAM_RECOVERED = "audit.stream.recovered"
EVENT_STREAM_PRUNED = "audit.stream.pruned"
EVENT_UNDELIVERED = "audit.record.undelivered"
EVENT_LOST = "audit.records.lost"
EVENT_HEAD = "audit.head"

EVENTS = frozenset(value for name, value in dict(globals()).items() if name.startswith("EVENT_"))
NAMES = frozenset(value for name, value in dict(globals()).items() if name.isupper() and isinstance(value, str))
"""All of the above: nobody else gives them a meaning."""

MAX_TEXT = 1024
"""Characters of a string value; a longer one is cut and ends in the digest of the whole."""
MAX_ITEMS = 64
"""Items of a list value; of a longer one the last is the digest of the whole."""


_IN_URL = re.compile(
    r"(?<=access_token=)[^&#\s]+|(?<![\w\-])e(?:y[IJAB]|w[0o1pkl])[\w\-]{15,}\.[\w\-]*\.[\w.\-]*", re.ASCII
)
_ESCAPE = re.compile(r"\\(?:\\|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
_CUT = re.compile(r"…sha256:[0-9a-f]{32}\Z")
_CUT_LENGTH = 40
_MIN_INJECTIVE = 64
"""A shorter limit leaves no room for a digest: a cut value ends in an ellipsis there, and names nobody."""


def is_fixed(name: str) -> bool:
    """Whether an attribute has its meaning from us: no claim and no annotation of the app may set it."""
    return name in NAMES or name.startswith(("audit.", "jwt."))


def text(value: str, limit: int = MAX_TEXT) -> str:
    r"""``value`` printable and in at most ``limit`` characters; two different values never become one.

    Control characters and lone surrogates become escapes (``\x0a``, ``\u2028``), and then backslashes
    too; so do the backslashes of a value that holds what looks like such an escape. What does not fit
    is cut and ends in ``…sha256:`` and 128 bits of the whole value's digest; so does a value that
    looks as if it had been cut. ``DOMAIN\alice`` and any other ordinary value stay as they are.
    """
    fits = len(value) <= limit
    if fits and value.isprintable() and "\\" not in value and "…" not in value:
        return value  # as nearly all are
    if fits and value.isprintable() and not ("\\" in value and _ESCAPE.search(value)):
        kept = value
    else:
        kept = "".join(map(_escaped, value[:limit]))
    if fits and len(kept) <= limit and not ("…" in value and _CUT.search(value)):
        return kept
    if limit < _MIN_INJECTIVE:
        return kept[: limit - 1] + "…"
    return cut(kept[: limit - _CUT_LENGTH], _digest(value))


def cut(kept: str, digest: str) -> str:
    """What is kept of a value, and the digest of the whole."""
    return f"{kept}…sha256:{digest}"


def without_tokens(value: str) -> str:
    """``value``, a URL or a part of one, with ``…`` in the place of tokens: JWTs wherever they stand, and whatever
    ``access_token`` is (RFC 6750, 2.3)."""
    return _IN_URL.sub("…", value) if "access_token=" in value or "." in value else value


def _escaped(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    point = ord(character)
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def bounded(value: Any) -> Value | None:
    """``value`` as an attribute value, or None where it has no such form (null, an object, a list of objects).

    An integer beyond int64 and a fraction become their decimal string; a whole float becomes an integer. A list
    of more than `MAX_ITEMS` is cut and ends in the digest of the whole, so that two lists never become one.
    """
    if isinstance(value, str):
        return text(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**63 else repr(value)
    if isinstance(value, int):
        if -(2**63) <= value < 2**63:
            return value
        return str(value) if value.bit_length() <= 512 else None
    if isinstance(value, (list, tuple)):
        items = [None if isinstance(item, (list, tuple)) else bounded(item) for item in value]
        if any(item is None for item in items):
            return None
        texts = [item if isinstance(item, str) else str(item) for item in items]
        return texts if len(texts) <= MAX_ITEMS else [*texts[: MAX_ITEMS - 1], cut("", digest_of(texts))]
    return None


def digest_of(value: Any) -> str:
    """128 bits of the SHA-256 of ``value`` as JSON without blanks, its names sorted: what stands for what is left out.

    Raises RecursionError for what is nested too deeply.
    """
    whole = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return _digest(whole)


def _digest(whole: str) -> str:
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def iso_8601(seconds: int) -> str:
    """``seconds`` since the epoch as UTC in ISO 8601; the number itself where the calendar ends."""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return str(seconds)
