"""Whose request a verified token belongs to, and which of several tells who makes it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from jwt_audit.identity.caller import ABSENT, Identity, Reason, Status, refused
from jwt_audit.request import Phase, Request, in_flight
from jwt_audit.tokens.extract import Sources
from jwt_audit.tokens.observation import MAX_SEEN, Observation, token_text
from jwt_audit.tokens.observed import Verification
from support.headers import request_with

ALICE, BOB, OLD = "eyJ0.eyJhbGljZQ.c2ln", "eyJ0.eyJib2I.c2ln", "eyJ0.eyJvbGQ.c2ln"


def judge(seen: Verification) -> Identity | None:
    """Stands for the rules: the tokens above say who they are, a refusal its reason."""
    if not seen.signed:
        return None
    if seen.reason is not None:
        return refused(seen.reason)
    return Identity(Status.VERIFIED, subject={ALICE: "alice", BOB: "bob", OLD: "old"}.get(seen.token, "other"))


@pytest.fixture(autouse=True)
def _nothing_in_flight() -> Iterator[None]:
    in_flight.clear()
    yield
    in_flight.clear()


def request(*headers: str, flying: bool = True) -> Request:
    made = request_with(*(("x", value) for value in headers))
    if flying:
        in_flight.add(made)
    return made


def ok(token: str) -> Verification:
    return Verification(token, True)


def bad(token: str, reason: Reason = Reason.SIGNATURE_MISMATCH) -> Verification:
    return Verification(token, True, (), reason)


OBSERVATION = Observation(judge)


@pytest.mark.parametrize(
    "header",
    [
        f"Bearer {ALICE}",
        f"JWT {ALICE}",
        ALICE,
        f"a=b; access_token_cookie={ALICE}; c=d",
        f'session="Bearer%20{ALICE}"',
        f"bearer, {ALICE}",
        f"Bearer {ALICE}, Bearer {BOB}",
        f"x{ALICE} {ALICE}",
    ],
)
def test_a_token_in_any_header_value_belongs_to_the_request(header: str) -> None:
    """Bearer, another scheme, a header of its own, cookies, WebSocket's subprotocols, joined headers."""
    here = request("text/html", header)
    OBSERVATION.saw(here, ok(ALICE))
    assert here.identity.subject == "alice"


@pytest.mark.parametrize(
    "header", ["", "Bearer", f"Bearer {BOB}", f"Bearer {ALICE}x", f"Bearer x{ALICE}", f"{ALICE}.x"]
)
def test_a_token_from_elsewhere_does_not(header: str) -> None:
    """A body, a query, a part of another token: nothing changes."""
    here = request(header)
    OBSERVATION.saw(here, ok(ALICE))
    OBSERVATION.saw(here, ok(""))
    OBSERVATION.saw(here, bad(ALICE))
    assert here.identity is ABSENT


def test_without_a_verdict_nothing_changes() -> None:
    """A token that the app only looked into."""
    here = request(f"Bearer {ALICE}")
    OBSERVATION.saw(here, Verification(ALICE, False))
    assert here.identity is ABSENT
    assert not here.observed


def test_a_success_beats_earlier_and_later_failures() -> None:
    """Apps try one key after the other."""
    here = request(f"Bearer {ALICE}")
    OBSERVATION.saw(here, bad(ALICE))
    assert here.identity.reason is Reason.SIGNATURE_MISMATCH
    OBSERVATION.saw(here, ok(ALICE))
    OBSERVATION.saw(here, bad(ALICE))
    assert here.identity.subject == "alice"


def test_of_failures_the_one_with_the_right_key_says_more() -> None:
    """Under another key the signature cannot hold; under the right one the token has expired."""
    for reasons in ((Reason.SIGNATURE_MISMATCH, Reason.EXPIRED), (Reason.EXPIRED, Reason.UNKNOWN_KEY)):
        here = request(f"Bearer {ALICE}")
        for reason in reasons:
            OBSERVATION.saw(here, bad(ALICE, reason))
        assert here.identity.status is Status.EXPIRED


@pytest.mark.parametrize("order", [(ALICE, BOB), (BOB, ALICE)])
def test_of_two_people_the_one_whose_token_came_first_counts(order: tuple[str, str]) -> None:
    """In the headers, not in time."""
    for headers in ((f"Bearer {ALICE}", f"id={BOB}"), (f"a={ALICE}; b={BOB}",)):
        here = request(*headers)
        for token in order:
            OBSERVATION.saw(here, ok(token))
        assert here.identity.subject == "alice"


@pytest.mark.parametrize(
    ("sources", "person"),
    [
        (["bearer"], "bob"),
        (["bearer", "cookie:share"], "bob"),
        (["cookie:share", "bearer"], "alice"),
        (["cookie:other", "header:x-other", "websocket"], "alice"),
        (["header:x-id", "bearer"], "old"),
    ],
)
def test_of_two_people_the_one_in_the_first_source_counts(sources: list[str], person: str) -> None:
    """The order of headers is the caller's choice: a token that he may have of somebody (a share link's, an
    invitation's) says nothing of who he is by standing first."""
    headers = [("Cookie", f"a=b; share={ALICE}"), ("Authorization", f"Bearer {BOB}"), ("X-Id", OLD)]
    for order in itertools.permutations((ALICE, BOB, OLD)):
        here = request_with(*headers)
        observation = Observation(judge, Sources(sources))
        for token in order:
            observation.saw(here, ok(token))
        assert here.identity.subject == person


def test_a_token_is_judged_by_where_it_stands() -> None:
    """The rules are told its source; beside others in it too, and nothing where that is none of them."""
    sources = Sources(["bearer", "header:x-token", "cookie:session", "websocket"])
    seen: list[str] = []

    def judging(verification: Verification) -> None:
        seen.append(verification.source)

    for headers, source in (
        ((("Authorization", f"Bearer {BOB}, Bearer {ALICE}"),), "bearer"),
        ((("Authorization", f"JWT {ALICE}"),), "bearer"),
        ((("X-Token", ALICE), ("Authorization", f"Bearer {BOB}")), "header:x-token"),
        ((("Cookie", f'a=b; session="{ALICE}"'),), "cookie:session"),
        ((("Cookie", f"session={BOB}; other={ALICE}"),), ""),
        ((("Sec-WebSocket-Protocol", f"bearer, {ALICE}"),), "websocket"),
        ((("X-Other", ALICE),), ""),
    ):
        Observation(judging, sources).saw(request_with(*headers), ok(ALICE))
        assert seen.pop() == source
    assert seen == []


def test_a_success_beats_the_failure_of_a_token_that_came_first() -> None:
    """An old cookie before a good bearer token."""
    for order in ((bad(OLD), ok(BOB)), (ok(BOB), bad(OLD))):
        here = request(f"old={OLD}", f"Bearer {BOB}")
        for seen in order:
            OBSERVATION.saw(here, seen)
        assert here.identity.subject == "bob"


def test_out_of_context_the_token_finds_its_request() -> None:
    """In another thread, in no context, or in that of another request."""
    alice, bob = request(f"Bearer {ALICE}"), request(f"Bearer {BOB}")
    OBSERVATION.saw(None, ok(ALICE))
    OBSERVATION.saw(alice, ok(BOB))
    assert (alice.identity.subject, bob.identity.subject) == ("alice", "bob")
    gone = request(f"Bearer {OLD}", flying=False)
    OBSERVATION.saw(None, ok(OLD))
    assert gone.identity is ABSENT


def test_out_of_context_a_token_of_several_requests_counts_for_those_that_show_no_other() -> None:
    """A request that carries another's token beside its own is not taken for the other's."""
    mine, again = request(f"Bearer {ALICE}"), request("gzip", f"jwt={ALICE}")
    guest = request(ALICE, f"Bearer {BOB}")
    OBSERVATION.saw(None, ok(ALICE))
    assert [one.identity.subject for one in (mine, again, guest)] == ["alice", "alice", None]


@pytest.mark.parametrize("phase", [Phase.CLOSING, Phase.DONE])
def test_what_comes_after_the_record_changes_nothing(phase: Phase) -> None:
    """The record is written: spans and logs of afterwards shall not contradict it."""
    here = request(f"Bearer {ALICE}")
    here.phase = phase
    OBSERVATION.saw(here, ok(ALICE))
    assert here.identity is ABSENT


def test_a_verdict_of_our_own_stands() -> None:
    """With keys configured, the app's opinion of the same request is not asked."""
    here = request(f"Bearer {ALICE}")
    here.identify(refused(Reason.ISSUER_MISMATCH))
    here.judged = True
    OBSERVATION.saw(here, ok(ALICE))
    assert here.identity.reason is Reason.ISSUER_MISMATCH


def test_where_our_own_verdict_stands_nothing_is_looked_for() -> None:
    """With keys configured, an app that verifies too costs next to nothing."""
    asked: list[Verification] = []

    def never(seen: Verification) -> None:
        asked.append(seen)

    here = request(f"Bearer {ALICE}")
    Observation(never).saw(here, ok(ALICE))
    assert len(asked) == 1
    here.judged = True
    Observation(never).saw(here, ok(ALICE))
    assert len(asked) == 1


def test_a_later_validation_has_the_last_word() -> None:
    """joserfc and Authlib decode first and validate the claims after, also under several policies."""
    here = request(f"Bearer {ALICE}")
    claims = {"sub": "alice", "aud": "other"}
    OBSERVATION.saw(here, ok(ALICE), claims)
    assert here.identity.subject == "alice"
    OBSERVATION.validated(here, dict(claims), Reason.AUDIENCE_MISMATCH)
    assert here.identity.reason is Reason.AUDIENCE_MISMATCH
    OBSERVATION.validated(None, claims, None)
    assert here.identity.subject == "alice"
    OBSERVATION.validated(here, {"sub": "mallory"}, Reason.EXPIRED)
    OBSERVATION.validated(request(f"Bearer {BOB}"), {}, Reason.EXPIRED)
    assert here.identity.subject == "alice"


def test_claims_are_recognised_though_another_library_came_first() -> None:
    """An app may decode by two libraries: the claims of the second are validated."""
    here = request(f"Bearer {ALICE}")
    OBSERVATION.saw(here, ok(ALICE))
    OBSERVATION.saw(here, ok(ALICE), {"sub": "alice"})
    OBSERVATION.validated(here, {"sub": "alice"}, Reason.AUDIENCE_MISMATCH)
    assert here.identity.reason is Reason.AUDIENCE_MISMATCH


def test_a_refused_token_makes_room_for_the_next() -> None:
    """Of two accepted tokens the first was refused by its validation: the second tells who it is."""
    here = request(f"Bearer {ALICE}", f"Bearer {BOB}")
    OBSERVATION.saw(here, ok(ALICE), {"sub": "alice"})
    OBSERVATION.saw(here, ok(BOB), {"sub": "bob"})
    OBSERVATION.validated(here, {"sub": "alice"}, Reason.EXPIRED)
    assert here.identity.subject == "bob"


def test_a_flood_of_tokens_in_one_request_is_bounded() -> None:
    """Only so many are told apart, and the first of them keeps its place."""
    tokens = [ALICE, *(f"eyJ0.eyJ{number:04}.c2ln" for number in range(100))]
    here = request(*tokens)
    for token in tokens:
        OBSERVATION.saw(here, ok(token))
    assert len(here.observed) == MAX_SEEN
    assert here.identity.subject == "alice"


def test_a_finished_request_holds_no_token() -> None:
    """Neither its headers nor what was seen of them."""
    here = request(f"Bearer {ALICE}")
    here.authorization = (f"Bearer {ALICE}",)
    OBSERVATION.saw(here, ok(ALICE))
    here.forget()
    left: list[object] = [here.authorization, here.headers, here.observed, here.phase]
    assert left == [(), None, None, Phase.DONE]
    assert here.identity.subject == "alice"


def test_the_text_of_a_token() -> None:
    """Libraries take text and bytes; what is neither, or not ASCII, is no token."""
    assert [token_text(value) for value in (ALICE, ALICE.encode(), b"\xff", None, 17)] == [
        ALICE,
        ALICE,
        None,
        None,
        None,
    ]
