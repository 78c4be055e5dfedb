"""Model text shown as Markdown: no parser finds anything live in it, and code stays readable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from redline_agent.defuse import defused

LIVE = {"image", "link_open", "html_inline", "html_block"}
PIECES = st.sampled_from(
    ["![", "](", "]", "[", "(", ")", "<", ">", "https://", "http:", "//", "\\", "`", "```", "\n", "    ", "\n\n", "img src=x", "x", "]:", "www.a.test",
     "command:redline.accept", "![a](b)", "<a@b.test>", "[a]: https://b", "- ", "> ", "~~~", "&lt;", "<!--", "mailto:a@b.c", "\u202e", "\x1b]8;;"]
)  # fmt: skip


def live_parts(text):
    parser = MarkdownIt("gfm-like", {"html": True, "linkify": False})
    found = []
    for token in parser.parse(text):
        found += [child.type for child in [token, *(token.children or [])] if child.type in LIVE]
    return found


@pytest.mark.parametrize(
    "text",
    [
        "![x](https://evil.test/p?d=1)", "[ok](command:redline.accept)", "<img src=x>", "\\<img src=x>", "\\\\<b>", "[a]: https://x\n\n[a]",
        "<https://evil.test>", "![a][b]\n\n[b]: https://x", "`a` <b>c</b>", "> ![x](y)", "- [x](y)", "<!-- x -->", "\\![x](y)", "```\n```\n![x](y)",
        "    ![x](y)\n\n![x](y)",
    ],
)  # fmt: skip
def test_nothing_live_is_left(text):
    assert live_parts(text) or text.startswith("\\<")
    assert live_parts(defused(text)) == []


@given(st.lists(PIECES, max_size=25).map("".join))
def test_nothing_live_is_ever_left(text):
    assert live_parts(defused(text)) == []
    assert "\x1b" not in defused(text)
    assert "\u202e" not in defused(text)


def test_code_is_left_as_it_is():
    code = "Look:\n\n```python\na[0](1) < b\nx = '![i](j)'\n```\n"
    assert defused(code) == code
