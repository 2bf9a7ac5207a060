"""A coverage-guided fuzzer over `jwt-audit verify`: every kind of input, with a limit on memory and time.

    pip install atheris && python tests/support/fuzzing_verify.py -rss_limit_mb=300 -timeout=10 CORPUS_DIRECTORY

The first byte of an input chooses what the rest is: an export (JSON, protobuf, a store's answer, gzip), a
file of a spool, a file of kept heads, a PEM key, or an edit of a whole one of these, so that the depths of
the form are reached. `check` is the property: an exit status of 0, 1 or 2, no traceback, and where the
verdict is valid, records that the original has.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import orjson
from click.testing import CliRunner

from jwt_audit.cli.main import main

DATA = Path(__file__).parents[1] / "vectors" / "data"
EXPORT = DATA / "export-valid" / "audit.jsonl"
SPOOL = DATA / "spool-recovered" / "spool"
KEY = DATA / "key.pem"
HEADS = DATA / "spool-cut-with-heads" / "kept-heads"
SEEDS = {
    "export": EXPORT,
    "protobuf": DATA / "export-protobuf" / "audit.binpb",
    "loki": DATA / "export-loki" / "answer.json",
    "victorialogs": DATA / "export-victorialogs" / "answer.json",
}
_STREAM = min((SPOOL / "streams").iterdir()).name
FILES = [f"streams/{_STREAM}/{name}" for name in ("00000001.seg", "heads", "start", "lock", "cursor")] + ["pruned"]
KINDS = 6 + 2 * len(SEEDS) + 2 * len(FILES)


def _edited(whole: bytes, data: bytes) -> bytes:
    """``whole`` with pieces of ``data`` put in, over, or cut out: each led by its place, its length and what to do."""
    made = bytearray(whole)
    while len(data) > 4:
        at = int.from_bytes(data[:2], "big") * max(1, len(made)) // 65536
        size, how = data[2], data[3] % 4
        piece, data = data[4 : 4 + size], data[4 + size :]
        if how == 0:
            made[at:at] = piece
        elif how == 1:
            made[at : at + len(piece)] = piece
        elif how == 2:
            del made[at : at + size]
        else:
            made[at:at] = made[at : at + size] * min(size, 9)
    return bytes(made)


def run(*arguments: object) -> tuple[int, bytes]:
    """The command's exit status and its report. Raises what the command lets through."""
    with contextlib.redirect_stderr(io.StringIO()):
        said = CliRunner().invoke(main, ["verify", "--json", *map(str, arguments)])
    if said.exception is not None and not isinstance(said.exception, SystemExit):
        raise said.exception
    return said.exit_code, said.stdout_bytes


def check(data: bytes, root: Path) -> None:
    """Whatever the input: a verdict or one line, never a traceback; and never valid with foreign records."""
    kind, rest = (data[0] if data else 0) % KINDS, data[1:]
    seeds = list(SEEDS.values())
    given: Sequence[object]
    if kind < 4:
        name = ("export.json", "export.json.gz", "kept", "key.pem")[kind]
        path = root / name
        path.write_bytes(gzip.compress(rest, 1) if kind == 1 else rest)
        choices: list[list[object]] = [[path], [path], [EXPORT, "--head", path], [EXPORT, "--key", path]]
        given = choices[kind]
    elif kind < 6:
        path = root / ("kept", "key.pem")[kind - 4]
        path.write_bytes(_edited((HEADS, KEY)[kind - 4].read_bytes(), rest))
        given = [EXPORT, ("--head", "--key")[kind - 4], path]
    elif kind < 6 + 2 * len(seeds):
        index, alone = divmod(kind - 6, 2)
        path = root / "export"
        path.write_bytes(_edited(seeds[index].read_bytes(), rest))
        given = [path, "--key", KEY] if alone else [path, EXPORT]
    else:
        index, edit = divmod(kind - 6 - 2 * len(seeds), 2)
        spool = root / "spool"
        shutil.copytree(SPOOL, spool)
        path = spool / FILES[index]
        path.write_bytes(_edited(path.read_bytes() if path.exists() else b"", rest) if edit else rest)
        given = [spool, "--key", KEY]
    code, told = run(*given)
    if code == 0:
        report = orjson.loads(told)
        if report["verdict"] != "valid" or not report["totals"]["proved"]:
            raise AssertionError("valid without a proof")
    elif code not in (1, 2):
        raise AssertionError(f"exit status {code}")


def check_apart(data: bytes) -> None:
    """`check` in a directory of its own."""
    root = Path(tempfile.mkdtemp(prefix="fuzz"))
    try:
        check(data, root)
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    import atheris  # type: ignore[import-untyped]  # in an environment of its own

    atheris.instrument_all()
    atheris.Setup(sys.argv, check_apart)
    atheris.Fuzz()
