"""Tokens that grow with somebody's groups, on real servers: what reaches the app, and what is made of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from jwt_audit.attributes import MAX_ITEMS
from jwt_audit.tokens.jws import MAX_TOKEN
from support.issuer import SigningKey, claims
from support.served import GUNICORN, UVICORN, serving

EXAMPLES = Path(__file__).parents[2] / "examples"
SECRET = "0123456789abcdef0123456789abcdef"
KIB = 1024
REFUSED = 431
SERVERS: dict[str, tuple[str, tuple[str, ...], int]] = {
    "gunicorn": ("flask", GUNICORN, 8190),
    "uvicorn-h11": ("fastapi", (*UVICORN, "--http", "h11"), 64 * KIB),
    "uvicorn-httptools": ("fastapi", (*UVICORN, "--http", "httptools"), 64 * KIB),
    "hypercorn": ("fastapi", ("hypercorn", "{app}", "-b", "127.0.0.1:{port}"), 64 * KIB),
}
"""Example, command, and the header that is too long for the server's defaults, in bytes."""


def token_of(length: int) -> str:
    """A good token of about so many characters, by its groups."""
    now = int(time.time())
    whole = claims(iss=None, aud=None, iat=now, exp=now + 600, token_type="access")
    key, groups = SigningKey(SECRET.encode(), "HS256"), [f"group-{number:04}" for number in range(length // 22)]
    while len(made := key.sign({**whole, "groups": groups})) < length:
        groups.append(f"group-{len(groups):04}")
    return made


@pytest.mark.parametrize("name", SERVERS)
def test_a_long_token(tmp_path: Path, name: str) -> None:
    """Up to our limit it is a token like any other, its groups capped; above, or for the server, it is too long."""
    example, command, limit = SERVERS[name]
    settings = {"SHOP_SECRET": SECRET, "OTEL_PYTHON_JWT_AUDIT_CLAIMS": "groups=app.groups"}
    with serving(tmp_path, EXAMPLES / example, command=command, **settings) as served:
        for size in (4, 8, 9, 15, 17, 33):
            token = token_of(size * KIB)
            answer = served.ask("/orders", token)
            if len("Authorization: Bearer ") + len(token) > limit:
                assert (answer.status, size > 7) == (REFUSED, True)
                continue
            assert answer.status == 200, served.output()
            record = served.told(answer).record
            if len(token) > MAX_TOKEN:
                assert (record["jwt.status"], record["jwt.error"]) == ("invalid", "too_large")
                assert "enduser.id" not in record
            else:
                assert (record["jwt.status"], record["enduser.id"]) == ("verified", "u1001")
                assert len(record["app.groups"]["values"]) == MAX_ITEMS
        asked = served.ask("/orders/1")
        assert served.told(asked).record["jwt.status"] == "absent"
        records = [item.attributes for item in served.items("audit")]
        assert not [one for one in records if one.get("http.response.status_code") == REFUSED]  # the server's alone
