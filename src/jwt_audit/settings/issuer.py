"""One issuer as an operator describes it: plain values, checked, from the variables or from a table of the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .variables import PREFIX

VARIABLES = "variables"
"""The name of the issuer that the variables describe."""
KEY_PLACES = ("jwks", "discovery", "public_key", "secret_file")
"""What says where an issuer's keys are; of each issuer there is one of them."""
BEARER = "bearer"
"""The source of a token in the Authorization header."""


@dataclass(frozen=True)
class IssuerSettings:
    """What is said of one issuer. Of the four places of keys exactly one is set, unless ``broken``.

    ``name`` says where it was described. ``issuer`` is what ``iss`` must be: exactly, or with
    ``{tenantid}`` for the value of the token's claim ``tid``; None takes any. ``jwks`` is a URL (with
    ``{kid}``: one PEM key behind each) or a path, ``discovery`` the URL of the issuer's metadata. ``source``
    None takes tokens from every source. ``leeway`` is in seconds. ``claims`` pairs claim and
    attribute. ``tenant`` asks that the claim ``tid`` stands in ``iss``. ``audience_header`` names the
    member of the token's header that holds what ``aud`` holds elsewhere. ``required`` are claims without
    which a token counts for nothing, ``client`` the names of the claims that say which program it was
    made for. ``broken`` tables verify nothing.
    """

    name: str
    issuer: str | None = None
    jwks: str | None = None
    discovery: str | None = None
    public_key: Path | None = None
    secret_file: Path | None = None
    audience: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ()
    typ: str | None = None
    leeway: int = 10
    source: str | None = None
    padded: bool = False
    subject: tuple[str, ...] = ("sub", "user_id")
    session: tuple[str, ...] = ("sid", "session_id", "session_state", "jti")
    actor_type: str | None = None
    claims: tuple[tuple[str, str], ...] = ()
    preset: str | None = None
    tenant: bool = False
    audience_header: str | None = None
    required: tuple[str, ...] = ()
    client: tuple[str, ...] = ("azp", "client_id", "cid", "appid")
    broken: bool = False

    @property
    def key_places(self) -> list[str]:
        """Which of `KEY_PLACES` are said."""
        return [name for name in KEY_PLACES if getattr(self, name) is not None]

    @property
    def setting(self) -> str:
        """What the operator has to look at where the keys are wrong: the variable, or the table and its entry."""
        place = next(iter(self.key_places), "")
        return f"{PREFIX}{place.upper()}" if self.name == VARIABLES else f"{self.name} {place}".strip()

    @property
    def label(self) -> str:
        """What this issuer is called in answers: its issuer, else its preset, else where it was described."""
        return self.issuer or self.preset or self.name


WELL_KNOWN = "/.well-known/openid-configuration"


def discovery_url(issuer: str | None, given: str) -> str:
    """Where an issuer's metadata is (OpenID Connect Discovery 1.0, 4): ``given``, or below ``issuer`` for ``true``."""
    base = issuer or "" if given == "true" else given
    return base if "/.well-known/" in base else base.rstrip("/") + WELL_KNOWN
