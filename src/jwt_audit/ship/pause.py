"""How long to wait before the next attempt, and what to tell the operator meanwhile."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from .answers import Action, Decision

RETRY_SECONDS = (0.5, 30.0)
"""The first pause and the longest; they double in between."""
HOLD_SECONDS = (5.0, 60.0)
PATIENCE_SECONDS = 10.0
"""A receiver that is away for less is not worth a message: a restart takes seconds."""


def pause(decision: Decision, attempt: int, jitter: Callable[[], float] = random.random) -> float:
    """Seconds to wait after the ``attempt``-th failure (from 1); never less than the receiver asked for.

    Between half and the whole of the doubled pause, so that many shippers do not come back at once.
    """
    first, longest = HOLD_SECONDS if decision.action is Action.HOLD else RETRY_SECONDS
    whole = min(longest, first * 2.0 ** min(attempt - 1, 16))
    return max(whole * (0.5 + jitter() / 2), decision.retry_after or 0.0)


class Trouble:
    """Says once when delivery stands still, again when the reason changes in kind, and once when it goes on."""

    def __init__(
        self, receiver: str, warn_operator: Callable[..., None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._receiver = receiver
        self._warn_operator = warn_operator
        self._clock = clock
        self._since: float | None = None
        self._told: Action | None = None
        self.told: str | None = None
        """What was said of the trouble that is not over."""

    def failed(self, decision: Decision) -> None:
        """An attempt was in vain."""
        if self._since is None:
            self._since = self._clock()
        if decision.action is Action.RETRY:
            lasts = self._clock() - self._since >= PATIENCE_SECONDS or (decision.retry_after or 0) >= PATIENCE_SECONDS
            if self._told is None and lasts:
                self._say(decision, "; audit records wait in the spool, none is lost")
        elif self._told is not Action.HOLD:
            more = ". Nothing is delivered until this is changed; audit records wait in the spool, none is lost"
            self._say(decision, more)

    def _say(self, decision: Decision, more: str) -> None:
        self._told = decision.action
        self.told = f"{self._receiver} {decision.reason}"
        self._warn_operator(self.told + more)

    def over(self) -> None:
        """The receiver took what was sent."""
        if self._told is not None:
            self._warn_operator(f"{self._receiver} takes audit records again")
        self._since = self._told = self.told = None
