"""What a receiver's answer means for a batch of audit records: one pure table.

Invariant: only an OTLP success that rejects nothing is an acknowledgement. Everything else keeps
the records: they are sent again, held until the configuration is right, or, where the receiver
refuses a single record for good, set aside in the dead letter. Sources: the OTLP specification
(responses, partial success, retryable codes) and what receivers were seen to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..http.exchange import Failure


class Action(Enum):
    """What to do with the batch."""

    ACK = "ack"
    """Delivered: the cursor may move."""
    RETRY = "retry"
    """Send the same again after a growing pause, for ever."""
    HOLD = "hold"
    """A configuration is wrong: tell the operator, try again slowly, lose nothing."""
    SPLIT = "split"
    """Something in it is refused for good: halve it; a single record goes to the dead letter."""
    REJECTED = "rejected"
    """A 200 that rejected some records and names none: halve it, as SPLIT."""
    CONFLICT = "conflict"
    """A record is there already with other content: halve it, as SPLIT, and alert."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request.

    ``rejected`` is the count of a parsed ExportLogsServiceResponse, or None where the body is none.
    ``retry_after`` is in seconds. ``detail`` is the receiver's own word, bounded and without secrets.
    """

    status: int = 0
    failure: Failure | None = None
    rejected: int | None = None
    retry_after: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, why (for the operator and the dead letter), and the pause the receiver asked for."""

    action: Action
    reason: str
    retry_after: float | None = None


PATIENCE = 5
"""So often an answer that is no OTLP answer counts as a passing fault, then as a wrong configuration."""

_RETRIED = frozenset({408, 429, 502, 503, 504})
_POISON = frozenset({400, 413, 422})
_HINTS = {
    401: "check the HEADERS (credentials)",
    403: "check the HEADERS (credentials)",
    404: "check the ENDPOINT's path",
    405: "check the ENDPOINT's path",
    415: "check PROTOCOL and COMPRESSION",
}


def decide(answer: Answer, attempt: int = 1) -> Decision:
    """What to do after ``answer`` to the ``attempt``-th sending of a batch (from 1)."""
    if answer.failure is not None:
        return _without_answer(answer.failure, answer.detail, attempt)
    status = answer.status
    said = f"answered {status}" + (f" ({answer.detail})" if answer.detail else "")
    if status in (200, 204) and answer.rejected == 0:
        return Decision(Action.ACK, said)
    if status == 200 and answer.rejected is not None:
        return Decision(Action.REJECTED, f"answered 200 but rejected records ({answer.detail or 'no reason given'})")
    if status in _RETRIED:
        return Decision(Action.RETRY, said, answer.retry_after)
    if status in _POISON:
        return Decision(Action.SPLIT, said)
    if status == 409:
        return Decision(Action.CONFLICT, said)
    if 400 <= status < 500:
        hint = _HINTS.get(status, "check the configuration")
        return Decision(Action.HOLD, f"{said}: {hint}", answer.retry_after)
    if 200 <= status < 300:
        said += ", but not with an OTLP response"
    elif status < 400:
        said += ", a redirect, which is not followed"
    return _doubtful(f"{said}: check the ENDPOINT" if status < 500 else said, attempt, answer.retry_after)


def _without_answer(failure: Failure, detail: str, attempt: int) -> Decision:
    said = failure.value + (f" ({detail})" if detail else "")
    if failure is Failure.TLS:
        return Decision(Action.HOLD, f"{said}: check the certificates")
    if failure is Failure.NO_HTTP:
        return _doubtful(f"{said}: check the ENDPOINT", attempt, None)
    return Decision(Action.RETRY, said)


def _doubtful(reason: str, attempt: int, retry_after: float | None) -> Decision:
    """No OTLP answer: a proxy's passing page, or the wrong server. The latter is known by its lasting."""
    return Decision(Action.RETRY if attempt < PATIENCE else Action.HOLD, reason, retry_after)
