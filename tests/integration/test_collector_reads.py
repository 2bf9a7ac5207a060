"""Never valid where the real Collector reads another person, action, target, outcome, time or resource.

What `verify` calls valid is sent to the Collector as it stands, in JSON and on the wire; what its file exporter
writes of it, by its own marshaler, is held against what was written.
"""

from __future__ import annotations

import json
import random
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.test_readers import messages, rewired, valid, wired
from support.chain import programs
from support.chance import manipulated, records, rule, seen, text
from support.forms import FORMS
from support.receivers import until
from support.served import free_port
from support.world import World, make_world

ROUNDS = 400
LAST = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"that was all"}}]}]}]}'

pytestmark = pytest.mark.timeout(1800)  # the Collector may have to be built


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "spool")


class Collector:
    """The running Collector, and the file that its marshaler writes."""

    def __init__(self, root: Path) -> None:
        self.written = root / "read.json"
        self._port = free_port()
        config = {
            "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{self._port}"}}}},
            "exporters": {"file": {"path": str(self.written), "flush_interval": "50ms"}},
            "service": {
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {"logs": {"receivers": ["otlp"], "exporters": ["file"]}},
            },
        }
        (root / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
        line = [str(programs()["otelcol"]), "--config", str(root / "config.yaml")]
        self.process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: self.post(b"{}", "application/json"))

    def post(self, body: bytes, kind: str) -> bool:
        """Whether it took the request."""
        url = f"http://127.0.0.1:{self._port}/v1/logs"
        try:
            urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": kind}), timeout=20).close()
        except urllib.error.HTTPError as refused:
            refused.close()
            return False
        except OSError:
            return False
        return True


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    made = Collector(tmp_path)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()


def json_of(world: World, chance: random.Random) -> Iterator[tuple[bytes, bytes]]:
    """An export with one line manipulated, and that line."""
    lines = FORMS["sink"](world.records).splitlines(keepends=True)
    while True:
        at = chance.randrange(len(lines))
        value = json.loads(lines[at])
        manipulated(value, chance)
        line = text(value) + b"\n"
        yield b"".join([*lines[:at], line, *lines[at + 1 :]]), line


def wire_of(world: World, chance: random.Random) -> Iterator[tuple[bytes, bytes]]:
    """An export with one message manipulated, and that message."""
    parts = list(messages(FORMS["protobuf"](world.records)))
    while True:
        at = chance.randrange(len(parts))
        made = [*parts[:at], rewired(parts[at], chance), *parts[at + 1 :]]
        yield b"".join(len(part).to_bytes(4, "big") + part for part in made), made[at]


@pytest.mark.parametrize(
    ("made", "kind"), [(json_of, "application/json"), (wire_of, "application/x-protobuf")], ids=["json", "wire"]
)
def test_the_collector_sees_what_was_written(
    tmp_path: Path,
    world: World,
    collector: Collector,
    made: Callable[[World, random.Random], Iterator[tuple[bytes, bytes]]],
    kind: str,
) -> None:
    """Wherever the verdict is valid: what it takes, it reads as it was signed."""
    if kind == "application/json":
        written = {one["id"]: one for one in seen(FORMS["sink"](world.records))}
    else:
        written = {one["id"]: one for one in wired(FORMS["protobuf"](world.records))}
    changes = made(world, random.Random("collector"))
    taken = 0
    for _ in range(ROUNDS):
        export, changed = next(changes)
        if valid(tmp_path / "export", export):
            taken += collector.post(changed, kind)
    assert 0 < taken < ROUNDS
    assert collector.post(LAST, "application/json")
    until(lambda: b"that was all" in collector.written.read_bytes())
    read = [one for line in collector.written.read_text().splitlines() for one in records(json.loads(line))]
    assert len(read) > taken // 2  # of some, everything was taken away
    for one in read:
        assert rule(one, written), one
