"""What unit tests of several rooms start with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.audited import Audited, auditing


@pytest.fixture
def audited(tmp_path: Path) -> Iterator[Audited]:
    """Boundaries and stamps in place, over a spool of the test's own."""
    with auditing(tmp_path) as made:
        yield made
