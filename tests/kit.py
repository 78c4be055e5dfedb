"""What tests of the agent share: a workspace from a dictionary, a run from a script, the disk as a dictionary."""

import asyncio
from pathlib import Path

from redline_agent.config import Config
from redline_agent.context.gather import Task
from redline_agent.journal import Journal
from redline_agent.limits import Limits
from redline_agent.models.builtin import BuiltinModel
from redline_agent.models.scripted import ScriptedModel
from redline_agent.safety.permits import issue
from redline_agent.safety.requests import Access, text_digest
from redline_agent.session import Workspace


def lay(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def disk(root: Path) -> dict[str, str]:
    return {p.relative_to(root).as_posix(): p.read_bytes().decode() for p in sorted(root.rglob("*")) if p.is_file()}


def workspace(root: Path, buffers=None, index=None) -> Workspace:
    return Workspace(root, Journal(root.parent / "journal.sqlite"), buffers, index)


async def carry_out(
    ws: Workspace, model, task: Task | str, limits: Limits | None = None, session: str = "", config=None
):
    """Run to the end; returns the run and its events."""
    task = Task(task) if isinstance(task, str) else task
    run = ws.new_run(task, model, config or Config(limits=limits or Limits(), validate="never"), session)
    try:
        events = [event async for event in ws.carry_out(run, model)]
    finally:
        await model.close()
        await ws.servers.close()
    return run, events


def permit(effect: str, path: str, text: str = ""):
    """Leave that the gate would give, for tests of what executes."""
    return issue(Access(effect, path, content=text_digest(text) if effect == "write" else ""))


def play(root: Path, replies: list[dict], task: Task | str = "do it", limits: Limits | None = None):
    """Run a script headless; returns the run, its events and the model."""
    model = ScriptedModel(replies)
    run, events = asyncio.run(carry_out(workspace(root), model, task, limits))
    return run, events, model


def ask_builtin(root: Path, instruction: str, **task):
    run, _ = asyncio.run(carry_out(workspace(root), BuiltinModel(), Task(instruction, **task)))
    return run


def call(tool: str, **args) -> dict:
    return {"calls": [{"tool": tool, "args": args}]}


def finish(summary: str = "done") -> dict:
    return call("finish", summary=summary)


def results(events) -> list[tuple[bool, str]]:
    return [(e.result.error, e.result.text) for e in events if e.type == "tool_result"]


def proposed_text(run, path: str) -> str:
    """What a file would be with everything accepted."""
    review = run.proposal.files.get(path)
    if review:
        return review.result([hunk.id for hunk in review.hunks])
    return next(op.file.text for op in run.proposal.operations if op.path == path and op.kind == "create")
