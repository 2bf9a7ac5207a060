"""What OpenTelemetry's tools read of an instrumentation."""

_instruments: tuple[str, ...] = ()
"""No library has to be there: what is hooked depends on what the app loads."""

_supports_metrics = False
