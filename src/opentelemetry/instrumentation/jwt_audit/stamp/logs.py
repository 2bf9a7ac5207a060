"""Puts the identity on log records: of stdlib logging where loggers make them, so that console and
JSON logs show who, not only OTLP; and of the OpenTelemetry Logger API by a processor."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk._logs import LogRecordProcessor

from ..request_context import request_of
from .providers import add_to_provider


def install_records() -> None:
    """Stamp what ``logging.Logger.makeRecord`` returns, except attributes that the record has already.

    Not by a record factory: what that sets could not be given as ``extra`` any more (logging raises KeyError).
    """
    original = logging.Logger.makeRecord
    if getattr(original, "_jwt_audit", False):
        return

    @functools.wraps(original)
    def make_record(self: logging.Logger, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = original(self, *args, **kwargs)
        request = request_of()
        if request is not None:
            for name, value in request.identity.logged.items():
                record.__dict__.setdefault(name, value)
        return record

    make_record._jwt_audit = True  # type: ignore[attr-defined]  # marks ours on a plain function
    logging.Logger.makeRecord = make_record  # type: ignore[method-assign]


class IdentityLogProcessor(LogRecordProcessor):
    """Stamps records of the OpenTelemetry Logger API."""

    def on_emit(self, log_record: Any) -> None:
        record = log_record.log_record
        request = request_of(record.context)
        if request is None:
            return
        attributes = dict(record.attributes or {})
        for name, value in request.identity.logged.items():
            attributes.setdefault(name, value)
        record.attributes = attributes

    def shutdown(self) -> None:
        return

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002
        return True


def install_processor(find: Callable[[], Any]) -> None:
    """Put our processor before the others of the logger provider that ``find`` returns: now, or at the first request.

    After the batch processor it would race with the export. No public API sets the order (OpenTelemetry SDK 1.39 to
    1.45), so this uses private attributes and checks that they are there. Where no provider is set up by the first
    request, there are no such records.
    """
    why = "the processors of its provider cannot be reached"
    without = f"records of the OpenTelemetry Logger API carry no identity: {why}"
    add_to_provider(find, _put_first, without=without, once="logs", absent=_is_none)


def _put_first(provider: Any) -> bool:
    multi = getattr(provider, "_multi_log_record_processor", None)
    present = getattr(multi, "_log_record_processors", None)
    if multi is None or not isinstance(present, tuple):
        return False
    multi._log_record_processors = (IdentityLogProcessor(), *present)
    return True


def _is_none(provider: Any) -> bool:
    """Whether this is the placeholder that the API returns while no provider is set up."""
    return type(provider).__module__.startswith("opentelemetry._logs")
