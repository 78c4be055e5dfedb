"""Redline's agent runtime. It knows no editor and no protocol; a server or a script drives it.

What an embedder may use is what is named here; each name is imported when it is first asked for, so that importing the
package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "Config": "redline_agent.config",
    "Journal": "redline_agent.journal",
    "Limits": "redline_agent.limits",
    "RedlineError": "redline_agent.errors",
    "Task": "redline_agent.context.gather",
    "Workspace": "redline_agent.session",
    "make_model": "redline_agent.models.catalog",
}
__all__ = list(_PUBLIC)  # pyright: ignore[reportUnsupportedDunderAll]  resolved by __getattr__


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'redline_agent' has no attribute {name!r}")
