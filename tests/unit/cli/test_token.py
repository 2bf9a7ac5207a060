"""`jwt-audit token inspect`: what it says, and what it never shows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jwt_audit.cli.main import main
from jwt_audit.cli.token import WHY
from jwt_audit.identity.caller import Reason
from jwt_audit.settings.variables import PREFIX
from jwt_audit.tokens.verify import NO_CREDENTIALS
from support.issuer import ISSUER, NOW, SECRET, claims, jwks, jwks_server, signing_key

KEY = signing_key("ES256")
TOKEN = KEY.sign(claims(), kid="k")


@pytest.fixture(autouse=True)
def _configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys.json").write_bytes(jwks(KEY.jwk("k")))
    monkeypatch.setenv(f"{PREFIX}JWKS", str(tmp_path / "keys.json"))
    monkeypatch.setenv(f"{PREFIX}ISSUER", ISSUER)


def inspect(text: str | bytes, *words: str) -> Result:
    return CliRunner().invoke(
        main, ["token", "inspect", "--at", str(NOW + 1), *words], input=text, catch_exceptions=False
    )


def found(text: str | bytes, *words: str) -> dict[str, Any]:
    shown = inspect(text, "--json", *words)
    assert shown.exit_code == 0
    value: dict[str, Any] = json.loads(shown.stdout)
    return value


def test_a_good_token() -> None:
    """Status, issuer, what would be recorded, who the actor would be."""
    assert found(TOKEN) == {
        "status": "verified",
        "error": None,
        "issuer_config": ISSUER,
        "attributes": {
            "jwt.status": "verified",
            "enduser.id": "u1001",
            "session.id": "s-1",
            "jwt.issuer": ISSUER,
            "jwt.expires_at": NOW + 3600,
            "jwt.expires_at.iso": "2026-11-24T07:00:00Z",
            "jwt.id": "j-1",
            "jwt.session_claim": "sid",
        },
        "actor": {"id": "u1001", "type": "user"},
        "mismatches": [],
        "hints": [],
        "mappings": [],
    }


@pytest.mark.parametrize(
    "text", [f"{TOKEN}\r\n", f"  {TOKEN}  ", f"Bearer {TOKEN}", f"bearer  {TOKEN}\n", f"DPoP {TOKEN}"]
)
def test_a_token_as_it_was_copied(text: str) -> None:
    """With or without its scheme, with line breaks around it."""
    assert found(text)["status"] == "verified"


@pytest.mark.parametrize(
    ("at", "status"),
    [
        ("2026-11-24T06:59:00Z", "verified"),
        ("2026-11-24T07:59:00+01:00", "verified"),
        ("2026-11-24T06:59:00", "verified"),
        (str(NOW + 3600 + 9), "verified"),
        (f"{NOW + 3600 + 10}.0", "expired"),
        ("2026-11-24", "not_yet_valid"),
        ("2030-01-01T00:00:00Z", "expired"),
    ],
)
def test_as_of_another_time(at: str, status: str) -> None:
    """ISO 8601, UTC where no zone is named, or seconds since the epoch."""
    assert found(TOKEN, "--at", at)["status"] == status


@pytest.mark.parametrize("at", ["yesterday", "", "nan", "inf", "2026-13-01"])
def test_what_is_no_time(at: str) -> None:
    """A wrong use of the command, told in a line."""
    shown = inspect(TOKEN, "--at", at)
    assert shown.exit_code == 2
    assert "--at" in shown.output


@pytest.mark.parametrize(
    ("header", "text", "status"),
    [
        ("Authorization", TOKEN, "verified"),
        ("AUTHORIZATION", f"Bearer {TOKEN}", "verified"),
        ("bearer", TOKEN, "verified"),
        ("X-Token", TOKEN, "verified"),
        ("x-token", f"JWT {TOKEN}", "verified"),
        ("header:X-Token", TOKEN, "verified"),
        ("Cookie", TOKEN, "verified"),
        ("Cookie", f"a=b; session={TOKEN}", "verified"),
        ("cookie:session", TOKEN, "verified"),
        ("cookie:other", TOKEN, "absent"),
        ("Sec-WebSocket-Protocol", TOKEN, "verified"),
        ("websocket", f"bearer, {TOKEN}", "verified"),
        ("X-Other", TOKEN, "absent"),
        ("Authorization", "Basic dXNlcjpwYXNz", "absent"),
        ("Authorization", "", "invalid"),
    ],
)
def test_the_header_it_came_in(monkeypatch: pytest.MonkeyPatch, header: str, text: str, status: str) -> None:
    """Its source, by the header's name; a header that nobody looks at shows no token."""
    monkeypatch.setenv(f"{PREFIX}SOURCES", "bearer,header:x-token,cookie:session,websocket")
    assert found(text, "--header", header)["status"] == status


def test_the_keys_of_a_url_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the app; also one that is fetched only when a token names it."""
    with jwks_server() as server:
        server.body = jwks(KEY.jwk("k"))
        monkeypatch.setenv(f"{PREFIX}JWKS", server.url)
        assert found(TOKEN)["status"] == "verified"
        server.body = KEY.pem
        monkeypatch.setenv(f"{PREFIX}JWKS", f"{server.url}/{{kid}}")
        assert found(TOKEN)["status"] == "verified"
        assert found(KEY.sign(claims(), kid="../k"))["error"] == "unknown_key"


def test_why_not_in_words() -> None:
    """Each reason is explained, and a person is told by whose rules."""
    assert set(WHY) == set(Reason)
    shown = inspect(signing_key("ES256", 1).sign(claims(), kid="k"))
    assert shown.exit_code == 0
    assert shown.stdout.startswith("invalid: signature_mismatch\n")
    assert "forged" in shown.stdout
    assert ISSUER in shown.stdout
    assert "actor anonymous (user)" in shown.stdout


def test_what_is_wrong_with_the_configuration_is_told_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard error, so that the answer stays one object."""
    monkeypatch.setenv(f"{PREFIX}LEEWAY", "soon")
    shown = inspect(TOKEN, "--json")
    assert f"{PREFIX}LEEWAY" in shown.stderr
    assert json.loads(shown.stdout)["error"] == "keys_unavailable"


def test_without_keys_the_apps_word_would_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unverified here: the command has no app to observe."""
    monkeypatch.delenv(f"{PREFIX}JWKS")
    assert (found(TOKEN)["status"], found(TOKEN)["error"]) == ("unverified", "keys_unavailable")


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"." * 100_000, b"ey" * 10_000, b"\n\n"])
def test_any_input_has_an_answer(data: bytes) -> None:
    """Whatever is piped in."""
    assert found(data)["status"] in ("absent", "invalid", "unverified")


@pytest.mark.parametrize(
    "words",
    [
        ["token", "inspect", TOKEN],
        ["token", "inspect", "--at", TOKEN],
        ["token", "inspect", "--json", f"Bearer {TOKEN}"],
        ["token", "inspect", f"--token={TOKEN}"],
        ["token", TOKEN],
        [TOKEN],
        ["status", TOKEN],
        ["tail", "--since", TOKEN],
        ["ship", "--endpoint", TOKEN],
    ],
)
def test_a_token_is_never_an_argument(words: list[str]) -> None:
    """It would be in the shell's history and in the process table; what is said of it does not show it again."""
    shown = CliRunner().invoke(main, words, input="", catch_exceptions=False)
    assert shown.exit_code in (1, 2)
    for part in TOKEN.split("."):
        assert part not in shown.output


def test_pseudonyms_as_they_would_be_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So an operator can find a person's records."""
    (tmp_path / "pseudonyms").write_bytes(SECRET)
    monkeypatch.setenv(f"{PREFIX}PII", "pseudonym")
    monkeypatch.setenv(f"{PREFIX}PSEUDONYM_KEY_FILE", str(tmp_path / "pseudonyms"))
    answer = found(TOKEN)
    assert answer["actor"]["id"] == answer["attributes"]["enduser.pseudo.id"]
    assert "u1001" not in json.dumps(answer)


def configure(monkeypatch: pytest.MonkeyPatch, folder: Path, tables: str) -> None:
    for name in ("JWKS", "ISSUER"):
        monkeypatch.delenv(f"{PREFIX}{name}")
    (folder / "issuers.toml").write_text(tables)
    monkeypatch.setenv(f"{PREFIX}ISSUERS_FILE", str(folder / "issuers.toml"))


HERE = f'[[issuer]]\nissuer = "{ISSUER}"\njwks = "keys.json"\n'
OTHER = signing_key("ES256", 1)
MISMATCHES: dict[str, tuple[str, str, dict[str, list[str]], dict[str, list[str]]]] = {
    # name: table, token, found, wanted
    "audience": (
        f'{HERE}audience = ["orders-api", "billing"]',
        KEY.sign(claims(aud="account"), kid="k"),
        {"aud": ["account"]},
        {"aud": ["billing", "orders-api"]},
    ),
    "audiences": (
        f'{HERE}audience = "orders-api"',
        KEY.sign(claims(aud=["a", "b", 7, None]), kid="k"),
        {"aud": ["a", "b", "7", "null"]},
        {"aud": ["orders-api"]},
    ),
    "no audience": (
        f'{HERE}audience = "orders-api"',
        KEY.sign(claims(aud=None), kid="k"),
        {"aud": []},
        {"aud": ["orders-api"]},
    ),
    "audience by client": (
        f'{HERE}audience = "orders-api"',
        KEY.sign(claims(aud=None, client_id="web"), kid="k"),
        {"client_id": ["web"]},
        {"client_id": ["orders-api"]},
    ),
    "audience by header": (
        '[[issuer]]\npreset = "aws-alb"\nsource = "bearer"\njwks = "keys.json"\naudience = "arn:a"',
        KEY.sign(claims(), kid="k", signer="arn:b"),
        {"signer": ["arn:b"]},
        {"signer": ["arn:a"]},
    ),
    "issuer": (
        f'{HERE}[[issuer]]\nissuer = "https://b.example.com"\njwks = "keys.json"\nsource = "header:x-b"',
        KEY.sign(claims(iss="https://other.example.com"), kid="k"),
        {"iss": ["https://other.example.com"], "source": ["bearer"]},
        {"iss": [ISSUER, "https://b.example.com (from header:x-b)"], "source": ["any source", "header:x-b"]},
    ),
    "no issuer": (HERE, KEY.sign(claims(iss=None), kid="k"), {"iss": []}, {"iss": [ISSUER]}),
    "tenant": (
        '[[issuer]]\npreset = "entra"\njwks = "keys.json"\nalgorithms = "ES256"\naudience = "api"',
        KEY.sign(claims(iss="https://login.microsoftonline.com/a/v2.0", tid="b"), kid="k"),
        {"iss": ["https://login.microsoftonline.com/a/v2.0"], "tid": ["b"]},
        {"iss": ["https://login.microsoftonline.com/{tenantid}/v2.0"], "tid": ["the tenant that iss names"]},
    ),
    "type": (f'{HERE}typ = "at+jwt"', TOKEN, {"typ": ["JWT"]}, {"typ": ["at+jwt"]}),
    "missing claim": (
        f'{HERE}typ = "at+jwt"',
        KEY.sign(claims(), kid="k", typ="at+jwt"),
        {"client_id": []},
        {"client_id": ["it has to be there"]},
    ),
    "milliseconds": (
        HERE,
        KEY.sign(claims(exp=NOW * 1000), kid="k"),
        {"exp": [str(NOW * 1000)]},
        {"exp": ["seconds since the epoch"]},
    ),
    "an object for a subject": (
        HERE,
        KEY.sign(claims(sub={"id": "u1001"}), kid="k"),
        {"sub": ["an object"]},
        {"sub": ["a text, or an integer"]},
    ),
    "algorithm of the issuer": (f'{HERE}algorithms = ["ES384"]', TOKEN, {"alg": ["ES256"]}, {"alg": ["ES384"]}),
    "unknown key": (HERE, KEY.sign(claims(), kid="new"), {"kid": ["new"]}, {"kid": ["k"]}),
    "audience of another type": (
        f'{HERE}audience = "orders-api"',
        KEY.sign(claims(aud={"x": 1}), kid="k"),
        {"aud": ["an object"]},
        {"aud": ["orders-api"]},
    ),
    "many audiences": (
        f"{HERE}audience = {json.dumps([f'a{number:02}' for number in range(20)])}",
        KEY.sign(claims(aud="b"), kid="k"),
        {"aud": ["b"]},
        {"aud": [*(f"a{number:02}" for number in range(16)), "and 4 more"]},
    ),
    "tenant of the key": (
        '[[issuer]]\npreset = "entra"\njwks = "tenants.json"\nalgorithms = "ES256"\naudience = "api"',
        KEY.sign(claims(iss="https://login.microsoftonline.com/b/v2.0", tid="b"), kid="k"),
        {"tid": ["b"]},
        {"tid": ["https://login.microsoftonline.com/a/v2.0"]},
    ),
    "issuer of another type": (
        '[[issuer]]\njwks = "keys.json"',
        KEY.sign(claims(iss=7), kid="k"),
        {"iss": ["an integer"]},
        {"iss": ["a text"]},
    ),
    "algorithm of the key": (
        HERE,
        signing_key("RS256").sign(claims(), kid="k"),
        {"alg": ["RS256"]},
        {"alg": ["ES256"]},
    ),
    "a type that speaks for nobody": (
        HERE,
        KEY.sign(claims(), kid="k", typ="logout+jwt"),
        {"typ": ["logout+jwt"]},
        {"typ": [f"any but {', '.join(sorted(NO_CREDENTIALS))}"]},
    ),
    "an end in the header": (
        HERE,
        KEY.sign(claims(exp=None), kid="k", exp="soon"),
        {"exp": ["soon"]},
        {"exp": ["seconds since the epoch"]},
    ),
    "not yet valid": (
        HERE,
        KEY.sign(claims(iat=None, nbf=NOW + 60), kid="k"),
        {"nbf": ["2026-11-24T06:01:00Z"]},
        {"nbf": ["not after 2026-11-24T06:00:01Z, give or take 10 s"]},
    ),
    "expired": (
        HERE,
        KEY.sign(claims(exp=NOW - 60), kid="k"),
        {"exp": ["2026-11-24T05:59:00Z"]},
        {"exp": ["after 2026-11-24T06:00:01Z, give or take 10 s"]},
    ),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_both_sides_of_a_mismatch(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the token has and what was wanted, or the name of the claim that is missing: in text and in JSON."""
    tables, token, has, wanted = MISMATCHES[name]
    entry = KEY.jwk("k", issuer="https://login.microsoftonline.com/a/v2.0")
    (tmp_path / "tenants.json").write_bytes(jwks(entry))
    configure(monkeypatch, tmp_path, tables)
    answer = found(token)
    assert answer["error"] is not None
    assert {one["what"]: one["found"] for one in answer["mismatches"]} == has
    assert {one["what"]: one["wanted"] for one in answer["mismatches"]} == wanted
    shown = inspect(token).stdout
    for what in has:
        assert f"{what} of the token: {', '.join(has[what]) or 'none'}\n" in shown
        assert re.search(rf"^  {what} wanted: +{re.escape(', '.join(wanted[what]))}$", shown, re.MULTILINE)
    for part in token.split("."):
        assert part not in shown


@pytest.mark.parametrize(
    ("reason", "tables", "token", "hint"),
    [
        (
            "signature_mismatch",
            HERE,
            OTHER.sign(claims(), kid="k", nonce="bm9uY2U"),
            "Microsoft signs tokens for its own Graph",
        ),
        ("signature_mismatch", HERE, OTHER.sign(claims(), kid="k"), None),
        ("audience_mismatch", f'{HERE}audience = "x"', KEY.sign(claims(aud="account", azp="web"), kid="k"), "mapper"),
        ("audience_mismatch", f'{HERE}audience = "x"', KEY.sign(claims(aud="X/"), kid="k"), "the slash at the end"),
        ("issuer_mismatch", HERE, KEY.sign(claims(iss=ISSUER.rstrip("/")), kid="k"), "the slash at the end"),
        ("issuer_mismatch", HERE, KEY.sign(claims(iss=ISSUER.replace("https", "http")), kid="k"), "the slash at the"),
        ("issuer_mismatch", HERE, KEY.sign(claims(iss="https://other.example.com"), kid="k"), None),
        (
            "unknown_key",
            '[[issuer]]\nissuer = "https://acme.okta.com"\njwks = "keys.json"',
            KEY.sign(claims(iss="https://acme.okta.com", cid="c", uid="u"), kid="unpublished"),
            "an Okta org's own",
        ),
        (
            "unknown_key",
            '[[issuer]]\nissuer = "http://[acme"\njwks = "keys.json"',
            KEY.sign(claims(iss="http://[acme", cid="c", uid="u"), kid="unpublished"),
            None,
        ),
    ],
)
def test_a_hint_where_more_is_known(
    reason: str, tables: str, token: str, hint: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above all of tokens that others cannot verify: those are no attack."""
    configure(monkeypatch, tmp_path, tables)
    answer = found(token)
    assert answer["error"] == reason
    assert len(answer["hints"]) == (hint is not None)
    shown = inspect(token).stdout
    assert ("hint: " in shown) == (hint is not None)
    if hint is not None:
        assert hint in answer["hints"][0]
        assert hint in shown


def test_each_mapped_claim_and_what_it_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, a part, or nothing, and why; also of an expired token, and of one that the app alone verifies."""
    mapping = "roles=user.roles,groups=x.groups,team=x.team,realm_access/roles=x.realm,none=x.none,n=x.n,m=x.n"
    monkeypatch.setenv(f"{PREFIX}CLAIMS", mapping)
    given = claims(roles={"admin": {"1": "a"}}, groups=["a", None], team="t", realm_access={"roles": []}, n=1, m=2)
    given["none"] = None
    wanted = [
        ("roles", "part", "it is an object: the names of its members are recorded, not what is in them"),
        ("groups", "part", "1 of its 2 items are left out: neither texts nor numbers"),
        ("team", "all", None),
        ("realm_access/roles", "no", "the token has no such claim; /realm_access/roles would be one"),
        ("none", "no", "it is null"),
        ("n", "all", None),
        ("m", "no", "x.n comes from a claim that is named before it"),
    ]
    token = KEY.sign(given, kid="k")
    answer = found(token)
    assert [(one["claim"], one["recorded"], one["why"]) for one in answer["mappings"]] == wanted
    partial = answer["attributes"]["jwt.claims_partial"]
    assert [one.partition("…sha256:")[0] for one in partial] == ["user.roles", "x.groups"]
    shown = inspect(token).stdout
    assert "  groups -> x.groups: a part: 1 of its 2 items are left out: neither texts nor numbers\n" in shown
    assert "  none -> x.none: nothing: it is null\n" in shown
    assert "team -> " not in shown
    late = found(token, "--at", "2030-01-01T00:00:00Z")
    assert (late["status"], late["mappings"]) == ("expired", answer["mappings"])
    assert found(OTHER.sign(given, kid="k"))["mappings"] == []
    monkeypatch.delenv(f"{PREFIX}JWKS")
    monkeypatch.delenv(f"{PREFIX}ISSUER")
    assert found(OTHER.sign(given, kid="k"))["mappings"] == answer["mappings"]


def test_a_key_that_was_replaced_under_its_name_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is the one that the app gives a moment later."""
    with jwks_server() as server:
        bodies = iter([jwks(KEY.jwk("k"))])

        def answer(handler: Any) -> None:
            server.body = next(bodies, jwks(OTHER.jwk("k")))
            server.write(handler)

        server.answer = answer
        monkeypatch.setenv(f"{PREFIX}JWKS", server.url)
        assert found(OTHER.sign(claims(), kid="k"))["status"] == "verified"
