"""flask-jwt-extended with integers for people, in cookies as well as headers, and refresh tokens."""

from __future__ import annotations

import logging

from flask import Flask, jsonify
from flask.typing import ResponseReturnValue
from flask_jwt_extended import (
    JWTManager,
    create_access_token,
    create_refresh_token,
    get_jwt_identity,
    jwt_required,
    set_access_cookies,
)

log = logging.getLogger("extended")
log.setLevel(logging.INFO)
app = Flask(__name__)
app.config["JWT_SECRET_KEY"] = "0123456789abcdef0123456789abcdef"
app.config["JWT_TOKEN_LOCATION"] = ["headers", "cookies", "json"]
app.config["JWT_COOKIE_CSRF_PROTECT"] = False
app.config["JWT_VERIFY_SUB"] = False
JWTManager(app)


@app.post("/login")
def login() -> ResponseReturnValue:
    access = create_access_token(identity=17)
    response = jsonify(access_token=access, refresh_token=create_refresh_token(identity=17))
    set_access_cookies(response, access)
    return response


@app.post("/refresh")
@jwt_required(refresh=True, locations=["json"])  # type: ignore[untyped-decorator]  # the library has no types for it
def refresh() -> ResponseReturnValue:
    return jsonify(access_token=create_access_token(identity=get_jwt_identity()))


@app.get("/me")
@jwt_required()  # type: ignore[untyped-decorator]
def me() -> ResponseReturnValue:
    log.info("served person %d", get_jwt_identity())
    return jsonify(person=get_jwt_identity())
