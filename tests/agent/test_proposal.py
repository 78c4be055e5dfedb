import json

from hypothesis import given
from hypothesis import strategies as st
from redline_agent.text import split_lines
from redline_agent.workspace.filereview import FileReview, Hunk
from redline_agent.workspace.hunks import Origin, changes
from redline_agent.workspace.proposal import ProofItem, Proposal
from redline_agent.workspace.stored import dump, load
from redline_agent.workspace.textfile import TextFile

ORIGIN = Origin(1, "c", "edit", "why")
OLD = "".join(f"line {n}\n" for n in range(12))
NEW = OLD.replace("line 2\n", "LINE 2\n").replace("line 8\n", "LINE 8\nmore\n")


def review_of(old, new):
    lines = split_lines(old)
    hunks = [
        Hunk(f"h{i}", "a.txt", c.start, c.end, tuple(lines[c.start : c.end]), c.new, "why", ORIGIN)
        for i, c in enumerate(changes(split_lines(old), split_lines(new)), 1)
    ]
    return FileReview("a.txt", TextFile(old), hunks)


def states(review):
    return {hunk.id: hunk.state for hunk in review.hunks}


def test_hunks_move_with_what_the_user_types_elsewhere():
    review = review_of(OLD, NEW)
    review.follow("typed\n" + OLD)
    assert [(h.start, h.end, h.state) for h in review.hunks] == [(3, 4, "pending"), (9, 10, "pending")]
    assert review.result(["h1", "h2"]) == "typed\n" + NEW


def test_typing_in_a_hunk_makes_it_conflicted_and_taking_it_back_makes_it_pending():
    review = review_of(OLD, NEW)
    review.follow(OLD.replace("line 2\n", "line two\n"))
    assert states(review) == {"h1": "conflicted", "h2": "pending"}
    review.follow(OLD)
    assert states(review) == {"h1": "pending", "h2": "pending"}


def test_accept_is_known_by_its_echo_and_undo_by_the_old_text():
    review = review_of(OLD, NEW)
    expected = review.sending(["h1"])
    assert states(review) == {"h1": "applying", "h2": "pending"}
    review.follow(expected)
    assert states(review) == {"h1": "accepted", "h2": "pending"}
    review.follow(OLD)
    assert states(review) == {"h1": "undone", "h2": "pending"}
    review.follow(expected)
    assert states(review) == {"h1": "accepted", "h2": "pending"}


def test_accept_survives_typing_in_another_place_before_the_echo():
    review = review_of(OLD, NEW)
    review.sending(["h1"])
    review.follow("top\n" + OLD.replace("line 2\n", "LINE 2\n"))
    assert states(review) == {"h1": "accepted", "h2": "pending"}
    assert review.result(["h2"]) == "top\n" + NEW


def test_an_accept_that_was_not_applied_is_pending_again():
    review = review_of(OLD, NEW)
    review.sending(["h1"])
    review.not_applied(["h1"])
    assert states(review) == {"h1": "pending", "h2": "pending"}


def test_reverting_an_accepted_deletion_brings_the_lines_back():
    review = review_of("a\nb\nc\n", "a\nc\n")
    review.follow(review.sending(["h1"]))
    assert (review.file.text, states(review)) == ("a\nc\n", {"h1": "accepted"})
    review.follow(review.reverting(["h1"]))
    assert (review.file.text, states(review)) == ("a\nb\nc\n", {"h1": "undone"})


lines = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\n", "\n"]), max_size=14)


@given(lines, lines, lines)
def test_user_text_is_never_lost(old, new, typed):
    """Whatever the user makes of the text, accepting what is still pending changes nothing but those hunks' own lines."""
    old, new, typed = "".join(old), "".join(new), "".join(typed)
    review = review_of(old, new)
    review.follow(typed)
    now = split_lines(typed)
    pending = [h for h in review.hunks if h.state == "pending"]
    for hunk in pending:
        assert tuple(now[hunk.start : hunk.end]) == hunk.old
    ordered = sorted(pending, key=lambda h: (h.start, h.end))
    assert all(a.end <= b.start for a, b in zip(ordered, ordered[1:], strict=False))
    result = split_lines(review.result([h.id for h in pending]))
    kept = len(now) - sum(h.end - h.start for h in pending)
    assert len(result) == kept + sum(len(h.new) for h in pending)


@given(lines, lines, st.data())
def test_accepting_one_by_one_in_any_order_gives_the_whole(old, new, data):
    old, new = "".join(old), "".join(new)
    review = review_of(old, new)
    for ident in data.draw(st.permutations([h.id for h in review.hunks])):
        review.follow(review.sending([ident]))
        assert states(review)[ident] == "accepted"
    assert review.file.text == new


def test_a_proposal_survives_the_journal():
    review = review_of(OLD, NEW)
    proof = [ProofItem("parses", "current", True, "fine", "a.txt")]
    proposal = Proposal("run-1", "session-1", "do it", {"a.txt": review}, [], proof, ["note"])
    again = load(json.loads(json.dumps(dump(proposal))))
    assert dump(again) == dump(proposal)
    assert again.files["a.txt"].result(["h1", "h2"]) == NEW


def test_a_line_is_never_glued_to_another_at_the_end_of_the_file():
    review = review_of("a\n", "a\nb\n")
    review.follow("a")
    assert states(review) == {"h1": "conflicted"}
    review = review_of("z\n", "z2")
    review.follow("z\nuser\n")
    assert states(review) == {"h1": "conflicted"}


def test_an_insertion_is_found_when_its_echo_comes_with_other_typing():
    review = review_of("a\nb\n", "a\nI\nb\n")
    review.sending(["h1"])
    review.follow("top\na\nI\nb!\n")
    assert states(review) == {"h1": "accepted"}


def test_hunks_that_came_to_lie_on_each_other_are_not_both_pending():
    review = review_of("a\nc\na\nc\nb\n", "A\nc\nA\nc\nb\n")
    review.follow("a\na\nb\n")
    pending = sorted((h.start, h.end) for h in review.hunks if h.state == "pending")
    assert all(first[1] <= second[0] for first, second in zip(pending, pending[1:], strict=False))


@given(lines, lines, lines, st.data())
def test_what_is_sent_is_what_is_shown(old, new, typed, data):
    review = review_of("".join(old), "".join(new))
    review.follow("".join(typed))
    taken = [h.id for h in review.hunks if h.state == "pending" and data.draw(st.booleans())]
    assert review.result(taken) == review.sending(taken)
    assert all(h.start >= 0 and h.end >= h.start for h in review.hunks)


mixed = st.lists(st.sampled_from(["a\n", "b\n", "c\r\n", "é\n", "🙂\r\n", "\n", "d"]), max_size=14).map("".join)


@given(mixed, mixed, st.data())
def test_any_subset_of_hunks_composes_byte_for_byte(old, new, data):
    """Taken hunks give the new bytes, the others leave the old ones, whatever the line ends."""
    review = review_of(old, new)
    taken = {h.id for h in review.hunks if data.draw(st.booleans())}
    before, out, at = split_lines(old), [], 0
    for hunk in review.hunks:
        out += before[at : hunk.start]
        out += hunk.new if hunk.id in taken else before[hunk.start : hunk.end]
        at = hunk.end
    assert review.result(taken) == "".join(out + before[at:])
    assert review.result([h.id for h in review.hunks]) == new
    assert review.result([]) == old


def test_a_checkout_with_other_line_ends_is_the_same_text():
    review = review_of(OLD, NEW)
    review.follow(("typed\n" + OLD).replace("\n", "\r\n"))
    assert states(review) == {"h1": "pending", "h2": "pending"}
    assert review.result(["h1", "h2"]) == ("typed\n" + NEW).replace("\n", "\r\n")
