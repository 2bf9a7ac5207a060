"""A resource server by Authlib's ResourceProtector for JWT access tokens (RFC 9068), on Flask."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from authlib.integrations.flask_oauth2 import ResourceProtector, current_token
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from flask import Flask
from joserfc.jwk import KeySet

log = logging.getLogger("protector")
log.setLevel(logging.INFO)
app = Flask(__name__)


class Validator(JWTBearerTokenValidator):  # type: ignore[misc]  # untyped upstream
    def get_jwks(self) -> Any:
        return KeySet.import_key_set(json.loads(Path("jwks.json").read_text("ascii")))


protected = ResourceProtector()
protected.register_token_validator(Validator(issuer="https://as.example.com/", resource_server="api"))


@app.get("/orders")
@protected("orders")  # type: ignore[untyped-decorator]
def orders() -> dict[str, str]:
    log.info("listed orders")
    return {"person": current_token["sub"]}
