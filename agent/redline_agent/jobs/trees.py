"""Git without git: what a campaign reads of repositories and writes to them, by dulwich. Nothing is executed, so no
hook, filter, signing program or setting of a repository can be; a working tree is never touched.
"""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
import shutil
import stat
import tarfile
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from redline_agent.errors import RedlineError, UsageError, WorkspaceError

TREE_BYTES_MAX = 1 << 30
"""Files of one commit that a worker is given, before they are compressed."""
FILES_MAX = 200_000
DEPTH_MAX = 200
WHO = b"Redline <redline@localhost>"


class Tree:
    """One commit of a repository: the one that is checked out, unless another is named."""

    def __init__(self, folder: Path, commit: str = "") -> None:
        try:
            from dulwich.repo import Repo
        except ImportError as error:
            raise needs_scale() from error

        self.folder = folder
        self.unnamed = 0
        """How many files have names that are no text: they are no targets."""
        try:
            self._repo: Any = Repo(str(folder))
            self.commit = commit or self._repo.head().decode()
            self._root = self._object(self.commit.encode()).tree
            _check_format(self._repo, folder)
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(
                f"{folder} has no commit that can be read ({type(error).__name__}: {error}).",
                hint="A campaign works on what is committed: git init, git add, git commit.",
            ) from error
        self.ident = str(self._root.decode())

    def _object(self, ident: bytes) -> Any:
        return self._repo.object_store[ident]

    def _read(self, ident: bytes) -> Any:
        try:
            return self._object(ident)
        except Exception as error:  # dulwich raises what it meets
            raise WorkspaceError(
                f"{self.folder} lacks an object that its commit names ({type(error).__name__}: {error}).",
                hint="A clone that is partial or damaged cannot be worked on: see git fsck.",
            ) from error

    def close(self) -> None:
        """Close the repository's files."""
        self._repo.close()

    def entries(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield the path, mode and id of every file and link; submodules are left out.

        Raises WorkspaceError for a tree that no git would check out: it may be meant to lead out of its folder.
        """
        waiting: list[tuple[bytes, bytes, int]] = [(b"", self._root, 0)]
        count = 0
        while waiting:
            above, ident, depth = waiting.pop()
            seen: set[bytes] = set()
            for name, mode, sha in self._read(ident).iteritems(name_order=True):
                odd = b"/" in name or name in (b"", b".", b"..") or name.lower() == b".git" or name in seen
                if odd or depth > DEPTH_MAX:
                    raise WorkspaceError(f"{self.folder} has a file with a name that cannot be: {above + name!r}.")
                seen.add(name)
                count += 1
                if count > FILES_MAX:
                    raise WorkspaceError(f"{self.folder} has more than {FILES_MAX:,} files.")
                if stat.S_ISDIR(mode):
                    waiting.append((above + name + b"/", sha, depth + 1))
                elif stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                    yield (above + name).decode("utf-8", "surrogateescape"), mode, sha

    def files(self) -> list[str]:
        """Return the paths of regular files whose names are text."""
        every = [path for path, mode, _ in self.entries() if stat.S_ISREG(mode)]
        named = [path for path in every if path.isprintable()]
        self.unnamed = len(every) - len(named)
        return named

    def sizes(self, paths: set[str]) -> dict[str, int]:
        """Return the sizes in bytes of some files."""
        return {path: len(self._read(sha).data) for path, _, sha in self.entries() if path in paths}

    def pack(self, into: Path) -> None:
        """Write the commit's files as a compressed archive, whole or not at all."""
        size = 0
        beside = into.with_suffix(f".{os.getpid()}")
        with tarfile.open(beside, "w:gz", compresslevel=3) as archive:
            for path, mode, sha in self.entries():
                data = self._read(sha).data
                size += len(data)
                if size > TREE_BYTES_MAX:
                    beside.unlink()
                    raise WorkspaceError(f"The files of {self.folder} have more than {TREE_BYTES_MAX:,} bytes.")
                info = tarfile.TarInfo(path)
                if stat.S_ISLNK(mode):
                    info.type, info.linkname = tarfile.SYMTYPE, data.decode("utf-8", "surrogateescape")
                    archive.addfile(info)
                    continue
                info.size, info.mode = len(data), 0o755 if mode & 0o100 else 0o644
                archive.addfile(info, io.BytesIO(data))
        beside.replace(into)

    def write_branch(
        self,
        branch: str,
        changes: Mapping[str, tuple[bytes, int] | None],
        message: str,
        ours: str = "",
        noted: Callable[[str], None] = lambda _commit: None,
    ) -> str:
        """Commit changed files (None: deleted) on this commit, as a branch; returns the new commit.

        A branch of that name is replaced only when it still is a commit that was written before (one of `ours`). The
        new one is `noted` before the branch has it. Raises UsageError.
        """
        try:
            return self._write_branch(branch, changes, message, ours, noted)
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(f"The branch {branch} of {self.folder} cannot be written: {error}.") from error

    def _write_branch(
        self,
        branch: str,
        changes: Mapping[str, tuple[bytes, int] | None],
        message: str,
        ours: str,
        noted: Callable[[str], None],
    ) -> str:
        from dulwich.objects import Blob, Commit

        name = b"refs/heads/" + branch.encode()
        for path in changes:
            _check_parts(self.folder, path.encode("utf-8", "surrogateescape").split(b"/"))
        mine = ours.encode().split()
        commit: Any = Commit()
        blobs = {
            path.encode("utf-8", "surrogateescape"): change and (Blob.from_string(change[0]), change[1])
            for path, change in changes.items()
        }
        for made in blobs.values():
            if made is not None:
                self._repo.object_store.add_object(made[0])
        commit.tree = self._with(self._root, [(path.split(b"/"), made) for path, made in blobs.items()])
        commit.parents = [self.commit.encode()]
        commit.message = message.encode()
        refs = self._repo.refs
        there = refs[name] if name in refs else None  # noqa: SIM401  it is no mapping of the usual kind
        if there in mine and self._same(there, commit):
            return there.decode()  # nothing is new
        before = self._free(name, mine)
        commit.author = commit.committer = WHO
        commit.author_time = commit.commit_time = int(time.time())
        commit.author_timezone = commit.commit_timezone = 0
        commit.encoding = b"UTF-8"
        self._repo.object_store.add_object(commit)
        noted(commit.id.decode())
        done = refs.add_if_new(name, commit.id) if before is None else refs.set_if_equals(name, before, commit.id)
        if not done:
            raise UsageError(f"The branch {branch} of {self.folder} was changed meanwhile.", hint="Start again.")
        return commit.id.decode()

    def _same(self, ident: bytes, commit: Any) -> bool:
        try:
            known = self._object(ident)
        except KeyError:
            return False
        return (known.tree, known.parents, known.message) == (commit.tree, commit.parents, commit.message)

    def _free(self, name: bytes, ours: list[bytes]) -> bytes | None:
        """The commit that a branch has, None when there is none; raises UsageError for one that is not Redline's."""
        if name not in self._repo.refs:
            return None
        ident: bytes = self._repo.refs[name]
        heads = [self._repo.refs.get_symrefs().get(b"HEAD", b"")]
        others = Path(os.fsdecode(self._repo.commondir())).glob("worktrees/*/HEAD")
        heads += (head.read_bytes().removeprefix(b"ref: ").strip() for head in others)
        if ident not in ours or name in heads:
            raise UsageError(
                f"{self.folder} has a branch {name.decode().removeprefix('refs/heads/')} already.",
                hint="Name another one with `branch`, or delete it.",
            )
        return ident

    def _with(self, tree_id: bytes | None, changes: list[tuple[list[bytes], Any]]) -> bytes:
        """Return the id of a tree with changed entries; what is left empty goes."""
        from dulwich.objects import Tree as GitTree

        tree: Any = self._read(tree_id).copy() if tree_id else GitTree()
        below: dict[bytes, list[tuple[list[bytes], Any]]] = {}
        for parts, made in changes:
            if len(parts) > 1:
                below.setdefault(parts[0], []).append((parts[1:], made))
            elif made is None:
                if parts[0] in tree:
                    del tree[parts[0]]
            else:
                tree[parts[0]] = (made[1], made[0].id)
        for name, inside in below.items():
            here = tree[name][1] if name in tree and stat.S_ISDIR(tree[name][0]) else None
            made_tree = self._with(here, inside)
            if len(self._read(made_tree)):
                tree[name] = (0o040000, made_tree)
            elif name in tree:
                del tree[name]
        self._repo.object_store.add_object(tree)
        return bytes(tree.id)

    def blob(self, path: str) -> tuple[bytes, int] | None:
        """Return a file's bytes and mode, None when there is none."""
        parts = path.encode("utf-8", "surrogateescape").split(b"/")
        here, mode = self._root, 0o040000
        for part in parts:
            tree = self._read(here)
            if not stat.S_ISDIR(mode) or part not in tree:
                return None
            mode, here = tree[part]
        return (self._read(here).data, mode) if stat.S_ISREG(mode) else None


@contextmanager
def opened(folder: Path, commit: str = "") -> Generator[Tree]:
    """A repository's commit, closed afterwards."""
    tree = Tree(folder, commit)
    try:
        yield tree
    finally:
        tree.close()


def unpack(archive: Path, into: Path) -> None:
    """Lay an archive's files out as a folder, whole or not at all.

    Files come first and links last, so that nothing is ever written through a link; a link that leads out is left out.
    """
    into.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = Path(tempfile.mkdtemp(prefix="laying-", dir=into.parent))
    try:
        with tarfile.open(archive) as files:
            _lay_out(files, made)
        try:
            made.rename(into)
        except OSError:
            if not into.is_dir():
                raise
    except (OSError, tarfile.TarError, UnicodeError) as error:
        raise RedlineError(f"The files of a target cannot be laid out: {error}.") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _lay_out(files: tarfile.TarFile, made: Path) -> None:
    size = 0
    links: list[tuple[Path, str]] = []
    for member in files:
        parts = member.name.split("/")
        if any(part in ("", ".", "..") or part.lower() == ".git" for part in parts):
            raise WorkspaceError(f"The archive has a file with a name that cannot be: {member.name!r}.")
        place = made.joinpath(*parts)
        if member.issym():
            leads = posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))
            if not member.linkname.startswith("/") and leads.split("/")[0] != "..":
                links.append((place, member.linkname))
            continue
        data = files.extractfile(member)
        if data is None:
            continue
        size += member.size
        if size > TREE_BYTES_MAX:
            raise WorkspaceError(f"The archive has more than {TREE_BYTES_MAX:,} bytes.")
        place.parent.mkdir(parents=True, exist_ok=True)
        mode = 0o755 if member.mode & 0o100 else 0o644
        with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            shutil.copyfileobj(data, file)
    for place, to in links:
        place.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            place.symlink_to(to)


def _check_parts(folder: Path, parts: list[bytes]) -> None:
    """Raise WorkspaceError for a path that no tree may have."""
    if any(part in (b"", b".", b"..") or part.lower() == b".git" for part in parts):
        raise WorkspaceError(f"{folder}: a result has a name that cannot be: {b'/'.join(parts)!r}.")


def _check_format(repo: Any, folder: Path) -> None:
    """Raise UsageError for a repository of a kind that would be read or written wrongly."""
    config = repo.get_config()
    for name, value in config.items((b"extensions",)) if (b"extensions",) in config.sections() else ():
        fine = {b"objectformat": b"sha1", b"refstorage": b"files"}
        if name.lower() in fine and value.lower() != fine[name.lower()]:
            raise UsageError(
                f"{folder} is a repository with {name.decode()} = {value.decode()}, which campaigns do not know.",
                hint="They know sha1 and files.",
            )


def needs_scale() -> UsageError:
    """Return what is said where the extra is missing."""
    return UsageError("Campaigns need an extra.", hint='Install it with: pip install "redline-ls[scale]"')


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
