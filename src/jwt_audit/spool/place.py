"""Whose directory a spool is in. Below a directory that everybody may write, anybody may have made it first."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import SpoolError


def check_owner(root: Path) -> None:
    """Raises SpoolError where a part of the path lies in a shared directory, such as /tmp, and is somebody else's:
    that user could read, replace and remove what is written there. Raises OSError.
    """
    for part in (root, *root.parents):
        above = part.parent.stat().st_mode
        if not (above & stat.S_IWOTH and above & stat.S_ISVTX) or part == part.parent:
            continue
        owner = part.lstat().st_uid
        if owner not in (os.geteuid(), 0):
            raise SpoolError(f"the spool {root} is not safe: {part} was made by another user (uid {owner})")
