"""OpenAI's own shell tool, by the vendor's arguments, over Redline's `run`: its commands are one script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, model_validator

from redline_agent.safety.requests import Request
from redline_agent.safety.sandbox.sight import COMMAND_S_MAX
from redline_agent.tools.base import Input, Outcome, Tool, ToolContext
from redline_agent.tools.run import SECONDS, Run, RunInput


class ShellInput(Input):
    """The vendor's action: commands, in order, and how long they may take, in milliseconds."""

    commands: list[str] = Field(min_length=1, max_length=50)
    timeout_ms: int | None = Field(default=None, gt=0)
    max_output_length: int | None = None

    @model_validator(mode="after")
    def _runs(self) -> ShellInput:
        self.meant()
        return self

    def meant(self) -> RunInput:
        """Return the input of `run`."""
        seconds = min((self.timeout_ms or SECONDS * 1000) / 1000, COMMAND_S_MAX)
        return RunInput(command="\n".join(self.commands), seconds=seconds)


class Shell(Tool[ShellInput]):
    """Run commands."""

    name = "shell"
    input = ShellInput
    example: ClassVar[Mapping[str, Any]] = {"commands": ["pytest -q tests/test_app.py"]}
    vendor: ClassVar[Mapping[str, Any]] = {"type": "shell", "environment": {"type": "local"}}
    streams = True
    behind = Run()

    async def prepare(self, context: ToolContext) -> None:
        """Get ready what `run` needs."""
        await self.behind.prepare(context)

    def requests(self, arguments: ShellInput, context: ToolContext) -> Sequence[Request]:
        """Return the exact command."""
        return self.behind.requests(arguments.meant(), context)

    def title(self, arguments: ShellInput) -> str:
        """Show the command."""
        return self.behind.title(arguments.meant())

    async def run(self, arguments: ShellInput, context: ToolContext) -> Outcome:
        """Run them in the sandbox."""
        return await self.behind.run(arguments.meant(), context)
