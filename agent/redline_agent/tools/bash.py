"""Claude's own bash tool, by the vendor's name and arguments, over Redline's `run`. Each call is a new shell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, model_validator

from redline_agent.safety.requests import Request
from redline_agent.tools.base import Input, Outcome, Tool, ToolContext
from redline_agent.tools.run import Run, RunInput


class BashInput(Input):
    """A command, or the wish for a new shell."""

    command: str = Field(default="", max_length=20_000)
    restart: bool = False

    @model_validator(mode="after")
    def _complete(self) -> BashInput:
        if not self.command and not self.restart:
            raise ValueError("a command is needed")
        return self


class Bash(Tool[BashInput]):
    """Run a command."""

    name = "bash"
    input = BashInput
    example: ClassVar[Mapping[str, Any]] = {"command": "pytest -q tests/test_app.py"}
    vendor: ClassVar[Mapping[str, Any]] = {"type": "bash_20250124"}
    streams = True
    behind = Run()

    async def prepare(self, context: ToolContext) -> None:
        """Get ready what `run` needs."""
        await self.behind.prepare(context)

    def requests(self, arguments: BashInput, context: ToolContext) -> Sequence[Request]:
        """Return the exact command."""
        return self.behind.requests(RunInput(command=arguments.command), context) if arguments.command else []

    def title(self, arguments: BashInput) -> str:
        """Show the command."""
        return self.behind.title(RunInput(command=arguments.command)) if arguments.command else "Starting a new shell"

    async def run(self, arguments: BashInput, context: ToolContext) -> Outcome:
        """Run it in the sandbox."""
        if not arguments.command:
            return Outcome("Each command starts in a new shell, in the workspace folder.", "a new shell")
        return await self.behind.run(RunInput(command=arguments.command), context)
