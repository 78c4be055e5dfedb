"""Accepting by a process that dies at any step: each file is all old or all new, and the journal knows which."""

import os
import shutil

import pytest
from kit import call, finish, lay, play, workspace
from redline_agent import deciding
from redline_agent.deciding import pending_proposals
from redline_agent.errors import ReviewError
from redline_agent.workspace import applying
from redline_agent.workspace.filereview import FileReview, Hunk
from redline_agent.workspace.hunks import Origin
from redline_agent.workspace.lease import lease_of, leased
from redline_agent.workspace.textfile import TextFile

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is forked to be killed")

PARTS = 8
FROM = "# moved\nx = 1\n"


def changed(text):
    return text.replace("x = 1", "x = 2")


def proposed(folder, count):
    files = {f"f{n:02}.py": f"# {n}\nx = 1\n" for n in range(count)}
    lay(folder, {**files, "gone.py": "old\n", "from.py": FROM})
    edits = [call("edit", path=path, old="x = 1", new="x = 2") for path in (*files, "from.py")]
    more = [call("write", path="made.py", content="new\n"), call("delete", path="gone.py"),
            call("move", path="from.py", to="to.py")]  # fmt: skip
    run, _, _ = play(folder, [{"calls": [c for one in (*edits, *more) for c in one["calls"]]}, finish()])
    return run.proposal, files


def killed(folder, step):
    """Accept everything in another process, which dies at a step (a write, a move into place, an entry in the journal);
    returns whether it got so far.
    """
    child = os.fork()
    if child == 0:
        left = [step]

        def counted(function):
            def wrapped(*args, **kwargs):
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)
                return function(*args, **kwargs)

            return wrapped

        ws = workspace(folder)
        (proposal,) = pending_proposals(ws)
        applying._fill = counted(applying._fill)
        applying._put = counted(applying._put)
        applying.os.replace = counted(os.replace)
        ws.journal.append = counted(ws.journal.append)
        try:
            deciding.accept(ws, proposal, [item.id for item in proposal.items])
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def check(folder, files):
    """After a restart: each file all old or all new, the states say which, nothing lies about, and it can go on."""
    ws = workspace(folder)
    found = pending_proposals(ws)
    states = {item.path: item.state for proposal in found for item in proposal.items}
    moved = next((op.state for proposal in found for op in proposal.operations if op.kind == "rename"), "accepted")
    names = ("from.py", "to.py")
    inside = next((hunk.state for proposal in found for hunk in proposal.hunks if hunk.path in names), "accepted")
    there = folder / ("from.py" if (folder / "from.py").exists() else "to.py")
    assert (there.name == "to.py") == (moved == "accepted")
    assert there.read_text() == (changed(FROM) if inside == "accepted" else FROM), (moved, inside)
    for path, old in files.items():
        now = (folder / path).read_text()
        assert now in (old, changed(old))
        if found:
            assert states[path] == ("accepted" if now != old else "pending"), path
    if found:
        made, gone = (folder / "made.py").exists(), not (folder / "gone.py").exists()
        assert not made or (folder / "made.py").read_text() == "new\n"
        assert gone or (folder / "gone.py").read_text() == "old\n"
        assert (states["made.py"], states["gone.py"]) == tuple(
            "accepted" if done else "pending" for done in (made, gone)
        )
    assert not list(folder.rglob(".redline-*"))
    assert not ((folder / "from.py").exists() and (folder / "to.py").exists())
    again = {item.path: item.state for proposal in pending_proposals(workspace(folder)) for item in proposal.items}
    assert again == states
    for proposal in found:
        deciding.accept(ws, proposal, [item.id for item in proposal.items if item.state == "pending"])
    assert all((folder / path).read_text() == changed(old) for path, old in files.items())
    assert (folder / "to.py").read_text() == changed(FROM)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_killed_at_every_step_of_an_accept(tmp_path, count):
    step, went_on = 0, True
    while went_on:
        folder = tmp_path / str(step) / "ws"
        folder.mkdir(parents=True)
        _, files = proposed(folder, count)
        went_on = killed(folder, step)
        check(folder, files)
        step += 1
    assert step > 3 * count


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_every_step_of_an_accept_of_fifty_files(tmp_path, part):
    (tmp_path / "first/ws").mkdir(parents=True)
    _, files = proposed(tmp_path / "first/ws", 50)
    for step in range(part, 1_000, PARTS):
        folder = shutil.copytree(tmp_path / "first", tmp_path / str(step)) / "ws"  # with its journal
        went_on = killed(folder, step)
        check(folder, files)
        if not went_on:
            assert step > 150
            return


def test_what_another_process_decided_is_not_done_twice(folder):
    proposal, files = proposed(folder, 2)
    child = os.fork()
    if child == 0:
        theirs = workspace(folder)
        (other,) = pending_proposals(theirs)
        deciding.accept(theirs, other, ["h1"])
        deciding.reject(theirs, other, ["h2"])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    deciding.accept(workspace(folder), proposal, ["h1", "h2"])
    assert {h.id: h.state for h in proposal.hunks[:2]} == {"h1": "accepted", "h2": "rejected"}
    assert (folder / "f00.py").read_text() == changed(files["f00.py"])
    assert (folder / "f01.py").read_text() == files["f01.py"]


def test_one_decides_at_a_time(folder, monkeypatch):
    proposal, files = proposed(folder, 1)
    ws = workspace(folder)
    monkeypatch.setattr("redline_agent.session.leased", lambda path: leased(path, 0.05))
    with leased(lease_of(ws.journal.path)), pytest.raises(ReviewError, match="Another editor or terminal"):
        deciding.accept(ws, proposal, ["h1"])
    assert (folder / "f00.py").read_text() == files["f00.py"]
    deciding.accept(ws, proposal, ["h1"])
    assert (folder / "f00.py").read_text() == changed(files["f00.py"])


def test_a_refresh_in_mid_accept_ends_nothing_that_still_waits(folder):
    proposal, _ = proposed(folder, 2)
    ws = workspace(folder)
    (mine,) = pending_proposals(ws)
    ws.accepting(mine, ["h1", "h2"])
    mine.hunks[0].state = "accepted"
    ws.ended(mine, ("accepted",))
    assert set(mine.tokens) == {"h2"}
    mine.hunks[1].state = "accepted"
    ws.ended(mine)
    assert {hunk.state for hunk in pending_proposals(workspace(folder))[0].hunks[:2]} <= {
        "accepted",
        "undone",
        "conflicted",
    }


def test_what_this_process_decided_is_not_taken_for_anothers(folder):
    proposal, _ = proposed(folder, 1)
    ws = workspace(folder)
    deciding.accept(ws, proposal, ["h1"])
    proposal.hunks[0].state = "conflicted"  # undone in the editor and typed over
    assert ws.decided_elsewhere(proposal) == []


def test_an_undo_after_a_hunk_was_replaced_keeps_the_others_in_place():
    text = "".join(f"l{n}\n" for n in range(8))
    by = Origin(1, "c", "edit", "because")
    top = Hunk("h1", "a", 0, 0, (), ("new\n", "new2\n"), "r", by)
    low = Hunk("h2", "a", 5, 6, ("l5\n",), ("L5\n",), "r", by)
    review = FileReview("a", TextFile(text), [top, low])
    assert review.follow(review.sending(["h1"]))
    review.hunks.append(Hunk("h3", "a", 9, 10, ("l7\n",), ("L7\n",), "r", by))
    review.follow(text)
    assert (low.start, low.end, low.state) == (5, 6, "pending")
    assert review.result(["h2"]) == text.replace("l5", "L5")
