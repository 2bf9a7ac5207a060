"""All issuers that the settings trust: the one that the variables describe, and those of the file."""

from __future__ import annotations

from ..errors import ConfigError
from .config import Config
from .issuer import VARIABLES, IssuerSettings, with_key_urls
from .issuer_file import read_issuers
from .parsers import WrongValueError
from .variables import PREFIX


def trusted_issuers(config: Config, problems: list[ConfigError]) -> tuple[tuple[IssuerSettings, ...], bool]:
    """The issuers, and whether any token may be verified; what is wrong is added to ``problems``."""
    env = config.env_issuer
    issuers: list[IssuerSettings] = []
    if env.key_places:
        try:
            issuers.append(with_key_urls(env, config.http_hosts))
        except WrongValueError as error:
            problems.append(_wrong("DISCOVERY" if env.jwks is None else "JWKS", error.problem, error.remedy))
            return (), False
    if config.issuers_file is None:
        return tuple(issuers), True
    if not issuers and (env.issuer or env.audience or env.algorithms or env.typ):
        problem = "ISSUER, AUDIENCE, ALGORITHMS and TYP apply to keys that a variable names, and none does"
        problems.append(_wrong("ISSUERS_FILE", problem, "write them into the tables of the file"))
        return (), False
    defaults = IssuerSettings(VARIABLES, leeway=env.leeway, subject=env.subject, session=env.session, claims=env.claims)
    file = read_issuers(config.issuers_file, defaults, issuers, config.http_hosts)
    for problem, remedy in file.problems:
        until_fixed = "its tokens stay unverified" if file.readable else "no token is verified"
        problems.append(ConfigError(f"{PREFIX}ISSUERS_FILE", problem, f"{remedy}; until then {until_fixed}"))
    return (*issuers, *file.issuers), file.readable


def _wrong(name: str, problem: str, remedy: str) -> ConfigError:
    return ConfigError(f"{PREFIX}{name}", problem, f"{remedy}; until then no token is verified")
