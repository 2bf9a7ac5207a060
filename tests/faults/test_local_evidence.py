"""Real processes that deliver nothing (ENDPOINT=none) and are killed: what they leave is told from what was cut off."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jwt_audit.evidence.proof import Trust
from jwt_audit.evidence.signing import Signer
from jwt_audit.evidence.verdict import Report, Verdict
from jwt_audit.evidence.verify import judge
from jwt_audit.sources.spool import read_spool
from jwt_audit.spool.durable import LockState
from jwt_audit.spool.spool import Spool
from jwt_audit.spool.stream import Stream
from support.receivers import until
from support.worker import Worker

SIGNER = Signer.generate()


def report(spool: Path) -> Report:
    return judge([read_spool(spool, lambda _: None)], Trust({SIGNER.public_key.key_id: SIGNER.public_key}))


def settled(spool: Path) -> bool:
    """Whether of each dead stream it is noted where it broke off, or that it ended."""
    dead = [one for one in Spool(spool).streams() if one.writer() is LockState.FREE]
    return all(one.recovered() or b"audit.stream.end" in one.segments()[-1].read_bytes() for one in dead)


@pytest.mark.parametrize("limit", ["1GiB", "1MiB"])
def test_killed_processes_are_not_accused_and_a_cut_is(tmp_path: Path, limit: str) -> None:
    """Also where retention removes the statements with the streams in which they were made."""
    (tmp_path / "key.pem").write_bytes(SIGNER.pem)
    spool = tmp_path / "spool"
    settings = {"SIGNING_KEY": str(tmp_path / "key.pem"), "SPOOL_LIMIT": limit}
    for count in (3, 500, 0, 300, 700):
        worker = Worker(spool, "none", **settings)
        worker.serve(count)
        worker.kill()
    last = Worker(spool, "none", **settings)
    last.serve(500)
    until(lambda: settled(spool), seconds=20)
    assert not last.refused
    last.end()
    found = report(spool)
    assert found.verdict is Verdict.VALID, found.streams
    closed = [one for one in found.streams if one.recovered_by]
    assert closed
    before = {one.id for one in Spool(spool).streams()}
    again = Worker(spool, "none", **settings)
    again.serve(1)
    again.end()
    anew = [one for one in Spool(spool).streams() if one.id not in before]
    said = [line for one in anew for path in one.segments() for line in path.read_bytes().splitlines()]
    assert len(said) > 1
    assert not [line for line in said if b"was recovered" in line and b"said again" not in line]  # by a restart
    left = [one for one in report(spool).streams if one.recovered_by]
    victim = Stream(spool / "streams" / left[-1].stream)
    data = victim.segments()[-1].read_bytes()
    victim.segments()[-1].write_bytes(data[: data.rstrip(b"\n").rindex(b"\n") + 1])
    assert report(spool).verdict is not Verdict.VALID
    shutil.rmtree(victim.path)
    assert report(spool).verdict is not Verdict.VALID
