"""What is told of a run: to those who ask, and when it ends. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redline_agent.session import Run
from redline_agent.text import one_line, plural

from redline_server.questions import Pending


def described(run: Run, uri: str, pending: Iterable[Pending]) -> dict[str, Any]:
    """Return a run in the shape of `redline.runs`, with those of the pending questions that are its own."""
    return {
        "runId": run.id,
        "sessionId": run.session,
        "instruction": run.task.instruction,
        "uri": uri or None,
        "state": run.state,
        "doing": run.doing,
        "plan": [step.model_dump() for step in run.plan.steps] if run.plan else None,
        "answer": run.answer,
        "outcome": None if run.state in ("running", "waiting") else run.state,
        "limit": run.limit or None,
        "refusals": run.refusals,
        "model": run.model,
        "usage": {"turns": run.meter.turns, "tokens": run.meter.tokens, "costUsd": run.meter.cost_usd},
        "pending": [each.as_json() for each in pending if each.run == run.id],
    }


def closing(run: Run) -> str:
    """Return what the user is told when a run ends."""
    if run.became and run.state in ("proposed", "answered"):
        return f"Redline: {run.became}. {one_line(run.answer, 200)}"
    if run.state == "proposed" and run.proposal:
        files = {item.path for item in run.proposal.items}
        refused = f" {plural(len(run.refusals), 'call')} refused: {run.refusals[-1]}." if run.refusals else ""
        count = f"{plural(len(run.proposal.items), 'change')} in {plural(len(files), 'file')}"
        wrong = [item for item in run.proposal.proof_now if item.ok is False]
        where = f" of {wrong[0].path}" if wrong and wrong[0].path else ""
        found = f" The proof found: {wrong[0].check}{where}: {one_line(wrong[0].detail, 120)}." if wrong else ""
        return f"Redline: {count} proposed.{found} {one_line(run.answer, 200)}{refused}"
    return f"Redline ({run.state}): {one_line(run.answer or run.task.instruction, 400)}"
