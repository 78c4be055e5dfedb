"""Bad luck in a campaign: workers that freeze, share a process with a poison, disks that fill, repositories that are
damaged or of another kind, and what is typed on the command line.
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from campaigning import BUILTIN, OLD, carry_out, git, numbered, patches, plan, repository, workers
from kit import lay
from redline_agent.errors import JournalError, UsageError
from redline_agent.jobs.campaign import Campaign, Where
from redline_agent.jobs.outcomes import estimate
from redline_agent.jobs.plan import checked
from redline_agent.jobs.results import Changed, patch
from redline_agent.jobs.store import Store
from redline_agent.jobs.trees import Tree
from redline_agent.models.builtin import BuiltinModel

pytest.importorskip("distributed", reason="the extra `scale` is not installed")
pytest.importorskip("dulwich")
pytestmark = pytest.mark.slow


def redline(root, *args):
    argv = [sys.executable, "-m", "redline_server", *args]
    return subprocess.run(argv, cwd=root, capture_output=True, text=True, timeout=120)


def test_a_worker_that_freezes_holds_neither_money_nor_target(tmp_path, claude):
    files, edits = numbered(4, steps=2)
    root = repository(tmp_path / "r", files)
    frozen = []

    def freeze(_path, _turn):
        if not frozen:
            frozen.append(workers()[0])
            os.kill(frozen[0], signal.SIGSTOP)

    claude(edits, delay_s=0.2, on_request=freeze, input_tokens=2_000)
    began = time.monotonic()
    rows, campaign, _ = carry_out(root, plan(limits={"cost_usd_max": 1.0, "tries_max": 5}))
    assert frozen
    assert {row.state for row in rows} == {"proposed"}, [row.why for row in rows]
    assert time.monotonic() - began < 150
    assert not campaign.lost


def test_a_poison_fails_nobody_beside_it(tmp_path, claude):
    files, edits = numbered(4, steps=1)
    root = repository(tmp_path / "r", files)

    def poison(path, _turn):
        if path == "m01.py":
            time.sleep(0.5)  # the others have begun
            for pid in workers():
                os.kill(pid, signal.SIGKILL)

    claude(edits, on_request=poison, delay_s=0.3)
    rows, _, _ = carry_out(root, plan(output="patches", limits={"concurrency": 3, "tries_max": 2}), Where(1))
    assert [row.state for row in rows] == ["proposed", "failed", "proposed", "proposed"], [row.why for row in rows]


def test_what_was_given_up_goes_on_from_its_journal_when_it_is_tried_again(tmp_path, claude):
    files, edits = numbered(1, steps=3)
    root = repository(tmp_path / "r", files)
    poisoned = [True]

    def poison(_path, turn):
        if turn == 2 and poisoned[0]:
            for pid in workers():
                os.kill(pid, signal.SIGKILL)

    server = claude(edits, on_request=poison)
    said = plan(output="patches", limits={"concurrency": 1, "tries_max": 2})
    (row,), _, _ = carry_out(root, said, Where(1))
    assert (row.state, row.tries) == ("failed", 2), row.why
    poisoned[0] = False
    (row,), _, _ = carry_out(root, said, Where(1), again=True)
    assert row.state == "proposed", row.why
    assert dict(server.asked) == {("m00.py", 0): 1, ("m00.py", 1): 1, ("m00.py", 2): 3, ("m00.py", 3): 1}
    assert len(patches(root)) == 1


def test_two_folders_have_state_and_money_of_their_own(tmp_path, claude):
    files, edits = numbered(1, steps=1)
    first, second = repository(tmp_path / "a", files), repository(tmp_path / "b", files)
    claude(edits, input_tokens=30_000)
    (row,), campaign, _ = carry_out(first, plan(limits={"cost_usd_max": 0.3}))
    assert row.state == "proposed", row.why
    (other,), beside, _ = carry_out(second, plan(limits={"cost_usd_max": 0.3}))
    assert other.state == "proposed", other.why
    assert campaign.plan.ident != beside.plan.ident


def test_what_was_under_way_when_the_campaign_died_counts_as_spent(tmp_path):
    root = repository(tmp_path / "r", {"a.py": OLD})
    campaign = Campaign(plan(limits={"cost_usd_max": 1.0}), root)
    campaign.find()
    campaign.take_in(again=False)
    (target,) = campaign.wanted
    campaign.store.reserve(target.key, 0.7)
    campaign.close()
    again = Campaign(plan(limits={"cost_usd_max": 1.0}), root)
    again.find()
    again.take_in(again=False)
    again.store.charge_reserved()
    assert again.store.spent_usd([target.key]) == 0.7
    again.close()


def test_a_disk_without_room_stops_the_campaign_and_fails_no_target(tmp_path, claude, monkeypatch):
    files, edits = numbered(3, steps=1)
    root = repository(tmp_path / "r", files)
    claude(edits)
    counted = Store.count
    left = [4]

    def full(self, *args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise JournalError("The campaign's state cannot be written or read: database or disk is full.")
        counted(self, *args, **kwargs)

    monkeypatch.setattr(Store, "count", full)
    rows, campaign, _ = carry_out(root, plan(name="full", limits={"concurrency": 1}), Where(1))
    assert "failed" not in {row.state for row in rows}, [row.why for row in rows]
    assert {"left", "running"} & {row.state for row in rows}
    assert "disk is full" in campaign._coordinator.stopping
    monkeypatch.setattr(Store, "count", counted)
    rows, _, _ = carry_out(root, plan(name="full", limits={"concurrency": 1}), Where(1))
    assert {row.state for row in rows} == {"proposed"}


def test_a_damaged_repository_harms_no_other(tmp_path):
    good, bad = repository(tmp_path / "good", {"a.py": OLD}), repository(tmp_path / "bad", {"a.py": OLD, "b.py": "x\n"})
    lost = git(bad, "rev-parse", "HEAD:a.py").strip()
    (bad / ".git/objects" / lost[:2] / lost[2:]).unlink()
    plain = lay(tmp_path / "plain", {"a.py": OLD})
    said = checked({**BUILTIN, "repositories": [str(each) for each in (bad, plain, good)]}, "a test")
    rows, campaign, _ = carry_out(tmp_path, said)
    states = {(row.target.repository, row.target.paths): row.state for row in rows}
    assert states[str(good), ("a.py",)] == "proposed"
    assert {state for (place, _), state in states.items() if place == str(bad)} == {"failed"}
    assert any("lacks an object" in row.why for row in rows)
    assert any("plain" in problem for problem in campaign.problems)


def test_a_repository_of_another_kind_is_refused(tmp_path):
    root = lay(tmp_path / "r", {"a.py": OLD})
    git(root, "init", "-q", "--object-format=sha256", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    with pytest.raises(UsageError, match="sha256|no commit that can be read"):
        Tree(root)


@pytest.mark.parametrize("name", ["a\tb.py", 'a"b.py', "a\nb.py", "ä b.py"])
@pytest.mark.parametrize("before", [b"one\n", None])
def test_patches_name_files_as_git_does(tmp_path, name, before):
    root = lay(tmp_path / "r", {})
    root.mkdir(exist_ok=True)
    git(root, "init", "-q")
    if before is not None:
        (root / name).write_bytes(before)
    (tmp_path / "it.patch").write_text(patch([Changed(name, before, b"two\n")]))
    git(root, "apply", str(tmp_path / "it.patch"))
    assert (root / name).read_bytes() == b"two\n"


def test_a_branch_is_written_once_and_known_though_its_note_came_first(tmp_path):
    root = repository(tmp_path / "r", {"a.py": "x\n"})
    notes = []
    with_ = Tree(root)
    first = with_.write_branch("b", {"a.py": (b"y\n", 0o100644)}, "m", "", notes.append)
    assert with_.write_branch("b", {"a.py": (b"y\n", 0o100644)}, "m", f"{'0' * 40} {first}", notes.append) == first
    assert notes == [first]
    second = with_.write_branch("b", {"a.py": (b"z\n", 0o100644)}, "m", first, notes.append)
    assert notes == [first, second]
    with pytest.raises(Exception, match="a name that cannot be"):
        with_.write_branch("c", {"../a.py": (b"", 0o100644)}, "m")
    with_.close()


def test_patches_go_where_they_are_wanted_this_time(tmp_path):
    root = repository(tmp_path / "r", {"a.py": OLD})
    for out in ("p1", "p2"):
        carry_out(root, checked({**BUILTIN, "output": "patches", "out": out}, "a test"), Where(1))
        assert [path.suffix for path in (root / out).iterdir()] == [".patch"]


def test_an_estimate_of_many_targets_looks_at_each_file_once(tmp_path):
    root = repository(tmp_path / "r", {f"p{n % 9}/m{n}.py": "x = 1\n" for n in range(900)})
    campaign = Campaign(checked({**BUILTIN, "model": "", "split": "package"}, "a test"), root)
    campaign.find()
    model = BuiltinModel()
    model.name = "another"
    assert estimate(campaign.look(), model).targets == len(campaign.wanted)
    campaign.close()


@pytest.mark.parametrize("glob", ["!", "\\", "[z-a]"])
def test_what_is_no_glob_is_said(tmp_path, glob):
    root = repository(tmp_path / "r", {"a.py": OLD})
    done = redline(root, "campaign", "remove unused", "--over", glob, "--dry-run")
    assert (done.returncode, "is no glob" in done.stderr) == (2, True), done.stderr


def test_the_command_line_says_what_is_wrong_first_and_json_always_ends_in_the_outcome(tmp_path):
    root = repository(tmp_path / "r", {"a.py": OLD})
    done = redline(root, "campaign", "remove unused", "--model", "nonsense:x", "--json")
    assert done.returncode == 2, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["type"], last["exitCode"]) == ("outcome", 2)
    assert "nonsense" in last["problems"][0]
    assert "Traceback" not in done.stderr
    done = redline(root, "campaign", "update the pyproject.toml", "--dry-run")
    assert done.returncode == 0, done.stderr
    deep = tmp_path / "deep.toml"
    deep.write_text("a=" + "[" * 5000)
    done = redline(root, "campaign", str(deep))
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr


def test_a_stop_is_told_as_an_outcome_too(tmp_path, claude):
    files, edits = numbered(2, steps=1)
    root = repository(tmp_path / "r", files)
    server = claude(edits, delay_s=20)
    argv = [sys.executable, "-m", "redline_server", "campaign", "count", "--over", "*.py", "--json",
            "--model", "anthropic:claude-sonnet-5-5", "--workers", "1"]  # fmt: skip
    foreground = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # background jobs ignore it
    with subprocess.Popen(
        argv, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=foreground
    ) as running:
        until = time.monotonic() + 60
        while not server.asked and time.monotonic() < until:
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    assert json.loads(out.splitlines()[-1])["exitCode"] == 130


def test_when_nobody_reads_any_more_it_stops(tmp_path):
    root = repository(tmp_path / "r", {f"m{n}.py": OLD for n in range(60)})
    argv = [
        sys.executable,
        "-m",
        "redline_server",
        "campaign",
        "remove unused",
        "--over",
        "*.py",
        "--json",
        "--workers",
        "1",
    ]
    with subprocess.Popen(argv, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        running.stdout.readline()
        running.stdout.close()
        assert running.wait(timeout=90) != 0
    campaign = Campaign(checked({"task": "remove unused", "over": ["*.py"], "model": "builtin"}, "a test"), root)
    campaign.find()
    assert "left" in {row.state for row in campaign.look()}
    campaign.close()
