"""Tool schemas in each vendor's dialect, and the second dialect: all tools as one JSON schema. Pure.

OpenAI's strict mode wants every field required (an optional one may be null) and objects closed; Gemini refuses some
keywords; a server without native calls is given `response_format` and answers with one JSON object.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from redline_agent.messages import MODEL, Block, Text, ToolCall
from redline_agent.models.base import ToolSpec

_NOT_STRICT = frozenset({"default", "uniqueItems", "minLength", "maxLength", "minProperties", "maxProperties", "title"})
_NOT_GEMINI = frozenset(
    {"exclusiveMinimum", "exclusiveMaximum", "uniqueItems", "additionalProperties", "$ref", "$schema", "$defs", "const"}
)
NAME, DONE = "tool", "done"
REASON, _PLACES = "reason", ("path", "symbol")
WORDS_CHARS_MAX = 160


def strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema for OpenAI's strict mode: the arguments that come back may hold nulls (see `without_nulls`)."""
    out = {key: value for key, value in schema.items() if key not in _NOT_STRICT}
    if out.get("type") == "object":
        required = set(schema.get("required", ()))
        properties = {
            name: strict(prop) if name in required else _nullable(strict(prop))
            for name, prop in schema.get("properties", {}).items()
        }
        out |= {"properties": properties, "required": list(properties), "additionalProperties": False}
    if "items" in out:
        out["items"] = strict(out["items"])
    return out


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    kind = schema.get("type")
    if "enum" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    return {**schema, "type": [kind, "null"]} if isinstance(kind, str) else schema


def without_nulls(arguments: str) -> str:
    """Return a call's JSON text without the nulls of fields that were left out; other text as it is."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return json.dumps(_bare(value), ensure_ascii=False) if isinstance(value, dict) else arguments


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _bare(each) for key, each in cast("dict[str, Any]", value).items() if each is not None}
    return [_bare(each) for each in cast("list[Any]", value)] if isinstance(value, list) else value


def for_gemini(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema without keywords that Gemini refuses; a bound that excludes its end includes the next whole."""
    out = {key: value for key, value in schema.items() if key not in _NOT_GEMINI}
    if "exclusiveMinimum" in schema and "minimum" not in out and schema.get("type") == "integer":
        out["minimum"] = schema["exclusiveMinimum"] + 1
    if "properties" in out:
        out["properties"] = {name: for_gemini(prop) for name, prop in out["properties"].items()}
    if "items" in out:
        out["items"] = for_gemini(out["items"])
    return out


# ---- one JSON schema for all tools


def one_schema(tools: Iterable[ToolSpec]) -> dict[str, Any]:
    """Return the schema of a reply that is one call of one of the tools: {"tool": NAME, arguments..., "done": bool}."""
    return {
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    NAME: {"const": tool.name},
                    **{name: _bounded(name, strict(prop)) for name, prop in _useful(tool).items()},
                    **({} if tool.name == "finish" else {DONE: {"type": "boolean"}}),
                },
                "required": [NAME, *_useful(tool), *([] if tool.name == "finish" else [DONE])],
                "additionalProperties": False,
            }
            for tool in tools
        ]
    }


def _bounded(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Words are short: a small model would go on for ever."""
    return {**schema, "maxLength": WORDS_CHARS_MAX} if name in ("summary", REASON) else schema


def _useful(tool: ToolSpec) -> dict[str, Any]:
    """The required fields, since a small model fills whatever there is; the reason, said before the code, helps it."""
    wanted = set(tool.schema.get("required", ()))
    properties: dict[str, Any] = tool.schema.get("properties", {})
    reason = {REASON: properties[REASON]} if REASON in properties else {}
    first = {name: prop for name, prop in properties.items() if name in wanted and name in _PLACES}
    return {**first, **reason, **{name: prop for name, prop in properties.items() if name in wanted}}


def one_prompt(tools: Iterable[ToolSpec]) -> str:
    """Return what stands in the prompt for the tools: a line of each, with its arguments."""
    lines = [
        f"- {tool.name}({', '.join(_useful(tool))}): {tool.description.split('. ')[0].rstrip('.')}." for tool in tools
    ]
    return (
        "Reply with one JSON object: a tool's name and its arguments.\n"
        + "\n".join(lines)
        + '\n"done" is true when nothing is left to do after this call.'
    )


def parse_one(text: str, ident: str) -> tuple[Block, ...]:
    """Return the blocks of a reply in the second dialect: its call, and `finish` when it says that this is all.

    What is no such object stays text, so that the loop can tell the model.
    """
    value = _value(text)
    if value is None:
        return (Text(text=text, label=MODEL),) if text.strip() else ()
    if not isinstance(value, dict) or not isinstance(value.get(NAME), str):  # pyright: ignore[reportUnknownMemberType]
        return (Text(text=text, label=MODEL),)
    arguments = cast("dict[str, Any]", value)
    name, done = str(arguments.pop(NAME)), arguments.pop(DONE, False)
    arguments = {key: each for key, each in arguments.items() if each is not None}
    call = ToolCall(id=ident, name=name, arguments=json.dumps(arguments, ensure_ascii=False))
    if done and name != "finish":
        end = ToolCall(id=f"{ident}-end", name="finish", arguments=json.dumps({"summary": "Done."}))
        return (call, end)
    return (call,)


STOPS = ("\\n\\n#", "\\nprint(", "\\n\\n\\n", "\\n\\ndef ")
"""Where a small model goes on to talk after a symbol's code, as it stands in JSON; a reply that ends there is whole."""
_WHOLE_AT_STOP = "replace_symbol"


def _value(text: str) -> Any:
    """The reply's object; one that a stop ended in a symbol's code is closed. None for what is none."""
    for candidate in (_object_in(text), f'{text.strip()}\\n", "{DONE}": true}}'):
        try:
            value = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        if candidate.startswith(text.strip()[:1]) and isinstance(value, dict):
            whole = candidate == _object_in(text)
            found = cast("dict[str, Any]", value)
            return found if whole or found.get(NAME) == _WHOLE_AT_STOP else None
    return None


def written(call: ToolCall) -> str:
    """Return a call as the model wrote it in the second dialect."""
    try:
        arguments: Any = json.loads(call.arguments)
    except ValueError:
        arguments = {}
    return json.dumps({NAME: call.name, **(arguments if isinstance(arguments, dict) else {})}, ensure_ascii=False)


def _object_in(text: str) -> str:
    """The text from its first brace to its last: some servers wrap it in a fence."""
    start, end = text.find("{"), text.rfind("}")
    return text[start : end + 1] if 0 <= start < end else text
