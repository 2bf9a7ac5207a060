"""Waiting for a sync, or for a call in another thread: in a thread, on asyncio, or on another event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from jwt_audit.evidence.record import Receipt
from jwt_audit.recorder import Recorder


def wait_durable(recorder: Recorder, receipt: Receipt, seconds: float) -> bool:
    """Block this thread until a record survives a power loss; False if that fails or takes longer than ``seconds``."""
    done: list[bool] = []
    event = threading.Event()

    def call(ok: bool) -> None:
        done.append(ok)
        event.set()

    recorder.on_durable(receipt, call)
    return event.wait(seconds) and done[0]


async def wait_durable_async(recorder: Recorder, receipt: Receipt, seconds: float) -> bool:
    """`wait_durable` that does not block an asyncio event loop; it blocks any other kind of loop."""
    if not on_asyncio():
        return wait_durable(recorder, receipt, seconds)
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bool] = loop.create_future()

    def resolve(ok: bool) -> None:
        if not future.done():
            future.set_result(ok)

    def call(ok: bool) -> None:
        try:
            loop.call_soon_threadsafe(resolve, ok)
        except RuntimeError:
            pass  # the loop has been closed: nothing waits any more

    recorder.on_durable(receipt, call)
    try:
        return await asyncio.wait_for(future, seconds)
    except asyncio.TimeoutError:
        return False


def on_asyncio() -> bool:
    """Whether the running event loop is asyncio's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def run_in_thread(call: Callable[[], None]) -> None:
    """Run ``call()`` in a thread, so that it does not block an asyncio event loop; in this thread where none runs."""
    if on_asyncio():
        await asyncio.to_thread(call)
    else:
        call()
