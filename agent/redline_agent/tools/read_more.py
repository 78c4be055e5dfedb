"""The `read_more` tool: the rest of a result that was shown in part, or cleared since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from redline_agent.errors import ToolError
from redline_agent.safety.requests import Request
from redline_agent.tools.base import NOTHING, Footprint, Input, Outcome, Tool, ToolContext

_CHARS = 10_000


class ReadMoreInput(Input):
    """The call whose result it is, and from which character on."""

    call: str = Field(min_length=1, max_length=200)
    offset: int = Field(default=0, ge=0)


class ReadMore(Tool[ReadMoreInput]):
    """Show more of a result."""

    name = "read_more"
    input = ReadMoreInput
    example: ClassVar[Mapping[str, Any]] = {"call": "call-3-1", "offset": 10000}

    def requests(self, arguments: ReadMoreInput, context: ToolContext) -> Sequence[Request]:  # noqa: ARG002
        """Touch nothing: the text was shown to this conversation before, or could have been."""
        return []

    def footprint(self, arguments: ReadMoreInput, context: ToolContext) -> Footprint:  # noqa: ARG002
        """Touches no file."""
        return NOTHING

    def title(self, arguments: ReadMoreInput) -> str:
        """Name the call."""
        return f"Reading more of {arguments.call}"

    async def run(self, arguments: ReadMoreInput, context: ToolContext) -> Outcome:
        """Return the next part; raises ToolError when there is no such result."""
        text = context.services.output(arguments.call)
        if text is None:
            raise ToolError(f"There is no result of a call {arguments.call!r}.", hint="Make the call again.")
        part = text[arguments.offset : arguments.offset + _CHARS]
        end = arguments.offset + len(part)
        more = f"\n[{len(text) - end} more characters; go on with offset {end}]" if end < len(text) else ""
        return Outcome(part + more or "[nothing after that]", f"read on in {arguments.call}")
