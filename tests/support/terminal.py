"""A command on a terminal of its own, as wide as it is told, and what a person would have seen there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def unstyled(text: str) -> str:
    """The text without colours; any other control sequence stays."""
    return _STYLE.sub("", text)


class Terminal:
    """A running command; its standard output and error are the terminal."""

    def __init__(self, command: Sequence[object], columns: int, **environment: str) -> None:
        self._main, side = pty.openpty()
        self.resize(columns)
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=side,
            stderr=side,
            env={**kept, "TERM": "xterm-256color", **environment},
        )
        os.close(side)
        self.text = ""
        """All that was shown so far."""
        self._bytes = b""

    def resize(self, columns: int) -> None:
        """Make it so wide."""
        fcntl.ioctl(self._main, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def until(self, condition: Callable[[str], bool], seconds: float = 60.0) -> str:
        """Read until what was shown is as wanted."""
        deadline = time.monotonic() + seconds
        while not condition(self.text):
            assert time.monotonic() < deadline, self.text
            if not self._read(0.2):
                assert condition(self.text), self.text
        return self.text

    def end(self, seconds: float = 60.0) -> int:
        """Read until the command has ended; its status."""
        deadline = time.monotonic() + seconds
        while self._read(0.2):
            assert time.monotonic() < deadline, self.text
        return self.process.wait(seconds)

    def _read(self, seconds: float) -> bool:
        """False at the end."""
        if not select.select([self._main], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._main, 65536)
        except OSError:  # the last process has closed it
            data = b""
        self._bytes += data
        self.text = self._bytes.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)

    def close(self) -> None:
        """Kill the command where it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._main)


@contextmanager
def on_terminal(command: Sequence[object], columns: int, **environment: str) -> Iterator[Terminal]:
    """The command on a terminal; killed in the end where it still runs."""
    made = Terminal(command, columns, **environment)
    try:
        yield made
    finally:
        made.close()
