"""Typing, cutting, accepting, rejecting, undoing and reverting in any order: the text is always the user's own with the
accepted hunks in it, byte for byte.

The model knows no diff: it is a list of lines and hunks, and does to them what the user does. Told of each step, the
review must be right though lines are there many times; told of the text alone, where each line is there once.
"""

import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from redline_agent.text import split_lines
from redline_agent.workspace.hunks import Change, Origin
from redline_agent.workspace.mapping import Step
from redline_agent.workspace.proposal import OPEN, FileReview, Hunk
from redline_agent.workspace.textfile import TextFile

ENDS = st.sampled_from(["\n", "\n", "\r\n"])
WORDS = st.sampled_from(["a", "b", ""])


class Told(RuleBasedStateMachine):
    """`items` are the user's lines (text) and the places of hunks (id, whether its new lines stand there)."""

    told = True

    @initialize(
        shape=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=5),
        last=st.integers(1, 2),
        whole=st.booleans(),
        data=st.data(),
    )
    def begin(self, shape, last, whole, data):
        self.numbers = itertools.count()
        self.old, self.new = {}, {}
        self.items, self.steps = [], []
        hunks, at = [], 0
        for plain, old, new in shape:
            self.items += [self.line(data) for _ in range(plain)]
            at += plain
            if old or new:
                ident = f"h{len(hunks) + 1}"
                alone = not old or not new  # beside lines like its own, an undo could be of either
                self.old[ident] = tuple(self.line(data, alone) for _ in range(old))
                self.new[ident] = tuple(self.line(data, alone or not n) for n in range(new))  # nobody types that
                self.items.append((ident, False))
                hunks.append(Hunk(ident, "a.txt", at, at + old, self.old[ident], self.new[ident], "why",
                                  Origin(1, "c", "edit", "why")))  # fmt: skip
                at += old
        self.items += [self.line(data) for _ in range(last)]
        if not whole:
            self.items[-1] = self.items[-1].rstrip("\r\n") or "z"
        self.review = FileReview("a.txt", TextFile(self.text()), hunks)
        self.rejected, self.harmed, self.back, self.known, self.past = set(), set(), set(), set(), []

    def line(self, data, unique=False):
        word = (
            data.draw(WORDS) if self.told and not unique and not getattr(self, "harmed", None) else next(self.numbers)
        )
        return f"{word}{data.draw(ENDS)}"

    def lines_of(self, item, places=()):
        if isinstance(item, str):
            return (item,)
        ident, there = item
        return (self.new if dict(places).get(ident, there) else self.old)[ident]

    def text(self, places=()):
        """The text, with some hunks' new (or old) lines in place of what stands there."""
        return "".join(line for item in self.items for line in self.lines_of(item, places))

    def offset(self, index):
        return sum(len(self.lines_of(item)) for item in self.items[:index])

    def here(self, there):
        return [item[0] for item in self.items if not isinstance(item, str) and item[1] == there]

    def states(self):
        return {hunk.id: hunk.state for hunk in self.review.hunks}

    def open(self):
        """Hunks that can be accepted: what the user has typed over once may stay conflicted though it is whole again."""
        states = self.states()
        return [ident for ident in self.here(there=False) if ident not in self.rejected
                and (ident not in self.harmed or states[ident] in OPEN)]  # fmt: skip

    def took(self):
        hunks = {hunk.id: hunk for hunk in self.review.hunks}
        return [ident for ident in self.here(there=True) if ident not in self.rejected
                and (ident not in self.harmed or (hunks[ident].state == "accepted" and hunks[ident].adrift is None))]  # fmt: skip

    # ---- what the user types

    def splice(self, first, last, new):
        """Replace the items [first, last): a hunk among them is the user's from then on, at their edge it is not."""
        start, end = self.offset(first), self.offset(last)
        item = self.items[first] if first < len(self.items) else ""
        if last == first + 1 and not new and not isinstance(item, str) and item[1] and not self.old[item[0]]:
            self.swap([item[0]], there=False)  # that is an undo by hand
            return
        self.harmed |= {item[0] for item in self.items[first:last] if not isinstance(item, str)}
        self.step(start, end, [line for item in new for line in self.lines_of(item)])
        self.items[first:last] = new

    def step(self, start, end, lines):
        self.steps.append((start, split_lines(self.text())[start:end], list(lines)))

    def typed(self, data, kinds=("insert", "insert", "change", "delete", "inside", "cut")):
        kind = data.draw(st.sampled_from(kinds))
        last = len(self.items) - 1
        at = data.draw(st.integers(0, max(0, last - 1)))
        item = self.items[at]
        if kind == "insert":
            while at and not self.lines_of(self.items[at - 1]):  # before what has no lines of its own
                at -= 1
            if self.told or all(self.lines_of(each) for each in self.items[max(0, at - 1) : at + 1]):
                near = any(not self.lines_of(each) for each in self.items[at : at + 1])  # no undo by hand
                self.splice(at, at, [self.line(data, unique=near)])
        elif kind == "change" and isinstance(item, str):
            self.splice(at, at + 1, [self.line(data)])
        elif kind == "delete" and isinstance(item, str) and last > 0:
            self.splice(at, at + 1, [])
        elif kind == "inside" and not isinstance(item, str) and self.lines_of(item):
            lines = list(self.lines_of(item))
            lines[data.draw(st.integers(0, len(lines) - 1))] = self.line(data, unique=True)
            self.splice(at, at + 1, lines)
        elif kind == "cut":
            end = data.draw(st.integers(at, last))
            if self.lines_of(self.items[at]) and all(self.lines_of(each) for each in self.items[at:end][-1:]):
                self.splice(at, end, [])

    def remember(self):
        self.past.append(list(self.items))
        self.steps = []

    def follow(self):
        steps = [
            Step((Change(start, start + len(old), tuple(new), start),), exact=True) for start, old, new in self.steps
        ]
        self.review.follow(self.text(), steps if self.told else ())
        if not self.told:  # what stands without lines between lines that have all changed is not to be seen
            lost = {hunk.id for hunk in self.review.hunks if hunk.adrift is not None}
            self.harmed |= {item[0] for item in self.items if item[0] in lost and not self.lines_of(item)}

    @rule(data=st.data(), count=st.integers(1, 3))
    def types(self, data, count):
        self.remember()
        harmed = set(self.harmed)
        for _ in range(count):
            self.typed(data)
        self.past[-1] = (self.past[-1], self.steps)
        if self.text() == self.review.file.text:  # nothing was to be seen of it
            (self.items, _), self.harmed = self.past.pop(), harmed
        else:
            self.follow()

    # ---- what the user decides

    def swap(self, taken, there):
        """The editor makes one edit a hunk, the last one first."""
        for at in reversed(range(len(self.items))):
            item = self.items[at]
            if not isinstance(item, str) and item[0] in taken:
                start = self.offset(at)
                self.step(start, start + len(self.lines_of(item)), self.lines_of((item[0], there)))
                self.items[at] = (item[0], there)

    @precondition(lambda self: self.open())
    @rule(data=st.data(), also=st.booleans(), together=st.booleans())
    def accepts(self, data, also, together):
        """Accept some; the user may type on before the echo is looked at."""
        taken = data.draw(st.lists(st.sampled_from(self.open()), min_size=1, unique=True))
        self.remember()
        expected = self.review.sending(taken)
        self.swap(taken, there=True)
        assert expected == self.text()
        together = together and self.told
        if also and together:
            self.typed(data, ("insert", "change", "delete"))
        self.past[-1] = (self.past[-1], self.steps)
        self.follow()
        if also and not together:
            self.types(data, 1)

    @precondition(lambda self: self.open())
    @rule(data=st.data())
    def is_told_no(self, data):
        """The editor did not apply it: all is as before."""
        before = self.states()
        taken = data.draw(st.lists(st.sampled_from(self.open()), min_size=1, unique=True))
        self.review.sending(taken)
        self.review.not_applied(taken)
        assert self.states() == before

    @precondition(lambda self: self.open())
    @rule(data=st.data())
    def is_told_no_and_it_comes_after_all(self, data):
        taken = data.draw(st.lists(st.sampled_from(self.open()), min_size=1, unique=True))
        self.remember()
        self.review.sending(taken)
        self.review.not_applied(taken)
        self.swap(taken, there=True)
        self.past[-1] = (self.past[-1], self.steps)
        self.follow()

    @precondition(lambda self: self.open())
    @rule(data=st.data())
    def rejects(self, data):
        ident = data.draw(st.sampled_from(self.open()))
        next(hunk for hunk in self.review.hunks if hunk.id == ident).state = "rejected"
        self.rejected.add(ident)

    @precondition(lambda self: self.past)
    @rule()
    def undoes(self):
        """The editor's own undo, of typing or of an accept."""
        self.items, done = self.past.pop()
        self.steps = [(start, new, old) for start, old, new in reversed(done)]
        self.follow()
        self.settle([line for _, _, new in self.steps for line in new])

    def settle(self, restored):
        """Lines that come back just where a hunk has none may come before it or after it: both are right."""
        self.back |= set(restored)
        for hunk in self.review.hunks:
            at = next(
                (at for at, item in enumerate(self.items) if item[0] == hunk.id and not isinstance(item, str)), -1
            )
            if at < 0 or self.lines_of(self.items[at]):
                continue
            item = self.items.pop(at)
            low = high = at
            while low and list(self.lines_of(self.items[low - 1])[-1:]) in ([], *([r] for r in self.back)):
                low -= 1
            while high < len(self.items) and list(self.lines_of(self.items[high])[:1]) in (
                [],
                *([r] for r in self.back),
            ):
                high += 1
            places = [each for each in range(low, high + 1) if self.offset(each) == hunk.start]
            self.items.insert(min(places, key=lambda each: abs(each - at)) if places else at, item)

    @precondition(lambda self: self.took())
    @rule(data=st.data())
    def reverts(self, data):
        taken = data.draw(st.lists(st.sampled_from(self.took()), min_size=1, unique=True))
        self.remember()
        expected = self.review.reverting(taken)
        self.swap(taken, there=False)
        assert expected == self.text()
        self.past[-1] = (self.past[-1], self.steps)
        self.follow()

    # ---- what always holds

    @invariant()
    def the_text_is_the_users_with_what_was_accepted(self):
        if not hasattr(self, "review"):
            return
        states = self.states()
        assert self.review.file.text == self.text()
        assert {ident: states[ident] for ident in self.open() if states[ident] not in OPEN} == {}
        assert {ident: states[ident] for ident in self.took() if states[ident] != "accepted"} == {}
        assert self.review.result(self.open()) == self.text(dict.fromkeys(self.open(), True))
        assert self.review.without(self.took()) == self.text(dict.fromkeys(self.took(), False))
        gone = self.old.keys() - self.rejected - {item[0] for item in self.items if not isinstance(item, str)}
        if self.review.recognises(
            self.text()
        ):  # the user has brought a text about in which an accept, or its undo, is known
            self.known |= gone
        if not self.told:  # of inserted lines that are no more nobody sees how they went
            self.known |= {ident for ident in gone if not self.old[ident]}
        assert {ident: states[ident] for ident in gone - self.known if states[ident] in OPEN} == {}


class Seen(Told):
    """The same with the text alone: from the disk, or an editor that sends it whole."""

    told = False


TestTold = Told.TestCase
TestSeen = Seen.TestCase
TestTold.settings = TestSeen.settings = settings(stateful_step_count=20)
