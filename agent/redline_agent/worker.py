"""The helper process for work that is heavy or may never end: `python -m redline_agent.worker < request > reply`.

One JSON request in, one JSON reply out, then it ends. It knows no event loop; whoever started it bounds its time
and kills it. Requests name a task of `_TASKS`; nothing of the project is imported or executed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any


def _rename(request: dict[str, Any]) -> dict[str, Any]:
    from redline_agent.semantics.rope_rename import rename

    return rename(**request)


def _search(request: dict[str, Any]) -> dict[str, Any]:
    from redline_agent.semantics.scan import search

    return search(**request)


def _exports(request: dict[str, Any]) -> dict[str, Any]:
    from redline_agent.semantics.scan import imported_elsewhere

    return imported_elsewhere(**request)


def _refactor(request: dict[str, Any]) -> dict[str, Any]:
    from redline_agent.semantics.rope_refactor import refactor

    return refactor(**request)


_TASKS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "rename": _rename,
    "refactor": _refactor,
    "search": _search,
    "exports": _exports,
}


def main() -> None:
    """Serve the one request."""
    request: dict[str, Any] = json.load(sys.stdin)
    reply_to, sys.stdout = sys.stdout, sys.stderr
    try:
        reply = _TASKS[request.pop("task")](request)
    except Exception as error:  # noqa: BLE001  whatever a library raises becomes an answer
        reply = {"error": f"{type(error).__name__}: {error}"}
    json.dump(reply, reply_to)
    reply_to.flush()


if __name__ == "__main__":
    main()
