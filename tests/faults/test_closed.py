"""FAIL_MODE=closed and DURABILITY=disk in running apps: nothing is served that is not recorded.

The app keeps a list of its own of the requests that have reached it, the client one of its answers.
"""

from __future__ import annotations

import http.client
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from jwt_audit.evidence import canonical
from jwt_audit.evidence.proof import Trust
from jwt_audit.evidence.record import Record
from jwt_audit.evidence.signing import Signer
from jwt_audit.evidence.verdict import Verdict
from jwt_audit.evidence.verify import judge
from jwt_audit.sources.spool import read_spool
from jwt_audit.spool.segment import read
from jwt_audit.spool.stream import streams
from support.served import GUNICORN, SECONDS, UVICORN, Served, serving
from support.spools import clear_away

APPS = Path(__file__).parent / "apps"
P = "OTEL_PYTHON_JWT_AUDIT_"
SERVERS = {"uvicorn": ("handled:asgi", UVICORN), "gunicorn": ("handled:wsgi", GUNICORN)}
KiB = 1024


class Answer(NamedTuple):
    """What a client got: the status, 0 where the connection broke before there was one, and whether it was whole."""

    id: str
    status: int
    whole: bool
    body: bytes


class Closed:
    """An app that must serve nothing unrecorded, and all that is known of its requests."""

    def __init__(self, served: Served, root: Path, spool: Path) -> None:
        self.served = served
        self.spool = spool
        self._handled = root / "handled"
        self.gate = root / "gate"
        self._number = 0
        self._lock = threading.Lock()

    def ask(self, path: str = "/") -> Answer:
        with self._lock:
            self._number += 1
            name = f"r-{self._number}"
        connection = http.client.HTTPConnection("127.0.0.1", self.served.port, timeout=SECONDS)
        status = 0
        try:
            connection.request("GET", path, headers={"X-Request-ID": name})
            response = connection.getresponse()
            status = response.status
            return Answer(name, status, True, response.read())
        except http.client.IncompleteRead as error:
            return Answer(name, status, False, error.partial)
        except (OSError, http.client.HTTPException):
            return Answer(name, status, False, b"")
        finally:
            connection.close()

    def handled(self) -> list[str]:
        """The ids of the requests that have reached the app, by its own list."""
        return self._handled.read_text().split() if self._handled.exists() else []

    def records(self, *events: str) -> list[Record]:
        found = [
            canonical.parse(line.payload)
            for stream in streams(self.spool)
            for path in stream.segments()
            for line in read(path)
        ]
        return [record for record in found if record.event_name in events]

    def recorded(self, *events: str) -> set[str]:
        """The ids of the requests of which there is a record of one of these events."""
        return {str(record.attributes["request.id"]) for record in self.records(*events)}

    def until(self, wanted: Callable[[Answer], bool]) -> Answer:
        """Ask again and again until an answer is as wanted."""
        deadline = time.monotonic() + SECONDS
        while not wanted(answer := self.ask()):
            assert time.monotonic() < deadline, f"{answer}\n{self.served.output()[-3000:]}"
            time.sleep(0.1)
        return answer

    def check(self, answers: list[Answer]) -> None:
        """No request has reached the app unrecorded, and none was answered as a whole unrecorded."""
        handled = self.handled()
        assert len(handled) == len(set(handled))
        assert set(handled) <= self.recorded("http.request.received")
        assert {one.id for one in answers if one.whole and one.status == 200} <= self.recorded("http.request")
        assert not {one.id for one in answers if one.status == 503} & set(handled)
        for one in answers:
            assert one.body == b"first last" if one.whole and one.status == 200 else not one.whole or one.status == 503


@contextmanager
def closed(root: Path, server: str, spool: Path, **environment: str) -> Iterator[Closed]:
    (root / "signing.pem").write_bytes(Signer.generate().pem)
    app, command = SERVERS[server]
    settings = {
        f"{P}FAIL_MODE": "closed",
        f"{P}SPOOL": str(spool),
        f"{P}SIGNING_KEY": str(root / "signing.pem"),
        "HANDLED": str(root / "handled"),
        "GATE": str(root / "gate"),
    }
    with serving(root, APPS, app, command, **settings | environment) as served:
        yield Closed(served, root, spool)


class Fault(NamedTuple):
    """Where the spool is, how space is taken from an app, and how it returns; both are given the app's process."""

    spool: Path
    take: Callable[[int], None]
    give: Callable[[int], None]


@contextmanager
def full_disk(root: Path) -> Iterator[Fault]:
    """A small file system of its own for the spool. Skips where none can be mounted."""
    place = root / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1536k", "none", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no small file system can be mounted here: what a full disk does is shown by a size limit alone")
    try:
        (place / "filler").write_bytes(bytes(512 * KiB))
        yield Fault(place / "spool", lambda _: None, lambda _: (place / "filler").unlink())
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextmanager
def size_limit(root: Path) -> Iterator[Fault]:
    """A limit of file size that is met in the middle of a line."""

    def limit(process: int, size: int) -> None:
        limited: set[int] = set()
        while new := set(family(process)) - limited:  # one that was born meanwhile may have inherited what was before
            for one in new:
                resource.prlimit(one, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            limited |= new

    yield Fault(
        root / "spool",
        lambda process: limit(process, 300 * KiB + 77),
        lambda process: limit(process, resource.RLIM_INFINITY),
    )


def family(process: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(one for child in children for one in family(int(child)))]


@pytest.mark.parametrize("fault", [full_disk, size_limit], ids=["full-disk", "size-limit"])
@pytest.mark.parametrize("server", SERVERS)
def test_without_space_nothing_reaches_the_app_unrecorded(
    tmp_path: Path, server: str, fault: Callable[[Path], AbstractContextManager[Fault]]
) -> None:
    """Refused with 503 before the app runs, broken off before the last byte at worst; it goes on when space returns."""
    with fault(tmp_path) as (spool, take, give), closed(tmp_path, server, spool) as app:
        take(app.served.processes[-1].pid)
        answers: list[Answer] = []

        def work(_: int) -> None:
            refused = 0
            while refused < 5:
                answer = app.ask()
                answers.append(answer)
                refused += answer.status == 503
                assert len(answers) < 5000, "the disk never becomes full"

        with ThreadPoolExecutor(8) as clients:
            list(clients.map(work, range(8)))
        app.check(answers)
        served_before = len(app.handled())
        assert served_before > 20
        assert all(app.ask().status == 503 for _ in range(3)), "and it stays so"
        assert len(app.handled()) == served_before
        give(app.served.processes[-1].pid)
        answers.append(app.until(lambda answer: answer.status == 200))
        app.check(answers)
        lost = app.records("audit.records.lost")
        assert sum(int(str(one.attributes["audit.lost.refused"])) for one in lost) >= 40
        app.served.stop()
        found = judge([read_spool(spool, lambda _: None)], Trust())
        assert found.verdict is Verdict.VALID, found.form()["problems"]
        output = app.served.output()
        assert output.count("requests are refused with 503") >= 1
        assert output.count("audit records are written again") >= 1


@pytest.mark.parametrize("server", SERVERS)
def test_without_its_spool_nothing_reaches_the_app(tmp_path: Path, server: str) -> None:
    """Removed while the app runs: the very next request is refused, until the directory is there again."""
    with closed(tmp_path, server, tmp_path / "spool") as app:
        before = [app.ask() for _ in range(10)]
        app.check(before)
        assert len(app.handled()) == 10
        clear_away(app.spool)
        assert {app.ask().status for _ in range(10)} == {503}
        assert len(app.handled()) == 10
        assert not app.spool.exists(), "it may be an unmounted volume: nothing is written in its place"
        app.spool.mkdir()
        after = app.until(lambda answer: answer.status == 200)
        assert set(app.handled()[10:]) == {after.id} == app.recorded("http.request")
        (start,) = app.records("audit.stream.start")
        known = start.attributes["audit.stream.known"]
        assert isinstance(known, list)
        assert [int(one.split()[1]) >= 21 for one in known] == [True], (
            "what was in the removed stream is known to the next one"
        )


@pytest.mark.parametrize("server", SERVERS)
def test_a_response_whose_record_fails_is_broken_off(tmp_path: Path, server: str) -> None:
    """It was let in, and when it is to end its record cannot be written: the last byte never leaves.

    Under ASGI that is the last chunk; of a stream under WSGI, the mark of its end.
    """
    with closed(tmp_path, server, tmp_path / "spool") as app, ThreadPoolExecutor(4) as clients:
        assert app.ask().body == b"first last"
        waiting = [clients.submit(app.ask, "/gated") for _ in range(3)]
        app.served.wait(lambda: len(app.handled()) == 4)
        clear_away(app.spool)
        app.gate.touch()
        for answer in (one.result() for one in waiting):
            assert not answer.whole
            assert answer.body == (b"first " if server == "uvicorn" else b"first last")
        assert app.ask().status == 503


@pytest.mark.parametrize("server", SERVERS)
def test_what_was_answered_with_disk_survives_a_kill(tmp_path: Path, server: str) -> None:
    """DURABILITY=disk under load: each whole answer's record was synced, not only written."""
    with closed(tmp_path, server, tmp_path / "spool", **{f"{P}DURABILITY": "disk", f"{P}FAIL_MODE": "open"}) as app:
        answers: list[Answer] = []
        stopped = threading.Event()

        def work(_: int) -> None:
            while not stopped.is_set():
                answers.append(app.ask())

        with ThreadPoolExecutor(8) as clients:
            busy = [clients.submit(work, number) for number in range(8)]
            app.served.wait(lambda: len(answers) > 200)
            for process in family(app.served.processes[-1].pid):
                os.kill(process, signal.SIGKILL)
            app.served.processes[-1].wait()
            stopped.set()
            for one in busy:
                one.result()
        whole = {answer.id for answer in answers if answer.whole and answer.status == 200}
        assert len(whole) > 200
        assert whole <= app.recorded("http.request")
        found = judge([read_spool(app.spool, lambda _: None)], Trust())
        # Nothing that is here was changed; that the streams of the killed ended there, nobody could sign
        assert {one.kind for one in found.problems()} == {"no_end"}, found.form()["problems"]


@pytest.mark.parametrize("server", SERVERS)
def test_with_a_signing_key_that_cannot_be_read_nothing_is_served(tmp_path: Path, server: str) -> None:
    """Refused before the app runs, told at the start, and no key is made in the spool in its place."""
    missing = str(tmp_path / "secrets" / "signing.pem")
    with closed(tmp_path, server, tmp_path / "spool", **{f"{P}SIGNING_KEY": missing}) as app:
        assert f"{P}SIGNING_KEY: cannot read" in app.served.output()
        assert [app.ask().status for _ in range(5)] == [503] * 5
        assert app.handled() == []
    assert "Traceback" not in app.served.output()
    assert not list((tmp_path / "spool").rglob("*.pem"))
    assert not list((tmp_path / "spool").rglob("*.seg"))
