"""The runtime as the protocol shows it: plans, questions, sessions that resume, fork and fold, models by role."""

import json

import pytest
from kit import call, finish, lay
from raw_client import RawClient

FILES = {"a.py": "def f():\n    return 1\n", "b.py": "x = 1\n", "c.py": "y = 1\n"}
EDIT = call("edit", path="a.py", old="return 1", new="return 2")
PLAN = call("plan", steps=[{"what": "change a", "files": ["a.py"]}, {"what": "look at b"}])


@pytest.fixture
def serve(folder, tmp_path):
    lay(folder, FILES)
    clients = []

    def start(script, can=None, **env):
        (tmp_path / "script.json").write_text(json.dumps({"replies": script, "can": can or {}}))
        client = RawClient(folder, env={"REDLINE_MODEL": f"scripted:{tmp_path / 'script.json'}", **env})
        clients.append(client)
        client.initialize(folder)
        return client

    yield start
    for client in clients:
        client.close()


def state(client, run):
    return client.do("redline.runs", {"runId": run})[0]


def test_a_plan_is_shown_and_followed(serve):
    client = serve([PLAN, EDIT, finish("a"), finish("b"), call("verdict", passed=True)], {"judges": True})
    run = client.run("change a.py, b.py and c.py")
    assert run["state"] == "proposed"
    assert [(step["what"], step["state"]) for step in run["plan"]] == [("change a", "done"), ("look at b", "done")]
    proof = client.proposal(run["runId"])["proof"]
    assert [item["ok"] for item in proof if item["check"] == "validator"] == [True]


def test_a_question_waits_for_its_answer(serve):
    client = serve([call("ask_user", question="Tabs or spaces?"), finish("as you like")])
    run = client.do("redline.run", {"instruction": "ask me"})["runId"]
    pending = client.wait(lambda: state(client, run)["pending"], what="the question")
    assert pending[0]["question"] == "Tabs or spaces?"
    assert state(client, run)["state"] == "waiting"
    client.do("redline.answer", {"requestId": pending[0]["requestId"], "text": "tabs"})
    assert client.ended(run)["answer"] == "as you like"


def test_a_session_has_one_run_at_a_time(serve):
    client = serve([call("ask_user", question="Well?"), finish("done")])
    run = client.do("redline.run", {"instruction": "ask me"})
    client.wait(lambda: state(client, run["runId"])["pending"], what="the question")
    for command, more in (("redline.run", {"instruction": "and this"}), ("redline.compact", {})):
        error = client.command(command, {"sessionId": run["sessionId"], **more})["error"]
        assert "is going on" in error["message"]


def test_a_session_is_forked_folded_and_gone_on_with(serve, folder):
    (folder / "long.py").write_text("value = 'some words that fill the line'\n" * 800)
    client = serve([*(call("read", path="long.py", start=n) for n in range(1, 8)), finish("read")])
    first = client.run("read a")
    forked = client.do("redline.fork", {"sessionId": first["sessionId"], "at": 1})["sessionId"]
    assert forked != first["sessionId"]
    again = client.run("and again", sessionId=forked)
    assert (again["state"], again["sessionId"]) == ("answered", forked)
    folded = client.do("redline.compact", {"sessionId": first["sessionId"]})
    assert folded["afterTokens"] < folded["beforeTokens"] / 2
    sessions = {row["sessionId"] for row in client.do("redline.sessions", {})}
    assert {first["sessionId"], forked} <= sessions


def test_a_run_that_was_cut_off_is_resumed_by_another_server(serve, folder, tmp_path):
    client = serve([EDIT])  # the script ends there, so the run fails after its edit
    run = client.run("change a")
    assert run["state"] == "failed"
    client.close()
    other = serve([finish("went on")])
    gone_on = other.do("redline.resume", {"sessionId": run["sessionId"]})
    assert gone_on["runId"] == run["runId"]
    ended = other.ended(run["runId"])
    assert (ended["state"], ended["answer"]) == ("proposed", "went on")
    (hunk,) = other.proposal(run["runId"])["hunks"]
    assert hunk["newText"] == "    return 2\n"


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("redline.resume", {"sessionId": "nope"}, "no session 'nope'"),
        ("redline.fork", {"sessionId": "nope", "at": 1}, "no session 'nope'"),
        ("redline.fork", {"sessionId": "nope", "at": -1}, "at"),
        ("redline.compact", {"sessionId": "nope"}, "no session 'nope'"),
        ("redline.setModel", {"model": "magic:x"}, "no model 'magic:x'"),
    ],
)
def test_what_is_not_there_is_said(serve, command, arguments, says):
    client = serve([])
    error = client.command(command, arguments)["error"]
    assert says in error["message"]


def test_the_model_of_a_role_can_be_set(serve):
    client = serve([])
    assert client.do("redline.setModel", {"model": "builtin", "role": "explorer"}) == {
        "model": "builtin", "role": "explorer"
    }  # fmt: skip
