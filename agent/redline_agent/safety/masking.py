"""Which files of a folder are secrets by their names, ignored ones too, kept up to date cheaply.

A folder is listed again only when its own modification time has changed, which it does whenever a name in it comes or
goes.
"""

from __future__ import annotations

import fnmatch
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from redline_agent.errors import ToolError
from redline_agent.safety.places import places
from redline_agent.safety.rules import secret_files

FOLDERS_MAX = 100_000
_SKIPPED = frozenset({".git", ".hg", ".svn", ".jj"})
"""Version control's own store: its files have no such names, and it is large."""


@dataclass(frozen=True, slots=True)
class _Folder:
    changed_ns: int
    files: tuple[str, ...]
    hidden: tuple[str, ...]
    folders: tuple[str, ...]


@dataclass(slots=True)
class SecretIndex:
    """The secret files and folders beneath one root, as relative paths."""

    root: Path
    _known: dict[str, _Folder] = field(default_factory=dict[str, _Folder])

    def now(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return files and folders that are secret by name; raises ToolError when there is too much to look through."""
        files: list[str] = []
        hidden: list[str] = []
        queue = [""]
        seen: dict[str, _Folder] = {}
        while queue:
            here = queue.pop()
            folder = self._folder(here)
            if folder is None:
                continue
            seen[here] = folder
            if len(seen) > FOLDERS_MAX:
                raise ToolError(
                    f"The workspace has more than {FOLDERS_MAX:,} folders, too many to hide the secrets in.",
                    hint="Open a smaller folder.",
                )
            files += folder.files
            hidden += folder.hidden
            queue += folder.folders
        self._known = seen
        return tuple(sorted({*files, *self._other_names(files)})), tuple(sorted(hidden))

    def _target(self, name: str) -> list[str]:
        """What a secret-named link leads to, when that is a file inside."""
        real = Path(os.path.realpath(self.root / name))
        return [real.relative_to(self.root).as_posix()] if self.root in real.parents and real.is_file() else []

    def _other_names(self, files: list[str]) -> list[str]:
        """Other names in the workspace of secret files, here or at home, that have more than one: a rare, full look."""
        wanted = set(places().linked)
        for name in files:
            with suppress(OSError):
                status = os.lstat(f"{self.root}/{name}")
                if status.st_nlink > 1:
                    wanted.add((status.st_dev, status.st_ino))
        if not wanted:
            return []
        found: list[str] = []
        for here in self._known:
            with suppress(OSError):
                for entry in os.scandir(f"{self.root}/{here}"):
                    if entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        if (status.st_dev, status.st_ino) in wanted:
                            found.append(f"{here}/{entry.name}" if here else entry.name)
        return found

    def _folder(self, here: str) -> _Folder | None:
        path = f"{self.root}/{here}"
        try:
            changed_ns = os.lstat(path).st_mtime_ns
            known = self._known.get(here)
            if known is not None and known.changed_ns == changed_ns:
                return known
            entries = list(os.scandir(path))
        except OSError:
            return None
        files: list[str] = []
        hidden: list[str] = []
        folders: list[str] = []
        for entry in entries:
            name = f"{here}/{entry.name}" if here else entry.name
            if entry.is_dir(follow_symlinks=False):
                if is_secret(f"{name}/"):
                    hidden.append(name)
                elif entry.name not in _SKIPPED:
                    folders.append(name)
            elif is_secret(name):
                files += [name] if not entry.is_symlink() else self._target(name)
        return _Folder(changed_ns, tuple(files), tuple(hidden), tuple(folders))


def is_secret(path: str) -> bool:
    """Whether a relative path is of a secret file (or, ending in a slash, of a folder of them)."""
    name = path.rstrip("/").rsplit("/", 1)[-1]
    return bool(_LIKELY.match(name.casefold())) and secret_files().speaks_of(path)


def _likely() -> re.Pattern[str]:
    """One expression for the last names of all patterns: most files are told apart by it alone."""
    names = {
        each.strip("/").rsplit("/", 1)[-1].casefold() for each in secret_files().patterns if not each.startswith("!")
    }
    return re.compile("|".join(fnmatch.translate(name) for name in sorted(names)))


_LIKELY = _likely()
