"""Gets one batch to the receiver: sends it until it is acknowledged, or finds what in it is refused.

A refusal (400, 413, 422) can mean a bad record or a wrong endpoint: a server that speaks TLS answers
400 to every plain request. So a record is taken for bad only when the same receiver took something
else before: another part of the batch, or a request without records, which OTLP says it must accept.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..settings.variables import PREFIX
from .answers import Action, Answer, Decision, decide
from .batch import Batch, Item
from .deadletter import Parked
from .encode import Encoder
from .http import Endpoint, Poster
from .pause import Trouble, pause

MAX_REFUSALS = 16
"""So many refused parts with none taken and the receiver is not believed: that is no bad record."""

_WANTED_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that was made, for metrics: log records in it, bytes before compression, seconds it took."""

    records: int
    bytes: int
    seconds: float
    action: Action


class Stopping(Exception):  # noqa: N818 - it is no error: the shipper stops or gives way, and leaves the rest
    """Delivery was broken off by `Courier.stop`, or for another shipper; the cursor stays where it is."""


class Courier:
    """Delivers batches, one at a time."""

    def __init__(
        self,
        endpoint: Endpoint,
        encoder: Encoder,
        poster: Poster,
        dead_letter: Path,
        warn_operator: Callable[..., None],
        observe: Callable[[Attempt], None],
        wanted: Callable[[], bool],
    ) -> None:
        """``wanted`` says whether another process is to ship instead: then no failure is waited for."""
        self._encoder = encoder
        self._poster = poster
        self._dead_letter = dead_letter
        self._warn_operator = warn_operator
        self._observe = observe
        self._wanted = wanted
        self._receiver = endpoint.shown
        self._trouble = Trouble(f"{PREFIX}ENDPOINT: {endpoint.shown}", warn_operator)
        self._stopped = threading.Event()
        self._deadline = 0.0
        self._doubts = 0

    def stop(self, deadline: float) -> None:
        """From now on no failure is waited for; ``deadline`` in monotonic seconds."""
        self._deadline = deadline
        self._stopped.set()

    @property
    def stopping(self) -> bool:
        return self._stopped.is_set()

    @property
    def trouble(self) -> str | None:
        """Why nothing has been delivered for a while, as the operator was told; None while it goes on."""
        return self._trouble.told

    def deliver(self, stream_id: str, resource: bytes, batch: Batch) -> list[Parked] | None:
        """Return when each of ``batch`` is acknowledged or refused for good: these are to be parked.

        None, after a pause, where the receiver refuses everything and so is not believed; then nothing
        of it counts as delivered. Raises Stopping.
        """
        parked = [Parked(broken, broken.reason) for broken in batch.broken]
        if batch.items:
            refused, doubted = self._sort(resource, batch.items)
            if doubted is not None:
                self._doubts += 1
                self._wait(doubted, self._doubts)
                return None
            self._doubts = 0
            self._trouble.over()
            parked += refused
        if parked:
            self._warn_operator(
                f"{len(parked)} of stream {stream_id} cannot be delivered ({parked[0].reason}); "
                f"kept in {self._dead_letter}"
            )
        return parked

    def _sort(self, resource: bytes, items: list[Item]) -> tuple[list[Parked], Decision | None]:
        """Send ``items``, halved where they are refused: what is refused for good, or why that is doubted."""
        work, refused, early = [items], list[Parked](), list[list[Item]]()
        believed = False
        refusals = 0
        doubt: Decision | None = None
        while work:
            part = work.pop()
            answer, decision = self._exchange(resource, part)
            if decision.action is Action.ACK:
                believed = True
            else:
                refusals += 1
                doubt = Decision(Action.HOLD, f"{decision.reason}, whatever is sent")
                believed = believed or decision.action is not Action.SPLIT
                if len(part) == 1 and not believed:
                    early.append(part)
                elif len(part) == 1 or (decision.action is Action.REJECTED and (answer.rejected or 0) >= len(part)):
                    refused += [Parked(item, f"{self._receiver} {decision.reason}") for item in part]
                else:
                    middle = len(part) // 2
                    work += [part[middle:], part[:middle]]
                if not believed and refusals == 1:
                    believed = decide(self._post(self._encoder.empty, 0)).action is Action.ACK
            if believed:  # then also what was refused before is asked again: the receiver may have become well
                work, early = early + work, []
            elif refusals >= MAX_REFUSALS:
                break
        return (refused, None) if believed else ([], doubt)

    def _exchange(self, resource: bytes, items: list[Item]) -> tuple[Answer, Decision]:
        """Send until the receiver has taken or refused it. Raises Stopping."""
        body = self._encoder.request(resource, [item.fragment for item in items])
        attempt = 0
        while True:
            attempt += 1
            answer = self._post(body, len(items), attempt)
            decision = decide(answer, attempt)
            if decision.action not in (Action.RETRY, Action.HOLD):
                return answer, decision
            self._wait(decision, attempt)

    def _post(self, body: bytes, records: int, attempt: int = 1) -> Answer:
        timeout = None
        if self.stopping:
            timeout = self._deadline - time.monotonic()
            if timeout <= 0:
                raise Stopping
        started = time.monotonic()
        answer = self._poster.post(body, timeout=timeout)
        taken = time.monotonic() - started
        self._observe(Attempt(records, len(body), taken, decide(answer, attempt).action))
        return answer

    def _wait(self, decision: Decision, attempt: int) -> None:
        self._trouble.failed(decision)
        if self.stopping:
            raise Stopping  # one more attempt was made since: the receiver is away
        until = time.monotonic() + pause(decision, attempt)
        while (left := until - time.monotonic()) > 0:
            if self._wanted():
                raise Stopping
            if self._stopped.wait(min(left, _WANTED_SECONDS)):
                return
