"""A large request is read record by record, and gives exactly what reading it whole would."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwt_audit.sources import cut as cutting
from jwt_audit.sources.cut import cut, records

TEXTS = st.text(alphabet='{"}],timeUnixNano:logRecords\\ é\n', max_size=60)
VALUES = st.one_of(TEXTS, st.integers(-(2**63), 2**64 - 1), st.lists(TEXTS, max_size=2))


def request(*groups: list[dict[str, Any]], resource: str = "r") -> bytes:
    """A request with one resource for each group of records."""
    return orjson.dumps(
        {
            "resourceLogs": [
                {
                    "resource": {"attributes": [{"key": "name", "value": {"stringValue": f"{resource}{index}"}}]},
                    "scopeLogs": [{"scope": {}, "logRecords": list(group)}],
                }
                for index, group in enumerate(groups)
            ]
        }
    )


def record(number: int, **more: Any) -> dict[str, Any]:
    return {"timeUnixNano": str(number), "body": {"stringValue": "x" * 400}, **more}


def read(raw: bytes) -> list[tuple[dict[str, Any], Any]]:
    """The records, each with its resource."""
    found = cut(raw)
    assert found is not None
    return [(record, group["resource"]) for record, group, _ in found.records()]


def whole(raw: bytes) -> list[tuple[dict[str, Any], Any]]:
    return [(record, group["resource"]) for record, group, _ in records(orjson.loads(raw))]


LARGE = [record(number) for number in range(200)]


def test_a_large_request_is_cut() -> None:
    """As the sink and the Collector write it; a small one, or another signal's, is parsed whole."""
    raw = request(LARGE)
    assert read(raw + b"\n") == whole(raw)
    assert cut(request(LARGE[:10])) is None
    assert cut(raw.replace(b"logRecords", b"spans")) is None
    assert cut(request([record(1, logRecords=[]), *LARGE])) is None


NAMES = TEXTS.filter(lambda name: name != "logRecords")  # such a request is parsed whole: see the first test


@given(st.lists(st.tuples(TEXTS, st.dictionaries(NAMES, VALUES, max_size=3)), min_size=1))
def test_what_is_cut_is_what_is_there(parts: list[tuple[str, dict[str, Any]]]) -> None:
    """Whatever stands in the strings, quotation marks, braces and the mark itself among it."""
    made = [{"timeUnixNano": time, **more} for time, more in parts]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cutting, "_MIN_BYTES", 0)
        raw = request(made)
        assert read(raw) == whole(raw)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(request([*LARGE[:3], {"body": {}}, *LARGE[3:]]), id="a record without a time among them"),
        pytest.param(request([*LARGE, {"severityNumber": 9}]), id="at the end"),
        pytest.param(request([record(1, nested={"list": [record(2), record(3)]}), *LARGE]), id="such objects in one"),
    ],
)
def test_what_was_cut_wrongly_is_read_whole(raw: bytes) -> None:
    """Nothing is lost, nothing comes twice, and each record keeps its resource."""
    assert read(raw) == whole(raw)


def test_a_broken_record_ends_it() -> None:
    """What stands before it has been read; the rest is said to be unreadable."""
    raw = request(LARGE).replace(b'{"timeUnixNano":"7"', b'{"timeUnixNano":7"')
    found = cut(raw)
    assert found is not None
    taken: list[Any] = []
    with pytest.raises(ValueError, match="unexpected character"):
        taken.extend(found.records())
    reread = cut(raw)
    assert reread is not None
    assert [next(one)[0] for one in [reread.records()] for _ in range(7)] == LARGE[:7]


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(request(LARGE)[:-3], id="cut off at the end"),
        pytest.param(request(LARGE)[1:], id="cut off at the start"),
        pytest.param(request(LARGE) + request(LARGE), id="two on one line"),
        pytest.param(request(LARGE)[:50] + request(LARGE), id="a torn one before it"),
        pytest.param(request(LARGE[:100], LARGE[100:]), id="two resources"),
        pytest.param(request([{"x": 1}, *LARGE]), id="the first record begins otherwise"),
        pytest.param(request(LARGE).replace(b"resourceLogs", b"other"), id="no logs"),
        pytest.param(b"x" * 100_000, id="rubbish"),
    ],
)
def test_what_is_no_single_request_is_not_cut(raw: bytes) -> None:
    """The reader of values deals with it: nothing of it may have been taken by then."""
    assert cut(raw) is None
