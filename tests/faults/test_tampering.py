"""Whatever is done to a spool or to an export of it, the verdict is never ``valid`` with other content."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from jwt_audit.errors import EvidenceError
from jwt_audit.evidence.canonical import load
from jwt_audit.evidence.proof import Trust
from jwt_audit.evidence.signing import Signer
from jwt_audit.evidence.verdict import Verdict
from jwt_audit.evidence.verify import judge
from jwt_audit.ship.encode import JsonEncoder, head_form, record_form, stream_resource
from jwt_audit.sources.exports import read_exports
from jwt_audit.sources.spool import read_spool
from support.spools import make_stream
from support.streams import MadeStream

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


@contextmanager
def flipped(file: Path, offset: int) -> Iterator[None]:
    """One bit of the byte at ``offset`` is another, in place, since file systems sync what is replaced whole."""
    with file.open("r+b", buffering=0) as opened:
        before = os.pread(opened.fileno(), 1, offset)
        os.pwrite(opened.fileno(), bytes([before[0] ^ 1 << (offset % 8)]), offset)
        try:
            yield
        finally:
            os.pwrite(opened.fileno(), before, offset)


@pytest.mark.parametrize("name", ["00000001.seg", "heads"])
def test_a_flipped_bit_anywhere_is_never_valid(tmp_path: Path, name: str) -> None:
    """Every offset of a segment and of the heads; a head that still proves all may be lost, its records not."""
    path, _ = make_stream(tmp_path, records=1, head_every=2)
    file = path / name
    whole = file.read_bytes()
    for offset in range(len(whole)):
        with flipped(file, offset):
            report = judge([read_spool(tmp_path, lambda _: None)], Trust())
        # The last head's newline alone: its line counts as torn, the records are the same, and the tail is told.
        told = name == "heads" and sum(stream.open_tail for stream in report.streams) > 0
        assert report.verdict is not Verdict.VALID or told, f"{name} at {offset}"
    assert file.read_bytes() == whole
    assert verdict(tmp_path) is Verdict.VALID


def test_a_segment_cut_anywhere_is_never_valid(tmp_path: Path) -> None:
    """The stream has ended under a head: each missing byte is missed."""
    path, _ = make_stream(tmp_path, records=1, head_every=2)
    file = path / "00000001.seg"
    for size in reversed(range(file.stat().st_size)):
        os.truncate(file, size)
        assert verdict(tmp_path) is not Verdict.VALID, size


def test_heads_deleted_or_doubled(tmp_path: Path) -> None:
    """An earlier one is covered by a later one; without the last the tail is open, and that is told."""
    path, signer = spool(tmp_path)
    lines = (path / "heads").read_bytes().splitlines(keepends=True)
    (path / "heads").write_bytes(b"".join(lines + lines))
    assert verdict(tmp_path, signer, strict=True) is Verdict.VALID
    (path / "heads").write_bytes(b"".join(lines[1:]))
    assert verdict(tmp_path, signer, strict=True) is Verdict.VALID
    (path / "heads").write_bytes(b"".join(lines[:-1]))
    assert verdict(tmp_path, signer, strict=True) is Verdict.INCOMPLETE


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


def test_an_open_tail_of_a_dead_stream_is_incomplete(tmp_path: Path) -> None:
    """A crash is no tampering; but that this was its end nobody has signed."""
    make_stream(tmp_path, records=4, head_every=3, end=False)
    report = judge([read_spool(tmp_path, lambda _: None)], Trust())
    assert report.verdict is Verdict.INCOMPLETE
    assert sum(stream.open_tail for stream in report.streams) == 2


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


def export(file: Path) -> list[MadeStream]:
    """What a receiver writes of an ended stream: a record a line, then the heads."""
    stream = MadeStream()
    stream.requests(1).head()
    stream.end()
    encoder = JsonEncoder()
    forms = [record_form(payload, digest, carry=True) for payload, digest in stream.lines]
    forms += [head_form(signed) for signed in stream.heads]
    resource = encoder.resource(stream_resource(load(stream.lines[0][0])))
    file.write_bytes(b"".join(encoder.request(resource, [encoder.record(form)]) + b"\n" for form in forms))
    return [stream]


def judged(file: Path, data: bytes) -> Verdict | None:
    """None where the command would say that it is no export at all."""
    file.write_bytes(data)
    return judged_as_it_is(file)


def judged_as_it_is(file: Path) -> Verdict | None:
    try:
        return judge([read_exports([file], lambda _: None)], Trust()).verdict
    except EvidenceError:
        return None


def test_lines_of_an_export_deleted_doubled_or_moved(tmp_path: Path) -> None:
    """A record deleted is never valid, nor is an end without its head; doubled and moved lines are retries."""
    file = tmp_path / "audit.jsonl"
    (stream,) = export(file)
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert judged(file, whole) is Verdict.VALID
    assert judged(file, whole + whole) is Verdict.VALID
    assert judged(file, b"".join(reversed(lines))) is Verdict.VALID
    for at in range(len(lines)):
        rest = b"".join(lines[:at] + lines[at + 1 :])
        assert (judged(file, rest) is Verdict.VALID) == (len(stream.lines) <= at < len(lines) - 1), at
    assert judged(file, b"") is not Verdict.VALID
    assert judged(file, b"\n") is not Verdict.VALID


def shown(data: bytes) -> list[tuple[str | None, dict[str, Any]]]:
    """Of each record in an export its carried bytes, and what it shows by name: read by nothing of the verifier's."""
    found: list[tuple[str | None, dict[str, Any]]] = []
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        for group in json.loads(line).get("resourceLogs", ()):
            for scope in group.get("scopeLogs", ()):
                for record in scope.get("logRecords", ()):
                    resource = group.get("resource", {}).get("attributes", [])
                    fields = {item["key"]: bare(item.get("value")) for item in record.get("attributes", ())}
                    fields |= {f"resource {item.get('key')}": bare(item.get("value")) for item in resource}
                    fields |= {
                        name: bare(record.get(name)) for name in ("eventName", "timeUnixNano", "body", "traceId")
                    }
                    found.append((fields.pop("audit.integrity.canonical", None), fields))
    return found


def bare(value: Any) -> Any:
    """A value without what says its type, None where there is none; hexadecimal digits have no case."""
    value = next(iter(value.values()), None) if isinstance(value, dict) else value
    return value.lower() if isinstance(value, str) and re.fullmatch("[0-9a-fA-F]{16,64}", value) else value


def test_a_flipped_bit_anywhere_in_an_export_is_never_valid_with_other_content(tmp_path: Path) -> None:
    """One bit of every byte. What may stay valid has lost a name at most, as in a store that drops attributes.

    Each record that is proved is the one that was written, and nothing that it shows by a signed name
    is another value.
    """
    file = tmp_path / "audit.jsonl"
    export(file)
    whole = file.read_bytes()
    original = shown(whole)
    carries = {carried for carried, _ in original}
    values = [fields for _, fields in original]
    stayed = 0
    for offset in range(len(whole)):
        changed = bytearray(whole)
        changed[offset] ^= 1 << (offset % 8)
        with flipped(file, offset):
            if judged_as_it_is(file) is not Verdict.VALID:
                continue
        stayed += 1
        if whole[offset : offset + 1] == b"\n":
            continue  # between two lines
        for carried, fields in shown(bytes(changed)):
            assert carried is None or carried in carries, offset
            assert any(
                all(value is None or old.get(name, value) == value for name, value in fields.items()) for old in values
            ), offset
    assert stayed < len(whole) / 4


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
