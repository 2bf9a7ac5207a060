"""What a verifier must catch, and what it must not call tampering: each attack in a spool and in an export."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from jwt_audit import attributes as attr
from jwt_audit.attributes import Value
from jwt_audit.evidence import chain, heads
from jwt_audit.evidence.canonical import canonical, parse
from jwt_audit.evidence.copies import Copy
from jwt_audit.evidence.heads import SignedHead
from jwt_audit.evidence.signing import Signer
from jwt_audit.evidence.streams import Writer
from jwt_audit.evidence.verdict import Place, Report, Verdict
from support.evidence import (
    Line,
    as_spool,
    export_copy,
    forged,
    kinds,
    known,
    sent,
    spool_copy,
    statement,
    verdict,
)
from support.streams import MadeStream

VALID, INVALID, INCOMPLETE = Verdict.VALID, Verdict.INVALID, Verdict.INCOMPLETE
SIGNER = Signer.generate()
MALLORY = Signer.generate()


def stream(records: int = 4, **options: Any) -> MadeStream:
    """An ended stream: start, the records with a head in their midst, end, and the head over all."""
    made = MadeStream(**{"signer": SIGNER, **options})
    made.requests(records // 2).head()
    return made.requests(records - records // 2).end()


STREAM = stream()
OTHER = stream()
LINES, HEADS = STREAM.lines, STREAM.heads
LAST = len(LINES)


def living(copy: Copy, writer: Writer = "alive") -> Copy:
    """The same spool, with this said of the writers of its streams."""
    for one in copy.chains.values():
        one.writer = writer
    return copy


def rehashed(line: Line, change: Callable[[Any], None]) -> Line:
    """The record changed, with the hash that fits: what someone who can write the disk would do."""
    record = parse(line[0])
    change(record)
    data = canonical(record)
    return data, chain.record_hash(data)


def renamed(record: Any) -> None:
    record.update({attr.ENDUSER_ID: "mallory"})


def again(lines: list[Line], *, signer: Signer = SIGNER) -> tuple[list[Line], SignedHead]:
    """A stream rewritten as a whole: chained anew over ``lines``, and a head over it."""
    position = chain.Position(STREAM.id)
    made = []
    for payload, _ in lines:
        record = parse(payload)
        record.form.pop(attr.PREVIOUS_HASH, None)
        data, position = chain.link(record, position, now=record.observed_timestamp)
        made.append((data, position.hash))
    return made, heads.sign(position, signer, now=STREAM.now)


def changed(at: int) -> list[Line]:
    return [*LINES[:at], rehashed(LINES[at], renamed), *LINES[at + 1 :]]


def test_an_untouched_stream_is_valid() -> None:
    """Strictly too, under its key; and the report says how far it is proved."""
    report = verdict(as_spool(STREAM), pins=[SIGNER], strict=True)
    assert report.verdict is VALID
    (one,) = report.streams
    assert (one.first, one.last, one.records, one.proved_up_to) == (1, LAST, LAST, LAST)
    assert (one.open_tail, one.ended, one.heads, one.duplicates) == (0, True, 2, 0)
    assert report.verdict.exit_code == 0
    exported = verdict(export_copy(sent(STREAM)), pins=[SIGNER], strict=True)
    assert exported.verdict is VALID


# A spool: (lines, heads) → what is found first

Spool = tuple[list[Line], list[SignedHead]]

SPOOL_ATTACKS: dict[str, tuple[Spool, str, int | None]] = {
    "a record changed": (([(LINES[2][0].replace(b"alice", b"mallo"), LINES[2][1])], HEADS), "hash_mismatch", None),
    "a record changed, with its hash": ((changed(2), HEADS), "previous_hash", 4),
    "the last record changed, with its hash": ((changed(LAST - 1), HEADS), "head_mismatch", LAST),
    "the first record changed, with its hash": ((changed(0), HEADS), "previous_hash", 2),
    "deleted in the middle": (([*LINES[:2], *LINES[3:]], HEADS), "gap", 3),
    "the first one deleted": ((LINES[1:], HEADS), "gap", 1),
    "the tail cut": ((LINES[:-2], HEADS), "cut_off", LAST - 1),
    "two swapped": (([*LINES[:2], LINES[3], LINES[2], *LINES[4:]], HEADS), "gap", 3),
    "the end moved to the middle": (([*LINES[:2], LINES[-1], *LINES[2:]], HEADS), "gap", 3),
    "one doubled": (([*LINES[:3], *LINES[2:]], HEADS), "order", 4),
    "one of another stream put in": (([*LINES[:2], OTHER.lines[2], *LINES[3:]], HEADS), "splice", 3),
    "the whole of another stream appended": (([*LINES, *OTHER.lines], HEADS), "splice", LAST + 1),
    "a head of another stream": ((LINES, [*HEADS, OTHER.heads[-1]]), "splice", None),
    "heads of another stream instead": ((LINES, OTHER.heads), "splice", None),
    "a head signed by another key": ((LINES, [HEADS[0], forged(HEADS[1], MALLORY)]), "other_key", LAST),
    "a head with another's signature": (
        (LINES, [SignedHead(HEADS[1].head, HEADS[1].data, HEADS[0].signature)]),
        "bad_signature",
        LAST,
    ),
    "rewritten as a whole, old heads kept": ((again(changed(2))[0], HEADS), "head_mismatch", 3),
    "rewritten and signed by another key": (
        (again(changed(2))[0], [again(changed(2), signer=MALLORY)[1]]),
        "other_key",
        LAST,
    ),
    "records after the end": (
        (again([*LINES, OTHER.lines[2]])[0], [again([*LINES, OTHER.lines[2]])[1]]),
        "after_end",
        LAST + 1,
    ),
    "the same id twice": (
        (again([*LINES[:3], rehashed(LINES[2], renamed), *LINES[3:]])[0], []),
        "duplicate_id",
        4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("attack", SPOOL_ATTACKS)
def test_an_attack_on_a_spool_is_caught(attack: str) -> None:
    """Invalid, with the first bad record's number, and of a kind that says what was done."""
    (lines, signed), kind, number = SPOOL_ATTACKS[attack]
    report = verdict(spool_copy((STREAM.id, [lines], signed)))
    assert report.verdict is INVALID
    found = [one for one in report.problems() if one.kind == kind]
    assert found, kinds(report)
    assert number is None or found[0].number == number
    assert found[0].stream == STREAM.id
    assert report.verdict.exit_code == 1


# An export: records in, records out

Records = list[tuple[dict[str, Any], dict[str, Any]]]
EXPORTED = sent(STREAM)


def attribute(record: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(item for item in record["attributes"] if item["key"] == name)
    return found


def with_shown(at: int, name: str, value: str) -> Records:
    """The record ``at`` with another visible value, its carried bytes untouched."""
    record, resource = EXPORTED[at]
    items = [
        {"key": name, "value": {"stringValue": value}} if item["key"] == name else item for item in record["attributes"]
    ]
    return [*EXPORTED[:at], ({**record, "attributes": items}, resource), *EXPORTED[at + 1 :]]


def with_bytes(at: int, change: Callable[[Any], None]) -> Records:
    """The record ``at`` changed in what is shown and in its carried bytes, with the hash that fits."""
    made = MadeStream(signer=SIGNER, stream_id=STREAM.id)
    made.lines = [*LINES[:at], rehashed(LINES[at], change), *LINES[at + 1 :]]
    made.heads = HEADS
    return sent(made)


def without(name: str) -> Records:
    """All records without an attribute."""
    return [
        ({**record, "attributes": [item for item in record["attributes"] if item["key"] != name]}, resource)
        for record, resource in EXPORTED
    ]


def other_resource() -> Records:
    swapped = {"attributes": [{"key": "service.name", "value": {"stringValue": "bank"}}]}
    return [(record, swapped) for record, _ in EXPORTED]


EXPORT_ATTACKS: dict[str, tuple[Records, Verdict, str, int | None]] = {
    "a visible name changed": (with_shown(2, attr.ENDUSER_ID, "mallory"), INVALID, "contradiction", 3),
    "a visible hash changed": (with_shown(2, attr.INTEGRITY_HASH, "0" * 64), INVALID, "contradiction", 3),
    "a record changed whole": (with_bytes(2, renamed), INVALID, "previous_hash", 4),
    "the last record changed whole": (with_bytes(LAST - 1, renamed), INVALID, "head_mismatch", LAST),
    "a record changed whole, beside the right one": ([*EXPORTED, *with_bytes(2, renamed)], INVALID, "fork", 3),
    "deleted in the middle": ([*EXPORTED[:2], *EXPORTED[3:]], INVALID, "gap", 3),
    "the first one deleted": (EXPORTED[1:], INCOMPLETE, "missing_prefix", 1),
    "the tail deleted, its head kept": ([*EXPORTED[: LAST - 1], *EXPORTED[LAST:]], INVALID, "cut_off", LAST),
    "the heads deleted": (EXPORTED[:LAST], INCOMPLETE, "unsigned", None),
    "all but a head deleted": (EXPORTED[LAST:], INCOMPLETE, "no_key", None),
    "the signatures stripped": (without(attr.INTEGRITY_VALUE), INVALID, "bad_head", None),
    "the carried bytes stripped, values changed": (
        [(with_shown(2, attr.ENDUSER_ID, "mallory")[2][0], EXPORTED[2][1])],
        INVALID,
        "contradiction",
        3,
    ),
    "the resource swapped": (other_resource(), INVALID, "resource", None),
    "a head's number changed in sight": (with_shown(LAST, attr.STREAM_ID, OTHER.id), INVALID, "contradiction", None),
}


@pytest.mark.parametrize("attack", EXPORT_ATTACKS)
def test_an_attack_on_an_export_is_caught(attack: str) -> None:
    """In whatever order the records come."""
    records, expected, kind, number = EXPORT_ATTACKS[attack]
    shuffled = random.Random(7).sample(records, len(records))
    for order in (records, records[::-1], shuffled):
        report = verdict(export_copy(order))
        assert report.verdict is expected
        assert kind in kinds(report)
        found = [one for one in report.problems() if one.kind == kind]
        assert number is None or found[0].number == number


def test_the_order_of_an_export_does_not_matter() -> None:
    """A store gives records newest first, or shuffled; each twice is a retry."""
    for seed in range(8):
        records = random.Random(seed).sample(EXPORTED * 2, len(EXPORTED) * 2)
        report = verdict(export_copy(records), pins=[SIGNER], strict=True)
        assert report.verdict is VALID
        assert report.streams[0].duplicates == LAST
        assert report.streams[0].proved_up_to == LAST


@pytest.mark.parametrize("order", ["forwards", "backwards", "the later half first"])
def test_what_came_first_may_stand_in_the_middle(order: str) -> None:
    """A break where two parts of an export join is found as anywhere else."""
    records = with_bytes(2, renamed)
    half = LAST // 2
    orders = {"forwards": records, "backwards": records[::-1], "the later half first": records[half:] + records[:half]}
    report = verdict(export_copy(orders[order]))
    assert {(one.kind, one.number) for one in report.problems()} == {("head_mismatch", 3), ("previous_hash", 4)}


def test_an_end_before_what_came_first_is_found() -> None:
    """Records after an end record are wrong, also where the end is read last."""
    lines, signed = again([*LINES, OTHER.lines[2]])
    made = MadeStream(signer=SIGNER, stream_id=STREAM.id)
    made.lines, made.heads = lines, [signed]
    assert "after_end" in kinds(verdict(export_copy(sent(made)[::-1])))


def test_time_that_went_back_where_two_parts_join_is_found() -> None:
    """Also there."""
    made = stream()

    def earlier(record: Any) -> None:
        record.observed_timestamp = record.timestamp = 5

    lines = [*made.lines[:3], rehashed(made.lines[3], earlier), *made.lines[4:]]
    position = chain.Position(made.id, 2, made.lines[1][1])
    kept = [*lines[:2]]
    for index, (payload, _) in enumerate(lines[2:], 2):
        record = parse(payload)
        record.update({attr.PREVIOUS_HASH: position.hash})
        data = canonical(record)
        position = chain.Position(made.id, index + 1, chain.record_hash(data))
        kept.append((data, position.hash))
    made.lines, made.heads = kept, [heads.sign(position, SIGNER, now=made.now)]
    for records in (sent(made), sent(made)[::-1]):
        assert kinds(verdict(export_copy(records))) == {"clock"}
    assert kinds(verdict(as_spool(made))) == {"clock"}


# Keys


def test_another_key_is_not_valid_where_one_is_pinned() -> None:
    """A stream made anew by another, right in itself, is trusted on first use alone, and that is said."""
    theirs = stream(signer=MALLORY)
    assert verdict(as_spool(theirs)).verdict is VALID
    assert verdict(as_spool(theirs)).pinned is False
    assert kinds(verdict(as_spool(theirs), strict=True)) == {"unpinned"}
    assert kinds(verdict(as_spool(theirs), pins=[SIGNER])) >= {"unpinned_key"}
    assert verdict(as_spool(theirs), pins=[SIGNER]).verdict is INVALID


def test_several_keys_may_be_pinned() -> None:
    """Rotation: the old one and the new one."""
    both = as_spool(STREAM, stream(signer=MALLORY))
    assert verdict(both, pins=[SIGNER, MALLORY], strict=True).verdict is VALID
    assert "several_keys" in kinds(verdict(as_spool(STREAM, stream(signer=MALLORY))), VALID)


def test_a_key_that_is_pinned_proves_a_stream_without_its_start() -> None:
    """An export of a day begins in the middle; without its first record nothing embeds the key."""
    assert kinds(verdict(export_copy(EXPORTED[2:]))) >= {"no_key", "missing_prefix"}
    report = verdict(export_copy(EXPORTED[2:]), pins=[SIGNER])
    assert kinds(report) == {"missing_prefix"}
    assert report.streams[0].proved_up_to == LAST


def test_a_key_is_good_until_it_is_revoked() -> None:
    """Heads that were signed before count; one after does not."""
    first, second = (signed.head.time for signed in HEADS)
    key = SIGNER.public_key.key_id
    assert verdict(as_spool(STREAM), trust={"revoked": {key: second}}).verdict is VALID
    report = verdict(as_spool(STREAM), trust={"revoked": {key: first}})
    assert kinds(report) == {"revoked_key", "unsigned_end"}


def test_an_algorithm_cannot_be_lowered() -> None:
    """The key decides, never what is signed."""
    import dataclasses

    head = dataclasses.replace(HEADS[1].head, algorithm="HS256")
    lowered = SignedHead(head, head.canonical(), SIGNER.sign(head.canonical()))
    report = verdict(spool_copy((STREAM.id, [LINES], [lowered])))
    assert kinds(report, INVALID) == {"downgrade"}


@pytest.mark.parametrize(
    "name", [attr.STREAM_KEY_ID, attr.STREAM_ALGORITHM, attr.STREAM_PUBLIC_KEY, attr.STREAM_RESOURCE]
)
@pytest.mark.parametrize("value", ["x", None, 7])
def test_a_first_record_that_contradicts_itself_binds_nothing(name: str, value: Value | None) -> None:
    """Key, its id and its algorithm belong together."""
    made = MadeStream(signer=SIGNER)
    start = {**made.start, name: value}
    if value is None:
        del start[name]
    made.lines, made.position = [], chain.Position(made.id)
    made.system(attr.EVENT_STREAM_START, start, "")  # type: ignore[arg-type]
    made.requests(1).end()
    assert "binding" in kinds(verdict(as_spool(made)), INVALID)


# Tails, ends, emptiness


def test_the_open_tail_of_a_living_stream_is_told_and_strictly_refused() -> None:
    """What follows the last head is chained, not signed."""
    made = died(4)
    report = verdict(living(as_spool(made)), pins=[SIGNER])
    assert report.verdict is VALID
    assert (report.streams[0].proved_up_to, report.streams[0].open_tail) == (2, 3)
    assert "no_end" in kinds(report, VALID)
    assert kinds(verdict(living(as_spool(made)), pins=[SIGNER], strict=True)) == {"open_tail", "no_end"}


@pytest.mark.parametrize("tail", [0, 3])
@pytest.mark.parametrize("writer", ["gone", "unknown"])
def test_a_dead_stream_that_nothing_closes_is_incomplete(tail: int, writer: Writer) -> None:
    """With a tail or without: cut back to an early head together with the file of heads it looks just like that."""
    report = verdict(living(as_spool(died(1 + tail)), writer), pins=[SIGNER])
    assert report.verdict is INCOMPLETE
    assert kinds(report) == {"no_end"}
    assert report.streams[0].open_tail == tail


def test_an_end_that_is_not_signed_is_not_whole() -> None:
    """A stream with an end record is signed to its end."""
    for copy in (spool_copy((STREAM.id, [LINES], HEADS[:1])), export_copy(EXPORTED[:-1])):
        report = verdict(copy, pins=[SIGNER])
        assert report.verdict is INCOMPLETE
        assert kinds(report) == {"unsigned_end"}


def test_a_stream_whose_end_was_dropped_is_proved_as_far_as_it_is_signed() -> None:
    """An export without an end may go on: what is forged behind its last head is not part of what is proved."""
    report = verdict(export_copy(sent(died(3))), pins=[SIGNER])
    assert report.verdict is VALID
    assert (report.streams[0].proved_up_to, report.streams[0].open_tail) == (2, 2)
    assert "no_end" in kinds(report, VALID)


def test_an_idle_minute_one_request_and_a_kill_is_no_missing_head() -> None:
    """A tail is as long as from its own first record to its last, however long nothing happened before."""
    made = MadeStream(signer=SIGNER)
    made.requests(2).head()
    made.now += 3_600_000_000_000
    made.request()
    assert verdict(living(as_spool(made))).verdict is VALID
    later = follower(says=[("recovered", made, 4)])
    assert verdict(as_spool(made, later), pins=[SIGNER], strict=True).verdict is VALID


@pytest.mark.parametrize("seconds", [6, 0])
def test_a_tail_longer_than_a_tick_lacks_its_heads(seconds: int) -> None:
    """Heads stripped from the end: a living process signs each second, or each 256 records."""
    made = MadeStream(signer=SIGNER)
    made.requests(2).head()
    made.request()
    if seconds:
        made.now += seconds * 1_000_000_000
        made.request()
    else:
        made.requests(2049)
    assert kinds(verdict(living(as_spool(made)))) == {"heads_missing"}
    assert kinds(verdict(export_copy(sent(made)))) == {"heads_missing"}


def test_before_its_first_head_a_living_stream_is_an_open_tail() -> None:
    """Beside others that are proved; alone nothing is proved, and that is not valid."""
    young = MadeStream(signer=SIGNER).requests(2)
    report = verdict(living(as_spool(STREAM, young)), pins=[SIGNER])
    assert report.verdict is VALID
    assert sum(one.open_tail for one in report.streams) == 3
    assert kinds(verdict(living(as_spool(young)), pins=[SIGNER])) == {"unsigned"}
    assert kinds(verdict(as_spool(young), pins=[SIGNER])) == {"no_end"}, "killed at once: its tail is open"


def test_a_stream_without_any_head_is_not_proved() -> None:
    """Signatures stripped: not valid, with a key pinned or without."""
    for pins in ([], [SIGNER]):
        report = verdict(spool_copy((STREAM.id, [LINES], [])), pins=pins)
        assert report.verdict is INCOMPLETE
        assert kinds(report) == {"unsigned"}
    assert report.verdict.exit_code == 2


def test_nothing_is_not_valid() -> None:
    """No copy, an empty spool, an export of other logs, a stream that holds nothing."""
    assert kinds(verdict()) == {"nothing"}
    assert kinds(verdict(as_spool())) == {"nothing"}
    assert verdict(spool_copy((STREAM.id, [[]], []))).verdict is INCOMPLETE
    assert "empty" in kinds(verdict(spool_copy((STREAM.id, [[]], []))), VALID)


def test_a_spool_emptied_of_records_but_not_of_heads_is_invalid() -> None:
    """The heads say that there were some."""
    assert kinds(verdict(spool_copy((STREAM.id, [[]], HEADS)))) == {"cut_off", "no_key", "nothing"}


def test_heads_beyond_the_number_range_are_none() -> None:
    """A head names a record."""
    for number in (0, -1, 2**63):
        bad = heads.sign(chain.Position(STREAM.id, number, "0" * 64), SIGNER, now=1)
        assert "bad_head" in kinds(verdict(spool_copy((STREAM.id, [LINES], [*HEADS, bad]))), INVALID)


# Segments


def test_a_segment_may_repeat_what_a_failed_sync_left() -> None:
    """The records that were not yet safe stand in both; they are the same."""
    report = verdict(spool_copy((STREAM.id, [LINES[:4], LINES[2:]], HEADS)), pins=[SIGNER], strict=True)
    assert report.verdict is VALID
    assert report.streams[0].duplicates == 2


def test_a_segment_that_repeats_otherwise_is_a_fork() -> None:
    """Two records with one number: equivocation."""
    report = verdict(spool_copy((STREAM.id, [LINES[:4], changed(2)[2:]], HEADS)))
    assert next((one.kind, one.stream) for one in report.problems()) == ("fork", STREAM.id)


def test_a_segment_that_is_missing_is_a_gap() -> None:
    """Between two, and at the start of a stream of which retention says nothing."""
    assert "gap" in kinds(verdict(spool_copy((STREAM.id, [LINES[:2], LINES[3:]], HEADS))), INVALID)
    assert "gap" in kinds(verdict(spool_copy((STREAM.id, [LINES[2:]], HEADS))), INVALID)


def test_segments_in_another_order_are_caught() -> None:
    """Renamed files."""
    assert verdict(spool_copy((STREAM.id, [LINES[3:], LINES[:3]], HEADS))).verdict is INVALID


# Heads kept elsewhere


def held(*signed: SignedHead) -> list[tuple[SignedHead, Place]]:
    return [(one, Place("kept", index)) for index, one in enumerate(signed, 1)]


def test_a_spool_cut_with_its_heads_is_caught_by_a_held_head() -> None:
    """Right in itself, and shorter than it was: a rollback."""
    cut = [LINES[:3]], HEADS[:1]
    assert kinds(verdict(spool_copy((STREAM.id, *cut)))) == {"no_end"}
    report = verdict(spool_copy((STREAM.id, *cut)), held=held(HEADS[1]))
    assert kinds(report) == {"cut_off", "no_end"}
    assert report.problems()[0].number == 4
    assert verdict(as_spool(STREAM), held=held(*HEADS), pins=[SIGNER], strict=True).verdict is VALID


def test_a_history_made_anew_by_the_keys_holder_is_caught_by_a_held_head() -> None:
    """Even who has the key cannot change what someone else holds the head of."""
    lines, signed = again(changed(2))
    assert verdict(spool_copy((STREAM.id, [lines], [signed]))).verdict is VALID
    assert kinds(verdict(spool_copy((STREAM.id, [lines], [signed])), held=held(HEADS[1]))) == {"head_mismatch"}


def test_a_stream_of_which_a_head_is_held_must_be_there() -> None:
    """A stream removed whole."""
    report = verdict(as_spool(OTHER), held=held(HEADS[1]))
    assert kinds(report) == {"missing_stream"}
    assert report.verdict is INCOMPLETE


def test_a_held_head_is_checked_like_any_other() -> None:
    """One that somebody made up accuses nobody: it is told."""
    assert kinds(verdict(as_spool(STREAM), held=held(forged(HEADS[1], MALLORY)))) == {"other_key"}


# Several streams, and what they say of each other


def follower(*knows: MadeStream, says: list[tuple[str, MadeStream, int]] | None = None, end: bool = True) -> MadeStream:
    """A later stream of the same spool that names others, and writes what a shipper writes of them."""
    made = MadeStream(signer=SIGNER, known=[known(one) for one in knows])
    for kind, subject, number in says or []:
        made.system(*statement(kind, subject, number))
    return made.end() if end else made


def test_several_streams_are_judged_together() -> None:
    """Workers of one service: each its own chain."""
    report = verdict(as_spool(STREAM, OTHER, follower(STREAM, OTHER)), pins=[SIGNER], strict=True)
    assert report.verdict is VALID
    assert len(report.streams) == 3


def test_a_stream_removed_whole_is_missed() -> None:
    """The one that came after it names it."""
    report = verdict(as_spool(OTHER, follower(STREAM, OTHER)))
    assert kinds(report) == {"missing_stream"}
    assert report.verdict is INCOMPLETE
    assert report.problems()[0].stream == STREAM.id


def test_a_stream_that_had_no_head_yet_is_not_missed() -> None:
    """It may never have had a record."""
    made = MadeStream(signer=SIGNER, known=["20261125T000000Z-1 0"]).end()
    assert verdict(as_spool(made), pins=[SIGNER], strict=True).verdict is VALID


def test_a_stream_cut_off_since_another_saw_it_is_caught() -> None:
    """With its heads cut too: the later stream remembers how far it had come."""
    short = (STREAM.id, [LINES[:3]], HEADS[:1])
    later = follower(STREAM)
    report = verdict(spool_copy(short, (later.id, [later.lines], later.heads)))
    assert kinds(report, INVALID) == {"cut_off"}


def test_a_stream_made_anew_since_another_saw_it_is_caught() -> None:
    """Though signed by the right key."""
    lines, signed = again(changed(2))
    later = follower(STREAM)
    report = verdict(spool_copy((STREAM.id, [lines], [signed]), (later.id, [later.lines], later.heads)))
    assert kinds(report) == {"fork"}


def died(records: int = 3) -> MadeStream:
    """A stream whose process was killed: a head, then an open tail."""
    made = MadeStream(signer=SIGNER)
    made.requests(1).head()
    made.requests(records - 1)
    return made


def test_a_recovery_closes_the_tail_of_a_dead_stream() -> None:
    """The stream that found it states its last record; so it is proved to its end, strictly too."""
    dead = died()
    report = verdict(as_spool(dead, follower(says=[("recovered", dead, 4)])), pins=[SIGNER], strict=True)
    assert report.verdict is VALID
    one = next(found for found in report.streams if found.stream == dead.id)
    assert one.recovered_by is not None
    assert (one.proved_up_to, one.open_tail) == (4, 0)


def test_recoveries_may_be_recovered() -> None:
    """The stream that closed one may have died itself."""
    first, second = died(), MadeStream(signer=SIGNER)
    second.system(*statement("recovered", first, 4))
    third = follower(says=[("recovered", second, 2)])
    assert verdict(as_spool(first, second, third), pins=[SIGNER], strict=True).verdict is VALID


def test_a_recovery_that_nobody_signed_proves_nothing() -> None:
    """It stands in an open tail itself."""
    dead = died()
    report = verdict(as_spool(dead, follower(says=[("recovered", dead, 4)], end=False)), pins=[SIGNER], strict=True)
    assert "open_tail" in kinds(report)


def test_what_is_added_to_a_dead_stream_is_caught() -> None:
    """It had broken off before that record."""
    dead = died()
    later = follower(says=[("recovered", dead, 3)])
    assert kinds(verdict(as_spool(dead, later))) == {"grew"}


def test_the_tail_of_a_dead_stream_cut_or_changed_is_caught() -> None:
    """The open tail is open only until another stream has seen it."""
    dead = died()
    later = follower(says=[("recovered", dead, 4)])
    rest = (later.id, [later.lines], later.heads)
    assert kinds(verdict(spool_copy((dead.id, [dead.lines[:3]], dead.heads), rest)), INVALID) == {"cut_off"}
    swapped = [*dead.lines[:3], rehashed(dead.lines[3], renamed)]
    assert kinds(verdict(spool_copy((dead.id, [swapped], dead.heads), rest)), INVALID) == {"fork"}


# Retention


def test_what_retention_removed_is_no_gap() -> None:
    """The first record stays, since it binds the key; a record says up to where the rest went."""
    later = follower(STREAM, says=[("pruned", STREAM, 3)])
    kept = (STREAM.id, [LINES[:1], LINES[3:]], HEADS)
    copy = spool_copy(kept, (later.id, [later.lines], later.heads), pruned=STREAM.id)
    report = verdict(copy, pins=[SIGNER])
    assert report.verdict is VALID
    assert {"pruned", "start_unlinked"} <= kinds(report, VALID)
    assert kinds(verdict(copy, pins=[SIGNER], strict=True)) == {"start_unlinked"}


def test_retention_removed_less_than_is_missing() -> None:
    """Someone took one more."""
    later = follower(says=[("pruned", STREAM, 2)])
    kept = (STREAM.id, [LINES[:1], LINES[3:]], HEADS)
    copy = spool_copy(kept, (later.id, [later.lines], later.heads), pruned=STREAM.id)
    assert "gap" in kinds(verdict(copy), INVALID)


def test_what_retention_is_said_to_have_removed_must_be_signed() -> None:
    """Without a head over the statement it explains nothing."""
    later = follower(says=[("pruned", STREAM, 3)], end=False)
    later.request()
    kept = (STREAM.id, [LINES[:1], LINES[3:]], HEADS)
    copy = spool_copy(kept, (later.id, [later.lines], later.heads), pruned=STREAM.id)
    assert "unproved_statement" in kinds(verdict(copy), INCOMPLETE)


def test_a_stream_that_retention_removed_whole_is_not_missed() -> None:
    """Its statement stands in another stream."""
    later = follower(STREAM, says=[("pruned", STREAM, LAST)])
    assert verdict(as_spool(later), pins=[SIGNER], strict=True).verdict is VALID


# Dead letters


def test_a_record_that_the_receiver_refused_is_explained() -> None:
    """Its number, hash and the hash before it are stated by a signed stream: the hole is linked across."""
    later = follower(says=[("undelivered", STREAM, 4)])
    records = [*EXPORTED[:3], *EXPORTED[4:], *sent(later)]
    report = verdict(export_copy(records), pins=[SIGNER], strict=True)
    assert report.verdict is VALID
    one = next(found for found in report.streams if found.stream == STREAM.id)
    assert (one.explained, one.proved_up_to) == (1, LAST)
    assert "explained" in kinds(report, VALID)


def test_several_refused_records_are_explained_one_by_one() -> None:
    """In a row, and at the very end of the stream."""
    later = follower(says=[("undelivered", STREAM, number) for number in (2, 3, LAST - 1, LAST)])
    kept = [EXPORTED[0], *EXPORTED[3 : LAST - 2], *EXPORTED[LAST:]]
    report = verdict(export_copy([*kept, *sent(later)]), pins=[SIGNER])
    assert report.verdict is VALID
    assert next(one for one in report.streams if one.stream == STREAM.id).explained == 4


def test_another_record_deleted_beside_a_refused_one_is_found() -> None:
    """Two are missing, one is explained."""
    later = follower(says=[("undelivered", STREAM, 3)])
    records = [*EXPORTED[:2], *EXPORTED[4:], *sent(later)]
    assert "gap" in kinds(verdict(export_copy(records)), INVALID)


def test_an_explanation_that_nobody_signed_explains_nothing() -> None:
    """Whoever deletes a record could write one."""
    later = follower(says=[("undelivered", STREAM, 3)], end=False)
    records = [*EXPORTED[:2], *EXPORTED[3:], *sent(later)]
    assert "gap" in kinds(verdict(export_copy(records)), INVALID)


# Several copies


def test_a_spool_and_its_export_agree() -> None:
    """Two copies of one stream."""
    report = verdict(export_copy(EXPORTED), as_spool(STREAM), pins=[SIGNER], strict=True)
    assert report.verdict is VALID
    assert len(report.streams) == 2


def test_an_export_that_lags_behind_is_told() -> None:
    """What is not yet delivered."""
    half = [*EXPORTED[:3], EXPORTED[LAST]]
    report = verdict(export_copy(half), as_spool(STREAM), pins=[SIGNER])
    assert report.verdict is VALID
    assert "behind" in kinds(report, VALID)


def test_a_spool_shorter_than_what_it_delivered_was_cut() -> None:
    """The export is the copy kept elsewhere."""
    report = verdict(export_copy(EXPORTED), spool_copy((STREAM.id, [LINES[:3]], HEADS[:1])))
    assert kinds(report, INVALID) == {"cut_off"}


def test_two_histories_of_one_stream_are_a_fork() -> None:
    """Each right in itself: one of the two was made up."""
    lines, signed = again(changed(2))
    report = verdict(export_copy(EXPORTED), spool_copy((STREAM.id, [lines], [signed])))
    assert kinds(report) == {"fork"}
    assert report.problems()[0].number == 3


# Exports without the carried bytes


def test_typed_values_prove_themselves() -> None:
    """With EXPORT_CANONICAL off a store that keeps types gives all that was hashed."""
    report = verdict(export_copy(sent(STREAM, carry=False)), pins=[SIGNER], strict=True)
    assert report.verdict is VALID


def test_values_that_lost_their_types_prove_nothing() -> None:
    """Neither valid nor accused."""
    records = sent(STREAM, carry=False)
    texts = [
        {**item, "value": {"stringValue": "200"}} if item["key"] == attr.HTTP_STATUS else item
        for item in records[2][0]["attributes"]
    ]
    records[2] = ({**records[2][0], "attributes": texts}, records[2][1])
    report = verdict(export_copy(records), pins=[SIGNER])
    assert report.verdict is INCOMPLETE
    assert "unprovable" in kinds(report)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_deleted_is_never_strictly_valid(seed: int) -> None:
    """Any subset of the records of two streams, in any order."""
    chance = random.Random(seed)
    everything = [*EXPORTED, *sent(OTHER)]
    for _ in range(40):
        kept = chance.sample(everything, chance.randrange(1, len(everything)))
        report = verdict(export_copy(kept), pins=[SIGNER], strict=True)
        lost = [one[0] for one in everything if one not in kept and one[0]["eventName"] != attr.EVENT_HEAD]
        covered = {attribute(record, attr.STREAM_ID)["value"]["stringValue"] for record, _ in kept}
        if lost and all(attribute(record, attr.STREAM_ID)["value"]["stringValue"] in covered for record in lost):
            assert report.verdict is not VALID


def test_the_report_names_the_gravest_first() -> None:
    """Invalid before incomplete, and each once."""
    report: Report = verdict(export_copy([*EXPORTED[:2], *EXPORTED[3:LAST]]))
    assert [one.verdict for one in report.problems()] == sorted(
        (one.verdict for one in report.problems()), key=[INVALID, INCOMPLETE].index
    )
    assert report.form()["verdict"] == "invalid"
