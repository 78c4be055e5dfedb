import os
import sqlite3
import stat
import subprocess
import sys

import pytest
from kit import call, finish, lay, play, workspace
from redline_agent.errors import JournalError
from redline_agent.events import RunEnded, TurnStarted
from redline_agent.journal import Journal


def test_only_the_owner_can_read_it(tmp_path):
    journal = Journal(tmp_path / "j.sqlite")
    journal.append("s", "r", TurnStarted(turn=1))
    assert stat.S_IMODE((tmp_path / "j.sqlite").stat().st_mode) == 0o600
    assert journal.of_run("r") == [TurnStarted(turn=1)]


def test_a_killed_process_leaves_a_valid_journal_and_its_run_gets_an_end(tmp_path):
    path = tmp_path / "j.sqlite"
    code = f"""
import os
from pathlib import Path
from redline_agent.journal import Journal
from redline_agent.events import TurnStarted
journal = Journal(Path({str(path)!r}))
for turn in range(1, 6):
    journal.append("s", "r", TurnStarted(turn=turn))
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    journal = Journal(path)
    assert [event.turn for event in journal.of_run("r")] == [1, 2, 3, 4, 5]
    assert journal.close_open_runs() == 1
    assert journal.of_run("r")[-1] == RunEnded(state="interrupted", answer="The process ended in mid-run.")
    assert journal.close_open_runs() == 0


def test_a_run_of_a_living_process_is_left_open(tmp_path):
    journal = Journal(tmp_path / "j.sqlite")
    journal.append("s", "r", TurnStarted(turn=1))
    assert journal.close_open_runs() == 0


@pytest.mark.parametrize("damage", [b"not a database at all" * 100, b""])
def test_a_file_that_is_no_journal_is_told(tmp_path, damage):
    path = tmp_path / "j.sqlite"
    path.write_bytes(damage)
    if damage:
        with pytest.raises(JournalError, match="cannot be opened"):
            Journal(path)
    else:
        Journal(path).append("s", "r", TurnStarted(turn=1))


def test_a_journal_of_a_later_version_is_left_alone(tmp_path):
    path = tmp_path / "j.sqlite"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(JournalError, match="another version"):
        Journal(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(JournalError, match="cannot be opened"):
        Journal(tmp_path / "sub/j.sqlite")


def test_pending_proposals_come_back_with_their_decisions(folder):
    lay(folder, {"a.py": "one\nx\ny\ntwo\n"})
    edits = [call("edit", path="a.py", old="one", new="1"), call("edit", path="a.py", old="two", new="2")]
    run, _, _ = play(folder, [*edits, finish()])
    ws = workspace(folder)
    assert [len(p.hunks) for p in ws.proposals()] == [2]
    ws.decided(run.id, run.session, "rejected", ["h1"])
    (proposal,) = ws.proposals()
    assert {h.id: h.state for h in proposal.hunks} == {"h1": "rejected", "h2": "pending"}
    ws.decided(run.id, run.session, "accepted", ["h2"])
    assert ws.proposals() == []
    (row,) = ws.journal.runs()
    assert (row.run, row.state, row.instruction) == (run.id, "mixed", "do it")
