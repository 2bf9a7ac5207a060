"""`jwt-audit token inspect`: what it says, and what it never shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jwt_audit.cli.main import main
from jwt_audit.cli.token import WHY
from jwt_audit.identity import Reason
from jwt_audit.values import PREFIX
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
