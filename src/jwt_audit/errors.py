"""The errors of this package: one small tree, so that a caller can catch all of it or one kind.

Foreign errors (OSError, PyJWT's, cryptography's) are wrapped at the seam where they arise, with
``from``. No message ever holds a token, a cookie, a query string or a body.
"""

from __future__ import annotations


class JWTAuditError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(JWTAuditError):
    """A setting is wrong. The message names the variable, what is wrong and what would be right."""

    def __init__(self, variable: str, problem: str, remedy: str) -> None:
        super().__init__(f"{variable}: {problem}; {remedy}")
        self.variable = variable


class KeySourceError(JWTAuditError):
    """A key file, key set or key URL cannot be used. The app goes on; its tokens stay unverified."""


class RecordError(JWTAuditError):
    """A record has no canonical form: a lone surrogate, a foreign type, over 64 KiB, not canonical."""


class SpoolError(JWTAuditError):
    """A record could not be written to the spool, or the spool cannot be read."""


class DiskFullError(SpoolError):
    """The disk has no room for what has to be written before the work can go on."""


class EvidenceError(JWTAuditError):
    """What was given as evidence cannot be read as such: no such file, neither spool nor OTLP."""
