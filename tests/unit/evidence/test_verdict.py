"""Verdicts, findings, and the report they add up to."""

from __future__ import annotations

import pytest

from jwt_audit.evidence.verdict import (
    KEPT_OF_A_KIND,
    Finding,
    Findings,
    Place,
    Report,
    StreamReport,
    Verdict,
    iso,
    worst,
)

VALID, INVALID, INCOMPLETE = Verdict.VALID, Verdict.INVALID, Verdict.INCOMPLETE


def finding(verdict: Verdict, number: int | None = None) -> Finding:
    return Finding(verdict, "gap", "a sentence", Place("file", 3, 70), "s", number)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [([], VALID), ([VALID], VALID), ([VALID, INCOMPLETE], INCOMPLETE), ([INVALID, INCOMPLETE, VALID], INVALID)],
)
def test_the_worst_one_counts(verdicts: list[Verdict], expected: Verdict) -> None:
    """Proof of a change outweighs what is missing."""
    assert worst(verdicts) is expected


def test_the_exit_codes() -> None:
    """As documented, and 0 for nothing else than valid."""
    assert {one.value: one.exit_code for one in Verdict} == {"valid": 0, "invalid": 1, "incomplete": 2}


def test_problems_come_the_gravest_first_and_by_number() -> None:
    """The first bad record is the first that is told."""
    findings = Findings()
    for verdict, number in ((INCOMPLETE, 1), (INVALID, 9), (VALID, 2), (INVALID, 4), (INVALID, None)):
        findings.add(finding(verdict, number))
    assert [(one.verdict, one.number) for one in findings.problems()] == [
        (INVALID, None),
        (INVALID, 4),
        (INVALID, 9),
        (INCOMPLETE, 1),
    ]
    assert [one.number for one in findings.notes()] == [2]


def test_no_flood_of_findings_hides_the_one_that_decides() -> None:
    """So many of a kind are kept, of each kind; the rest is counted."""
    findings = Findings()
    for _ in range(KEPT_OF_A_KIND + 5):
        findings.add(finding(VALID))
    assert (len(findings.kept), findings.more, findings.verdict) == (KEPT_OF_A_KIND, 5, VALID)
    findings.add(finding(INCOMPLETE, 7))
    findings.add(finding(INVALID, 8))
    assert (len(findings.kept), findings.more, findings.verdict) == (KEPT_OF_A_KIND + 2, 5, INVALID)
    for number in range(KEPT_OF_A_KIND * 2):
        findings.add(finding(INVALID, number))
    assert findings.verdict is INVALID
    assert len(findings.notes()) == KEPT_OF_A_KIND
    assert [one.number for one in findings.problems() if one.verdict is INCOMPLETE] == [7]
    assert findings.form() == {"gap": 3 * KEPT_OF_A_KIND + 7}


def test_notes_that_count_more_than_are_kept_become_problems_all_at_once() -> None:
    """Strictness sees each kind, however many there are of another."""
    findings = Findings()
    for _ in range(KEPT_OF_A_KIND * 3):
        findings.add(finding(VALID))
    findings.tighten({"gap"})
    assert findings.verdict is INCOMPLETE
    assert findings.more == KEPT_OF_A_KIND * 2
    assert not findings.notes()


@pytest.mark.parametrize(
    ("place", "where"),
    [(Place("f"), ""), (Place("f", 3), "line 3"), (Place("f", 0, 7), "byte 7"), (Place("f", 3, 0), "line 3, byte 0")],
)
def test_a_place_is_told_as_far_as_it_is_known(place: Place, where: str) -> None:
    """So that an editor or `dd` finds it."""
    assert place.where == where
    assert Finding(INVALID, "gap", "d", place).form()["where"] == (where or None)


def test_a_finding_without_a_place() -> None:
    """About a whole stream."""
    form = Finding(INVALID, "gap", "d").form()
    assert form == {"source": None, "where": None, "stream": None, "number": None, "kind": "gap", "detail": "d"}


def test_the_report_adds_its_streams_up() -> None:
    """One bad stream makes it bad."""
    good, bad = (StreamReport(name, "here", Findings(), records=3, open_tail=1, heads=2) for name in "gb")
    bad.findings.add(finding(INVALID, 2))
    report = Report([good, bad], Findings(), strict=False, pinned=True, keys=["k"], other_records=5)
    report.findings.add(Finding(INCOMPLETE, "nothing", "d"))
    assert report.verdict is INVALID
    assert [one.kind for one in report.problems()] == ["gap", "nothing"]
    form = report.form()
    assert form["totals"] == {
        "streams": 2,
        "records": 6,
        "proved": 0,
        "heads": 4,
        "open_tail": 2,
        "duplicates": 0,
        "explained": 0,
        "unprovable": 0,
        "uncompared": 0,
        "other_records": 5,
        "unread_bytes": 0,
    }
    assert form["trust"] == {"mode": "pinned", "keys": ["k"]}
    assert [stream["verdict"] for stream in form["streams"]] == ["valid", "invalid"]


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [(0, None), (1_795_600_000_123_456_789, "2026-11-25T09:46:40.123Z"), (2**63 * 1000, str(2**63 * 1000))],
)
def test_times_are_shown_in_utc(nanoseconds: int, shown: str | None) -> None:
    """And where the calendar ends, as they are."""
    assert iso(nanoseconds) == shown
