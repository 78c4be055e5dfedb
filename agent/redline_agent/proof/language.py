"""What the project's language servers know of the overlay and can do to it: references and definitions as places,
renames and fixes as texts. After trust, in the sandbox; a server's commands are never executed, and a change outside
the workspace refuses the whole.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from redline_agent.errors import RedlineError, ToolError
from redline_agent.proof.child import Child
from redline_agent.proof.servers import Known, Servers, found
from redline_agent.proof.wire import as_list, as_object
from redline_agent.safety.keeper import Keeper
from redline_agent.semantics.symbols import language_of, symbols
from redline_agent.text import split_lines
from redline_agent.workspace.overlay import Overlay

ANSWER_S_MAX = 30.0
FIXES_MAX = 40
ORGANISE = "source.organizeImports"
Asked = Literal["references", "definition"]
_ABLE: dict[Asked, str] = {"references": "referencesProvider", "definition": "definitionProvider"}


@dataclass(frozen=True, slots=True)
class Fix:
    """One code action of a server, and the texts that it makes of files, by path."""

    title: str
    server: str
    texts: dict[str, str]
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a server says that a symbol is: paths with lines (from 1), and how many are outside the workspace."""

    server: str
    lines: tuple[tuple[str, int], ...]
    outside: int = 0


@dataclass(slots=True)
class Language:
    """The servers over one run's overlay."""

    overlay: Overlay
    keeper: Keeper
    servers: Servers

    async def places(
        self, what: Asked, path: str, name: str, line: int | None, beside: Sequence[str] = ()
    ) -> Places | None:
        """Return where a symbol that stands in a file is used or defined; None when no server here can say.

        `beside` are files to show it as well: a server that was just started may not have looked at the folder yet.
        """
        if not self.keeper.standing().trusted:
            return None
        for known in self._known(path):
            async with self._over(known, path, beside) as child:
                if not child.can(_ABLE[what]):
                    continue
                params = {"textDocument": {"uri": child.uri(path)}, "position": self._at(child, path, name, line)}
                if what == "references":
                    params["context"] = {"includeDeclaration": True}
                answer = await child.request(f"textDocument/{what}", params, ANSWER_S_MAX)
                return self._found(known.name, answer)
        return None

    def _found(self, server: str, answer: Any) -> Places:
        """The places of an answer: one location, several, or links."""
        found: set[tuple[str, int]] = set()
        outside = 0
        for each in map(as_object, as_list(answer) if isinstance(answer, list) else [answer] if answer else []):
            span = as_object(each.get("range") or each.get("targetSelectionRange"))
            at = as_object(span.get("start")).get("line")
            try:
                path = self.overlay.resolver.resolve(unquote(urlsplit(str(each.get("uri") or each["targetUri"])).path))
                found.add((path, int(at or 0) + 1))
            except (RedlineError, KeyError, TypeError, ValueError):
                outside += 1
        return Places(server, tuple(sorted(found)), outside)

    def _at(self, child: Child, path: str, name: str, line: int | None) -> dict[str, int]:
        """The position of a name, as the server counts."""
        text = self._text(path)
        number, column = _place(text, path, name, line)
        return {"line": number, "character": child.units(split_lines(text)[number][:column])}

    def ends(self, path: str) -> tuple[str, ...]:
        """Return how the names of files end that the servers of a file know; () when none runs."""
        trusted = self.keeper.standing().trusted
        return tuple(dict.fromkeys(end for known in self._known(path) for end in known.ends)) if trusted else ()

    async def rename(
        self, path: str, old: str, line: int | None, new: str, beside: Sequence[str] = ()
    ) -> dict[str, str]:
        """Return the texts of all files after a rename of the symbol that a file defines or uses; raises ToolError."""
        self._text(path)
        for known in self._known(path):
            async with self._over(known, path, beside) as child:
                if not child.can("renameProvider"):
                    continue
                at = self._at(child, path, old, line)
                params = {"textDocument": {"uri": child.uri(path)}, "position": at, "newName": new}
                answer = await child.request("textDocument/rename", params, ANSWER_S_MAX)
                texts = self._applied(child, answer)
                if not texts:
                    raise ToolError(f"{known.name} finds nothing to rename.")
                return texts
        raise ToolError(f"No language server here can rename in {path}.", hint="Use `edit`.")

    async def fixes(self, path: str, line: int, end: int | None = None) -> list[Fix]:
        """Return the quick fixes, source actions and refactorings that servers offer for lines (from 1)."""
        text = self._text(path)
        lines = split_lines(text)
        if not 1 <= line <= max(1, len(lines)):
            raise ToolError(f"{path} has {len(lines)} lines, so there is no line {line}.")
        last = min(max(line, end or line), max(1, len(lines)))
        fixes: list[Fix] = []
        for known in self._known(path):
            async with self._over(known, path) as child:
                if child.can("codeActionProvider"):
                    fixes += await self._of_server(child, known.name, path, (line - 1, last - 1), lines)
        return fixes[:FIXES_MAX]

    async def _of_server(
        self, child: Child, name: str, path: str, span: tuple[int, int], lines: list[str]
    ) -> list[Fix]:
        await child.diagnose(path, ANSWER_S_MAX)
        first, last = span
        begins, ends = (lines[each].rstrip("\r\n") if lines else "" for each in span)
        indent = child.units(begins[: len(begins) - len(begins.lstrip())])
        until = {"line": last, "character": child.units(ends)}
        said = [each for each in child.said(path) if first <= _line_of(each) <= last]
        document = {"uri": child.uri(path)}
        fixes: list[Fix] = []
        for only in (["quickfix"], [ORGANISE, "source.fixAll"], ["refactor"]):
            begins_at = indent if only == ["refactor"] else 0  # what is extracted is whole statements
            start = {"line": first, "character": begins_at}
            context = {"diagnostics": said, "only": only, "triggerKind": 1}
            params = {"textDocument": document, "range": {"start": start, "end": until}, "context": context}
            for given in as_list(await child.request("textDocument/codeAction", params, ANSWER_S_MAX))[:FIXES_MAX]:
                fix = await self._fix(child, name, as_object(given))
                if fix is not None and all(fix.title != each.title for each in fixes):
                    fixes.append(fix)
        return fixes

    async def _fix(self, child: Child, name: str, action: dict[str, Any]) -> Fix | None:
        """An action as texts; None for one that is a command, or does more than change texts in the folder."""
        if "disabled" in action:
            return None
        try:
            if "edit" not in action and "data" in action and child.can("codeActionProvider", "resolveProvider"):
                action = as_object(await child.request("codeAction/resolve", action, ANSWER_S_MAX))
            texts = self._applied(child, action.get("edit"))
        except ToolError:
            return None
        return Fix(str(action.get("title", "")), name, texts, str(action.get("kind", ""))) if texts else None

    def _known(self, path: str) -> list[Known]:
        if not self.keeper.standing().trusted:
            raise ToolError("The folder is not trusted, so no language server runs.", hint="The user can trust it.")
        return [known for known in found(self.overlay.resolver.root) if path.endswith(known.ends)]

    @asynccontextmanager
    async def _over(self, known: Known, path: str, beside: Sequence[str] = ()) -> AsyncGenerator[Child]:
        """A server that was shown the file, and what the run has changed beside it."""
        async with self.servers.lease(known, self.overlay, self.keeper) as child:
            others = [each for each in dict.fromkeys((*self.overlay.texts_above_disk(), *beside)) if each != path]
            for each in [*(each for each in others if each.endswith(known.ends)), path]:
                seen = self.overlay.find(each)
                if seen is not None:
                    child.show(each, seen.file.text, language_of(each) or each.rsplit(".", 1)[-1])
            yield child

    def _text(self, path: str) -> str:
        seen = self.overlay.find(path)
        if seen is None:
            raise ToolError(f"There is no file {path}.", hint="Use `search` to find it.")
        return seen.file.text

    def _applied(self, child: Child, edit: Any) -> dict[str, str]:
        """The texts after a workspace edit; raises ToolError for one that does more than change texts in the folder."""
        texts: dict[str, str] = {}
        for uri, edits in _by_file(edit).items():
            path = self._relative(uri)
            before = self._text(path)
            after = applied(before, edits, child)
            if after != before:
                texts[path] = after
        return texts

    def _relative(self, uri: str) -> str:
        try:
            return self.overlay.resolver.resolve(unquote(urlsplit(uri).path))
        except RedlineError as error:
            raise ToolError(f"The server would change {uri}, which is not in the workspace.") from error


def _by_file(edit: Any) -> dict[str, list[Any]]:
    """The text edits of a workspace edit by URI; raises ToolError when it creates, renames or deletes files."""
    value = as_object(edit)
    if not value.get("documentChanges"):
        return {uri: as_list(edits) for uri, edits in as_object(value.get("changes")).items()}
    found: dict[str, list[Any]] = {}
    for change in map(as_object, as_list(value.get("documentChanges"))):
        if "kind" in change:
            raise ToolError(f"The server would {change['kind']} files as well, which is not done for it.")
        uri = str(as_object(change.get("textDocument")).get("uri"))
        found[uri] = [*found.get(uri, []), *as_list(change.get("edits"))]
    return found


def _line_of(diagnostic: Any) -> int:
    start = as_object(as_object(as_object(diagnostic).get("range")).get("start"))
    return int(start.get("line", -1))


def applied(text: str, edits: Sequence[Any], child: Child) -> str:
    """Return a text after a server's edits, which are all against the text before."""
    lines = split_lines(text)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def offset(edit: Any, end: str) -> int:
        position = as_object(as_object(as_object(edit).get("range")).get(end))
        line = int(position["line"])
        if line >= len(lines):
            return len(text)
        return starts[line] + child.column(lines[line].rstrip("\r\n"), int(position["character"]))

    try:
        spans = [(offset(e, "start"), offset(e, "end"), n, str(as_object(e)["newText"])) for n, e in enumerate(edits)]
    except (KeyError, TypeError, ValueError) as error:
        raise ToolError(f"The server's edit is malformed: {error!r}.") from error
    upto = len(text)
    for start, end, _, new in sorted(spans, reverse=True):  # of several at one place the first comes first
        if start > end or end > upto:
            raise ToolError("The server's edits overlap, so none was made.")
        text, upto = text[:start] + new + text[end:], start
    return text


def _place(text: str, path: str, name: str, line: int | None) -> tuple[int, int]:
    """Line and column (from 0) of a name: on the line that was given, else where it is defined, once."""
    short = name.rsplit(".", 1)[-1]
    word = re.compile(rf"(?<!\w){re.escape(short)}(?!\w)")
    lines = split_lines(text)
    if line is None:
        places = [each.line for each in symbols(text, path) if name in (each.name, each.full)]
        places = places or [number for number, each in enumerate(lines, 1) if word.search(each)]
        if len(places) != 1:
            why = f"is defined {len(places)} times" if places else "is not there"
            raise ToolError(f"{name} {why} in {path}.", hint="Say which line.")
        line = places[0]
    found = list(word.finditer(lines[line - 1])) if 1 <= line <= len(lines) else []
    if len(found) != 1:
        why = "is not" if not found else f"is there {len(found)} times"
        raise ToolError(f"{short} {why} on line {line} of {path}.")
    return line - 1, found[0].start()
