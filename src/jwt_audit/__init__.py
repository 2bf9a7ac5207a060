"""Verified JWT identity for telemetry, and audit records that can be proved."""

from .api import annotate, current_identity, emit
from .evidence.record import Receipt
from .identity.caller import Identity, Reason, Status

__all__ = ["Identity", "Reason", "Receipt", "Status", "annotate", "current_identity", "emit"]
