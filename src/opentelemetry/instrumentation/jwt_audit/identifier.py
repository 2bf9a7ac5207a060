"""Gives a request its identity: finds the token, has it verified, and waits a moment for keys where that may help.

Invariant: a request waits only while keys that may change the verdict on its own token are being read, and for a
bounded time. On asyncio other tasks run meanwhile.
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
"""The interval at which a waiting request checks whether the keys are there."""


class Identifier:
    """Our own verification with configured keys, and the observation of the app's. Safe for threads.

    ``verifier`` is None without configured keys, ``observation`` is None where the app's own verification must not
    count.
    """

    def __init__(self, sources: Sources, verifier: TokenVerifier | None, observation: Observation | None) -> None:
        self._sources = sources
        self._verifier = verifier
        self.observation = observation

    def begin(self, request: Request) -> Presented | None:
        """Set the request's identity. If keys that are being read may change it, return what `decide` takes instead."""
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
        """Verify again until the keys are read. Blocks the thread."""
        while (identity := self._verdict(presented)) is None:
            time.sleep(POLL_SECONDS)
        self._judge(request, identity)

    async def decide_async(self, request: Request, presented: Presented) -> None:
        """`decide` that does not block an asyncio event loop; it blocks any other kind of loop."""
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
