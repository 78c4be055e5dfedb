import os
import tomllib
from pathlib import Path

import pytest
from kit import call, finish, lay, play, results
from redline_agent.errors import PathRefused
from redline_agent.safety.gate import NOBODY, badge, decide
from redline_agent.safety.labels import CLEAN
from redline_agent.safety.paths import Resolver
from redline_agent.safety.requests import Access
from redline_agent.safety.rules import built_in_rules

RULES = built_in_rules()
CASES = tomllib.loads((Path(__file__).parent.parent / "cases/paths.toml").read_text())


@pytest.mark.parametrize("case", CASES["gate"], ids=lambda c: f"{c['effect']} {c['path']}")
def test_the_gate_decides_as_the_cases_say(case):
    assert decide(Access(case["effect"], case["path"]), CLEAN, RULES, NOBODY).verdict == case["expect"]


@pytest.mark.parametrize("case", CASES["badge"], ids=lambda c: c["path"])
def test_what_runs_later_is_badged(case):
    assert bool(badge(case["path"], case.get("content", ""), RULES)) == case["badged"]


def test_no_rule_means_block():
    assert decide(Access("execute", "a.py"), CLEAN, RULES, NOBODY).verdict == "block"


@pytest.mark.parametrize(
    "name",
    ["../proj-evil/x", "/etc/passwd", "~/.ssh/id_rsa", "a\0.py", "", " ", "a\nb", "link/x", "loop", "sub/../../x"],
)
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, name):
    root = tmp_path / "proj"
    root.mkdir()
    (tmp_path / "proj-evil").mkdir()
    (tmp_path / "proj-evil/x").write_text("1")
    (root / "sub").mkdir()
    os.symlink(tmp_path / "proj-evil", root / "link")
    os.symlink("/etc/passwd", root / "loop")
    with pytest.raises(PathRefused):
        Resolver(root).resolve(name)


def test_a_link_inside_is_the_file_that_it_leads_to(tmp_path):
    lay(tmp_path, {"real/a.py": "1"})
    os.symlink("real", tmp_path / "alias")
    assert Resolver(tmp_path).resolve("alias/a.py") == "real/a.py"
    assert Resolver(tmp_path).resolve(str(tmp_path / "real/a.py")) == "real/a.py"


def test_a_folder_swapped_for_a_link_is_noticed(tmp_path):
    lay(tmp_path, {"ws/out/a.txt": "1", "other/a.txt": "2"})
    resolver = Resolver(tmp_path / "ws")
    path = resolver.resolve("out/a.txt")
    (tmp_path / "ws/out/a.txt").unlink()
    (tmp_path / "ws/out").rmdir()
    os.symlink(tmp_path / "other", tmp_path / "ws/out")
    with pytest.raises(PathRefused):
        resolver.place(path)


@pytest.mark.parametrize(
    ("tool", "args", "says"),
    [
        ("read", {"path": ".env"}, "secret-files"),
        ("read", {"path": "../outside.txt"}, "outside the workspace"),
        ("read", {"path": "/proc/self/environ"}, "protected"),
        ("write", {"path": ".VSCODE/settings.json", "content": "{}"}, "control-files"),
        ("write", {"path": ".git/hooks/pre-commit", "content": "id"}, "control-files"),
        ("write", {"path": ".redline/config.toml", "content": ""}, "control-files"),
        ("write", {"path": "../main/.git/config", "content": ""}, "control-files"),
        ("move", {"path": "a.py", "to": ".git/hooks/post-checkout"}, "control-files"),
        ("move", {"path": ".env", "to": "env.txt"}, "secret-files"),
        ("delete", {"path": ".git"}, "control-files"),
    ],
)
def test_a_hostile_call_is_blocked_and_the_model_is_told_why(folder, tool, args, says):
    lay(folder, {"a.py": "1\n", ".env": "TOKEN=sekrit\n", ".git": "gitdir: ../main/.git/worktrees/w\n"})
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    run, events, _ = play(folder, [call(tool, **args), finish()])
    (error, text), _ = results(events)
    assert error
    assert says in text
    assert run.proposal is None
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_search_and_list_do_not_show_secrets(folder):
    lay(folder, {".env": "TOKEN=sekrit\n", "a.py": "TOKEN = 1\n", ".git/config": "TOKEN\n"})
    _, events, _ = play(folder, [call("search", pattern="TOKEN"), call("list"), finish()])
    assert [text.splitlines()[0] for _, text in results(events)][:2] == ["a.py:1: TOKEN = 1", "a.py"]


def test_a_regular_expression_that_never_ends_is_stopped(folder, monkeypatch):
    monkeypatch.setattr("redline_agent.tools.search._TIMEOUT_S", 1.0)
    lay(folder, {"a.txt": "a" * 60 + "b\n"})
    _, events, _ = play(folder, [call("search", pattern="(a+)+$"), finish()])
    assert "was stopped" in results(events)[0][1]


def test_nothing_of_an_untrusted_project_is_executed(folder):
    marker = folder.parent / "owned"
    bomb = f"import os\nos.system('touch {marker}')\n"
    lay(folder, {".ropeproject/config.py": bomb, "conftest.py": bomb, "sitecustomize.py": bomb, "rope.py": bomb})
    lay(folder, {"redline_agent.py": bomb, "ruff.py": bomb, ".git/config": f"[core]\n\tfsmonitor = touch {marker}\n"})
    lay(folder, {"a.py": "import os\n\n\ndef f():\n    return 1\n", "b.py": "from a import f\n\nf()\n"})
    script = [
        call("rename_symbol", path="a.py", old="f", new="g"),
        call("fix_lint", path="."),
        call("search", pattern="def"),
    ]
    run, events, _ = play(folder, [*script, finish()])
    assert [error for error, _ in results(events)] == [False] * 4
    assert run.proposal is not None
    assert not marker.exists()


def test_a_cancelled_helper_with_much_to_say_is_reaped(folder):
    import asyncio
    import sys
    import time

    from redline_agent.safety.process import run_helper

    async def go():
        argv = [
            sys.executable,
            "-c",
            "import sys, time; sys.stdout.write('x' * 5_000_000); sys.stdout.flush(); time.sleep(60)",
        ]
        task = asyncio.create_task(run_helper(argv, cwd=folder, timeout_s=60))
        await asyncio.sleep(0.5)
        task.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - began

    assert asyncio.run(go()) < 3


def test_a_helper_that_says_too_much_is_stopped(folder, monkeypatch):
    import asyncio
    import sys

    from redline_agent.errors import ToolError
    from redline_agent.safety import process

    monkeypatch.setattr(process, "OUTPUT_BYTES_MAX", 100_000)
    argv = [sys.executable, "-c", "while True: print('x' * 1000)"]
    with pytest.raises(ToolError, match="larger than"):
        asyncio.run(process.run_helper(argv, cwd=folder, timeout_s=30))
