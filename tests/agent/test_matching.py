import pytest
from hypothesis import given
from hypothesis import strategies as st
from redline_agent.errors import EditRefused
from redline_agent.workspace.matching import replace

CODE = "def f():\n    x = 1\n    return x\n\n\ndef g():\n    return 2\n"


@pytest.mark.parametrize(
    ("text", "old", "new", "expected", "how"),
    [
        (CODE, "x = 1", "x = 2", CODE.replace("x = 1", "x = 2"), "exact"),
        ("a \nb\t\nc\n", "a\nb\n", "A\nB\n", "A\nB\nc\n", "trailing white space"),
        (CODE, "x = 1\nreturn x\n", "x = 3\nreturn x\n", CODE.replace("x = 1", "x = 3"), "re-indented"),
        ("  a\n    b\n", "a\n  b\n", "a\n  c\n", "  a\n    c\n", "re-indented"),
        ("s = “quoted”\n", 's = "quoted"', 's = "other"', 's = "other"\n', "punctuation"),
        ("a\r\nb\r\nc\r\n", "b\nc\n", "B\nC\n", "a\r\nB\r\nC\r\n", "exact"),
        ("\ufeffa\nb", "b", "c", "\ufeffa\nc", "exact"),
        ("a\r\nb\nc\r\n", "b", "B", "a\r\nB\nc\r\n", "exact"),
    ],
)
def test_an_edit_finds_its_one_place(text, old, new, expected, how):
    edited = replace(text, old, new)
    assert (edited.text, edited.how) == (expected, how)


@pytest.mark.parametrize(
    ("text", "old", "new", "says"),
    [
        (CODE, "return", "yield", "2 times: lines 3, 7"),
        (CODE, "missing", "x", "not in the file"),
        (CODE, "return y", "return z", "The nearest lines are:\n3\t    return x"),
        (CODE, "", "x", "empty"),
        (CODE, "x = 1", "x = 1", "nothing would change"),
        ("  a\n  a\n", "a \n", "b\n", "2 times"),
        ("\ta\n    b\n", "a\nb\n", "c\nd\n", "not in the file"),
    ],
)
def test_an_edit_without_one_place_is_refused(text, old, new, says):
    with pytest.raises(EditRefused, match=None) as refused:
        replace(text, old, new)
    assert says in str(refused.value)


lines = st.lists(st.text("ab \té", max_size=4), min_size=1, max_size=8)


@given(lines, st.integers(0, 7), st.integers(1, 4), lines, st.sampled_from(["\n", "\r\n"]))
def test_an_exact_unique_quote_is_always_replaced_and_nothing_else_moves(before, at, size, new, end):
    text = end.join(before)
    old = "\n".join(before[at : at + size])
    flat = "\n".join(before)
    replacement = "\n".join(new)
    if not old or old == replacement or sum(flat.startswith(old, i) for i in range(len(flat))) != 1:
        return
    edited = replace(text, old, replacement)
    dominant = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
    assert edited.text.replace("\r\n", "\n") == flat.replace(old, replacement)
    assert "\n" not in edited.text.replace("\r\n", "") or dominant == "\n"
