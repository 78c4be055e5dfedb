"""Asking the worker process for a task: JSON in, JSON out, bounded in time, killed on cancel."""

from __future__ import annotations

import json
import sys
from typing import Any

from redline_agent.errors import ToolError
from redline_agent.safety.process import run_helper
from redline_agent.workspace.overlay import Overlay


async def ask_worker(overlay: Overlay, task: str, *, timeout_s: float, **request: Any) -> dict[str, Any]:
    """Return the worker's reply; raises ToolError with its reason when it could not do the task."""
    body = json.dumps({"task": task, "root": str(overlay.resolver.root), **request}).encode()
    argv = [sys.executable, "-P", "-m", "redline_agent.worker"]
    env = {"PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1", "PYTHONWARNINGS": "ignore"}
    done = await run_helper(argv, stdin=body, cwd=overlay.resolver.root, timeout_s=timeout_s, env=env)
    try:
        reply: dict[str, Any] = json.loads(done.out)
    except ValueError as error:
        tail = done.err.decode("utf-8", "replace")[-300:]
        raise ToolError(f"The helper process died (exit code {done.code}). {tail}".strip()) from error
    if "error" in reply:
        raise ToolError(str(reply["error"]))
    return reply
