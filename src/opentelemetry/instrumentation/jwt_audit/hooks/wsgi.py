"""The WSGI boundary: around an app, at whatever layer it is called first.

The record is appended before the chunk that completes the response is handed to the server: when
the declared Content-Length is satisfied, for a one-item list, for a file wrapper, else at
exhaustion. (Under gunicorn a client had its whole body while a record written at exhaustion did not
exist.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

from jwt_audit import attributes as attr
from jwt_audit.request import Phase, Request

from ..pipeline import Pipeline
from ..request_context import set_trace_ids
from .boundary import (
    BODILESS,
    REFUSAL,
    UNRECORDED,
    active,
    end,
    enter,
    error_name,
    failed,
    guarded,
    leave,
    new_request,
    note_error,
    resumed,
)
from .contexts import Before, attach_request, detach_request
from .headers import repeatable

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


def run_wsgi(app: App, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Call ``app``, and audit it unless this is part of a request that is audited already."""
    pipeline, lost = active(environ)
    if lost is not None:
        with resumed(lost):
            return app(environ, start_response)
    request = None if pipeline is None else guarded("reading a request", _read, environ)
    if pipeline is None or request is None:
        return app(environ, start_response)
    try:
        undecided = pipeline.identifier.begin(request)
        if undecided is not None:
            pipeline.identifier.decide(request, undecided)
    except Exception as error:
        failed("verifying a token", error)
    return _Boundary(pipeline, request, environ, start_response).run(app)


def _read(environ: Environ) -> Request:
    raw = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    path = raw.encode("latin-1", "replace").decode("utf-8", "replace")
    request = new_request("http", environ.get("REQUEST_METHOD", "GET"), path or "/", environ.get("HTTP_X_REQUEST_ID"))
    authorization = environ.get("HTTP_AUTHORIZATION")
    request.authorization = () if authorization is None else (authorization,)
    request.headers = _Headers(environ)
    agent = environ.get("HTTP_USER_AGENT")
    request.user_agent = None if agent is None else attr.text(agent)
    request.traceparent = environ.get("HTTP_TRACEPARENT")
    request.client = _address(environ)
    request.peer = _peer(environ) if "PROXY_PROTOCOL" in environ else request.client
    return request


def _peer(environ: Environ) -> str | None:
    """The peer of the socket, where gunicorn took the client's address from the proxy protocol (``--proxy-protocol``).

    None for a Unix socket, which has no address, and for a closed socket.
    """
    try:
        address = environ["gunicorn.socket"].getpeername()
    except (KeyError, AttributeError, OSError):
        return None
    return attr.text(str(address[0]), 256) if isinstance(address, tuple) and address else None


def _address(environ: Environ) -> str | None:
    address = environ.get("REMOTE_ADDR")
    return attr.text(address, 256) if address else None


class _Headers:
    """A request's headers in its environ."""

    __slots__ = ("_environ",)

    def __init__(self, environ: Environ) -> None:
        self._environ = environ

    def every(self) -> Iterator[str]:
        # A copy of the items: the app may be changing its environ meanwhile, in another thread.
        return (value for name, value in list(self._environ.items()) if name.startswith("HTTP_"))

    def named(self, name: str) -> tuple[str, ...]:
        value = self._environ.get(f"HTTP_{name.upper().replace('-', '_')}")
        return () if value is None else (value,)


class _Boundary:
    """One request's way through the app."""

    def __init__(
        self,
        pipeline: Pipeline,
        request: Request,
        environ: Environ,
        start_response: StartResponse,
    ) -> None:
        self._ended = False
        self._pipeline = pipeline
        self.request = request
        self._environ = environ
        self._start_response = start_response
        self._last: Before | None = None
        self._audited = not pipeline.excludes(request)
        self._broken = False
        self._begun = False
        """Whether some of the body has left, and with it the status: until then a server answers 500 for an error."""
        self._remaining: int | None = None
        """Bytes that the declared Content-Length still lacks; None where none was declared."""

    def run(self, app: App) -> Iterable[bytes]:
        """Call the app; the body it returns is wrapped so that its last chunk waits for the record."""
        self._last = before = enter(self.request, self._environ)
        try:
            if self._audited and not self._pipeline.admit(self.request):
                self._start_response("503 Service Unavailable", [("Content-Type", "text/plain"), ("Retry-After", "5")])
                self.end()
                return [REFUSAL]
            result = app(self._environ, self._begin)
            wrapper = self._environ.get("wsgi.file_wrapper")
            if isinstance(wrapper, type) and isinstance(result, wrapper):
                # The server sends the file by itself (sendfile): wrapping it would take that away.
                return cast("Iterable[bytes]", self._file(result))
        except BaseException as error:
            self.raised(error)
            self.end()
            raise
        finally:
            leave(self.request, self._environ, before)
        return (_SizedBody if hasattr(result, "__len__") else _Body)(self, result)

    def attach(self) -> Before:
        """Make the request current until `detach_request`: code of the app runs, in whatever thread."""
        self._last = attach_request(self.request, self._last)
        return self._last

    def call(self, close: Callable[[], Any]) -> None:
        """Call the app's ``close`` with the request current."""
        before = self.attach()
        try:
            close()
        finally:
            detach_request(self.request, before)

    def _begin(self, status: str, headers: Any, *args: Any, **kwargs: Any) -> Any:
        pairs, headers = repeatable(headers)
        guarded("reading a response", self._note, status, pairs)
        return functools.partial(self._write, self._start_response(status, headers, *args, **kwargs))

    def _write(self, write: Callable[[bytes], Any], data: bytes) -> Any:
        """The ``write`` that ``start_response`` returns for older apps (PEP 3333): it sends at once."""
        if self.whole_with(data):
            self.finish()
        return write(data)

    def _note(self, status: str, headers: Sequence[Any]) -> None:
        request = self.request
        request.status = int(status[:3])
        request.client = _address(self._environ)  # as a middleware that trusts the peer may have made it
        set_trace_ids(request, request.span, request.traceparent)
        note_error(request)
        self._remaining = 0 if request.method == "HEAD" or request.status in BODILESS else None
        for name, value in headers if self._remaining is None else ():
            if name.lower() == "content-length":
                self._remaining = int(value)

    def whole_with(self, chunk: bytes) -> bool:
        """Whether the client has all it was promised once ``chunk`` has left."""
        self._begun = self._begun or bool(chunk)
        if self._remaining is None:
            return False
        try:
            self._remaining -= len(chunk)
        except TypeError:
            return False  # not bytes: the server will say so
        return self._remaining <= 0

    def _file(self, result: Any) -> Any:
        close = getattr(result, "close", None)

        def leaving() -> None:
            try:
                if close is not None:
                    self.call(close)
            finally:
                self.end()

        try:
            result.close = leaving
        except AttributeError:
            return _Body(self, result)  # of a type that takes no attributes: sent without sendfile, but recorded
        self.finish()
        return result

    def finish(self, outcome: str | None = None) -> None:
        """The record, before the response is complete. Raises where FAIL_MODE=closed forbids to go on."""
        request = self.request
        if request.phase is Phase.OPEN:
            request.phase = Phase.CLOSING
        if self._broken:
            raise ConnectionAbortedError(UNRECORDED)
        if not self._audited or attr.EVENT_REQUEST in request.recorded:
            return
        guarded("describing a request", self._describe)
        try:
            kept = self._pipeline.finish(request, attr.EVENT_REQUEST, outcome)
        except Exception as error:
            failed("recording a request", error)
            kept = not self._pipeline.closed
        if not kept:
            self._broken = True
            raise ConnectionAbortedError(UNRECORDED)

    def _describe(self) -> None:
        request = self.request
        set_trace_ids(request, request.span, request.traceparent)
        note_error(request)  # again: Flask's span has the exception of a handled 500 only now

    def raised(self, error: BaseException) -> None:
        """The app raised: a 500, unless some of the response has left (PEP 3333: the status waits for that)."""
        request = self.request
        if attr.EVENT_REQUEST in request.recorded:
            known = self._broken or request.error_type is not None
            if self._audited and not known and isinstance(error, Exception):
                request.error_type = error_name(error)
                guarded("recording a failure", self._late)
            return
        request.error_type = error_name(error)
        request.status = request.status if self._begun else 500
        self._finish_anyway("failure")

    def _late(self) -> None:
        self._pipeline.late(self.request, outcome="failure")

    def abandoned(self) -> None:
        """The server closed the body before its end: the client has gone."""
        if attr.EVENT_REQUEST not in self.request.recorded:
            self._finish_anyway("unknown")

    def _finish_anyway(self, outcome: str) -> None:
        try:
            self.finish(outcome)
        except ConnectionAbortedError:
            pass  # the response is broken off as it is

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            end(self.request)

    def __del__(self) -> None:
        # For a body that is never closed. Writes no record: the garbage collector may run while one is being written.
        self.end()


class _Body:
    """The app's body. Not a generator: one that is closed before its first item would run no ``finally``."""

    def __init__(self, boundary: _Boundary, inner: Iterable[bytes]) -> None:
        self._boundary = boundary
        self._inner = inner
        self._items: Iterator[bytes] | None = None
        self._plain = type(inner) in (list, tuple)
        """Whether no code of the app runs for the next item."""
        self._left_items: int | None = len(inner) if isinstance(inner, (list, tuple)) else None
        self._whole = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        boundary = self._boundary
        before = None if self._plain else boundary.attach()
        try:
            try:
                if self._items is None:
                    self._items = iter(self._inner)
                chunk = next(self._items)
            except StopIteration:
                self._whole = True
                boundary.finish()
                raise
            except BaseException as error:
                boundary.raised(error)
                raise
            if self._left_items is not None:
                self._left_items -= 1
            if boundary.whole_with(chunk) or self._left_items == 0:
                self._whole = True
                boundary.finish()
            return chunk
        finally:
            if before is not None:
                detach_request(boundary.request, before)

    def close(self) -> None:
        """Close the app's body; without its end seen, the response was given up."""
        boundary = self._boundary
        close = getattr(self._inner, "close", None)
        try:
            if close is not None:
                boundary.call(close)
        except BaseException as error:
            boundary.raised(error)
            raise
        finally:
            if not self._whole:
                boundary.abandoned()
            boundary.end()


class _SizedBody(_Body):
    """A body with a length: if that is 1, a server sets Content-Length."""

    def __len__(self) -> int:
        return len(self._inner)  # type: ignore[arg-type]  # made only of what has a length
