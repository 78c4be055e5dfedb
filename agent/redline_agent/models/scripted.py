"""A model that plays a scenario, for tests and benchmarks: each reply is written down beforehand.

A scenario is a list of replies: {text?, thinking?, calls?: [{tool, args? | raw?}], stop?, usage?, note?}, or
{error: "overloaded" | "dropped" | "unreachable" | "overflow", retry_after_s?}. Each request gets the next entry. A file
may also hold {replies: [...], can: {...}}, where `can` lays over the capabilities (models/base.py).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, cast

from redline_agent.errors import ContextOverflow, ModelUnavailable, StreamDropped, UsageError
from redline_agent.messages import MODEL, Block, Reply, Text, Thinking, ToolCall, Usage
from redline_agent.models.base import Piece, ReplyDone, Request, TextPiece
from redline_agent.models.catalog import capabilities_of


class ScriptedModel:
    """Plays `replies` in order; `requests` keeps what it was sent."""

    def __init__(
        self, replies: list[dict[str, Any]], name: str = "scripted:inline", can: Mapping[str, Any] | None = None
    ) -> None:
        self.name = name
        self.capabilities = capabilities_of("scripted", "", can)
        self.requests: list[Request] = []
        self._replies = replies

    @classmethod
    def from_file(cls, path: Path) -> ScriptedModel:
        """Return the model of a JSON file; raises UsageError when it cannot be read."""
        try:
            script = json.loads(path.read_text("utf-8"))
            can: dict[str, Any] = {}
            if isinstance(script, dict):
                whole = cast("dict[str, Any]", script)
                script, can = whole["replies"], whole.get("can", {})
            return cls(script, f"scripted:{path}", can)
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(f"The scenario {path} cannot be read: {error}.") from error

    def cost_usd(self, usage: Usage) -> float | None:  # noqa: ARG002
        """Cost nothing."""
        return 0.0

    def bound_usd(self, usage: Usage) -> float:
        """Return the same as `cost_usd`."""
        return self.cost_usd(usage) or 0.0

    async def ready(self) -> None:
        """Be ready."""

    async def close(self) -> None:
        """Hold nothing."""

    async def stream(self, request: Request) -> AsyncIterator[Piece]:
        """Yield the next entry of the scenario."""
        at = len(self.requests)
        self.requests.append(request)
        if at >= len(self._replies):
            raise UsageError(f"The scenario {self.name} has {len(self._replies)} replies, and one more was asked for.")
        entry = self._replies[at]
        if "error" in entry:
            _fail(entry)
        for piece in (entry.get("text", "")[i : i + 20] for i in range(0, len(entry.get("text", "")), 20)):
            yield TextPiece(piece)
        yield ReplyDone(self._reply(entry, at))

    def _reply(self, entry: dict[str, Any], at: int) -> Reply:
        content: list[Block] = []
        if "thinking" in entry:
            content.append(
                Thinking(
                    model=self.name,
                    data={"type": "thinking", "thinking": entry["thinking"], "signature": f"s{at}"},
                )
            )
        if entry.get("text"):
            content.append(Text(text=entry["text"], label=MODEL))
        for index, call in enumerate(entry.get("calls", []), 1):
            arguments = call["raw"] if "raw" in call else json.dumps(call.get("args", {}))
            content.append(ToolCall(id=f"call-{at + 1}-{index}", name=call["tool"], arguments=arguments))
        stop = entry.get("stop", "tool_use" if entry.get("calls") else "end_turn")
        usage = Usage(**entry.get("usage", {"input_tokens": 100, "output_tokens": 20}))
        return Reply(model=self.name, content=tuple(content), stop=stop, usage=usage, note=entry.get("note", ""))


def _fail(entry: dict[str, Any]) -> None:
    match entry["error"]:
        case "dropped":
            raise StreamDropped("The connection broke in mid-reply.", retry_after_s=entry.get("retry_after_s"))
        case "overflow":
            raise ContextOverflow("The request is too large for the model.")
        case kind:
            raise ModelUnavailable(f"The model is {kind}.", retry_after_s=entry.get("retry_after_s"))
