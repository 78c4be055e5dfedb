"""A run that is killed by the system at any of its writes goes on from its journal, and buys no reply twice."""

import json
import os
import signal

import forked
import pytest
from kit import lay
from steady_server import SteadyServer

pytestmark = pytest.mark.slow

PARTS = 10
FILES = {"a.py": "one = 0\ntwo = 0\nthree = 0\n"}
EDITS = {"a.py": [("one = 0", "one = 1"), ("two = 0", "two = 2"), ("three = 0", "three = 3")]}
KILLED = """
import os, signal, sys
from redline_agent.journal import Journal
from redline_server.__main__ import main
at, when, seen, real = int(sys.argv[1]), sys.argv[2], 0, Journal.append
def append(self, session, run, *events):
    global seen
    seen += 1
    if seen == at and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, session, run, *events)
    if seen == at:
        os.kill(os.getpid(), signal.SIGKILL)
Journal.append = append
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture
def server(monkeypatch, tmp_path):
    with SteadyServer(EDITS) as server:
        (tmp_path / "config.toml").write_text('plan = "never"\nvalidate = "never"\n')
        monkeypatch.setenv("REDLINE_CONFIG", str(tmp_path / "config.toml"))
        monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        yield server


def start(folder, state, *args, kill=()):
    env = {**os.environ, "REDLINE_STATE_DIR": str(state)}
    return forked.run([*map(str, kill), *args], code=KILLED if kill else "", cwd=folder, env=env, timeout=60)


TASK = ("run", "count", "a.py", "--json", "--model", "anthropic:claude-sonnet-5-5")


def proposed(done):
    outcome = json.loads(done.stdout.splitlines()[-1])
    hunks = outcome["proposal"]["hunks"]
    return outcome["state"], [
        {name: hunk[name] for name in ("path", "line", "oldText", "newText", "reason")} for hunk in hunks
    ]


def killed_at(folder, tmp_path, server, at, when):
    """Kill a run at one of its writes and go on with it; returns what it proposed, None when it was over by then."""
    server.asked.clear()
    state = tmp_path / f"state-{at}-{when}"
    first = start(folder, state, *TASK, kill=(at, when))
    if first.returncode == 0:
        return None
    assert first.returncode == -signal.SIGKILL, first.stderr
    usage = json.loads(start(folder, state, "usage", "--json").stdout)
    again = start(folder, state, "resume", "--json")
    if again.returncode == 2:  # nothing was written yet, or all of it
        assert "No run here was cut off" in again.stderr, again.stderr
        pending = json.loads(start(folder, state, "review", "--json").stdout)
        again = again if pending else start(folder, state, *TASK)
        if pending:
            assert server.twice == 0
            return "proposed", [
                {name: hunk[name] for name in ("path", "line", "oldText", "newText", "reason")}
                for hunk in pending[0]["hunks"]
            ]
    assert again.returncode == 0, again.stdout + again.stderr
    assert server.twice <= 1, (at, when, server.asked)
    known = sum(each["requests"] for each in usage["runs"])
    lost = sum(each["lostRequests"] for each in usage["runs"])
    assert server.twice <= lost or known == 0  # and what was lost is counted
    return proposed(again)


@pytest.mark.parametrize(("at", "when"), [(3, "after"), (6, "before")])
def test_killed_at_a_write_it_goes_on_to_the_same_end(folder, tmp_path, server, at, when):
    lay(folder, FILES)
    whole = proposed(start(folder, tmp_path / "whole", *TASK))
    assert killed_at(folder, tmp_path, server, at, when) == whole


@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_every_write_it_goes_on_to_the_same_end(folder, tmp_path, server, part):
    """Before and after each write; the parts have every PARTS-th write each, since each kill takes a second or two."""
    lay(folder, FILES)
    whole = proposed(start(folder, tmp_path / "whole", *TASK))
    assert whole[0] == "proposed"
    repeated = kills = 0
    for at in range(part + 1, 100, PARTS):
        for when in ("before", "after"):
            found = killed_at(folder, tmp_path, server, at, when)
            if found is None:
                print(f"{kills} kills, {repeated} requests were sent again")
                assert at > 15
                return
            assert found == whole, (at, when)
            repeated += server.twice
            kills += 1
    pytest.fail("a run of 100 writes?")
