"""A TCP relay in front of a real server, which can go away, hang or answer rubbish, and come back."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum


class Mode(Enum):
    """What the relay does with a connection."""

    PASS = "pass"
    DOWN = "down"
    HANG = "hang"
    RUBBISH = "rubbish"


RUBBISH = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n{"keys": [1, null, "rubbish'


class Relay:
    """Listens on loopback; ``mode`` may be changed at any time and counts for the next connection."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.mode = Mode.PASS
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._held: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        self._listener.close()
        for held in self._held:
            held.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self.mode is Mode.HANG:
                self._held.append(client)
            elif self.mode is Mode.DOWN:
                client.close()
            elif self.mode is Mode.RUBBISH:
                threading.Thread(target=_rubbish, args=(client,), daemon=True).start()
            else:
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target), 10)
        except OSError:
            client.close()
            return
        with client, server, selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in selector.select():
                    try:
                        data = key.fileobj.recv(65536)  # type: ignore[union-attr]  # sockets were registered
                        if not data:
                            return
                        key.data.sendall(data)
                    except OSError:
                        return


def _rubbish(client: socket.socket) -> None:
    with client:
        try:
            client.recv(65536)
            client.sendall(RUBBISH)
        except OSError:
            return


@contextmanager
def relaying(target: int) -> Iterator[Relay]:
    """A relay to a port of loopback."""
    relay = Relay(target)
    try:
        yield relay
    finally:
        relay.close()
