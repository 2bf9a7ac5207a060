"""Pauses grow and end at a bound; the operator hears of a trouble once."""

from __future__ import annotations

import pytest

from jwt_audit.ship.answers import Action, Decision
from jwt_audit.ship.pause import HOLD_SECONDS, PATIENCE_SECONDS, RETRY_SECONDS, Trouble, pause

RETRY = Decision(Action.RETRY, "answered 503")
HOLD = Decision(Action.HOLD, "answered 401")


@pytest.mark.parametrize(("decision", "bounds"), [(RETRY, RETRY_SECONDS), (HOLD, HOLD_SECONDS)])
def test_the_pause_doubles_up_to_its_bound(decision: Decision, bounds: tuple[float, float]) -> None:
    """With the jitter at its most; with it at its least, half of that."""
    first, longest = bounds
    whole = [pause(decision, attempt, lambda: 1.0) for attempt in range(1, 40)]
    assert whole[0] == first
    assert whole[1] == 2 * first
    assert whole == sorted(whole)
    assert whole[-1] == longest
    assert [pause(decision, attempt, lambda: 0.0) for attempt in range(1, 40)] == [one / 2 for one in whole]


def test_the_receivers_wish_is_a_least_pause() -> None:
    """Retry-After lengthens a pause and never shortens one."""
    assert pause(Decision(Action.RETRY, "", retry_after=90.0), 1) == 90.0
    assert pause(Decision(Action.HOLD, "", retry_after=0.0), 1, lambda: 1.0) == HOLD_SECONDS[0]


def trouble() -> tuple[Trouble, list[str], list[float]]:
    told: list[str] = []
    clock = [0.0]
    return Trouble("http://r", lambda message: told.append(message), lambda: clock[0]), told, clock


def test_a_short_absence_is_not_worth_a_message() -> None:
    """A receiver that restarts is back before anybody is told."""
    one, told, clock = trouble()
    one.failed(RETRY)
    clock[0] = PATIENCE_SECONDS / 2
    one.failed(RETRY)
    one.over()
    assert told == []


def test_a_long_absence_is_told_once_and_so_is_its_end() -> None:
    """One message when it lasts, one when it is over, none in between."""
    one, told, clock = trouble()
    for second in range(60):
        clock[0] = float(second)
        one.failed(RETRY)
    assert told == ["http://r answered 503; audit records wait in the spool, none is lost"]
    one.over()
    one.over()
    assert told[1:] == ["http://r takes audit records again"]


def test_an_absence_that_the_receiver_foretells_is_told_at_once() -> None:
    """It asks for a longer pause than a restart takes."""
    one, told, _ = trouble()
    one.failed(Decision(Action.RETRY, "answered 503", retry_after=PATIENCE_SECONDS / 2))
    assert told == []
    one.failed(Decision(Action.RETRY, "answered 503", retry_after=PATIENCE_SECONDS))
    assert told == ["http://r answered 503; audit records wait in the spool, none is lost"]


def test_a_wrong_configuration_is_told_at_once_and_once() -> None:
    """Also when the receiver is away in between; anew when it comes back after it was well."""
    one, told, clock = trouble()
    one.failed(HOLD)
    one.failed(HOLD)
    clock[0] = 100.0
    one.failed(RETRY)
    one.failed(HOLD)
    assert len(told) == 1
    assert "Nothing is delivered until this is changed" in told[0]
    one.over()
    one.failed(HOLD)
    assert len(told) == 3
