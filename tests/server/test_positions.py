"""Positions and incremental sync against a slow reference that works on encoded bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redline_agent.text import split_lines
from redline_agent.workspace.mapping import applied
from redline_server.documents import Document, Edit
from redline_server.positions import column, place, position, units

ENCODINGS = ["utf-8", "utf-16", "utf-32"]
CODECS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}
# combining, astral, wide, surrogate-adjacent; and what only looks like a line end
alphabet = st.sampled_from(
    ["a", "é", "e\u0301", "🙂", "𝔘", "\u200d", "\uffff", "\u2028", "\x0b", "\n", "\r\n", "\r", "\ufeff", " "]
)
texts = st.lists(alphabet, max_size=30).map("".join)


def encoded(text, encoding):
    codec, size = CODECS[encoding]
    return len(text.encode(codec)) // size


@given(texts, st.sampled_from(ENCODINGS))
def test_units_are_those_of_the_encoding(text, encoding):
    assert units(text, encoding) == encoded(text, encoding)


@given(texts, st.sampled_from(ENCODINGS), st.data())
def test_every_place_goes_there_and_back(text, encoding, data):
    lines = split_lines(text)
    line = data.draw(st.integers(0, len(lines)))
    body = lines[line].rstrip("\r\n") if line < len(lines) else ""
    index = data.draw(st.integers(0, len(body)))
    at = position(lines, line, index, encoding)
    if line == len(lines) and lines and not lines[-1].endswith(("\n", "\r")):
        return
    assert place(lines, *at, encoding) == (line, index)
    assert at == (line, encoded(body[:index], encoding))


@given(texts, st.integers(0, 99), st.sampled_from(ENCODINGS))
def test_a_column_is_never_outside_the_line_nor_inside_a_character(text, character, encoding):
    for line in split_lines(text):
        body = line.rstrip("\r\n")
        index = column(line, character, encoding)
        assert 0 <= index <= len(body)
        assert encoded(body[:index], encoding) <= character or index == 0


def reference(text, edit, encoding):
    """The protocol's own words, on the whole text."""
    if edit.range is None:
        return edit.text
    codec, size = CODECS[encoding]

    def offset(line, character):
        lines = split_lines(text)
        if line >= len(lines):
            return len(text)
        body = lines[line].rstrip("\r\n")
        whole = 0
        for _ in body:
            if encoded(body[: whole + 1], encoding) > character:
                break
            whole += 1
        return sum(map(len, lines[:line])) + whole

    start, end = offset(*edit.range[:2]), offset(*edit.range[2:])
    return text[:start] + edit.text + text[max(start, end) :]


edits = st.builds(
    Edit, st.none() | st.tuples(st.integers(0, 8), st.integers(0, 12), st.integers(0, 8), st.integers(0, 12)), texts
)


@given(texts, st.lists(edits, max_size=8), st.sampled_from(ENCODINGS))
def test_incremental_sync_gives_the_reference_text(tmp_path_factory, text, changes, encoding):
    document = Document("file:///x", tmp_path_factory.getbasetemp() / "none", 1, split_lines(text))
    expected = text
    for version, edit in enumerate(changes, 2):
        expected = reference(expected, edit, encoding)
        document.apply([edit], version, encoding)
        assert document.text == expected
        assert document.lines == split_lines(expected)
    assert document.version == len(changes) + 1


@given(texts, st.lists(st.lists(edits, max_size=4), max_size=4), st.sampled_from(ENCODINGS))
def test_its_steps_lead_from_each_text_to_the_next(tmp_path_factory, text, changes, encoding):
    """Several changes in one notification, and all since some time before: the trail has them, or says that it has not."""
    document = Document("file:///x", tmp_path_factory.getbasetemp() / "none", 1, split_lines(text))
    marks = [(0, list(document.lines))]
    for version, several in enumerate(changes, 2):
        document.apply(several, version, encoding)
        marks.append((document.trail.count, list(document.lines)))
        for count, lines in marks:
            steps = document.trail.since(count)
            assert applied(lines, steps) == document.lines or (not steps and count < document.trail.count)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("# redline: rename a to b\n", "rename a to b"),
        ("    // redline: fix lint\r\n", "fix lint"),
        ("-- Redline: sort\n", "sort"),
        ("/* redline: do it */\n", "do it"),
        ("<!-- redline: do it -->\n", "do it"),
        (";; redline: do it\n", "do it"),
        ("x = 1  # redline: not a line of its own\n", None),
        ("# redline:\n", None),
        ("redline: no comment\n", None),
    ],
)
def test_a_directive_is_a_comment_line_of_its_own(tmp_path, line, words):
    document = Document("file:///x", tmp_path / "x", 1, ["a\n", line])
    assert document.directives() == ([(1, words)] if words else [])
