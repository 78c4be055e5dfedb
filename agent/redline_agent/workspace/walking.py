"""Which files of a folder a run sees: all but ignored ones."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from itertools import islice

from pathspec import GitIgnoreSpec

from redline_agent.errors import RedlineError
from redline_agent.limits import NEVER_WALKED, WALK_FILES_MAX
from redline_agent.safety.paths import Resolver

Spec = tuple[str, GitIgnoreSpec]


def walk_disk(resolver: Resolver, folder: str) -> Iterator[str]:
    """Yield the files beneath a folder (a file itself), ignored ones left out; at most WALK_FILES_MAX."""
    if (resolver.root / folder).is_file():
        yield folder
        return
    count = 0
    queue: list[tuple[str, list[Spec]]] = [("" if folder == "." else folder, ignore_files_above(resolver, folder))]
    while queue:
        here, specs = queue.pop()
        specs = [*specs, *_ignore_file(resolver, here)]
        try:
            entries = sorted(os.scandir(resolver.root / here), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            path = f"{here}/{entry.name}" if here else entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in NEVER_WALKED and not is_ignored(path + "/", specs):
                    queue.append((path, specs))
            elif entry.is_file(follow_symlinks=False) and not is_ignored(path, specs):
                count += 1
                if count > WALK_FILES_MAX:
                    return
                yield path


def ignore_files_above(resolver: Resolver, folder: str) -> list[Spec]:
    """Return what the .gitignore files above a place say, each with its folder."""
    parts = [] if folder == "." else folder.split("/")
    return [spec for i in range(len(parts)) for spec in _ignore_file(resolver, "/".join(parts[:i]))]


def _ignore_file(resolver: Resolver, folder: str) -> list[Spec]:
    path = f"{folder}/.gitignore" if folder else ".gitignore"
    try:
        data = resolver.read_bytes(path) or b""
        lines = data.decode("utf-8", "replace").splitlines()
        return [(folder + "/" if folder else "", GitIgnoreSpec.from_lines(lines))]
    except (RedlineError, ValueError):
        return []


def is_ignored(path: str, specs: list[Spec]) -> bool:
    """Whether a path is left out; a folder ends in "/"."""
    for prefix, spec in reversed(specs):
        result = spec.check_file(path[len(prefix) :])
        if result.include is not None:
            return result.include
    return False


def others(resolver: Resolver, folder: str, but: Collection[str]) -> int:
    """How many files of a folder on the disk, of any kind, are not among some."""
    known, prefix = set(but), len(str(resolver.root)) + 1
    names = (f"{here}/{name}" for here, _, files in os.walk(resolver.root / folder) for name in files)
    return sum(name[prefix:].replace(os.sep, "/") not in known for name in islice(names, WALK_FILES_MAX))
