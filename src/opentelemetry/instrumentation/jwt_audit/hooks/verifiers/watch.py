"""What the hooks into token libraries share: each library's table names the functions, this module wraps them.

A hook calls the library as the app did, and passes on what it returns or raises, unchanged.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from jwt_audit.identity.caller import Reason
from jwt_audit.tokens.observation import token_text
from jwt_audit.tokens.observed import Verification

from ...request_context import request_of
from ..boundary import guarded, installed
from ..patch import Target, patch_all

Refusal = Callable[[BaseException], Reason | None]
"""The reason for which an exception refuses a token; None if it is no verdict (a wrong argument, a network error)."""


class Parameter(NamedTuple):
    """Where a call's argument stands: by position, ``self`` counted, or by name."""

    at: int
    name: str

    def of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return args[self.at] if self.at < len(args) else kwargs.get(self.name)


def _signed(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:  # noqa: ARG001
    return True


def _no_claims(result: Any) -> object:  # noqa: ARG001
    return None


class Decoder(NamedTuple):
    """A function of a library that verifies a token: ``path`` is its dotted path in ``module``.

    ``signed`` says of a call whether the signature is checked; ``claims`` takes from a result what a
    later validation will be given. One that ``selects`` only finds the key: its success proves nothing.
    One that ``calls`` takes a function for a key too, which finds it when the header has been read.
    """

    module: str
    path: str
    token: Parameter
    key: Parameter
    refusal: Refusal
    signed: Callable[[tuple[Any, ...], Mapping[str, Any]], bool] = _signed
    claims: Callable[[Any], object] = _no_claims
    selects: bool = False
    calls: bool = False


class Validator(NamedTuple):
    """A method that judges claims which a decoder has returned: ``claims`` says where a call has them."""

    module: str
    path: str
    claims: Parameter
    refusal: Refusal


def by_name(reasons: Mapping[str, Reason]) -> Refusal:
    """A `Refusal` by the name of the exception's class, or of its nearest base in ``reasons``. It imports nothing."""

    def refusal(error: BaseException) -> Reason | None:
        return next((reasons[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in reasons), None)

    return refusal


def install(hooks: Iterable[Decoder | Validator]) -> None:
    """Wrap the functions of ``hooks`` now, or when the library is imported; at most once in a process."""
    lost = "tokens that it verifies are not seen"
    patch_all(Target(hook.module, hook.path, functools.partial(_watching, hook), lost) for hook in hooks)


def _watching(hook: Decoder | Validator, original: Callable[..., Any]) -> Callable[..., Any]:
    return _decoding(hook, original) if isinstance(hook, Decoder) else _validating(hook, original)


def _decoding(hook: Decoder, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def decode(*args: Any, **kwargs: Any) -> Any:
        if installed() is None:
            return original(*args, **kwargs)
        key = hook.key.of(args, kwargs)
        used: list[object] = [key]
        if hook.calls and callable(key):
            args, kwargs = _replaced(hook.key, args, kwargs, _remembering(key, used))
        try:
            result = original(*args, **kwargs)
        except Exception as error:
            guarded("observing a verification", _refused, hook, args, kwargs, used, error)
            raise
        if not hook.selects:
            guarded("observing a verification", _accepted, hook, args, kwargs, used, result)
        return result

    return decode


def _accepted(hook: Decoder, args: Any, kwargs: Any, used: list[object], result: Any) -> None:
    _saw(hook, args, kwargs, used, None, hook.claims(result))


def _refused(hook: Decoder, args: Any, kwargs: Any, used: list[object], error: Exception) -> None:
    reason = hook.refusal(error)
    if reason is not None:
        _saw(hook, args, kwargs, used, reason, None)


def _saw(hook: Decoder, args: Any, kwargs: Any, used: list[object], reason: Reason | None, claims: object) -> None:
    pipeline, token = installed(), token_text(hook.token.of(args, kwargs))
    if pipeline is not None and pipeline.observation is not None and token is not None:
        seen = Verification(token, hook.signed(args, kwargs), tuple(used), reason)
        pipeline.observation.saw(request_of(), seen, claims)


def _remembering(find: Callable[..., Any], used: list[object]) -> Callable[..., Any]:
    @functools.wraps(find, updated=())
    def find_key(*args: Any, **kwargs: Any) -> Any:
        key = find(*args, **kwargs)
        used.append(key)
        return key

    return find_key


def _replaced(
    where: Parameter, args: tuple[Any, ...], kwargs: Mapping[str, Any], value: object
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if where.at < len(args):
        return (*args[: where.at], value, *args[where.at + 1 :]), dict(kwargs)
    return args, {**kwargs, where.name: value}


def _validating(hook: Validator, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def validate(*args: Any, **kwargs: Any) -> Any:
        try:
            result = original(*args, **kwargs)
        except Exception as error:
            guarded("observing a validation", _validated, hook, args, kwargs, error)
            raise
        guarded("observing a validation", _validated, hook, args, kwargs, None)
        return result

    return validate


def _validated(hook: Validator, args: Any, kwargs: Any, error: Exception | None) -> None:
    pipeline = installed()
    reason = None if error is None else hook.refusal(error)
    if pipeline is not None and pipeline.observation is not None and (error is None or reason is not None):
        pipeline.observation.validated(request_of(), hook.claims.of(args, kwargs), reason)
