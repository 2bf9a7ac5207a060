"""The file of issuers: TOML, one ``[[issuer]]`` table each, read once at the start.

What is wrong is reported with the names of the file and the table, and never raised. With a wrong table no token of
its issuer is verified, those of the others are: a misspelt key may have been meant to forbid something. Where the
file as a whole cannot be read, no token is verified.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from ..identity.caller import ActorType
from . import parsers, token_parsers
from .issuer import KEY_PLACES, IssuerSettings, with_key_urls
from .parsers import WrongValueError

PRESETS = Path(__file__).with_name("presets.toml")

Wrong = tuple[str, str, str]
"""What is wrong in a table: its key, the problem, the remedy."""


class IssuerFile(NamedTuple):
    """The issuers, what is wrong (problem and remedy), and whether the file as a whole could be read."""

    issuers: tuple[IssuerSettings, ...]
    problems: list[tuple[str, str]]
    readable: bool


def read_issuers(
    path: Path, defaults: IssuerSettings, known: Sequence[IssuerSettings], http_hosts: tuple[str, ...]
) -> IssuerFile:
    """The issuers of the file at ``path`` beside those that are ``known``.

    What a table does not say is as in ``defaults``. From ``http_hosts`` keys may be fetched over plain http.
    """
    try:
        tables = _tables(path.read_bytes())
    except WrongValueError as error:
        return IssuerFile((), [(f"{path}: {error.problem}", error.remedy)], readable=False)
    except OSError as error:
        return IssuerFile((), [(f"{path} cannot be read ({error.strerror})", "name a readable file")], readable=False)
    issuers: list[IssuerSettings] = []
    problems: list[tuple[str, str]] = []
    for number, table in enumerate(tables, 1):
        name = table.get("issuer")
        name = f"[[issuer]] {number}" + (f" ({name[:80]})" if isinstance(name, str) else "")
        issuer, wrong = _issuer(table, replace(defaults, name=name), path.parent, http_hosts)
        same = [
            each.name for each in (*known, *issuers) if (each.issuer, each.source) == (issuer.issuer, issuer.source)
        ]
        if same and not wrong:
            wrong = [("issuer", f"it is already described in {same[0]}", "keep one, or give each its own source")]
        problems += [(f"{path}, table {name}: {key}: {problem}", remedy) for key, problem, remedy in wrong]
        if not same:
            issuers.append(issuer)
    return IssuerFile(tuple(issuers), problems, readable=True)


def _tables(data: bytes) -> list[dict[str, Any]]:
    """The tables of the issuers. Raises WrongValueError where there are none, or anything else."""
    document = _toml(data)
    tables = document.pop("issuer", [])
    if document:
        problem = f"it holds {', '.join(map(repr, sorted(document)))}"
        raise WrongValueError(problem, "write nothing but [[issuer]] tables")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise WrongValueError("issuer is not an array of tables", "write nothing but [[issuer]] tables")
    if not tables:
        raise WrongValueError("it holds no issuer", "write an [[issuer]] table for each")
    return tables


def _toml(data: bytes) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        where = str(error).rpartition("(")[2].rstrip(")") if "(at " in str(error) else "UTF-8 is expected"
        raise WrongValueError(f"it is not valid TOML ({where})", "correct it") from error


@cache
def presets() -> Mapping[str, Mapping[str, Any]]:
    """What vendors' documentation says of their tokens, by the name of each preset."""
    return _toml(PRESETS.read_bytes())


def _issuer(
    table: Mapping[str, Any], defaults: IssuerSettings, folder: Path, http_hosts: tuple[str, ...]
) -> tuple[IssuerSettings, list[Wrong]]:
    """What a table says, and what is wrong with it; then the settings are ``broken``."""
    entries, wrong = _with_preset(table)
    values = _parsed(entries, table, folder, wrong)
    if "claims" in values:
        own = {attribute for _, attribute in values["claims"]}
        values["claims"] += tuple(pair for pair in defaults.claims if pair[1] not in own)
    if not wrong:
        try:
            _complete_jwks(values)
            return with_key_urls(replace(defaults, **values), http_hosts), []
        except WrongValueError as error:
            wrong.append(("keys", error.problem, error.remedy))
    shown: dict[str, Any] = {key: values.get(key) for key in ("issuer", "source", "preset")}
    return replace(defaults, **shown, broken=True), wrong


def _with_preset(table: Mapping[str, Any]) -> tuple[dict[str, Any], list[Wrong]]:
    """The entries of a table above those of the preset that it names: claims one by one, places of keys as a whole."""
    name = table.get("preset")
    if not isinstance(name, str) or name not in presets():
        return dict(table), []
    preset = {key: value for key, value in presets()[name].items() if key != "documentation"}
    missing = [key for key in preset.pop("needs", ()) if key not in table]
    if any(key in table for key in KEY_PLACES):
        preset = {key: value for key, value in preset.items() if key not in KEY_PLACES}
    entries = {**preset, **table}
    if isinstance(table.get("claims"), dict) and "claims" in preset:
        entries["claims"] = {**preset["claims"], **table["claims"]}
    problem = f"it is missing, and without it the preset {name} proves nothing"
    return entries, [(key, problem, f"give {key}") for key in missing]


def _parsed(entries: Mapping[str, Any], table: Mapping[str, Any], folder: Path, wrong: list[Wrong]) -> dict[str, Any]:
    """The values of the entries; what is wrong with one is added to ``wrong``. Some keys a preset alone may have."""
    keys = _keys(folder)
    values: dict[str, Any] = {}
    for key, value in entries.items():
        try:
            if key not in keys and (key in table or key not in _PRESET_KEYS):
                raise WrongValueError("no such key", f"the keys are {', '.join(keys)}")
            values[key] = (keys | _PRESET_KEYS)[key](value)
        except WrongValueError as error:
            wrong.append((key, error.problem, error.remedy))
        except Exception:  # of whatever kind: the app must start
            wrong.append((key, "a value of the wrong type", "see the documentation"))
    return values


def _complete_jwks(values: dict[str, Any]) -> None:
    """Put the issuer into the URL of its keys. Raises WrongValueError where there is no issuer, or no one place."""
    places = [key for key in KEY_PLACES if values.get(key) is not None]
    if len(places) != 1:
        problem = f"{' and '.join(places)} are given" if places else "the table does not say where the keys are"
        raise WrongValueError(problem, f"give one of {', '.join(KEY_PLACES)}")
    jwks, issuer = values.get("jwks") or "", values.get("issuer")
    if "{issuer}" in jwks:
        if issuer is None:
            raise WrongValueError(f"the preset {values.get('preset')} needs to know the issuer", "give issuer")
        values["jwks"] = jwks.replace("{issuer}", issuer.rstrip("/"))


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WrongValueError("it is neither true nor false", "write true or false")
    return value


def _text(value: Any) -> str:
    text = parsers.text(value)
    if not text:
        raise WrongValueError("it is empty", "leave the key out")
    return text


def _preset(value: Any) -> str:
    if not isinstance(value, str) or value not in presets():
        raise WrongValueError(f"{str(value)[:40]!r} is not a preset", f"use one of {', '.join(sorted(presets()))}")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    """A string or a list of strings. A comma is a part of a string here: TOML has lists."""
    if not isinstance(value, (str, list)):
        raise WrongValueError("it is neither a string nor a list of strings", 'write "one" or ["one", "two"]')
    return tuple(map(_text, [value] if isinstance(value, str) else value))


def _file(folder: Path, parse: Callable[[Any], Path], value: Any) -> Path:
    return parse(folder / parsers.path(_text(value)))


def _jwks(folder: Path, value: Any) -> str:
    place = _text(value)
    if place.startswith("{issuer}"):
        return place
    return parsers.http_url(place) if "://" in place else str(_file(folder, parsers.existing_file, place))


def _name(value: Any) -> str:
    name = _text(value)
    if "{" in name.replace("{tenantid}", "", 1):
        raise WrongValueError("the only placeholder can be one {tenantid}", "write the issuer as in the tokens")
    return name


def _claims(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise WrongValueError("it is not a table", 'write [issuer.claims] and below it "attribute" = "claim"')
    return tuple(
        (claim, token_parsers.attribute_name(name)) for name, claims in value.items() for claim in _texts(claims)
    )


def _leeway(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise WrongValueError("it is not a valid duration", 'write seconds, or "30s"')
    return parsers.seconds(value)


def _keys(folder: Path) -> dict[str, Callable[[Any], Any]]:
    """The keys of a table, and how each is read; paths are relative to the file's folder."""
    return {
        "issuer": _name,
        "jwks": partial(_jwks, folder),
        "discovery": token_parsers.discovery,
        "public_key": partial(_file, folder, parsers.existing_file),
        "secret_file": partial(_file, folder, parsers.file_of_secret),
        "audience": _texts,
        "algorithms": lambda value: token_parsers.algorithms(_texts(value)),
        "typ": _text,
        "leeway": _leeway,
        "source": token_parsers.source,
        "padded": _boolean,
        "subject": _texts,
        "session": _texts,
        "actor_type": lambda value: ActorType(parsers.one_of(*(each.value for each in ActorType))(value)),
        "preset": _preset,
        "claims": _claims,
    }


_PRESET_KEYS: dict[str, Callable[[Any], Any]] = {
    "tenant": _boolean,
    "audience_header": _text,
    "required": _texts,
    "client": _texts,
}
"""What presets say beside the keys of a table."""
