"""Verified JWT identity on every span and log record, one provable audit record a request.

Loaded by ``opentelemetry-instrument`` through the entry point ``jwt_audit``; or by hand:
``JWTAuditInstrumentor().instrument(jwks="https://…", issuer="https://…")``, where each setting in
`jwt_audit.settings.config.SETTINGS` is a keyword argument.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # it has no __all__

from jwt_audit.diagnostics import warn_operator

from .package import _instruments


class JWTAuditInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # untyped upstream
    """Installs the boundaries and the stamps. Raises nothing: that would stop all instrumentation."""

    def instrumentation_dependencies(self) -> Collection[str]:
        return _instruments

    def _instrument(self, **kwargs: Any) -> None:
        try:
            self._install(**kwargs)
        except Exception as error:
            warn_operator(f"nothing is audited: {type(error).__name__} at start", once="instrument")

    def _install(self, **kwargs: Any) -> None:
        from opentelemetry._logs import get_logger_provider
        from opentelemetry.instrumentation.utils import suppress_instrumentation
        from opentelemetry.trace import get_tracer_provider

        from .hooks import boundary, patch, targets
        from .hooks.verifiers import libraries
        from .pipeline import compose
        from .request_context import at_first_request
        from .stamp import logs, propagator, spans

        tracer_provider = kwargs.pop("tracer_provider", None)
        logger_provider = kwargs.pop("logger_provider", None)
        kwargs.pop("meter_provider", None)
        pipeline = compose(suppress=suppress_instrumentation, hooked=patch.hooked, **kwargs)
        if pipeline is None:
            return
        boundary.install(pipeline)
        propagator.install()
        at_first_request(propagator.install)  # the app may have set another one by then
        spans.install(lambda: tracer_provider or get_tracer_provider())
        logs.install_records()
        logs.install_processor(lambda: logger_provider or get_logger_provider())
        targets.install()
        libraries.install()

    def _uninstrument(self, **kwargs: Any) -> None:  # noqa: ARG002
        from .hooks import boundary

        pipeline = boundary.installed()
        boundary.install(None)
        if pipeline is not None:
            pipeline.stop()
