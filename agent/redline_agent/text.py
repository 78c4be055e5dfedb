"""Text on its way to a person or a model: escaping what cannot be seen, bounding what is long."""

from __future__ import annotations

import re
import unicodedata

_HIDDEN_CATEGORIES = {"Cc", "Cf", "Co", "Cs"}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-!|~])")


def escape_hidden(text: str) -> str:
    r"""Show control, bidirectional and invisible characters as \xNN or \uNNNN; keep \n and \t."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char in "\n\t" or not _is_hidden(char) else _escaped(char) for char in text)


def plain_line_ends(text: str) -> str:
    r"""Return the text with \n for every line end."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def unescape_hidden(text: str, whole: str) -> str:
    """Undo `escape_hidden` in a text quoted from `whole`, for characters that it has and escapes that it has not."""
    if "\\" not in text or (whole.isascii() and whole.isprintable()):
        return text
    for char in {each for each in whole if each not in "\n\t" and _is_hidden(each)}:
        if _escaped(char) not in whole:
            text = text.replace(_escaped(char), char)
    return text


def _is_hidden(char: str) -> bool:
    return unicodedata.category(char) in _HIDDEN_CATEGORIES


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def has_hidden(text: str) -> bool:
    """Whether `text` has characters that a reader would not see (a carriage return at a line's end is fine)."""
    return any(_is_hidden(char) for char in text.replace("\r\n", "\n") if char not in "\n\t\f\ufeff")


def one_line(text: str, chars_max: int = 120) -> str:
    """Put `text` on one line of at most `chars_max` characters, nothing hidden in it."""
    line = escape_hidden(" ".join(text.split()))
    return line if len(line) <= chars_max else line[: chars_max - 1] + "…"


def markdown_plain(text: str) -> str:
    """Markdown that shows `text` literally: no link, image, HTML or emphasis survives."""
    return _MARKDOWN.sub(r"\\\1", escape_hidden(text))


def clip(text: str, chars_max: int, more: str = "") -> str:
    """Head and tail of a long text, with a line in between that says what was cut, and where `more` of it is."""
    if len(text) <= chars_max:
        return text
    head, tail = chars_max * 2 // 3, chars_max // 3
    told = f"; {more}" if more else ""
    return f"{text[:head]}\n[... {len(text) - head - tail} characters cut{told} ...]\n{text[-tail:]}"


def split_lines(text: str) -> list[str]:
    r"""Lines with their ends, split at \n, \r\n and \r alone, as LSP does; "" gives []."""
    if "\r" not in text:
        lines = text.split("\n")
        out = [line + "\n" for line in lines[:-1]]
        return [*out, lines[-1]] if lines[-1] else out
    return re.findall(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+", text)


def plural(count: int, noun: str) -> str:
    """Count and noun together: "1 file", "2 files"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
