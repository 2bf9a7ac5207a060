"""The table of answers, row by row."""

from __future__ import annotations

import pytest

from jwt_audit.http.exchange import Failure
from jwt_audit.ship.answers import PATIENCE, Action, Answer, decide


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        # a success that rejects nothing, and only that
        (Answer(200, rejected=0), Action.ACK),
        (Answer(204, rejected=0), Action.ACK),
        (Answer(200, rejected=1), Action.REJECTED),
        (Answer(200, rejected=-1), Action.REJECTED),
        # no OTLP answer: passing at first
        (Answer(200, rejected=None), Action.RETRY),
        (Answer(202, rejected=None), Action.RETRY),
        (Answer(202, rejected=0), Action.RETRY),
        (Answer(301), Action.RETRY),
        (Answer(302), Action.RETRY),
        (Answer(307), Action.RETRY),
        (Answer(100), Action.RETRY),
        (Answer(failure=Failure.NO_HTTP), Action.RETRY),
        (Answer(500), Action.RETRY),
        (Answer(501), Action.RETRY),
        # passing by their nature
        (Answer(408), Action.RETRY),
        (Answer(429), Action.RETRY),
        (Answer(502), Action.RETRY),
        (Answer(503), Action.RETRY),
        (Answer(504), Action.RETRY),
        (Answer(failure=Failure.UNREACHABLE), Action.RETRY),
        (Answer(failure=Failure.TIMEOUT), Action.RETRY),
        (Answer(failure=Failure.LOST), Action.RETRY),
        # configuration
        (Answer(401), Action.HOLD),
        (Answer(403), Action.HOLD),
        (Answer(404), Action.HOLD),
        (Answer(405), Action.HOLD),
        (Answer(410), Action.HOLD),
        (Answer(415), Action.HOLD),
        (Answer(failure=Failure.TLS), Action.HOLD),
        # bad data
        (Answer(400), Action.SPLIT),
        (Answer(413), Action.SPLIT),
        (Answer(422), Action.SPLIT),
        (Answer(409), Action.CONFLICT),
    ],
)
def test_each_answer_has_its_action(answer: Answer, action: Action) -> None:
    """The first time a batch is answered."""
    assert decide(answer).action is action


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, rejected=None),
        Answer(202, rejected=0),
        Answer(302),
        Answer(500),
        Answer(501),
        Answer(failure=Failure.NO_HTTP),
    ],
)
def test_what_is_no_otlp_answer_is_held_when_it_lasts(answer: Answer) -> None:
    """A wrong server is told from a passing fault by its lasting, and nothing of it is ever an acknowledgement."""
    assert decide(answer, PATIENCE - 1).action is Action.RETRY
    assert decide(answer, PATIENCE).action is Action.HOLD
    assert decide(answer, 10**6).action is Action.HOLD


@pytest.mark.parametrize("status", [429, 503])
def test_an_overloaded_receiver_is_retried_for_ever(status: int) -> None:
    """However often it says so."""
    assert decide(Answer(status), 10**6).action is Action.RETRY


def test_only_an_answer_that_says_so_acknowledges() -> None:
    """Of all statuses that HTTP can have, whatever their body, two acknowledge."""
    found = {
        (status, rejected)
        for status in range(100, 600)
        for rejected in (None, 0, 1)
        if decide(Answer(status, rejected=rejected)).action is Action.ACK
    }
    assert found == {(200, 0), (204, 0)}


def test_the_pause_that_was_asked_for_is_handed_on() -> None:
    """Retry-After reaches whoever waits, for retries and for a held configuration."""
    assert decide(Answer(429, retry_after=7.0)).retry_after == 7.0
    assert decide(Answer(503)).retry_after is None
    assert decide(Answer(401, retry_after=9.0)).retry_after == 9.0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(401), "answered 401: check the HEADERS (credentials)"),
        (Answer(404, detail="no such page"), "answered 404 (no such page): check the ENDPOINT's path"),
        (Answer(302), "answered 302, a redirect, which is not followed: check the ENDPOINT"),
        (Answer(200, rejected=2, detail="too old"), "answered 200 but rejected records (too old)"),
        (Answer(200), "answered 200, but not with an OTLP response: check the ENDPOINT"),
        (Answer(500), "answered 500"),
        (Answer(failure=Failure.UNREACHABLE, detail="Connection refused"), "cannot be reached (Connection refused)"),
        (
            Answer(failure=Failure.TLS),
            "failed the TLS handshake or its certificate was refused: check the certificates",
        ),
    ],
)
def test_the_reason_says_what_to_do(answer: Answer, expected: str) -> None:
    """The operator reads it as it is."""
    assert decide(answer).reason == expected
