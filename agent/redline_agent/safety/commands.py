"""Reading a command line, only as far as that can be trusted. Pure.

No parser agrees with a shell on everything, so nothing here makes a command safe: the sandbox does. What is read here
can only tighten: a denied word is looked for everywhere, and without a sandbox a grant for longer covers only what two
unlike parsers read as the same plain words.
"""

from __future__ import annotations

import re
import shlex
import tomllib
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_WORD = re.compile(r"""(?:[A-Za-z0-9_@%+=:,./^-]|'[^'\n]*'|"[^"\\$`!\n]*")+""")
_GAP = re.compile(r"[ \t]+|$")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)\+?=")
_QUOTING = re.compile(r"""['"\\]""")
_SEGMENTS = re.compile(r"[;|&\n(){}`]+")
_BLANKS = re.compile(r"[\s<>$,=\[\]]+")
_FIELD_SEPARATOR = re.compile(r"\$\{IFS[^}]*\}|\$IFS")
_REDIRECT = re.compile(r"(?:&|\d*)>{1,2}[|&]?\s*([^\s;|&<>]*)")
_HARMLESS_TARGET = re.compile(r"\d+|-|/dev/(?:null|stdout|stderr)|(?:/tmp/)?[A-Za-z0-9_.][A-Za-z0-9_./-]*")


_PREFIXES = frozenset(
    ["if", "then", "else", "elif", "do", "while", "until", "!", "time", "command", "exec", "nohup", "sudo"]
)
"""Words after which a command still begins."""


@dataclass(frozen=True, slots=True)
class Hazards:
    """`commands.toml`: what is never done without a sandbox, and which programs execute their arguments."""

    environment: re.Pattern[str]
    options: tuple[tuple[str, tuple[str, ...]], ...]
    executors: frozenset[str]


@cache
def _hazards() -> Hazards:
    data = tomllib.loads(files("redline_agent.safety").joinpath("commands.toml").read_text("utf-8"))
    options = tuple((entry["program"], tuple(entry["options"])) for entry in data["option"])
    return Hazards(re.compile("|".join(data["environment"])), options, frozenset(data["executors"]))


def has_controls(text: str) -> bool:
    """Whether the command has characters that a shell, a parser and a person may each take for something else."""
    return any(
        unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") for char in text if char not in "\n\t"
    )


def plain_words(text: str) -> tuple[str, ...] | None:
    """Return the words when two parsers agree that there is nothing but plain literal words, else None."""
    text = text.strip(" ")
    if has_controls(text) or not text:
        return None
    words: list[str] = []
    at = 0
    while at < len(text):
        found = _WORD.match(text, at)
        gap = _GAP.match(text, found.end()) if found else None
        if found is None or gap is None:
            return None
        words.append(_QUOTING.sub("", found[0]) if found[0][0] not in "'\"" else _unquoted(found[0]))
        at = gap.end()
    try:
        theirs = shlex.split(text, comments=True)
    except ValueError:
        return None
    return tuple(words) if words == theirs and not _ASSIGNMENT.match(words[0]) else None


def _unquoted(word: str) -> str:
    return re.sub(r"""'([^']*)'|"([^"]*)\"""", lambda m: m[1] if m[1] is not None else m[2], word)


def mentions(text: str, words: tuple[str, ...]) -> bool:
    """Whether these words come in this order in some part of the command, at any place and quoting in it.

    Broader than what would run, on purpose: it serves denials.
    """
    wanted = [word.casefold() for word in words]
    for segment in _SEGMENTS.split(_FIELD_SEPARATOR.sub(" ", _QUOTING.sub("", text))):
        parts = [part.casefold() for part in _BLANKS.split(segment) if part]
        for at, part in enumerate(parts):
            if part.rsplit("/", 1)[-1] == wanted[0] or part == wanted[0]:
                rest = iter(parts[at + 1 :])
                if all(word in rest for word in wanted[1:]):
                    return True
    return False


def hazard(text: str) -> str:
    """Return why this is never done without a sandbox, "" when nothing speaks against asking."""
    data = _hazards()
    bare = _FIELD_SEPARATOR.sub(" ", _QUOTING.sub("", text))
    for segment in _SEGMENTS.split(bare):
        parts = segment.split()
        while parts and parts[0] in _PREFIXES:
            parts.pop(0)
        while parts and (found := _ASSIGNMENT.match(parts[0])):
            if data.environment.fullmatch(found[1]):
                return f"it sets {found[1]}, which makes other programs run what it names"
            parts.pop(0)
        if parts and parts[0] in ("env", "export", "declare", "typeset"):
            poisoned = next(
                (f[1] for p in parts if (f := _ASSIGNMENT.match(p)) and data.environment.fullmatch(f[1])), ""
            )
            if poisoned:
                return f"it sets {poisoned}, which makes other programs run what it names"
        for program, options in data.options:
            for at, part in enumerate(parts):
                if part.rsplit("/", 1)[-1] == program and (bad := _option(parts[at + 1 :], options)):
                    return f"{program} {bad} runs what it is given"
    for target in _REDIRECT.findall(bare):
        if not _HARMLESS_TARGET.fullmatch(target) or ".." in target.split("/"):
            return f"it redirects into {target or 'somewhere'}, which is outside the workspace folder"
    return ""


def _option(parts: list[str], options: tuple[str, ...]) -> str:
    """The first option that is meant by a part: whole, with its value attached, or shortened."""
    for part in (part.casefold() for part in parts):
        name = part.partition("=")[0]
        short = len(name) > 4 and name.startswith("--")
        for option in options:
            known = option.casefold()
            if part.startswith(known) or (short and known.startswith(name)):
                return option
    return ""


def runs_its_arguments(words: tuple[str, ...]) -> bool:
    """Whether the program may execute what its arguments say, so that only a grant of the exact words covers it."""
    name = words[0].casefold()
    return "/" in name or not {name, name.rstrip("0123456789.")}.isdisjoint(_hazards().executors)
