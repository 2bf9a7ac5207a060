"""A range of time is proved: its ends may be open, and that is said; a hole within it is a hole."""

from __future__ import annotations

from typing import Any

from jwt_audit import attributes as attr
from jwt_audit.evidence.signing import Signer
from jwt_audit.evidence.span import Span, started
from jwt_audit.evidence.verdict import Report, Verdict
from support.evidence import Sent, as_spool, export_copy, kinds, known, sent, verdict
from support.streams import MadeStream

VALID, INVALID, INCOMPLETE = Verdict.VALID, Verdict.INVALID, Verdict.INCOMPLETE
SIGNER = Signer.generate()
HOUR = 3_600_000_000_000
BEGIN = 1_795_608_000_000_000_000
"""2026-11-25T12:00:00Z"""


def hourly() -> MadeStream:
    """A stream of nine hours: in each a request, and a head a moment later."""
    made = MadeStream(signer=SIGNER, stream_id="20261125T120000.000Z-1-aaaaaaaa", now=BEGIN)
    made.head()
    for _ in range(8):
        made.now += HOUR
        made.request()
        made.head()
    made.now += HOUR
    made.end()
    return made


STREAM = hourly()
LAST = len(STREAM.lines)


def within(since: int, until: int, records: list[Sent]) -> list[Sent]:
    """What a query for these hours answers."""
    return [one for one in records if since <= int(one[0]["observedTimeUnixNano"]) - BEGIN < until]


def asked(records: list[Sent], since: int | None, until: int | None, **options: Any) -> Report:
    span = Span(None if since is None else BEGIN + since, None if until is None else BEGIN + until)
    return verdict(export_copy(records), pins=[SIGNER], span=span, **options)


HALF = HOUR // 2
EXPORTED = sent(STREAM)
MIDDLE = within(2 * HOUR + HALF, 6 * HOUR + HALF, EXPORTED)


def test_a_range_in_the_middle_is_proved_and_its_ends_are_said_to_be_open() -> None:
    """Without the range it begins too late."""
    assert kinds(asked(MIDDLE, None, None)) == {"missing_prefix"}
    report = asked(MIDDLE, 2 * HOUR + HALF, 6 * HOUR + HALF)
    assert report.verdict is VALID
    assert "open_start" in kinds(report, VALID)
    assert (report.streams[0].first, report.streams[0].last, report.streams[0].proved) == (4, 7, 4)
    assert "open_start" in kinds(asked(MIDDLE, 2 * HOUR + HALF, 6 * HOUR + HALF, strict=True), INCOMPLETE)


def test_a_record_missing_within_is_a_gap() -> None:
    """And one missing at an end is found by a head within."""
    without = [one for one in MIDDLE if one is not MIDDLE[2]]
    assert "gap" in kinds(asked(without, 2 * HOUR + HALF, 6 * HOUR + HALF), INVALID)
    late = [one for one in MIDDLE if number(one) not in (4, 5) or one[0]["eventName"] == attr.EVENT_HEAD]
    assert "missing_prefix" in kinds(asked(late, 2 * HOUR + HALF, 6 * HOUR + HALF))
    cut = [one for one in MIDDLE if number(one) != 7 or one[0]["eventName"] == attr.EVENT_HEAD]
    assert "cut_off" in kinds(asked(cut, 2 * HOUR + HALF, 6 * HOUR + HALF), INVALID)


def number(one: Sent) -> int:
    return next(int(item["value"]["intValue"]) for item in one[0]["attributes"] if item["key"] == attr.NUMBER)


def test_a_stream_that_began_within_has_its_start() -> None:
    """Its id tells when that was."""
    assert kinds(asked(EXPORTED[1:], -HOUR, None)) == {"missing_prefix"}
    assert "missing_prefix" not in kinds(asked(EXPORTED[1:], HALF, None))
    assert started("20261125T120000.250Z-1-x") == BEGIN + 250_000_000
    assert started("20261345T120000.000Z-1-x") is started("other") is None


def test_nothing_of_the_time_asked_for_is_not_valid() -> None:
    """Though all that is there is."""
    assert kinds(asked(EXPORTED, 20 * HOUR, None)) == {"nothing"}


def test_a_named_stream_is_missed_where_it_began_within() -> None:
    """One that began before may have ended before: said, not missed."""
    later = MadeStream(signer=SIGNER, now=BEGIN + 10 * HOUR, known=[known(STREAM)])
    later.end()
    assert kinds(asked(sent(later), -HOUR, None)) == {"missing_stream"}
    report = asked(sent(later), 5 * HOUR, None)
    assert report.verdict is VALID
    assert "open_start" in kinds(report, VALID)


def test_a_second_copy_must_have_what_falls_within() -> None:
    """And no more: a month's export beside a spool that holds a year."""
    old = MadeStream(signer=SIGNER, stream_id="20261001T000000.000Z-1-bbbbbbbb", now=BEGIN - 1000 * HOUR)
    old.end()
    spool, export = as_spool(old, STREAM), export_copy(EXPORTED)
    assert kinds(verdict(export, spool, pins=[SIGNER])) == {"missing_stream"}
    spool, export = as_spool(old, STREAM), export_copy(EXPORTED)
    assert verdict(export, spool, pins=[SIGNER], span=Span(BEGIN, None)).verdict is VALID


def test_what_delivery_may_lag_behind_is_told_and_older_is_missed() -> None:
    """Measured by the newest record of any copy."""
    young = MadeStream(signer=SIGNER, now=BEGIN + 9 * HOUR + 1_000_000_000)
    young.requests(1).end()
    report = verdict(export_copy(EXPORTED), as_spool(STREAM, young), pins=[SIGNER])
    assert report.verdict is VALID
    assert "behind" in kinds(report, VALID)
    half = [one for one in EXPORTED if number(one) < 5]
    assert "behind" in kinds(verdict(export_copy(half), as_spool(STREAM), pins=[SIGNER]), INCOMPLETE)


def test_a_stream_of_an_export_belongs_to_a_spool_that_names_it() -> None:
    """Others are of other hosts: told, and no problem unless strictly."""
    later = MadeStream(signer=SIGNER, now=BEGIN + 10 * HOUR, known=[known(STREAM)])
    later.end()
    alone = MadeStream(signer=SIGNER, now=BEGIN + 10 * HOUR)
    alone.end()
    both = [*EXPORTED, *sent(later)]
    assert kinds(verdict(export_copy(both), as_spool(later), pins=[SIGNER])) == {"missing_stream"}
    assert kinds(verdict(export_copy(both), as_spool(STREAM), pins=[SIGNER])) == {"missing_stream"}
    report = verdict(export_copy([*EXPORTED, *sent(alone)]), as_spool(alone), pins=[SIGNER])
    assert report.verdict is VALID
    assert "elsewhere" in kinds(report, VALID)
