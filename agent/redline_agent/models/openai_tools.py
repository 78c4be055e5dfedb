"""OpenAI's own tool types (apply_patch, shell) as items of the Responses API, and as calls of ours. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from redline_agent.messages import ToolCall, ToolResult, as_sent

_BODY = {"apply_patch": "operation", "shell": "action"}
_EXIT = re.compile(r"exit code (-?\d+)")


def call_of(item: dict[str, Any]) -> ToolCall:
    """Return the call of an `apply_patch_call` or `shell_call` item: its operation or action is the arguments."""
    name = str(item["type"]).removesuffix("_call")
    body: dict[str, Any] = item.get(_BODY[name]) or {}
    arguments = {key: value for key, value in body.items() if value is not None}
    return ToolCall(id=item.get("call_id") or "", name=name, arguments=json.dumps(arguments, ensure_ascii=False))


def call_item(call: ToolCall) -> dict[str, Any]:
    """Return a call as the item that it came as."""
    item = {"type": f"{call.name}_call", "call_id": call.id, _BODY[call.name]: json.loads(call.arguments)}
    return {**item, "status": "completed"}


def result_item(name: str, result: ToolResult) -> dict[str, Any]:
    """Return a result as the item that answers the call."""
    item: dict[str, Any] = {"type": f"{name}_call_output", "call_id": result.call_id}
    if name == "apply_patch":
        return {**item, "status": "failed" if result.error else "completed", "output": as_sent(result)}
    found = _EXIT.match(result.text)
    if result.text.startswith("stopped"):
        outcome: dict[str, Any] = {"type": "timeout"}
    else:
        outcome = {"type": "exit", "exit_code": int(found[1]) if found else 1}
    return {**item, "output": [{"stdout": as_sent(result), "stderr": "", "outcome": outcome}]}
