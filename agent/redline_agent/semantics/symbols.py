"""What a file defines, by tree-sitter: names, kinds, lines. Pure; the grammars are loaded when a language is first met.

A text that does not parse still gives the symbols of the parts that do.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from redline_agent.text import split_lines

if TYPE_CHECKING:
    import tree_sitter

SYMBOLS_MAX = 20_000
_TEXT_BYTES_MAX = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Symbol:
    """One definition: lines from 1, both included; `full` is "Class.method"; `text` its first line."""

    name: str
    full: str
    kind: str
    line: int
    end: int
    depth: int
    text: str


@cache
def _table() -> dict[str, dict[str, Any]]:
    return tomllib.loads(files("redline_agent.semantics").joinpath("languages.toml").read_text("utf-8"))


@cache
def _by_end() -> dict[str, str]:
    return {end: name for name, entry in _table().items() for end in entry["ends"]}


def language_of(path: str) -> str:
    """Return the language of a file by its name, "" when its symbols cannot be known."""
    name = path.rsplit("/", 1)[-1]
    return _by_end().get(name[name.rfind(".") :].lower(), "") if "." in name else ""


@cache
def _grammar(language: str) -> tuple[tree_sitter.Parser, tree_sitter.Query]:
    import tree_sitter  # with the first file of any language

    entry = _table()[language]
    module, _, function = entry["grammar"].partition(":")
    grammar = tree_sitter.Language(getattr(import_module(module), function)())  # pyright: ignore[reportDeprecated]  what the grammars give
    query = entry.get("query") or _table()[entry["like"]]["query"]
    return tree_sitter.Parser(grammar), tree_sitter.Query(grammar, query)


def symbols(text: str, path: str) -> list[Symbol]:
    """Return the symbols of a file's text in order; [] for a language that is not known, or a text above 4 MB."""
    language = language_of(path)
    source = text.encode("utf-8", "surrogatepass") if language else b""
    if not source or len(source) > _TEXT_BYTES_MAX:
        return []
    import tree_sitter

    parser, query = _grammar(language)
    found: dict[tuple[int, int, int], tuple[int, str, str]] = {}
    for _, captured in tree_sitter.QueryCursor(query).matches(parser.parse(source).root_node):
        name = captured.pop("name")[0]
        for kind, nodes in captured.items():
            node = nodes[0]
            outer = node.parent if node.parent is not None and node.parent.type in _WRAPPERS else node
            place = (outer.start_point[0], -outer.end_point[0], name.start_byte)
            found.setdefault(place, (node.start_point[0], kind, (name.text or b"").decode("utf-8", "replace")))
        if len(found) >= SYMBOLS_MAX:
            break
    return _nested(found, split_lines(text))


_WRAPPERS = frozenset({"decorated_definition", "export_statement"})
_SCOPES = frozenset({"class", "interface", "struct", "trait", "impl", "module", "enum", "function", "method"})


def _nested(found: dict[tuple[int, int, int], tuple[int, str, str]], lines: list[str]) -> list[Symbol]:
    out: list[Symbol] = []
    around: list[Symbol] = []
    for (start, minus_end, _), (shown_at, kind, name) in sorted(found.items()):
        end = -minus_end
        while around and around[-1].end < end + 1:
            around.pop()
        outer = [each for each in around if each.kind in _SCOPES]
        full = ".".join([*(each.name for each in outer), name])
        if kind == "function" and outer and outer[-1].kind in ("class", "impl", "trait"):
            kind = "method"  # noqa: PLW2901  what it is follows from where it is
        text = lines[shown_at].strip() if shown_at < len(lines) else name
        symbol = Symbol(name, full, kind, start + 1, end + 1, len(outer), text)
        out.append(symbol)
        around.append(symbol)
    return out


def enclosing(text: str, path: str, line: int) -> Symbol | None:
    """Return the smallest function, class or the like that a line (from 1) is in."""
    inside = [each for each in symbols(text, path) if each.line <= line <= each.end and each.kind in _SCOPES]
    return min(inside, key=lambda each: each.end - each.line, default=None)


def replaced(text: str, symbol: Symbol, code: str) -> str:
    """Return the text with a symbol's lines replaced by new code, indented as the symbol was."""
    lines = split_lines(text)
    ending = "\r\n" if lines and lines[symbol.line - 1].endswith("\r\n") else "\n"
    old = lines[symbol.line - 1]
    indent = old[: len(old) - len(old.lstrip())]
    given = code.strip("\r\n").splitlines()
    dent = _common_indent(given)
    new = [(indent + line[len(dent) :] if line.strip() else "") + ending for line in given]
    if symbol.end == len(lines) and not lines[-1].endswith(("\n", "\r")):
        new[-1] = new[-1].removesuffix(ending)
    return "".join([*lines[: symbol.line - 1], *new, *lines[symbol.end :]])


def trimmed(code: str, path: str, name: str) -> str:
    """Return the code without what follows the symbol, when that defines nothing: talk, prints, calls of it."""
    lines = code.strip("\r\n").splitlines()
    dent = _common_indent(lines)
    plain = "\n".join(line[len(dent) :] for line in lines) + "\n"
    found = [each for each in symbols(plain, path) if each.depth == 0]
    own = next((each for each in found if each.name == name and each.kind in _SCOPES), None)
    if own is None or any(each.line > own.end and each.kind in _SCOPES for each in found):
        return code
    return "\n".join(lines[: own.end]) + "\n"


def _common_indent(lines: list[str]) -> str:
    """The first line's indentation, if every line has it; a model may give a method with or without it."""
    first = next((line for line in lines if line.strip()), "")
    dent = first[: len(first) - len(first.lstrip())]
    return dent if all(line.startswith(dent) for line in lines if line.strip()) else ""
