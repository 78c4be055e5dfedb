"""What a hunk needs to make sense: a use its definition or import, an end of a definition the end of its uses. Pure.

Names are compared as words, in any language, so a link too many is possible; a link only warns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from redline_agent.workspace.filereview import Hunk
from redline_agent.workspace.proposal import FileOperation, Proposal

LINKS_MAX = 50
_WORD = re.compile(r"(?<!\w)[^\W\d]\w*(?![\w\"'])")
"""A name; the letter before a string's quote is none."""
_DEFINES = re.compile(
    r"^\s*(?:(?:async|export|default|pub|public|private|static|abstract|final)\s+)*"
    r"(?:def|class|func|fn|function|struct|enum|trait|interface|type|const|let|var|val|module)\s+(\w+)"
)
_ASSIGNS = re.compile(r"^(\w\w+)\s*(?::[^=]+)?=(?!=)")
_IMPORT = re.compile(r"^\s*(?:import|from|use|using|#include|require)\b|=\s*require\(")
_FROM = re.compile(r"^\s*from\s+\S+\s+import\s+(.*)$")
_FOLDERS_OWN = frozenset({"__init__", "index", "mod"})
"""Files that stand for their folder."""
_NO_NAMES = frozenset({"import", "from", "use", "using", "include", "require", "const", "let", "var", "as", "type"})


@dataclass(frozen=True, slots=True)
class _Change:
    """One item's names: what it defines, imports and mentions anew, and what it no longer does."""

    item: Hunk | FileOperation
    path: str
    defines: frozenset[str]
    imports: frozenset[str]
    mentions: frozenset[str]
    ends: frozenset[str]
    drops: frozenset[str]


def link(proposal: Proposal) -> None:
    """Fill in what each item depends on."""
    changes = [_of_lines(hunk, hunk.path, hunk.old, hunk.new) for hunk in proposal.hunks]
    changes += [_of_operation(op) for op in proposal.operations]
    for one in changes:
        needs = {other.item.id: None for other in changes if other is not one and _needs(one, other)}
        known = dict.fromkeys(one.item.depends_on)
        one.item.depends_on = tuple([*known, *(ident for ident in needs if ident not in known)][:LINKS_MAX])


def _needs(one: _Change, other: _Change) -> bool:
    """Whether one item is wrong without the other."""
    if one.mentions & other.defines:
        return True  # a use, or a definition that was moved, needs the definition
    if one.path == other.path and one.mentions & other.imports:
        return True
    gone = one.ends - other.defines
    return bool(gone & other.drops) and (
        one.path == other.path or not isinstance(one.item, Hunk) or _defined(one, gone)
    )


def _defined(one: _Change, names: frozenset[str]) -> bool:
    """Whether names that end were definitions, which other files may use, and not imports."""
    return isinstance(one.item, Hunk) and bool(names & _defs(one.item.old))


def _of_lines(item: Hunk | FileOperation, path: str, old: Iterable[str], new: Iterable[str]) -> _Change:
    old, new = tuple(old), tuple(new)
    words_old, words_new = _words(old), _words(new)
    defines = _defs(new) - _defs(old)
    imports = _imports(new) - _imports(old)
    ends = (_defs(old) - _defs(new)) | (_imports(old) - _imports(new))
    return _Change(item, path, defines, imports, words_new - words_old, ends, words_old - words_new)


def _of_operation(op: FileOperation) -> _Change:
    lines = op.file.text.splitlines() if op.file else []
    match op.kind:
        case "create":
            made = _of_lines(op, op.path, (), lines)
            names = made.defines | {_module(op.path)}
            return _Change(op, op.path, names, frozenset(), made.mentions, frozenset(), frozenset())
        case "delete":
            ends = _defs(lines) | {_module(op.path)}
            return _Change(op, op.path, frozenset(), frozenset(), frozenset(), ends, _words(lines))
        case "rename":
            old, new = _parts(op.path), _parts(op.new_path)
            return _Change(op, op.path, new - old, frozenset(), frozenset(), old - new, frozenset())
        case "mode":
            return _of_lines(op, op.path, (), ())


def _module(path: str) -> str:
    """The name that other files know a file by: its own, or its folder's."""
    *folders, name = path.split("/")
    stem = name.split(".")[0]
    return folders[-1] if stem in _FOLDERS_OWN and folders else stem


def _parts(path: str) -> frozenset[str]:
    return frozenset({*path.split("/")[:-1], _module(path)})


def _words(lines: Iterable[str]) -> frozenset[str]:
    return frozenset(word for line in lines for word in _WORD.findall(line))


def _defs(lines: Iterable[str]) -> frozenset[str]:
    return frozenset(found[1] for line in lines for found in (_DEFINES.match(line) or _ASSIGNS.match(line),) if found)


def _imports(lines: Iterable[str]) -> frozenset[str]:
    found: set[str] = set()
    for line in lines:
        if _IMPORT.search(line):
            names = _FROM.match(line)
            found |= set(_WORD.findall(names[1] if names else line)) - _NO_NAMES
    return frozenset(found)
