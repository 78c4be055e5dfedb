"""Proposals that outlive their server, and decisions that several processes share."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from kit import lay
from raw_client import RawClient

FILES = {
    "a.py": "import os\nimport sys\n\n\ndef foo(x):\n    return x\n\n\nprint(foo(1), sys.argv)\n",
    "b.py": "from a import foo\n\nprint(foo(2))\n",
}


@pytest.fixture
def left(folder):
    """A folder with a pending proposal that an earlier server made; its run."""
    lay(folder, FILES)
    with RawClient(folder) as client:
        client.initialize(folder)
        uri = client.open(folder / "a.py")
        run = client.run("rename foo to bar; remove unused", uri=uri)
        assert run["state"] == "proposed"
        return run["runId"]


def start(client, folder, *opened):
    client.initialize(folder)
    uris = [client.open(folder / path, text) for path, text in opened]
    client.wait(lambda: client.do("redline.proposals"), what="the proposals of before")
    return uris


def settled(client, run):
    def done():
        states = client.states(run)
        return states if "applying" not in states.values() else None

    return client.wait(done, what="the accept")


def test_a_proposal_is_there_again_after_a_restart(folder, left):
    with RawClient(folder) as client:
        (uri,) = start(client, folder, ("a.py", None))
        states = client.states(left)
        assert set(states.values()) == {"pending"}
        client.do("redline.accept", {"runId": left, "hunks": list(states)})
        assert set(settled(client, left).values()) == {"accepted"}
        assert client.documents[uri][1] == "import sys\n\n\ndef bar(x):\n    return x\n\n\nprint(bar(1), sys.argv)\n"
    with RawClient(folder) as client:
        client.initialize(folder)
        client.open(folder / "a.py")
        assert client.do("redline.proposals") == []


def test_without_a_workspace_folder_too(folder):
    """A file that was opened alone has its folder's proposals back as well, with the first file that is opened there."""
    lay(folder, FILES)
    (folder / "beside").mkdir()
    lay(folder / "beside", {"c.py": "x = 1\n"})
    with RawClient(folder) as client:
        client.initialize()
        run = client.run("rename foo to bar", uri=client.open(folder / "a.py"))["runId"]
    with RawClient(folder) as client:
        client.initialize()
        client.open(folder / "beside/c.py")
        client.wait(lambda: client.do("redline.sessions") == [], what="the start")
        uri = client.open(folder / "a.py")
        client.wait(lambda: client.do("redline.proposals"), what="the proposals of before")
        client.do("redline.accept", {"runId": run, "hunks": "all"})
        assert set(settled(client, run).values()) == {"accepted"}
        assert client.documents[uri][1] == FILES["a.py"].replace("foo", "bar")
        assert [each["runId"] for each in client.do("redline.sessions")] == [run]


def test_it_is_rebased_onto_what_the_files_have_become(folder, left):
    (folder / "a.py").write_text("# a new first line\n" + FILES["a.py"].replace("print(foo(1)", "print(foo(3)"))
    with RawClient(folder) as client:
        (uri,) = start(client, folder, ("a.py", None))
        hunks = {h["id"]: h for h in client.proposal(left)["hunks"] if h["uri"] == uri}
        by_text = {h["oldText"]: h for h in hunks.values()}
        assert by_text["def foo(x):\n"]["state"] == "pending"
        assert by_text["def foo(x):\n"]["range"]["start"]["line"] == 5
        assert by_text["print(foo(1), sys.argv)\n"]["state"] == "conflicted"


def test_it_is_rebased_in_files_that_are_not_open_too(folder, left):
    """What was typed, saved and closed before the restart is no change outside the editor."""
    (folder / "b.py").write_text("# above\n" + FILES["b.py"])
    with RawClient(folder) as client:
        start(client, folder)
        assert set(client.states(left).values()) == {"pending"}
        client.do("redline.accept", {"runId": left, "hunks": "all"})
        assert set(settled(client, left).values()) == {"accepted"}
        uri = (folder / "b.py").as_uri()
        assert client.documents[uri][1] == "# above\n" + FILES["b.py"].replace("foo", "bar")


def test_what_a_terminal_decided_is_not_decided_again_in_an_editor(folder, left):
    with RawClient(folder) as client:
        start(client, folder)
        asyncio.run(accepted_here(folder, left))
        assert set(client.states(left).values()) == {"accepted"}
        reply = client.command("redline.reject", {"runId": left, "hunks": "all"})
        assert set(client.states(left).values()) == {"accepted"}, reply


async def accepted_here(folder, run):
    """Another process accepts everything, as a terminal does."""
    done = await asyncio.create_subprocess_exec(
        sys.executable, "-c",
        "import sys; from pathlib import Path; from redline_agent.config import journal_path, state_dir;"
        "from redline_agent.deciding import accept, pending_proposals; from redline_agent.journal import Journal;"
        "from redline_agent.session import Workspace; root = Path(sys.argv[1]);"
        "ws = Workspace(root, Journal(journal_path(state_dir(), root)));"
        "[accept(ws, each, [item.id for item in each.items]) for each in pending_proposals(ws)]",
        str(folder), env={**os.environ, "REDLINE_STATE_DIR": str(folder.parent / "state"), "REDLINE_CONFIG": ""},
    )  # fmt: skip
    assert await done.wait() == 0, run


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")
def test_killed_after_the_edit_was_sent_it_knows_that_the_editor_has_it(folder, left):
    with RawClient(folder, left=("workspace/applyEdit",)) as client:
        (uri,) = start(client, folder, ("a.py", None))
        client.do("redline.accept", {"runId": left, "hunks": ["h1"]})
        client.wait(lambda: [r for r in client.requests if r["method"] == "workspace/applyEdit"], what="the edit")
        os.kill(client.process.pid, signal.SIGKILL)
        client.process.wait(10)
    text = FILES["a.py"].removeprefix("import os\n")
    with RawClient(folder) as client:
        start(client, folder, ("a.py", text))
        client.wait(lambda: client.states(left)["h1"] == "accepted" or None, what="the hunk to be known")
    with RawClient(folder) as client:
        start(client, folder, ("a.py", FILES["a.py"]))  # the editor went down as well, its buffer unsaved
        client.wait(lambda: client.states(left)["h1"] in ("undone", "pending") or None, what="the hunk to be back")


def redline(folder, *args):
    return subprocess.run(
        [sys.executable, "-m", "redline_server", *args],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "REDLINE_STATE_DIR": str(folder.parent / "state"), "REDLINE_CONFIG": ""},
    )


def test_a_terminals_accept_goes_through_the_editor_that_has_the_file_open(folder):
    lay(folder, FILES)
    with RawClient(folder) as client:
        client.initialize(folder)
        uri = client.open(folder / "a.py")
        client.replace(uri, FILES["a.py"] + "# typed, not saved\n")
        client.run("explain this", uri=uri)  # the server is up, whatever comes of it
        done = client.wait(lambda: _try(folder), timeout=60, what="the terminal")
        assert done.returncode == 0, done.stderr
        client.wait(lambda: "import os" not in client.documents[uri][1] or None, what="the edit")
        assert client.documents[uri][1].endswith("# typed, not saved\n")
        assert (folder / "a.py").read_text() == FILES["a.py"]


def _try(folder):
    return redline(folder, "run", "remove unused", "a.py", "--accept")


def test_two_editors_over_one_folder_decide_one_after_the_other(folder, left):
    """Both have the proposal; while one is accepting the other waits, and then knows what was decided."""
    with RawClient(folder, left=("workspace/applyEdit",)) as slow, RawClient(folder) as other:
        (uri,) = start(slow, folder, ("a.py", None))
        start(other, folder)
        slow.do("redline.accept", {"runId": left, "hunks": ["h1"]})
        request = slow.wait(
            lambda: [r for r in slow.requests if r["method"] == "workspace/applyEdit"], what="the edit"
        )[0]
        other.do("redline.accept", {"runId": left, "hunks": ["h1"]})
        time.sleep(1)
        assert not [r for r in other.requests if r["method"] == "workspace/applyEdit"]
        assert (folder / "a.py").read_text() == FILES["a.py"]
        slow.send({"id": request["id"], "result": slow.apply_edit(request["params"])})
        assert settled(slow, left)["h1"] == "accepted"
        said = other.wait(lambda: [m["message"] for m in other.notes("window/showMessage") if "h1" in m["message"]])
        assert not [r for r in other.requests if r["method"] == "workspace/applyEdit"], said
        assert slow.documents[uri][1] == FILES["a.py"].removeprefix("import os\n")

        other.do("redline.accept", {"runId": left, "hunks": ["h2"]})
        assert settled(other, left)["h2"] == "accepted"


def test_an_editor_that_waits_too_long_for_another_says_so_and_leaves_it_pending(folder, left):
    with RawClient(folder, left=("workspace/applyEdit",)) as slow, RawClient(folder) as other:
        start(slow, folder, ("a.py", None))
        start(other, folder)
        slow.do("redline.accept", {"runId": left, "hunks": ["h1"]})
        slow.wait(lambda: [r for r in slow.requests if r["method"] == "workspace/applyEdit"], what="the edit")
        other.do("redline.accept", {"runId": left, "hunks": ["h2"]})
        why = "Another editor or terminal is accepting changes in this folder"
        other.wait(lambda: any(why in m["message"] for m in other.notes("window/showMessage")), timeout=30, what=why)
        assert other.states(left)["h2"] == "pending"
        assert other.states(left)["h1"] == "pending"  # what became of it is not known here before it is decided
        assert (folder / "a.py").read_text() == FILES["a.py"]


def test_a_revision_of_before_is_never_that_of_now(folder, left):
    """What a client remembers of a proposal over a restart is refused, as far as the proposal has moved on."""
    seen = []
    for _ in range(2):
        with RawClient(folder) as client:
            start(client, folder, ("a.py", None))
            seen.append(client.proposal(left)["revision"])
            for revision in seen[:-1]:
                argument = {"runId": left, "hunks": "all", "revision": revision}
                assert "moved on" in client.command("redline.accept", argument)["error"]["message"]
            client.replace(client.open(folder / "b.py"), "# typed\n" + FILES["b.py"])
            client.wait(lambda before=seen[-1]: client.proposal(left)["revision"] > before or None, what="a revision")
            seen[-1] = client.proposal(left)["revision"]
    assert seen == sorted(set(seen))


def test_what_an_editor_accepted_and_has_not_saved_is_accepted_in_the_terminal(folder, left):
    with RawClient(folder) as client:
        start(client, folder, ("a.py", None))
        (first, *_) = [hunk["id"] for hunk in client.proposal(left)["hunks"] if hunk["uri"].endswith("a.py")]
        client.do("redline.accept", {"runId": left, "hunks": [first]})
        client.wait(lambda: client.states(left)[first] == "accepted" or None, what="the accept")
        command = [sys.executable, "-m", "redline_server", "review", "--json"]
        env = {**os.environ, "REDLINE_STATE_DIR": str(folder.parent / "state"), "REDLINE_CONFIG": ""}

        def in_terminal():
            shown = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60)
            (proposal,) = json.loads(shown.stdout)
            return {h["id"]: h["state"] for h in proposal["hunks"]}[first]

        client.wait(lambda: in_terminal() == "accepted" or None, what="the terminal to know")
        assert "import os" in (folder / "a.py").read_text()


def test_a_terminals_accept_goes_to_the_editor_that_has_the_file_open(folder):
    """With two editors each is sent what it has open, so that no buffer is written beneath."""
    lay(folder, FILES)
    with RawClient(folder) as one, RawClient(folder) as two:
        one.initialize(folder)
        two.initialize(folder)
        a, b = one.open(folder / "a.py"), two.open(folder / "b.py", "# not saved\n" + FILES["b.py"])
        one.run("rename foo to bar", uri=a)  # so that there is a journal, where they meet
        two.run("rename nothing to something", uri=b)
        time.sleep(1)
        done = redline(folder, "run", "rename foo to bar", "--accept")
        assert done.returncode == 0, done.stderr
        one.wait(lambda: "bar" in one.documents[a][1] or None, what="the edit in the first")
        two.wait(lambda: "bar" in two.documents[b][1] or None, what="the edit in the second")
        assert two.documents[b][1] == "# not saved\n" + FILES["b.py"].replace("foo", "bar")
        assert (list(one.documents), list(two.documents)) == ([a], [b])
        assert (folder / "b.py").read_text() == FILES["b.py"]
