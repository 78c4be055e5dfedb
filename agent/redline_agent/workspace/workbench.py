"""Where a run's commands work: the overlay as a folder, in the sandbox that this machine has, and the way back as
edits.

One for each run, made with its first command; its scratch folder goes with it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from redline_agent.errors import RedlineError, ToolError
from redline_agent.safety.beneath import is_plain, put, put_deleted, take_away
from redline_agent.safety.commands import plain_words
from redline_agent.safety.keeper import Keeper
from redline_agent.safety.masking import SecretIndex
from redline_agent.safety.permits import Permit
from redline_agent.safety.places import places
from redline_agent.safety.process import Ran, reaped, run_command, run_helper, start_server
from redline_agent.safety.requests import Access, Command, Server, text_digest
from redline_agent.safety.sandbox import cgroup
from redline_agent.safety.sandbox.bubblewrap import MASKS_MAX, Bubblewrap
from redline_agent.safety.sandbox.layers import Found, Opened, env_for, find_layer, start
from redline_agent.safety.sandbox.proxy import ENVIRONMENT, Lookup, Proxy, look_up
from redline_agent.safety.sandbox.sight import SCRATCH_BYTES_MAX, Scratch, Sight
from redline_agent.workspace.applying import with_mode
from redline_agent.workspace.harvest import Harvest, Harvester
from redline_agent.workspace.hunks import Origin
from redline_agent.workspace.materialise import DEPTH_MAX, Copy, Signature, Wrote, changes_in_upper
from redline_agent.workspace.overlay import Overlay
from redline_agent.workspace.since import Watch

_SIZE_EVERY_S = 1.0


class Workbench:
    """Runs permitted commands over one run's overlay."""

    def __init__(
        self, overlay: Overlay, keeper: Keeper, scratch: Path, *, found: Found | None = None, lookup: Lookup = look_up
    ) -> None:
        self.proxy: Proxy | None = None
        self._look_up = lookup
        self._overlay = overlay
        self._keeper = keeper
        self._scratch = Scratch(scratch)
        self._secrets = SecretIndex(overlay.resolver.root)
        self._found = found
        self._group = cgroup.Group()
        self._made = False
        self._serving: list[Opened] = []
        self._processes: list[tuple[asyncio.subprocess.Process, bool]] = []
        self._env: dict[str, str] = {}
        self._laid: dict[str, bytes | None] = {}
        self._known: dict[str, Signature] = {}
        self._copy = Copy(overlay.resolver.root, self._scratch.copy)
        self._watch: Watch | None = None

    # ---- before

    async def ready(self) -> None:
        """Find out which sandbox holds here; the first time in a process this tries to get out of each."""
        if sys.platform == "win32":
            raise ToolError("Commands are not run on Windows in this version.", hint="Work without `run`.")
        if self._found is None:
            self._found = await find_layer()
        if not self._made:
            self._scratch.make()
            self._group = cgroup.make(self._scratch.root.name)
            if self._found.layer is None:
                self._copy.large = "copied"  # nothing would keep a command from writing through a link
            elif isinstance(self._found.layer, Bubblewrap):
                self._copy.large = "bound"
            self._made = True

    @property
    def found(self) -> Found:
        """The sandbox; `ready` was awaited before."""
        return self._found or Found(None)

    @property
    def _mounted(self) -> bool:
        """Whether commands work in an overlay mount, not in a copy."""
        return isinstance(self.found.layer, Bubblewrap) and not self.found.layer.copies

    def command(self, text: str, cwd: str) -> Command:
        """Return the exact request for a command line in a folder of the workspace; raises PathRefused, ToolError."""
        folder = self._overlay.resolver.resolve(cwd)
        if not (folder == "." or self._overlay.resolver.is_dir(folder)) and not self._overlay.holds_folder(folder):
            raise ToolError(f"There is no folder {folder} to run in.", hint="Leave `cwd` out, or name a folder.")
        layer = self.found.layer
        words = plain_words(text) if layer is None else None
        shell = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"  # noqa: PTH110
        if not self._env:
            self._env = env_for(layer, self._sight(folder, (), ())) | (ENVIRONMENT if self._networked else {})
        texts = self._texts()
        files = text_digest("\0".join(f"{path}\0{text_digest(repr(texts[path]))}" for path in sorted(texts)))
        return Command(
            text, words or (shell, "-c", text), folder, tuple(sorted(self._env.items())), files, self.found.name
        )

    def _sight(self, cwd: str, files: tuple[str, ...], folders: tuple[str, ...]) -> Sight:
        root = self._overlay.resolver.root
        masks = self._mounted
        upper = self._scratch.upper
        return Sight(
            root,
            self._scratch,
            places(),
            cwd,
            masked_files=tuple(name for name in files if is_plain(upper, name)) if masks else (),
            masked_folders=tuple(name for name in folders if is_plain(upper, name)) if masks else (),
            shared_git=_shared_git(root),
        )

    def _texts(self) -> dict[str, bytes | None]:
        """What differs from the disk, as bytes; None for a file that is deleted."""
        found: dict[str, bytes | None] = {}
        for path, text in self._overlay.texts_above_disk().items():
            if not self._keeper.allowed(Access("read", path)):
                continue  # a file of secrets that is open in the editor
            if text is None:
                found[path] = None
                continue
            try:
                seen = self._overlay.find(path)
                found[path] = seen.file.encode() if seen else None
            except RedlineError:
                continue
        return found

    # ---- the command

    async def run(
        self, command: Command, permit: Permit, *, timeout_s: float, report: Callable[[str], None] = lambda _text: None
    ) -> Ran:
        """Run a permitted command over the overlay as it is now; raises PermitRefused, ToolError."""
        self._watch = Watch.begin(self._overlay, time.time())
        sight = await asyncio.to_thread(self._prepare, command)
        opened = Opened()
        watch = _Size(self._scratch.root).over
        try:
            if not self._networked:
                begun = start(self.found.layer, sight, command, opened, self._group)
                return await run_command(command, permit, begun, timeout_s=timeout_s, watch=watch, report=report)
            async with self._way_out() as channel:
                begun = start(self.found.layer, sight, command, opened, self._group, channel)
                return await run_command(command, permit, begun, timeout_s=timeout_s, watch=watch, report=report)
        finally:
            opened.close()

    async def serve(
        self, request: Server | Command, permit: Permit, argv: tuple[str, ...], env: Mapping[str, str]
    ) -> asyncio.subprocess.Process:
        """Start a tool or language server in the sandbox; it ends with this workbench. Raises ToolError."""
        await self.ready()
        if self.found.layer is None:
            raise ToolError("No sandbox holds here, so it is not started.", hint="See: redline doctor")
        plain = self.command("true", ".")
        command = replace(plain, argv=argv, env=tuple(sorted({**dict(plain.env), **env}.items())))
        sight = await asyncio.to_thread(self._prepare, command)
        opened = Opened()
        self._serving.append(opened)
        begun = start(self.found.layer, sight, command, opened, self._group)
        process = await start_server(request, permit, begun)
        self._processes.append((process, begun.supervised))
        return process

    def beside(self, name: str, overlay: Overlay | None = None) -> Workbench:
        """Return a workbench over the same overlay, or another one, with a scratch folder of its own."""
        root = self._scratch.root.with_name(f"{self._scratch.root.name}-{name}")
        return Workbench(overlay or self._overlay, self._keeper, root, found=self._found)

    @property
    def _networked(self) -> bool:
        """Whether commands get a way to the hosts that the user granted: only where the sandbox has a network of its
        own.
        """
        return self._keeper.rules.hosts and isinstance(self.found.layer, Bubblewrap)

    @asynccontextmanager
    async def _way_out(self) -> AsyncGenerator[int]:
        ours, theirs = socket.socketpair()
        self.proxy = Proxy(self._keeper, self._look_up)
        serving = asyncio.create_task(self.proxy.serve(ours))
        try:
            yield theirs.fileno()
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await self.proxy.close()
            ours.close()
            theirs.close()

    def _prepare(self, command: Command) -> Sight:
        files, folders = self._hidden()
        mounted = self._mounted
        texts = self._texts()
        if not mounted:
            self._copy.bring_up(frozenset((*files, *folders)), frozenset(self._laid) & texts.keys())
        for path in [path for path in self._laid if path not in texts]:
            del self._laid[path]
            take_away(self._scratch.upper if mounted else self._scratch.copy, path)
            self._copy.sources.pop(path, None)
        for path, data in texts.items():
            if path in self._laid and self._laid[path] == data:
                continue
            self._laid[path] = data
            if not mounted:
                self._copy.lay(path, data, self._mode(path))
            elif data is not None:
                put(self._scratch.upper, path, data, self._mode(path))
                self._note(path)
            elif (self._overlay.resolver.root / path).exists():
                put_deleted(self._scratch.upper, path)
                self._note(path)
            else:
                take_away(self._scratch.upper, path)
        return self._sight(command.cwd, files, folders)

    def _hidden(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Files and folders that a command does not see."""
        files, folders = self._secrets.now()
        for place in self._keeper.protected:
            if (self._overlay.resolver.root / place).is_dir():
                folders = (*folders, place)
            else:
                files = (*files, place)
        if len(files) + len(folders) > MASKS_MAX:
            raise ToolError(f"The workspace has more than {MASKS_MAX} files of secrets, too many to hide.")
        return files, folders

    def follow_disk(self) -> None:
        """Bring what a server that runs here sees to the disk as it is now; raises ToolError."""
        if self._made and not self._mounted:
            files, folders = self._hidden()
            self._copy.bring_up(frozenset((*files, *folders)), frozenset(self._laid))

    def _mode(self, path: str) -> int:
        try:
            mode = os.lstat(self._overlay.resolver.root / path).st_mode & 0o777
        except OSError:
            mode = 0o644
        touched = self._overlay.touched.get(path)
        if touched is None:
            return mode
        return with_mode(mode, touched.kind.executable)

    def _note(self, path: str) -> None:
        status = os.lstat(self._scratch.upper / path)
        self._known[path] = (status.st_mtime_ns, status.st_ctime_ns, status.st_size)

    # ---- after

    async def harvest(self, origin: Origin, began_s: float) -> Harvest:
        """Bring what the last command wrote into the overlay, each file by its own permit; links are never followed."""
        try:
            changes = await asyncio.to_thread(self._changes)
        except (RecursionError, OSError) as error:
            raise ToolError(f"What the command wrote could not be looked through: {error}.") from error
        below = await asyncio.to_thread(self._watch.changed) if self._watch is not None else []
        if below:
            origin = replace(origin, reason=f"{origin.reason}; stale: {', '.join(below)} changed while it ran")
        harvester = Harvester(self._overlay, self._keeper, self._scratch.upper, self._laid)
        harvest = harvester.take(changes, origin, began_s)
        harvest.below = below
        for path in harvest.stale:  # the next command is to see what the overlay has
            self._laid.pop(path, None)
            take_away(self._scratch.upper if self._mounted else self._scratch.copy, path)
            self._copy.sources.pop(path, None)
        return harvest

    def _changes(self) -> list[Wrote]:
        skip = self._overlay.ignores_folder
        if self._mounted:
            upper = self._scratch.upper
            gone = [path for path, data in self._laid.items() if data is not None and not os.path.lexists(upper / path)]
            return [*changes_in_upper(upper, skip, self._known), *(Wrote(path, "deleted") for path in gone)]
        return list(self._copy.changes(skip))

    async def close(self) -> None:
        """Remove everything that commands left behind."""
        for process, supervised in self._processes:
            await reaped(process, gently=supervised)
        for opened in self._serving:
            opened.close()
        if self._made:
            self._made = False
            await self._remove()
            self._group.remove()

    async def _remove(self) -> None:
        """Remove the scratch folder. The system's own tools manage a tree of any depth; Python's do not."""
        if shutil.which("rm") and shutil.which("chmod"):
            tidy = 'chmod -R u+rwx -- "$1" 2>/dev/null; rm -rf -- "$1"'
            with suppress(RedlineError):
                argv = ["/bin/sh", "-c", tidy, "sh", str(self._scratch.root)]
                await run_helper(argv, cwd=self._scratch.root.parent, timeout_s=60)
        if self._scratch.root.exists():
            with suppress(RecursionError):
                await asyncio.to_thread(self._scratch.remove)


@dataclass(slots=True)
class _Size:
    """Watches how much a command writes: the scratch folder is on the user's disk."""

    root: Path
    looked_s: float = field(default_factory=time.monotonic)

    def over(self) -> str:
        if time.monotonic() - self.looked_s < _SIZE_EVERY_S:
            return ""
        self.looked_s = time.monotonic()
        size = 0
        depth = len(self.root.parts) + DEPTH_MAX
        for here, folders, files in os.walk(self.root):
            if here.count("/") > depth:
                folders.clear()
            for name in files:
                try:
                    size += os.lstat(f"{here}/{name}").st_blocks * 512
                except OSError:
                    continue
            if size > SCRATCH_BYTES_MAX:
                return f"it wrote more than {SCRATCH_BYTES_MAX:,} bytes"
        return ""


def _shared_git(root: Path) -> Path | None:
    """The repository that a worktree belongs to, when it says so itself; a `.git` file alone could name anything."""
    try:
        words = (root / ".git").read_text("utf-8") if (root / ".git").is_file() else ""
        own = Path(os.path.realpath(root / words.partition("gitdir:")[2].strip())) if words else None
        if own is None or own.parent.name != "worktrees":
            return None
        back = Path((own / "gitdir").read_text("utf-8").strip())
        return own.parent.parent if Path(os.path.realpath(back)) == root / ".git" else None
    except (OSError, ValueError):
        return None
