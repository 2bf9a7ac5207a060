"""The file of issuers: TOML, one ``[[issuer]]`` table each, read once at the start.

What is wrong is told with the file's and the table's name, and never raises. A wrong table verifies
nothing, the others do: a misspelt key may have been meant to forbid something. Where the file as a
whole cannot be read, no token is verified.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from . import parsers
from .issuer import KEY_PLACES, IssuerSettings, discovery_url
from .parsers import WrongValueError

PRESETS = Path(__file__).with_name("presets.toml")


class IssuerFile(NamedTuple):
    """The tables, what is wrong (problem and remedy), and whether the file as a whole could be read."""

    tables: tuple[IssuerSettings, ...]
    problems: list[tuple[str, str]]
    readable: bool


def read_issuers(
    path: Path, base: IssuerSettings, known: Sequence[IssuerSettings], http_hosts: tuple[str, ...]
) -> IssuerFile:
    """The issuers of the file at ``path`` beside those that are ``known``.

    What a table does not say is as in ``base``. From ``http_hosts`` keys may be fetched over plain http.
    """
    try:
        whole = _parsed(path.read_bytes())
        listed = whole.pop("issuer", [])
        if whole or not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
            found = f"it holds {', '.join(map(repr, sorted(whole)))}" if whole else "issuer is no list of tables"
            raise WrongValueError(found, "write nothing but [[issuer]] tables")
        if not listed:
            raise WrongValueError("it holds no issuer", "write an [[issuer]] table for each")
    except WrongValueError as error:
        return IssuerFile((), [(f"{path}: {error.problem}", error.remedy)], readable=False)
    except OSError as error:
        return IssuerFile((), [(f"{path} cannot be read ({error.strerror})", "name a readable file")], readable=False)
    tables: list[IssuerSettings] = []
    problems: list[tuple[str, str]] = []
    for number, given in enumerate(listed, 1):
        issuer = given.get("issuer")
        name = f"[[issuer]] {number}" + (f" ({issuer[:80]})" if isinstance(issuer, str) else "")
        table, wrong = _table(given, replace(base, name=name), path.parent, http_hosts)
        same = [each.name for each in (*known, *tables) if (each.issuer, each.source) == (table.issuer, table.source)]
        if same and not wrong:
            wrong = [("issuer", f"it is described before, in {same[0]}", "keep one, or give each its source")]
        problems += [(f"{path}, table {name}: {key}: {problem}", remedy) for key, problem, remedy in wrong]
        if not same:
            tables.append(table)
    return IssuerFile(tuple(tables), problems, readable=True)


def _parsed(data: bytes) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        where = str(error).rpartition("(")[2].rstrip(")") if "(at " in str(error) else "UTF-8 is expected"
        raise WrongValueError(f"it is no TOML ({where})", "mend it") from error


@cache
def presets() -> Mapping[str, Mapping[str, Any]]:
    """What vendors' documentation says of their tokens, by the name of each preset."""
    return _parsed(PRESETS.read_bytes())


def _table(
    given: Mapping[str, Any], base: IssuerSettings, folder: Path, http_hosts: tuple[str, ...]
) -> tuple[IssuerSettings, list[tuple[str, str, str]]]:
    """The table, broken where something is wrong with it, and what: key, problem, remedy."""
    wrong: list[tuple[str, str, str]] = []
    merged = dict(given)
    preset = given.get("preset")
    if isinstance(preset, str) and preset in presets():
        merged = _over_preset(given, presets()[preset])
        for key in merged.pop("needs", ()):
            if key not in given:
                wrong.append((key, f"it is missing, and the preset {preset} proves nothing without it", f"give {key}"))
    keys = _keys(folder)
    found: dict[str, Any] = {}
    for key, value in merged.items():
        try:
            if key not in keys and (preset is None or key in given):
                raise WrongValueError("no such key", f"the keys are {', '.join(keys)}")
            found[key] = (keys | _PRESET_KEYS)[key](value)
        except WrongValueError as error:
            wrong.append((key, error.problem, error.remedy))
        except Exception:  # of whatever kind: the app must start
            wrong.append((key, "a value of the wrong type", "see the documentation"))
    if "claims" in found:
        own = {attribute for _, attribute in found["claims"]}
        found["claims"] += tuple(pair for pair in base.claims if pair[1] not in own)
    if not wrong:
        try:
            _complete(found, preset, http_hosts)
        except WrongValueError as error:
            wrong.append(("keys", error.problem, error.remedy))
    if wrong:
        who: dict[str, Any] = {key: found.get(key) for key in ("issuer", "source", "preset")}
        return replace(base, **who, broken=True), wrong
    return replace(base, **found), []


def _over_preset(given: Mapping[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    """What the table says in place of what the preset says; claims one by one, keys as a whole."""
    below = {key: value for key, value in preset.items() if key != "documentation"}
    if any(key in given for key in KEY_PLACES):
        below = {key: value for key, value in below.items() if key not in KEY_PLACES}
    merged = {**below, **given}
    if isinstance(given.get("claims"), dict) and "claims" in below:
        merged["claims"] = {**below["claims"], **given["claims"]}
    return merged


def _complete(found: dict[str, Any], preset: str | None, http_hosts: tuple[str, ...]) -> None:
    """Put in what one key says of another. Raises WrongValueError where that does not fit together."""
    places = [key for key in KEY_PLACES if found.get(key) is not None]
    if len(places) != 1:
        said = f"{' and '.join(places)} are given" if places else "the table says nothing of keys"
        raise WrongValueError(said, f"give one of {', '.join(KEY_PLACES)}")
    issuer: str | None = found.get("issuer")
    if issuer is None and (found.get("discovery") or "{issuer}" in (found.get("jwks") or "")):
        whose = "discovery" if found.get("discovery") else f"the preset {preset}"
        raise WrongValueError(f"{whose} needs to know the issuer", "give issuer")
    if found.get("jwks") is not None:
        found["jwks"] = found["jwks"].replace("{issuer}", (issuer or "").rstrip("/"))
    if found.get("discovery") is not None:
        if found["discovery"] == "true" and "{tenantid}" in (issuer or ""):
            raise WrongValueError("an issuer with {tenantid} has no metadata of its own", "give discovery a URL")
        found["discovery"] = parsers.http_url(discovery_url(issuer, found["discovery"]))
    for url in (found.get("jwks"), found.get("discovery")):
        if url is not None and "://" in url:
            parsers.plain_http(url, http_hosts)
    found["tenant"] = found.get("tenant", False) or (issuer is not None and "{tenantid}" in issuer)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WrongValueError("it is neither true nor false", "write true or false")
    return value


def _one(value: Any) -> str:
    found = parsers.text(value)
    if not found:
        raise WrongValueError("it is empty", "leave the key out")
    return found


def _preset(value: Any) -> str:
    if not isinstance(value, str) or value not in presets():
        raise WrongValueError(f"{str(value)[:40]!r} is none", f"use one of {', '.join(sorted(presets()))}")
    return value


def _many(value: Any) -> tuple[str, ...]:
    """One text or a list of them. A comma is a part of a text here: TOML has lists."""
    if not isinstance(value, (str, list)):
        raise WrongValueError("it is neither a text nor a list of them", 'write "one" or ["one", "two"]')
    return tuple(map(_one, [value] if isinstance(value, str) else value))


def _file(folder: Path, read: Callable[[Any], Path], value: Any) -> Path:
    return read(folder / parsers.path(_one(value)))


def _jwks(folder: Path, value: Any) -> str:
    found = _one(value)
    if found.startswith("{issuer}"):
        return found
    return parsers.http_url(found) if "://" in found else str(_file(folder, parsers.existing_file, found))


def _issuer(value: Any) -> str:
    found = _one(value)
    if "{" in found.replace("{tenantid}", "", 1):
        raise WrongValueError("it has another placeholder than one {tenantid}", "write the issuer as in the tokens")
    return found


def _claims(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise WrongValueError("it is no table", 'write [issuer.claims] and below it "attribute" = "claim"')
    return tuple((claim, parsers.attribute_name(name)) for name, claims in value.items() for claim in _many(claims))


def _leeway(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise WrongValueError("it is no time", 'write seconds, or "30s"')
    return parsers.seconds(value)


def _keys(folder: Path) -> dict[str, Callable[[Any], Any]]:
    """The keys of a table, and how each is read; paths are relative to the file's folder."""
    return {
        "issuer": _issuer,
        "jwks": partial(_jwks, folder),
        "discovery": parsers.discovery,
        "public_key": partial(_file, folder, parsers.existing_file),
        "secret_file": partial(_file, folder, parsers.file_of_secret),
        "audience": _many,
        "algorithms": lambda value: parsers.algorithms(_many(value)),
        "typ": _one,
        "leeway": _leeway,
        "source": parsers.source,
        "padded": _boolean,
        "subject": _many,
        "session": _many,
        "actor_type": parsers.one_of("user", "service", "system"),
        "preset": _preset,
        "claims": _claims,
    }


_PRESET_KEYS: dict[str, Callable[[Any], Any]] = {
    "tenant": _boolean,
    "audience_header": _one,
    "required": _many,
    "client": _many,
}
"""What presets say beside the keys of a table."""
