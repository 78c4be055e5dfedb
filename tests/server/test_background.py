"""Background runs: they outlive their editor, and every editor and terminal of the user reaches them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from kit import call, finish, lay
from raw_client import RawClient

pytestmark = pytest.mark.slow

FILES = {"a.py": "import os\nimport sys\n\n\ndef foo(x):\n    return x\n\n\nprint(foo(1), sys.argv)\n"}
WORDS = [
    call("ask_user", question="Which name?"),
    call("edit", path="a.py", old="def foo", new="def bar"),
    finish("It is done."),
]


@pytest.fixture
def place(folder):
    lay(folder, FILES)
    (folder.parent / "beside.txt").write_text("beside\n")
    return folder


def scripted(folder, *replies):
    path = folder.parent / "script.json"
    path.write_text(json.dumps(replies))
    return {"model": f"scripted:{path}"}


def redline(folder, *args, code=0):
    env = {**os.environ, "REDLINE_STATE_DIR": str(folder.parent / "state")}
    done = subprocess.run(
        [sys.executable, "-m", "redline_server", *args], cwd=folder, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, env=env, timeout=60,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def jobs(folder):
    return json.loads(redline(folder, "jobs", "--json"))


def until(what, condition, seconds=20):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.1)
    return value


def begin(client, folder, **more):
    client.initialize(folder, options=more)
    return client.open(folder / "a.py")


def run_of(client, run, state):
    def there():
        runs = [r for r in client.do("redline.runs") if r["runId"] == run and r["state"] == state]
        return runs[0] if runs and (state != "waiting" or runs[0]["pending"]) else None

    return client.wait(there, what=f"{state}: {client.do('redline.runs')} {client.stderr[-500:]}")


def shown(client):
    return [m["params"]["message"] for m in client.messages if m["method"] == "window/showMessage"]


def test_a_run_goes_on_when_its_editor_has_gone_and_its_proposal_is_rebased(place):
    with RawClient(place) as client:
        begin(client, place, **scripted(place, *WORDS))
        asked = client.do("redline.run", {"instruction": "rename it", "background": True})
        run_of(client, asked["runId"], "waiting")
    (job,) = jobs(place)
    assert (job["runId"], job["sessionId"], job["state"]) == (asked["runId"], asked["sessionId"], "waiting")
    (place / "a.py").write_text("# a new first line\n" + FILES["a.py"])
    with RawClient(place) as client:
        begin(client, place)
        run = run_of(client, asked["runId"], "waiting")
        assert run["pending"][0]["question"] == "Which name?"
        client.do("redline.answer", {"requestId": run["pending"][0]["requestId"], "text": "bar"})
        (proposal,) = client.wait(lambda: client.do("redline.proposals"), what="the proposal")
        assert proposal["runId"] == asked["runId"]
        assert [(h["state"], h["range"]["start"]["line"]) for h in proposal["hunks"]] == [("pending", 5)]
        told = "(background, proposed): 1 change in 1 file"
        client.wait(lambda: any(told in each for each in shown(client)) or None, what="the word")
        assert run_of(client, asked["runId"], "proposed")["answer"] == "It is done."
    until("its end", lambda: jobs(place) == [])
    assert (place / "a.py").read_text() == "# a new first line\n" + FILES["a.py"]
    with RawClient(place) as client:  # who was not there hears of it all the same
        begin(client, place)
        client.wait(lambda: any("1 proposal of before can be decided on: rename it" in each for each in shown(client)))


def test_a_background_run_is_steered_and_given_leave_from_an_editor(place):
    read = call("read", path=str(place.parent / "beside.txt"))
    (place.parent / "beside.txt").write_text("beside\n")
    with RawClient(place) as client:
        begin(client, place, **scripted(place, read, finish()))
        run = client.do("redline.run", {"instruction": "look beside", "background": True})["runId"]
        pending = run_of(client, run, "waiting")["pending"]
        assert client.do("redline.steer", {"runId": run, "text": "only that one"})
        client.do("redline.approve", {"requestId": pending[0]["requestId"], "decision": "once"})
        ended = run_of(client, run, "answered")
        assert ended["outcome"] == "answered"
    until("its end", lambda: jobs(place) == [])


def test_two_runs_of_one_session_do_not_go_on_at_once(place):
    with RawClient(place) as client:
        begin(client, place, **scripted(place, *WORDS))
        first = client.do("redline.run", {"instruction": "rename it", "background": True})
        run_of(client, first["runId"], "waiting")
        other = {"instruction": "and that", "background": True, "sessionId": first["sessionId"]}
        assert "goes on in the background" in client.command("redline.run", other)["error"]["message"]
        client.do("redline.cancel", {"runId": first["runId"]})
    until("its end", lambda: jobs(place) == [])


def test_two_editors_and_a_terminal_see_one_run_and_the_first_answer_counts(place):
    read = call("read", path=str(place.parent / "beside.txt"))
    with RawClient(place) as one, RawClient(place) as two:
        begin(one, place, **scripted(place, read, finish("read it")))
        begin(two, place)
        asked = one.do("redline.run", {"instruction": "read", "background": True})
        for client in (one, two):
            pending = run_of(client, asked["runId"], "waiting")["pending"]
            assert pending[0]["answers"] == ["deny", "once", "session", "always"]
        (waits,) = jobs(place)[0]["pending"]
        redline(place, "approve", waits["requestId"], "maybe", code=1)
        redline(place, "steer", "be quick")
        redline(place, "approve", waits["requestId"], "once")
        for client in (one, two):
            run = run_of(client, asked["runId"], "answered")
            assert run["refusals"] == []
            assert run["pending"] == []


def test_nobody_answers_and_it_is_a_no(place):
    read = call("read", path=str(place.parent / "beside.txt"))
    model = scripted(place, read, finish("ended"))["model"]
    redline(place, "run", "read", "--background", "--model", model)
    (waits,) = until("the question", lambda: jobs(place) and jobs(place)[0]["pending"])
    redline(place, "approve", waits["requestId"], "deny")
    until("the end", lambda: jobs(place) == [])
    assert "answered" in redline(place, "sessions")


def test_what_is_not_saved_is_taken_along(place):
    with RawClient(place) as client:
        uri = begin(client, place)
        client.replace(uri, "import json\n" + FILES["a.py"])
        asked = client.do("redline.run", {"instruction": "remove unused", "background": True})
        run_of(client, asked["runId"], "proposed")
        (proposal,) = client.do("redline.proposals")
        assert sorted(h["oldText"] for h in proposal["hunks"]) == ["import json\nimport os\n"]
        client.do("redline.accept", {"runId": asked["runId"], "hunks": "all"})
        client.wait(lambda: client.documents[uri][1].startswith("import sys"), what="the accept")


@pytest.mark.parametrize("by", ["editor", "progress", "terminal"])
def test_a_run_is_cancelled_and_resumed(place, by):
    with RawClient(place) as client:
        begin(client, place, **scripted(place, *WORDS))
        asked = client.do("redline.run", {"instruction": "rename it", "background": True})
        run_of(client, asked["runId"], "waiting")
        tokens = [r["params"]["token"] for r in client.requests if r["method"] == "window/workDoneProgress/create"]
        assert len(tokens) == 1
        if by == "editor":
            assert client.do("redline.cancel", {"runId": asked["runId"]}) == {"cancelled": True}
        elif by == "progress":
            client.notify("window/workDoneProgress/cancel", {"token": tokens[0]})
        else:
            redline(place, "cancel", "--run", asked["runId"])
        run_of(client, asked["runId"], "cancelled")
    until("the end", lambda: jobs(place) == [])
    assert "cancelled" in redline(place, "sessions")


def test_a_worker_that_is_killed_is_told_of_and_goes_on_from_its_journal(place):
    script = [call("edit", path="a.py", old="import os\n", new=""), *WORDS]
    with RawClient(place) as client:
        begin(client, place, **scripted(place, *script))
        asked = client.do("redline.run", {"instruction": "rename it", "background": True})
        run_of(client, asked["runId"], "waiting")
        os.kill(jobs(place)[0]["pid"], signal.SIGKILL)
        run_of(client, asked["runId"], "interrupted")
        client.wait(lambda: any("redline.resume" in each for each in shown(client)), what="the message")
    scripted(place, *script[2:])  # what was answered is not asked for again
    out = redline(place, "resume", "--background")
    assert asked["runId"] in out
    with RawClient(place) as client:
        begin(client, place)
        (again,) = run_of(client, asked["runId"], "waiting")["pending"]  # it was not answered
        client.do("redline.answer", {"requestId": again["requestId"], "text": "bar"})
        (proposal,) = client.wait(lambda: client.do("redline.proposals"), what="the proposal")
        assert proposal["runId"] == asked["runId"]
        assert len(proposal["hunks"]) == 2


def test_watching_in_a_terminal_tells_what_it_does(place):
    redline(place, "run", "rename foo to bar; remove unused", "--background")
    out = redline(place, "watch")
    assert "Renamed foo to bar" in out
    assert "proposed" in out
    assert "redline review" in out


def test_a_directive_that_came_with_the_file_is_not_run_in_the_background(place):
    lay(place, {"a.py": "# redline: remove unused\nimport os\n"})
    with RawClient(place) as client:
        uri = begin(client, place)
        span = {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 0}}
        reply = client.command(
            "redline.run", {"instruction": "remove unused", "uri": uri, "range": span, "background": True}
        )
        assert "came with the file" in reply["error"]["message"]
    assert jobs(place) == []


def test_a_run_that_cannot_start_says_so(place):
    out = redline(place, "run", "x", "--background", "--model", "nonsense:x", code=2)
    assert out == ""


def test_a_question_that_nobody_answers_is_a_no(monkeypatch):
    from types import SimpleNamespace

    from redline_agent.jobs import background
    from redline_agent.limits import Limits, Meter
    from redline_agent.safety.approvals import ANSWERS, Question

    monkeypatch.setattr(background, "ANSWER_S_MAX", 0.05)
    meter = Meter(Limits())
    began_s = meter.started_s
    job = background.Job(SimpleNamespace(), SimpleNamespace(state="running", meter=meter))

    async def ask():
        assert await job._leave(Question("run", "read it", "why", ANSWERS)) == "deny"
        assert await job._words("which?") is None

    asyncio.run(ask())
    assert job.waiting == {}
    assert meter.started_s - began_s >= 0.1  # the time is not the run's
