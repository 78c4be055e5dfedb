"""What is pending goes along when the user renames or moves its file, in whichever way the editor tells of it."""

import json
import os
import subprocess
import sys

import pytest
from kit import call, finish, lay
from raw_client import RawClient

A = "def foo(x):\n    return x\n\n\nprint(foo(1))\n"
RENAMES = {"workspace": {"fileOperations": {"didRename": True}, "applyEdit": True}}
SCRIPT = [call("edit", path="pkg/a.py", old="return x", new="return x + 1"),
          call("write", path="pkg/made.py", content="MADE = 1\n"), finish()]  # fmt: skip


def by_the_client(client, old, new):
    """An editor that says so, when it has closed and opened the document (VS Code, Helix)."""
    old.rename(new)
    open_again(client, old, new)
    client.notify("workspace/didRenameFiles", {"files": [{"oldUri": old.as_uri(), "newUri": new.as_uri()}]})


def open_again(client, old, new):
    for uri in [uri for uri in client.documents if uri.startswith(old.as_uri())]:
        _, text = client.documents.pop(uri)
        client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
        path = new if uri == old.as_uri() else new / uri.removeprefix(old.as_uri() + "/")
        client.open(path, text)


def by_opening(client, old, new):
    """One that says nothing (Neovim, Emacs): the file is gone, and the same text is open under another name."""
    old.rename(new)
    open_again(client, old, new)


def by_hand(client, old, new):
    """Something outside, of which the editor's watcher tells."""
    for uri in [uri for uri in client.documents if uri.startswith(old.as_uri())]:
        client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
        del client.documents[uri]
    old.rename(new)
    changes = [{"uri": old.as_uri(), "type": 3}, {"uri": new.as_uri(), "type": 1}]
    client.do("redline.proposals")  # what is gone is seen to be
    client.notify("workspace/didChangeWatchedFiles", {"changes": changes})


@pytest.fixture
def proposed(folder, tmp_path):
    """A server with a proposal, and its run."""
    lay(folder, {"pkg/a.py": A, "other.py": "1\n"})
    (tmp_path / "script.json").write_text(json.dumps(SCRIPT))
    with RawClient(folder) as client:
        client.initialize(folder, capabilities=RENAMES)
        uri = client.open(folder / "pkg/a.py")
        client.do("redline.setModel", {"model": f"scripted:{tmp_path / 'script.json'}"})
        yield client, client.run("change it", uri=uri)["runId"]


def hunk_of(client, run):
    (hunk,) = client.proposal(run)["hunks"]
    return hunk["uri"].rsplit("/ws/", 1)[1], hunk["state"]


@pytest.mark.parametrize("move", [by_the_client, by_opening, by_hand])
def test_hunks_go_along_with_their_file(proposed, folder, move):
    client, run = proposed
    move(client, folder / "pkg/a.py", folder / "pkg/b.py")
    client.wait(lambda: hunk_of(client, run) == ("pkg/b.py", "pending") or None, what="the hunk under the new name")
    shown = {n["uri"].rsplit("/", 1)[1]: len(n["diagnostics"]) for n in client.notes("textDocument/publishDiagnostics")}
    assert shown["a.py"] == 0
    if move is not by_hand:
        client.wait(lambda: shown_now(client)["b.py"] or None, what="its diagnostics")
    client.do("redline.accept", {"runId": run, "hunks": [client.proposal(run)["hunks"][0]["id"]]})
    client.wait(lambda: hunk_of(client, run) == ("pkg/b.py", "accepted") or None, what="the accept")
    assert client.documents[(folder / "pkg/b.py").as_uri()][1] == A.replace("return x", "return x + 1")
    assert {i["path"] for i in client.proposal(run)["proof"] if i["check"] == "parses"} == {"pkg/b.py", "pkg/made.py"}


def shown_now(client):
    return {n["uri"].rsplit("/", 1)[1]: len(n["diagnostics"]) for n in client.notes("textDocument/publishDiagnostics")}


def test_a_folder_takes_along_what_is_to_be_made_in_it(proposed, folder):
    client, run = proposed
    by_the_client(client, folder / "pkg", folder / "lib")
    client.wait(lambda: hunk_of(client, run) == ("lib/a.py", "pending") or None, what="the hunk in the new folder")
    client.do("redline.accept", {"runId": run, "hunks": [client.proposal(run)["fileOperations"][0]["id"]]})
    client.wait(lambda: (folder / "lib/made.py").exists() or None, what="the new file")
    assert not (folder / "pkg").exists()


def test_the_new_name_is_kept_over_a_restart(proposed, folder):
    client, run = proposed
    by_the_client(client, folder / "pkg/a.py", folder / "pkg/b.py")
    client.wait(lambda: hunk_of(client, run) == ("pkg/b.py", "pending") or None, what="the hunk under the new name")
    client.close()
    with RawClient(folder) as again:
        again.initialize(folder)
        again.wait(lambda: again.do("redline.proposals"), what="the proposals of before")
        assert hunk_of(again, run) == ("pkg/b.py", "pending")


def test_what_was_accepted_is_reverted_under_its_new_name(proposed, folder):
    client, run = proposed
    client.do("redline.accept", {"runId": run, "hunks": [h["id"] for h in client.proposal(run)["hunks"]]})
    client.wait(lambda: hunk_of(client, run)[1] == "accepted" or None, what="the accept")
    (folder / "pkg/a.py").write_text(client.documents[(folder / "pkg/a.py").as_uri()][1])
    by_the_client(client, folder / "pkg/a.py", folder / "pkg/b.py")
    client.wait(lambda: hunk_of(client, run)[0] == "pkg/b.py" or None, what="the hunk under the new name")
    client.do("redline.revertRun", {"runId": run})
    client.wait(lambda: client.documents[(folder / "pkg/b.py").as_uri()][1] == A or None, what="the revert")


def test_another_file_with_the_same_text_is_no_move(proposed, folder):
    client, run = proposed
    client.open(lay(folder, {"copy.py": A}) / "copy.py")
    client.do("redline.proposals")
    assert hunk_of(client, run) == ("pkg/a.py", "pending")


def test_a_run_goes_on_with_the_file_under_its_new_name(folder, tmp_path):
    lay(folder, {"pkg/a.py": A})
    slow = {"error": "overloaded", "retry_after_s": 2}
    (tmp_path / "script.json").write_text(json.dumps([SCRIPT[0], slow, finish()]))
    with RawClient(folder) as client:
        client.initialize(folder, capabilities=RENAMES)
        uri = client.open(folder / "pkg/a.py")
        client.do("redline.setModel", {"model": f"scripted:{tmp_path / 'script.json'}"})
        run = client.do("redline.run", {"instruction": "x", "uri": uri})["runId"]
        client.wait(lambda: client.do("redline.runs", {"runId": run})[0]["usage"]["turns"] >= 1 or None, what="a turn")
        by_the_client(client, folder / "pkg/a.py", folder / "pkg/b.py")
        client.ended(run)
        assert hunk_of(client, run) == ("pkg/b.py", "pending")


def test_a_client_that_can_is_asked_to_tell_of_files_that_change(folder):
    lay(folder, {"a.py": A})
    watched = {"workspace": {"didChangeWatchedFiles": {"dynamicRegistration": True}}}
    for name, asked in [("helix", True), ("Eglot", False)]:
        with RawClient(folder) as client:
            client.initialize(folder, capabilities=watched, name=name)
            client.do("redline.proposals")
            methods = [r["method"] for r in client.requests]
            assert ("client/registerCapability" in methods) == asked


TERMINAL = (
    "import sys; from pathlib import Path; from redline_agent import deciding, headless;"
    "ws = headless.open_workspace(Path(sys.argv[1])); (p,) = deciding.pending_proposals(ws);"
    "getattr(deciding, sys.argv[2])(ws, p, sys.argv[3:])"
)


@pytest.mark.parametrize(("how", "state"), [("reject", "rejected"), ("accept", "accepted")])
def test_what_a_terminal_decided_stays_decided_when_a_file_is_renamed(proposed, folder, how, state):
    client, run = proposed
    (made,) = client.proposal(run)["fileOperations"]
    env = {**os.environ, "REDLINE_STATE_DIR": str(folder.parent / "state"), "REDLINE_CONFIG": ""}
    subprocess.run([sys.executable, "-c", TERMINAL, str(folder), how, made["id"]], env=env, check=True, timeout=60)
    by_the_client(client, folder / "pkg/a.py", folder / "pkg/b.py")
    client.wait(lambda: hunk_of(client, run) == ("pkg/b.py", "pending") or None, what="the hunk under the new name")
    assert client.proposal(run)["fileOperations"][0]["state"] == state
    client.close()
    with RawClient(folder) as again:
        again.initialize(folder)
        again.wait(lambda: again.do("redline.proposals"), what="the proposals of before")
        assert again.proposal(run)["fileOperations"][0]["state"] == state


def test_a_file_that_was_there_all_along_is_no_move(folder, tmp_path):
    """Of two files with the same text one goes away, as by a change of branches, and the other is opened."""
    lay(folder, {"one/a.py": A, "two/a.py": A})
    (tmp_path / "script.json").write_text(
        json.dumps([call("edit", path="one/a.py", old="return x", new="return 1"), finish()])
    )
    with RawClient(folder) as client:
        client.initialize(folder)
        client.do("redline.setModel", {"model": f"scripted:{tmp_path / 'script.json'}"})
        run = client.run("x")["runId"]
        (folder / "one/a.py").rename(folder.parent / "stashed")
        client.open(folder / "two/a.py")
        assert hunk_of(client, run) == ("one/a.py", "stale")
        (folder.parent / "stashed").rename(folder / "one/a.py")
        assert hunk_of(client, run) == ("one/a.py", "pending")


def test_a_move_that_was_undone_is_done_again_by_hand(folder, tmp_path):
    lay(folder, {"old.py": A})
    moves = [call("move", path="old.py", to="new.py"), finish()]
    (tmp_path / "script.json").write_text(json.dumps(moves))
    with RawClient(folder) as client:
        client.initialize(folder, capabilities=RENAMES)
        client.do("redline.setModel", {"model": f"scripted:{tmp_path / 'script.json'}"})
        run = client.run("x")["runId"]

        def becomes(state):
            op = client.proposal(run)["fileOperations"][0]
            return (op["state"], op["uri"].rsplit("/", 1)[1], op["newUri"].rsplit("/", 1)[1]) == (
                state,
                "old.py",
                "new.py",
            )

        client.do("redline.accept", {"runId": run, "hunks": ["f1"]})
        client.wait(lambda: becomes("accepted") or None, what="the accept")
        by_the_client(client, folder / "new.py", folder / "old.py")
        client.wait(lambda: becomes("undone") or None, what="the undo")
        by_the_client(client, folder / "old.py", folder / "new.py")
        client.wait(lambda: becomes("accepted") or None, what="the redo")


def test_a_run_whose_folder_is_renamed_proposes_what_it_makes_there(folder, tmp_path):
    lay(folder, {"pkg/a.py": A})
    slow = {"error": "overloaded", "retry_after_s": 2}
    (tmp_path / "script.json").write_text(json.dumps([*SCRIPT[:2], slow, finish()]))
    with RawClient(folder) as client:
        client.initialize(folder, capabilities=RENAMES)
        client.do("redline.setModel", {"model": f"scripted:{tmp_path / 'script.json'}"})
        run = client.do("redline.run", {"instruction": "x"})["runId"]
        client.wait(
            lambda: client.do("redline.runs", {"runId": run})[0]["usage"]["turns"] >= 2 or None, what="two turns"
        )
        by_the_client(client, folder / "pkg", folder / "lib")
        client.ended(run)
        assert hunk_of(client, run) == ("lib/a.py", "pending")
        assert client.proposal(run)["fileOperations"][0]["uri"].endswith("/lib/made.py")
