"""What a sandboxed command sees of the machine, as plain values; each layer turns it into its own terms.

The folders of one run's scratch: `upper` and `work` (the overlay mount's), `copy` (where there is no such mount),
`home` and `tmp`.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from redline_agent.safety.beneath import ensure
from redline_agent.safety.places import Places

LINKED = (".venv", "venv", "node_modules")
"""Folders that a copy of the workspace links to in place of copying: large, ignored, and only read."""

COMMAND_S_MAX = 600.0
"""The longest that one command may take, whatever is asked for."""
PROCESSES_MAX = 512
FILE_SIZE_BYTES_MAX = 2 * 2**30
SCRATCH_BYTES_MAX = 4 * 2**30
MEMORY_BYTES_MAX = 8 * 2**30


@dataclass(frozen=True, slots=True)
class Scratch:
    """A run's private folder on the disk, removed with the run."""

    root: Path

    @property
    def upper(self) -> Path:
        """Where what the command writes into the workspace lands."""
        return self.root / "upper"

    @property
    def work(self) -> Path:
        """The overlay mount's own."""
        return self.root / "work"

    @property
    def copy(self) -> Path:
        """The copy of the workspace, where there is no overlay mount."""
        return self.root / "copy"

    @property
    def home(self) -> Path:
        """The home folder as commands see it, empty at first."""
        return self.root / "home"

    @property
    def tmp(self) -> Path:
        """The folder for temporary files."""
        return self.root / "tmp"

    @property
    def etc(self) -> Path:
        """A copy of what a command needs of /etc: one mount in place of forty, each of which costs 0.1 ms a command."""
        return self.root / "etc"

    @property
    def empty(self) -> Path:
        """An empty file, which stands for each that is masked."""
        return self.root / "empty"

    def make(self) -> None:
        """Create the folders, for the user alone."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (self.upper, self.work, self.home, self.tmp):
            folder.mkdir(exist_ok=True, mode=0o700)
        self.empty.touch(mode=0o400)

    def copy_etc(self, sources: tuple[Path, ...]) -> None:
        """Copy the named entries of /etc, links as links; what cannot be read is left out."""
        if self.etc.exists():
            return
        self.etc.mkdir(mode=0o700)
        for source in sources:
            target = self.etc / source.relative_to("/etc")
            with suppress(OSError, shutil.Error):
                target.parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir() and not source.is_symlink():
                    shutil.copytree(source, target, symlinks=True)
                else:
                    shutil.copy(source, target, follow_symlinks=False)

    def remove(self) -> None:
        """Remove everything, without following a link; what cannot be is left."""
        for here, folders, _ in os.walk(self.root):
            for folder in folders:
                path = os.path.join(here, folder)  # noqa: PTH118  many short joins
                with suppress(OSError):
                    if not stat.S_ISLNK(os.lstat(path).st_mode):
                        os.chmod(path, 0o700)  # noqa: PTH101  the kernel leaves a folder that nobody may enter
        shutil.rmtree(self.root, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Sight:
    """One command's view: the workspace at its real path, with the named files masked; the rest read-only or absent."""

    root: Path
    scratch: Scratch
    places: Places
    cwd: str = "."
    masked_files: tuple[str, ...] = ()
    masked_folders: tuple[str, ...] = ()
    shared_git: Path | None = None

    def libraries(self) -> tuple[Path, ...]:
        """Toolchains and libraries to bind, shortest first, without what the system folders or the workspace hold."""
        return _shown(self.places, self.root)[0]

    def hidden(self) -> tuple[Path, ...]:
        """Protected places that lie inside what is bound."""
        return _shown(self.places, self.root)[1]


def prepare_mounts(sight: Sight, *, copied: bool) -> None:
    """Make every place in the scratch folders where something will be mounted a real folder or file.

    A command may have planted links there; bwrap, which makes missing mount points itself, would follow them.
    """
    home, root = sight.places.home, sight.root
    bases = [(home, sight.scratch.home), (Path("/tmp"), sight.scratch.tmp), (Path("/var/tmp"), sight.scratch.tmp)]  # noqa: S108
    if copied:
        bases.insert(0, (root, sight.scratch.copy))
    places = [home, root, *sight.libraries(), *sight.hidden(), *([sight.shared_git] if sight.shared_git else [])]
    places += [root / name for name in LINKED if copied and is_real_folder(root / name)]
    for place in sorted(set(places), key=lambda path: len(path.parts)):
        base = next(((real, scratch) for real, scratch in bases if real in place.parents), None)
        if base is not None:
            ensure(base[1], place.relative_to(base[0]).as_posix(), folder=place.is_dir())


def is_real_folder(path: Path) -> bool:
    """Whether a path is a folder itself, not a link to one."""
    return path.is_dir() and not path.is_symlink()


_cache: dict[tuple[int, Path], tuple[tuple[Path, ...], tuple[Path, ...], Places]] = {}
"""By the identity of the `Places`, of which a process has one or two: this is asked for with every command."""


def _shown(places: Places, root: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    known = _cache.get((id(places), root))
    if known is None:
        found: list[Path] = []
        for path in sorted(set(places.libraries), key=lambda path: len(str(path))):
            if not any(each in (path, *path.parents) for each in (*places.system, root, *found)):
                found.append(path)
        bound = (*found, *places.system)
        hidden = [path for path in places.protected if any(each in path.parents for each in bound) and path.exists()]
        known = _cache[id(places), root] = (tuple(found), tuple(hidden), places)
    return known[0], known[1]


def environment(sight: Sight, env: Mapping[str, str] = os.environ, *, mounted: bool = True) -> dict[str, str]:
    """Return a fresh environment: a path of what is visible, the project's own tools first; nothing of the user's but
    that.

    `mounted`: the scratch folders stand at the real places; else the command sees them where they are.
    """
    root = sight.root
    own = [root / ".venv" / "bin", root / "venv" / "bin", root / "node_modules" / ".bin"]
    visible = (*sight.libraries(), *sight.places.system, root)
    given = [Path(each) for each in env.get("PATH", "").split(os.pathsep) if each.startswith("/")]
    path = [str(each) for each in own if each.is_dir()]
    path += [str(each) for each in given if any(base in (each, *each.parents) for base in visible)]
    path += [each for each in ("/usr/local/bin", "/usr/bin", "/bin") if each not in path]
    fresh = {
        "PATH": os.pathsep.join(dict.fromkeys(path)),
        "HOME": str(sight.places.home if mounted else sight.scratch.home),
        "TMPDIR": "/tmp" if mounted else str(sight.scratch.tmp),  # noqa: S108  the sandbox's own
        "USER": "user",
        "LOGNAME": "user",
        "SHELL": "/bin/sh",
        "TERM": "dumb",
        "PAGER": "cat",
        "GIT_PAGER": "cat",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
        "REDLINE_SANDBOX": "1",
    }
    kept = (
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "TZ",
        "JAVA_HOME",
        "GOROOT",
        "RUSTUP_HOME",
        "PYENV_ROOT",
        "PYENV_VERSION",
        "NVM_DIR",
    )
    return fresh | {name: env[name] for name in kept if env.get(name)}
