"""Settings of the shop: Django REST framework, and tokens verified by djangorestframework-simplejwt."""

from __future__ import annotations

import os
import secrets
from typing import Any

SECRET_KEY = os.environ.get("SHOP_SECRET") or secrets.token_hex(32)
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "rest_framework"]
USE_TZ = True
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework_simplejwt.authentication.JWTStatelessUserAuthentication"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
SIMPLE_JWT: dict[str, Any] = {"USER_ID_CLAIM": "sub"}
if os.environ.get("SHOP_JWKS"):  # tokens come from an issuer, whose key set this names
    SIMPLE_JWT |= {"ALGORITHM": "RS256", "JWK_URL": os.environ["SHOP_JWKS"], "TOKEN_TYPE_CLAIM": None}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {"shop": {"handlers": ["console"], "level": "INFO"}},
}
