"""What is done with a request's body, off the event loop: unpacked, read, written as lines.

Bounded in memory as a whole: bodies that wait are counted, and large ones are worked on one at a time,
from reading to the disk, while small ones go past them.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from .otlp import BadRequestError

MAX_BODY = 4 * 2**20
"""Bytes of a request, as sent and after decompression: what other receivers take by default."""
MAX_RATIO, FREE = 200, 2**20
"""How many times its size a body may become, beyond the first bytes; OTLP becomes 5 to 20 times as large."""
MAX_MEMBERS = 64
"""Of a gzip file; each costs a copy of what follows it."""
MAX_HELD = 16 * 2**20
"""Bytes of bodies that wait for their turn."""
SMALL, FEW = 3 * 2**19, 220_000
"""A body up to this size, with up to so many values, does not wait for large ones; nor do 512 audit records."""
MAX_SMALL = 16
"""Small requests under work at once: their lines may be several times as long as their bodies."""

_Result = TypeVar("_Result")
_Run = Callable[[Callable[[], _Result]], "asyncio.Future[_Result]"]


class BusyError(Exception):
    """Too much is waiting."""


class TooLargeError(Exception):
    """What was sent is larger than a request may be; the message says in what."""


class Work:
    """Turns at two threads, one for what is small. For one event loop."""

    def __init__(self) -> None:
        self._small = ThreadPoolExecutor(1, "jwt-audit-sink-small")
        self._large = ThreadPoolExecutor(1, "jwt-audit-sink-large")
        self._small_ones = asyncio.Semaphore(MAX_SMALL)
        self._one_large = asyncio.Lock()
        self._held = 0

    async def unpacked(self, body: bytes, encoding: str, count: Callable[[bytes], int]) -> tuple[bytes, int]:
        """``body`` without its Content-Encoding, and what ``count`` says of it.

        Raises BadRequestError, TooLargeError, and what ``count`` raises.
        """

        def unpack() -> tuple[bytes, int]:
            plain = gunzip(body) if encoding == "gzip" else body
            return plain, count(plain)

        return await self._in(self._small, unpack)

    @asynccontextmanager
    async def turn(self, size: int, values: int) -> AsyncIterator[_Run[Any]]:
        """The turn of a body of ``size`` bytes with ``values``: gives what runs a function in its thread.

        Raises BusyError.
        """
        with self._holding(size):
            if size <= SMALL and values <= FEW:
                async with self._small_ones:
                    yield lambda function: self._in(self._small, function)
            else:
                async with self._one_large:
                    yield lambda function: self._in(self._large, function)

    @contextmanager
    def _holding(self, size: int) -> Iterator[None]:
        """Count ``size`` bytes as waiting. Raises BusyError where that would be too many."""
        if self._held + size > MAX_HELD:
            raise BusyError
        self._held += size
        try:
            yield
        finally:
            self._held -= size

    def _in(self, threads: ThreadPoolExecutor, function: Callable[[], _Result]) -> asyncio.Future[_Result]:
        return asyncio.get_running_loop().run_in_executor(threads, function)


def gunzip(body: bytes) -> bytes:
    """The content of a gzip file, of which several members may follow each other (RFC 1952, 2.2)."""
    most = min(MAX_BODY, max(FREE, MAX_RATIO * len(body)))
    whole = bytearray()
    rest = body
    for _ in range(MAX_MEMBERS):
        if not rest:
            break
        member = zlib.decompressobj(wbits=31)
        try:
            whole += member.decompress(rest, most + 1 - len(whole))
        except zlib.error as error:
            raise BadRequestError("the body is no gzip") from error
        if len(whole) > most:
            limit = f"{MAX_BODY} bytes" if most == MAX_BODY else f"{MAX_RATIO} times its size"
            raise TooLargeError(f"a request may have {limit} after decompression")
        if not member.eof:
            raise BadRequestError("the gzip body is cut off")
        rest = member.unused_data
    if rest:
        raise TooLargeError(f"a gzip body may have {MAX_MEMBERS} members")
    return bytes(whole)
