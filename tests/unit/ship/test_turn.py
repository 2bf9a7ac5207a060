"""One process ships, a sidecar before the apps, whichever was started first."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from jwt_audit.ship import pause
from jwt_audit.ship.turn import Holder, Turn, holder
from jwt_audit.spool import durable
from jwt_audit.spool.spool import Spool
from jwt_audit.spool.stream import Stream
from support.receivers import Receiver, Reply, receiving, records, until
from support.shipping import shipping
from support.spools import LiveStream


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def make(root: Path, *, sidecar: bool) -> Turn:
    return Turn(Spool(root), sidecar=sidecar, limit=7)


@pytest.mark.parametrize("sidecar", [False, True])
def test_a_lock_that_was_removed_is_given_back_and_taken_anew(tmp_path: Path, sidecar: bool) -> None:
    """The spool was cleared away under it: held on, it would keep nobody else out."""
    first = make(tmp_path / "s", sidecar=sidecar)
    assert first.take()
    shutil.rmtree(tmp_path / "s")
    assert first.wanted()
    first.give_back()
    with pytest.raises(OSError, match="No such file"):
        first.take()
    Spool(tmp_path / "s")
    second = make(tmp_path / "s", sidecar=sidecar)
    assert second.take()
    assert not first.take()
    second.close()
    assert first.take()
    assert not first.wanted()
    first.close()


def test_one_at_a_time(tmp_path: Path) -> None:
    """Whoever has it keeps it until it gives it back."""
    first, second = make(tmp_path, sidecar=False), make(tmp_path, sidecar=False)
    assert first.take()
    assert not second.take()
    assert (first.held, second.held, first.wanted()) == (True, False, False)
    first.give_back()
    assert second.take()
    assert not first.take()
    second.close()


def test_a_sidecar_is_wanted_and_goes_first(tmp_path: Path) -> None:
    """An app that ships is told; one that does not cannot take the turn, nor get it back while a sidecar lives."""
    app, other, sidecar = (make(tmp_path, sidecar=who) for who in (False, False, True))
    assert app.take()
    assert not sidecar.take()
    assert app.wanted()
    app.give_back()
    assert not app.take()
    assert not other.take()
    assert sidecar.take()
    assert not sidecar.wanted()
    sidecar.give_back()
    assert not app.take()
    sidecar.close()
    assert app.take()
    app.close()


def test_of_two_sidecars_the_first_goes_on(tmp_path: Path) -> None:
    """The second waits for its end."""
    first, second = make(tmp_path, sidecar=True), make(tmp_path, sidecar=True)
    assert first.take()
    assert not second.take()
    assert not first.wanted()
    first.close()
    assert second.take()
    second.close()


def test_it_is_told_who_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By role, process and host; and that somebody does, where the disk took no word of it."""
    assert holder(tmp_path) is None
    turn = make(tmp_path, sidecar=True)
    assert holder(tmp_path) is None
    turn.take()
    found = holder(tmp_path)
    assert found is not None
    assert (found.pid, found.host, found.role, found.limit) == (os.getpid(), socket.gethostname(), "sidecar", 7)
    assert found.shown == f"jwt-audit ship (pid {os.getpid()} on {socket.gethostname()})"
    assert Holder(1, "h", "app").shown == "a process of the app (pid 1 on h)"
    turn.close()
    assert holder(tmp_path) is None

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable.Lock, "note", full)
    (tmp_path / "ship.lock").write_bytes(b"")
    assert turn.take()
    assert holder(tmp_path) == Holder()
    assert Holder().shown == "a process"
    turn.close()


def test_an_apps_thread_gives_way_and_comes_back(tmp_path: Path, receiver: Receiver) -> None:
    """What the sidecar delivered meanwhile is not sent again, and what came after it is."""
    live = LiveStream(tmp_path)
    with shipping(tmp_path, receiver.url) as app:
        until(lambda: Stream(live.path).cursor().number == 1)
        with shipping(tmp_path, receiver.url, sidecar=True) as sidecar:
            until(lambda: sidecar.shipper.shipping)
            assert not app.shipper.shipping
            attempts = len(app.attempts)
            live.request()
            until(lambda: Stream(live.path).cursor().number == 2)
            assert len(app.attempts) == attempts
        until(lambda: app.shipper.shipping)
        live.request()
        until(lambda: Stream(live.path).cursor().number == 3)
    live.close()
    assert [one.key[1] for one in records(receiver.acknowledged)] == [1, 2, 3]
    assert app.told == sidecar.told == []


@pytest.mark.parametrize("reply", [Reply(503), Reply(401), Reply(429, headers={"Retry-After": "300"}), Reply(400)])
def test_it_gives_way_also_while_the_receiver_is_not_well(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, reply: Reply
) -> None:
    """However long it is to wait; the sidecar may have the settings that are right."""
    monkeypatch.setattr(pause, "HOLD_SECONDS", (300.0, 300.0))
    live = LiveStream(tmp_path)
    with receiving() as bad:
        bad.rule = lambda _: reply
        with shipping(tmp_path, bad.url) as app:
            until(lambda: len(bad.requests) > 0)
            with shipping(tmp_path, receiver.url, sidecar=True):
                until(lambda: Stream(live.path).cursor().number == 1)
                assert not app.shipper.shipping
    live.close()
