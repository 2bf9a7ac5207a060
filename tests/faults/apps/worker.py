"""A process that serves: each line on standard input is a number of requests, each line out what became of them.

Of each request the id is printed, and ``ok`` when its response was complete, ``503`` when it was refused. With
``THIRST`` other threads use up the process's descriptors all the while.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from contextlib import nullcontext

from opentelemetry.instrumentation.jwt_audit.hooks import boundary
from opentelemetry.instrumentation.jwt_audit.pipeline import compose


def thirst() -> None:
    """Take every descriptor there is, for a moment; again and again."""
    held: list[int] = []
    until = time.monotonic() + float(os.environ["THIRST"])
    while time.monotonic() < until:
        try:
            held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            time.sleep(0.05)
            for fd in held:
                os.close(fd)
            held.clear()
            time.sleep(0.005)
    for fd in held:
        os.close(fd)


def main() -> None:
    pipeline = compose(suppress=nullcontext)
    assert pipeline is not None
    boundary.install(pipeline)
    pipeline.start()
    if os.environ.get("THIRST"):
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        threading.Thread(target=thirst, daemon=True).start()
    print("ready", flush=True)
    for line in sys.stdin:
        for _ in range(int(line)):
            request = boundary.new_request("http", "GET", "/", None)
            request.status = 200
            started = time.perf_counter()
            ok = pipeline.admit(request) and pipeline.finish(request)
            print(request.id, "ok" if ok else "503", f"{time.perf_counter() - started:.6f}")
        print("done", flush=True)
    pipeline.settle()


main()
