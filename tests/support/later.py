"""A clock that is years ahead, for a process and all that it starts. Linux alone; needs a C compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
YEAR_SECONDS = 31_557_600


class MissingError(Exception):
    """What this needs is not on the machine; the text says what."""


def build(directory: Path) -> Path:
    """Compile the library that is preloaded into ``directory``. Raises MissingError."""
    if sys.platform != "linux":
        raise MissingError("a later clock needs Linux")
    compiler = shutil.which("cc")
    if compiler is None:
        raise MissingError("a later clock needs a C compiler (Debian: gcc and libc6-dev)")
    library = directory / "later.so"
    line = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(library), str(SOURCE)]
    subprocess.run(line, check=True)
    return library


def environment(library: Path, years: int) -> dict[str, str]:
    """This process's environment with the clock ``years`` ahead."""
    return os.environ | {
        "LD_PRELOAD": str(library),
        "LATER_BY": str(years * YEAR_SECONDS),
        "LATER_SINCE": str(int(time.time()) - 1),  # a file system's clock may be a tick behind
    }
