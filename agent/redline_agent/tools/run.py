"""The `run` tool: a command over the run's overlay, in the sandbox; what it writes comes back as hunks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from redline_agent.errors import ToolError
from redline_agent.limits import OUTPUT_CHARS_SHOWN
from redline_agent.messages import Label
from redline_agent.safety.requests import Command, Request
from redline_agent.safety.sandbox.sight import COMMAND_S_MAX
from redline_agent.text import one_line, plural
from redline_agent.tools.base import Input, Outcome, Tool, ToolContext
from redline_agent.workspace.harvest import Harvest
from redline_agent.workspace.workbench import Workbench

SECONDS = 120.0
_LEFT_SHOWN_MAX = 8


class RunInput(Input):
    """A shell command, the folder to run it in, and how long it may take."""

    command: str = Field(min_length=1, max_length=20_000)
    cwd: str = "."
    seconds: float = Field(default=SECONDS, gt=0, le=COMMAND_S_MAX)


class Run(Tool[RunInput]):
    """Run a command."""

    name = "run"
    input = RunInput
    example: ClassVar[Mapping[str, Any]] = {"command": "pytest -q tests/test_app.py"}
    streams = True

    async def prepare(self, context: ToolContext) -> None:
        """Find the sandbox, so that the request can say which one it is."""
        if context.keeper.standing().trusted:
            await _bench(context).ready()

    def requests(self, arguments: RunInput, context: ToolContext) -> Sequence[Request]:
        """Return the exact command: words, folder, environment and the overlay's texts."""
        if not context.keeper.standing().trusted:
            return [
                Command(arguments.command, (arguments.command,))
            ]  # the gate says why not, before anything is looked at
        return [_bench(context).command(arguments.command, arguments.cwd)]

    def title(self, arguments: RunInput) -> str:
        """Show the command."""
        return f"Running {one_line(arguments.command, 80)}"

    async def run(self, arguments: RunInput, context: ToolContext) -> Outcome:
        """Run it and bring what it wrote into the overlay; a failed command is a result, not an error."""
        bench = _bench(context)
        command = bench.command(arguments.command, arguments.cwd)
        began_s = time.time()
        ran = await bench.run(command, context.permitted(command), timeout_s=arguments.seconds, report=context.report)
        shown = one_line(arguments.command, 60)
        harvest = await bench.harvest(context.origin(f"written by `{shown}`"), began_s)
        context.named |= dict.fromkeys(harvest.taken)
        output = context.shown(ran.out.decode("utf-8", "replace"))
        how = f"exit code {ran.code}" if not ran.stopped else f"stopped: {ran.stopped}"
        where = "" if command.sandbox else "\nIt ran without a sandbox, over a copy of the workspace."
        where += _network(bench)
        text = f"{how}{where}{_changed(harvest)}\n{output.rstrip()}".rstrip()
        count = f", {plural(len(harvest.taken), 'file')} changed" if harvest.taken else ""
        label = Label(source="command", detail=f"`{shown}`")
        return Outcome(text, f"{shown}: {how}{count}", label=label, chars_max=OUTPUT_CHARS_SHOWN)


def _bench(context: ToolContext) -> Workbench:
    if context.workbench is None:
        raise ToolError("There is no place to run commands in.")
    return context.workbench


def _network(bench: Workbench) -> str:
    if bench.proxy is None:
        return ""
    lines = [f"\nConnected to {name}" for name in dict.fromkeys(bench.proxy.reached)]
    lines += [f"\nNot connected to {one_line(name)}: {one_line(why, 200)}" for name, why in bench.proxy.refused.items()]
    return "".join(lines[:_LEFT_SHOWN_MAX])


def _changed(harvest: Harvest) -> str:
    lines = ""
    if harvest.below:
        lines = f"\nStale: {', '.join(map(one_line, harvest.below))} changed while it ran, so what it printed and"
        lines += " wrote is of the text before. Run it again where that matters."
    lines += f"\nWritten into the proposal: {', '.join(harvest.taken[:40])}" if harvest.taken else ""
    if len(harvest.taken) > 40:
        lines += f" and {len(harvest.taken) - 40} more"
    for path, why in list(harvest.left.items())[:_LEFT_SHOWN_MAX]:
        lines += f"\nNot taken: {one_line(path)}: {why}"
    if len(harvest.left) > _LEFT_SHOWN_MAX:
        lines += f"\nNot taken: {len(harvest.left) - _LEFT_SHOWN_MAX} more"
    return lines
