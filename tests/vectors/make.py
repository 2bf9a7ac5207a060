"""Makes the pinned vectors in ``data/``: small spools and exports, good ones and each kind of tampered one.

    python tests/vectors/make.py [DIRECTORY]

Keys, times and ids are fixed, so every run writes the same bytes. What each vector must come out as
is written here by hand; the whole report of ``jwt-audit verify --json`` is kept beside it. A change of
the format, or of what the verifier says, shows as a change of these files: run this, and look at the
difference before it is committed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jwt_audit import attributes as attr
from jwt_audit.evidence import heads
from jwt_audit.evidence.chain import Position, record_hash
from jwt_audit.evidence.signing import Signer
from jwt_audit.ship.encode import JsonEncoder, ProtobufEncoder, head_form, record_form, stream_resource
from support.evidence import forged, known, statement
from support.spools import LiveStream
from support.streams import MadeStream

COMMAND = Path(sys.executable).with_name("jwt-audit")
DATA = Path(__file__).with_name("data")
KEY = Signer(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
MALLORY = Signer(Ed25519PrivateKey.from_private_bytes(b"\x07" * 32))
P256 = Signer(ec.derive_private_key(7, ec.SECP256R1()))
FIRST = "20261125T120000.000Z-101-00000001"
SECOND = "20261125T120500.000Z-102-00000002"
TIME = 1_795_608_000_000_000_000
"""2026-11-25 12:00 UTC, in nanoseconds since the epoch."""


@dataclass(frozen=True)
class Vector:
    """What to make, how to verify it, and what must come out: exit code, kinds of problems, first bad record."""

    make: Callable[[Path], None]
    arguments: Sequence[str]
    exit: int
    problems: frozenset[str] = frozenset()
    first: int | None = None


def live(
    root: Path, stream_id: str = FIRST, *, signer: Signer = KEY, knows: Sequence[str] = (), records: int = 4
) -> LiveStream:
    """A stream under way in the spool ``root``: start, half of the records, a head, the other half."""
    now = TIME + (stream_id == SECOND) * 300_000_000_000
    stream = LiveStream(root, signer=signer, stream_id=stream_id, now=now, known=tuple(knows))
    for number in range(records):
        if number == records // 2:
            stream.head()
        stream.request(f"/orders/{number}", annotations={"note": 'line\u2028separator, "quotes" and ünïcode'})
    return stream


def ended(root: Path, stream_id: str = FIRST, *, signer: Signer = KEY, knows: Sequence[str] = ()) -> LiveStream:
    return live(root, stream_id, signer=signer, knows=knows).end()


def segment(root: Path, stream_id: str = FIRST) -> Path:
    return root / "spool/streams" / stream_id / "00000001.seg"


def edited(change: Callable[[list[bytes]], list[bytes]], name: str = "00000001.seg") -> Callable[[Path], None]:
    """An ended stream with the lines of one of its files changed."""

    def make(root: Path) -> None:
        ended(root / "spool")
        path = segment(root).with_name(name)
        path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))

    return make


def rewritten(line: bytes) -> bytes:
    """Another name in a record, with the hash that fits."""
    payload = line.split(b"\t")[0].replace(b'"alice"', b'"mallo"')
    return payload + b"\t" + record_hash(payload).encode() + b"\n"


# Spools


def spool_valid(root: Path) -> None:
    first = ended(root / "spool")
    ended(root / "spool", SECOND, knows=[known(first)])


def spool_p256(root: Path) -> None:
    ended(root / "spool", signer=P256)


def spool_killed(root: Path) -> None:
    stream = live(root / "spool")
    stream.close()
    with segment(root).open("ab") as file:
        file.write(b'{"attributes":{"audit.act')


def spool_recovered(root: Path) -> None:
    dead = live(root / "spool")
    dead.close()
    second = live(root / "spool", SECOND, knows=[known(dead)])
    second.system(*statement("recovered", dead, 5))
    second.end()


def spool_pruned(root: Path) -> None:
    """Retention removed records 2 and 3 with their segment, and left the first record."""
    first = ended(root / "spool")
    second = live(root / "spool", SECOND, knows=[known(first)])
    second.system(*statement("pruned", first, 3))
    second.end()
    lines = segment(root).read_bytes().splitlines(keepends=True)
    segment(root).with_name("start").write_bytes(lines[0])
    segment(root).with_name("00000002.seg").write_bytes(b"".join(lines[3:]))
    segment(root).unlink()


def spool_synced_again(root: Path) -> None:
    ended(root / "spool")
    lines = segment(root).read_bytes().splitlines(keepends=True)
    segment(root).write_bytes(b"".join(lines[:4]))
    segment(root).with_name("00000002.seg").write_bytes(b"".join(lines[2:]))


def spool_stream_removed(root: Path) -> None:
    spool_valid(root)
    shutil.rmtree(segment(root).parent)


def spool_cut_with_heads(root: Path) -> None:
    """Right in itself; the head that was kept elsewhere tells."""
    stream = ended(root / "spool")
    (root / "kept-heads").write_bytes(stream.heads[-1].line)
    segment(root).write_bytes(b"".join(segment(root).read_bytes().splitlines(keepends=True)[:3]))
    (segment(root).parent / "heads").write_bytes(stream.heads[0].line)


def spool_end_stripped(root: Path) -> None:
    stream = ended(root / "spool")
    segment(root).write_bytes(b"".join(segment(root).read_bytes().splitlines(keepends=True)[:-1]))
    (segment(root).parent / "heads").write_bytes(stream.heads[0].line)


def spool_forged_head(root: Path) -> None:
    stream = ended(root / "spool")
    (segment(root).parent / "heads").write_bytes(stream.heads[0].line + forged(stream.heads[1], MALLORY).line)


def spool_other_key(root: Path) -> None:
    ended(root / "spool", signer=MALLORY)


def spool_spliced(root: Path) -> None:
    spool_valid(root)
    lines = segment(root).read_bytes().splitlines(keepends=True)
    theirs = segment(root, SECOND).read_bytes().splitlines(keepends=True)
    segment(root).write_bytes(b"".join([*lines[:2], theirs[2], *lines[3:]]))


def spool_clock(root: Path) -> None:
    """Chained and signed by whoever holds the key, with a time before the one of the record before."""
    stream = live(root / "spool")
    before = stream.position
    stream.position = Position(before.stream_id, before.number, before.hash, 0)
    stream.now = TIME
    stream.end()


def spool_empty(root: Path) -> None:
    (root / "spool/streams").mkdir(parents=True)
    (root / "spool/streams/.keep").touch()


# Exports


def export_lines(*streams: MadeStream) -> list[bytes]:
    """What the sink writes: a request of three records a line, then one of the heads."""
    encoder = JsonEncoder()
    made = []
    for stream in streams:
        resource = encoder.resource(stream_resource(orjson.loads(stream.lines[0][0])))
        records = [encoder.record(record_form(payload, digest, carry=True)) for payload, digest in stream.lines]
        signed = [encoder.record(head_form(one)) for one in stream.heads]
        made += [encoder.request(resource, records[at : at + 3]) for at in range(0, len(records), 3)]
        made.append(encoder.request(resource, signed))
    return [line + b"\n" for line in made]


def made(stream_id: str = FIRST, *, signer: Signer = KEY, knows: Sequence[str] = ()) -> MadeStream:
    """The stream of `ended`, in memory."""
    now = TIME + (stream_id == SECOND) * 300_000_000_000
    stream = MadeStream(signer=signer, stream_id=stream_id, now=now, known=knows)
    for number in range(4):
        if number == 2:
            stream.head()
        stream.request(f"/orders/{number}", annotations={"note": 'line\u2028separator, "quotes" and ünïcode'})
    return stream


def export(change: Callable[[list[bytes]], list[bytes]] = lambda lines: lines) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        root.joinpath("audit.jsonl").write_bytes(b"".join(change(export_lines(made().end()))))

    return make


def export_protobuf(root: Path) -> None:
    """As the Collector's file exporter writes it: each request after its length."""
    stream = made().end()
    encoder = ProtobufEncoder()
    forms = [record_form(payload, digest, carry=True) for payload, digest in stream.lines]
    forms += [head_form(one) for one in stream.heads]
    resource = encoder.resource(stream_resource(forms[0]))
    requests = [encoder.request(resource, [encoder.record(form)]) for form in forms]
    content = b"".join(len(one).to_bytes(4, "big") + one for one in requests)
    root.joinpath("audit.binpb").write_bytes(content)


def export_victorialogs(root: Path) -> None:
    """Values turned into strings, the store's own fields beside them."""
    rows = []
    for request in export_lines(made().end()):
        (group,) = orjson.loads(request)["resourceLogs"]
        for record in group["scopeLogs"][0]["logRecords"]:
            row = {"_time": "2026-11-25T12:00:00Z", "_stream": "{}", "_msg": record["body"]["stringValue"]}
            if attr.TRACE_FLAGS in str(record):
                row["_time"] = _rfc_3339(int(record["timeUnixNano"]))
            else:
                del row["_time"]
            for item in group["resource"]["attributes"] + record["attributes"]:
                ((kind, value),) = item["value"].items()
                row[item["key"]] = str(value).lower() if kind == "boolValue" else str(value)
            rows.append(orjson.dumps(row) + b"\n")
    root.joinpath("answer.json").write_bytes(b"".join(rows))


def _rfc_3339(nanoseconds: int) -> str:
    moment = datetime.fromtimestamp(nanoseconds // 10**9, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09d}Z"


def export_loki(root: Path) -> None:
    """Loki's answer to a range query: labels, then time, line and structured metadata, dots as underscores."""
    values = []
    for request in export_lines(made().end()):
        (group,) = orjson.loads(request)["resourceLogs"]
        for record in group["scopeLogs"][0]["logRecords"]:
            metadata = {}
            for item in group["resource"]["attributes"] + record["attributes"]:
                ((kind, value),) = item["value"].items()
                shown = str(value).lower() if kind == "boolValue" else str(value)
                metadata[item["key"].replace(".", "_")] = shown
            values.append([record["timeUnixNano"], record["body"]["stringValue"], {"structuredMetadata": metadata}])
    answer = {"status": "success", "data": {"resultType": "streams", "result": [{"stream": {}, "values": values}]}}
    root.joinpath("answer.json").write_bytes(orjson.dumps(answer, option=orjson.OPT_INDENT_2))


def export_undelivered(root: Path) -> None:
    """Record 3 was refused by the receiver, which a later stream states."""
    first = made().end()
    second = made(SECOND, knows=[known(first)])
    second.system(*statement("undelivered", first, 3))
    second.end()
    lines = export_lines(first, second)
    lines[0] = _without(lines[0], 2)
    root.joinpath("audit.jsonl").write_bytes(b"".join(lines))


def _without(line: bytes, index: int) -> bytes:
    request = orjson.loads(line)
    del request["resourceLogs"][0]["scopeLogs"][0]["logRecords"][index]
    return orjson.dumps(request) + b"\n"


def export_fork(root: Path) -> None:
    """Two records with one number, each with the hash that fits."""
    stream = made().end()
    payload = stream.lines[2][0].replace(b'"alice"', b'"mallo"')
    twin = made().end()
    twin.lines[2] = (payload, record_hash(payload))
    root.joinpath("audit.jsonl").write_bytes(b"".join([*export_lines(stream), export_lines(twin)[0]]))


def export_heads_by_another(root: Path) -> None:
    stream = made().end()
    stream.heads = [heads.sign(Position(one.head.stream_id, one.head.number, one.head.hash), MALLORY, now=one.head.time)
                    for one in stream.heads]  # fmt: skip
    root.joinpath("audit.jsonl").write_bytes(b"".join(export_lines(stream)))


SHOWN = b'"enduser.id","value":{"stringValue":"alice"}'

PIN = ("--key", "../key.pem")
SPOOL = ("spool", *PIN)
EXPORT = ("audit.jsonl", *PIN)

VECTORS = {
    "spool-valid": Vector(spool_valid, [*SPOOL, "--strict"], 0),
    "spool-p256": Vector(spool_p256, ["spool", "--key", "../key-p256.pem", "--strict"], 0),
    "spool-killed": Vector(spool_killed, SPOOL, 2, frozenset({"no_end"}), 5),
    "spool-killed-strict": Vector(
        spool_killed, [*SPOOL, "--strict"], 2, frozenset({"open_tail", "no_end", "torn"}), 4
    ),
    "spool-recovered": Vector(spool_recovered, [*SPOOL, "--strict"], 0),
    "spool-pruned": Vector(spool_pruned, SPOOL, 0),
    "spool-synced-again": Vector(spool_synced_again, [*SPOOL, "--strict"], 0),
    "spool-changed": Vector(
        edited(lambda lines: [*lines[:2], lines[2].replace(b'"alice"', b'"mallo"'), *lines[3:]]),
        SPOOL, 1, frozenset({"hash_mismatch"}), 3,
    ),
    "spool-changed-with-hash": Vector(
        edited(lambda lines: [*lines[:2], rewritten(lines[2]), *lines[3:]]),
        SPOOL, 1, frozenset({"previous_hash", "head_mismatch"}), 3,
    ),
    "spool-deleted": Vector(edited(lambda lines: lines[:2] + lines[3:]), SPOOL, 1, frozenset({"gap"}), 3),
    "spool-first-deleted": Vector(edited(lambda lines: lines[1:]), SPOOL, 1, frozenset({"gap"}), 1),
    "spool-swapped": Vector(
        edited(lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]]), SPOOL, 1, frozenset({"gap"}), 3
    ),
    "spool-doubled": Vector(edited(lambda lines: lines[:3] + lines[2:]), SPOOL, 1, frozenset({"order"}), 4),
    "spool-spliced": Vector(spool_spliced, SPOOL, 1, frozenset({"splice"}), 3),
    "spool-cut": Vector(edited(lambda lines: lines[:-2]), SPOOL, 1, frozenset({"cut_off", "no_end"}), 5),
    "spool-cut-with-heads": Vector(
        spool_cut_with_heads, [*SPOOL, "--head", "kept-heads"], 1, frozenset({"cut_off", "no_end"}), 4
    ),
    "spool-end-stripped": Vector(
        spool_end_stripped, [*SPOOL, "--strict"], 2, frozenset({"open_tail", "no_end"}), 4
    ),
    "spool-heads-removed": Vector(edited(lambda _: [], "heads"), SPOOL, 2, frozenset({"unsigned"}), 1),
    "spool-head-forged": Vector(spool_forged_head, SPOOL, 1, frozenset({"other_key", "unsigned_end"}), 6),
    "spool-other-key": Vector(spool_other_key, SPOOL, 1, frozenset({"unpinned_key", "unsigned"}), 3),
    "spool-stream-removed": Vector(spool_stream_removed, SPOOL, 2, frozenset({"missing_stream"})),
    "spool-clock": Vector(spool_clock, SPOOL, 1, frozenset({"clock"}), 6),
    "spool-empty": Vector(spool_empty, SPOOL, 2, frozenset({"nothing"})),
    "export-valid": Vector(export(), [*EXPORT, "--strict"], 0),
    "export-any-order": Vector(export(lambda lines: [*reversed(lines), lines[1]]), [*EXPORT, "--strict"], 0),
    "export-torn": Vector(export(lambda lines: [*lines, lines[0][:500]]), EXPORT, 0),
    "export-protobuf": Vector(export_protobuf, ["audit.binpb", *PIN, "--strict"], 0),
    "export-victorialogs": Vector(export_victorialogs, ["answer.json", *PIN, "--strict"], 0),
    "export-loki": Vector(export_loki, ["answer.json", *PIN, "--strict"], 0),
    "export-undelivered": Vector(export_undelivered, [*EXPORT, "--strict"], 0),
    "export-changed-in-sight": Vector(
        export(lambda lines: [lines[0].replace(SHOWN, SHOWN.replace(b"alice", b"mallo"), 1), *lines[1:]]),
        EXPORT, 1, frozenset({"contradiction"}), 2,
    ),
    "export-deleted": Vector(
        export(lambda lines: [_without(lines[0], 2), *lines[1:]]), EXPORT, 1, frozenset({"gap"}), 3
    ),
    "export-line-deleted": Vector(export(lambda lines: lines[1:]), EXPORT, 2, frozenset({"missing_prefix"}), 1),
    "export-fork": Vector(export_fork, EXPORT, 1, frozenset({"fork"}), 3),
    "export-resource-swapped": Vector(
        export(lambda lines: [line.replace(b'"shop"', b'"bank"', 1) for line in lines]),
        EXPORT, 1, frozenset({"resource"}), None,
    ),
    "export-heads-removed": Vector(export(lambda lines: lines[:-1]), EXPORT, 2, frozenset({"unsigned"}), 1),
    "export-heads-forged": Vector(export_heads_by_another, EXPORT, 1, frozenset({"other_key", "unsigned"}), 3),
    "export-empty": Vector(export(lambda _: []), EXPORT, 2, frozenset({"nothing"})),
}  # fmt: skip


def make(root: Path) -> None:
    """Write the keys and every vector's input under ``root``, which is emptied first."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    root.joinpath("key.pem").write_bytes(KEY.public_key.pem)
    root.joinpath("key-p256.pem").write_bytes(P256.public_key.pem)
    for name, vector in VECTORS.items():
        directory = root / name
        directory.mkdir()
        vector.make(directory)
        for name in ("lock", "reserve"):
            for path in directory.rglob(name):
                path.unlink()  # of no meaning once its writer is gone


def report(directory: Path, vector: Vector) -> bytes:
    """What the command prints of a vector, with paths as they are seen from its directory."""
    said = subprocess.run(
        [COMMAND, "verify", "--json", *vector.arguments], capture_output=True, cwd=directory, check=False
    )
    if said.returncode != vector.exit or said.stderr:
        raise SystemExit(f"{directory.name}: exit {said.returncode}, not {vector.exit}\n{said.stderr.decode()}")
    return said.stdout


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    make(target)
    for name, vector in VECTORS.items():
        target.joinpath(name, "expected.json").write_bytes(report(target / name, vector))
