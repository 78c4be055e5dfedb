"""Reaching background runs from an editor or a terminal: which there are, and what is asked of one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from redline_agent import live
from redline_agent.config import state_dir
from redline_agent.errors import RedlineError, UsageError
from redline_agent.jobs.orders import log_of

START_S_MAX = 10.0


def jobs(journal: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Return the background runs of a workspace that go on: by run, the socket and what it says of itself."""
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path in live.others(journal):
        said = live.ask(path, {"do": "job"}, live.READ_S_MAX)
        if said is not None and "runId" in said:
            found[str(said["runId"])] = (path, said)
    return found


def job(journal: Path, ident: str = "") -> Path:
    """Return the socket of a run or session, or of the only one that goes on; raises UsageError."""
    until = time.monotonic() + START_S_MAX
    found = jobs(journal)
    while not found and time.monotonic() < until and logs_of_starting(ident):
        time.sleep(0.1)
        found = jobs(journal)
    fits = [path for path, said in found.values() if not ident or ident in (said["runId"], said["sessionId"])]
    if len(fits) == 1:
        return fits[0]
    if ident or not fits:
        what = f"No background run {ident!r} is" if ident else "No background run is"
        raise UsageError(f"{what} going on in this folder.", hint="`redline jobs` lists them.")
    raise UsageError(f"{len(fits)} background runs are going on.", hint=f"Say which: {', '.join(found)}.")


def logs_of_starting(ident: str) -> list[Path]:
    """Return the logs of workers that were started a moment ago: they are there until a run ends well."""
    logs = state_dir() / "logs"
    found = [log_of(ident)] if ident.startswith("run-") else list(logs.glob("run-*.log"))
    return [path for path in found if path.exists() and time.time() - path.stat().st_mtime < START_S_MAX]


def asked(path: Path, message: dict[str, Any]) -> dict[str, Any]:
    """Return a run's answer; raises RedlineError when it gives none, or says no."""
    said = live.ask(path, message)
    if said is None:
        raise RedlineError("The background run does not answer: it has ended.", hint="See: redline sessions")
    if "error" in said:
        raise RedlineError(str(said["error"]))
    return said
