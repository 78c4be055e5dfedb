"""What a tool is: a name, a validated input, the effects that it needs leave for, and the work itself.

A tool touches files through its context alone, which gets a permit for each effect. Its description for the model is
the `.md` file beside its module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from redline_agent.errors import PathRefused, PermitRefused, ToolError
from redline_agent.events import Durable
from redline_agent.messages import Label
from redline_agent.proof.language import Language
from redline_agent.safety.keeper import Keeper
from redline_agent.safety.permits import Permit
from redline_agent.safety.requests import Access, FileEffect, Request, digest, text_digest
from redline_agent.safety.secrets import Masks
from redline_agent.text import escape_hidden, plain_line_ends, unescape_hidden
from redline_agent.workspace.hunks import Origin
from redline_agent.workspace.overlay import Overlay, Seen
from redline_agent.workspace.workbench import Workbench

_LABEL_PATHS_MAX = 3
_VERSIONS_SHOWN_MAX = 6
FOLDER_FILES_MAX = 1_000


class Input(BaseModel):
    """Base of tool inputs: unknown arguments are refused."""

    model_config = ConfigDict(extra="forbid")


In = TypeVar("In", bound=Input)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A tool's result: the text for the model, one line for a person; `finished` ends the run.

    `label` is where it came from when that is not the workspace's files, `chars_max` how much of it is shown, `failed`
    an error of the tool's own.
    """

    text: str
    summary: str
    finished: bool = False
    label: Label | None = None
    chars_max: int = 0
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Footprint:
    """Which files and folders a call reads and writes, as resolved paths; "." is all of them."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()

    def conflicts(self, other: Footprint) -> bool:
        """Whether the two calls may not run side by side."""
        return _meet(self.writes, other.writes) or _meet(self.writes, other.reads) or _meet(self.reads, other.writes)


def _meet(these: Sequence[str], those: Sequence[str]) -> bool:
    return any(
        "." in (one, two) or one == two or one.startswith(two + "/") or two.startswith(one + "/")
        for one in these
        for two in those
    )


NOTHING, EVERYTHING = Footprint(), Footprint(writes=(".",))


class Symbols(Protocol):
    """What the index answers (context/index.py): where names are defined."""

    async def definitions(self, name: str, path: str = "") -> Sequence[dict[str, Any]]:
        """Return places {path, line, end, kind, name, text} that define a name."""
        ...


async def _no_answer(_question: str) -> str | None:
    return None


@dataclass(slots=True)
class Services:
    """What calls need beside files; the session gives it."""

    output: Callable[[str], str | None] = field(default=lambda _call: None)
    keep_output: Callable[[str, str], None] = field(default=lambda _call, _text: None)
    plan: Callable[[], Any] = field(default=lambda: None)
    ask_user: Callable[[str], Awaitable[str | None]] = field(default=_no_answer)
    delegate: Callable[[str, str, Callable[[str], None]], Awaitable[Outcome]] | None = None
    symbols: Symbols | None = None
    language: Language | None = None


@dataclass(slots=True)
class ToolContext:
    """What a tool works with, for one call. `permits` were obtained for what `requests` named, before `run`."""

    overlay: Overlay
    keeper: Keeper
    turn: int
    call_id: str
    tool: str
    masks: Masks = field(default_factory=Masks)
    workbench: Workbench | None = None
    services: Services = field(default_factory=Services)
    events: list[Durable] = field(default_factory=list[Durable])
    permits: dict[str, Permit] = field(default_factory=dict[str, Permit])
    seen: dict[str, bool] = field(default_factory=dict[str, bool])
    named: dict[str, None] = field(default_factory=dict[str, None])
    report: Callable[[str], None] = field(default=lambda _text: None)

    def origin(self, reason: str) -> Origin:
        """Return the origin of an edit that this call makes, with its reason."""
        return Origin(self.turn, self.call_id, self.tool, reason)

    def resolve(self, name: str) -> str:
        """Return the canonical path of a name; raises PathRefused."""
        return self.overlay.resolver.resolve(name)

    def place(self, name: str) -> str:
        """Return the canonical path of a name, the name itself for what is outside: what a footprint is made of."""
        try:
            return self.resolve(name)
        except PathRefused:
            return name

    def access(self, effect: FileEffect, name: str) -> Access:
        """Return the request for an effect on a named file, wherever it is."""
        return self.overlay.resolver.access(effect, name)

    def permitted(self, request: Request) -> Permit:
        """Return the permit that was obtained for a request before the call; raises PermitRefused when none was."""
        permit = self.permits.pop(digest(request), None)
        if permit is None:
            raise PermitRefused(f"Nothing allows this any more: {request.shown()}.", hint="Call the tool again.")
        return permit

    def allowed(self, effect: FileEffect, path: str) -> bool:
        """Whether the gate lets this call do that on a resolved path without a question."""
        return self.keeper.allowed(Access(effect, path))

    def readable(self, folder: str) -> list[str]:
        """Files beneath a folder that may be read."""
        return [
            path
            for path in self.overlay.walk(folder)
            if self.allowed("read", path)
            and (self.overlay.resolver.names(path) < 2 or self.keeper.allowed(self.access("read", path)))
        ]

    def beneath(self, path: str) -> list[str]:
        """Files beneath a folder, [] for what is none; raises ToolError when there are too many to change at once."""
        if path == "." or not (self.overlay.resolver.is_dir(path) or self.overlay.holds_folder(path)):
            return []
        found = [each for each in self.readable(path) if each.startswith(path + "/")]
        if len(found) > FOLDER_FILES_MAX:
            raise ToolError(f"{path} has {len(found)} files, more than {FOLDER_FILES_MAX}.", hint="Take it in parts.")
        return found

    def see(self, path: str) -> Seen:
        """Return a file's text and remember that it was read; raises PathRefused, FileRefused."""
        request = self.access("read", path)
        decision = self.keeper.decide(request)
        if decision.verdict != "allow" and digest(request) not in self.permits:
            self.keeper.permit(request)
        self.note(path, secret=decision.secret)
        return self.overlay.read(path)

    def note(self, path: str, *, secret: bool | None = None) -> None:
        """Remember that a file was read; whether it is of secrets is the gate's word."""
        if secret is None:
            secret = self.keeper.decide(self.access("read", path)).secret
        self.seen[path] = self.seen.get(path, False) or secret

    def shown(self, text: str) -> str:
        """Return the text as a model may see it: secrets by their names, what cannot be seen escaped."""
        return escape_hidden(self.masks.masked(plain_line_ends(text)))

    def meant(self, text: str, whole: str) -> str:
        """Return what a model wrote, with the names and escapes that `shown` gave it put back, as far as `whole` has
        them.
        """
        return unescape_hidden(self.masks.restored(text, whole), whole)

    def versions(self, text: str) -> str:
        """Return a line with the versions of the files that the call wrote or quoted, but for those in its own text."""
        found: list[str] = []
        for path in self.named:
            seen = self.overlay.find(path)
            if seen is not None and seen.version not in text:
                found.append(f"{path} {seen.version}")
        more = f", and {len(found) - _VERSIONS_SHOWN_MAX} more" if len(found) > _VERSIONS_SHOWN_MAX else ""
        return f"\n[versions: {', '.join(found[:_VERSIONS_SHOWN_MAX])}{more}]" if found else ""

    def check_write(self, path: str) -> None:
        """Raise Blocked when the file may not be written."""
        self._permit(Access("write", path))

    def write(self, path: str, text: str, reason: str, *, region: bool = False) -> Seen:
        """Write a text in the overlay; names of secrets stand for the secrets that the file has now.

        `region`: only lines that were quoted are changed, so the rest of the file may have moved on since it was read.
        """
        before = self.overlay.find(path)
        text = self.meant(text, before.file.text) if before else text
        request = Access("write", path, content=text_digest(text))
        self.named[path] = None
        return self.overlay.write(path, text, self.origin(reason), self._permit(request), region=region)

    def _permit(self, request: Access) -> Permit:
        """What the person said yes to is this file; what is written there is known only now."""
        return self.keeper.permit(request, self.permits.get(digest(replace(request, content=""))))

    def delete(self, path: str, reason: str) -> None:
        """Delete a file in the overlay."""
        self.overlay.delete(path, self.origin(reason), self._permit(Access("delete", path)))

    def move(self, path: str, to: str, reason: str) -> None:
        """Move a file in the overlay."""
        permits = (self._permit(Access("move", path)), self._permit(Access("move", to)))
        self.overlay.move(path, to, self.origin(reason), *permits)
        self.named[to] = None

    def labels(self, name: str) -> Label:
        """Return the label of what this call read: which files, or the tool where it names none."""
        shown = list(self.seen)[:_LABEL_PATHS_MAX]
        more = f" and {len(self.seen) - len(shown)} more" if len(self.seen) > len(shown) else ""
        return Label(source="workspace", detail=", ".join(shown) + more or name, secret=any(self.seen.values()))


class Tool(ABC, Generic[In]):
    """Base of tools. Subclasses set `name`, `input` and an `example` of it (and `streams` where `report` is used), and
    write `requests`, `title` and `run`.
    """

    name: ClassVar[str]
    input: type[In]
    example: ClassVar[Mapping[str, Any]]
    streams: ClassVar[bool] = False
    once: ClassVar[bool] = False
    """Whether it reaches beyond the overlay: a call that was cut off is not made again by itself."""
    vendor: ClassVar[Mapping[str, Any]] = {}
    """The vendor's own type, where it is one: what such a model is told instead of description and schema."""

    def footprint(self, arguments: In, context: ToolContext) -> Footprint:  # noqa: ARG002
        """Return what the call reads and writes; unless a tool knows better it runs alone."""
        return EVERYTHING

    async def prepare(self, context: ToolContext) -> None:
        """Get ready what `requests` needs to know; most need nothing."""

    @abstractmethod
    def requests(self, arguments: In, context: ToolContext) -> Sequence[Request]:
        """Return the side effects that the call is for; the gate, and where it says so the person, decides on them
        first.
        """

    @abstractmethod
    def title(self, arguments: In) -> str:
        """Return one line for the progress display."""

    @abstractmethod
    async def run(self, arguments: In, context: ToolContext) -> Outcome:
        """Do the work; raises RedlineError for what the model should be told."""

    def description(self) -> str:
        """Return the text of the `.md` beside the module."""
        return files("redline_agent.tools").joinpath(f"{self.name}.md").read_text("utf-8").strip()

    def schema(self) -> dict[str, Any]:
        """Return the input's JSON Schema, without what only costs tokens, and whole: no reference to elsewhere."""
        schema = self.input.model_json_schema()
        return _slim(schema, schema.get("$defs", {}))


def _slim(node: dict[str, Any], defs: Mapping[str, Any]) -> dict[str, Any]:
    """The same schema without titles, defaults, optional nulls and references; objects are closed."""
    if "$ref" in node:
        node = {**defs[node["$ref"].rsplit("/", 1)[-1]], **{k: v for k, v in node.items() if k != "$ref"}}
    kept = {key: value for key, value in node.items() if key in _KEPT}
    options = node.get("anyOf")
    if options:
        kept |= _slim(next(option for option in options if option.get("type") != "null"), defs)
    if "items" in node:
        kept["items"] = _slim(node["items"], defs)
    if node.get("type") == "object":
        kept |= {
            "properties": {name: _slim(prop, defs) for name, prop in node.get("properties", {}).items()},
            "required": node.get("required", []),
            "additionalProperties": False,
        }
    return kept


_KEPT = frozenset({
    "type", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems",
    "maxItems", "pattern", "const",
})  # fmt: skip
