"""Moves, deletions and creations: what is proposed, and what happens when the user's files moved on meanwhile."""

import pytest
from kit import call, disk, finish, lay, play, workspace
from redline_agent.deciding import accept, bulk
from redline_agent.errors import StaleFile, WorkspaceError

FILES = {"a.py": "A\n", "b.py": "B\n", "c.py": "C\n"}


def move(path, to):
    return {"tool": "move", "args": {"path": path, "to": to}}


def write(path, content):
    return {"tool": "write", "args": {"path": path, "content": content}}


def delete(path):
    return {"tool": "delete", "args": {"path": path}}


def edit(path, old, new):
    return {"tool": "edit", "args": {"path": path, "old": old, "new": new}}


@pytest.mark.parametrize(
    ("calls", "after"),
    [
        (
            [move("a.py", "x.py"), write("a.py", "shim\n")],
            {"a.py": "shim\n", "b.py": "B\n", "c.py": "C\n", "x.py": "A\n"},
        ),
        ([delete("b.py"), move("a.py", "b.py")], {"b.py": "A\n", "c.py": "C\n"}),
        ([move("a.py", "x.py"), move("c.py", "a.py")], {"a.py": "C\n", "b.py": "B\n", "x.py": "A\n"}),
        ([move("a.py", "x.py"), move("x.py", "y.py")], {"b.py": "B\n", "c.py": "C\n", "y.py": "A\n"}),
        ([move("a.py", "x.py"), edit("x.py", "A", "AA")], {"b.py": "B\n", "c.py": "C\n", "x.py": "AA\n"}),
        ([edit("a.py", "A", "AA"), move("a.py", "x.py")], {"b.py": "B\n", "c.py": "C\n", "x.py": "AA\n"}),
        ([move("a.py", "x.py"), delete("x.py")], {"b.py": "B\n", "c.py": "C\n"}),
        ([write("n.py", "N\n"), move("n.py", "m.py")], {**FILES, "m.py": "N\n"}),
        ([write("n.py", "N\n"), delete("n.py")], FILES),
        ([delete("a.py"), write("a.py", "A\n")], FILES),
        ([move("a.py", "x.py"), move("x.py", "a.py")], FILES),
    ],
)
def test_accepting_everything_gives_what_the_overlay_had(folder, calls, after):
    lay(folder, FILES)
    (folder / "a.py").chmod(0o755)
    run, _, _ = play(folder, [{"calls": calls}, finish()])
    assert disk(folder) == FILES
    if run.proposal:
        accept(workspace(folder), run.proposal, [item.id for item in run.proposal.items])
        assert {item.state for item in run.proposal.items} == {"accepted"}
    assert disk(folder) == after
    if calls == [delete("b.py"), move("a.py", "b.py")]:
        assert (folder / "b.py").stat().st_mode & 0o777 == 0o755
    if (
        "x.py" in after
        and calls[0] == move("a.py", "x.py")
        and len(calls) == 2
        and "tool" in calls[1]
        and calls[1]["tool"] == "edit"
    ):
        assert (folder / "x.py").stat().st_mode & 0o777 == 0o755


def test_what_the_user_wrote_into_a_file_to_be_deleted_stays(folder):
    lay(folder, FILES)
    run, _, _ = play(folder, [{"calls": [delete("a.py")]}, finish()])
    (folder / "a.py").write_text("A\nmine\n")
    with pytest.raises(StaleFile):
        accept(workspace(folder), run.proposal, bulk(run.proposal))
    assert (folder / "a.py").read_text() == "A\nmine\n"


def test_a_file_that_the_user_made_meanwhile_is_not_written_over_and_nothing_else_happens(folder):
    lay(folder, FILES)
    calls = [move("a.py", "x.py"), write("n.py", "N\n"), edit("b.py", "B", "BB")]
    run, _, _ = play(folder, [{"calls": calls}, finish()])
    for name in ("x.py", "n.py"):
        (folder / name).write_text("mine\n")
        with pytest.raises(WorkspaceError):
            accept(workspace(folder), run.proposal, bulk(run.proposal))
        assert disk(folder) == {**FILES, name: "mine\n"}
        (folder / name).unlink()


def test_a_rename_accepted_alone_takes_its_hunks_along_in_the_journal(folder):
    lay(folder, FILES)
    run, _, _ = play(folder, [{"calls": [edit("a.py", "A", "AA"), move("a.py", "x.py")]}, finish()])
    ws = workspace(folder)
    accept(ws, run.proposal, [op.id for op in run.proposal.operations])
    assert disk(folder) == {"b.py": "B\n", "c.py": "C\n", "x.py": "A\n"}
    (again,) = ws.proposals()
    assert list(again.files) == ["x.py"]
    accept(ws, again, [hunk.id for hunk in again.hunks])
    assert disk(folder)["x.py"] == "AA\n"


@pytest.mark.parametrize(
    "raw",
    [
        '{"path": "\\udcff"}',
        "[" * 100_000,
        '{"path": "a.py", "old": "A", "new": "x", "reason": "\\ud800"}',
        '{"summary": "\\ud800"}',
    ],
)
def test_nothing_that_a_model_writes_breaks_the_loop(folder, raw):
    lay(folder, FILES)
    tool = "finish" if "summary" in raw else "edit" if "old" in raw else "read"
    run, events, _ = play(folder, [{"calls": [{"tool": tool, "raw": raw}]}, finish()])
    assert run.state in ("answered", "proposed")
    assert events[-1].type == "outcome"


def test_a_mistake_of_our_own_still_ends_the_run_in_the_journal(folder, monkeypatch):
    lay(folder, FILES)
    from redline_agent.tools.read import Read

    async def broken(*_):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(Read, "run", broken)
    run, events, _ = play(folder, [call("read", path="a.py"), finish()])
    assert (run.state, events[-1].type) == ("failed", "outcome")
    assert "ZeroDivisionError: oops" in run.answer


def test_a_gitignore_that_never_ends_is_not_read(folder):
    lay(folder, FILES)
    (folder / ".gitignore").symlink_to("/dev/zero")
    _, events, _ = play(folder, [call("list"), finish()])
    assert "a.py" in next(e.result.text for e in events if e.type == "tool_result")


def test_a_renamed_file_is_accepted_hunk_by_hunk(folder):
    lay(folder, FILES)
    run, _, _ = play(folder, [{"calls": [edit("a.py", "A", "AA"), move("a.py", "x.py")]}, finish()])
    ws = workspace(folder)
    accept(ws, run.proposal, [hunk.id for hunk in run.proposal.hunks])
    accept(ws, run.proposal, [op.id for op in run.proposal.operations])
    assert disk(folder) == {"b.py": "B\n", "c.py": "C\n", "x.py": "AA\n"}


def test_a_badge_goes_with_the_new_name(folder):
    lay(folder, FILES)
    run, _, _ = play(folder, [{"calls": [edit("a.py", "A", "AA"), move("a.py", "conftest.py")]}, finish()])
    assert all(item.badge for item in run.proposal.items)


def test_an_undone_decision_comes_back_from_the_journal(folder):
    lay(folder, {"a.py": "one\nx\ny\ntwo\n"})
    run, _, _ = play(folder, [{"calls": [edit("a.py", "one", "1"), edit("a.py", "two", "2")]}, finish()])
    ws = workspace(folder)
    ws.decided(run.id, run.session, "accepted", ["h1"])
    ws.decided(run.id, run.session, "undone", ["h1"])
    (again,) = ws.proposals()
    assert {h.id: h.state for h in again.hunks} == {"h1": "undone", "h2": "pending"}
    accept(ws, again, ["h2"])
    assert disk(folder)["a.py"] == "one\nx\ny\n2\n"
