"""What retention is about to remove is said again where it is still needed: so honest retention stays honest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jwt_audit import attributes as attr
from jwt_audit.attributes import Value
from jwt_audit.evidence.proof import Trust
from jwt_audit.evidence.signing import Signer
from jwt_audit.evidence.verdict import Verdict
from jwt_audit.evidence.verify import judge
from jwt_audit.ship.restate import Restate
from jwt_audit.sources.spool import read_spool
from jwt_audit.spool.stream import Stream
from support.evidence import kinds, known, statement
from support.spools import LiveStream

SIGNER = Signer.generate()
TRUST = Trust({SIGNER.public_key.key_id: SIGNER.public_key})


class Service:
    """A long-lived stream that names the first one, and a second that says that retention removed the first."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.first = LiveStream(root, signer=SIGNER).requests(2).end()
        self.long = LiveStream(root, signer=SIGNER, known=(known(self.first),))
        self.second = LiveStream(root, signer=SIGNER)
        self.second.system(*statement("pruned", self.first, len(self.first.lines)))
        self.second.end()
        shutil.rmtree(root / "streams" / self.first.id)

    def prune_second(self, *, again: bool) -> None:
        """As the pruner does: say it in a living stream, sign, remove."""
        stream = Stream(self.root / "streams" / self.second.id)
        if again:
            for one in Restate(self.root).needed(stream, stream.segments(), whole=True):
                self.long.system(one.event, one.attributes, one.body)
        self.long.system(*statement("pruned", self.second, len(self.second.lines)))
        self.long.end()
        shutil.rmtree(stream.path)

    def kinds(self) -> set[str]:
        return kinds(judge([read_spool(self.root, lambda _: None)], TRUST, strict=True))


def test_a_statement_outlives_the_stream_that_made_it(tmp_path: Path) -> None:
    """The long-lived stream still names the first: what retention did is still under a signature."""
    service = Service(tmp_path)
    service.prune_second(again=True)
    assert service.kinds() == set()
    (form,) = [line for line, _ in service.long.lines if b"said again" in line]
    assert service.first.id.encode() in form


def test_without_it_the_first_stream_would_be_missed(tmp_path: Path) -> None:
    """What the repeat is for."""
    service = Service(tmp_path)
    service.prune_second(again=False)
    assert service.kinds() == {"missing_stream"}


def needed(root: Path, stream: LiveStream, *, whole: bool = True) -> list[tuple[str, str, int]]:
    found = Stream(root / "streams" / stream.id)
    return [(one.event, one.subject, one.number) for one in Restate(root).needed(found, found.segments(), whole=whole)]


def test_what_nobody_names_any_more_is_not_said_again(tmp_path: Path) -> None:
    """So the number of statements does not grow with the age of the spool."""
    gone = LiveStream(tmp_path / "other", signer=SIGNER).requests(1)
    teller = LiveStream(tmp_path, signer=SIGNER)
    teller.system(*statement("pruned", gone, 2))
    teller.end()
    assert needed(tmp_path, teller) == []
    namer = LiveStream(tmp_path, signer=SIGNER)
    namer.system(*statement("recovered", gone, 2))
    namer.sync()
    assert needed(tmp_path, teller) == [(attr.EVENT_STREAM_PRUNED, gone.id, 2)]


def test_where_a_dead_stream_broke_off_is_said_as_long_as_it_is_there(tmp_path: Path) -> None:
    """Without it its tail would be open again."""
    dead = LiveStream(tmp_path, signer=SIGNER)
    dead.requests(2)
    dead.sync()
    dead.close()
    teller = LiveStream(tmp_path, signer=SIGNER)
    teller.system(*statement("recovered", dead, 3))
    teller.end()
    assert needed(tmp_path, teller) == [(attr.EVENT_STREAM_RECOVERED, dead.id, 3)]
    shutil.rmtree(dead.path)
    assert needed(tmp_path, teller) == []


def test_of_several_statements_the_last_is_said_again_and_none_of_itself(tmp_path: Path) -> None:
    """Segment after segment of one stream; and a stream's own goes with it."""
    subject = LiveStream(tmp_path, signer=SIGNER)
    subject.requests(4)
    subject.sync()
    teller = LiveStream(tmp_path, signer=SIGNER)
    for number in (2, 4, 3):
        teller.system(*statement("pruned", subject, number))
    teller.system(*statement("pruned", teller, 1))
    teller.end()
    assert needed(tmp_path, teller) == [(attr.EVENT_STREAM_PRUNED, subject.id, 4)]


@pytest.mark.parametrize("value", [{attr.PRUNED_STREAM: "s"}, {attr.PRUNED_NUMBER: 7}, {}])
def test_what_is_no_statement_of_ours_is_passed_over(tmp_path: Path, value: dict[str, Value]) -> None:
    """Verify says what it is."""
    teller = LiveStream(tmp_path, signer=SIGNER)
    teller.system(attr.EVENT_STREAM_PRUNED, value, "x")
    teller.end()
    assert needed(tmp_path, teller) == []
    assert judge([read_spool(tmp_path, lambda _: None)], TRUST).verdict is not Verdict.VALID
