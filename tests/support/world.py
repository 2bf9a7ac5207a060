"""A spool of three streams, what was delivered of it, and the four verdicts of the tables of manipulations."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from jwt_audit.evidence.proof import Trust
from jwt_audit.evidence.signing import Signer
from jwt_audit.evidence.verdict import Verdict
from jwt_audit.evidence.verify import judge
from jwt_audit.sources.exports import read_exports
from jwt_audit.sources.spool import read_spool

from .evidence import Sent, known, sent, statement
from .spools import LiveStream
from .streams import START

SIGNER = Signer.generate()
TRUST = Trust({SIGNER.public_key.key_id: SIGNER.public_key})
LETTERS = {Verdict.VALID: "V", Verdict.INVALID: "I", Verdict.INCOMPLETE: "?"}
HOUR = 3_600_000_000_000


class World(NamedTuple):
    """A spool of three streams, and all that was delivered of it: ``dead`` broke off, the others have ended."""

    root: Path
    first: LiveStream
    dead: LiveStream
    last: LiveStream

    @property
    def records(self) -> list[Sent]:
        return sent(self.first, self.dead, self.last)


def make_world(root: Path) -> World:
    first = LiveStream(root, signer=SIGNER, stream_id="20261125T120000.000Z-1-aaaaaaaa", now=START)
    first.requests(6).head()
    first.requests(14).end()
    dead = LiveStream(root, signer=SIGNER, stream_id="20261125T130000.000Z-2-bbbbbbbb", now=START + HOUR)
    dead.requests(3).head()
    dead.requests(2)
    dead.sync()
    dead.close()
    last = LiveStream(
        root,
        signer=SIGNER,
        stream_id="20261125T140000.000Z-3-cccccccc",
        now=START + 2 * HOUR,
        known=(known(first), known(dead)),
    )
    last.system(*statement("recovered", dead, 6))
    last.requests(3)
    last.system(*statement("pruned", first, len(first.lines)))
    last.end()
    return World(root, first, dead, last)


def verdicts(file: Path, world: World) -> str:
    found = ""
    for trust, strict, second in (
        (TRUST, False, False),
        (TRUST, True, False),
        (Trust(), True, False),
        (TRUST, False, True),
    ):
        copies = [read_exports([file], lambda _: None)]
        copies += [read_spool(world.root, lambda _: None)] if second else []
        found += LETTERS[judge(copies, trust, strict=strict).verdict]
    return found
