"""Claude, by the official SDK: streaming, tool use, thinking kept byte for byte, the stable prefix cached.

The SDK is imported with the first request. Its own retries are off: the loop retries, so that a wait is seen and
can be cancelled. Tool arguments are kept as the text that came, so that half a call is never mistaken for a whole one.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
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
from redline_agent.models.base import Piece, ReplyDone, Request, SystemPart, TextPiece, ToolSpec
from redline_agent.models.vendor import Vendor

_STOPS: dict[str, Stop] = {
    "end_turn": "end_turn",
    "stop_sequence": "end_turn",
    "tool_use": "tool_use",
    "max_tokens": "max_tokens",
    "pause_turn": "pause_turn",
    "refusal": "refusal",
    "model_context_window_exceeded": "context_exceeded",
}
_RETRYABLE = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
_TIMEOUT_S = 300.0


class AnthropicModel(Vendor):
    """One Claude model. Key and base URL come from the SDK's own environment variables."""

    def __init__(self, model: str) -> None:
        super().__init__("anthropic", model)
        self._client: Any = None

    async def close(self) -> None:
        """Close the SDK's connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def stream(self, request: Request) -> AsyncIterator[Piece]:
        """Yield text as it comes, then the whole reply."""
        import anthropic  # heavy: 0.5 s or more, so with the first request

        gathered = _Gathered(self.name)
        try:
            if self._client is None:
                self._client = anthropic.AsyncAnthropic(max_retries=0, timeout=_TIMEOUT_S)
            stream = await self._client.messages.create(
                model=self._model,
                max_tokens=request.output_tokens_max,
                system=_system(request.system),
                tools=_tools(request.tools),
                messages=_messages(request.messages),
                stream=True,
            )
            async with stream:
                async for event in stream:
                    text = gathered.take(event)
                    if text:
                        yield TextPiece(text)
        except (anthropic.AnthropicError, OSError, ValueError) as error:
            _raise(error, anthropic, gathered)
        except Exception as error:
            # The HTTP library's own errors come through in mid-stream; a missing key is the SDK's TypeError.
            if not type(error).__module__.startswith("http") and "authentication" not in str(error):
                raise
            _raise(error, anthropic, gathered)
        yield ReplyDone(gathered.reply())


class _Gathered:
    """A reply as its events come in."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._blocks: dict[int, dict[str, Any]] = {}
        self._json: dict[int, str] = {}
        self._usage: dict[str, int] = {}
        self._stop = ""
        self._note = ""
        self.begun = False

    def take(self, event: Any) -> str:
        """Take one event in; returns the words in it."""
        self.begun = True
        match event.type:
            case "message_start":
                self._count(event.message.usage)
            case "content_block_start":
                self._blocks[event.index] = event.content_block.model_dump(mode="json", exclude_unset=True)
            case "content_block_delta":
                return self._delta(event.index, event.delta)
            case "message_delta":
                self._stop = event.delta.stop_reason or ""
                details = getattr(event.delta, "stop_details", None)
                self._note = getattr(details, "explanation", "") or ""
                self._count(event.usage)
            case _:
                pass
        return ""

    def _delta(self, index: int, delta: Any) -> str:
        block = self._blocks[index]
        match delta.type:
            case "text_delta":
                block["text"] = block.get("text", "") + delta.text
                return str(delta.text)
            case "input_json_delta":
                self._json[index] = self._json.get(index, "") + delta.partial_json
            case "thinking_delta":
                block["thinking"] = block.get("thinking", "") + delta.thinking
            case "signature_delta":
                block["signature"] = delta.signature
            case _:
                pass
        return ""

    def _count(self, usage: Any) -> None:
        for name in (
            "input_tokens",
            "output_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
        ):
            value = getattr(usage, name, None)
            if value is not None:
                self._usage[name] = value

    @property
    def paid(self) -> tuple[int, int]:
        """What was used by now, in and out, as far as the API has said it."""
        names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        return sum(self._usage.get(name, 0) for name in names), self._usage.get("output_tokens", 0)

    def reply(self) -> Reply:
        """Return the whole reply; raises StreamDropped when its end never came."""
        if self._stop not in _STOPS:
            raise StreamDropped("The reply broke off before its end.", paid=self.paid)
        usage = Usage(
            input_tokens=self._usage.get("input_tokens", 0),
            output_tokens=self._usage.get("output_tokens", 0),
            cache_read_tokens=self._usage.get("cache_read_input_tokens", 0),
            cache_write_tokens=self._usage.get("cache_creation_input_tokens", 0),
        )
        content = tuple(self._block(index, block) for index, block in sorted(self._blocks.items()))
        return Reply(model=self._model, content=content, stop=_STOPS[self._stop], usage=usage, note=self._note)

    def _block(self, index: int, block: dict[str, Any]) -> Block:
        match block["type"]:
            case "text":
                return Text(text=block.get("text", ""), label=MODEL)
            case "tool_use":
                arguments = self._json.get(index) or json.dumps(block.get("input") or {})
                return ToolCall(id=block["id"], name=block["name"], arguments=arguments)
            case _:
                return Thinking(model=self._model, data=block)


def _system(parts: tuple[SystemPart, ...]) -> list[dict[str, Any]]:
    """The static part ends in a cache breakpoint; what changes by session comes after it."""
    static = "\n\n".join(part.text for part in parts if part.static)
    rest = "\n\n".join(part.text for part in parts if not part.static)
    out: list[dict[str, Any]] = [{"type": "text", "text": static, "cache_control": {"type": "ephemeral"}}]
    return [*out, {"type": "text", "text": rest}] if rest else out


def _tools(tools: tuple[ToolSpec, ...]) -> list[dict[str, Any]]:
    return [
        {"name": tool.name, **(tool.vendor or {"description": tool.description, "input_schema": tool.schema})}
        for tool in tools
    ]


def _messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Messages in the API's shape, a cache breakpoint on the last block, so that the next turn reads all of this."""
    out: list[dict[str, Any]] = [
        {"role": message.role, "content": [_content(block) for block in message.content]} for message in messages
    ]
    for block in reversed(out[-1]["content"] if out else []):
        if block["type"] not in ("thinking", "redacted_thinking"):
            block["cache_control"] = {"type": "ephemeral"}
            break
    return out


def _content(block: Block) -> dict[str, Any]:
    match block:
        case Text():
            return {"type": "text", "text": as_sent(block)}
        case Thinking():
            return dict(block.data)
        case ToolCall():
            return {"type": "tool_use", "id": block.id, "name": block.name, "input": _object(block.arguments)}
        case ToolResult():
            return {
                "type": "tool_result",
                "tool_use_id": block.call_id,
                "content": as_sent(block),
                "is_error": block.error,
            }


def _object(arguments: str) -> dict[str, Any]:
    """The arguments as an object; what was not one goes back as it was, for the model to see."""
    try:
        value = json.loads(arguments)
    except ValueError:
        value = None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {"malformed": arguments}


def _raise(error: Any, sdk: Any, gathered: _Gathered) -> NoReturn:
    """Raise the error of ours that an error of the SDK or its HTTP library means."""
    begun, paid = gathered.begun, gathered.paid
    if isinstance(error, sdk.APIStatusError):
        status, text = int(error.status_code), str(error.message)
        if status in _RETRYABLE:
            raise ModelUnavailable(f"Claude answered {status}: {text}", retry_after_s=_retry_after(error)) from error
        if status in (401, 403):
            raise ConfigError(f"Claude refused the key: {text}", hint="Check ANTHROPIC_API_KEY.") from error
        if status == 413 or "too long" in text or "context window" in text:
            raise ContextOverflow(f"The request is too large for the model: {text}") from error
        if begun and status == 200:  # an error event in mid-stream
            raise StreamDropped(f"The reply broke off: {text}", retry_after_s=_retry_after(error), paid=paid) from error
        raise ModelError(f"Claude refused the request ({status}): {text}") from error
    if isinstance(error, sdk.APIConnectionError) or type(error).__module__.startswith("http"):
        if begun:
            raise StreamDropped("The connection broke in mid-reply.", paid=paid) from error
        raise ModelUnavailable(f"Claude cannot be reached: {error}") from error
    if begun:
        raise StreamDropped(f"The reply broke off: {error}", paid=paid) from error
    if "api_key" in str(error) or "authentication" in str(error).lower():
        raise ConfigError(
            "There is no key for Claude.", hint="Set ANTHROPIC_API_KEY, or use --model builtin."
        ) from error
    raise ModelError(f"The request to Claude failed: {error}") from error


def _retry_after(error: Any) -> float | None:
    try:
        return float(error.response.headers["retry-after"])
    except (KeyError, ValueError, AttributeError):
        return None
