"""Starts one command under Landlock and a system call filter, watches over it, and leaves nothing of it behind.

Run as a script by the Python that runs Redline (`python -I -S launcher.py CONFIG`), with nothing imported from
Redline. CONFIG is
JSON: `argv`, `cwd`, `alive` (a file descriptor: at its end the tree is killed, so that it dies with Redline however
that
dies), `limits`, and, but for a command without a sandbox, `read`, `write` (folders and files) and `filter` (hex).
"""

# ruff: noqa: S606, PTH, T201
# ruff: noqa: PTH112, PTH123, PTH208
from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import struct
import sys
import time
from contextlib import suppress
from typing import Any

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_SET_PDEATHSIG, _SET_NO_NEW_PRIVS, _SET_SECCOMP, _SET_CHILD_SUBREAPER = 1, 38, 22, 36
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_ALL_BY_ABI = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF, 5: 0xFFFF}
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | 0x4000 | 0x8000
KILL_S_MAX = 20.0
"""How long the processes of a command are hunted: those of a fork bomb on a busy machine are not gone at once."""
NICENESS = 10
"""Commands leave the machine to the editor, and to whoever must end them."""

libc = ctypes.CDLL(None, use_errno=True)


def landlock_abi() -> int:
    """Return the kernel's version of Landlock, 0 for none."""
    return max(0, libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1))


def restrict(read: list[str], write: list[str], filter_hex: str) -> None:
    """Confine this process, and all that come of it, to the named places; raises OSError when the kernel will not."""
    abi = landlock_abi()
    if abi < 1:
        raise OSError("this kernel has no Landlock")
    handled = _ALL_BY_ABI[min(abi, 5)]
    network, scoped = (3 if abi >= 4 else 0), (3 if abi >= 6 else 0)
    attributes = struct.pack("=QQQ", handled, network, scoped)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    ruleset = _called(libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    for paths, rights in ((read, _EXECUTE | _READ_FILE | _READ_DIR), (write, handled)):
        for path in paths:
            with suppress(FileNotFoundError, PermissionError):
                handle = os.open(os.path.realpath(path), getattr(os, "O_PATH", 0) | os.O_NOFOLLOW | os.O_CLOEXEC)
                allowed = rights if os.path.isdir(path) else rights & _OF_FILES
                rule = struct.pack("=QI", allowed & handled, handle)
                _called(libc.syscall(_ADD_RULE, ruleset, 1, rule, 0))
                os.close(handle)
    _called(libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _called(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    code = bytes.fromhex(filter_hex)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    _called(libc.prctl(_SET_SECCOMP, 2, program, 0, 0))


def _called(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def descendants(of: int) -> list[int]:
    """Return the processes beneath one, from /proc."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(name))
    found: list[int] = []
    queue = [of]
    while queue:
        children = parents.get(queue.pop(), [])
        found += children
        queue += children
    return found


def kill_all() -> None:
    """Kill everything beneath this process, orphans too: they come to it, because it is their reaper.

    All are stopped first: what is stopped makes no new ones while the others are found.
    """
    with suppress(OSError):  # root's alone, whose processes are not counted either
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    stopped: set[int] = set()
    until = time.monotonic() + KILL_S_MAX
    while time.monotonic() < until:
        living = descendants(os.getpid()) if sys.platform == "linux" else []
        new = set(living) - stopped
        stopped |= new
        for pid in new or living:
            with suppress(OSError):
                os.kill(pid, signal.SIGSTOP if new else signal.SIGKILL)
        if new:
            continue
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not living:
            return
        time.sleep(0.005)


def _become(config: dict[str, Any]) -> None:
    os.setsid()
    with suppress(OSError):
        os.nice(NICENESS)
    for name, value in config["limits"].items():
        with suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (value, value))
    os.chdir(config["cwd"])
    if "filter" in config:
        restrict(config["read"], config["write"], config["filter"])
    os.execvpe(config["argv"][0], config["argv"], os.environ)


def main() -> int:
    """Start the command, wait for it, the end of Redline or a signal; kill what is left; return the command's code."""
    config: dict[str, Any] = json.loads(sys.argv[1])
    if sys.platform == "linux":
        libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    for each in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT):
        signal.signal(each, lambda _number, _frame: None)
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        for each in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT):
            signal.signal(each, signal.SIG_DFL)
        os.close(config["alive"])
        try:
            _become(config)
        except OSError as error:
            os.write(2, f"{config['argv'][0]}: {error.strerror or error}\n".encode())
        os._exit(126)
    code = -1
    while code < 0:
        ready, _, _ = select.select([told, config["alive"]], [], [])
        if config["alive"] in ready:
            code = 137
            break
        if told in ready and (signal.SIGTERM in (numbers := os.read(told, 512)) or signal.SIGINT in numbers):
            code = 143
            break
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == child:
                    code = os.waitstatus_to_exitcode(ended[1]) % 256
    kill_all()
    return code


if __name__ == "__main__":
    sys.exit(main())
