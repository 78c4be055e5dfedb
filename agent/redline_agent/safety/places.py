"""Which places of this machine are secrets, libraries or toolchains: `places.toml`, brought to real paths.

Reads the file system's shape (which of them exist, what they really are), never a file's content.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from redline_agent.config import config_path, state_dir

_IDENTITIES_MAX = 2_000

Kind = Literal["library", "outside", "protected"]


@dataclass(frozen=True, slots=True)
class Places:
    """Real paths, each folder standing for everything beneath it; `identities` are (device, inode) of
    protected files, `linked` those of them that have another name somewhere.
    """

    home: Path
    protected: tuple[Path, ...]
    libraries: tuple[Path, ...]
    system: tuple[Path, ...]
    etc: tuple[Path, ...]
    identities: frozenset[tuple[int, int]]
    linked: frozenset[tuple[int, int]]

    def beneath(self, root: Path) -> tuple[str, ...]:
        """Return the protected places that lie inside a folder, as relative paths."""
        return tuple(sorted({each.relative_to(root).as_posix() for each in self.protected if root in each.parents}))

    def kind(self, real: str) -> Kind:
        """Return what a real absolute path outside the workspace is."""
        path = Path(real)
        if any(path == each or each in path.parents for each in self.protected):
            return "protected"
        if any(path == each or each in path.parents for each in self.libraries):
            return "library"
        return "outside"


def places() -> Places:
    """Return the places of this machine for this environment."""
    return _places(os.path.expanduser("~"), str(state_dir()), str(config_path()), os.environ.get("VIRTUAL_ENV", ""))  # noqa: PTH111


@cache
def _places(home: str, state: str, config: str, venv: str) -> Places:
    data = tomllib.loads(files("redline_agent.safety").joinpath("places.toml").read_text("utf-8"))
    protected = _real(data["protected"], home) + _real([state, config], home)
    libraries = _real([*data["libraries"], sys.prefix, sys.base_prefix, *([venv] if venv else [])], home)
    known = dict(_identities(protected))
    return Places(
        home=Path(os.path.realpath(home)),
        protected=tuple(protected),
        libraries=tuple(path for path in libraries if not _too_wide(path, home)),
        system=tuple(Path(each) for each in data["system"] if os.path.lexists(each)),
        etc=tuple(found for each in data["etc"] for found in _glob(f"/etc/{each}")),
        identities=frozenset(known),
        linked=frozenset(each for each, links in known.items() if links > 1),
    )


def _real(patterns: Iterable[str], home: str) -> list[Path]:
    """Return each pattern's place as it is named and as it really is."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        full = home + pattern[1:] if pattern.startswith("~") else pattern
        for path in _glob(full):
            found[path] = None
            found[Path(os.path.realpath(path))] = None
    return list(found)


def _glob(pattern: str) -> list[Path]:
    if "*" not in pattern:
        return [Path(pattern)] if os.path.lexists(pattern) else []
    parent, _, name = pattern.rpartition("/")
    return sorted(Path(parent).glob(name)) if Path(parent).is_dir() else []


def _too_wide(path: Path, home: str) -> bool:
    """A "library" that holds the home folder, or the whole system, opens too much."""
    return path in Path(os.path.realpath(home)).parents or str(path) in ("/", "/usr", os.path.realpath(home))


def _identities(protected: list[Path]) -> Iterable[tuple[tuple[int, int], int]]:
    """Device and inode of protected files and how many names each has, so that another name of one is known by what
    it is.
    """
    count = 0
    for place in protected:
        if str(place).startswith(("/proc", "/sys", "/dev", "/run", "/var/run")):
            continue
        with suppress(OSError):
            candidates = [place] if place.is_file() else list(_some_files(place))
            for path in candidates:
                status = path.stat()
                yield (status.st_dev, status.st_ino), status.st_nlink
                count += 1
                if count >= _IDENTITIES_MAX:
                    return


def _some_files(folder: Path) -> Iterable[Path]:
    for here, folders, names in os.walk(folder):
        depth = len(Path(here).relative_to(folder).parts)
        if depth >= 2:
            folders.clear()
        yield from (Path(here) / name for name in names[:200])
