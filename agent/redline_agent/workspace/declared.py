"""The encoding that a text says it has: Python's coding line, XML and HTML declarations, editors' own lines. Pure."""

from __future__ import annotations

import codecs
import io
import re
import tokenize

HEAD_BYTES = 1_024
"""How far a declaration is looked for, as HTML has it."""
PYTHON = (".py", ".pyi")
_XML = re.compile(r"<\?xml\b[^>]*?\bencoding\s*=\s*[\"']([\w.:-]+)[\"']")
_HTML = re.compile(r"<meta\b[^>]*?\bcharset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)
_LINES = (
    re.compile(r"-\*-.*?\bcoding:\s*([\w.-]+).*?-\*-"),  # Emacs
    re.compile(r"\bvim?:.*?\bf(?:ile)?enc(?:oding)?=([\w.-]+)"),  # Vim
)
_RUBY = re.compile(r"#.*?coding[:=]\s*([\w.-]+)")
_EMACS = re.compile(r"-(?:unix|dos|mac)$")
_NEVER = ("utf_16", "utf_32", "utf_7", "utf-16", "utf-32", "utf-7")
"""What nobody means without a byte order mark."""


def of_python(text: str) -> str:
    """Return the encoding that a Python text declares or, declaring none, has; "" for one that nobody knows."""
    head = "".join(text.splitlines(keepends=True)[:2])
    try:
        return tokenize.detect_encoding(io.BytesIO(head.encode("utf-8", "replace")).readline)[0]
    except SyntaxError:
        return ""


def of_other(head: str, path: str) -> str:
    """Return the encoding that the beginning of a text declares, by Python's name; "" for none, or one nobody knows."""
    found = _XML.match(head.lstrip("\ufeff \t\r\n"))
    if found is None and path.lower().endswith((".html", ".htm", ".xhtml")):
        found = _HTML.search(head)
    lines = head.splitlines()
    for line in lines[:2]:
        patterns = (*_LINES, _RUBY) if path.endswith(".rb") else _LINES
        found = found or next((hit for pattern in patterns if (hit := pattern.search(line))), None)
    try:
        name = codecs.lookup(_EMACS.sub("", found[1].lower()).replace("latin-", "latin")).name if found else ""
        "".encode(name or "utf-8")  # one that is no encoding of texts, such as hex, says so here
    except (LookupError, ValueError):
        return ""
    return "" if name.startswith(_NEVER) else name
