from hypothesis import given
from hypothesis import strategies as st
from redline_agent.text import split_lines
from redline_agent.workspace.hunks import Blame, changes


def text_changes(old, new):
    return changes(split_lines(old), split_lines(new))


def apply_changes(old, taken):
    """The plain meaning of a set of changes: from the last one backwards."""
    out = list(old)
    for change in sorted(taken, key=lambda c: (c.start, c.end), reverse=True):
        out[change.start : change.end] = change.new
    return out


texts = st.lists(st.sampled_from(["a\n", "b\n", "c\r\n", "d\r", "é\n", "🙂\n", "\n", " \n", "e"]), max_size=25).map(
    "".join
)


@given(texts, texts)
def test_all_hunks_give_the_new_text_and_none_the_old(old, new):
    lines = split_lines(old)
    found = text_changes(old, new)
    assert "".join(apply_changes(lines, found)) == new
    assert "".join(apply_changes(lines, [])) == old


@given(texts, texts, st.data())
def test_any_subset_leaves_the_rejected_places_byte_for_byte(old, new, data):
    lines = split_lines(old)
    found = changes(lines, split_lines(new))
    taken = [change for change in found if data.draw(st.booleans())]
    result = apply_changes(lines, taken)
    rest, at = [], 0
    for change in found:
        rest += lines[at : change.start]
        rest += change.new if change in taken else lines[change.start : change.end]
        at = change.end
    assert result == rest + lines[at:]


@given(texts, texts)
def test_hunks_are_in_order_and_apart(old, new):
    found = text_changes(old, new)
    assert all(first.end < second.start for first, second in zip(found, found[1:], strict=False))


@given(st.lists(texts, min_size=2, max_size=5))
def test_each_changed_place_knows_an_operation_that_made_it(versions):
    blame = Blame(versions[0])
    for number, text in enumerate(versions[1:]):
        blame.edit(text, number)
    for change in text_changes(versions[0], versions[-1]):
        made_by = blame.of(change.new_start, change.new_start + len(change.new))
        assert made_by
        assert set(made_by) <= set(range(len(versions) - 1))


def test_two_operations_on_far_lines_are_told_apart():
    blame = Blame("a\nb\nc\nd\ne\n")
    blame.edit("A\nb\nc\nd\ne\n", 0)
    blame.edit("A\nb\nc\nd\nE\n", 1)
    assert blame.of(0, 1) == [0]
    assert blame.of(4, 5) == [1]


@given(st.text("a\r\nb\x0b\x0c\u2028", max_size=30))
def test_lines_are_those_of_the_protocol(text):
    lines = split_lines(text)
    assert "".join(lines) == text
    assert all(not line.rstrip("\r\n") or "\n" not in line[:-2] for line in lines)
