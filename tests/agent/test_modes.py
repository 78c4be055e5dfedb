"""A file becomes a program, or none: proposed by id like a file that is made, never together with the rest in bulk."""

import asyncio
import stat
import subprocess

import pytest
from kit import call, carry_out, finish, lay, workspace
from redline_agent.deciding import accept, bulk, pending_proposals
from redline_agent.jobs.results import changed, patch
from redline_agent.models.scripted import ScriptedModel
from redline_agent.workspace.kept import Watcher, restore
from redline_agent.workspace.overlay import Overlay
from redline_agent.workspace.stored import dump, load

FILES = {"tool": "#!/bin/sh\necho one\n", "run.py": "print(1)\n", "plain.txt": "text\n"}


@pytest.fixture
def ws(folder):
    lay(folder, FILES)
    (folder / "run.py").chmod(0o755)
    made = workspace(folder)
    made.memory.trust(made.resolver.root)
    return made


def play(ws, *commands):
    replies = [call("run", command=command) for command in commands]
    run, _ = asyncio.run(carry_out(ws, ScriptedModel([*replies, finish()]), "do it"))
    return run.proposal


def mode(folder, path):
    return stat.S_IMODE((folder / path).stat().st_mode)


def test_a_commands_change_of_modes_is_proposed(ws, folder):
    proposal = play(
        ws, "chmod +x tool; chmod -x run.py; sed -i s/one/two/ tool; chmod 600 plain.txt", "./tool > out.txt"
    )
    told = {op.told: op.badge for op in proposal.operations}
    assert told == {
        "make tool executable": "the file can be run as a program then",
        "make run.py not executable": "",
        "create out.txt": "",
    }
    assert (
        next(op for op in proposal.operations if op.kind == "create").file.text == "two\n"
    )  # the next command sees it
    assert mode(folder, "tool") == 0o644
    accept(ws, proposal, bulk(proposal))
    assert (mode(folder, "tool"), mode(folder, "run.py")) == (0o644, 0o644)
    assert (folder / "tool").read_text() == "#!/bin/sh\necho two\n"

    (again,) = pending_proposals(ws)  # as another process finds it
    (left,) = [item for item in again.items if item.state == "pending"]
    accept(ws, again, [left.id])
    assert mode(folder, "tool") == 0o755
    assert pending_proposals(ws) == []
    assert mode(folder, "plain.txt") == 0o644  # what others than programs are is nobody's matter


def test_a_mode_that_was_changed_and_changed_back_is_no_change(ws):
    assert play(ws, "chmod +x tool", "chmod -x tool") is None


def test_it_is_kept_in_the_journal_and_in_a_cut_off_run(ws, folder):
    proposal = play(ws, "chmod +x tool; chmod -x run.py")
    kept = load(dump(proposal))
    assert [(op.told, op.executable) for op in kept.operations] == [
        (op.told, op.executable) for op in proposal.operations
    ]
    overlay, again = Overlay(ws.resolver), Overlay(ws.resolver)
    watcher, texts = Watcher(overlay), {}
    from kit import permit
    from redline_agent.workspace.hunks import Origin

    overlay.set_executable("run.py", False, Origin(1, "c", "run", "why"), permit("write", "run.py", FILES["run.py"]))
    restore(again, [watcher.changes(texts.__setitem__)], texts.get)
    for each in (overlay, again):
        assert each.touched["run.py"].base.executable
        assert not each.find("run.py").file.executable


def test_git_takes_it_as_a_patch(ws, folder):
    proposal = play(ws, "chmod +x tool; sed -i s/one/two/ tool; chmod -x run.py")
    git = lambda *args, **more: subprocess.run(["git", *args], cwd=folder, check=True, capture_output=True, **more)
    git("init", "-q")
    git("apply", "-", input=patch(changed(proposal)).encode())
    assert (mode(folder, "tool"), mode(folder, "run.py")) == (0o755, 0o644)
    assert (folder / "tool").read_text() == "#!/bin/sh\necho two\n"
