"""Gives a request its identity: finds the token, has it verified, waits a moment where that may help.

Invariant: a request waits only while keys that may change its own token's verdict are being read, and
for a bounded time; on an event loop it gives way meanwhile.
"""

from __future__ import annotations

import asyncio
import time

from jwt_audit.identity.caller import ABSENT, UNDECIDED, Identity, Reason, refused
from jwt_audit.request import Request
from jwt_audit.tokens.extract import Presented, Sources
from jwt_audit.tokens.observation import Observation
from jwt_audit.tokens.verify import TokenVerifier

from .waiting import on_asyncio

POLL_SECONDS = 0.01
"""How often a request that waits looks whether the keys are there."""


class Identifier:
    """Our own verification with configured keys, and the observation of the app's. Safe for threads.

    ``verifier`` is None without keys of ours, ``observation`` where what the app does shall not count.
    """

    def __init__(self, sources: Sources, verifier: TokenVerifier | None, observation: Observation | None) -> None:
        self._sources = sources
        self._verifier = verifier
        self.observation = observation

    def begin(self, request: Request) -> Presented | None:
        """Set the request's identity; or, where keys that are just being read may decide, give what to `decide`."""
        presented = self._sources.present(request)
        verifier = self._verifier
        if presented.token is None:
            request.identify(presented.identity or ABSENT)
        elif verifier is None:
            request.identify(refused(Reason.KEYS_UNAVAILABLE) if self.observation is None else UNDECIDED)
        else:
            identity = verifier.verify(presented.token, presented.source)
            if identity.reason is not None and verifier.undecided(identity):
                return presented
            self._judge(request, identity)
        return None

    def decide(self, request: Request, presented: Presented) -> None:
        """`begin` again until it is decided; in a thread that serves one request."""
        while (identity := self._verdict(presented)) is None:
            time.sleep(POLL_SECONDS)
        self._judge(request, identity)

    async def decide_async(self, request: Request, presented: Presented) -> None:
        """`decide` that holds no event loop of asyncio; any other kind of loop it has to hold."""
        if not on_asyncio():
            self.decide(request, presented)
            return
        while (identity := self._verdict(presented)) is None:  # noqa: ASYNC110 - keys are read by a thread, rarely
            await asyncio.sleep(POLL_SECONDS)
        self._judge(request, identity)

    def close(self) -> None:
        """Stop reading keys."""
        if self._verifier is not None:
            self._verifier.close()

    def after_fork(self) -> None:
        """In a forked child: threads and locks of its own."""
        if self._verifier is not None:
            self._verifier.after_fork()
        if self.observation is not None:
            self.observation.after_fork()

    def _verdict(self, presented: Presented) -> Identity | None:
        if self._verifier is None or presented.token is None:
            return ABSENT
        identity = self._verifier.verify(presented.token, presented.source)
        return None if self._verifier.undecided(identity) else identity

    @staticmethod
    def _judge(request: Request, identity: Identity) -> None:
        request.identify(identity)
        request.judged = True
