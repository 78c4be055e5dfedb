"""The next run of a session is told what became of what the session proposed, and exactly what the user changed in it."""

import asyncio

import pytest
from kit import call, carry_out, finish, lay, workspace
from redline_agent.events import RunStarted
from redline_agent.models.scripted import ScriptedModel

TEXT = "".join(f"line{n} = {n}\n" for n in range(30))


def edit(n):
    return call("edit", path="a.py", old=f"line{n} = {n}\n", new=f"line{n} = 'new'\n")


@pytest.fixture
def ws(folder):
    return workspace(lay(folder, {"a.py": TEXT, "gone.py": "x = 1\n"}))


def play(ws, *replies, session=""):
    """Run, and return the run and what it was told of earlier proposals."""
    run, events = asyncio.run(carry_out(ws, ScriptedModel([*replies, finish()]), "do it", session=session))
    started = next(event for event in events if isinstance(event, RunStarted))
    return run, "\n".join(block.text for block in started.content if "What became of it" in block.text)


def test_nothing_is_told_in_a_new_session_or_before_anything_is_decided(ws):
    first, told = play(ws, edit(5))
    assert told == ""
    assert play(ws, finish(), session=first.session)[1] == ""
    ws.decided(first.id, first.session, "rejected", ["h1"])
    assert play(ws, finish())[1] == ""


def test_decisions_and_changes_are_told(ws, folder):
    deleting = call("delete", path="gone.py")
    first, _ = play(ws, edit(3), edit(8), edit(13), edit(18), edit(23), deleting)
    text = TEXT
    for n in (3, 8):
        text = text.replace(f"line{n} = {n}\n", f"line{n} = 'new'\n")
    (folder / "a.py").write_text(text)
    ws.decided(first.id, first.session, "accepted", ["h1", "h2"])
    ws.decided(first.id, first.session, "rejected", ["h3", "f6"])
    text = text.replace("line8 = 'new'\n", "line8 = 'new, and mine'\n").replace("line18 = 18\n", "line18 = 'mine'\n")
    (folder / "a.py").write_text("# typed above\n" + text)

    _, told = play(ws, finish(), session=first.session)
    assert "h1 (a.py): accepted." in told
    assert "h3 (a.py), f6 (gone.py): rejected." in told
    assert "h5 (a.py): not decided on." in told
    assert "h2 (a.py), h4 (a.py): changed by the user since, as shown." in told
    assert (
        "h2, which the user changed after accepting it:\nBefore:\nline8 = 8\n\nProposed:\nline8 = 'new'\n\n"
        "As the user has it now:\nline8 = 'new, and mine'\n"
    ) in told
    assert (
        "h4, which the user changed before deciding on it:\nBefore:\nline18 = 18\n\nProposed:\nline18 = 'new'\n\n"
        "As the user has it now:\nline18 = 'mine'\n"
    ) in told
    assert "typed above" not in told


def test_what_was_taken_back_is_told_and_secrets_are_masked(ws, folder):
    first, _ = play(ws, edit(3), edit(8))
    (folder / "a.py").write_text(TEXT.replace("line3 = 3\n", "line3 = 'new'\n"))
    ws.decided(first.id, first.session, "accepted", ["h1"])
    key = "AKIA" + "IOSFODNN7EXAMPLX"
    (folder / "a.py").write_text(TEXT.replace("line8 = 8\n", f"line8 = '{key}'\n"))
    _, told = play(ws, finish(), session=first.session)
    assert "h1 (a.py): accepted and taken back." in told
    assert "As the user has it now:\nline8 = '" in told
    assert key not in told


def test_what_is_told_is_bounded(ws, folder):
    first, _ = play(ws, call("write", path="big.py", content="x = 1\n"), edit(3))
    (folder / "a.py").write_text(TEXT.replace("line3 = 3\n", "line3 = '" + "mine " * 5_000 + "'\n"))
    _, told = play(ws, finish(), session=first.session)
    assert 1_000 < len(told) < 8_000
