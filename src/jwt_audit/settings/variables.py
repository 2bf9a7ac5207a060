"""How the environment variables are named."""

from __future__ import annotations

PREFIX = "OTEL_PYTHON_JWT_AUDIT_"
