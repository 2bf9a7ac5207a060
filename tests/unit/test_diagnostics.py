"""What the package says to the operator."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from jwt_audit.diagnostics import inform, warn_operator
from jwt_audit.request import Request, current_request, set_current


class Seen(logging.Handler):
    """Keeps each message, and the request in whose context it was said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, Request | None]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append((record.getMessage(), current_request()))


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture(autouse=True)
def _listening(seen: Seen) -> Iterator[None]:
    logging.getLogger("jwt_audit").addHandler(seen)
    yield
    logging.getLogger("jwt_audit").removeHandler(seen)


def test_a_warning_is_nobodys(seen: Seen) -> None:
    """It is said outside of the request that met it first, whose identity it would carry."""
    set_current(Request(kind="http", method="GET", path="/", started=0, clock=0, request_id="r"))
    try:
        warn_operator("the spool is full")
        assert seen.said == [("the spool is full", None)]
        assert current_request() is not None
    finally:
        set_current(None)


def test_once_is_once_among_threads(seen: Seen) -> None:
    """The same key, from many threads at a time."""
    threads = [threading.Thread(target=warn_operator, args=("said",), kwargs={"once": "test-once"}) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [message for message, _ in seen.said] == ["said"]


def test_it_reaches_the_terminal_unless_the_app_writes_there(capfd: pytest.CaptureFixture[str]) -> None:
    """A root handler that writes to a stream shows it already."""
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    try:
        warn_operator("no handler")
        root.handlers = [logging.StreamHandler()]
        warn_operator("a handler")
    finally:
        root.handlers = before
    assert capfd.readouterr().err == "jwt-audit: no handler\na handler\n"


@pytest.mark.parametrize(
    ("ours", "root", "streams", "there"),
    [
        (logging.NOTSET, logging.WARNING, False, "jwt-audit: it begins\n"),  # nobody has set anything up
        (logging.NOTSET, logging.WARNING, True, ""),  # the app's log shows no information
        (logging.NOTSET, logging.INFO, True, "app: it begins\n"),
        (logging.NOTSET, logging.INFO, False, "jwt-audit: it begins\n"),  # only an exporting handler
        (logging.WARNING, logging.INFO, True, ""),  # our level was set
        (logging.WARNING, logging.WARNING, False, ""),
        (logging.INFO, logging.WARNING, False, "jwt-audit: it begins\n"),
    ],
)
def test_information_is_seen_as_the_app_shows_its_own(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    ours: int,
    root: int,
    streams: bool,
    there: str,
) -> None:
    """On the terminal where nothing else writes there, else by the app's own log and its level."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("app: %(message)s"))
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler] if streams else [])
    monkeypatch.setattr(logging.getLogger(), "level", root)
    monkeypatch.setattr(logging.getLogger("jwt_audit"), "level", ours)
    logging.getLogger("jwt_audit").manager._clear_cache()  # type: ignore[attr-defined]  # no public way
    try:
        inform("it begins")
    finally:
        monkeypatch.undo()
        logging.getLogger("jwt_audit").manager._clear_cache()  # type: ignore[attr-defined]
    assert capfd.readouterr().err == there
