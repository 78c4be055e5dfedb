"""Runs over one folder that change the same text are told of each other; the person is told by the proposals."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

from kit import call, carry_out, finish, lay, permit, results, workspace
from redline_agent.config import Config
from redline_agent.context.gather import Task
from redline_agent.models.scripted import ScriptedModel
from redline_agent.workspace.hunks import Origin
from redline_agent.workspace.overlay import Overlay

FILES = {"a.py": "".join(f"line{n} = {n}\n" for n in range(20)), "b.py": "x = 1\n"}


def edit(n, new="changed"):
    return call("edit", path="a.py", old=f"line{n} = {n}\n", new=f"line{n} = '{new}'\n")


def play(ws, *replies):
    run, events = asyncio.run(carry_out(ws, ScriptedModel([*replies, finish()]), "do it"))
    return run, [text for _, text in results(events)]


def notes(texts):
    return [line for text in texts for line in text.splitlines() if line.startswith("Note: ")]


def test_a_run_is_told_of_a_pending_proposal_over_the_same_lines_once(folder):
    ws = workspace(lay(folder, FILES))
    first, _ = play(ws, edit(5))
    second, texts = play(ws, edit(12), edit(5, "mine"), edit(6, "more"))
    (note,) = notes(texts)
    assert note in texts[1]
    assert note.startswith(f"Note: lines 6 to 6 of a.py are also changed by {first.id}, which waits for the user's")
    third, texts = play(ws, call("write", path="b.py", content="x = 2\n"))
    assert notes(texts) == []
    assert notes([third.answer, second.answer]) == []


def test_lines_are_compared_as_the_file_is_now(folder):
    ws = workspace(lay(folder, FILES))
    first, _ = play(ws, edit(5))
    (folder / "a.py").write_text("# above\n" * 3 + FILES["a.py"])
    _, texts = play(ws, edit(2), edit(5, "mine"))
    (note,) = notes(texts)
    assert note.startswith(f"Note: lines 9 to 9 of a.py are also changed by {first.id}")


def test_what_was_decided_on_is_not_told(folder):
    ws = workspace(lay(folder, FILES))
    first, _ = play(ws, edit(5))
    ws.decided(first.id, first.session, "rejected", ["h1"])
    assert notes(play(ws, edit(5, "mine"))[1]) == []


def test_a_deleted_file_and_a_new_one_of_the_same_name_meet_too(folder):
    ws = workspace(lay(folder, FILES))
    first, _ = play(ws, call("delete", path="b.py"), call("write", path="c.py", content="y = 1\n"))
    _, texts = play(ws, call("edit", path="b.py", old="x = 1", new="x = 2"), call("write", path="c.py", content="y\n"))
    assert [note.split(",")[0] for note in notes(texts)] == [
        f"Note: b.py is also changed by {first.id}",
        f"Note: c.py is also changed by {first.id}",
    ]


def test_two_runs_that_go_on_at_once_are_both_told(folder):
    ws = workspace(lay(folder, FILES))
    begun = {name: asyncio.Event() for name in ("first", "second")}

    class Waiting(ScriptedModel):
        """Edits, and then waits for the other one to have edited."""

        def __init__(self, mine, other):
            super().__init__([edit(5, mine), call("read", path="b.py"), finish()])
            self.turn, self.mine, self.other = 0, mine, other

        async def stream(self, request):
            self.turn += 1
            if self.turn == 2:
                begun[self.mine].set()
                await asyncio.wait_for(begun[self.other].wait(), 20)
            async for piece in super().stream(request):
                yield piece

    async def both():
        return await asyncio.gather(
            carry_out(ws, Waiting("first", "second"), "one"), carry_out(ws, Waiting("second", "first"), "two")
        )

    (first, said_first), (second, said_second) = asyncio.run(both())
    for other, events in ((second, said_first), (first, said_second)):
        (note,) = notes(text for _, text in results(events))
        assert note.startswith(f"Note: lines 6 to 6 of a.py are also changed by {other.id}, which is going on.")
    assert ws.working == {}


OTHER = """
import asyncio, json, sys
from pathlib import Path
from kit import carry_out, workspace
from redline_agent.models.scripted import ScriptedModel
asyncio.run(carry_out(workspace(Path(sys.argv[1])), ScriptedModel(json.loads(sys.argv[2])), "the other one"))
"""


def test_a_run_of_another_process_is_told_of_while_it_goes_on(folder):
    ws = workspace(lay(folder, FILES))
    waits = [edit(5, "theirs"), {"error": "overloaded", "retry_after_s": 60}]
    kit = Path(sys.modules["kit"].__file__).parent
    other = subprocess.Popen([sys.executable, "-c", OTHER, str(folder), json.dumps(waits)], cwd=kit)
    try:
        until = time.monotonic() + 20
        while not ws.journal.editing():
            assert time.monotonic() < until
            time.sleep(0.05)
        (run,) = ws.journal.editing()
        _, texts = play(ws, edit(12), edit(5, "mine"))
        (note,) = notes(texts)
        assert note.startswith(f"Note: lines 6 to 6 of a.py are also changed by {run}, which is going on.")
    finally:
        other.kill()
        other.wait()
    assert notes(play(ws, edit(5, "mine"))[1])[0].endswith("say so when you finish.")  # the proposal of the run above
    assert ws.journal.editing() == {}


def test_a_proposal_that_comes_meanwhile_is_told(folder):
    ws, other = workspace(lay(folder, FILES)), workspace(folder)
    news = ws.meetings(ws.new_run(Task("x"), ScriptedModel([]), Config()), overlay := Overlay(ws.resolver))
    overlay.write("a.py", FILES["a.py"].replace("line5 = 5", "line5 = 'mine'"), Origin(1, "c", "edit", "x"),
                  permit("write", "a.py", FILES["a.py"].replace("line5 = 5", "line5 = 'mine'")))  # fmt: skip
    assert news() == []
    first, _ = play(other, edit(5))
    assert [note.split(",")[0] for note in news()] == [f"Note: lines 6 to 6 of a.py are also changed by {first.id}"]
