r"""Positions of LSP and code points of Python, in the three encodings. Pure.

A line here has its end ("\n", "\r\n" or "\r") with it; a position after the line's text is taken as its end, as the
protocol says, and one inside a character as that character's start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Encoding = Literal["utf-8", "utf-16", "utf-32"]


def units(text: str, encoding: Encoding) -> int:
    """Length of a text in code units."""
    if encoding == "utf-32" or text.isascii():
        return len(text)
    if encoding == "utf-16":
        return len(text) + sum(char > "\uffff" for char in text)
    return len(text.encode("utf-8", "surrogatepass"))


def column(line: str, character: int, encoding: Encoding) -> int:
    """Index of the code point at a character offset of a line; never after its text."""
    text = line.rstrip("\r\n")
    if encoding == "utf-32" or text.isascii():
        return min(max(character, 0), len(text))
    at = 0
    for index, char in enumerate(text):
        size = units(char, encoding)
        if at + size > character:
            return index
        at += size
    return len(text)


def place(lines: Sequence[str], line: int, character: int, encoding: Encoding) -> tuple[int, int]:
    """Line and code point index of a position, brought into the text: (line, index in it)."""
    if line < 0:
        return 0, 0
    if line >= len(lines):
        if lines and not lines[-1].endswith(("\n", "\r")):
            return len(lines) - 1, len(lines[-1])
        return len(lines), 0
    return line, column(lines[line], character, encoding)


def position(lines: Sequence[str], line: int, index: int, encoding: Encoding) -> tuple[int, int]:
    """LSP line and character of a code point index of a line."""
    if line >= len(lines):
        if lines and not lines[-1].endswith(("\n", "\r")):
            return len(lines) - 1, units(lines[-1], encoding)
        return len(lines), 0
    return line, units(lines[line][:index], encoding)
