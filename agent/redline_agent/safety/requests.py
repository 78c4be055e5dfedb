"""The side effects that a call may ask for, each a plain value with a digest of everything that matters about it.

The gate decides on them, approvals show them, permits are bound to them, executors are given them again. Pure.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

FileEffect = Literal["read", "write", "delete", "move"]


@dataclass(frozen=True, slots=True)
class Access:
    """One effect on one file. `path` is relative to the workspace folder, or absolute for a file outside it.

    `content` is the digest of the text to be written; `links` is how many names the file has on the disk; `place` says
    of a file outside, or with other names, whether those are a dependency's ("library") or of the user's own secrets.
    """

    effect: FileEffect
    path: str
    content: str = ""
    links: int = 1
    place: Literal["workspace", "library", "outside", "protected"] = "workspace"

    def shown(self) -> str:
        """Return the one line that a person is asked about."""
        links = f" (the file has {self.links} names on the disk)" if self.links > 1 else ""
        return f"{self.effect} {self.path}{links}"

    def grant_key(self) -> str:
        """Return what an approval for longer covers: this effect on this path."""
        return _hash(["file", self.effect, self.path])


@dataclass(frozen=True, slots=True)
class Command:
    """One command: the exact argument list, working directory (relative), environment and overlay that it runs with.

    `text` is what the model wrote; `sandbox` names the layer that holds it, "" for none.
    """

    text: str
    argv: tuple[str, ...]
    cwd: str = "."
    env: tuple[tuple[str, str], ...] = ()
    files: str = ""
    sandbox: str = ""

    def shown(self) -> str:
        """Return the one line that a person is asked about."""
        where = "" if self.cwd == "." else f" in {self.cwd}"
        how = "" if self.sandbox else ", UNSANDBOXED: it can read and change what you can"
        return f"run `{self.text}`{where}{how}"

    def grant_key(self) -> str:
        """Return what an approval for longer covers: these words in this folder, whatever the files are by then."""
        return _hash(["run", list(self.argv), self.cwd, [list(pair) for pair in self.env], self.sandbox])


@dataclass(frozen=True, slots=True)
class Connect:
    """A connection from a sandboxed command through the proxy."""

    host: str
    port: int

    def shown(self) -> str:
        """Return the one line that a person is asked about."""
        return f"connect to {self.host}:{self.port}"

    def grant_key(self) -> str:
        """Return what an approval for longer covers: this host and port."""
        return _hash(["net", self.host, self.port])


@dataclass(frozen=True, slots=True)
class Server:
    """A tool server of the user's: started (`tool` is "") or called. `digest` is of its command, or of its tools.

    `arguments` are a call's, as JSON: an approval is for those; one for longer is for the tool as it is. `remote` is
    one that is reached by HTTP.
    """

    name: str
    digest: str
    tool: str = ""
    arguments: str = ""
    remote: bool = False

    def shown(self) -> str:
        """Return the one line that a person is asked about."""
        what = f"call {self.tool} of" if self.tool else "start"
        told = f" with {self.arguments}" if self.arguments else ""
        return f"{what} the MCP server {self.name} (digest {self.digest[:12]}){told}"

    def grant_key(self) -> str:
        """Return what an approval for longer covers: the server or tool as it is now, not as it may become."""
        return _hash(["mcp", self.name, self.tool, self.digest])


@dataclass(frozen=True, slots=True)
class Apply:
    """What the user accepted, about to be written to the disk: each path with the digests of the bytes before and
    after.

    "" stands for no file.
    """

    files: tuple[tuple[str, str, str], ...]

    def shown(self) -> str:
        """Return the one line that names the files."""
        return f"write {', '.join(path for path, _, _ in self.files)}"

    def grant_key(self) -> str:
        """Return a key that nothing is ever approved by: each accept is a decision of its own."""
        return _hash(["apply", [list(each) for each in self.files]])


Request = Access | Command | Connect | Server | Apply


def digest(request: Request) -> str:
    """Return the SHA-256 of everything in the request: what a permit is bound to."""
    return _hash([type(request).__name__, asdict(request)])


def text_digest(text: str) -> str:
    """Return the digest of a text to be written."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def bytes_digest(data: bytes | None) -> str:
    """Return the digest of a file's bytes, "" for no file."""
    return "" if data is None else hashlib.sha256(data).hexdigest()


def _hash(value: object) -> str:
    packed = json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(packed.encode()).hexdigest()
