"""What a repository, a worker or bad luck may do to a campaign, and what does not come of it."""

import asyncio
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from kit import lay
from redline_agent.config import state_dir
from redline_agent.errors import RedlineError, UsageError, WorkspaceError
from redline_agent.events import Proposed, RunEnded
from redline_agent.headless import open_workspace
from redline_agent.jobs import engine as engines
from redline_agent.jobs.budget import Budget
from redline_agent.jobs.campaign import Campaign, Where, folder_of
from redline_agent.jobs.coordinator import Coordinator
from redline_agent.jobs.plan import Plan, checked
from redline_agent.jobs.results import Changed, patch
from redline_agent.jobs.trees import Tree, unpack
from redline_agent.report import write_campaign
from redline_agent.safety.approvals import ANSWERS, Question
from redline_agent.terminal import asker

pytest.importorskip("distributed", reason="the extra `scale` is not installed")
OLD = "import sys\nimport os\n\n\ndef f(x):\n    return os.path.join('a', str(x))\n"
TASK = {"task": "remove unused", "model": "builtin", "limits": {"concurrency": 1}, "over": ["*.py"]}


def git(root, *args, data=None):
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    who = ["-c", "user.name=a", "-c", "user.email=a@example.invalid", "-c", "core.protectNTFS=false"]
    done = subprocess.run(["git", *who, *args], cwd=root, input=data, capture_output=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


@pytest.fixture
def repository(tmp_path):
    root = lay(tmp_path / "r", {"a.py": OLD, "b.py": OLD})
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    return root


def carried_out(root, **said):
    campaign = Campaign(Plan(**{**TASK, **said}), root)
    try:
        campaign.find()
        campaign.take_in(again=False)
        asyncio.run(campaign.carry_out(Where(1)))
        return campaign.rows(), campaign.problems
    finally:
        campaign.close()


# ---- trees


def tree_of(root, *entries):
    """A commit whose tree has such entries, as no git would make it."""
    blob = git(root, "hash-object", "-w", "--stdin", data=b"x = 1\n")
    raw = b"".join(mode.encode() + b" " + name + b"\0" + bytes.fromhex(sha or blob) for mode, name, sha in entries)
    tree = git(root, "hash-object", "-w", "-t", "tree", "--literally", "--stdin", data=raw)
    commit = git(root, "commit-tree", "-m", "x", tree)
    git(root, "update-ref", "refs/heads/main", commit)
    return tree


@pytest.mark.parametrize(
    "entries",
    [
        [("100644", b"../x.py", "")], [("100644", b"a/x.py", "")], [("100644", b"/tmp/x.py", "")], [("100644", b"..", "")],
        [("100644", b".git", "")], [("100644", b".GIT", "")], [("100644", b"a", ""), ("120000", b"a", "")],
    ],
)  # fmt: skip
def test_a_tree_with_names_that_cannot_be_is_refused(repository, entries):
    tree_of(repository, *entries)
    with pytest.raises(RedlineError):
        Campaign(Plan(**{**TASK, "over": ["*"]}), repository).find()


def test_links_are_laid_last_and_lead_nowhere_else(tmp_path):
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz") as files:
        for name, to in (("out", "../../etc"), ("in", "d/x"), ("abs", "/etc/passwd"), ("d2", "d")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, to
            files.addfile(link)
        for name in ("d/x", "out/y"):
            info = tarfile.TarInfo(name)
            info.size = 1
            files.addfile(info, io.BytesIO(b"1"))
    unpack(archive, tmp_path / "laid")
    names = {path.relative_to(tmp_path / "laid").as_posix() for path in (tmp_path / "laid").rglob("*")}
    assert names == {"d", "d/x", "in", "d2", "out", "out/y"}
    assert not (tmp_path / "laid/out").is_symlink()
    with tarfile.open(archive, "w:gz") as files:
        files.addfile(tarfile.TarInfo("../x"))
    with pytest.raises(WorkspaceError):
        unpack(archive, tmp_path / "laid2")
    assert not (tmp_path / "x").exists()


# ---- branches and results


def test_what_the_user_did_to_the_branch_is_not_written_over(repository):
    rows, problems = carried_out(repository, output="branch", branch="rl")
    assert problems == []
    git(repository, "checkout", "-q", "rl")
    git(repository, "commit", "-q", "--amend", "--no-edit", "--date", "2020-01-01T00:00:00")
    mine = git(repository, "rev-parse", "rl")
    git(repository, "checkout", "-q", "main")
    _, problems = carried_out(repository, output="branch", branch="rl")
    assert "has a branch rl already" in problems[0]
    assert git(repository, "rev-parse", "rl") == mine


def test_results_are_of_the_commit_that_they_were_made_of(repository):
    first = git(repository, "rev-parse", "main")
    campaign = Campaign(Plan(**TASK, output="branch", branch="rl"), repository)
    campaign.find()
    campaign.take_in(again=False)
    (repository / "c.py").write_text("c = 1\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "meanwhile")
    asyncio.run(campaign.carry_out(Where(1)))
    campaign.close()
    assert campaign.problems == []
    assert git(repository, "rev-parse", "rl^") == first


@pytest.mark.parametrize("name", ["a b", "x..y", "x.lock", "/x", "-x", "x/", "a//b", "x.", ".x", "x/.y", "é"])
def test_names_that_no_branch_can_have_are_refused_first(name):
    with pytest.raises(UsageError):
        checked({**TASK, "branch": name}, "it")


def test_a_branch_that_cannot_be_beside_another_is_said(repository):
    git(repository, "branch", "rl")
    _, problems = carried_out(repository, output="branch", branch="rl/x")
    assert "cannot be written" in problems[0]


def test_what_was_found_is_delivered_where_it_is_wanted_later(repository):
    carried_out(repository)
    assert len(open_workspace(repository).proposals()) == 2
    (repository / "patches").write_text("in the way\n")
    rows, problems = carried_out(repository, output="patches")
    assert len(problems) == 2
    (repository / "patches").unlink()
    rows, problems = carried_out(repository, output="patches")
    assert problems == []
    assert all(Path(row.delivered).is_file() for row in rows)


@pytest.mark.parametrize("text", ["a\rb\nc\n", "a\r\nb\r\nc", "x", "", "é\nü\n", "a\n\rb\n"])
def test_patches_are_what_git_takes(tmp_path, text):
    root = tmp_path / "p"
    root.mkdir()
    git(root, "init", "-q")
    after = text.replace("a", "A").replace("é", "É") + "more\n"
    (root / "f").write_bytes(text.encode())
    made = patch([Changed("f", text.encode(), after.encode()), Changed("run.sh", None, b"#!/bin/sh\n", 0o100755)])
    git(root, "apply", "--whitespace=nowarn", "-", data=made.encode())
    assert (root / "f").read_bytes() == after.encode()
    assert os.access(root / "run.sh", os.X_OK)


def test_a_report_of_hostile_values_has_nothing_that_acts(repository, tmp_path):
    campaign = Campaign(Plan(**TASK), repository)
    campaign.find()
    (row, _) = campaign.take_in(again=False)
    evil = "<script>alert(1)</script><meta http-equiv=refresh content=0>"
    hunk = {"id": evil, "start": 0, "end": 0, "old": [], "new": [evil + "\n"], "reason": evil, "depends_on": [], "badge": evil,
            "state": evil, "origin": {"turn": 0, "call_id": "c", "tool": evil, "reason": evil}}  # fmt: skip
    operation = {**hunk, "kind": evil, "path": evil, "new_path": evil, "file": None}
    proposal = {
        "run": row.run, "session": row.session, "instruction": evil, "notes": [],
        "files": [{"path": evil, "file": {"text": "", "encoding": "utf-8", "bom": ""}, "hunks": [hunk]}],
        "operations": [operation], "proof": [{"check": evil, "state": evil, "ok": None, "detail": evil, "path": evil}],
    }  # fmt: skip
    campaign.journal.append(row.session, row.run, Proposed(proposal=proposal), RunEnded(state="proposed", answer=evil))
    campaign.store.end(row.target.key, "proposed", evil)
    write_campaign(tmp_path / "r.html", campaign)
    campaign.close()
    page = (tmp_path / "r.html").read_text()
    assert page.count("&lt;script&gt;") > 5
    assert "<script" not in page
    assert page.count("<meta") == 3


# ---- several at once, and workers


def test_a_campaign_is_carried_out_by_one_process_at_a_time(repository):
    one, two = Campaign(Plan(**TASK), repository), Campaign(Plan(**TASK), repository)
    one.find(), two.find()
    one.take_in(again=False)
    with pytest.raises(UsageError, match="another process"):
        two.take_in(again=False)
    one.close()
    two.take_in(again=False)
    two.close()


def test_a_dry_run_notes_nothing(repository):
    carried_out(repository, limits={"tries_max": 1})
    state = folder_of(Campaign(Plan(**TASK), repository).plan.ident) / "targets.sqlite"
    before = state.read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "redline_server", "campaign", TASK["task"], "--over", "*.py", "--model", "builtin", "--dry-run",
         "--retry", "--json"], cwd=repository, capture_output=True, text=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["targets"] == 0
    assert state.read_bytes() == before


@pytest.fixture
def coordinator(repository):
    campaign = Campaign(Plan(**TASK), repository)
    campaign.find()
    rows = campaign.take_in(again=False)
    made = Coordinator(
        campaign.plan,
        "builtin",
        campaign.store,
        campaign.journal,
        Budget(1.0, 0),
        campaign.folder / "archives",
        lambda _: False,
    )
    yield made, rows
    campaign.close()


def ask(visit, **message):
    return asyncio.run(visit.answer(message))


def test_a_worker_writes_to_its_own_target_alone(coordinator):
    made, (mine, other) = coordinator
    visit = made.visit()
    ask(visit, do="begin", target=mine.target.key)
    event = RunEnded(state="proposed").model_dump(mode="json")
    ask(visit, do="write", what=[["event", mine.session, mine.run, [event]]])
    for wrong in (
        ["event", other.session, mine.run, [event]], ["event", mine.session, other.run, [event]],
        ["output", other.session, "c", "x"], ["text", "0" * 16, "not its digest"], ["child", other.run, "k", "s", "c"],
        ["child", mine.run, "k", mine.session, "c"],
    ):  # fmt: skip
        with pytest.raises(ValueError, match="another target|digest"):
            ask(visit, do="write", what=[wrong])
    assert made.journal.of_run(other.run) == []


def test_a_slow_worker_is_fenced_off_and_holds_no_money(coordinator):
    made, (row, _) = coordinator
    slow, quick = made.visit(), made.visit()
    ask(slow, do="begin", target=row.target.key)
    assert ask(slow, do="ask", boundUsd=0.9)["refused"] == ""
    ask(quick, do="begin", target=row.target.key)
    assert "another worker" in ask(slow, do="write", what=[])["stop"]
    assert ask(quick, do="ask", boundUsd=0.5)["again"]
    slow.over()
    assert made.budget.spent_usd == 0.9  # it may have been spent
    assert "could pass" in ask(quick, do="ask", boundUsd=0.5)["refused"]


def test_a_worker_that_leaves_a_target_for_another_one_holds_nothing_of_it(coordinator):
    made, (one, two) = coordinator
    visit = made.visit()
    ask(visit, do="begin", target=one.target.key)
    ask(visit, do="ask", boundUsd=0.4)
    ask(visit, do="begin", target=two.target.key)
    assert made.budget.spent_usd == 0.4
    assert ask(visit, do="ask", boundUsd=0.6) == {"waitS": 0.0, "again": False, "refused": ""}
    assert made.store.get(one.target.key).cost_usd == 0.4


def test_a_campaign_without_workers_ends(repository, monkeypatch):
    monkeypatch.setattr(engines, "RESPAWNS_A_MINUTE_MAX", 0)
    monkeypatch.setattr(engines, "DESERTED_S_MAX", 2.0)
    monkeypatch.setattr(engines, "_LOOK_EVERY_S", 0.2)
    campaign = Campaign(Plan(**TASK), repository)
    real = engines.Crew.begin

    async def begin(self):
        await real(self)
        crews.append(self)

    crews, found = [], []
    monkeypatch.setattr(engines.Crew, "begin", begin)

    async def go():
        campaign.find()
        campaign.take_in(again=False)
        work = asyncio.create_task(campaign.carry_out(Where(1)))
        while not crews:
            await asyncio.sleep(0.01)
        for helper in crews[0]._helpers:
            await asyncio.sleep(1.0)
            await helper.stop()
        async with asyncio.timeout(30):
            found.extend(await asyncio.gather(work, return_exceptions=True))

    asyncio.run(go())
    rows = campaign.rows()
    campaign.close()
    too_early = found and isinstance(found[0], RedlineError)
    assert too_early or campaign.lost == "No worker is left." or {row.state for row in rows} == {"proposed"}


def test_nothing_of_the_users_source_is_left_lying_about(repository):
    carried_out(repository)
    left = [path for path in state_dir().rglob("*") if path.is_file() and path.suffix in (".py", ".gz")]
    assert left == []


# ---- the person at the terminal


def test_a_terminal_that_closes_denies(monkeypatch):
    from rich.console import Console

    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    asked = asker(Console(file=io.StringIO()))(Question("run", "read it", "why", ANSWERS))
    assert asyncio.run(asked) == "deny"


def test_a_tree_can_be_read_at_another_commit(repository):
    first = git(repository, "rev-parse", "HEAD")
    (repository / "a.py").unlink()
    git(repository, "commit", "-qam", "gone")
    tree = Tree(repository, first)
    assert tree.files() == ["a.py", "b.py"]
    tree.close()
