"""Segments: a line is in the file whole, or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwt_audit.errors import SpoolError
from jwt_audit.spool.appendfile import AppendFile
from jwt_audit.spool.segment import lines, read, segment_index, segment_name


def line(payload: bytes) -> bytes:
    return payload + b"\t" + hashlib.sha256(payload).hexdigest().encode() + b"\n"


def test_names_count_and_sort() -> None:
    """Names sort as segments were written; other files are no segments."""
    assert sorted([segment_name(10), segment_name(9)]) == [segment_name(9), segment_name(10)]
    assert segment_index(segment_name(12)) == 12
    for name in ("heads", "lock", "00000001", "00000001.seg.bak", "1.seg", ".00000001.seg", "0000000\u0661.seg"):
        assert segment_index(name) == 0


def test_what_was_appended_is_read(tmp_path: Path) -> None:
    """Payloads and offsets come back; reading goes on from an offset."""
    writer = AppendFile(tmp_path / segment_name(1))
    payloads = [b'{"a":1}', b'{"b":"\xe2\x80\xa8"}', b"{}"]
    for payload in payloads:
        writer.append(line(payload))
    writer.close()
    found = list(read(writer.path))
    assert [item.payload for item in found] == payloads
    assert [item.payload for item in read(writer.path, found[0].end)] == payloads[1:]
    assert found[-1].end == writer.size == writer.path.stat().st_size


@given(
    st.lists(st.binary(min_size=1, max_size=40).map(lambda b: b.replace(b"\t", b"").replace(b"\n", b"")), max_size=5)
)
def test_a_file_cut_anywhere_reads_as_its_whole_lines(payloads: list[bytes]) -> None:
    """A torn tail is never a line, and never hides one before it."""
    data = b"".join(map(line, payloads))
    for cut in range(len(data) + 1):
        found = [item.payload for item in lines(io.BytesIO(data[:cut]))]
        assert found == payloads[: len(found)]
        assert sum(len(line(payload)) for payload in found) <= cut


def test_a_file_that_is_not_there_is_a_domain_error(tmp_path: Path) -> None:
    """No OSError leaves the package."""
    with pytest.raises(SpoolError, match="cannot read"):
        list(read(tmp_path / "missing"))


def test_a_write_at_the_size_limit_is_cut_back(tmp_path: Path) -> None:
    """A short write leaves no half line to which the next append would be glued (measured: 50 of 100 bytes)."""
    code = f"""
import resource, signal
from pathlib import Path
from jwt_audit.spool.appendfile import AppendFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = AppendFile(Path({str(tmp_path / "s.seg")!r}))
writer.append({line(b"one")!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (writer.size + 30, resource.RLIM_INFINITY))
try:
    writer.append({line(b"two")!r})
except OSError as error:
    print("refused", error.errno)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print("size", writer.path.stat().st_size == writer.size)
writer.append({line(b"three")!r})
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["refused", "27", "size", "True"]
    assert [item.payload for item in read(tmp_path / "s.seg")] == [b"one", b"three"]
    assert (tmp_path / "s.seg").read_bytes() == line(b"one") + line(b"three")


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    """Mode 0600 whatever the umask."""
    old = os.umask(0)
    try:
        writer = AppendFile(tmp_path / segment_name(1))
    finally:
        os.umask(old)
    assert writer.path.stat().st_mode & 0o777 == 0o600
    writer.close()
