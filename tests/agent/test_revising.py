"""A revision merged back: what the agent made of the whole is what is proposed; what was decided meanwhile stays so."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import call, carry_out, disk, finish, lay, permit, workspace
from redline_agent.config import Config
from redline_agent.context.gather import Task
from redline_agent.deciding import accept, refresh, reject
from redline_agent.limits import Limits
from redline_agent.models.scripted import ScriptedModel
from redline_agent.safety.keeper import Keeper
from redline_agent.workspace.hunks import Origin
from redline_agent.workspace.kept import Watcher, restore
from redline_agent.workspace.overlay import Overlay
from redline_agent.workspace.proposing import propose
from redline_agent.workspace.revising import Revision, merge

BY = Origin(1, "c", "edit", "why")


def edit(path, old, new):
    return call("edit", path=path, old=old, new=new)


def calls(*replies):
    return {"calls": [each for reply in replies for each in reply["calls"]]}


class Revised:
    """A first run's proposal, and a revision of one of its items, with something done to the proposal meanwhile."""

    def __init__(self, folder, files, first, *second, item, meanwhile=lambda ws, proposal: None):
        self.ws = workspace(lay(folder, files))
        run, _ = asyncio.run(carry_out(self.ws, ScriptedModel([first, finish()]), "do it"))
        self.proposal = run.proposal
        self.before = self.items()
        revision = Revision(self.proposal, next(i for what, i in self.before.items() if item in what), "differently")
        model = ScriptedModel([*second, finish()])
        config = Config(limits=Limits(), validate="never")
        self.run = self.ws.new_run(Task("differently", about=revision.about), model, config, run.session, revision)
        asyncio.run(self.carry_out(model, meanwhile))
        for review in self.proposal.files.values():
            refresh(self.ws, review)
        self.merged = self.ws.revised(self.run)

    async def carry_out(self, model, meanwhile):
        async for event in self.ws.carry_out(self.run, model):
            if event.type == "turn_started" and event.turn == 1:
                meanwhile(self.ws, self.proposal)

    def items(self, proposal=None):
        return {
            (f"{item.path}: {''.join(item.new).strip()}" if hasattr(item, "new") else item.told): item.id
            for item in (proposal or self.proposal).items
        }

    def states(self):
        return {item.id: item.state for item in self.proposal.items}

    def accept_all(self):
        accept(self.ws, self.proposal, [i.id for i in self.proposal.items if i.state == "pending"])


def test_a_change_that_is_moved_elsewhere_is_another_one(folder):
    files = {"a.py": "def bar():\n    pass\n\n\n# x\n# y\n\n\ndef baz():\n    pass\n"}
    back = call("edit", path="a.py", old="@cache\ndef bar", new="def bar")
    done = Revised(folder, files, edit("a.py", "def bar", "@cache\ndef bar"),
                   calls(back, edit("a.py", "def baz", "@cache\ndef baz")), item="@cache")  # fmt: skip
    assert done.items() == {"a.py: @cache": "h1r1"}
    done.accept_all()
    assert disk(folder)["a.py"] == files["a.py"].replace("def baz", "@cache\ndef baz")


def test_what_was_accepted_meanwhile_is_not_applied_twice(folder):
    first = calls(edit("a.py", "A = 1", "A = 2"), edit("a.py", "B = 1\n", "B = 1\nC = 1\n"))
    second = call("edit", path="a.py", old="A = 2\nB = 1\n", new="A = 3\nB = 3\n")
    done = Revised(folder, {"a.py": "A = 1\nB = 1\n"}, first, second, item="A = 2",
                   meanwhile=lambda ws, proposal: accept(ws, proposal, ["h2"]))  # fmt: skip
    done.accept_all()
    assert disk(folder)["a.py"] == "A = 3\nB = 3\nC = 1\n"


REST = calls(
    edit("a.py", "A = 1", "A = 2"), edit("b.py", "B = 1", "B = 2"), call("write", path="c.py", content="C = 1\n")
)
FILES = {"a.py": "A = 1\n", "b.py": "B = 1\n"}


@pytest.mark.parametrize(("how", "kept"), [(accept, "accepted"), (reject, "rejected")])
def test_when_it_was_decided_on_meanwhile_only_what_differs_is_proposed_anew(folder, how, kept):
    done = Revised(folder, FILES, REST, edit("a.py", "A = 2", "A = 3"), item="A = 2",
                   meanwhile=lambda ws, proposal: how(ws, proposal, [proposal.hunks[0].id]))  # fmt: skip
    assert not done.merged
    assert done.states()[done.before["a.py: A = 2"]] == kept
    assert list(done.items(done.run.proposal)) == ["a.py: A = 3"]
    assert list(done.ws.every_proposal(done.run.id)[done.run.id].hunks[0].new) == ["A = 3\n"]


def test_a_change_of_a_new_file_that_was_accepted_meanwhile_is_a_hunk_of_it(folder):
    second = calls(edit("a.py", "A = 2", "A = 3"), edit("c.py", "C = 1", "C = 2"))
    done = Revised(folder, FILES, REST, second, item="A = 2",
                   meanwhile=lambda ws, proposal: accept(ws, proposal, [proposal.operations[0].id]))  # fmt: skip
    done.accept_all()
    assert disk(folder) == {"a.py": "A = 3\n", "b.py": "B = 2\n", "c.py": "C = 2\n"}


def test_a_file_that_cannot_be_read_any_more_holds_no_other_up(folder):
    ws = workspace(lay(folder, FILES))
    run, _ = asyncio.run(carry_out(ws, ScriptedModel([REST, finish()]), "do it"))
    (folder / "b.py").write_bytes(b"\0\1\2")
    revision = Revision(run.proposal, run.proposal.hunks[0].id, "differently")
    overlay = Overlay(ws.resolver)
    assert revision.lay(overlay, Keeper(ws.rules, folder)) == ("a.py", (1, 1))
    assert revision.laid == {run.proposal.hunks[0].id, run.proposal.operations[0].id}


LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\n"]), min_size=1, max_size=8)


@given(LINES, LINES, LINES, st.randoms(use_true_random=False))
def test_what_the_agent_made_of_the_whole_is_what_all_that_is_pending_gives(tmp_path_factory, old, new, then, chance):
    """Whatever is accepted meanwhile, in whichever order."""
    if old == new:
        return
    folder = tmp_path_factory.mktemp("ws")
    ws = workspace(lay(folder, {"a.txt": "".join(old)}))
    proposal = written(ws, "r1", "".join(new))
    revision = Revision(proposal, chance.choice(proposal.hunks).id, "x")
    overlay = Overlay(ws.resolver)
    revision.lay(overlay, Keeper(ws.rules, folder))
    assert overlay.read("a.txt").file.text == "".join(new)
    taken = [h.id for h in proposal.hunks if h.id != revision.item and chance.random() < 0.4]
    if taken:
        accept(ws, proposal, taken)
    overlay.write("a.txt", "".join(then), BY, permit("write", "a.txt", "".join(then)), region=True)
    made = propose(overlay, run="r2", session="s", instruction="x", rules=ws.rules, proof=[], notes=[])
    merge(revision, made)
    states = {hunk.state for hunk in proposal.hunks}
    pending = [hunk.id for hunk in proposal.hunks if hunk.state == "pending"]
    if states <= {"pending", "accepted"}:  # else the user took what the agent meanwhile changed: shown, never guessed
        assert proposal.files["a.txt"].result(pending) == "".join(then)
    elif not taken:
        pytest.fail(f"conflicts out of nothing: {states}")


def written(ws, run, text):
    overlay = Overlay(ws.resolver)
    overlay.write("a.txt", text, BY, permit("write", "a.txt", text))
    return propose(overlay, run=run, session="s", instruction="x", rules=ws.rules, proof=[], notes=[])


def test_edits_of_a_file_that_the_user_renamed_are_found_again_after_a_cut(folder):
    ws = workspace(lay(folder, {"pkg/a.py": "A = 1\n"}))
    overlay, texts, deltas = Overlay(ws.resolver), {}, []
    watcher = Watcher(overlay)

    def wrote(path, text):
        overlay.write(path, text, BY, permit("write", path, text))

    wrote("pkg/a.py", "A = 2\n")
    wrote("pkg/new.py", "N = 1\n")
    deltas.append(watcher.changes(texts.__setitem__))
    (folder / "pkg").rename(folder / "lib")
    overlay.moved_below("pkg", "lib")
    wrote("lib/a.py", "A = 3\n")
    deltas.append(watcher.changes(texts.__setitem__))
    again = Overlay(ws.resolver)
    restore(again, deltas, texts.get)
    assert {path: touched.text for path, touched in again.touched.items()} == {
        "lib/a.py": "A = 3\n", "lib/new.py": "N = 1\n"
    }  # fmt: skip
