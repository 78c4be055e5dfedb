"""The `ask_user` tool: a question that only the user can answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from redline_agent.errors import ToolError
from redline_agent.messages import USER
from redline_agent.safety.requests import Request
from redline_agent.text import one_line
from redline_agent.tools.base import EVERYTHING, Footprint, Input, Outcome, Tool, ToolContext


class AskUserInput(Input):
    """The question."""

    question: str = Field(min_length=1, max_length=1000)


class AskUser(Tool[AskUserInput]):
    """Ask the user."""

    name = "ask_user"
    input = AskUserInput
    example: ClassVar[Mapping[str, Any]] = {"question": "Should old names stay as aliases?"}

    def requests(self, arguments: AskUserInput, context: ToolContext) -> Sequence[Request]:  # noqa: ARG002
        """Touch nothing."""
        return []

    def footprint(self, arguments: AskUserInput, context: ToolContext) -> Footprint:  # noqa: ARG002
        """Waits for a person, so nothing else goes on beside it."""
        return EVERYTHING

    def title(self, arguments: AskUserInput) -> str:
        """Show the question."""
        return f"Asking you: {one_line(arguments.question, 80)}"

    async def run(self, arguments: AskUserInput, context: ToolContext) -> Outcome:
        """Return the user's words; raises ToolError when nobody answers."""
        answer = await context.services.ask_user(context.shown(arguments.question))
        if answer is None or not answer.strip():
            raise ToolError(
                "Nobody answered.", hint="Decide by what you know, take the smaller change, and say so in `finish`."
            )
        return Outcome(context.masks.masked(answer), f"you said: {one_line(answer, 60)}", label=USER)
