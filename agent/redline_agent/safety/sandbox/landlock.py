"""The second layer, where namespaces are refused: Landlock and a system call filter, over a copy of the workspace.
Pure.

There is no network namespace, so the filter refuses every socket that carries data; there is no pid namespace, so the
kernel must be new enough (Landlock 6, Linux 6.12) to keep signals in, which the probe finds out.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from redline_agent.safety.sandbox import seccomp
from redline_agent.safety.sandbox.sight import FILE_SIZE_BYTES_MAX, LINKED, PROCESSES_MAX, Sight, is_real_folder

LAUNCHER = Path(__file__).with_name("launcher.py")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_KERNEL = (
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys",
    "/proc/version",
    "/proc/filesystems",
    "/proc/uptime",
)


@dataclass(frozen=True, slots=True)
class Landlock:
    """Makes command lines for the launcher."""

    name: str = "landlock"
    copies: bool = True

    def config(self, sight: Sight, argv: tuple[str, ...], alive: int, *, loose: bool = False) -> str:
        """Return the launcher's configuration; `loose` leaves Landlock and filter off, as a control for tests."""
        scratch = sight.scratch
        cwd = scratch.copy if sight.cwd == "." else scratch.copy / sight.cwd
        read = [
            *sight.places.system,
            *sight.places.etc,
            *sight.libraries(),
            *([sight.shared_git] if sight.shared_git else []),
        ]
        read += [sight.root / name for name in LINKED if is_real_folder(sight.root / name)]
        confined = {
            "read": [*map(str, read), *_KERNEL],
            "write": [*map(str, (scratch.copy, scratch.home, scratch.tmp)), *_DEVICES],
            "filter": seccomp.program(seccomp.machine(), seccomp.IN_THE_MACHINES_NETWORK).hex(),
        }
        return json.dumps(
            {"argv": argv, "cwd": str(cwd), "alive": alive, "limits": limits(), **({} if loose else confined)}
        )


def limits() -> dict[str, int]:
    """Resource limits of a command, by their names in the `resource` module."""
    return {"RLIMIT_CORE": 0, "RLIMIT_FSIZE": FILE_SIZE_BYTES_MAX} | (
        {"RLIMIT_NPROC": PROCESSES_MAX * 8} if sys.platform == "linux" else {}
    )


def launcher(config: str) -> tuple[str, ...]:
    """Return the command line that starts the launcher with a configuration."""
    return (sys.executable, "-I", "-S", str(LAUNCHER), config)
