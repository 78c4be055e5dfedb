"""Edits for the client, applied as the protocol says, give the text that was meant, in all encodings."""

from hypothesis import given
from hypothesis import strategies as st
from redline_agent.text import split_lines
from redline_server.convert import edits_between
from redline_server.positions import place

pieces = st.lists(st.sampled_from(["a\n", "b\n", "a\r\n", "é🙂\n", "🙂x\n", "\n", "\r\n", "ab\n"]), max_size=10).map(
    "".join
)
texts = st.tuples(pieces, st.sampled_from(["", "a", "🙂", "é"])).map("".join)


def applied(text, edits, encoding):
    lines = split_lines(text)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def offset(at):
        line, index = place(lines, at.line, at.character, encoding)
        return starts[line] + index

    for edit in reversed(edits):
        text = text[: offset(edit.range.start)] + edit.new_text + text[offset(edit.range.end) :]
    return text


@given(texts, texts, st.sampled_from(["utf-8", "utf-16", "utf-32"]))
def test_edits_give_the_new_text(old, new, encoding):
    assert applied(old, edits_between(old, new, encoding), encoding) == new
