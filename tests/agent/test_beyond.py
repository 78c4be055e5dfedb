"""Which findings a change introduces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redline_agent.proof.beyond import introduced, kind

OLD = "a\nb\nc\nd\n"


def new_ones(before, after, old, new):
    """Findings are (line, message)."""
    return introduced(before, after, old, new, lambda each: (each[0], kind("x", each[1])))


@pytest.mark.parametrize(
    ("before", "after", "new", "found"),
    [
        ([(2, "bad")], [(3, "bad")], "top\n" + OLD, []),  # its line moved
        ([(2, "bad")], [(2, "bad")], OLD.replace("b", "B"), []),  # its line was changed, and it is there still
        ([(2, "bad")], [(4, "bad")], OLD.replace("b", "B"), [(4, "bad")]),  # mended here, made there
        (
            [(2, "bad")],
            [(4, "bad")],
            OLD.replace("b", "B").replace("d", "D"),
            [],
        ),  # which of the lines is which, who knows
        ([(2, "bad")], [(2, "bad"), (4, "bad")], OLD.replace("b", "B").replace("d", "D"), [(4, "bad")]),
        ([(1, "bad")], [(4, "bad")], "b\nc\nd\na\n", []),  # the line itself was moved
        ([(4, "see line 2")], [(5, "see line 3")], "top\n" + OLD, []),
        ([(1, "bad x1")], [(1, "bad x2")], OLD.replace("a", "A"), [(1, "bad x2")]),
        ([], [(9, "of no line")], OLD, [(9, "of no line")]),
        ([(2, "bad"), (2, "bad")], [(2, "bad"), (2, "bad"), (2, "bad")], OLD, [(2, "bad")]),
    ],
)
def test_only_what_was_not_there_is_new(before, after, new, found):
    assert new_ones(before, after, OLD, new) == found


lines = st.lists(st.sampled_from(["a\n", "b\n", "c\n"]), max_size=8)
findings = st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["bad", "worse"])), max_size=6)


@given(lines, lines, findings)
def test_nothing_is_new_without_findings_and_all_is_without_a_before(old, new, after):
    old, new = "".join(old), "".join(new)
    assert new_ones(after, [], old, new) == []
    assert new_ones([], after, old, new) == after
    assert new_ones(after, after, old, old) == []
