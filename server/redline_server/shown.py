"""What is shown as a file: diffs and long answers, real and read-only, under the state folder, for any editor."""

from __future__ import annotations

import stat
from pathlib import Path


def write_read_only(path: Path, text: str) -> Path:
    """Write a file that only the user can read and nobody writes; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists():
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    path.write_text(text, "utf-8", newline="")
    path.chmod(stat.S_IRUSR)
    return path
