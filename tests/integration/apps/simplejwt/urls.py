"""Sign in, refresh, see oneself."""

from __future__ import annotations

import logging
from typing import Any

from django.urls import path
from rest_framework.decorators import api_view
from rest_framework.response import Response
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

log = logging.getLogger("simplejwt")
log.setLevel(logging.INFO)


@api_view(["GET"])  # type: ignore[untyped-decorator]  # the library has no types for it
def me(request: Any) -> Any:
    log.info("served person %d", request.user.id)
    return Response({"person": request.user.id})


urlpatterns = [
    path("api/token/", TokenObtainPairView.as_view()),
    path("api/token/refresh/", TokenRefreshView.as_view()),
    path("me", me),
]
