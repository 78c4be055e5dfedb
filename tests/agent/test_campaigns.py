"""Campaigns: one task over many targets, on workers that may die, with results as proposals, patches or branches."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from campaigning import BUILTIN, OLD, carry_out, everything, git, numbered, patches, plan, repository, workers
from kit import carry_out as alone
from kit import lay, workspace
from redline_agent.config import state_dir
from redline_agent.context.gather import Task
from redline_agent.events import ReplyReceived
from redline_agent.headless import open_workspace
from redline_agent.jobs.campaign import Campaign, Where
from redline_agent.jobs.channel import Listener
from redline_agent.jobs.plan import Plan
from redline_agent.jobs.results import changed
from redline_agent.models.builtin import BuiltinModel

pytest.importorskip("distributed", reason="the extra `scale` is not installed")
pytest.importorskip("dulwich")
pytestmark = pytest.mark.slow
KEY = "sk-ant-a-key-that-must-not-travel"


# ---- results


def test_proposals_are_in_each_repositorys_list_and_a_second_start_does_nothing(tmp_path):
    one = repository(tmp_path / "one", {"a.py": OLD, "b.py": "x = 1\n"})
    two = repository(tmp_path / "two", {"c.py": OLD})
    said = Plan(**BUILTIN, repositories=[str(one), str(two)], over=["*.py"])
    rows, _, _ = carry_out(tmp_path, said)
    assert [(row.target.label, row.state) for row in rows] == [
        ("one:a.py", "proposed"), ("one:b.py", "nothing"), ("two:c.py", "proposed")
    ]  # fmt: skip
    assert (one / "a.py").read_text() == OLD
    for root, count in ((one, 1), (two, 1)):
        (proposal,) = open_workspace(root).proposals()
        assert proposal.open
        assert len(proposal.files) == count
    rows, _, seen = carry_out(tmp_path, said)
    assert seen == []
    (two / "c.py").write_text(OLD + "\n")
    git(two, "commit", "-qam", "second")
    _, _, seen = carry_out(tmp_path, said)
    assert [row.target.label for row in seen] == ["two:c.py"]


def test_patches_apply_and_are_the_same_as_by_hand(tmp_path):
    files = {"a.py": OLD, "sub/b.py": OLD.replace("\n", "\r\n"), "c.py": OLD.rstrip(), "d.py": "\ufeff" + OLD}
    root = repository(tmp_path / "r", files)
    rows, _, _ = carry_out(root, Plan(**BUILTIN, output="patches", over=["*.py"]))
    assert {row.state for row in rows} == {"proposed"}
    hand = repository(tmp_path / "hand", files)
    done = subprocess.run(
        [sys.executable, "-m", "redline_server", "run", BUILTIN["task"], "--accept"],
        cwd=hand,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for file in sorted((root / "patches").iterdir()):
        git(root, "apply", "--whitespace=nowarn", str(file))
        file.unlink()
    git(root, "add", "-A"), git(hand, "add", "-A")
    assert git(root, "write-tree") == git(hand, "write-tree")


TRAP = "#!/bin/sh\ntouch {0}\n"


def test_branches_of_ten_repositories_and_nothing_of_them_is_executed(tmp_path):
    fired = tmp_path / "fired"
    roots, hands = [], []
    for n in range(10):
        files = {"a.py": OLD.replace("f(", f"f{n}("), "b.py": OLD}
        hands.append(lay(tmp_path / f"hand{n}", files))
        root = repository(tmp_path / f"r{n}", {**files, ".gitattributes": "*.py filter=evil\n"})
        for hook in ("post-commit", "pre-commit", "reference-transaction", "post-checkout", "post-index-change"):
            path = root / ".git/hooks" / hook
            path.write_text(TRAP.format(fired))
            path.chmod(0o755)
        with (root / ".git/config").open("a") as config:
            config.write(f'[filter "evil"]\n clean = touch {fired}\n smudge = touch {fired}\n required = true\n')
            config.write(
                f"[core]\n fsmonitor = touch {fired}\n[commit]\n gpgsign = true\n[gpg]\n program = touch {fired}\n"
            )
        roots.append(root)
    before = [everything(root) for root in roots]
    rows, campaign, _ = carry_out(
        tmp_path, Plan(**BUILTIN, repositories=[str(r) for r in roots], over=["*.py"], output="branch")
    )
    assert {row.state for row in rows} == {"proposed"}, [row.why for row in rows]
    assert campaign.problems == []
    assert not fired.exists()
    name = campaign.plan.branch_name
    for root, had in zip(roots, before, strict=True):
        now = everything(root)
        added = set(now) - set(had)
        assert all(path.startswith((".git/objects/", ".git/refs/heads/redline/")) for path in added), added
        assert {path: text for path, text in now.items() if path in had} == had
        bare = ["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]
        assert git(root, *bare, "rev-parse", f"{name}^") == git(root, *bare, "rev-parse", "main")
        for path in ("a.py", "b.py"):
            task = Task(BUILTIN["task"], file=path, targets=(path,))
            run, _ = asyncio.run(alone(workspace(hands[roots.index(root)]), BuiltinModel(), task))
            (by_hand,) = changed(run.proposal)
            assert b"List[int]" not in by_hand.after
            assert git(root, *bare, "show", f"{name}:{path}").encode() == by_hand.after
        assert "Redline" in git(root, *bare, "log", "-1", "--format=%an", name)
        git(root, *bare, "fsck", "--strict")
    assert all(row.delivered.startswith(name) for row in rows)


def test_a_branch_of_somebody_elses_is_left_alone(tmp_path):
    root = repository(tmp_path / "r", {"a.py": OLD})
    git(root, "branch", "mine")
    rows, campaign, _ = carry_out(root, Plan(**BUILTIN, output="branch", branch="mine", over=["*.py"]))
    assert "has a branch mine already" in campaign.problems[0]
    assert git(root, "rev-parse", "mine") == git(root, "rev-parse", "main")
    assert rows[0].state == "proposed"  # it is kept: another name for the branch, and it is delivered


def test_targets_that_change_the_same_lines_are_not_both_in_the_branch(tmp_path, claude):
    root = repository(tmp_path / "r", {"m.py": "x = 0\n", "n.py": "y = 0\n"})
    both = [("x = 0", "x = 1")]
    claude({"m.py": both, "n.py": [("y = 0", "y = 1")]})
    rows, campaign, _ = carry_out(root, plan(output="branch", name="apart"))
    name = campaign.plan.branch_name
    assert git(root, "show", f"{name}:m.py") + git(root, "show", f"{name}:n.py") == "x = 1\ny = 1\n"
    read = {"tool": "read", "args": {"path": "m.py"}}
    edit = {"tool": "edit", "args": {"path": "m.py", "old": "x = 0", "new": "x = 2"}}
    claude({"m.py": both, "n.py": [read, edit]})
    rows, campaign, _ = carry_out(root, plan(output="branch", name="together"))
    assert [row.state for row in rows] == ["proposed", "proposed"]  # it can be had as a patch
    assert campaign.problems == ["r:n.py is not in the branch: another target changes m.py at line 1"]
    assert git(root, "show", f"{campaign.plan.branch_name}:m.py") == "x = 1\n"


def test_what_breaks_its_proof_is_no_result(tmp_path, claude):
    root = repository(tmp_path / "r", {"a.py": "x = 0\n", "b.py": "x = 0\n"})
    claude({"a.py": [("x = 0", "x = (")], "b.py": [("x = 0", "x = 1")]})
    rows, _, _ = carry_out(root, plan(output="patches"))
    assert [(row.state, row.why[:15]) for row in rows] == [("failed", "proof: a.py par"), ("proposed", "")]
    assert len(list((root / "patches").iterdir())) == 1


# ---- workers that die, money, rates


def test_keys_stay_where_they_are(tmp_path, claude):
    files, edits = numbered(3)
    root = repository(tmp_path / "r", files)
    server = claude(edits)
    rows, campaign, _ = carry_out(root, plan())
    assert {row.state for row in rows} == {"proposed"}
    assert server.keys == {KEY}
    kept = [path for path in state_dir().rglob("*") if path.is_file()]
    assert len(kept) > 3
    assert not [path for path in kept if KEY.encode() in path.read_bytes()]
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept if path.suffix == ".sqlite")


def test_a_worker_that_is_killed_costs_one_request_at_most(tmp_path, claude):
    files, edits = numbered(6)
    root = repository(tmp_path / "r", files)
    server = claude(edits, delay_s=0.1)
    whole, _, _ = carry_out(root, plan(output="patches", name="whole"))
    expected = patches(root)
    assert server.twice == 0
    server.asked.clear()
    kills = []

    async def kill(_campaign):
        while True:
            await asyncio.sleep(0.9)
            if len(kills) < 2 and server.asked and (there := workers()):
                os.kill(there[0], signal.SIGKILL)
                kills.append(there[0])

    rows, _, seen = carry_out(root, plan(output="patches", name="killed", limits={"tries_max": 9}), beside=kill)
    assert kills
    assert {row.state for row in rows} == {"proposed"}, [(row.target.label, row.why) for row in rows]
    assert patches(root) == expected
    assert server.twice <= len(kills)
    assert len(seen) == len(rows) == len(whole)


def received(campaign):
    """The replies that a campaign's journal has: file and turn of each."""
    found = []
    for row in campaign.rows():
        replies = [each for each in campaign.journal.of_run(row.run) if isinstance(each, ReplyReceived)]
        found += [(row.target.paths[0], turn) for turn in range(len(replies))]
    return found


def test_ten_kills_at_random_moments(tmp_path, claude):
    files, edits = numbered(24, steps=4)
    root = repository(tmp_path / "r", files)
    server = claude(edits, delay_s=0.12)
    carry_out(root, plan(output="patches", name="whole"))
    expected = patches(root)
    assert len(expected) == 24
    assert server.twice == 0
    server.asked.clear()
    kills, bought = [], []
    chance = random.Random()

    async def kill(_campaign):
        asked = 0
        while len(kills) < 10:
            await asyncio.sleep(chance.uniform(0.05, 0.6))
            there = workers()
            if server.asked.total() >= asked + 6 and there:  # something has happened since the last one
                asked = server.asked.total()
                known = received(_campaign)
                bought.append({turn: server.asked[turn] for turn in known})
                kills.append(chance.choice(there))
                os.kill(kills[-1], signal.SIGKILL)

    rows, _, seen = carry_out(root, plan(output="patches", name="killed", limits={"tries_max": 20}), beside=kill)
    assert len(kills) == 10
    assert {row.state for row in rows} == {"proposed"}, [(row.target.label, row.why) for row in rows]
    assert patches(root) == expected
    print(f"10 kills: {server.twice} requests were sent again, of {sum(server.asked.values())}")
    assert server.twice <= 10
    for known in bought:  # what had been received by then was never asked for again
        assert {turn: server.asked[turn] for turn in known} == known
    assert len(bought[-1]) > 5
    assert sorted(row.target.label for row in seen) == sorted(row.target.label for row in rows)  # none twice
    for row in rows:
        turns = [(path, turn) for path, turn in server.asked if path == row.target.paths[0]]
        assert sorted(turn for _, turn in turns) == [0, 1, 2, 3, 4]
    repeats = [count - 1 for count in server.asked.values() if count > 1]
    print(f"most repeats of one request: {max(repeats, default=0)}")


def test_a_poisoned_target_is_given_up_and_the_rest_is_done(tmp_path, claude):
    files, edits = numbered(4, steps=1)
    root = repository(tmp_path / "r", files)

    def poison(path, _turn):
        if path == "m01.py":
            for pid in workers():
                os.kill(pid, signal.SIGKILL)

    server = claude(edits, on_request=poison)
    rows, _, _ = carry_out(root, plan(output="patches", limits={"concurrency": 1, "tries_max": 2}), Where(1))
    assert [row.state for row in rows] == ["proposed", "failed", "proposed", "proposed"], [row.why for row in rows]
    assert "given up after 2 tries" in rows[1].why
    assert server.asked["m01.py", 0] == 2


def test_the_money_of_all_holds_over_all_workers(tmp_path, claude):
    files, edits = numbered(6, steps=2)
    root = repository(tmp_path / "r", files)
    server = claude(edits, input_tokens=30_000)
    rows, _, _ = carry_out(root, plan(name="poor", limits={"cost_usd_max": 1.0}))
    states = {row.state for row in rows}
    assert "over budget" in states, [(row.state, row.cost_usd) for row in rows]
    assert 0.2 < sum(row.cost_usd for row in rows) <= 1.0
    assert any("cost_usd_max = 1" in row.why for row in rows)
    asked = sum(server.asked.values())
    rows, _, _ = carry_out(root, plan(name="poor", limits={"cost_usd_max": 20.0}))
    assert {row.state for row in rows} == {"proposed"}
    assert server.twice == 0  # what was bought before is used
    assert sum(server.asked.values()) > asked


def test_the_rate_holds_over_all_workers(tmp_path, claude):
    files, edits = numbered(4, steps=1)
    root = repository(tmp_path / "r", files)
    server = claude(edits)
    carry_out(root, plan(limits={"requests_per_minute": 300.0}))
    gaps = [b - a for a, b in zip(server.seen_s, server.seen_s[1:], strict=False)]
    assert len(gaps) == 7
    assert sum(gaps) >= 7 * 0.2 - 0.5  # the first ones wait for their worker's connection
    assert sorted(gaps)[len(gaps) // 2] >= 0.15


def test_stopping_keeps_what_is_done_and_starting_again_goes_on(tmp_path, claude):
    files, edits = numbered(6)
    root = repository(tmp_path / "r", files)
    server = claude(edits, delay_s=0.1)
    campaign = Campaign(plan(output="patches"), root)

    async def go():
        campaign.find()
        campaign.take_in(again=False)
        task = asyncio.create_task(campaign.carry_out(Where(2)))
        while sum(server.answered.values()) < 9:
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(go())
    states = [row.state for row in campaign.rows()]
    campaign.close()
    assert {"running", "left"} & set(states)
    assert workers() == []
    rows, _, seen = carry_out(root, plan(output="patches"))
    assert {row.state for row in rows} == {"proposed"}
    assert len(seen) == sum(state != "proposed" for state in states)
    assert server.twice <= 2  # one request was in flight in each worker


# ---- the command line, and machines


def redline(root, *args, code=0, env=None, **more):
    done = subprocess.run(
        [sys.executable, "-m", "redline_server", *args], cwd=root, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})}, timeout=120, **more,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_the_command_shows_first_and_then_does(tmp_path, claude):
    files, edits = numbered(3, steps=1)
    root = repository(tmp_path / "r", files)
    server = claude(edits)
    (root / "c.toml").write_text(
        'task = "count them"\nover = ["*.py"]\nmodel = "anthropic:claude-sonnet-5-5"\noutput = "patches"\nvalidation = "never"\n'
    )
    dry = json.loads(redline(root, "campaign", "c.toml", "--dry-run", "--json"))
    assert (dry["targets"], len(dry["rows"]), dry["costUsd"] > 0, server.asked) == (3, 3, True, {})
    assert "about" in redline(root, "campaign", "c.toml", "--dry-run")
    lines = [json.loads(line) for line in redline(root, "campaign", "c.toml", "--json").splitlines()]
    assert [line["type"] for line in lines] == ["target"] * 3 + ["outcome"]
    assert lines[-1]["counts"] == {"proposed": 3}
    assert lines[-1]["tokens"] == sum(line["tokens"] for line in lines[:3]) > 0
    out = redline(root, "campaign", "c.toml", "--report", "report.html")
    assert "3 proposed" in out
    page = (root / "report.html").read_text()
    assert page.count("<h2>") == 3
    assert "line_0 = 1" in page
    dry = json.loads(redline(root, "campaign", "c.toml", "--dry-run", "--json"))
    assert dry["targets"] == 0


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["x", "--over", "*.nothing"], "No committed file fits"),
        (["missing.toml"], "cannot be read"),
        (["x", "--repository", "https://example.invalid/r"], "Clone it first"),
        (["x", "--repository", "/"], "no commit"),
        (["x", "--scheduler", "tls://127.0.0.1:1"], "--listen"),
        (["x", "--scheduler", "tls://127.0.0.1:1", "--listen", "127.0.0.1:0"], "mutual TLS"),
    ],
)
def test_what_cannot_be_is_said_at_once(tmp_path, args, why):
    root = repository(tmp_path / "r", {"a.py": "x = 1\n"})
    done = subprocess.run(
        [sys.executable, "-m", "redline_server", "campaign", *args],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stdout
    assert why in done.stderr


@pytest.fixture
def machines(tmp_path):
    """A scheduler and workers as processes of their own, over mutual TLS; `start` gives its address."""
    keys = tmp_path / "keys"
    processes = []

    def run(*args):
        env = {**os.environ, "REDLINE_STATE_DIR": str(tmp_path / f"machine{len(processes)}")}
        process = subprocess.Popen(
            [sys.executable, "-m", "redline_server", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=env,
        )
        processes.append(process)
        return process

    def tls(name):
        return ["--tls-ca", keys / "ca.pem", "--tls-cert", keys / f"{name}.pem", "--tls-key", keys / f"{name}.key"]

    class Machines:
        folder = keys

        @staticmethod
        def start(count=2, name="scheduler"):
            scheduler = run("scheduler", "--port", "0", *map(str, tls("scheduler")))
            address = scheduler.stdout.readline().strip()
            there = [
                run("worker", "--scheduler", address, "--threads", "1", *map(str, tls("worker"))) for _ in range(count)
            ]
            time.sleep(2.5)  # until they have told the scheduler
            return address, scheduler, there

        @staticmethod
        def options(address, name="campaign"):
            return ["--scheduler", address, "--listen", "127.0.0.1:0", *map(str, tls(name))]

    redline(tmp_path, "scheduler", "--new-keys", str(keys))
    yield Machines
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_several_worker_processes_over_mutual_tls(tmp_path, claude, machines):
    files, edits = numbered(6)
    root = repository(tmp_path / "r", files)
    server = claude(edits, delay_s=0.05)
    address, scheduler, there = machines.start()
    assert address.startswith("tls://127.0.0.1:")
    assert all(path.stat().st_mode & 0o077 == 0 for path in machines.folder.iterdir())
    begun = subprocess.Popen(
        [sys.executable, "-m", "redline_server", "campaign", "count them", "--over", "*.py", "--model",
         "anthropic:claude-sonnet-5-5", "--output", "patches", "--json", "--validation", "never", *machines.options(address)],
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 30
    while sum(server.answered.values()) < 6 and time.monotonic() < until:
        time.sleep(0.02)
    there[0].kill()
    out, err = begun.communicate(timeout=90)
    assert begun.returncode == 0, out + err
    assert json.loads(out.splitlines()[-1])["counts"] == {"proposed": 6}
    assert server.twice <= 1
    assert len(list((root / "patches").iterdir())) == 6


def test_a_lost_scheduler_loses_no_result(tmp_path, claude, machines):
    files, edits = numbered(6)
    root = repository(tmp_path / "r", files)
    server = claude(edits, delay_s=0.1)
    address, scheduler, _ = machines.start()
    args = [
        "campaign",
        "count them",
        "--over",
        "*.py",
        "--model",
        "anthropic:claude-sonnet-5-5",
        "--output",
        "patches",
        "--json",
        "--validation",
        "never",
    ]
    begun = subprocess.Popen(
        [sys.executable, "-m", "redline_server", *args, *machines.options(address)],
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 30
    while sum(server.answered.values()) < 10 and time.monotonic() < until:
        time.sleep(0.02)
    scheduler.send_signal(signal.SIGKILL)
    out, err = begun.communicate(timeout=90)
    assert begun.returncode == 1, out + err
    done = json.loads(out.splitlines()[-1])
    assert done["counts"].get("proposed", 0) < 6
    lines = redline(root, *args).splitlines()  # on workers here
    assert json.loads(lines[-1])["counts"] == {"proposed": 6}
    assert len(lines) - 1 == 6 - done["counts"].get("proposed", 0)
    assert server.twice <= 2


def test_who_has_no_key_of_the_campaigns_authority_is_refused(tmp_path, machines):
    import socket
    import ssl

    address, _, _ = machines.start(count=0)
    host, port = address.removeprefix("tls://").rsplit(":", 1)
    other = tmp_path / "other"
    redline(tmp_path, "scheduler", "--new-keys", str(other))

    def greeted(context):
        with socket.create_connection((host, int(port)), 5) as plain:
            plain.settimeout(5)
            try:
                with context.wrap_socket(plain) if context else plain as connection:
                    return bool(connection.recv(100))
            except OSError:
                return False

    def context(folder=None):
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
        if folder:
            made.load_cert_chain(folder / "worker.pem", folder / "worker.key")
        return made

    assert greeted(context(machines.folder))
    assert not greeted(context())
    assert not greeted(context(other))
    assert not greeted(None)


def test_an_embedded_cluster_listens_on_loopback_alone_and_speaks_no_http(tmp_path, claude):
    import socket

    files, edits = numbered(4)
    root = repository(tmp_path / "r", files)
    claude(edits, delay_s=1.5)
    found = []

    async def look(_campaign):
        while not found:
            await asyncio.sleep(0.3)
            pids = workers()
            there = listening([os.getpid(), *pids])
            if len(there) >= 4:  # scheduler, coordinator, two workers
                found.extend(there)

    carry_out(root, plan(), beside=look)
    assert len(found) >= 4
    assert {host for host, _ in found} == {"0100007F"}
    for _, port in found:  # they are closed by now
        with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), 1):
            pass


def listening(pids):
    sockets = set()
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                sockets.add(os.readlink(fd))
            except OSError:
                continue
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    server = [
        (row[1].split(":")[0], int(row[1].split(":")[1], 16))
        for row in rows
        if row[3] == "0A" and f"socket:[{row[9]}]" in sockets
    ]
    return [each for each in server if str(each[1]) not in os.environ.get("ANTHROPIC_BASE_URL", "")]


def test_messages_that_mean_nothing_end_nothing(tmp_path, claude):
    files, edits = numbered(2)
    root = repository(tmp_path / "r", files)
    claude(edits, delay_s=0.1)
    heard = []

    class Odd(Listener):
        async def open(self, *place):
            for message in ODD:
                try:
                    heard.append(await self._visit().answer(message))
                except (ValueError, TypeError, KeyError) as error:
                    heard.append({"error": str(error)})
            return await super().open(*place)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("redline_agent.jobs.campaign.Listener", Odd)
        rows, _, _ = carry_out(root, plan())
    assert {row.state for row in rows} == {"proposed"}
    assert len(heard) == len(ODD)
    assert all({"skip", "stop", "error"} & set(said) for said in heard), heard


ODD = [
    {}, {"do": "write", "what": [["event"]]}, {"do": "end"}, {"do": "begin", "target": "nothing"}, {"do": "begin"},
    {"do": "archive", "name": "../../etc/passwd", "at": 0}, {"do": "ask", "boundUsd": "x"},
]  # fmt: skip


def test_a_real_package_of_two_hundred_files_comes_out_as_by_hand(tmp_path):
    import pygments

    source = Path(pygments.__file__).parent
    files = {f"pygments/{path.relative_to(source).as_posix()}": path.read_bytes() for path in source.rglob("*.py")}
    root, hand = repository(tmp_path / "r", files), repository(tmp_path / "hand", files)
    began = time.monotonic()
    rows, campaign, _ = carry_out(root, Plan(**BUILTIN, output="branch", over=["pygments/**/*.py"]))
    proposed = [row for row in rows if row.state == "proposed"]
    print(f"{len(rows)} targets in {time.monotonic() - began:.1f} s, {len(proposed)} proposed")
    assert len(rows) >= 200
    assert {row.state for row in rows} == {"proposed", "nothing"}, [row.why for row in rows if row.why][:5]
    assert len(proposed) >= 20
    by_hand = {}
    for row in rows:  # each by itself, in the same tree
        task = Task(BUILTIN["task"], file=row.target.paths[0], targets=row.target.paths)
        run, _ = asyncio.run(alone(workspace(hand), BuiltinModel(), task))
        assert (run.proposal is not None) == (row.state == "proposed"), row.target.label
        by_hand |= {each.path: each.after for each in changed(run.proposal)} if run.proposal else {}
    assert len(by_hand) == len(proposed)
    for path, text in by_hand.items():
        shown = subprocess.run(["git", "show", f"{campaign.plan.branch_name}:{path}"], cwd=root, capture_output=True)
        assert shown.stdout == text, path
    names = git(root, "diff", "--name-only", "main", campaign.plan.branch_name).split()
    assert sorted(names) == sorted(row.target.paths[0] for row in proposed)
