"""Messages to the operator: one logger, ``jwt_audit``, whose warnings are always visible.

Under ``opentelemetry-instrument`` the root logger already has an exporting handler, so Python's handler of last resort
writes nothing to stderr, and a warning would not be seen at the terminal. So our logger writes to stderr itself as long
as no handler of the root logger does.

Messages are about the process. Where a request causes one, it is not part of that request's trace and carries no
identity.
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
                pass  # stderr is closed


_terminal = _StderrUnlessRootWrites(logging.INFO)
log.addHandler(_terminal)

_warned: set[str] = set()
_lock = threading.Lock()


def warn_operator(message: str, *, once: str | None = None) -> None:
    """Warn the operator; with ``once``, only the first time for that key in this process."""
    if once is not None:
        with _lock:
            if once in _warned:
                return
            _warned.add(once)
    Context().run(log.warning, "%s", message)


def inform(message: str) -> None:
    """Inform the operator, at level INFO, also on stderr as long as no handler of the root logger writes there.

    Where the root logger has such a handler, its level decides; a level set on our logger always does.
    """
    if log.isEnabledFor(logging.INFO):
        Context().run(log.info, "%s", message)
    elif log.level == logging.NOTSET:
        _terminal.handle(logging.LogRecord(log.name, logging.INFO, __file__, 0, message, None, None))
