"""The file of issuers: what a right table becomes, and that what is wrong is told and verifies nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jwt_audit.errors import ConfigError
from jwt_audit.identity.caller import ActorType
from jwt_audit.settings.config import Config
from jwt_audit.settings.environment import load
from jwt_audit.settings.issuer import KEY_PLACES, IssuerSettings
from jwt_audit.settings.issuer_file import presets, read_issuers
from jwt_audit.settings.variables import PREFIX

PRESETS = [
    *("keycloak", "auth0", "okta", "entra", "cognito", "firebase", "supabase", "clerk"),
    *("google-iap", "cloudflare-access", "aws-alb", "github-actions", "kubernetes", "spiffe"),
]


@pytest.fixture
def write(tmp_path: Path) -> Any:
    (tmp_path / "keys.json").write_text("{}")
    (tmp_path / "key.pem").write_text("")

    def write(text: str, **environ: str) -> tuple[Config, list[ConfigError]]:
        path = tmp_path / "issuers.toml"
        path.write_text(text)
        environ = {PREFIX + name: value for name, value in environ.items()}
        return load({f"{PREFIX}ISSUERS_FILE": str(path), **environ})

    return write


def test_every_key_arrives(write: Any, tmp_path: Path) -> None:
    """Each key of a table, lists and single texts alike, paths relative to the file's folder."""
    config, problems = write(
        """
        [[issuer]]
        issuer = "https://a.example.com/"
        jwks = "keys.json"
        audience = ["a", "b,c"]
        algorithms = "ES256"
        typ = "at+jwt"
        leeway = "1m"
        source = "header:X-Token"
        padded = true
        subject = ["/a/b", "sub"]
        session = []
        actor_type = "system"
        [issuer.claims]
        "user.roles" = ["/x/roles", "roles"]
        "app.tenant" = "https://example.com/tenant"
        [[issuer]]
        issuer = "https://login.example.com/{tenantid}/v2.0"
        discovery = "https://login.example.com/common/v2.0"
        """
    )
    assert problems == []
    one, two = config.issuers
    assert one == IssuerSettings(
        name="[[issuer]] 1 (https://a.example.com/)",
        issuer="https://a.example.com/",
        jwks=str(tmp_path / "keys.json"),
        audience=("a", "b,c"),
        algorithms=("ES256",),
        typ="at+jwt",
        leeway=60,
        source="header:x-token",
        padded=True,
        subject=("/a/b", "sub"),
        session=(),
        actor_type=ActorType.SYSTEM,
        claims=(
            ("/x/roles", "user.roles"),
            ("roles", "user.roles"),
            ("https://example.com/tenant", "app.tenant"),
        ),
    )
    assert two.discovery == "https://login.example.com/common/v2.0/.well-known/openid-configuration"
    assert two.tenant


def test_a_table_says_what_differs(write: Any) -> None:
    """LEEWAY, claims and their lists are the variables' where a table is silent; the variables' issuer comes first."""
    config, problems = write(
        '[[issuer]]\nissuer = "b"\npublic_key = "key.pem"\nclaims = { "app.a" = "x" }\n',
        LEEWAY="3",
        SUBJECT_CLAIM="uid",
        CLAIMS="y=app.a,z=app.b",
        JWKS="https://a.example.com/keys",
        ISSUER="a",
    )
    assert problems == []
    assert [(table.issuer, table.leeway, table.subject) for table in config.issuers] == [
        ("a", 3, ("uid",)),
        ("b", 3, ("uid",)),
    ]
    assert config.issuers[1].claims == (("x", "app.a"), ("z", "app.b"))
    assert config.issuers[0].claims == (("y", "app.a"), ("z", "app.b"))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("audiance = 'x'", "audiance: no such key"),
        ("tenant = true", "tenant: no such key"),
        ("name = 'x'", "name: no such key"),
        ("algorithms = ['none']", "algorithms: 'none' is not a supported algorithm"),
        ("algorithms = ['RS256', 'HS256']", "key confusion"),
        ("audience = 7", "audience: it is neither a string nor a list of strings"),
        ("audience = [7]", "audience: a value of type int is not text"),
        ("audience = ''", "audience: it is empty"),
        ("leeway = true", "leeway: it is not a valid duration"),
        ("leeway = -1", "leeway: '-1' is not a valid duration"),
        ("padded = 'yes'", "padded: it is neither true nor false"),
        ("source = 'query:token'", "source: 'query:token' is not a valid source"),
        ("actor_type = 'robot'", "actor_type: 'robot' is not a valid value"),
        ("preset = 'keycloack'", "preset: 'keycloack' is not a preset"),
        ("preset = 7", "preset: '7' is not a preset"),
        ("claims = 'roles'", "claims: it is not a table"),
        ("claims = { 'enduser.id' = 'x' }", "claims: the attribute enduser.id has a fixed meaning"),
        ("claims = { 'jwt.x' = 'x' }", "claims: the attribute jwt.x has a fixed meaning"),
        ("public_key = 'key.pem'", "jwks and public_key are given"),
        ("discovery = true", "jwks and discovery are given"),
        ("secret_file = 'none'", "cannot read"),
        ("issuer = 'x'", "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_table(write: Any, tmp_path: Path, line: str, told: str) -> None:
    """Once, clearly; the table verifies nothing, the others do, and the app starts."""
    whole = f'[[issuer]]\nissuer = "good"\njwks = "keys.json"\n[[issuer]]\nissuer = "bad"\njwks = "keys.json"\n{line}\n'
    config, problems = write(whole)
    assert len(problems) == 1
    assert str(problems[0]).startswith(f"{PREFIX}ISSUERS_FILE: {tmp_path / 'issuers.toml'}")
    assert told in str(problems[0])
    if "TOML" in told:
        assert not config.token_settings_ok
        return
    assert "[[issuer]] 2 (bad)" in str(problems[0])
    assert [(table.issuer, table.broken) for table in config.issuers] == [("good", False), ("bad", True)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it holds no issuer"),
        ("[issuer]\nissuer = 'x'\n", "issuer is not an array of tables"),
        ("issuer = 7\n", "issuer is not an array of tables"),
        ("[[issuers]]\nissuer = 'x'\n", "it holds 'issuers'"),
        ("[[issuer]\n", "it is not valid TOML (at line 1"),
        ("\ud800", "it is not valid TOML"),
    ],
)
def test_a_file_that_is_none_verifies_nothing(write: Any, tmp_path: Path, text: str, told: str) -> None:
    """Nobody knows what was meant, so no token is verified, the variables' neither."""
    path = tmp_path / "issuers.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    config, problems = load({f"{PREFIX}ISSUERS_FILE": str(path), f"{PREFIX}JWKS": "https://a.example.com/keys"})
    assert told in str(problems[0])
    assert not config.token_settings_ok
    missing, problems = load({f"{PREFIX}ISSUERS_FILE": "/no/such/file.toml"})
    assert "cannot read" in str(problems[0])
    assert not missing.token_settings_ok


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[issuer]]\nissuer = 'x'\n", "the table does not say where the keys are"),
        ("[[issuer]]\nissuer = 'x'\ndiscovery = false\n", "the table does not say where the keys are"),
        ("[[issuer]]\ndiscovery = true\n", "discovery needs to know the issuer"),
        ("[[issuer]]\nissuer = 'https://a/{tenantid}/'\ndiscovery = true\n", "no metadata of its own"),
        (
            "[[issuer]]\nissuer = 'https://a/{tenant}/'\njwks = 'https://a/'\n",
            "the only placeholder can be one {tenantid}",
        ),
        ("[[issuer]]\nissuer = 'a'\njwks = 'http://a.example.com/'\n", "plain http"),
        ("[[issuer]]\nissuer = 'http://a.example.com/'\ndiscovery = true\n", "plain http"),
        ("[[issuer]]\nissuer = 'a'\ndiscovery = true\n", "is not a valid URL"),
        ("[[issuer]]\npreset = 'supabase'\n", "the preset supabase needs to know the issuer"),
        ("[[issuer]]\npreset = 'aws-alb'\naudience = 'arn'\n", "the table does not say where the keys are"),
        (
            "[[issuer]]\npreset = 'aws-alb'\njwks = 'https://a/{kid}'\n",
            "audience: it is missing, and without it the preset aws-alb proves nothing",
        ),
        ("[[issuer]]\npreset = 'google-iap'\n", "audience: it is missing"),
        ("[[issuer]]\npreset = 'entra'\n", "audience: it is missing"),
        ("[[issuer]]\npreset = 'spiffe'\njwks = 'keys.json'\n", "audience: it is missing"),
        ("[[issuer]]\nissuer = 'a'\njwks = 'keys.json'\nneeds = ['audience']\n", "needs: no such key"),
        ("[[issuer]]\nissuer = 'a'\njwks = 'keys.json'\nrequired = ['exp']\n", "required: no such key"),
    ],
)
def test_a_table_that_does_not_fit_together(write: Any, text: str, told: str) -> None:
    """What one key says of another is looked at too."""
    config, problems = write(text)
    assert len(problems) == 1
    assert told in str(problems[0])
    assert config.issuers[0].broken


def test_an_issuer_is_described_once(write: Any) -> None:
    """The same issuer twice is a contradiction, unless their tokens come from different sources."""
    table = "[[issuer]]\nissuer = 'a'\njwks = 'keys.json'\n"
    config, problems = write(table + table)
    assert "it is already described in [[issuer]] 1 (a)" in str(problems[0])
    assert len(config.issuers) == 1
    config, problems = write(table + table + "source = 'cookie:X'\n")
    assert problems == []
    assert [table.source for table in config.issuers] == [None, "cookie:X"]
    config, problems = write(table, JWKS="https://a.example.com/keys", ISSUER="a")
    assert "it is already described in variables" in str(problems[0])


def test_rules_without_keys_are_not_ignored(write: Any) -> None:
    """AUDIENCE and its like belong to the variables' issuer: with a file alone they would check nothing."""
    config, problems = write("[[issuer]]\nissuer = 'a'\njwks = 'keys.json'\n", AUDIENCE="api")
    assert "apply to keys that a variable names, and none does" in str(problems[0])
    assert not config.token_settings_ok


def test_hosts_for_plain_http(write: Any) -> None:
    """A container's name may be allowed, by its exact name."""
    table = "[[issuer]]\nissuer = 'http://keycloak:8080/realms/a'\npreset = 'keycloak'\n"
    config, problems = write(table, HTTP_HOSTS="keycloak")
    assert problems == []
    assert config.issuers[0].discovery == "http://keycloak:8080/realms/a/.well-known/openid-configuration"
    assert write(table, HTTP_HOSTS="key,keycloak.example.com")[1] != []


def test_the_presets_are_those_that_are_promised() -> None:
    """Each with a link to the vendor's documentation, over https, and no key that a table could not have."""
    assert sorted(presets()) == sorted(PRESETS)
    for preset in presets().values():
        assert str(preset["documentation"]).startswith("https://")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_data_that_a_table_completes(write: Any, name: str) -> None:
    """With an issuer and, where the vendor has no fixed place, keys, a preset is whole; the table's words win."""
    keys = "" if any(key in presets()[name] for key in KEY_PLACES) else "jwks = 'keys.json'\n"
    issuer = "https://login.microsoftonline.com/t/v2.0" if name == "entra" else "https://a.example.com/"
    table = f"[[issuer]]\npreset = '{name}'\nissuer = '{issuer}'\naudience = 'ours'\n"
    config, problems = write(table + keys)
    assert problems == []
    (made,) = config.issuers
    assert made.preset == name
    assert (made.issuer, made.broken) == (issuer, False)
    config, problems = write(table + "public_key = 'key.pem'\nsource = 'cookie:own'\nsession = ['own']\n")
    assert problems == []
    (made,) = config.issuers
    assert (made.jwks, made.discovery, made.source, made.session) == (None, None, "cookie:own", ("own",))


def test_presets_and_their_claims(write: Any) -> None:
    """Claims are merged one by one; ``{issuer}`` is the table's, without a slash at its end."""
    config, problems = write(
        "[[issuer]]\npreset = 'clerk'\nissuer = 'https://clerk.example.com/'\nclaims = { 'app.org' = 'org_id' }\n"
        "[[issuer]]\npreset = 'entra'\naudience = 'api'\n"
    )
    assert problems == []
    clerk, entra = config.issuers
    assert clerk.jwks == "https://clerk.example.com/.well-known/jwks.json"
    assert clerk.claims == (("/o/rol", "user.roles"), ("org_role", "user.roles"), ("org_id", "app.org"))
    assert (entra.issuer, entra.tenant) == ("https://login.microsoftonline.com/{tenantid}/v2.0", True)


def test_one_issuer_by_its_metadata() -> None:
    """DISCOVERY without a file: of ISSUER, or by a URL of its own."""
    issuer = {f"{PREFIX}ISSUER": "https://a.example.com/realms/x"}
    config, problems = load({**issuer, f"{PREFIX}DISCOVERY": "true"})
    assert problems == []
    assert config.issuers[0].discovery == "https://a.example.com/realms/x/.well-known/openid-configuration"
    config, problems = load(
        {**issuer, f"{PREFIX}DISCOVERY": "http://127.0.0.1:1/meta/.well-known/openid-configuration"}
    )
    assert problems == []
    assert load({**issuer, f"{PREFIX}DISCOVERY": "false"})[0].issuers == ()
    for wrong in (
        {f"{PREFIX}DISCOVERY": "true"},
        {f"{PREFIX}DISCOVERY": "https://a.example.com/realms/x"},  # whose metadata must name the issuer
        {f"{PREFIX}DISCOVERY": "true", f"{PREFIX}ISSUER": "https://a.example.com/{tenantid}/"},
        {**issuer, f"{PREFIX}DISCOVERY": "http://a.example.com/"},
    ):
        config, problems = load(wrong)
        assert [problem.variable for problem in problems] == [f"{PREFIX}DISCOVERY"]
        assert not config.token_settings_ok


def test_a_file_that_goes_between_two_looks(tmp_path: Path) -> None:
    """Or that is a directory: told, and no token is verified."""
    config, problems = load({f"{PREFIX}ISSUERS_FILE": str(tmp_path)})
    assert "cannot read" in str(problems[0])
    assert not config.token_settings_ok
    read = read_issuers(tmp_path, IssuerSettings("variables"), (), ())
    assert not read.readable
    assert "cannot be read (Is a directory)" in read.problems[0][0]
