"""How a thread, an asyncio event loop or another one waits: for a sync, or for work done elsewhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from jwt_audit.evidence.record import Receipt
from jwt_audit.recorder import Recorder


def durable(recorder: Recorder, receipt: Receipt, seconds: float) -> bool:
    """Wait in this thread until a record survives a power loss; False where that failed or took longer."""
    done: list[bool] = []
    event = threading.Event()

    def call(ok: bool) -> None:
        done.append(ok)
        event.set()

    recorder.on_durable(receipt, call)
    return event.wait(seconds) and done[0]


async def durable_async(recorder: Recorder, receipt: Receipt, seconds: float) -> bool:
    """`durable` that holds no event loop of asyncio; any other kind of loop it has to hold."""
    if not on_asyncio():
        return durable(recorder, receipt, seconds)
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bool] = loop.create_future()

    def resolve(ok: bool) -> None:
        if not future.done():
            future.set_result(ok)

    def call(ok: bool) -> None:
        try:
            loop.call_soon_threadsafe(resolve, ok)
        except RuntimeError:
            pass  # the loop has been closed: nobody waits any more

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


async def off_loop(call: Callable[[], None]) -> None:
    """``call()`` in a thread, so that it holds no event loop of asyncio; here where there is none."""
    if on_asyncio():
        await asyncio.to_thread(call)
    else:
        call()
