"""Model text as Markdown that fetches and runs nothing: images, links, autolinks, HTML and references are made plain.

Code blocks stay as they are (a viewer shows them literally); what a code block is, is decided by a parser as editors
use it.
"""

from __future__ import annotations

import re

from markdown_it import MarkdownIt

from redline_agent.text import escape_hidden, plain_line_ends

_LIVE = re.compile(
    r"!\[|\]\(|\]:|\]\[|<(?=[A-Za-z/!?])|\b[A-Za-z][A-Za-z0-9+.-]{1,20}:(?=//)|\bwww\.|\b(?:mailto|command|javascript|data|vscode|file):"
)


def defused(text: str) -> str:
    """Return Markdown that shows what `text` says, with nothing in it that a viewer would fetch, follow or run."""
    text = escape_hidden(plain_line_ends(text))
    lines = text.split("\n")
    code: set[int] = set()
    for token in MarkdownIt("commonmark").parse(text):
        if token.type in ("fence", "code_block") and token.map:
            code.update(range(*token.map))
    return "\n".join(line if number in code else _LIVE.sub(_apart, line) for number, line in enumerate(lines))


def _apart(found: re.Match[str]) -> str:
    """Put a backslash before the sign that makes it live, which Markdown shows alone; a space where one may precede."""
    live = found[0]
    if live == "<":
        return "< "  # a backslash could be the second of two
    return f"{live[:-1]}\\{live[-1]}"
