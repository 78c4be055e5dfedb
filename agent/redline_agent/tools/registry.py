"""The tools, in the order in which a model is told of them (a fixed one, so that the prompt's prefix is stable)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from redline_agent.models.base import ToolSpec
from redline_agent.tools.apply_patch import ApplyPatch
from redline_agent.tools.ask_user import AskUser
from redline_agent.tools.base import Tool
from redline_agent.tools.bash import Bash
from redline_agent.tools.definition import Definition
from redline_agent.tools.delegate import Delegate
from redline_agent.tools.delete import Delete
from redline_agent.tools.edit import Edit
from redline_agent.tools.extract import Extract
from redline_agent.tools.finish import Finish
from redline_agent.tools.fix_lint import FixLint
from redline_agent.tools.inline import Inline
from redline_agent.tools.list import List
from redline_agent.tools.move import Move
from redline_agent.tools.move_symbol import MoveSymbol
from redline_agent.tools.organise_imports import OrganiseImports
from redline_agent.tools.outline import Outline
from redline_agent.tools.plan import Plan
from redline_agent.tools.quick_fix import QuickFix
from redline_agent.tools.read import Read
from redline_agent.tools.read_more import ReadMore
from redline_agent.tools.references import References
from redline_agent.tools.rename_symbol import RenameSymbol
from redline_agent.tools.replace_symbol import ReplaceSymbol
from redline_agent.tools.report import Report
from redline_agent.tools.run import Run
from redline_agent.tools.search import Search
from redline_agent.tools.shell import Shell
from redline_agent.tools.str_replace_based_edit_tool import TextEditor
from redline_agent.tools.todo import Todo
from redline_agent.tools.verdict import Verdict
from redline_agent.tools.write import Write

TOOLS: tuple[Tool[Any], ...] = (
    Read(), List(), Search(), Outline(), Definition(), References(), Edit(), ReplaceSymbol(), Write(), Move(), Delete(),
    RenameSymbol(), Extract(), Inline(), MoveSymbol(), OrganiseImports(), FixLint(), QuickFix(), Run(), Todo(),
    Delegate(), AskUser(), ReadMore(), Finish(), Plan(), Verdict(), Report(), TextEditor(), Bash(), ApplyPatch(),
    Shell(),
)  # fmt: skip


def by_name(names: Iterable[str] | None = None) -> dict[str, Tool[Any]]:
    """Return tools by name: those that were named, in the registry's order, or all."""
    wanted = None if names is None else set(names)
    return {tool.name: tool for tool in TOOLS if wanted is None or tool.name in wanted}


def specs(tools: Iterable[Tool[Any]]) -> tuple[ToolSpec, ...]:
    """Return tools as a model sees them; a description is read when a role needs the tool."""
    return tuple(_spec(tool) for tool in tools)


@cache
def _spec(tool: Tool[Any]) -> ToolSpec:
    return ToolSpec(tool.name, tool.description(), tool.schema(), dict(tool.vendor))
