"""OpenAI's models by the Responses API and the official SDK: streaming, strict tools, reasoning kept and sent back.

Nothing is stored at the vendor's (`store` is off), so reasoning comes encrypted and goes back as it came, in the order
of its reply. Items are replayed without their ids, since an id would tie a call to reasoning that another model's view
leaves out.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# The SDK gives what the server said unchecked, so its objects are Any here and looked at field by field.
from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from redline_agent.errors import ConfigError, StreamDropped
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
from redline_agent.models import openai_tools as vendor_tools
from redline_agent.models.base import Piece, ReplyDone, Request, TextPiece, ToolSpec
from redline_agent.models.dialect import strict, without_nulls
from redline_agent.models.openai_errors import raise_coded, raise_for
from redline_agent.models.vendor import Vendor

_TIMEOUT_S = 300.0
_WHO, _KEY = "OpenAI", "OPENAI_API_KEY"
_ENDS = ("response.completed", "response.incomplete", "response.failed")


def sdk_of(extra: str) -> Any:
    """Return the SDK; raises ConfigError when its extra is not installed."""
    try:
        import openai  # heavy: 0.5 s, so with the first request
    except ModuleNotFoundError as error:
        raise ConfigError(
            "OpenAI's SDK is not installed.", hint=f"Install it: pip install 'redline-ls[{extra}]'"
        ) from error
    return openai


class OpenAIModel(Vendor):
    """One model of OpenAI's. Key and base URL come from the SDK's own environment variables."""

    def __init__(self, model: str) -> None:
        super().__init__("openai", model)
        self._client: Any = None

    async def close(self) -> None:
        """Close the SDK's connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def stream(self, request: Request) -> AsyncIterator[Piece]:
        """Yield text as it comes, then the whole reply."""
        sdk = sdk_of("openai")
        gathered = Gathered(self.name)
        try:
            if self._client is None:
                self._client = sdk.AsyncOpenAI(max_retries=0, timeout=_TIMEOUT_S)
            stream = await self._client.responses.create(**body(self._model, request))
            async with stream:
                async for event in stream:
                    text = gathered.take(event)
                    if text:
                        yield TextPiece(text)
        except (sdk.OpenAIError, OSError, ValueError, RuntimeError, TypeError) as error:
            raise_for(error, sdk, who=_WHO, key=_KEY, begun=gathered.begun)
        yield ReplyDone(gathered.reply())


def body(model: str, request: Request) -> dict[str, Any]:
    """Return the request's arguments for the SDK."""
    made: dict[str, Any] = {
        "model": model,
        "instructions": "\n\n".join(part.text for part in request.system),
        "input": _input(request),
        "max_output_tokens": request.output_tokens_max,
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "stream": True,
    }
    if request.tools:
        made |= {"tools": [_tool(tool) for tool in request.tools], "parallel_tool_calls": True}
    return made


def _tool(tool: ToolSpec) -> dict[str, Any]:
    if tool.vendor:
        return dict(tool.vendor)
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": strict(tool.schema),
        "strict": True,
    }


def _input(request: Request) -> list[dict[str, Any]]:
    """The conversation as items; calls of the vendor's own tools, and their results, as items of their own kinds."""
    own = {tool.name for tool in request.tools if tool.vendor}
    calls = {block.id: block.name for message in request.messages for block in message.content
             if isinstance(block, ToolCall) and block.name in own}  # fmt: skip
    return [item for message in request.messages for item in _items(message, calls)]


def _items(message: Message, own: Mapping[str, str]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for block in message.content:
        match block:
            case Text():
                items.append({"role": message.role, "content": as_sent(block)})
            case Thinking():
                items.append({key: value for key, value in block.data.items() if key not in ("id", "status")})
            case ToolCall() if block.id in own:
                items.append(vendor_tools.call_item(block))
            case ToolCall():
                items.append({
                    "type": "function_call", "call_id": block.id, "name": block.name, "arguments": block.arguments,
                })  # fmt: skip
            case ToolResult() if block.call_id in own:
                items.append(vendor_tools.result_item(own[block.call_id], block))
            case ToolResult():
                items.append({"type": "function_call_output", "call_id": block.call_id, "output": as_sent(block)})
    return items


class Gathered:
    """A reply as its events come in. Only an end event makes it whole."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._content: list[Block] = []
        self._said = ""
        self._refusal = ""
        self._end: Any = None
        self.begun = False

    def take(self, event: Any) -> str:
        """Take one event in; returns the words in it."""
        kind = str(getattr(event, "type", ""))
        match kind:
            case "response.output_text.delta":
                self.begun = True
                self._said += event.delta or ""
                return str(event.delta or "")
            case "response.refusal.delta":
                self._refusal += event.delta or ""
            case "response.output_item.done":
                self.begun = True
                self._item(event.item.to_dict(mode="json", warnings=False))
            case "error":
                raise_coded(str(event.code or ""), str(event.message), _WHO, begun=self.begun)
            case _ if kind in _ENDS:
                self._end = event
            case _:
                pass
        return ""

    def _item(self, item: dict[str, Any]) -> None:
        match item.get("type"):
            case "message":
                for part in item.get("content") or []:
                    if part.get("type") == "output_text" and part.get("text"):
                        self._content.append(Text(text=part["text"], label=MODEL))
                    elif part.get("type") == "refusal":
                        self._refusal = part.get("refusal") or self._refusal
            case "function_call":
                arguments = without_nulls(item.get("arguments") or "")
                self._content.append(
                    ToolCall(id=item.get("call_id") or "", name=item.get("name") or "", arguments=arguments)
                )
            case "apply_patch_call" | "shell_call":
                self._content.append(vendor_tools.call_of(item))
            case "reasoning" if item.get("encrypted_content"):
                self._content.append(Thinking(model=self._model, data=item))
            case _:
                pass

    def reply(self) -> Reply:
        """Return the whole reply; raises StreamDropped when its end never came, and for a failed one."""
        if self._end is None:
            raise StreamDropped("The reply broke off before its end.")
        response = self._end.response
        usage = usage_of(response.usage)
        if self._end.type == "response.failed":
            error = response.error
            raise_coded(str(getattr(error, "code", "") or ""), str(getattr(error, "message", "") or "it failed"), _WHO,
                        begun=self.begun)  # fmt: skip
        calls = any(isinstance(block, ToolCall) for block in self._content)
        stop: Stop = "tool_use" if calls else "end_turn"
        note = ""
        if self._end.type == "response.incomplete":
            reason = str(getattr(response.incomplete_details, "reason", "") or "")
            stop = "refusal" if reason == "content_filter" else "max_tokens"
            note = "The vendor's filter stopped the reply." if stop == "refusal" else ""
        elif self._refusal and not calls:
            stop, note = "refusal", self._refusal
        return Reply(model=self._model, content=tuple(self._content), stop=stop, usage=usage, note=note)


def usage_of(usage: Any) -> Usage:
    """Return the usage of a response; what came from the cache is part of its input, and counted once."""
    if usage is None:
        return Usage()
    cached = int(getattr(getattr(usage, "input_tokens_details", None), "cached_tokens", 0) or 0)
    total = int(usage.input_tokens or 0)
    return Usage(
        input_tokens=max(0, total - cached), cache_read_tokens=cached, output_tokens=int(usage.output_tokens or 0)
    )


def arguments_of(value: Any) -> str:
    """Return a call's arguments as JSON text: some servers send an object."""
    return value if isinstance(value, str) else json.dumps(value or {}, ensure_ascii=False)
