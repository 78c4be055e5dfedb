"""A campaign before and after: what it would take, and what became of each target, as a table and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from redline_agent.context.estimate import ASCII_BYTES, raw_fixed
from redline_agent.jobs.store import Row
from redline_agent.jobs.trees import opened
from redline_agent.messages import Usage
from redline_agent.models.base import Model
from redline_agent.prompts.builder import build
from redline_agent.roles.roles import role
from redline_agent.text import escape_hidden, one_line
from redline_agent.tools.registry import by_name, specs

TURNS_EXPECTED = 4
ANSWER_TOKENS = 400
"""What one turn writes beside its edits."""
EDIT_SHARE = 0.25
"""How much of a file an edit writes again."""
CONTEXT_TOKENS = 1_500
"""What the map and the guidance add."""
SHOWN_MAX = 200
_STYLES = {"proposed": "green", "nothing": "dim", "failed": "red", "over budget": "yellow", "left": "cyan"}


@dataclass(frozen=True, slots=True)
class Estimate:
    """What targets may use: tokens and dollars (None: the price is not known), and what that is made of."""

    targets: int
    tokens: int
    cost_usd: float | None
    basis: str

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        cost = None if self.cost_usd is None else round(self.cost_usd, 4)
        return {"targets": self.targets, "tokens": self.tokens, "costUsd": cost, "basis": self.basis}


def estimate(rows: Sequence[Row], model: Model) -> Estimate:
    """Return what the targets that are left may use: by those that were done, else by the sizes of their files."""
    left = [row for row in rows if row.state == "left"]
    done = [row for row in rows if row.requests and row.state != "left"]
    if model.name == "builtin":
        return Estimate(len(left), 0, 0.0, "the built-in engine asks no model")
    if len(done) >= 3:  # fewer say little
        tokens = sum(row.tokens for row in done) / len(done)
        cost = sum(row.cost_usd for row in done) / len(done)
        return Estimate(
            len(left), round(tokens * len(left)), cost * len(left), f"the mean of {len(done)} that were done"
        )
    fixed = _fixed_tokens(model)
    total, usage = 0, Usage()
    for size in _sizes(left):
        shown = round(fixed + CONTEXT_TOKENS + size / ASCII_BYTES)
        wrote = round(ANSWER_TOKENS * TURNS_EXPECTED + size / ASCII_BYTES * EDIT_SHARE)
        each = Usage(
            cache_write_tokens=shown + wrote, cache_read_tokens=shown * (TURNS_EXPECTED - 1), output_tokens=wrote
        )
        total += each.total
        usage = Usage(
            cache_write_tokens=usage.cache_write_tokens + each.cache_write_tokens,
            cache_read_tokens=usage.cache_read_tokens + each.cache_read_tokens,
            output_tokens=usage.output_tokens + each.output_tokens,
        )
    basis = (
        f"{TURNS_EXPECTED} turns a target, a prompt of {round(fixed):,} tokens, and the files' sizes; not measured yet"
    )
    return Estimate(len(left), total, model.cost_usd(usage), basis)


def _fixed_tokens(model: Model) -> float:
    profile = model.capabilities.profile
    executor = role("executor")
    tools = specs(by_name(executor.tool_names(model.capabilities)).values())
    prompt = build(executor, profile, tools, {})
    return raw_fixed(prompt.parts, prompt.tools)


def _sizes(rows: Sequence[Row]) -> list[int]:
    """The bytes of each target's files; a folder is all that is beneath it."""
    sizes: list[int] = []
    by_repository: dict[str, list[Row]] = {}
    for row in rows:
        by_repository.setdefault(row.target.repository, []).append(row)
    for repository, its in by_repository.items():
        with opened(Path(repository)) as tree:
            known = tree.sizes(set(tree.files()))
        beneath: Counter[str] = Counter()
        for path, size in known.items():
            parts = path.split("/")
            for end in range(len(parts) + 1):
                beneath["/".join(parts[:end]) or "."] += size
        sizes += [sum(beneath[path] for path in row.target.paths or (".",)) for row in its]
    return sizes


def summary(rows: Sequence[Row], counts: Counter[str] | None = None) -> dict[str, Any]:
    """Return what became of all targets, in numbers."""
    counted = counts or Counter(row.state for row in rows)
    return {
        "targets": len(rows), "counts": {state: counted[state] for state in sorted(counted) if counted[state]},
        "requests": sum(row.requests for row in rows), "tokens": sum(row.tokens for row in rows),
        "costUsd": round(sum(row.cost_usd for row in rows), 6),
    }  # fmt: skip


def table(rows: Sequence[Row]) -> Table:
    """Return the table of outcomes; what is proposed or not in order comes first."""
    out = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("target", "outcome", "tokens", "cost", "s", ""):
        out.add_column(name, justify="right" if name in ("tokens", "cost", "s") else "left", overflow="fold")
    order = {state: at for at, state in enumerate(("failed", "over budget", "left", "running", "proposed", "nothing"))}
    shown = sorted(rows, key=lambda row: (order.get(row.state, 9), row.target.label))
    for row in shown[:SHOWN_MAX]:
        why = row.why if row.state in ("failed", "over budget") else row.delivered
        cost = f"${row.cost_usd:.4f}" if row.cost_usd else ""
        seconds = f"{row.seconds:.1f}" if row.seconds else ""
        tokens = f"{row.tokens:,}" if row.tokens else ""
        cells = (row.target.label, row.state, tokens, cost, seconds, one_line(why, 160))
        out.add_row(*map(_plain, cells), style=_STYLES.get(row.state, ""))
    if len(shown) > SHOWN_MAX:
        out.add_row(f"and {len(shown) - SHOWN_MAX:,} more", "", "", "", "", "")
    return out


def _plain(text: str) -> str:
    return escape_hidden(text).replace("[", r"\[")
