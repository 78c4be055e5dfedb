"""The built-in engine: a model that needs no key and no network. It turns a documented set of instructions into the
same tool calls, through the same loop, as any other model; what it cannot do it says, in the words to use instead.

Each instruction is a generator that yields tool calls and is sent their results. For every request the generator is
played again from the conversation, so the engine keeps no state.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass
from typing import Any

from redline_agent.messages import Block, Message, Reply, Text, ToolCall, ToolResult, Usage
from redline_agent.models.base import Piece, ReplyDone, Request, TextPiece
from redline_agent.models.catalog import capabilities_of

Call = tuple[str, dict[str, Any]]
Script = Generator[Call, ToolResult, str]
EDITOR_CONTEXT, TASK = "Editor: ", "task"
"""How the context's line about the editor begins, and what labels a run's words (context/gather.py writes both)."""

_VERSIONS = re.compile(r"\n\[versions: [^\n]*\](?:\nNote: [^\n]*)*$")
"""What tools tell models of files, and no person wants to read."""
_HIT = re.compile(r"([^:\n]+\.pyi?):\d+: ")
_NAME = r"`?(?P<{0}>[A-Za-z_][\w.]*)`?"
_PATH = r"""(?P<path>"[^"]+"|'[^']+'|`[^`]+`|\S+?)"""
_IN = rf"(?:\s+(?:in|of)\s+{_PATH})?"
_WHERE = _IN + r"(?:\s+(?:on|at)\s+line\s+(?P<line>\d+))?\s*\.?"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One thing that the engine can do: the words, an example, and what happens."""

    words: re.Pattern[str]
    example: str
    does: str
    script: Callable[[re.Match[str], dict[str, Any]], Script]


class CannotDo(Exception):
    """Why the engine gives up, in the words to use instead."""


class BuiltinModel:
    """The engine as a Model."""

    name = "builtin"
    capabilities = capabilities_of("builtin", "")

    async def ready(self) -> None:
        """Be ready."""

    def cost_usd(self, usage: Usage) -> float | None:  # noqa: ARG002
        """Cost nothing."""
        return 0.0

    def bound_usd(self, usage: Usage) -> float:  # noqa: ARG002
        """Cost nothing."""
        return 0.0

    async def close(self) -> None:
        """Hold nothing."""

    async def stream(self, request: Request) -> AsyncIterator[Piece]:
        """Yield the next step of the instruction's script."""
        reply = _next(request.messages)
        if reply.text:
            yield TextPiece(reply.text)
        yield ReplyDone(reply)


def _next(messages: tuple[Message, ...]) -> Reply:
    blocks = [block for message in messages for block in message.content]
    begins = [at for at, block in enumerate(blocks) if isinstance(block, Text) and block.label.detail == TASK]
    blocks = blocks[begins[-1] :] if begins else blocks
    instruction, editor = _task(blocks)
    results = [block for block in blocks if isinstance(block, ToolResult)]
    script = _script(instruction, editor)
    try:
        call = next(script)
        for result in results:
            call = script.send(result)
    except StopIteration as done:
        return _reply(
            ToolCall(
                id=f"builtin-{len(begins)}-{len(results) + 1}",
                name="finish",
                arguments=json.dumps({"summary": done.value}),
            )
        )
    except CannotDo as error:
        return Reply(model="builtin", content=(), stop="refusal", usage=Usage(), note=str(error))
    name, arguments = call
    return _reply(ToolCall(id=f"builtin-{len(begins)}-{len(results) + 1}", name=name, arguments=json.dumps(arguments)))


def _reply(call: ToolCall) -> Reply:
    return Reply(model="builtin", content=(call,), stop="tool_use", usage=Usage())


def _task(blocks: list[Block]) -> tuple[str, dict[str, Any]]:
    """Instruction and editor context of the newest run."""
    texts = [block for block in blocks if isinstance(block, Text)]
    said = [block.text for block in texts if block.label.source == "user"]
    editor = next((block.text for block in texts if block.text.startswith(EDITOR_CONTEXT)), "")
    context: dict[str, Any] = json.loads(editor.removeprefix(EDITOR_CONTEXT)) if editor else {}
    return (said[0] if said else ""), context


def understood(instruction: str) -> list[tuple[Instruction, re.Match[str]]]:
    """Return the steps that an instruction asks for, in order; empty when any part of it is not understood."""
    text = " ".join(instruction.split()).rstrip(".! ")
    whole = _one(text)
    if whole:
        return [whole]
    steps = [
        _one(part) for part in re.split(r"\s*(?:;|,\s*then\b|,?\s+and\s+then\b|,\s*and\b|\band\b|,)\s*", text) if part
    ]
    return [step for step in steps if step] if all(steps) else []


def _one(text: str) -> tuple[Instruction, re.Match[str]] | None:
    for instruction in INSTRUCTIONS:
        match = instruction.words.fullmatch(text)
        if match:
            return instruction, match
    return None


def _script(instruction: str, editor: dict[str, Any]) -> Script:
    steps = understood(instruction)
    if not steps:
        raise CannotDo(cannot())
    said: list[str] = []
    for step, match in steps:
        said.append((yield from step.script(match, editor)))
    return "\n\n".join(said)


def cannot() -> str:
    """Return what the engine says to an instruction that it does not know."""
    lines = [f"  {entry.example:<44} {entry.does}" for entry in INSTRUCTIONS]
    return (
        "The built-in engine cannot do that; it follows rules and does not write code. It understands:\n"
        + "\n".join(lines)
        + "\nFor anything else, set ANTHROPIC_API_KEY (or choose another model) and ask again."
    )


# ---- the instructions


def _rename(match: re.Match[str], editor: dict[str, Any]) -> Script:
    old, new, path = match["old"], match["new"].strip("`"), _named(match, editor)
    if not new.isidentifier():
        raise CannotDo(f"{new!r} is not a usable Python name.")
    extra: dict[str, Any] = {"line": int(match["line"])} if match["line"] else {}
    first = path or editor.get("file", "")
    if first.endswith((".py", ".pyi")):
        result = yield "rename_symbol", {"path": first, "old": old, "new": new, **extra}
        if path or not _elsewhere(result):
            return _worked(result)
    scope = path or _only_target(editor)
    places = yield from _definitions(old, scope)
    where = "Nothing here" if scope == "." else f"Nothing in {scope}"
    if not places:
        raise CannotDo(f"{where} defines {old}. The engine renames Python symbols only.")
    if len(places) > 1:
        listed = "\n".join(places)
        say = f"rename {old} to {new} in {places[0]}"
        raise CannotDo(f"{old} is defined in several files. Say which, as in: {say}\n{listed}")
    result = yield "rename_symbol", {"path": places[0], "old": old, "new": new, **extra}
    return _worked(result)


def _elsewhere(result: ToolResult) -> bool:
    """Whether the symbol is just not in the file that the editor shows."""
    return result.error and ("does not define" in result.text or "is not in" in result.text)


def _definitions(old: str, scope: str) -> Generator[Call, ToolResult, list[str]]:
    """Files that define a name; for a member, those that define its class."""
    outer, _, name = old.rpartition(".")
    if outer:
        patterns = [rf"^\s*class\s+{re.escape(outer.rsplit('.', 1)[-1])}\b"]
    else:
        name = re.escape(name)
        patterns = [
            rf"^(async\s+def|def|class)\s+{name}\b",
            rf"^{name}\s*(:[^=]+)?=[^=]",
            rf"^\s+(async\s+def|def|class)\s+{name}\b",
        ]
    for pattern in patterns:
        found = yield "search", {"pattern": pattern, "path": scope}
        if found.error:
            raise CannotDo(_plain(found.text))
        places = sorted({m[1] for m in map(_HIT.match, found.text.splitlines()) if m})
        if places:
            return places
    return []


_EVERYTHING = ("project", "everything", "workspace", "all")


def _named(match: re.Match[str], editor: dict[str, Any]) -> str:
    """The path that the words name, without quotes; from where the user stands, as in a shell."""
    path = (match["path"] or "").strip("\"'`")
    cwd = editor.get("cwd", "")
    return f"{cwd}/{path}" if path and cwd and path not in (*_EVERYTHING, "file") else path


def _only_target(editor: dict[str, Any]) -> str:
    targets: list[str] = editor.get("targets") or []
    return targets[0] if len(targets) == 1 else "."


def _folder(match: re.Match[str], editor: dict[str, Any]) -> list[str]:
    """The paths that a clean-up is for: named, the targets, the file in the editor, else everything."""
    path = _named(match, editor)
    if path:
        if path == "file" and editor.get("file"):
            return [editor["file"]]
        return ["." if path in _EVERYTHING else path]
    return editor.get("targets") or [editor.get("file") or "."]


def _imports(match: re.Match[str], editor: dict[str, Any]) -> Script:
    said: list[str] = []
    for path in _folder(match, editor):
        result = yield "organise_imports", {"path": path}
        said.append(_worked(result))
    return "\n".join(said)


def _fix(rules: str) -> Callable[[re.Match[str], dict[str, Any]], Script]:
    def script(match: re.Match[str], editor: dict[str, Any]) -> Script:
        said: list[str] = []
        for path in _folder(match, editor):
            result = yield "fix_lint", {"path": path, "rules": rules}
            said.append(_worked(result))
        return "\n".join(said)

    return script


def _extract(match: re.Match[str], editor: dict[str, Any]) -> Script:
    path = _named(match, editor) or editor.get("file", "")
    if match["start"]:
        start, end = int(match["start"]), int(match["end"] or match["start"])
    elif editor.get("lines"):
        start, end = editor["lines"]
    else:
        raise CannotDo(f"Say which lines, as in: extract lines 3 to 7 of {path or 'PATH'} to {match['new']}")
    wanted = {"expression": match["expression"]} if match["expression"] else {}
    result = yield "extract", {"path": path, "start": start, "end": end, "name": match["new"], **wanted}
    return _worked(result)


def _inline(match: re.Match[str], editor: dict[str, Any]) -> Script:
    path = yield from _defining(match, editor)
    extra: dict[str, Any] = {"line": int(match["line"])} if match["line"] else {}
    result = yield "inline", {"path": path, "name": match["old"], **extra}
    return _worked(result)


def _move(match: re.Match[str], editor: dict[str, Any]) -> Script:
    path = yield from _defining(match, editor)
    result = yield "move_symbol", {"path": path, "name": match["old"], "to": match["to"].strip("\"'`")}
    return _worked(result)


def _defining(match: re.Match[str], editor: dict[str, Any]) -> Generator[Call, ToolResult, str]:
    """The one file that defines a name: the one that is said, the editor's where it does, else the only one."""
    path = _named(match, editor)
    if path:
        return path
    places = yield from _definitions(match["old"], _only_target(editor))
    if editor.get("file") in places:
        return str(editor["file"])
    if len(places) != 1:
        what = f"{match['old']} is defined in several files" if places else f"Nothing here defines {match['old']}"
        raise CannotDo("\n".join([f"{what}. Say which, with: in PATH", *places]))
    return places[0]


def _worked(result: ToolResult) -> str:
    if result.error:
        raise CannotDo(_plain(result.text))
    return _VERSIONS.sub("", result.text)


def _plain(error: str) -> str:
    """A tool's refusal without the words that are for a model."""
    return error.removeprefix("Error: ").split("\nHint: ")[0]


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(r"(?:please\s+)?" + pattern, re.IGNORECASE)


_PLACE = rf"(?:\s+(?:in|of|for|on)\s+(?:the\s+|this\s+)?{_PATH})?"

INSTRUCTIONS: tuple[Instruction, ...] = (
    Instruction(
        _words(rf"rename\s+(?:the\s+)?(?:function\s+|class\s+|method\s+|variable\s+|symbol\s+)?{_NAME.format('old')}"
            rf"\s+(?:to|as|into)\s+(?P<new>\S+?){_WHERE}"),
        "rename X to Y [in PATH] [on line N]",
        "renames a Python symbol wherever it can be proven to be the same",
        _rename,
    ),
    Instruction(
        _words(rf"extract\s+(?:`(?P<expression>[^`]+)`\s*)?(?:(?:in\s+)?(?:the\s+)?(?:selection|selected\s+lines)"
            rf"|(?:on\s+|in\s+)?lines?\s+(?P<start>\d+)(?:\s*(?:to|-|–)\s*(?P<end>\d+))?)?{_IN}\s*(?:to|into|as)\s+"
            rf"(?:an?\s+|the\s+)?(?:function\s+|method\s+|variable\s+)?`?(?P<new>[A-Za-z_]\w*)`?"),
        "extract lines 3 to 7 [of PATH] to X",
        "makes a function of Python lines; of an `expression` on them, a variable",
        _extract,
    ),
    Instruction(
        _words(rf"inline\s+(?:the\s+)?(?:function\s+|method\s+|variable\s+)?{_NAME.format('old')}{_WHERE}"),
        "inline X [in PATH] [on line N]",
        "puts a Python function or variable where it is used, and removes it",
        _inline,
    ),
    Instruction(
        _words(rf"move\s+(?:the\s+)?(?:function\s+|class\s+|variable\s+|symbol\s+)?{_NAME.format('old')}{_IN}"
            r"\s+(?:to|into)\s+(?P<to>\"[^\"]+\"|'[^']+'|`[^`]+`|\S+\.pyi?)"),
        "move X [in PATH] to PATH",
        "moves a Python symbol to another module, imports with it",
        _move,
    ),
    Instruction(
        _words(rf"(?:organi[sz]e|sort|clean\s+up)\s+(?:the\s+|all\s+)?imports{_PLACE}"),
        "organise imports [in PATH]",
        "sorts and groups the imports",
        _imports,
    ),
    Instruction(
        _words(rf"fix\s+(?:the\s+|all\s+)?(?:lint|linting|lints|diagnostics)(?:\s+(?:errors|problems|findings|issues))?{_PLACE}"),
        "fix lint [in PATH]",
        "takes ruff's safe fixes, by the project's own rules",
        _fix("lint"),
    ),
    Instruction(
        _words(rf"remove\s+(?:the\s+|all\s+)?unused(?:\s+(?:imports|code|names|variables))?{_PLACE}"),
        "remove unused [in PATH]",
        "removes unused imports and the like, where that is safe",
        _fix("unused"),
    ),
    Instruction(
        _words(rf"moderni[sz]e(?:\s+(?:the\s+)?(?:syntax|code|python))?{_PLACE}"),
        "modernise syntax [in PATH]",
        "uses newer syntax that the project's Python version has",
        _fix("modernise"),
    ),
)  # fmt: skip
