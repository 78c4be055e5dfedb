"""What is sent back with a word is seen, revised and proven beside all that belongs to it."""

import json
import os
import subprocess
import sys
import time

import pytest
from kit import call, finish, lay
from raw_client import RawClient

A = "def foo(x):\n    return x\n\n\n# a\n# b\n\n\nprint(foo(1))\n"
FILES = {"a.py": A, "old.py": "VALUE = 1\n\n\ndef use():\n    return VALUE\n", "gone.py": "UNUSED = 1\n"}


def calls(*replies):
    return {"calls": [each for reply in replies for each in reply["calls"]]}


def edit(path, old, new):
    return call("edit", path=path, old=old, new=new, reason=f"{new} is better")


FIRST = calls(
    edit("a.py", "def foo", "import sys\n\n\ndef foo"),
    edit("a.py", "print(foo(1))", "print(foo(sys.maxsize))"),
    call("write", path="made.py", content="MADE = 1\n", reason="it is new"),
    edit("old.py", "VALUE = 1", "VALUE = 2"),
    call("move", path="old.py", to="new.py"),
    call("delete", path="gone.py"),
)
SLOW = {"error": "overloaded", "retry_after_s": 3}


@pytest.fixture
def tried(folder, tmp_path):
    """A server, and what it proposed."""
    lay(folder, FILES)
    with RawClient(folder) as client:
        client.initialize(folder)
        yield Tried(client, folder, tmp_path)


class Tried:
    def __init__(self, client, folder, tmp_path):
        self.client, self.folder, self.tmp_path = client, folder, tmp_path
        self.uri = client.open(folder / "a.py")
        client.open(folder / "old.py")
        self.script([FIRST, finish()])
        self.run = client.run("change it", uri=self.uri)["runId"]

    def states(self):
        proposal = self.client.proposal(self.run)
        return {item["id"]: item["state"] for item in [*proposal["hunks"], *proposal["fileOperations"]]}

    def accept(self, *items):
        self.client.do("redline.accept", {"runId": self.run, "hunks": list(items)})
        self.client.wait(lambda: {self.states()[i] for i in items} == {"accepted"} or None, what="the accept")

    def script(self, replies, client=None):
        path = self.tmp_path / "script.json"
        path.write_text(json.dumps(replies))
        (client or self.client).do("redline.setModel", {"model": f"scripted:{path}"})

    def items(self, client=None):
        """Ids by what they do."""
        proposal = (client or self.client).proposal(self.run)
        found = {hunk["newText"].strip(): hunk["id"] for hunk in proposal["hunks"]}
        return found | {op["kind"]: op["id"] for op in proposal["fileOperations"]}

    def send_back(self, item, *replies, text="another way"):
        self.script([*replies, finish("as you say")])
        return self.client.do("redline.revise", {"runId": self.run, "hunk": item, "text": text})["runId"]

    def revised(self, item, *replies, text="another way"):
        run = self.send_back(item, *replies, text=text)
        state = self.client.ended(run)
        assert [p["runId"] for p in self.client.do("redline.proposals")] == [self.run]
        return state

    def accept_all(self):
        self.accept(*self.states())


def test_the_agent_sees_the_whole_proposal_and_the_rest_keeps_its_ids(tried):
    before = tried.items()
    read = call("read", path="new.py")
    state = tried.revised(before["VALUE = 2"], read, edit("new.py", "VALUE = 2", "VALUE = 3"))
    after = tried.items()
    assert after.pop("VALUE = 3") == f"{before.pop('VALUE = 2')}r1"
    assert after == before
    assert state["state"] == "proposed"
    tried.accept_all()
    assert not (tried.folder / "old.py").exists()
    assert "VALUE = 3" in tried.client.documents[(tried.folder / "new.py").as_uri()][1]


def test_a_new_file_is_revised(tried):
    before = tried.items()
    tried.revised(before["create"], edit("made.py", "MADE = 1", "MADE = 2"))
    assert tried.items()["create"] == f"{before['create']}r1"
    tried.accept_all()
    assert (tried.folder / "made.py").read_text() == "MADE = 2\n"


def test_a_deletion_is_revised_into_something_else(tried):
    before = tried.items()
    tried.revised(before["delete"], edit("gone.py", "UNUSED = 1", "USED = 1"), text="keep the file")
    after = tried.items()
    assert "delete" not in after
    assert after["USED = 1"] == f"{before['delete']}r1"


def test_what_is_revised_is_proven_with_what_it_needs(tried):
    before = tried.items()
    tried.revised(before["print(foo(sys.maxsize))"], edit("a.py", "foo(sys.maxsize)", "foo(sys.maxunicode)"))
    proposal = tried.client.proposal(tried.run)
    lint = [i for i in proposal["proof"] if (i["check"], i["path"]) == ("diagnostics", "a.py")]
    assert [(i["ok"], i["state"]) for i in lint] == [(True, "current")], lint
    assert {i["path"] for i in proposal["proof"]} >= {"a.py", "new.py", "made.py"}
    (hunk,) = [h for h in proposal["hunks"] if "maxunicode" in h["newText"]]
    assert before["import sys"] in hunk["dependsOn"]


def test_what_the_agent_leaves_as_it_is_stays_as_it_is(tried):
    before = tried.items()
    state = tried.revised(before["delete"])
    assert tried.items() == before
    assert (state["state"], state["answer"]) == ("answered", "as you say")
    assert any("stays as it is" in m["message"] for m in tried.client.notes("window/showMessage"))


def test_what_the_agent_takes_back_is_withdrawn(tried):
    before = tried.items()
    tried.revised(before["VALUE = 2"], edit("new.py", "VALUE = 2", "VALUE = 1"))
    assert tried.items() == {what: ident for what, ident in before.items() if what != "VALUE = 2"}


def test_what_is_decided_meanwhile_stays_decided(tried):
    before = tried.items()
    run = tried.send_back(before["VALUE = 2"], SLOW, edit("new.py", "VALUE = 2", "VALUE = 3"))
    tried.client.do("redline.reject", {"runId": tried.run, "hunks": [before["delete"]]})
    tried.accept(before["import sys"], before["create"])
    tried.client.ended(run)
    states = tried.states()
    after = tried.items()
    assert after["VALUE = 3"] == f"{before['VALUE = 2']}r1"
    assert states == {
        before["import sys"]: "accepted",
        before["create"]: "accepted",
        before["delete"]: "rejected",
        before["print(foo(sys.maxsize))"]: "pending",
        before["rename"]: "pending",
        after["VALUE = 3"]: "pending",
    }


def test_one_that_was_accepted_meanwhile_leaves_a_proposal_of_its_own(tried):
    before = tried.items()
    item = before["print(foo(sys.maxsize))"]
    run = tried.send_back(item, SLOW, edit("a.py", "foo(sys.maxsize)", "foo(2)"))
    tried.accept(item)
    tried.client.ended(run)
    own = {h["newText"]: h["oldText"] for h in tried.client.proposal(run)["hunks"]}
    assert own["print(foo(2))\n"] == "print(foo(sys.maxsize))\n"


def cut_off(tried, item):
    """A revision whose server died after its first turn."""
    run = tried.send_back(item, edit("new.py", "VALUE = 2", "VALUE = 3"), {**SLOW, "retry_after_s": 60})
    client = tried.client
    client.wait(lambda: client.do("redline.runs", {"runId": run})[0]["usage"]["turns"] >= 1 or None, what="a turn")
    time.sleep(0.3)
    client.process.kill()
    client.process.wait()
    return run


def test_one_that_was_cut_off_goes_on_to_the_same_place(tried):
    before = tried.items()
    run = cut_off(tried, before["VALUE = 2"])
    with RawClient(tried.folder) as again:
        again.initialize(tried.folder)
        again.open(tried.folder / "a.py")
        tried.script([finish("as you say")], again)
        (session,) = {s["sessionId"] for s in again.do("redline.sessions") if s["runId"] == run}
        assert again.do("redline.resume", {"sessionId": session})["runId"] == run
        again.ended(run)
        after = tried.items(again)
        assert after.pop("VALUE = 3") == f"{before.pop('VALUE = 2')}r1"
        assert after == before
        assert [p["runId"] for p in again.do("redline.proposals")] == [tried.run]


def test_one_that_was_cut_off_goes_on_in_the_terminal_too(tried):
    run = cut_off(tried, tried.items()["VALUE = 2"])
    (tried.tmp_path / "script.json").write_text(json.dumps([finish("as you say")]))
    env = {**os.environ, "REDLINE_STATE_DIR": str(tried.folder.parent / "state"), "REDLINE_CONFIG": ""}
    resume = [sys.executable, "-m", "redline_server", "resume", run]
    with RawClient(tried.folder) as again:  # an editor holds the proposal
        again.initialize(tried.folder)
        again.open(tried.folder / "a.py")
        again.wait(lambda: again.do("redline.proposals"), what="the proposals of before")
        time.sleep(1)
        held = subprocess.run(resume, cwd=tried.folder, env=env, capture_output=True, text=True, timeout=60)
    assert (held.returncode, "which an editor may hold" in held.stderr) == (2, True), held
    alone = subprocess.run([*resume, "--json"], cwd=tried.folder, env=env, capture_output=True, text=True, timeout=60)
    outcome = json.loads(alone.stdout.splitlines()[-1])
    assert (outcome["state"], outcome["proposal"]["runId"]) == ("proposed", tried.run), outcome
    assert {h["newText"] for h in outcome["proposal"]["hunks"]} >= {"VALUE = 3\n", "import sys\n\n\n"}


def test_one_that_was_rejected_and_sent_back_is_pending_over_a_restart_and_in_the_terminal(tried):
    item = tried.items()["VALUE = 2"]
    tried.client.do("redline.reject", {"runId": tried.run, "hunks": [item]})
    tried.revised(item, edit("made.py", "MADE = 1", "MADE = 2"), text="fine after all, but change made.py")
    assert tried.states()[item] == "pending"
    tried.client.close()
    with RawClient(tried.folder) as again:
        again.initialize(tried.folder)
        again.wait(lambda: again.do("redline.proposals"), what="the proposals of before")
        assert again.states(tried.run)[item] == "pending"


def test_one_that_was_rejected_is_gone_on_with_when_nothing_else_is_open(tried):
    item = tried.items()["VALUE = 2"]
    tried.client.do("redline.reject", {"runId": tried.run, "hunks": "all"})
    run = cut_off(tried, item)
    with RawClient(tried.folder) as again:
        again.initialize(tried.folder)
        tried.script([call("read", path="old.py"), finish("as you say")], again)
        (session,) = {s["sessionId"] for s in again.do("redline.sessions") if s["runId"] == run}
        again.do("redline.resume", {"sessionId": session})
        assert again.ended(run)["state"] in ("proposed", "answered")
        assert again.proposal(tried.run)["runId"] == tried.run
