"""Which sandbox this machine can have: each layer is tried by really trying to get out of it, and the first that
holds is used.

Nothing is downgraded in silence: `Found` says of each layer what came out, and `redline doctor` shows it.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redline_agent.errors import RedlineError, ToolError
from redline_agent.safety import process
from redline_agent.safety.permits import Permit, issue
from redline_agent.safety.places import places
from redline_agent.safety.requests import Command
from redline_agent.safety.sandbox import bubblewrap, seccomp
from redline_agent.safety.sandbox.bubblewrap import Bubblewrap
from redline_agent.safety.sandbox.cgroup import Group
from redline_agent.safety.sandbox.landlock import Landlock, launcher, limits
from redline_agent.safety.sandbox.seatbelt import SANDBOX_EXEC, Seatbelt
from redline_agent.safety.sandbox.sight import Scratch, Sight, environment, prepare_mounts

PROBE = Path(__file__).with_name("probe_inside.py")
NET = Path(__file__).with_name("net_inside.py")
PROBE_S_MAX = 20.0

Layer = Bubblewrap | Landlock | Seatbelt


@dataclass(frozen=True, slots=True)
class Found:
    """The layer that holds (None: no sandbox), and a line on each that was tried."""

    layer: Layer | None
    tried: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The layer's name, "" for none: what requests and approvals show."""
        return self.layer.name if self.layer else ""


def candidates() -> list[Layer]:
    """Return the layers to try on this machine, best first."""
    if sys.platform == "darwin":
        return [Seatbelt()] if Path(SANDBOX_EXEC).exists() else []
    if sys.platform != "linux" or not seccomp.supported(seccomp.machine()):
        return []
    wraps = bubblewrap.candidates()
    mounting: list[Layer] = [Bubblewrap(bwrap) for bwrap in wraps]
    copying: list[Layer] = [Bubblewrap(bwrap, copies=True) for bwrap in wraps]
    return [*mounting, *copying, Landlock()]


@dataclass(slots=True)
class Opened:
    """File descriptors of one start, closed with it."""

    fds: list[int] = field(default_factory=list[int])

    def file(self, data: bytes) -> int:
        """Return a descriptor that reads these bytes."""
        handle = os.memfd_create("redline", os.MFD_CLOEXEC) if hasattr(os, "memfd_create") else _temporary()
        self.fds.append(handle)
        _write_all(handle, data)
        os.lseek(handle, 0, os.SEEK_SET)
        return handle

    def pipe(self) -> int:
        """Return the reading end of a pipe whose other end is closed with this, or with this process."""
        reading, writing = os.pipe()
        self.fds += [reading, writing]
        return reading

    def close(self) -> None:
        """Close all."""
        for handle in self.fds:
            with suppress(OSError):
                os.close(handle)
        self.fds.clear()


def _temporary() -> int:
    handle, name = tempfile.mkstemp()
    Path(name).unlink()
    return handle


def _write_all(handle: int, data: bytes) -> None:
    at = 0
    while at < len(data):
        at += os.write(handle, data[at : at + 65536])


def start(
    layer: Layer | None, sight: Sight, command: Command, opened: Opened, group: Group, channel: int = -1
) -> process.Start:
    """Return how a command is started in a layer; without one, by the launcher alone, over the copy.

    `channel` is a socket by which a sandbox with a network of its own hands its way out to the proxy.
    """
    env = dict(command.env)
    match layer:
        case Bubblewrap():
            sight.scratch.copy_etc(sight.places.etc)
            prepare_mounts(sight, copied=layer.copies)
            arguments = b"\0".join(each.encode() for each in layer.arguments(sight, env)) + b"\0"
            wrapped = opened.file(arguments), opened.file(layer.filter())
            argv = (layer.bwrap, "--args", str(wrapped[0]), "--seccomp", str(wrapped[1]), "--")
            if not group.folders:
                argv = (*argv, "/bin/sh", "-c", bubblewrap.LIMITS, "sh")
            if channel >= 0:
                argv = (*argv, sys.executable, "-I", "-S", "-c", NET.read_text("utf-8"), str(channel))
                wrapped = (*wrapped, channel)
            argv = (*argv, *command.argv)
            outer = {"PATH": "/usr/bin:/bin", **group.env()}
            return process.Start(group.around(argv), outer, sight.scratch.root, wrapped)
        case Landlock():
            alive = opened.pipe()
            argv = launcher(layer.config(sight, command.argv, alive))
            return process.Start(group.around(argv), env | group.env(), sight.scratch.root, (alive,), supervised=True)
        case Seatbelt():
            return process.Start(layer.argv(sight, command.argv), env, sight.scratch.copy / sight.cwd)
        case None:
            alive = opened.pipe()
            config = {
                "argv": command.argv, "cwd": str(sight.scratch.copy / sight.cwd), "alive": alive, "limits": limits()
            }  # fmt: skip
            return process.Start(
                launcher(json.dumps(config)), env | group.env(), sight.scratch.root, (alive,), supervised=True
            )


def env_for(layer: Layer | None, sight: Sight) -> dict[str, str]:
    """Return the environment that a command gets in a layer."""
    return environment(sight, mounted=isinstance(layer, Bubblewrap))


# ---- the probe

_found: Found | None = None


async def find_layer(*, again: bool = False) -> Found:
    """Return the layer that holds here, found once a process."""
    global _found  # noqa: PLW0603  one machine, one answer
    if _found is None or again:
        _found = await _try_all(candidates())
    return _found


async def _try_all(layers: list[Layer]) -> Found:
    tried: list[str] = []
    for layer in layers:
        escaped = await escapes(layer)
        kind = f"{layer.name}{' over a copy' if layer.copies else ''}"
        tried.append(f"{kind}: {escaped or 'holds'}")
        if not escaped:
            return Found(layer, tuple(tried))
    return Found(None, tuple(tried) or (f"no sandbox is known for {platform.system()} on {platform.machine()}",))


async def escapes(layer: Layer | None) -> str:
    """Try to get out of a layer; return what was managed, "" when it holds."""
    folder = Path(tempfile.mkdtemp(prefix="redline-probe-", dir=_scratch_parent()))
    try:
        with _targets(folder) as config:
            return await _attempt(layer, folder, config)
    except (RedlineError, OSError, ValueError) as error:
        return f"could not be started: {error}"
    finally:
        Scratch(folder).remove()
        shutil.rmtree(folder, ignore_errors=True)


def _scratch_parent() -> str | None:
    """The same disk as runs' scratch folders, because an overlay mount depends on the file system."""
    from redline_agent.config import state_dir

    folder = state_dir() / "scratch"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    return str(folder)


async def _attempt(layer: Layer | None, folder: Path, config: dict[str, Any]) -> str:
    workspace, scratch = folder / "workspace", Scratch(folder / "scratch")
    workspace.mkdir()
    (workspace / "secret.env").write_text("TOKEN=probe", "utf-8")
    scratch.make()
    scratch.copy.mkdir()
    sight = Sight(workspace, scratch, places(), masked_files=("secret.env",) if isinstance(layer, Bubblewrap) else ())
    inside = str(workspace if isinstance(layer, Bubblewrap) else scratch.copy)
    text = json.dumps({**config, "inside": inside, "secret": str(workspace / "secret.env")})
    # the script is given whole: the file that it is in need not be visible inside
    argv = (sys.executable, "-I", "-S", "-c", PROBE.read_text("utf-8"), text)
    name = layer.name if layer else ""
    command = Command("redline probe", argv, env=tuple(sorted(env_for(layer, sight).items())), sandbox=name)
    opened = Opened()
    permit: Permit = issue(command)  # Redline's own words, not a model's
    try:
        begun = start(layer, sight, command, opened, Group())
        ran = await process.run_command(command, permit, begun, timeout_s=PROBE_S_MAX)
    finally:
        opened.close()
    try:
        managed: dict[str, bool] = json.loads(ran.out.decode("utf-8", "replace").strip().splitlines()[-1])
    except (ValueError, IndexError):
        tail = " ".join(ran.out.decode("utf-8", "replace").split())[-200:]
        raise ToolError(f"exit code {ran.code}: {tail or 'it said nothing'}") from None
    if not managed.pop("write in the workspace") or (workspace / "redline-probe").exists():
        return "the workspace's copy is not writable, or is not a copy"
    out = [what for what, done in managed.items() if done]
    return f"does not hold: a command could {', '.join(out)}" if out else ""


@contextmanager
def _targets(folder: Path) -> Generator[dict[str, Any]]:
    """Real things to reach for: listeners on loopback and on a Unix socket, a folder, a process (this one)."""
    tcp, udp = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    udp.settimeout(PROBE_S_MAX)
    unix = socket.socket(socket.AF_UNIX) if hasattr(socket, "AF_UNIX") else socket.socket()
    path = os.path.relpath(folder / "u.sock")  # a Unix socket's path is short
    with suppress(OSError):
        unix.bind(str(folder / "u.sock") if len(str(folder)) < 90 else path)
        unix.listen()

    def answer() -> None:
        with suppress(OSError):
            while True:
                _, sender = udp.recvfrom(16)
                udp.sendto(b"y", sender)

    answering = threading.Thread(target=answer, daemon=True)
    answering.start()
    outside = folder / "outside"
    outside.mkdir()
    os.environ["REDLINE_PROBE_CANARY"] = "1"
    try:
        yield {
            "outside": str(outside),
            "tcp": tcp.getsockname(),
            "udp": udp.getsockname(),
            "unix": str(folder / "u.sock"),
            "pid": os.getpid(),
        }
    finally:
        os.environ.pop("REDLINE_PROBE_CANARY", None)
        with suppress(OSError):
            udp.shutdown(socket.SHUT_RDWR)
        for sock in (tcp, udp, unix):
            sock.close()
