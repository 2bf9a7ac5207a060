"""The recipes of docs/logging.md in a running app: each line says who, and OTLP has it where the page says so."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from jwt_audit.settings.variables import PREFIX
from support.issuer import claims, jwks, signing_key
from support.served import GUNICORN, serving

PAGE = Path(__file__).parents[2] / "docs" / "logging.md"
RECIPES = dict(re.findall(r"### ([^\n]+)\n\n```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))
SAYS = {
    "logging": 'logging.getLogger("shop").warning("hello")',
    "loguru": 'logger.warning("hello")',
    "structlog": 'structlog.get_logger().warning("hello")',
    "structlog over logging": 'structlog.get_logger("shop").warning("hello")',
}
OTLP = set(RECIPES) - {"structlog"}
APP = """
{recipe}
from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello():
    {says}
    return "hello"
"""
KEY = signing_key("ES256")


def test_each_recipe_is_run() -> None:
    """None is on the page that no app was started with."""
    assert set(RECIPES) == set(SAYS)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_line_says_who(tmp_path: Path, name: str) -> None:
    """With the person and the trace of the request it was written for."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "app.py").write_text(APP.format(recipe=RECIPES[name], says=SAYS[name]))
    (work / "keys.json").write_bytes(jwks(KEY.jwk("k")))
    environment = {f"{PREFIX}JWKS": str(work / "keys.json"), "OTEL_PYTHON_LOG_CORRELATION": "true"}
    now = int(time.time())
    with serving(tmp_path, work, command=GUNICORN, **environment) as served:
        token = KEY.sign(claims(sub="alice", iat=now, exp=now + 600), kid="k")
        answer = served.ask("/", token)
        told = served.told(answer, logs=1 if name in OTLP else 0)
        assert told.record["enduser.id"] == "alice"
        trace = next(item.trace for item in served.items("audit") if item.attributes.get("request.id") == answer.id)
        if name in OTLP:
            (line,) = [attributes for body, attributes in told.logs.items() if "hello" in body]
            assert (line["enduser.id"], line["jwt.status"]) == ("alice", "verified")
        if name == "logging":
            served.wait(lambda: f"hello user=alice trace={trace}" in served.output())
            return
        if name == "structlog over logging":
            return
        lines = work / "lines.jsonl"
        served.wait(lambda: "hello" in lines.read_text("utf-8"))
        found = next(json.loads(one) for one in lines.read_text("utf-8").splitlines() if "hello" in one)
        shown = found["record"]["extra"] if name == "loguru" else found
        assert (shown["enduser.id"], shown["jwt.status"], shown["trace_id"]) == ("alice", "verified", trace)
        assert token.rpartition(".")[2].encode() not in served.everything() + lines.read_bytes()
