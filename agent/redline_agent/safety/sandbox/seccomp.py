"""The system call filter of the sandbox: a small BPF program made from `syscalls.toml`. Pure.

It refuses sockets of every family but those named (so AF_UNIX, AF_VSOCK and AF_PACKET too), new namespaces, tracing,
mounts,
keys, io_uring, and typing into the terminal. Shapes from the kernel's seccomp_filter documentation.
"""

from __future__ import annotations

import platform
import struct
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

AF_INET, AF_INET6, AF_NETLINK = 2, 10, 16
IN_A_NETWORK_OF_ITS_OWN = (AF_INET, AF_INET6, AF_NETLINK)
"""Families of a sandbox with its own network namespace, where there is nobody to talk to but itself."""
IN_THE_MACHINES_NETWORK = (AF_NETLINK,)
"""Families where the network could not be taken away: none that carries data."""

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97
_NR, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24
_X32 = 0x40000000
_NEW_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads(files("redline_agent.safety.sandbox").joinpath("syscalls.toml").read_text("utf-8"))


def machine() -> str:
    """Return this machine's architecture as `syscalls.toml` names it."""
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())


def supported(arch: str) -> bool:
    """Whether there is a filter for an architecture."""
    return arch in _data()["architecture"]


@cache
def program(arch: str, families: tuple[int, ...]) -> bytes:
    """Return the filter as the array of `struct sock_filter` that bwrap's --seccomp and prctl take."""
    data = _data()
    watched: dict[str, int] = data["watched"][arch]
    code: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, data["architecture"][arch]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NR),
    ]
    if arch == "x86_64":
        code += [(_ANY_BIT, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    for number in data["denied"][arch].values():
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | _EPERM)]
    for number in data["absent"][arch].values():
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | _ENOSYS)]
    code += _on_argument(watched["socket"], _ARG0, [(_EQUAL, family) for family in families], _ALLOW, _EAFNOSUPPORT)
    code += _on_argument(watched["clone"], _ARG0, [(_ANY_BIT, _NEW_NAMESPACES)], _ERRNO | _EPERM, 0)
    code += _on_argument(watched["ioctl"], _ARG1, [(_EQUAL, _TIOCSTI), (_EQUAL, _TIOCLINUX)], _ERRNO | _EPERM, 0)
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *each) for each in code)


def _on_argument(
    number: int, argument: int, tests: list[tuple[int, int]], verdict: int, else_errno: int
) -> list[tuple[int, int, int, int]]:
    """For one system call: `verdict` where a test of the argument holds, else the errno (0: allowed)."""
    body: list[tuple[int, int, int, int]] = [(_LOAD, 0, 0, argument)]
    for test, value in tests:
        body += [(test, 0, 1, value), (_RETURN, 0, 0, verdict)]
    body.append((_RETURN, 0, 0, _ERRNO | else_errno if else_errno else _ALLOW))
    return [(_EQUAL, 0, len(body), number), *body]
