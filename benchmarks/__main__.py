"""The command line: run the benchmarks, print the table."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
from pathlib import Path

import orjson

from . import figures, workers

BENCHMARKS = {
    "requests": "time and CPU that a request gains, Flask and FastAPI",
    "append": "the recorder's append against the SDK's Logger.emit",
    "delivery": "delivered records a second, beside an idle and a busy thread",
    "verify": "verified records a second",
    "startup": "import time and memory",
    "tokens": "token verification, found in the cache and not; a flood of bad tokens",
}


def main() -> int:
    """Exit code 0 when all that was asked for ran and nothing was lost on the way, whatever was reached."""
    listed = "\n".join(f"  {name:10}{what}" for name, what in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="What the audit costs, as ratios to what OpenTelemetry costs in the same run.",
        epilog=f"benchmarks:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="BENCHMARK", help="which to run; all, unless named")
    parser.add_argument("--quick", action="store_true", help="smallest sizes: they run, the figures are rough")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    workers.pin(1)
    begun = time.monotonic()
    found: list[figures.Figure] = []
    for name in options.names or BENCHMARKS:
        if not options.json:
            print(f"{name}: {BENCHMARKS[name]} ...", file=sys.stderr, flush=True)
        found += importlib.import_module(f"benchmarks.{name}").run(options.quick)
    if options.json:
        form = {"machine": machine(), "quick": options.quick, "figures": [one.form() for one in found]}
        print(orjson.dumps(form, option=orjson.OPT_INDENT_2).decode())
        return 0
    print(figures.table(found))
    reached = sum(one.reached for one in found)
    print(f"\n{reached} of {len(found)} figures reached, in {time.monotonic() - begun:.0f} s; {machine()}")
    return 0


def machine() -> str:
    """What ran this: interpreter, system, processor."""
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), processor)
    except OSError:
        pass  # another system than Linux
    return f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} x {processor}"


if __name__ == "__main__":
    sys.exit(main())
