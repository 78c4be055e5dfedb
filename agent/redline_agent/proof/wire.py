"""Messages of a language server as they come, and what is made of values that may be anything."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

MESSAGE_BYTES_MAX = 32 * 2**20
_HEADERS_MAX = 20


async def message_from(stream: asyncio.StreamReader) -> dict[str, Any] | None:
    """Return the next message; None at the end. Raises ValueError for what is none."""
    length = 0
    for _ in range(_HEADERS_MAX):
        line = await stream.readline()
        if not line:
            return None
        name, _, value = line.strip().partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        if not line.strip():
            break
    if not 0 < length <= MESSAGE_BYTES_MAX:
        raise ValueError("a message of no length, or too large")
    return as_object(json.loads(await stream.readexactly(length)))


def as_list(value: Any) -> list[Any]:
    """Return what came as a list, [] for what is none."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def as_object(value: Any) -> dict[str, Any]:
    """Return what came as an object, {} for what is none."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
