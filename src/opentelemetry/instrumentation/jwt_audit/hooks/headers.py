"""Reads headers that may be readable only once, so that whoever reads them next gets the same.

WSGI wants a list of tuples; ASGI allows any iterable, of pairs that may be any iterables. What we read of them is
left unchanged: our reading takes nothing from the app or the server that reads later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import wrapt

if TYPE_CHECKING:
    _Proxy = wrapt.ObjectProxy[Any]
else:
    _Proxy = wrapt.ObjectProxy  # generic only from wrapt 2 on

_PLAIN = frozenset((list, tuple))


def repeatable(headers: Any) -> tuple[Sequence[Any], Any]:
    """The pairs of ``headers``, to be read any number of times, and what to pass on in place of ``headers``.

    That is ``headers`` itself unless reading has used it up. What is not iterable has no pairs. Never raises.
    """
    if type(headers) in _PLAIN and _PLAIN.issuperset(map(type, headers)):
        return headers, headers
    pairs: list[Any] = []
    unread: list[Any] = []
    once = not isinstance(headers, (tuple, list))
    raised: Exception | None = None
    try:
        iterator = iter(headers)
    except Exception:
        return (), headers  # whoever has to read them gets the same error
    try:
        for pair in iterator:
            if isinstance(pair, (tuple, list)):
                pairs.append(pair)
                unread.append(pair)
            else:
                once = True
                pairs.append(tuple(pair))
                unread.append(iter(pairs[-1]))
    except Exception as error:
        once, raised = True, error
    if not once:
        return pairs, headers
    if iterator is headers:
        return pairs, _replay(unread, raised)
    return pairs, _Replayed(headers, unread, raised)


def _replay(unread: list[Any], raised: Exception | None) -> Iterator[Any]:
    yield from unread
    if raised is not None:
        raise raised


class _Replayed(_Proxy):
    """Headers that are iterable but not an iterator: the first iteration repeats ours; all else is the object's own."""

    def __init__(self, headers: Any, unread: list[Any], raised: Exception | None) -> None:
        super().__init__(headers)
        self._self_unread: Iterator[Any] | None = _replay(unread, raised)

    def __iter__(self) -> Iterator[Any]:
        unread, self._self_unread = self._self_unread, None
        return iter(self.__wrapped__) if unread is None else unread
