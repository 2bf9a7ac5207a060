"""A request under way, whose identity the stamps put on what happens in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jwt_audit.request import Request
from opentelemetry.instrumentation.jwt_audit.hooks import boundary
from support.audited import ALICE, Audited, under_way


@pytest.fixture
def request_(audited: Audited) -> Iterator[Request]:
    """Alice's, begun in the context that the test runs in."""
    made = boundary.new_request("http", "GET", "/", None)
    made.identify(ALICE)
    with under_way(made):
        yield made
