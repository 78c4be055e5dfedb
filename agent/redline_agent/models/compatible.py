"""Any server that speaks OpenAI's chat completions: Ollama, llama.cpp, vLLM, gateways. By OpenAI's SDK.

Two dialects. Native: tools as the API has them. JSON: for servers that do not make native calls, the tools are one JSON
schema given as `response_format`, and a line each in the prompt. Which one, and how large a prompt, is chosen by what
the
server says of the model (its window, its size), by its name, or by the user under [compatible.NAME].
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# The SDK gives what the server said unchecked, so its objects are Any here and looked at field by field.
from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from redline_agent.errors import ConfigError, ModelError, StreamDropped
from redline_agent.messages import (
    MODEL,
    REDLINE,
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
from redline_agent.models.catalog import UNKNOWN, Price, capabilities_of
from redline_agent.models.dialect import STOPS, one_prompt, one_schema, parse_one, written
from redline_agent.models.openai import arguments_of, sdk_of
from redline_agent.models.openai_errors import raise_for
from redline_agent.models.vendor import Vendor

_TIMEOUT_S, _LOOK_S = 600.0, 5.0
_SIZE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)b(?![a-z])", re.IGNORECASE)
SMALL_BILLIONS, TINY_BILLIONS = 15.0, 3.0
"""A model up to this size gets the small profile and the JSON dialect, unless the user says otherwise."""
_KEYS = frozenset({"base_url", "key_env", "model", "price", "can"})
_TAIL, _ROUNDS = 400, 4
_STOPS: dict[str, Stop] = {"length": "max_tokens", "content_filter": "refusal"}
_SMALL: dict[str, Any] = {"profile": "small", "native_tools": False, "edits": "symbol", "parallel_calls": False,
    "judges": False, "output_tokens_max": 1_500}  # fmt: skip


def _small(billions: float) -> dict[str, Any]:
    """What is said of a model of that many parameters; the smallest may say less, since they ramble."""
    if not 0 < billions <= SMALL_BILLIONS:
        return {}
    return {**_SMALL, "output_tokens_max": 600} if billions <= TINY_BILLIONS else _SMALL


class CompatibleModel(Vendor):
    """One model of a compatible server. `given` is the user's entry: base_url, key_env, model, price, can."""

    def __init__(self, name: str, given: Mapping[str, Any] | None = None) -> None:
        given = given or {}
        unknown = set(given) - _KEYS
        if unknown:
            raise ConfigError(
                f"[compatible.{name}] has the unknown setting {min(unknown)!r}.",
                hint=f"Known: {', '.join(sorted(_KEYS))}.",
            )
        self._base_url = str(given.get("base_url") or os.environ.get("OPENAI_BASE_URL", ""))
        self._key = os.environ.get(str(given.get("key_env", "OPENAI_API_KEY")), "") or "none"
        self._said: dict[str, Any] = dict(given.get("can", {}))
        size = _SIZE.search(name)
        small = _small(float(size[1])) if size else {}
        served = str(given.get("model", name))
        super().__init__(
            "compatible",
            name,
            capabilities=capabilities_of("compatible", served, {**small, **self._said}),
            price=Price(**given["price"]) if "price" in given else UNKNOWN,
        )
        self._model = served
        self._client: Any = None
        self._asked = False
        self._ids = count(1)

    async def close(self) -> None:
        """Close the SDK's connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def ready(self) -> None:
        """Ask the server for the model's window and size, where it tells them; raises ConfigError without a server."""
        if self._asked:
            return
        self._asked = True
        sdk = sdk_of("openai")
        listed: Any = None
        try:
            async with asyncio.timeout(_LOOK_S):
                models = [each.to_dict() async for each in await self._open(sdk).models.list()]
            listed = next((each for each in models if each.get("id") == self._model), models[0] if models else None)
        except (sdk.OpenAIError, OSError, ValueError, RuntimeError, TypeError, TimeoutError):
            return  # it tells nothing; a server that is not there says so with the first request
        self.capabilities = self._learnt(listed or {})

    def _learnt(self, listed: dict[str, Any]) -> Any:
        meta: dict[str, Any] = listed.get("meta") or {}
        window = meta.get("n_ctx") or listed.get("max_model_len") or meta.get("n_ctx_train")
        billions = float(meta.get("n_params") or 0) / 1e9
        learnt: dict[str, Any] = {"window": int(window)} if window else {}
        small = _small(billions)
        return replace(self.capabilities, **{**learnt, **small, **self._said})

    def _open(self, sdk: Any) -> Any:
        if not self._base_url:
            raise ConfigError(
                f"There is no base URL for {self.name}.",
                hint="Set OPENAI_BASE_URL, or base_url under [compatible.NAME] in the configuration.",
            )
        if self._client is None:
            self._client = sdk.AsyncOpenAI(
                max_retries=0, timeout=_TIMEOUT_S, base_url=self._base_url, api_key=self._key
            )
        return self._client

    async def stream(self, request: Request) -> AsyncIterator[Piece]:
        """Yield text as it comes, then the whole reply."""
        sdk = sdk_of("openai")
        native = self.capabilities.native_tools or not request.tools
        gathered = _Gathered(self.name, native=native, number=next(self._ids))
        try:
            stream = await self._open(sdk).chat.completions.create(**self._body(request, native=native))
            async with stream:
                async for chunk in stream:
                    text = gathered.take(chunk)
                    if text and native:
                        yield TextPiece(text)
                    if not native and gathered.going_round():
                        break
        except (sdk.OpenAIError, OSError, ValueError, RuntimeError, TypeError) as error:
            raise_for(error, sdk, who=self.name, key="OPENAI_API_KEY", begun=gathered.begun)
        yield ReplyDone(gathered.reply())

    def _body(self, request: Request, *, native: bool) -> dict[str, Any]:
        system = "\n\n".join(part.text for part in request.system)
        made: dict[str, Any] = {
            "model": self._model,
            "max_tokens": request.output_tokens_max,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if native:
            if request.tools:
                made["tools"] = [
                    {
                        "type": "function",
                        "function": {"name": t.name, "description": t.description, "parameters": t.schema},
                    }
                    for t in request.tools
                ]
        else:
            system = f"{system}\n\n{one_prompt(request.tools)}"
            schema = {"name": "call", "schema": one_schema(request.tools), "strict": True}
            made |= {"response_format": {"type": "json_schema", "json_schema": schema}, "temperature": _warmth(request)}
            if self.capabilities.edits == "symbol":
                made["stop"] = list(STOPS)
        shown = request.messages if native else _without_failures(request.messages)
        messages = [each for message in shown for each in _messages(message, native=native)]
        made["messages"] = [{"role": "system", "content": system}, *messages]
        return made


WARMTH = 0.5
_FAILED = "Your last reply failed."


def _warmth(request: Request) -> float:
    """The temperature: none, until a call has failed; then a model that says the same again needs some."""
    last = request.messages[-1].content if request.messages else ()
    return WARMTH if any(isinstance(block, ToolResult) and block.error for block in last) else 0.0


def _without_failures(messages: Sequence[Message]) -> list[Message]:
    """Return the conversation with no failed try but in words: a small model that sees its own call makes it again."""
    out: list[Message] = []
    for message in messages:
        results = [block for block in message.content if isinstance(block, ToolResult)]
        if out and out[-1].role == "assistant" and results and all(block.error for block in results):
            words = Text(text=f"{_FAILED} {results[0].text}\nTry another way.", label=REDLINE)
            out[-1:] = [Message(role="user", content=(words, *(b for b in message.content if isinstance(b, Text))))]
            if len(out) > 1 and out[-2].role == "user":
                last = out.pop()
                kept = [b for b in out[-1].content if not (isinstance(b, Text) and b.text.startswith(_FAILED))]
                out[-1] = Message(role="user", content=(*kept, *last.content))
        else:
            out.append(message)
    return out


def _messages(message: Message, *, native: bool) -> list[dict[str, Any]]:
    """A message in the API's shape: results are messages of their own; in the JSON dialect all is text."""
    words = [as_sent(block) for block in message.content if isinstance(block, Text)]
    results = [block for block in message.content if isinstance(block, ToolResult)]
    calls = [block for block in message.content if isinstance(block, ToolCall)]
    if not native:
        if message.role == "assistant":
            shown = [written(call) for call in calls if not (call.name == "finish" and "-end" in call.id)]
        else:
            shown = [f"Result: {as_sent(each)}" for each in results]
        text = "\n\n".join([*shown, *words] if message.role == "user" else [*words, *shown])
        return [{"role": message.role, "content": text}]
    out: list[dict[str, Any]] = [
        {"role": "tool", "tool_call_id": each.call_id, "content": as_sent(each)} for each in results
    ]
    if message.role == "assistant":
        said: dict[str, Any] = {"role": "assistant", "content": "\n\n".join(words) or None}
        if calls:
            said["tool_calls"] = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in calls
            ]
        reasoning = [block.data["text"] for block in message.content if isinstance(block, Thinking)]
        if reasoning:
            said["reasoning_content"] = "".join(reasoning)
        return [said]
    if words:
        out.append({"role": "user", "content": "\n\n".join(words)})
    return out


class _Gathered:
    """A reply as its chunks come in. Only a finish reason makes it whole."""

    def __init__(self, model: str, *, native: bool, number: int) -> None:
        self._model = model
        self._native = native
        self._number = number
        self._said: list[str] = []
        self._thought: list[str] = []
        self._refused: list[str] = []
        self._calls: list[dict[str, str]] = []
        self._at: dict[int, int] = {}
        self._finish = ""
        self._usage = Usage()
        self.begun = False

    def take(self, chunk: Any) -> str:
        """Take one chunk in; returns the words in it."""
        if getattr(chunk, "usage", None):
            self._count(chunk.usage)
        choices = getattr(chunk, "choices", None) or []
        if not choices:
            return ""
        self._finish = getattr(choices[0], "finish_reason", None) or self._finish
        delta = getattr(choices[0], "delta", None)
        if delta is None:
            return ""
        for each in getattr(delta, "tool_calls", None) or []:
            self.begun = True
            self._call(each)
        thought = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
        if isinstance(thought, str):
            self._thought.append(thought)
        if getattr(delta, "refusal", None):
            self._refused.append(delta.refusal)
        text = str(getattr(delta, "content", None) or "")
        self.begun = self.begun or bool(text)
        self._said.append(text)
        return text

    def going_round(self) -> bool:
        """Whether a small model says the same again and again; then the reply counts as cut."""
        tail = "".join(self._said[-_TAIL:])[-_TAIL:]
        round_and_round = any(
            tail[-size * _ROUNDS :] == tail[-size:] * _ROUNDS for size in range(6, len(tail) // _ROUNDS)
        )
        if round_and_round:
            self._finish = "length"
        return round_and_round

    def _call(self, piece: Any) -> None:
        """A piece of a call: by its index; a new id at an old index is another call."""
        index = piece.index if piece.index is not None else len(self._calls)
        function = piece.function
        at = self._at.get(index)
        if at is None or (piece.id and self._calls[at]["id"] and piece.id != self._calls[at]["id"]):
            at = self._at[index] = len(self._calls)
            self._calls.append({"id": "", "name": "", "arguments": ""})
        call = self._calls[at]
        call["id"] = call["id"] or piece.id or ""
        if function is not None:
            call["name"] = call["name"] or function.name or ""
            if function.arguments:
                call["arguments"] += arguments_of(function.arguments)

    def _count(self, usage: Any) -> None:
        cached = int(getattr(getattr(usage, "prompt_tokens_details", None), "cached_tokens", 0) or 0)
        total = int(usage.prompt_tokens or 0)
        self._usage = Usage(
            input_tokens=max(0, total - cached),
            cache_read_tokens=cached,
            output_tokens=int(usage.completion_tokens or 0),
        )

    def reply(self) -> Reply:
        """Return the whole reply; raises StreamDropped when its end never came."""
        if not self._finish:
            raise StreamDropped("The reply broke off before its end.")
        text = "".join(self._said)
        content: list[Block] = []
        if self._thought and self._native:
            content.append(Thinking(model=self._model, data={"text": "".join(self._thought)}))
        if not self._native and self._finish != "length":
            content += parse_one(text, f"call-{self._number}")
            if text.lstrip().startswith("{") and not any(isinstance(block, ToolCall) for block in content):
                self._finish = "length"  # a stop ended it in the middle of a call
        elif text:
            content.append(Text(text=text, label=MODEL))
        content += [
            ToolCall(id=call["id"] or f"call-{self._number}-{at}", name=call["name"], arguments=call["arguments"])
            for at, call in enumerate(self._calls, 1)
        ]
        calls = any(isinstance(block, ToolCall) for block in content)
        refused = "".join(self._refused)
        stop = _STOPS.get(self._finish, "tool_use" if calls else "refusal" if refused else "end_turn")
        if not content and not refused and stop == "end_turn":
            raise ModelError(f"{self._model} answered with nothing.")
        return Reply(model=self._model, content=tuple(content), stop=stop, usage=self._usage, note=refused)
