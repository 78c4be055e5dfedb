"""The tools, in the order in which the model is told of them (a fixed one, so that the prompt's prefix is stable)."""

from __future__ import annotations

from typing import Any

from redline_agent.models.base import ToolSpec
from redline_agent.tools.base import Tool
from redline_agent.tools.delete import Delete
from redline_agent.tools.edit import Edit
from redline_agent.tools.finish import Finish
from redline_agent.tools.fix_lint import FixLint
from redline_agent.tools.list import List
from redline_agent.tools.move import Move
from redline_agent.tools.organise_imports import OrganiseImports
from redline_agent.tools.read import Read
from redline_agent.tools.rename_symbol import RenameSymbol
from redline_agent.tools.run import Run
from redline_agent.tools.search import Search
from redline_agent.tools.write import Write

TOOLS: tuple[Tool[Any], ...] = (
    Read(), List(), Search(), Edit(), Write(), Move(), Delete(), RenameSymbol(), OrganiseImports(), FixLint(), Run(),
    Finish(),
)  # fmt: skip


def by_name() -> dict[str, Tool[Any]]:
    """Return the tools by name."""
    return {tool.name: tool for tool in TOOLS}


def specs() -> tuple[ToolSpec, ...]:
    """Return the tools as a model sees them."""
    return tuple(ToolSpec(tool.name, tool.description(), tool.schema()) for tool in TOOLS)
