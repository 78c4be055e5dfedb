"""A control group for one run's commands, where this process may make one: bounds on processes and memory that hold.

Without one, the count of processes is bounded by a resource limit inside the sandbox (which the kernel does not apply
to the
machine's root), and time and the end of the pid namespace bound the rest.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from redline_agent.safety.sandbox.sight import FILE_SIZE_BYTES_MAX, MEMORY_BYTES_MAX, PROCESSES_MAX

_MOUNT = Path("/sys/fs/cgroup")
JOIN = (
    'for group in $REDLINE_GROUPS; do echo $$ > "$group/cgroup.procs" || exit 126; done; unset REDLINE_GROUPS; '
    f'ulimit -c 0; ulimit -f {FILE_SIZE_BYTES_MAX // 512}; exec "$@"'
)
"""A shell line that joins the groups, sets the other limits and becomes the command."""


@dataclass(frozen=True, slots=True)
class Group:
    """Folders of one group, one a hierarchy; empty where none could be made."""

    folders: tuple[Path, ...] = ()

    def around(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command line that joins the group first."""
        return ("/bin/sh", "-c", JOIN, "sh", *argv) if self.folders else argv

    def env(self) -> dict[str, str]:
        """Return what `around` needs in the environment."""
        return {"REDLINE_GROUPS": " ".join(map(str, self.folders))} if self.folders else {}

    def remove(self) -> None:
        """Remove the group; one that still has a process is left to the kernel."""
        for folder in self.folders:
            with suppress(OSError):
                folder.rmdir()


def make(name: str) -> Group:
    """Return a group of this name, or an empty one."""
    made: list[Path] = []
    for parent, files in _parents():
        folder = parent / f"redline-{name}-{os.getpid()}"
        try:
            folder.mkdir(exist_ok=True)
            for file, value in files.items():
                (folder / file).write_text(str(value))
            made.append(folder)
        except OSError:
            with suppress(OSError):
                folder.rmdir()
    return Group(tuple(made))


def _parents() -> list[tuple[Path, dict[str, int]]]:
    """Folders in which this process might make a group, each with the files to set."""
    found: list[tuple[Path, dict[str, int]]] = []
    try:
        lines = Path("/proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return []
    for line in lines:
        _, names, path = line.split(":", 2)
        if not names:
            folder = next(
                (m / path.lstrip("/") for m in (_MOUNT, _MOUNT / "unified") if (m / "cgroup.controllers").exists()),
                None,
            )
            with suppress(OSError):
                if folder and {"pids", "memory"} <= set((folder.parent / "cgroup.subtree_control").read_text().split()):
                    found.append((folder.parent, {"pids.max": PROCESSES_MAX, "memory.max": MEMORY_BYTES_MAX}))
        elif "pids" in names.split(","):
            found.append((_MOUNT / "pids" / path.lstrip("/"), {"pids.max": PROCESSES_MAX}))
        elif "memory" in names.split(","):
            found.append((_MOUNT / "memory" / path.lstrip("/"), {"memory.limit_in_bytes": MEMORY_BYTES_MAX}))
    return [(parent, files) for parent, files in found if os.access(parent, os.W_OK)]
