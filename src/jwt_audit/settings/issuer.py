"""The settings of one issuer: plain values, checked, from the variables or from a table of the file of issuers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..identity.caller import ActorType
from . import parsers, token_parsers
from .parsers import WrongValueError
from .variables import PREFIX, setting

VARIABLES = "variables"
"""The name of the issuer that the variables describe."""
KEY_PLACES = ("jwks", "discovery", "public_key", "secret_file")
"""The settings that say where an issuer's keys are; each issuer has exactly one of them."""
BEARER = "bearer"
"""The source of a token in the Authorization header."""


@dataclass(frozen=True)
class IssuerSettings:
    """What the operator says of one issuer. Exactly one of the four places of keys is set, unless ``broken``.

    ``name`` says where it is described. ``issuer`` is what ``iss`` must be: exactly, or with ``{tenantid}`` in
    the place of the token's claim ``tid``; None takes any ``iss``, or none. ``jwks`` is a URL (with ``{kid}``: one
    PEM key behind each) or a path, ``discovery`` the URL of the issuer's metadata (``true`` in a variable: that of
    ``issuer``). An empty ``audience`` takes any ``aud``; without ``algorithms`` those of the key are accepted.
    ``typ`` is the one media type that the header must name (``at+jwt``, RFC 9068). ``leeway`` is in seconds.
    ``subject`` and ``session`` are claims, of which the first that is present counts; ``claims`` pairs more claims
    with the attributes that they become. A claim is a name or a JSON Pointer (RFC 6901).

    The rest can only be said in a table of the file. ``source`` None takes tokens from every source. ``padded``
    allows base64 with its padding. ``actor_type`` holds for everybody whom the issuer knows. ``tenant`` demands that
    the claim ``tid`` is a part of ``iss``. ``audience_header`` names the member of the token's header that
    ``audience`` is compared with in place of ``aud``. A token without the ``required`` claims is not verified.
    ``client`` are the claims that name the program it was made for. With ``broken`` settings no token is verified.
    """

    name: str
    jwks: str | None = setting(token_parsers.jwks, about_tokens=True)
    discovery: str | None = setting(token_parsers.discovery, about_tokens=True)
    public_key: Path | None = setting(parsers.existing_file, about_tokens=True)
    secret_file: Path | None = setting(parsers.file_of_secret, about_tokens=True)
    issuer: str | None = setting(parsers.text, about_tokens=True)
    audience: tuple[str, ...] = setting(parsers.names, (), about_tokens=True)
    algorithms: tuple[str, ...] = setting(token_parsers.algorithms, (), about_tokens=True)
    typ: str | None = setting(parsers.text, about_tokens=True)
    leeway: int = setting(parsers.seconds, 10, about_tokens=True)
    subject: tuple[str, ...] = setting(parsers.names, ("sub", "user_id"), name="subject_claim", about_tokens=True)
    session: tuple[str, ...] = setting(
        parsers.names, ("sid", "session_id", "session_state", "jti"), name="session_claim", about_tokens=True
    )
    claims: tuple[tuple[str, str], ...] = setting(token_parsers.claims, ())
    source: str | None = None
    padded: bool = False
    actor_type: ActorType | None = None
    preset: str | None = None
    tenant: bool = False
    audience_header: str | None = None
    required: tuple[str, ...] = ()
    client: tuple[str, ...] = ("azp", "client_id", "cid", "appid")
    broken: bool = False

    @property
    def key_places(self) -> list[str]:
        """Which of `KEY_PLACES` are set."""
        return [name for name in KEY_PLACES if getattr(self, name) is not None]

    @property
    def location(self) -> str:
        """Where the operator has to look if the keys are wrong: the variable, or the table and its key."""
        place = next(iter(self.key_places), "")
        return f"{PREFIX}{place.upper()}" if self.name == VARIABLES else f"{self.name} {place}".strip()

    @property
    def label(self) -> str:
        """What this issuer is called in answers: its issuer, else its preset, else where it is described."""
        return self.issuer or self.preset or self.name


WELL_KNOWN = "/.well-known/openid-configuration"
TENANT = "{tenantid}"
"""What stands in an issuer's name for the tenant, which the claim ``tid`` names."""


def with_key_urls(settings: IssuerSettings, http_hosts: tuple[str, ...]) -> IssuerSettings:
    """``settings`` with the URL of the issuer's metadata, and with ``tenant`` where the issuer's name has one.

    Raises WrongValueError where what is known of the issuer does not lead to keys that can be trusted:
    from ``http_hosts`` and this machine alone may they be fetched over plain http.
    """
    issuer, discovery = settings.issuer or "", settings.discovery
    if discovery is not None:
        if not issuer:
            raise WrongValueError("discovery needs to know the issuer", "set the issuer too")
        if discovery == "true" and TENANT in issuer:
            raise WrongValueError(f"an issuer with {TENANT} has no metadata of its own", "give discovery a URL")
        discovery = parsers.http_url(_metadata_url(issuer, discovery))
    for url in (settings.jwks, discovery):
        if url is not None and "://" in url:
            token_parsers.plain_http(url, http_hosts)
    return replace(settings, discovery=discovery, tenant=settings.tenant or TENANT in issuer)


def _metadata_url(issuer: str, discovery: str) -> str:
    """The URL of an issuer's metadata (OpenID Connect Discovery 1.0, 4)."""
    base = issuer if discovery == "true" else discovery
    return base if "/.well-known/" in base else base.rstrip("/") + WELL_KNOWN
