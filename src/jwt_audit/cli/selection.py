"""Which records a command shows: whose, with which status, where, what, and when."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import click

from ..sources.seen import Seen
from .quantities import moment_of, seconds_of
from .rows import TOKEN_WORDS, Row, is_shown, row


@dataclass(frozen=True, slots=True)
class Selection:
    """Each of these that is given has to hold; of several values of one, any. Times are nanoseconds since the epoch."""

    users: frozenset[str] = frozenset()
    sessions: frozenset[str] = frozenset()
    codes: frozenset[int] = frozenset()
    words: frozenset[str] = frozenset()
    paths: tuple[str, ...] = ()
    actions: frozenset[str] = frozenset()
    since: int = 0
    until: int | None = None
    everything: bool = False

    def rows(self, found: Iterable[Seen]) -> Iterator[Row]:
        """The rows of what is wanted, in their order."""
        for seen in found:
            if is_shown(seen, everything=self.everything) and self._in_time(seen) and self._wants(one := row(seen)):
                yield one

    def _in_time(self, seen: Seen) -> bool:
        return self.since <= seen.time and (self.until is None or seen.time <= self.until)

    def _wants(self, one: Row) -> bool:
        return (
            (not self.users or one.user in self.users)
            and (not self.sessions or one.session in self.sessions)
            and (not (self.codes or self.words) or one.status in self.codes or one.token in self.words)
            and (not self.actions or one.action.upper() in self.actions)
            and (not self.paths or any(_matches(rule, one) for rule in self.paths))
        )


def _matches(rule: str, one: Row) -> bool:
    """An exact path, the route as it is declared, or with ``/*`` at the end all that is below."""
    if rule.endswith("/*"):
        return one.path is not None and one.path.startswith(rule[:-1])
    return rule in (one.path, one.route)


def selection(
    *,
    user: Sequence[str],
    session: Sequence[str],
    status: Sequence[str],
    path: Sequence[str],
    action: Sequence[str],
    since: str | None,
    until: str | None,
    everything: bool,
) -> Selection:
    """What the options of these names say. Raises BadParameter."""
    return Selection(
        users=frozenset(user),
        sessions=frozenset(session),
        codes=frozenset(code for one in status for code in _codes(one)),
        words=frozenset(one for one in status if one in TOKEN_WORDS),
        paths=tuple(map(_rule, path)),
        actions=frozenset(one.upper() for one in action),
        since=0 if since is None else _moment(since, "--since"),
        until=None if until is None else _moment(until, "--until"),
        everything=everything,
    )


def _codes(word: str) -> Iterable[int]:
    if len(word) == 3 and word.isascii() and word[0] in "12345":
        if word[1:] == "xx":
            return range(int(word[0]) * 100, int(word[0]) * 100 + 100)
        if word.isdigit():
            return (int(word),)
    if word in TOKEN_WORDS:
        return ()
    raise click.BadParameter(
        f"{word!r} is neither a response status such as 403 or 4xx nor one of {', '.join(TOKEN_WORDS)}",
        param_hint="'--status'",
    )


def _rule(path: str) -> str:
    if not path.startswith("/") or "*" in path.removesuffix("/*"):
        problem = f"{path!r} is neither a path or route such as /orders/{{id}} nor all below one, such as /orders/*"
        raise click.BadParameter(problem, param_hint="'--path'")
    return path


def _moment(word: str, option: str) -> int:
    """Nanoseconds since the epoch of a time, or of so long ago."""
    seconds = seconds_of(word)
    if seconds is not None:
        return int((time.time() - seconds) * 1e9)
    moment = moment_of(word)
    if moment is None:
        problem = f"{word!r} is not a valid time; write one such as 15m, 2h or 2026-11-25T12:00:00Z"
        raise click.BadParameter(problem, param_hint=f"'{option}'")
    return moment
