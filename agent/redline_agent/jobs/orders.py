"""What a background run is started with: one JSON object on the worker's standard input, and the start itself."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from redline_agent.config import Config, journal_path, state_dir
from redline_agent.context.gather import Task
from redline_agent.errors import RedlineError, UsageError
from redline_agent.messages import Label
from redline_agent.safety.process import start_detached
from redline_agent.session import Run
from redline_agent.workspace.overlay import Buffers

BUFFERS_CHARS_MAX = 20_000_000
"""Unsaved text that a background run takes along."""


class Order(BaseModel):
    """One run to carry out; `buffers` are the texts that the editor has and the disk has not."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    root: str
    run: str
    session: str
    model: str
    task: dict[str, Any]
    limits: dict[str, float]
    plan: str = "auto"
    resumed: bool = False
    buffers: dict[str, str] = {}

    def as_task(self) -> Task:
        """Return the task as the runtime has it."""
        given = dict(self.task)
        lines = given.pop("lines", None)
        source = Label.model_validate(given.pop("source"))
        for name in ("targets", "diagnostics"):
            given[name] = tuple(given.get(name, ()))
        return Task(**given, lines=tuple(lines) if lines else None, source=source)


def order(root: Path, run: Run, config: Config) -> Order:
    """Return the order for a run that has not begun, or that was cut off."""
    given = {**asdict(run.task), "source": run.task.source.model_dump()}
    return Order(
        root=str(root), run=run.id, session=run.session, model=run.model, task=given,
        limits=asdict(config.limits), plan=config.plan, resumed=run.resumed,
    )  # fmt: skip


def unsaved(buffers: Buffers, root: Path) -> dict[str, str]:
    """Return the open documents that differ from the disk; raises UsageError when they are too much to hand over."""
    texts: dict[str, str] = {}
    for path in buffers.open_paths():
        opened = buffers.open_text(path)
        try:
            saved = (root / path).read_bytes().decode("utf-8")
        except (OSError, ValueError):
            saved = None
        if opened is not None and opened[0] != saved:
            texts[path] = opened[0]
    if sum(map(len, texts.values())) > BUFFERS_CHARS_MAX:
        raise UsageError("There is too much unsaved text for a background run.", hint="Save, and ask again.")
    return texts


def log_of(run: str) -> Path:
    """Return the file of what a worker says before it can be reached; it is removed when the run ends well."""
    return state_dir() / "logs" / f"{run}.log"


def start(given: Order) -> int:
    """Start a worker that outlives this process; returns its process id. Raises RedlineError, UsageError when the
    session has one already.
    """
    from redline_agent.jobs.reach import jobs  # which knows of orders

    busy = [said for _, said in jobs(journal_path(state_dir(), Path(given.root))).values()
            if said["sessionId"] == given.session]  # fmt: skip
    if busy:
        raise UsageError(
            f"The session {given.session} has a run that goes on in the background ({busy[0]['runId']}).",
            hint="Wait for it, steer it, or cancel it.",
        )
    argv = [sys.executable, "-P", "-m", "redline_agent.jobs.background"]
    log = log_of(given.run)
    try:
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise RedlineError(f"The background run cannot be started: {error}.") from error
    return start_detached(argv, stdin=given.model_dump_json().encode(), cwd=Path(given.root), log=log)
