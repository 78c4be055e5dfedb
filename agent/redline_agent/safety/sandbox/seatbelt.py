"""The layer of macOS: a profile for sandbox-exec, over a copy of the workspace. Pure.

Written after Apple's published profiles and not run here (no macOS at hand): the probe decides on the machine whether
it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from redline_agent.safety.sandbox.sight import Sight

SANDBOX_EXEC = "/usr/bin/sandbox-exec"
_SYSTEM = (
    "/usr", "/bin", "/sbin", "/System", "/Library/Developer", "/Library/Frameworks", "/Library/Apple",
    "/Applications/Xcode.app",
    "/private/etc/ssl", "/private/etc/localtime", "/private/var/db/timezone", "/private/var/select",
    "/private/var/db/dyld",
)  # fmt: skip
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/dtracehelper")


@dataclass(frozen=True, slots=True)
class Seatbelt:
    """Makes profiles and command lines for sandbox-exec."""

    name: str = "seatbelt"
    copies: bool = True

    def profile(self, sight: Sight) -> str:
        """Return the profile: everything denied, then what a command needs."""
        scratch = sight.scratch
        write = [scratch.copy, scratch.home, scratch.tmp]
        read = [*map(Path, _SYSTEM), *sight.libraries(), *write]
        lines = [
            "(version 1)",
            "(deny default)",
            "(allow process-fork process-exec)",
            "(allow signal (target same-sandbox))",
            "(allow process-info* (target same-sandbox))",
            "(allow sysctl-read)",
            "(allow file-read-metadata)",
            '(allow mach-lookup (global-name "com.apple.system.opendirectoryd.libinfo"))',
            *(f"(allow file-read* (subpath {_quoted(path)}))" for path in read),
            *(f"(allow file-write* (subpath {_quoted(path)}))" for path in write),
            *(f"(allow file-read* file-write* (literal {_quoted(path)}))" for path in _DEVICES),
            *(f"(deny file-read* (subpath {_quoted(path)}))" for path in sight.hidden()),
            "(deny network*)",
        ]
        return "\n".join(lines) + "\n"

    def argv(self, sight: Sight, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command line around a command."""
        return (SANDBOX_EXEC, "-p", self.profile(sight), *argv)


def _quoted(path: Path | str) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
