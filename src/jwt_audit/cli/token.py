"""``jwt-audit token``: what would be made of a token under the configuration of this environment."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import click
import orjson

from .. import attributes as attr
from ..identity.caller import ABSENT, UNDECIDED, Identity, Reason, refused
from ..request import Request
from ..settings.config import Config
from ..settings.environment import load
from ..settings.issuer import BEARER
from ..tokens.explain import Mismatch, hints, instead_of, mismatches
from ..tokens.extract import Presented, Sources
from ..tokens.issuers import Issuers, KeyRing, make_issuers
from ..tokens.jws import Jws, TokenRefusedError, parse, unfit
from ..tokens.mapping import Mapped, mapped
from ..tokens.verify import TokenVerifier, Verdict
from .quantities import moment_of

MAX_INPUT = 2**20
"""Bytes that are read of standard input."""
KEYS_SECONDS = 10.0
"""How long the keys are waited for."""

WHY = {
    Reason.MALFORMED: "it is no JWT as RFC 7519 writes them: base64, JSON or the number of its parts is wrong",
    Reason.TOO_LARGE: "it is longer than what is parsed",
    Reason.UNSUPPORTED_TOKEN: "it is no signed JWT, or not under the scheme Bearer",
    Reason.ALGORITHM_NOT_ALLOWED: "its algorithm is not among those that the issuer and the key allow",
    Reason.UNKNOWN_KEY: "the issuer's keys have none that it may be signed with",
    Reason.KEYS_UNAVAILABLE: "there are no keys to verify it with; the app's own verification may still count",
    Reason.SIGNATURE_MISMATCH: "its signature is by none of the issuer's keys: it is forged, or the keys are another's",
    Reason.EXPIRED: "its time is over; all else holds",
    Reason.NOT_YET_VALID: "its time has not come; all else but its claims holds",
    Reason.ISSUER_MISMATCH: "no issuer is configured for its iss, from this source",
    Reason.AUDIENCE_MISMATCH: "it is meant for another audience",
    Reason.TYPE_MISMATCH: "its typ says that it is no token of the wanted kind",
    Reason.CLAIM_MISSING: "a claim is missing, or of a type that it cannot have",
    Reason.CRITICAL_HEADER: "its header asks for an extension that nobody here understands",
    Reason.MULTIPLE_TOKENS: "there are several different tokens",
    Reason.REJECTED_BY_APP: "the app refused it",
}


@click.group(short_help="Say what would be verified and recorded of a token.")
def token() -> None:
    """Look at a token."""


@token.command(short_help="Say what would be verified, why not, and what would be recorded.")
@click.option("--header", metavar="NAME", help="The header that it came in; Authorization by default.")
@click.option("--at", metavar="TIME", help="Verify as of then: ISO 8601, or seconds since the epoch.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(header: str | None, at: str | None, as_json: bool) -> None:
    """Read a token from standard input and say what would be verified, why not, and what would be recorded.

    The configuration is that of the environment, as the app has it. The token itself is never shown.

    \b
      jwt-audit token inspect < token.txt

    \b
    Exit status 0  the token was looked at, whatever is thought of it
                2  wrong usage
    """
    now = time.time if at is None else _clock(at)
    text = sys.stdin.buffer.read(MAX_INPUT).decode("latin-1").strip()
    config, problems = load()
    for problem in problems:
        _warn_operator(str(problem))
    ring = KeyRing(warn_operator=_warn_operator, http_hosts=config.http_hosts)
    issuers = make_issuers(config.issuers, ring, _warn_operator) if config.token_settings_ok else None
    sources = Sources((*config.sources, *(() if issuers is None else issuers.token_sources)))
    presented = sources.present(_request(header, text, sources.names))
    verdict = _judged(presented, config, issuers, now)
    why = _explained(presented, verdict, config, issuers)
    if as_json:
        click.echo(orjson.dumps(_as_json(verdict, why), option=orjson.OPT_INDENT_2).decode())
    else:
        _show(verdict, why, presented, sources)


def _warn_operator(message: str, **_: object) -> None:
    click.echo(message, err=True)


def _clock(text: str) -> Callable[[], float]:
    try:
        seconds = float(text)
    except ValueError:
        moment = moment_of(text)
        if moment is None:
            raise click.BadParameter("write it as 2026-11-25T12:00:00Z, or in seconds", param_hint="--at") from None
        seconds = moment / 1e9
    if not math.isfinite(seconds):
        raise click.BadParameter("it is no time", param_hint="--at")
    return lambda: seconds


class _One:
    """The headers of a request that has just this one."""

    def __init__(self, name: str, value: str) -> None:
        self._name, self._value = name, value

    def every(self) -> tuple[str, ...]:
        return (self._value,)

    def named(self, name: str) -> tuple[str, ...]:
        return (self._value,) if name == self._name else ()


def _request(header: str | None, text: str, sources: tuple[str, ...]) -> Request:
    """A request with ``text`` in this header; a bare token is written as it stands there."""
    name, value = _header(header, text, sources)
    request = Request(kind="http", method="GET", path="/", started=0, clock=0, request_id="inspect")
    request.headers = _One(name, value)
    request.authorization = request.headers.named("authorization")
    return request


def _header(given: str | None, text: str, sources: tuple[str, ...]) -> tuple[str, str]:
    kind, _, named = (given or BEARER).partition(":")
    name = {BEARER: "authorization", "websocket": "sec-websocket-protocol", "header": named, "cookie": "cookie"}.get(
        kind.lower(), kind
    )
    name = name.strip().lower()
    bare = unfit(text) is None
    if name == "authorization" and f"header:{name}" not in sources and " " not in text:
        return name, f"Bearer {text}"
    if name == "cookie" and (named or bare):
        cookies = [source.partition(":")[2] for source in sources if source.startswith("cookie:")]
        return name, f"{named or next(iter(cookies), '')}={text}"
    if name == "sec-websocket-protocol" and bare:
        return name, f"bearer, {text}"
    return name, text


def _judged(presented: Presented, config: Config, issuers: Issuers | None, now: Callable[[], float]) -> Verdict:
    def without_keys(identity: Identity) -> Verdict:
        return Verdict(identity, None, None, None, presented.source, now())

    if presented.token is None:
        return without_keys(presented.identity or ABSENT)
    if issuers is None:
        return without_keys(UNDECIDED if config.token_settings_ok else refused(Reason.KEYS_UNAVAILABLE))
    verifier = TokenVerifier(issuers, now=now, privacy=config.privacy)
    try:
        until = time.monotonic() + KEYS_SECONDS
        verifier.wait_ready(KEYS_SECONDS)
        verdict = verifier.explain(presented.token, presented.source)
        while verifier.undecided(verdict.identity) and time.monotonic() < until:
            time.sleep(0.02)
            verdict = verifier.explain(presented.token, presented.source)
        return verdict
    finally:
        verifier.close()


class _Why(NamedTuple):
    """What does not fit, what is known of such tokens, and what each mapping of CLAIMS would give."""

    mismatches: list[Mismatch]
    hints: list[str]
    mappings: list[Mapped]


def _explained(presented: Presented, verdict: Verdict, config: Config, issuers: Issuers | None) -> _Why:
    try:
        jws = parse(presented.token or "")
    except TokenRefusedError:
        return _Why([], [], [])
    found = [] if issuers is None else mismatches(jws, verdict, issuers)
    return _Why(found, hints(jws, verdict, found), _mappings(jws, verdict, config))


def _mappings(jws: Jws, verdict: Verdict, config: Config) -> list[Mapped]:
    """What is mapped once the token's signature holds, or the app's own verification says so."""
    if verdict.issuer is not None and (verdict.identity.verified or verdict.identity.reason is Reason.EXPIRED):
        mapping = verdict.issuer.settings.claims
    elif verdict.identity is UNDECIDED:
        mapping = config.env_issuer.claims
    else:
        return []
    try:
        given = list(mapped(jws.payload, mapping))
    except RecursionError:  # refused for it as well
        return []
    meant = [instead_of(one.claim, jws.payload) for one in given]
    return [
        one if pointer is None else one._replace(why=f"{one.why}; {pointer} would be one")
        for one, pointer in zip(given, meant, strict=True)
    ]


def _as_json(verdict: Verdict, why: _Why) -> dict[str, object]:
    identity, issuer = verdict.identity, verdict.issuer
    return {
        "status": identity.status.value,
        "error": identity.audit.get(attr.JWT_ERROR),
        "issuer_config": None if issuer is None else issuer.settings.label,
        "attributes": dict(identity.audit),
        "actor": {"id": identity.actor_id, "type": identity.actor.value},
        "mismatches": [{"what": one.what, "found": one.found, "wanted": one.wanted} for one in why.mismatches],
        "hints": why.hints,
        "mappings": [
            {
                "claim": one.claim.name,
                "attribute": one.attribute,
                "recorded": "no" if one.value is None else "all" if one.digest is None else "part",
                "why": one.why,
            }
            for one in why.mappings
        ],
    }


def _show(verdict: Verdict, why: _Why, presented: Presented, sources: Sources) -> None:
    identity, issuer = verdict.identity, verdict.issuer
    reason = identity.audit.get(attr.JWT_ERROR)
    click.echo(f"{identity.status.value}{'' if reason is None else f': {reason}'}")
    if reason is not None:
        click.echo(f"  {WHY[Reason(str(reason))]}")
    elif presented.token is None:
        click.echo(f"  nothing that may be a token is in {', '.join(sources.names)}")
    for one in why.mismatches:
        click.echo(f"  {one.what} of the token: {', '.join(one.found) or 'none'}")
        click.echo(f"  {one.what} wanted:       {', '.join(one.wanted) or 'none'}")
    for hint in why.hints:
        click.echo(f"  hint: {hint}")
    if presented.token is not None:
        rules = "no issuer" if issuer is None else issuer.settings.label
        click.echo(f"  from {presented.source}, judged by the rules of {rules}")
    click.echo(f"actor {identity.actor_id} ({identity.actor.value})")
    click.echo("in the audit record, of the token:")
    for name, value in identity.audit.items():
        click.echo(f"  {name} = {', '.join(value) if isinstance(value, list) else value}")
    lost = [one for one in why.mappings if one.why is not None]
    if lost:
        click.echo("claims that give nothing, or not all that they hold:")
    for mapping in lost:
        given = "nothing" if mapping.value is None else "a part"
        click.echo(f"  {mapping.claim.name} -> {mapping.attribute}: {given}: {mapping.why}")
