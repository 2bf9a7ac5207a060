"""The table of manipulations of a spool that somebody makes who has not the signing key: what each is called.

Four verdicts a row: with ``--key``, with ``--key --strict``, without a key (strictly), and beside an export of
all that was delivered. V valid, I invalid, ? incomplete. A row that stays valid has its reason beside it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from jwt_audit.evidence.proof import Trust
from jwt_audit.evidence.signing import Signer
from jwt_audit.evidence.verify import judge
from jwt_audit.sources.exports import read_exports
from jwt_audit.sources.spool import read_spool
from support.evidence import statement
from support.forms import sink
from support.spools import LiveStream
from support.streams import START
from support.world import HOUR, LETTERS, SIGNER, TRUST, World, make_world

MALLORY = Signer.generate()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "spool")


class Spool(NamedTuple):
    """A copy of the spool that is manipulated."""

    root: Path
    first: Path
    dead: Path
    last: Path


def lines(path: Path, change: Callable[[list[bytes]], list[bytes]], name: str = "00000001.seg") -> None:
    file = path / name
    file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))


def replaced(path: Path, before: bytes, after: bytes, name: str = "00000001.seg") -> None:
    lines(path, lambda found: [line.replace(before, after) for line in found], name)


def cut_back(path: Path, records: int, heads: int) -> None:
    lines(path, lambda found: found[:records])
    lines(path, lambda found: found[:heads], "heads")


def forged_behind(spool: Spool) -> None:
    """The stream cut back to its early head, and others chained on behind it, by who has no key."""
    made = LiveStream(spool.root.parent / "forged", signer=SIGNER, stream_id=spool.first.name, now=START)
    made.requests(6).head()
    for _ in range(10):
        made.request("/mallory")
    made.sync()
    made.close()
    shutil.rmtree(spool.first)
    shutil.copytree(made.path, spool.first)


def by_another_key(spool: Spool) -> None:
    made = LiveStream(spool.root.parent / "forged", signer=MALLORY, stream_id=spool.first.name, now=START)
    made.requests(20).end()
    shutil.rmtree(spool.first)
    shutil.copytree(made.path, spool.first)


def says(
    spool: Spool, kind: str, number: int, *, signer: Signer, end: bool, remove: Callable[[], object] | None = None
) -> None:
    """A stream more in the spool, which states something of the dead one."""
    dead = LiveStream(spool.root.parent / "made", signer=SIGNER, stream_id=spool.dead.name, now=START + HOUR)
    dead.requests(5)
    dead.close()
    told = LiveStream(spool.root, signer=signer, now=START + 3 * HOUR)
    told.system(*statement(kind, dead, number))
    if end:
        told.end()
    else:
        told.sync()
        told.close()
    if remove is not None:
        remove()


def deleted_and_listed(spool: Spool) -> None:
    """The unsigned list of what retention removed names it."""
    shutil.copyfile(spool.dead / "heads", spool.root / "pruned")
    shutil.rmtree(spool.dead)


def linked(spool: Spool) -> None:
    target = spool.root.parent / "elsewhere"
    spool.dead.rename(target)
    spool.dead.symlink_to(target)


def linked_segment(spool: Spool) -> None:
    target = spool.root.parent / "segment"
    (spool.first / "00000001.seg").rename(target)
    (spool.first / "00000001.seg").symlink_to(target)


def piped(spool: Spool, name: str) -> None:
    path = spool.first / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def newest_cut_back(spool: Spool) -> None:
    lines(spool.last, lambda found: found[:2])
    (spool.last / "heads").write_bytes(b"")


def the_unnamed_alone(spool: Spool) -> None:
    shutil.rmtree(spool.dead)
    shutil.rmtree(spool.last)


def flooded(spool: Spool) -> None:
    """Very many findings of one kind before the one that counts."""
    for number in range(300):
        (spool.first / f"notes{number}").touch()
    lines(spool.first, lambda found: found[:-1])


def first_named(spool: Spool) -> None:
    """All that names the first stream goes: what nobody else ever named."""
    shutil.rmtree(spool.first)
    shutil.rmtree(spool.last)


class Row(NamedTuple):
    change: Callable[[Spool], object]
    expected: str
    why: str = ""


ROWS: dict[str, Row] = {
    "nothing": Row(lambda _: None, "VV?V", "this is how it should be"),
    "a record changed": Row(lambda spool: replaced(spool.first, b"alice", b"mallo"), "IIII"),
    "a record deleted": Row(lambda spool: lines(spool.first, lambda found: found[:3] + found[4:]), "IIII"),
    "a record doubled": Row(lambda spool: lines(spool.first, lambda found: found[:3] + found[2:]), "IIII"),
    "records swapped": Row(
        lambda spool: lines(spool.first, lambda found: [*found[:3], found[4], found[3], *found[5:]]), "IIII"
    ),
    "a record of another stream": Row(
        lambda spool: lines(
            spool.first, lambda found: [*found, (spool.dead / "00000001.seg").read_bytes().splitlines(True)[2]]
        ),
        "IIII",
    ),
    "the end cut off": Row(lambda spool: lines(spool.first, lambda found: found[:-1]), "IIII"),
    "the last head taken away": Row(lambda spool: lines(spool.first, lambda found: found[:-1], "heads"), "????"),
    "the heads taken away": Row(lambda spool: (spool.last / "heads").write_bytes(b""), "????"),
    "cut back to an early head with its heads": Row(lambda spool: cut_back(spool.first, 7, 1), "IIII"),
    "the newest stream cut back with its heads": Row(newest_cut_back, "???I"),
    "cut back, and others put behind": Row(forged_behind, "IIII"),
    "the whole stream by another key": Row(by_another_key, "IIII"),
    "a stream deleted": Row(lambda spool: shutil.rmtree(spool.dead), "????"),
    "a stream deleted, and named in the list that nobody signs": Row(deleted_and_listed, "????"),
    "a stream deleted, and said to be pruned by another key": Row(
        lambda spool: says(spool, "pruned", 6, signer=MALLORY, end=True, remove=lambda: shutil.rmtree(spool.dead)),
        "II?I",
    ),
    "a stream deleted, and said to be pruned by what nobody signed": Row(
        lambda spool: says(spool, "pruned", 6, signer=SIGNER, end=False, remove=lambda: shutil.rmtree(spool.dead)),
        "????",
    ),
    "a stream pruned, as a signed record says": Row(
        lambda spool: says(spool, "pruned", 6, signer=SIGNER, end=True, remove=lambda: shutil.rmtree(spool.dead)),
        "VV?V",
        "retention",
    ),
    "a record deleted, and said to be refused": Row(
        lambda spool: says(
            spool,
            "undelivered",
            3,
            signer=SIGNER,
            end=True,
            remove=lambda: lines(spool.dead, lambda found: found[:2] + found[3:]),
        ),
        "IIII",
    ),
    "the newest stream deleted": Row(
        lambda spool: shutil.rmtree(spool.last), "????", "nobody names it, but it closed the tail of another"
    ),
    "all but the one that nobody names deleted": Row(
        the_unnamed_alone,
        "VV??",
        "no one else ever named the others: only another copy does",
    ),
    "a stream hidden": Row(lambda spool: spool.last.rename(spool.last.with_name(f".{spool.last.name}")), "????"),
    "a stream under the name of one being removed": Row(
        lambda spool: spool.last.rename(spool.last.with_name(f".pruned-{spool.last.name}")), "????"
    ),
    "a stream under a name that is none": Row(
        lambda spool: spool.last.rename(spool.last.with_name("not a stream")), "????"
    ),
    "a stream under another name": Row(lambda spool: spool.last.rename(spool.last.with_name("other")), "IIII"),
    "a stream linked": Row(linked, "????"),
    "a segment linked": Row(linked_segment, "????"),
    "a pipe in the place of a segment": Row(lambda spool: piped(spool, "00000001.seg"), "????"),
    "a pipe in the place of the heads": Row(lambda spool: piped(spool, "heads"), "????"),
    "a pipe in the place of the start": Row(lambda spool: piped(spool, "start"), "????"),
    "a pipe in the place of the lock": Row(lambda spool: piped(spool, "lock"), "VV?V", "it has ended: nobody asks"),
    "a pipe in the place of the list": Row(
        lambda spool: os.mkfifo(spool.root / "pruned"), "V??V", "that list proves nothing: told, strictly a problem"
    ),
    "a flood of files, and the end cut off": Row(flooded, "IIII"),
    "the first stream and all that names it deleted": Row(first_named, "????"),
    "a segment renamed": Row(
        lambda spool: (spool.first / "00000001.seg").rename(spool.first / "00000007.seg"),
        "VV?V",
        "the records say where they are",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_manipulation_of_a_spool_is_called_what_it_is(tmp_path: Path, world: World, name: str) -> None:
    """With the key, strictly, without a key (strictly), and beside the export."""
    row = ROWS[name]
    root = tmp_path / "spool"
    shutil.copytree(world.root, root)
    found = Spool(root, *(root / "streams" / one.id for one in (world.first, world.dead, world.last)))
    row.change(found)
    (tmp_path / "export").write_bytes(sink(world.records))
    told = ""
    for trust, strict, second in (
        (TRUST, False, False), (TRUST, True, False), (Trust(), True, False), (TRUST, False, True)
    ):  # fmt: skip
        copies = [read_exports([tmp_path / "export"], lambda _: None)] if second else []
        copies.append(read_spool(root, lambda _: None))
        told += LETTERS[judge(copies, trust, strict=strict).verdict]
    assert told == row.expected
    assert "V" not in row.expected or row.why
