"""System calls that fail as the kernel has them fail."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any


def failing(code: int = errno.EIO) -> Callable[..., Any]:
    """A system call that does nothing but fail."""

    def fail(*_: object, **__: object) -> Any:
        raise OSError(code, os.strerror(code))

    return fail
