"""Whatever `jwt-audit verify` is given ends in a finding or one clear line: in bounded time, and bounded memory."""

from __future__ import annotations

import gzip
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from support.spools import make_stream
from vectors.make import DATA

EXPORT = (DATA / "export-valid/audit.jsonl").read_bytes()
KEY = DATA / "key.pem"
MIB = 2**20
LIMIT = 300 * MIB
SECONDS = 20
COMMAND = [sys.executable, "-c", "from jwt_audit.cli.main import main; main()", "verify", "--json"]


def verified(*arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output and error of the command with 300 MiB of address space for its data."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))

    begun = time.monotonic()
    said = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limited,
        timeout=SECONDS * 3,
    )
    assert "Traceback" not in said.stderr, said.stderr
    assert time.monotonic() - begun < SECONDS
    assert said.returncode in (0, 1, 2)
    return said.returncode, said.stdout, said.stderr


def bomb(root: Path) -> Path:
    """0.8 MB that open to as many as they can."""
    with gzip.open(root / "bomb.gz", "wb", 9) as file:
        for _ in range(800):
            file.write(b'{"resourceLogs":[]}\n' + b" " * (MIB - 20))
    return root / "bomb.gz"


def one_line_bomb(root: Path) -> Path:
    """The same without a line's end."""
    with gzip.open(root / "bomb.gz", "wb", 9) as file:
        file.write(b'{"resourceLogs":')
        for _ in range(800):
            file.write(b"[" * MIB)
    return root / "bomb.gz"


def written(data: bytes) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        (root / "audit.jsonl").write_bytes(data)
        return root / "audit.jsonl"

    return write


def nested(depth: int, inside: bytes = b'{"stringValue":"x"}') -> bytes:
    value = b'{"arrayValue":{"values":[' * depth + inside + b"]}}" * depth
    return EXPORT.replace(b'{"stringValue":"alice"}', value, 1)


HOSTILE: dict[str, Callable[[Path], Path]] = {
    "a bomb": bomb,
    "a bomb in one line": one_line_bomb,
    "half a megabyte of starts": written(EXPORT + b'{"resourceLogs":[' * 30_000),
    "half a megabyte of braces": written(EXPORT + b"{[" * 250_000),
    "half a megabyte of closed braces": written(EXPORT + b"{}x" * 170_000),
    "half a megabyte of quotation marks": written(EXPORT + b'{"' * 250_000),
    "half a megabyte of torn texts": written(EXPORT + b'{"resourceLogs":"\\' * 30_000),
    "half a megabyte of other starts": written(
        EXPORT + b"".join(b'{"%07d":[' % number for number in range(50_000)) + b"\n"
    ),
    "half a megabyte of values that are none": written(EXPORT + b'{"resourceLogs":nil}' * 25_000),
    "many lines of a value without an end": written(EXPORT + b"{\n" * 300_000),
    "a line of many megabytes": written(EXPORT + b'{"resourceLogs":"' + b"x" * (80 * MIB) + b'"}\n'),
    "very many small objects in one line": written(EXPORT + b"[" + b"{}," * (6 * MIB) + b"{}]\n"),
    "very many streams": written(
        EXPORT
        + b"".join(
            b'{"audit.sequence.stream_id":"%d","audit.sequence.number":"1"}\n' % number for number in range(60_000)
        )
    ),
    "values nested 30 deep": written(nested(15)),
    "values nested 300 deep": written(nested(150)),
    "values nested 900 deep": written(nested(300)),
    "lists nested 100,000 deep": written(EXPORT + b"[" * 100_000 + b"]" * 100_000 + b"\n"),
    "bytes nested 300 deep": written(
        EXPORT
        + orjson.dumps({"audit.integrity.canonical": '{"a":' * 300 + "1" + "}" * 300, "audit.integrity.hash": "0"})
    ),
    "odd types everywhere": written(
        EXPORT + b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"attributes":{"key":1}}]}]}]}\n'
    ),
    "keys that are no names": written(
        EXPORT + b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"attributes":[{"key":[],"value":{}}]}]}]}]}\n'
    ),
    "protobuf of very many fields": written(b"\x00\x40\x00\x00" + b"\x0a\x00" * (2 * MIB)),
    "one message of very many attributes": written(
        b"\x0a\xfc\xff\xff\x01" + b"\x12\xf7\xff\xff\x01" + b"\x12\xf2\xff\xff\x01" + b"\x32\x00" * (2 * MIB)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_exports_end_in_a_finding_or_one_line(tmp_path: Path, name: str) -> None:
    """Never valid: each has something that nobody could read."""
    code, out, err = verified(HOSTILE[name](tmp_path), "--key", KEY)
    assert code in (1, 2)
    assert out.startswith("{") or err.count("\n") == 1


@pytest.mark.parametrize("name", ["00000001.seg", "heads", "start", "lock", "cursor", "../../pruned"])
@pytest.mark.parametrize("kind", ["pipe", "device", "directory", "socket"])
def test_what_is_no_file_in_the_place_of_one_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    """A pipe, an endless device, a directory, in a spool that somebody else can write."""
    path, _ = make_stream(tmp_path / "spool", records=2)
    place = path / name
    place.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to("/dev/zero")
    elif kind == "directory":
        place.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            monkeypatch.chdir(place.parent)
            bound.bind(place.name)  # a longer path than that is none of a socket
    verified(tmp_path / "spool")


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_path_that_is_no_file_is_said_to_be_none(tmp_path: Path, kind: str) -> None:
    """At once."""
    place = tmp_path / "export"
    os.mkfifo(place) if kind == "pipe" else place.symlink_to("/dev/zero")
    code, out, err = verified(place)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1


def test_several_keys_in_one_file_are_not_guessed_at(tmp_path: Path) -> None:
    """Neither the first nor all of them: it is said what to do."""
    both = tmp_path / "keys.pem"
    both.write_bytes(KEY.read_bytes() + (DATA / "key-p256.pem").read_bytes())
    code, out, err = verified(DATA / "export-valid/audit.jsonl", "--key", both)
    assert (code, out) == (2, "")
    told = "holds more than one PEM block; give one --key for each key, in a file of its own"
    assert err == f"jwt-audit: --key {both}: {told}\n"
