"""Whatever is done to a spool or to an export of it, the verdict is never ``valid`` with other content."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from jwt_audit.evidence.canonical import load
from jwt_audit.evidence.proof import Trust
from jwt_audit.evidence.signing import Signer
from jwt_audit.evidence.verdict import Verdict
from jwt_audit.evidence.verify import judge
from jwt_audit.ship.encode import JsonEncoder, head_form, record_form
from jwt_audit.sources.exports import read_exports
from jwt_audit.sources.spool import read_spool
from jwt_audit.spool.segment import read
from support.spools import LiveStream, make_stream

RECORDS = 4


def verdict(root: Path, *pins: Signer, strict: bool = False) -> Verdict:
    trust = Trust({pin.public_key.key_id: pin.public_key for pin in pins})
    return judge([read_spool(root, lambda _: None)], trust, strict=strict).verdict


def spool(root: Path) -> tuple[Path, Signer]:
    """A spool of two ended streams; the first one's directory."""
    path, signer = make_stream(root, records=RECORDS, head_every=3)
    make_stream(root, records=1, head_every=3, signer=signer)
    return path, signer


def test_the_untouched_spool_is_valid(tmp_path: Path) -> None:
    """Also with the key pinned, and strictly."""
    _, signer = spool(tmp_path)
    assert verdict(tmp_path) is Verdict.VALID
    assert verdict(tmp_path, signer, strict=True) is Verdict.VALID


@pytest.mark.parametrize("name", ["00000001.seg", "heads"])
def test_a_flipped_bit_anywhere_is_never_valid(tmp_path: Path, name: str) -> None:
    """Every offset of a segment and of the heads; a head that still proves all may be lost, its records not."""
    path, _ = spool(tmp_path)
    file = path / name
    whole = file.read_bytes()
    for offset in range(len(whole)):
        changed = bytearray(whole)
        changed[offset] ^= 1 << (offset % 8)
        file.write_bytes(changed)
        report = judge([read_spool(tmp_path, lambda _: None)], Trust())
        # The last head's newline alone: its line counts as torn, the records are the same, and the tail is told.
        told = name == "heads" and sum(stream.open_tail for stream in report.streams) > 0
        assert report.verdict is not Verdict.VALID or told, f"{name} at {offset}"
    file.write_bytes(whole)
    assert verdict(tmp_path) is Verdict.VALID


def test_a_segment_cut_anywhere_is_never_valid(tmp_path: Path) -> None:
    """The stream has ended under a head: each missing byte is missed."""
    path, _ = spool(tmp_path)
    file = path / "00000001.seg"
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        assert verdict(tmp_path) is not Verdict.VALID, size


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda lines, at: lines[:at] + lines[at + 1 :], id="deleted"),
        pytest.param(lambda lines, at: [*lines[: at + 1], *lines[at:]], id="doubled"),
        pytest.param(lambda lines, at: [*lines[:at], *reversed(lines[at : at + 2]), *lines[at + 2 :]], id="swapped"),
        pytest.param(lambda lines, at: [*lines[: at + 1], b"rubbish\n", *lines[at + 1 :]], id="rubbish"),
    ],
)
def test_a_line_deleted_doubled_swapped_or_added_is_never_valid(
    tmp_path: Path, change: Callable[[list[bytes], int], list[bytes]]
) -> None:
    """Each line of the segment in turn."""
    path, _ = spool(tmp_path)
    file = path / "00000001.seg"
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)
    for at in range(len(lines)):
        changed = b"".join(change(lines, at))
        if changed != whole:
            file.write_bytes(changed)
            assert verdict(tmp_path) is not Verdict.VALID, at


def test_files_emptied_removed_or_renamed_are_never_valid(tmp_path: Path) -> None:
    """A segment without its records, a stream without its proof, a stream under another name."""
    spool(tmp_path / "whole")

    def broken(change: Callable[[Path], object]) -> Verdict:
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "copy")
        change(next(iter(sorted((tmp_path / "copy/streams").iterdir()))))
        return verdict(tmp_path / "copy")

    assert broken(lambda path: (path / "00000001.seg").write_bytes(b"")) is not Verdict.VALID
    assert broken(lambda path: (path / "00000001.seg").unlink()) is not Verdict.VALID
    assert broken(lambda path: (path / "00000001.seg").rename(path / "hidden")) is not Verdict.VALID
    assert broken(lambda path: (path / "heads").write_bytes(b"")) is not Verdict.VALID
    assert broken(lambda path: (path / "heads").unlink()) is not Verdict.VALID
    assert broken(lambda path: path.rename(path.with_name("another"))) is Verdict.INVALID
    assert broken(lambda path: path.touch()) is Verdict.VALID


def test_another_key_is_not_valid_where_one_is_pinned(tmp_path: Path) -> None:
    """A log rewritten and signed anew passes on first use alone, and that is said."""
    spool(tmp_path)
    assert verdict(tmp_path, Signer.generate()) is Verdict.INVALID


def test_an_open_tail_is_valid_but_not_strictly(tmp_path: Path) -> None:
    """A crash is no tampering; that its last records are unsigned is told."""
    _, signer = make_stream(tmp_path, records=4, head_every=3, end=False)
    report = judge([read_spool(tmp_path, lambda _: None)], Trust())
    assert report.verdict is Verdict.VALID
    assert sum(stream.open_tail for stream in report.streams) == 2
    assert verdict(tmp_path, signer, strict=True) is not Verdict.VALID


def test_nothing_is_not_valid(tmp_path: Path) -> None:
    """An empty spool, an empty directory and an empty file, through the command."""
    (tmp_path / "spool/streams").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "audit.jsonl").touch()
    for path in ("spool", "empty", "audit.jsonl", "missing"):
        assert command(tmp_path / path).returncode == 2


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", "from jwt_audit.cli.main import main; main()", "verify", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def export(root: Path, file: Path) -> None:
    """What a receiver writes of one ended stream: a line a request, records and then heads."""
    stream = LiveStream(root)
    for _ in range(3):
        stream.request()
    signed = stream.head()
    stream.close()
    encoder = JsonEncoder()
    forms = [record_form(line.payload, line.digest, carry=True) for line in read(stream.path / "00000001.seg")]
    forms.append(head_form(signed))
    resource = load(forms_resource(stream))
    with file.open("wb") as out:
        for form in forms:
            out.write(encoder.request(encoder.resource(resource), [encoder.record(form)]) + b"\n")


def forms_resource(stream: LiveStream) -> bytes:
    first = load(stream.lines[0][0])
    return str(first["attributes"]["audit.stream.resource"]["stringValue"]).encode()


def test_a_changed_export_is_never_valid(tmp_path: Path) -> None:
    """Each line deleted, each bit of each tenth byte flipped; doubled and reordered lines are retries."""
    file = tmp_path / "audit.jsonl"
    export(tmp_path / "spool", file)
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)

    def judged(data: bytes) -> Verdict:
        file.write_bytes(data)
        return judge([read_exports([file], lambda _: None)], Trust()).verdict

    assert judged(whole) is Verdict.VALID
    assert judged(whole + whole) is Verdict.VALID
    assert judged(b"".join(reversed(lines))) is Verdict.VALID
    for at in range(len(lines)):
        assert judged(b"".join(lines[:at] + lines[at + 1 :])) is not Verdict.VALID, at
    assert judged(b"") is not Verdict.VALID
    changed = whole.replace(
        b'{"key":"enduser.id","value":{"stringValue":"alice"}}',
        b'{"key":"enduser.id","value":{"stringValue":"mallo"}}',
        1,
    )
    assert changed != whole
    assert judged(changed) is Verdict.INVALID


def test_the_command_says_what_it_found(tmp_path: Path) -> None:
    """Exit codes 0 and 1, the first bad record by name, and one JSON object for machines."""
    path, signer = spool(tmp_path / "spool")
    (tmp_path / "key.pem").write_bytes(signer.public_key.pem)
    said = command(tmp_path / "spool", "--key", tmp_path / "key.pem", "--strict", "--json")
    assert said.returncode == 0, said.stdout + said.stderr
    form = orjson.loads(said.stdout)
    assert form["verdict"] == "valid"
    assert form["trust"]["mode"] == "pinned"
    segment = path / "00000001.seg"
    segment.write_bytes(segment.read_bytes().replace(b"alice", b"mallo", 1))
    said = command(tmp_path / "spool")
    assert said.returncode == 1
    assert "record 2" in said.stdout
    assert "00000001.seg" in said.stdout
