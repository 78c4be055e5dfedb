"""Gemini by the official SDK: streaming, tools, thought signatures kept byte for byte.

The SDK's own retries and continuations are off: the loop retries, so that a wait is seen and can be cancelled. A stream
that ends without a reason has broken off, however cleanly.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# The SDK gives what the server said unchecked, so its objects are Any here and looked at field by field.
from __future__ import annotations

import base64
import contextlib
import contextvars
import json
import os
import re
from collections.abc import AsyncIterator
from itertools import count
from typing import Any, NoReturn, cast

from redline_agent.errors import ConfigError, ContextOverflow, ModelError, ModelUnavailable, StreamDropped
from redline_agent.messages import (
    MODEL,
    Block,
    Message,
    Reply,
    Stop,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
    as_sent,
)
from redline_agent.models.base import Piece, ReplyDone, Request, TextPiece
from redline_agent.models.dialect import for_gemini
from redline_agent.models.vendor import Vendor

_TIMEOUT_MS = 300_000
_RETRYABLE = frozenset({408, 429, 500, 502, 503, 504})
_OVERFLOW = re.compile(r"token count.*exceeds|too many tokens|exceeds the maximum number of tokens", re.IGNORECASE)
_DELAY = re.compile(r"([\d.]+)s")
_STOPS: dict[str, Stop] = {"STOP": "end_turn", "MAX_TOKENS": "max_tokens"}
_AGAIN = frozenset({"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"})
_BOX: contextvars.ContextVar[list[Any]] = contextvars.ContextVar("responses")


class GeminiModel(Vendor):
    """One Gemini model. Key and base URL come from the SDK's own environment variables."""

    def __init__(self, model: str) -> None:
        super().__init__("gemini", model)
        self._client: Any = None
        self._http: Any = None
        self._ids = count(1)

    async def close(self) -> None:
        """Close the SDK's connections."""
        if self._client is not None:
            await self._client.aio.aclose()
            await self._http.aclose()
            self._client = None

    def _open(self, genai: Any) -> Any:
        if self._client is None:
            key = os.environ.get("GEMINI_API_KEY") or os.environ.get("GOOGLE_API_KEY")
            if not key:
                raise ConfigError("There is no key for Gemini.", hint="Set GEMINI_API_KEY, or use --model builtin.")
            import httpx2  # the SDK's own HTTP library

            async def noted(response: Any) -> None:
                _BOX.get([]).append(response)

            self._http = httpx2.AsyncClient(event_hooks={"response": [noted]}, follow_redirects=False)
            options = {
                "api_version": "v1beta", "timeout": _TIMEOUT_MS, "retry_options": {"attempts": 1},
                "httpx_async_client": self._http,
            }  # fmt: skip
            self._client = genai.Client(api_key=key, vertexai=False, http_options=options)
        return self._client

    async def stream(self, request: Request) -> AsyncIterator[Piece]:
        """Yield text as it comes, then the whole reply."""
        try:
            from google import genai  # heavy: 0.4 s, so with the first request
            from google.genai import errors
        except ImportError as error:
            hint = "Install it: pip install 'redline-ls[gemini]'"
            raise ConfigError("Gemini's SDK is not installed.", hint=hint) from error
        gathered = _Gathered(self.name, next(self._ids))
        responses: list[Any] = []
        token = _BOX.set(responses)
        stream: Any = None
        try:
            stream = await self._open(genai).aio.models.generate_content_stream(
                model=self._model, contents=_contents(request.messages), config=_config(request)
            )
            async for chunk in stream:
                text = gathered.take(chunk)
                if text:
                    yield TextPiece(text)
        except (ConfigError, ModelError):
            raise
        except Exception as error:  # noqa: BLE001  the SDK lets its HTTP library's and its parser's errors through
            _raise(error, errors, begun=gathered.begun)
        finally:
            with contextlib.suppress(ValueError):
                _BOX.reset(token)
            if stream is not None:
                with contextlib.suppress(RuntimeError):
                    await stream.aclose()
            for response in responses:  # the SDK leaves a broken one open until the garbage is collected
                await response.aclose()
        yield ReplyDone(gathered.reply())


def _config(request: Request) -> dict[str, Any]:
    made: dict[str, Any] = {
        "max_output_tokens": request.output_tokens_max,
        "automatic_function_calling": {"disable": True},
        "automatic_continuation": False,
        "system_instruction": "\n\n".join(part.text for part in request.system),
    }
    if request.tools:
        declared = [
            {"name": tool.name, "description": tool.description, "parameters_json_schema": for_gemini(tool.schema)}
            for tool in request.tools
        ]
        made["tools"] = [{"function_declarations": declared}]
    return made


def _contents(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    names = {block.id: block.name for m in messages for block in m.content if isinstance(block, ToolCall)}
    return [
        {
            "role": "model" if message.role == "assistant" else "user",
            "parts": _parts(message, names),
        }
        for message in messages
    ]


def _parts(message: Message, names: dict[str, str]) -> list[dict[str, Any]]:
    """A message's parts; a signature of a thought goes back on the part that it came on, which follows it here."""
    parts: list[dict[str, Any]] = []
    signature = ""
    for block in message.content:
        match block:
            case Thinking():
                if "part" in block.data:
                    parts.append(dict(block.data["part"]))
                signature = str(block.data.get("next", ""))
                continue
            case Text():
                part: dict[str, Any] = {"text": as_sent(block)}
            case ToolCall():
                call: dict[str, Any] = {"name": block.name, "args": _object(block.arguments)}
                part = {"function_call": call | ({} if block.id.startswith("redline-") else {"id": block.id})}
            case ToolResult():
                told = {"error" if block.error else "output": as_sent(block)}
                answer: dict[str, Any] = {"name": names.get(block.call_id, "tool"), "response": told}
                part = {
                    "function_response": answer
                    | ({} if block.call_id.startswith("redline-") else {"id": block.call_id})
                }
        if signature:
            part["thought_signature"] = base64.b64decode(signature)
            signature = ""
        parts.append(part)
    return parts


def _object(arguments: str) -> dict[str, Any]:
    try:
        value = json.loads(arguments)
    except ValueError:
        value = None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {"malformed": arguments}


class _Gathered:
    """A reply as its chunks come in. Only a finish or block reason makes it whole."""

    def __init__(self, model: str, number: int) -> None:
        self._model = model
        self._number = number
        self._content: list[Block] = []
        self._calls = 0
        self._finish = ""
        self._blocked = ""
        self._usage: Any = None
        self.begun = False

    def take(self, chunk: Any) -> str:
        """Take one chunk in; returns the words in it."""
        self._usage = chunk.usage_metadata or self._usage
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason is not None:
            self._blocked = str(chunk.prompt_feedback.block_reason.value)
        said = ""
        for candidate in (chunk.candidates or [])[:1]:
            if candidate.finish_reason is not None:
                self._finish = str(candidate.finish_reason.value)
            for part in (candidate.content.parts if candidate.content else None) or []:
                self.begun = True
                said += self._part(part)
        return said

    def _part(self, part: Any) -> str:
        signature = base64.b64encode(part.thought_signature).decode() if part.thought_signature else ""
        if part.thought:
            return ""  # a summary of thoughts is not sent back; what counts is the signature
        if part.function_call is not None:
            self._calls += 1
            if signature:
                self._content.append(Thinking(model=self._model, data={"next": signature}))
            call = part.function_call
            ident = call.id or f"redline-{self._number}-{self._calls}"
            arguments = json.dumps(call.args or {}, ensure_ascii=False)
            self._content.append(ToolCall(id=ident, name=call.name or "", arguments=arguments))
            return ""
        text = str(part.text or "")
        if signature and not text:
            data = {"part": {"text": "", "thought_signature": signature}}
            self._content.append(Thinking(model=self._model, data=data))
        elif signature:
            self._content += [
                Thinking(model=self._model, data={"next": signature}), Text(text=text, label=MODEL),
            ]  # fmt: skip
        elif text and self._content and isinstance(self._content[-1], Text) and not self._signed():
            self._content[-1] = Text(text=self._content[-1].text + text, label=MODEL)
        elif text:
            self._content.append(Text(text=text, label=MODEL))
        return text

    def _signed(self) -> bool:
        """Whether the last text came with a signature: nothing may be joined to it."""
        return len(self._content) > 1 and isinstance(self._content[-2], Thinking)

    def reply(self) -> Reply:
        """Return the whole reply; raises StreamDropped when its end never came."""
        if self._blocked:
            note = f"Gemini blocked the request: {self._blocked}."
            return Reply(model=self._model, content=(), stop="refusal", usage=self._used(), note=note)
        if not self._finish:
            raise StreamDropped("The reply broke off before its end.")
        if self._finish in _AGAIN:
            used = self._used()
            raise StreamDropped(
                f"Gemini made a call that it could not finish itself ({self._finish}).", retry_after_s=0.0,
                paid=(used.total - used.output_tokens, used.output_tokens),
            )  # fmt: skip
        stop = _STOPS.get(self._finish, "refusal")
        if stop == "end_turn" and self._calls:
            stop = "tool_use"
        note = f"Gemini stopped the reply: {self._finish}." if stop == "refusal" else ""
        return Reply(model=self._model, content=tuple(self._content), stop=stop, usage=self._used(), note=note)

    def _used(self) -> Usage:
        usage = self._usage
        if usage is None:
            return Usage()
        cached = int(usage.cached_content_token_count or 0)
        return Usage(
            input_tokens=max(0, int(usage.prompt_token_count or 0) - cached),
            cache_read_tokens=cached,
            output_tokens=int(usage.candidates_token_count or 0) + int(usage.thoughts_token_count or 0),
        )


def _raise(error: Any, errors: Any, *, begun: bool) -> NoReturn:
    """Raise the error of ours that an error of the SDK or its HTTP library means."""
    if isinstance(error, errors.APIError):
        code, text = int(error.code or 0), str(error.message or error.status or "")
        if code in (400, 413) and _OVERFLOW.search(text):
            raise ContextOverflow(f"The request is too large for the model: {text}") from error
        if code in (401, 403) or "API key" in text:
            raise ConfigError(f"Gemini refused the key: {text}", hint="Check GEMINI_API_KEY.") from error
        if begun:
            raise StreamDropped(f"The reply broke off: {text}", retry_after_s=_retry_after(error)) from error
        if code in _RETRYABLE:
            raise ModelUnavailable(f"Gemini answered {code}: {text}", retry_after_s=_retry_after(error)) from error
        raise ModelError(f"Gemini refused the request ({code}): {text}") from error
    kind = type(error)
    why = str(error) or kind.__name__
    if kind.__module__.startswith("http") or isinstance(error, OSError):
        if begun:
            raise StreamDropped(f"The connection broke in mid-reply: {why}") from error
        raise ModelUnavailable(f"Gemini cannot be reached: {why}") from error
    if begun or isinstance(error, ValueError | TypeError | AttributeError):
        raise StreamDropped(f"The reply broke off: {kind.__name__}.") from error
    raise ModelError(f"The request to Gemini failed: {why}") from error


def _retry_after(error: Any) -> float | None:
    """Seconds that the vendor asks for: in a header, or in the details of the error."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        return float(headers["retry-after"])
    except (KeyError, ValueError, TypeError):
        pass
    found = _DELAY.search(json.dumps(error.details)) if "retryDelay" in json.dumps(error.details, default=str) else None
    return float(found[1]) if found else None
