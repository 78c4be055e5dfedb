"""Tries to get out of the sandbox that it is run in, and prints as JSON what it managed. Run as a script, alone.

CONFIG is JSON: `secret` (a file that may not be read), `outside` (a folder that may not be written), `tcp`, `udp`,
`unix`
(where somebody listens), `pid` (a process that may not be seen or signalled), `inside` (a folder that must be
writable).
"""

# ruff: noqa: PTH118, PTH123, T201
from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
from collections.abc import Callable
from typing import Any


def _managed(attempt: Callable[[], object]) -> bool:
    try:
        return bool(attempt())
    except Exception:  # noqa: BLE001  every failure is what is hoped for
        return False


def _write(path: str) -> bool:
    with open(path, "w", encoding="utf-8") as file:
        file.write("x")
    return True


def _read(path: str) -> bool:
    with open(path, "rb") as file:
        return bool(file.read(16))


def _connect(family: int, kind: int, address: Any) -> bool:
    with socket.socket(family, kind) as sock:
        sock.settimeout(0.5)
        sock.connect(address)
        if kind == socket.SOCK_DGRAM:
            sock.send(b"x")
            return sock.recv(1) == b"y"
    return True


def _traced(pid: int) -> bool:
    """PTRACE_SEIZE, which does not stop the process."""
    return ctypes.CDLL(None).ptrace(0x4206, pid, 0, 0) == 0


def main() -> None:
    """Try everything once."""
    config: dict[str, Any] = json.loads(sys.argv[1])
    pid: int = config["pid"]
    print(
        json.dumps(
            {
                "write in the workspace": _managed(lambda: _write(os.path.join(config["inside"], "redline-probe"))),
                "read a secret": _managed(lambda: _read(config["secret"])),
                "write outside": _managed(lambda: _write(os.path.join(config["outside"], "escaped"))),
                "connect by TCP": _managed(lambda: _connect(socket.AF_INET, socket.SOCK_STREAM, tuple(config["tcp"]))),
                "send by UDP": _managed(lambda: _connect(socket.AF_INET, socket.SOCK_DGRAM, tuple(config["udp"]))),
                "connect by a Unix socket": _managed(
                    lambda: _connect(socket.AF_UNIX, socket.SOCK_STREAM, config["unix"])
                ),
                "signal a process outside": _managed(lambda: os.kill(pid, 0) is None),
                "read a process's environment": _managed(lambda: _read(f"/proc/{pid}/environ")),
                "trace a process": _managed(lambda: sys.platform == "linux" and _traced(pid)),
                "inherit the environment": "REDLINE_PROBE_CANARY" in os.environ,
            }
        )
    )


if __name__ == "__main__":
    main()
