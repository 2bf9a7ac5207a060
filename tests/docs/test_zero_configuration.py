"""The recipes of docs/zero-configuration.md, run as they stand."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jwt_audit.identity.caller import Identity, Reason
from jwt_audit.request import current_request
from opentelemetry.instrumentation.jwt_audit.hooks.wsgi import run_wsgi
from support.audited import observing
from support.issuer import claims, signing_key

PAGE = (Path(__file__).parents[2] / "docs" / "zero-configuration.md").read_text("utf-8")
RECIPES = dict(re.findall(r"### ([^\n]+)\n\n```python\n(.*?)```", PAGE, re.DOTALL))
KEY, OTHER = signing_key(), signing_key("RS256", 1)


@pytest.fixture(autouse=True)
def _pipeline(tmp_path: Path) -> Iterator[None]:
    with observing(tmp_path):
        yield


def identity(recipe: str, token: str) -> tuple[Identity, str | None]:
    """Who a request with this token is made by, and whom the recipe gave."""
    given: dict[str, Any] = {"PUBLIC_KEY": KEY.pem.decode()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(recipe, given)
    found: list[tuple[Identity, str | None]] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        try:
            person = given["person"](environ["HTTP_AUTHORIZATION"].removeprefix("Bearer "))
        except Exception:
            person = None
        request = current_request()
        assert request is not None
        found.append((request.identity, person))
        start_response("200 OK", [])
        return [b""]

    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_AUTHORIZATION": f"Bearer {token}"}
    body: Any = run_wsgi(app, environ, lambda *_: None)
    assert list(body) == [b""]
    body.close()
    return found[0]


def test_each_library_has_its_recipe() -> None:
    """Those that are observed."""
    assert set(RECIPES) == {"PyJWT", "joserfc", "Authlib", "python-jose"}


@pytest.mark.parametrize("library", RECIPES)
def test_the_recipe_is_observed(library: str) -> None:
    """A good token, one for another audience, an expired one, one by another key."""
    now = int(time.time())
    good = claims(aud="orders", iat=now, exp=now + 600)
    found, person = identity(RECIPES[library], KEY.sign(good))
    assert (found.subject, found.verified_by, person) == ("u1001", "app", "u1001")
    for token, reason in (
        (KEY.sign({**good, "aud": "other"}), Reason.AUDIENCE_MISMATCH),
        (KEY.sign({**good, "exp": now - 60}), Reason.EXPIRED),
        (OTHER.sign(good), Reason.SIGNATURE_MISMATCH),
    ):
        found, person = identity(RECIPES[library], token)
        assert (found.reason, found.subject, person) == (reason, None, None)
