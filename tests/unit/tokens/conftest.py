"""Sources of keys: started by a test, stopped behind it, and what they tell the operator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jwt_audit.tokens.keys import KeySource
from support.issuer import Start, Told


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a source, and closes it at the end."""
    started: list[KeySource] = []

    def start(source: KeySource) -> KeySource:
        source.start()
        started.append(source)
        return source

    yield start
    for source in started:
        source.close()
