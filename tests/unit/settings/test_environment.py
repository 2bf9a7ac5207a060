"""Settings: what a right value becomes, what a wrong one is told as, and that the app starts all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jwt_audit.identity.privacy import Policy
from jwt_audit.settings import parsers, token_parsers
from jwt_audit.settings.config import SETTINGS, Config
from jwt_audit.settings.environment import load
from jwt_audit.settings.variables import PREFIX

TOKEN_SETTINGS = [name for name, setting in SETTINGS.items() if setting.about_tokens]
FILES = [
    name
    for name, setting in SETTINGS.items()
    if setting.parse in (parsers.existing_file, parsers.file_of_secret, token_parsers.jwks)
]


def env(**settings: str) -> dict[str, str]:
    return {PREFIX + name: value for name, value in settings.items()}


def test_without_settings_there_are_defaults_and_no_complaint() -> None:
    """An empty environment is a working configuration."""
    settings, problems = load({})
    assert problems == []
    assert settings.fail_mode == "open"
    assert settings.endpoint == "http://localhost:4318/v1/logs"
    assert settings.token_settings_ok


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JWKS", "http://example.com/jwks.json"),
        ("JWKS", "/no/such/file.json"),
        ("JWKS", "ftp://example.com/jwks"),
        ("JWKS", "https://user:secret@example.com/jwks"),
        ("PUBLIC_KEY", "/no/such/key.pem"),
        ("SECRET_FILE", "/no/such/secret"),
        ("ALGORITHMS", "none"),
        ("ALGORITHMS", "RS999"),
        ("ALGORITHMS", "RS256,HS256"),
        ("LEEWAY", "soon"),
        ("CLAIMS", "roles"),
        ("CLAIMS", "roles=user roles"),
        ("CLAIMS", "sub=enduser.id"),
        ("CLAIMS", "x=audit.actor.id"),
        ("CLAIMS", "x=jwt.status"),
        ("EXCLUDED_PATHS", "health"),
        ("EXCLUDED_PATHS", "/a*b"),
        ("EXCLUDED_METHODS", "options"),
        ("EXCLUDED_METHODS", "OPTIONS /x"),
        ("AUDIENCE", ","),
        ("SUBJECT_CLAIM", " , "),
        ("SPOOL_LIMIT", "1 potato"),
        ("SPOOL_LIMIT", "10"),
        ("RETENTION", "-1"),
        ("RETENTION", "٣d"),
        ("ENDPOINT", "collector"),
        ("ENDPOINT", "grpc://collector:4317"),
        ("ENDPOINT", "http://[broken/v1/logs"),
        ("ENDPOINT", "http://host:99999/v1/logs"),
        ("PROTOCOL", "grpc"),
        ("HEADERS", "authorization"),
        ("HEADERS", "bad name=x"),
        ("HEADERS", "x=a%0d%0aInjected: 1"),
        ("TIMEOUT", "0"),
        ("COMPRESSION", "zip"),
        ("SIGNING_KEY", "/no/such/key.pem"),
        ("EXPORT_CANONICAL", "perhaps"),
        ("FAIL_MODE", "ajar"),
        ("DURABILITY", "memory"),
        ("ISUER", "https://misspelt.example.com"),
    ],
)
def test_a_wrong_value_is_told_with_its_full_name(name: str, value: str) -> None:
    """One problem, naming the variable in full and what would be right; and never an exception."""
    settings, problems = load(env(**{name: value}))
    assert [problem.variable for problem in problems] == [PREFIX + name]
    assert "; " in str(problems[0])
    assert isinstance(settings, Config)


@pytest.mark.parametrize("name", ["JWKS", "PUBLIC_KEY", "SECRET_FILE", "ALGORITHMS", "LEEWAY"])
def test_a_wrong_token_setting_verifies_nothing(name: str) -> None:
    """Half a token configuration could accept more than was meant, so it accepts nothing."""
    settings, problems = load(env(**{name: "???"}))
    assert not settings.token_settings_ok
    assert "no token is verified" in str(problems[0])


INSTEAD: dict[str, Callable[[Config], bool]] = {
    **{name: lambda given: not given.token_settings_ok for name in TOKEN_SETTINGS},
    "claims": lambda given: given.env_issuer.claims == (),
    "pii": lambda given: {given.privacy.spans, given.privacy.logs, given.privacy.audit} == {Policy.OFF},
    "pseudonym_key_file": lambda given: given.privacy.pseudonyms is None and given.privacy.audit is Policy.OFF,
    "token_fingerprint": lambda given: not given.token_fingerprint,
    "excluded_paths": lambda given: given.excluded_paths == (),
    "excluded_methods": lambda given: given.excluded_methods == (),
    "spool": lambda given: "spool" in given.unusable,
    "spool_limit": lambda given: given.spool_limit == 2**30,
    "retention": lambda given: given.retention > 10 * 365 * 86400,
    **{name: lambda given: not given.delivers for name in ("endpoint", "headers")},
    **{name: lambda given: not given.delivers for name in ("certificate", "client_certificate", "client_key")},
    "protocol": lambda given: given.protocol == "http/protobuf",
    "timeout": lambda given: given.timeout == 10,
    "compression": lambda given: given.compression == "auto",
    "signing_key": lambda given: given.signing_key is None and "signing_key" in given.unusable,
    "export_canonical": lambda given: given.export_canonical,
    "fail_mode": lambda given: given.fail_mode == "closed",
    "durability": lambda given: given.durability == "disk",
}
"""What holds where a setting was given and cannot be used: never less than was meant, in proof, secrecy or place."""


@pytest.mark.parametrize("name", list(SETTINGS))
def test_what_cannot_be_used_has_no_weaker_default(name: str) -> None:
    """Each setting: told with its name, and what holds meanwhile is on the safe side."""
    more = {"pii": "pseudonym"} if name == "pseudonym_key_file" else {}
    given: dict[str, Any] = {**more, name: object()}
    settings, problems = load({}, **given)
    assert PREFIX + name.upper() in {problem.variable for problem in problems}
    assert name in settings.unusable
    assert INSTEAD[name](settings)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["missing", "directory", "empty name", "link to nothing"])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, name: str, kind: str) -> None:
    """Every setting that names a file, in its own variable and in that of OpenTelemetry."""
    path = tmp_path / "file"
    if kind == "directory":
        path.mkdir()
    elif kind == "link to nothing":
        path.symlink_to(tmp_path / "nothing")
    value = " \0" if kind == "empty name" else str(path)
    variables = [PREFIX + name.upper()]
    if name.endswith(("certificate", "client_key")):
        variables += [f"OTEL_EXPORTER_OTLP_{name.upper()}", f"OTEL_EXPORTER_OTLP_LOGS_{name.upper()}"]
    more = env(PII="pseudonym") if name == "pseudonym_key_file" else {}
    for variable in variables:
        settings, problems = load({**more, variable: value})
        assert variable in {problem.variable for problem in problems}
        assert name in settings.unusable
        assert INSTEAD[name](settings)


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"])
def test_an_inherited_endpoint_that_is_none_is_not_replaced(variable: str) -> None:
    """Whoever listens at the default's port is not the one that was meant; an endpoint of our own wins."""
    settings, (problem,) = load({variable: "collector"})
    assert problem.variable == variable
    assert "nothing is sent" in str(problem)
    assert not settings.delivers
    own, problems = load({variable: "collector", **env(ENDPOINT="http://127.0.0.1:4318/v1/audit")})
    assert (own.delivers, problems) == (True, [])


def test_a_word_is_taken_as_people_write_it() -> None:
    """An env file leaves a blank behind, and closed must not become open by it."""
    settings, problems = load(env(FAIL_MODE=" Closed ", DURABILITY="DISK"))
    assert (settings.fail_mode, settings.durability, problems) == ("closed", "disk", [])


@pytest.mark.parametrize(("name", "right"), [("JWKS", "jwks"), ("DISCOVERY", "well-known"), ("ENDPOINT", "/v1/audit")])
def test_a_wrong_url_is_answered_with_one_of_its_kind(name: str, right: str) -> None:
    """Not with a receiver's where keys are meant."""
    _, problems = load(env(**{name: "ftp://there"}))
    assert right in str(problems[0])


SECRET = "c2VjcmV0/vZ+w=canary"
PEM = f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n"
MISPLACED = [
    ("HEADERS", f"authorization Bearer {SECRET}"),
    ("HEADERS", f"auth orization={SECRET}"),
    ("HEADERS", f"x={SECRET}%0a"),
    *((name, value) for name in ("SECRET_FILE", "PSEUDONYM_KEY_FILE", "SIGNING_KEY") for value in (SECRET, PEM)),
    *((name, PEM) for name in ("PUBLIC_KEY", "JWKS", "ISSUERS_FILE", "CERTIFICATE", "CLIENT_KEY")),
    ("JWKS", f'{{"keys":[{{"kty":"oct","k":"{SECRET}"}}]}}'),
    ("JWKS", f"https://user:{SECRET}@login.example.com/keys"),
    ("JWKS", f"ftp://user:{SECRET}@login.example.com/keys"),
    ("ENDPOINT", f"grpc://user:{SECRET}@collector:4317"),
    ("ENDPOINT", f"user:{SECRET}@collector:4317"),
    ("ENDPOINT", f"http://collector:999999/v1/logs?key={SECRET}"),
    ("DISCOVERY", f"https://:{SECRET}@[login.example.com/"),
]


@pytest.mark.parametrize(("name", "value"), MISPLACED)
def test_a_secret_is_never_in_a_message(name: str, value: str) -> None:
    """Pasted where its file was to be named, in a URL, in a header that is written wrong."""
    settings, problems = load(env(**{name: value}))
    assert problems
    assert not [problem for problem in problems if SECRET in str(problem)]
    assert SECRET not in repr(settings)


def test_a_right_secret_is_in_no_representation() -> None:
    """Nor where the settings are shown as a whole, in a traceback with its variables."""
    settings, problems = load(env(HEADERS=f"authorization=Bearer {SECRET}"))
    assert problems == []
    assert dict(settings.headers)["authorization"].endswith(SECRET)
    assert SECRET not in repr(settings)


@pytest.mark.parametrize("name", list(SETTINGS))
@pytest.mark.parametrize(
    "value", ["a\0b", "~nobody-of-this-name/x", "\udc80", "🔑" * 5000, "://", "[", "=", b"x", -1.5]
)
def test_no_value_of_any_setting_stops_the_app(name: str, value: Any) -> None:
    """Each is taken or told, and what is told is a line."""
    settings, problems = load({}, **{name: value})
    assert isinstance(settings, Config)
    for problem in problems:
        assert "\n" not in str(problem)


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in containers that run under any uid: there is a default all the same."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: (_ for _ in ()).throw(KeyError()))
    settings, problems = load({})
    assert problems == []
    assert settings.spool == Path("/var/lib/jwt-audit/unknown_service")


def test_keyword_arguments_win_over_the_environment() -> None:
    """``instrument(fail_mode=…)`` is stronger than the variable."""
    settings, _ = load(env(FAIL_MODE="open"), fail_mode="closed", excluded_paths=["/healthz"])
    assert settings.fail_mode == "closed"
    assert settings.excluded_paths == ("/healthz",)


def test_a_claim_mapping_may_hold_a_url_and_a_pointer() -> None:
    """A claim's name may hold ``=``, ``:`` and ``/``: the pair is split at the last ``=``."""
    settings, problems = load(env(CLAIMS="https://example.com/a?b=c=user.roles,/realm_access/roles=app.roles"))
    assert problems == []
    assert settings.env_issuer.claims == (
        ("https://example.com/a?b=c", "user.roles"),
        ("/realm_access/roles", "app.roles"),
    )


@pytest.mark.parametrize(
    ("environ", "endpoint", "told"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/logs", 0),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/logs", 0),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://c:4318/x"}, "http://c:4318/x", 0),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, "http://c:4318/v1/logs", 1),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1]:4317"}, "http://[::1]:4318/v1/logs", 1),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "c:4317"}, "http://localhost:4318/v1/logs", 1),
        ({PREFIX + "ENDPOINT": "http://c/v1/audit", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://d"}, "http://c/v1/audit", 0),
    ],
)
def test_the_endpoint_follows_the_otlp_variables(environ: dict[str, str], endpoint: str, told: int) -> None:
    """Audit records go where the app's logs go; a gRPC port is replaced and that is said."""
    settings, problems = load(environ)
    assert settings.endpoint == endpoint
    assert len(problems) == told


def test_otlp_variables_are_inherited_and_overridden(tmp_path: Path) -> None:
    """The logs variable beats the general one; ours beats both."""
    certificate = tmp_path / "ca.pem"
    certificate.write_text("x")
    environ = {
        "OTEL_EXPORTER_OTLP_HEADERS": "a=1",
        "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "b=two%20words",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": str(certificate),
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2.5",
    }
    settings, problems = load(environ)
    assert problems == []
    assert settings.headers == (("b", "two words"),)
    assert settings.certificate == certificate
    assert settings.timeout == 2.5
    assert load(environ | env(HEADERS="c=3"))[0].headers == (("c", "3"),)


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"OTEL_SERVICE_NAME": "shop"}, "shop"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "a=b,service.name=my%20shop"}, "my_shop"),
        ({"OTEL_SERVICE_NAME": "../../etc"}, "_.._etc"),
        ({}, "unknown_service"),
    ],
)
def test_the_spool_is_named_by_the_service(environ: dict[str, str], name: str) -> None:
    """Below the XDG state directory, and never outside of it."""
    settings, _ = load({"XDG_STATE_HOME": "/state", **environ})
    assert settings.spool == Path("/state/jwt-audit") / name


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("2m", 120), ("12h", 43200), ("7d", 604800)])
def test_times_have_units(text: str, seconds: int) -> None:
    """Seconds, or a number with a unit."""
    assert load(env(RETENTION=text))[0].retention == seconds


def test_the_digest_changes_with_a_setting_but_not_with_a_header_value() -> None:
    """The stream is bound to what is audited, and no secret's hash is published."""
    base = load({})[0].digest
    assert load(env(EXCLUDED_PATHS="/healthz"))[0].digest != base
    one, two = load(env(HEADERS="a=1"))[0].digest, load(env(HEADERS="a=2"))[0].digest
    assert one == two != base


def test_foreign_types_are_told_not_raised() -> None:
    """A keyword argument of the wrong type is a problem like any other."""
    given: dict[str, Any] = {"claims": 7, "audience": 3, "leeway": object(), "endpoint": b"x"}
    _, problems = load({}, **given)
    assert {problem.variable for problem in problems} == {PREFIX + name.upper() for name in given}


@pytest.mark.parametrize(
    "host", ["127.0.0.1.example.com", "127.example.com", "localhost.example.com", "[::2]", "10.0.0.1"]
)
def test_plain_http_keys_are_for_this_machine_alone(host: str) -> None:
    """A name that only begins like a loopback address belongs to somebody else."""
    settings, problems = load(env(JWKS=f"http://{host}/jwks.json"))
    assert [problem.variable for problem in problems] == [PREFIX + "JWKS"]
    assert not settings.token_settings_ok


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "127.1.2.3", "localhost", "[::1]:80"])
def test_plain_http_keys_may_come_from_loopback(host: str) -> None:
    """A development issuer needs no certificate."""
    assert load(env(JWKS=f"http://{host}/jwks.json"))[1] == []


@pytest.mark.parametrize(
    ("endpoint", "compression", "compressed"),
    [
        ("http://127.0.0.1:4318/v1/logs", "", False),
        ("http://localhost:4318/v1/logs", "", False),
        ("http://[::1]:4318/v1/logs", "", False),
        ("http://127.0.0.1.example.com/v1/logs", "", True),
        ("https://collector.example.com/v1/logs", "", True),
        ("https://collector.example.com/v1/logs", "none", False),
        ("http://127.0.0.1:4318/v1/logs", "gzip", True),
    ],
)
def test_what_stays_on_this_machine_is_not_compressed(endpoint: str, compression: str, compressed: bool) -> None:
    """Unless it is asked for; what leaves it is, unless that is forbidden."""
    loaded, problems = load({f"{PREFIX}ENDPOINT": endpoint, f"{PREFIX}COMPRESSION": compression})
    assert problems == []
    assert loaded.gzip is compressed
