"""How this package speaks to the operator: one logger, ``jwt_audit``, that is never unseen.

Under ``opentelemetry-instrument`` the root logger already has an exporting handler, so Python's last
resort (stderr) stays silent and a warning reaches nobody who sits at the terminal. So our logger
writes to stderr itself as long as no handler of the root does.

What it says is about the process: though a request meets it first, it is no part of that request's
trace and carries nobody's identity.
"""

from __future__ import annotations

import logging
import sys
import threading
from contextvars import Context

log = logging.getLogger("jwt_audit")


class _StderrUnlessRootWrites(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if not any(isinstance(handler, logging.StreamHandler) for handler in logging.getLogger().handlers):
            try:
                sys.stderr.write(f"jwt-audit: {record.getMessage()}\n")
            except (OSError, ValueError, AttributeError):
                pass  # stderr is closed: there is nobody to tell


_terminal = _StderrUnlessRootWrites(logging.INFO)
log.addHandler(_terminal)

_told: set[str] = set()
_lock = threading.Lock()


def tell(message: str, *, once: str | None = None) -> None:
    """Warn the operator; with ``once``, only the first time for that key in this process."""
    if once is not None:
        with _lock:
            if once in _told:
                return
            _told.add(once)
    Context().run(log.warning, "%s", message)


def inform(message: str) -> None:
    """Say at level INFO what is no warning, where somebody sees it: on stderr too, as long as no handler of the root
    writes there. An app that shows its own log shows this by its own level; one that sets ours is obeyed.
    """
    if log.isEnabledFor(logging.INFO):
        Context().run(log.info, "%s", message)
    elif log.level == logging.NOTSET:
        _terminal.handle(logging.LogRecord(log.name, logging.INFO, __file__, 0, message, None, None))
