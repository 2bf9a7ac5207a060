"""Runs the embedded receiver on uvicorn."""

from __future__ import annotations

import errno
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import uvicorn

from ..errors import SpoolError
from .app import FILES, make_app
from .guard import MAX_HEAD, guarded
from .store import Store

_GRACE_SECONDS = 5
_SWITCH_SECONDS = 0.0005


def serve(directory: Path, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Receive until SIGINT or SIGTERM; ``ready`` is told the URL once requests are taken. Port 0 is any free one.

    Raises SpoolError where the address or the directory cannot be had.
    """
    # So soon a large request that is being read makes way for the event loop and for small ones
    sys.setswitchinterval(_SWITCH_SECONDS)
    # uvicorn raises the signal it ended at once more: this makes it an orderly end with exit status 0
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    listener = _listen(host, port)
    with listener:
        store = Store(directory, FILES)
        config = uvicorn.Config(
            make_app(store),
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            ws="none",
            http=guarded(),
            h11_max_incomplete_event_size=MAX_HEAD,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        shown, bound = listener.getsockname()[:2]
        ready(f"http://{f'[{shown}]' if ':' in shown else shown}:{bound}")
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            store.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        hint = "; choose another with --port, 0 takes a free one" if error.errno == errno.EADDRINUSE else ""
        raise SpoolError(f"cannot listen on {host}:{port} ({error.strerror}){hint}") from error
    return listener
