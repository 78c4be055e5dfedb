"""What an error of OpenAI's SDK means to the loop: for the Responses API and for chat completions alike.

What the SDK lets through unwrapped (bad JSON in a stream, its HTTP library's own errors) is known by its kind.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

from redline_agent.errors import ConfigError, ContextOverflow, ModelError, ModelUnavailable, StreamDropped

RETRYABLE = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
_OVERFLOW = re.compile(
    r"context_length_exceeded|exceed_context_size|maximum context length|context window|context size|too many tokens"
)
_LATER = frozenset({"server_error", "rate_limit_exceeded", "overloaded", "slow_down", "server_is_overloaded"})
_AFTER = re.compile(r"try again in ([\d.]+)\s*s")


def raise_for(error: Any, sdk: Any, *, who: str, key: str, begun: bool) -> NoReturn:
    """Raise the error of ours that an error of the SDK means; `begun`: the reply had."""
    if isinstance(error, sdk.APIStatusError):
        _status(error, who, key)
    if isinstance(error, sdk.APIConnectionError):
        cause = error.__cause__
        why = str(cause or error) or type(cause or error).__name__
        if begun:
            raise StreamDropped(f"The connection broke in mid-reply: {why}.") from error
        raise ModelUnavailable(f"{who} cannot be reached: {why}.") from error
    if isinstance(error, sdk.APIError):
        raise_coded(str(error.code or error.type or ""), str(error.message), who, begun=begun)
    if isinstance(error, sdk.OpenAIError) and "credentials" in str(error):
        raise ConfigError(f"There is no key for {who}.", hint=f"Set {key}, or use --model builtin.") from error
    if begun or isinstance(error, ValueError):
        raise StreamDropped(f"The reply broke off: {type(error).__name__}.") from error
    raise ModelError(f"The request to {who} failed: {error}") from error


def _status(error: Any, who: str, key: str) -> NoReturn:
    status, code = int(error.status_code), str(error.code or "")
    text = _text(error)
    kind = f"{code} {getattr(error, 'type', '') or ''}"
    if _OVERFLOW.search(kind) or (status in (400, 413) and _OVERFLOW.search(text)):
        raise ContextOverflow(f"The request is too large for the model: {text}") from error
    if "insufficient_quota" in kind:
        raise ModelError(f"{who} says that the quota is used up: {text}", hint="Check the account.") from error
    if status in RETRYABLE:
        raise ModelUnavailable(f"{who} answered {status}: {text}", retry_after_s=_retry_after(error)) from error
    if status in (401, 403):
        raise ConfigError(f"{who} refused the key: {text}", hint=f"Check {key}.") from error
    raise ModelError(f"{who} refused the request ({status}): {text}") from error


def raise_coded(code: str, message: str, who: str, *, begun: bool) -> NoReturn:
    """Raise for an error that came inside a stream, by its code."""
    if _OVERFLOW.search(f"{code} {message}"):
        raise ContextOverflow(f"The request is too large for the model: {message}")
    if code == "insufficient_quota":
        raise ModelError(f"{who} says that the quota is used up: {message}", hint="Check the account.")
    after = _AFTER.search(message)
    wait_s = float(after[1]) if after else None
    if begun:
        raise StreamDropped(f"The reply broke off: {message}", retry_after_s=wait_s)
    if code in _LATER or not code:
        raise ModelUnavailable(f"{who} answered: {message}", retry_after_s=wait_s)
    raise ModelError(f"{who} refused the request: {message}")


def _text(error: Any) -> str:
    body = error.body
    if isinstance(body, dict):
        return str(body.get("message") or body.get("detail") or body)[:500]  # pyright: ignore[reportUnknownMemberType,reportUnknownArgumentType]
    return str(body or error.message)[:500]


def _retry_after(error: Any) -> float | None:
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return float(error.response.headers[name]) / scale
        except (KeyError, ValueError, AttributeError):
            continue
    return None
