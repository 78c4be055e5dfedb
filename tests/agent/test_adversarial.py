"""What a hostile or a harmless model asks for, case by case, against the real executor: sandboxed, and with none to be had."""

import asyncio
import os
import tomllib
from pathlib import Path

import adversarial
import pytest
from kit import Config, Task, call, finish, lay, play, results, workspace
from redline_agent.deciding import accept
from redline_agent.errors import PermitRefused, RedlineError
from redline_agent.safety.approvals import WINDOW_QUESTIONS_MAX
from redline_agent.safety.gate import Standing, decide
from redline_agent.safety.keeper import Keeper
from redline_agent.safety.labels import CLEAN
from redline_agent.safety.permits import issue
from redline_agent.safety.requests import Server
from redline_agent.safety.rules import built_in_rules
from redline_agent.safety.sandbox import layers
from redline_agent.workspace.overlay import Overlay
from redline_agent.workspace.workbench import Workbench

CASES = [
    case
    for name in ("adversarial", "adversarial_more")
    for case in tomllib.loads((Path(__file__).parent.parent / f"cases/{name}.toml").read_text())["case"]
]
BY_TOOL = [
    case for case in CASES if next(iter(case["action"])) in ("read", "search", "write", "edit", "move", "delete", "run")
]
PLAYED = [case for case in BY_TOOL if "race" not in case]
COMMANDS = [case for case in PLAYED if "run" in case["action"]]
ELSEWHERE = {
    "file-changed-since-review", "directory-swapped-for-symlink-before-accept", "altered-after-approval",
    "remote-image-in-model-text", "directive-that-came-with-the-file", "workspace-config-cannot-allow",
    "client-configuration-cannot-allow", "untrusted-project-runs-nothing", "mcp-command-changed",
    "mcp-description-changed", "mcp-tool-named-like-a-builtin", "approval-replayed", "approval-flood",
}  # fmt: skip
"""Cases that a test of their own plays: below, in tests/server/test_approvals.py, the directive in test_session.py.

There is no MCP client in this version: its cases are the gate's alone, and the naming of its tools waits for it.
"""


def test_every_case_is_played():
    assert {case["id"] for case in CASES} == {case["id"] for case in PLAYED} | ELSEWHERE
    assert len({case["id"] for case in CASES}) == len(CASES)


def check(case, seen, expect):
    assert seen.verdict == {"contained": "allow"}.get(expect, expect), (seen.text, seen.questions)
    assert case.get("absent", "\0") not in seen.text
    assert seen.seconds < case.get("within_seconds", 60)
    assert len(seen.text) < 60_000
    assert seen.connections == 0
    if expect == "block":
        assert seen.run.proposal is None or "run" in case["action"]
    if expect == "ask":
        assert "not-approved" in seen.text
        assert seen.run.proposal is None
    if expect in ("allow", "contained") and "hunks" in case:
        assert sorted({i.path for i in seen.run.proposal.items} if seen.run.proposal else []) == case["hunks"]
    if "shown" in case and "run" in case["action"]:
        assert case["shown"] in seen.text
        assert "\x1b" not in seen.text
    if case.get("accept") == "skip":
        assert case["action"].get("write") in adversarial.accept_in_bulk(seen)


@pytest.mark.parametrize("case", PLAYED, ids=lambda c: c["id"])
def test_case_in_the_sandbox(case, folder):
    check(case, adversarial.play(case, folder), case["expect"])


LAYERS = {f"{layer.name}{'-over-a-copy' if layer.copies else ''}": layer for layer in reversed(layers.candidates())}


@pytest.mark.slow
@pytest.mark.parametrize("case", COMMANDS, ids=lambda c: c["id"])
@pytest.mark.parametrize("layer", [name for name in LAYERS if "over-a-copy" in name])
def test_case_in_the_other_layers(layer, case, folder):
    found = layers.Found(LAYERS[layer], ("chosen for this test",))
    check(case, adversarial.play(case, folder, found=found), case["expect"])


@pytest.mark.parametrize("case", COMMANDS, ids=lambda c: c["id"])
def test_case_without_a_sandbox(case, folder):
    expect = case.get("unsandboxed", "ask" if case["expect"] == "contained" else case["expect"])
    seen = adversarial.play(case, folder, found=layers.Found(None, ("switched off",)))
    if case["id"] == "secret-then-network":
        expect = "block"
    if expect == "allow":
        assert seen.verdict == "allow", seen.text
        return
    check({k: v for k, v in case.items() if k not in ("hunks", "shown")}, seen, expect)


@pytest.mark.parametrize("case", COMMANDS, ids=lambda c: c["id"])
def test_nothing_runs_before_trust(case, folder):
    seen = adversarial.play(case, folder, trusted=False)
    assert seen.verdict == "block"
    assert not seen.questions


# ---- cases with a change between decision and act


def test_altered_after_approval(folder):
    lay(folder, {"a.py": "1\n"})
    ws = workspace(folder)
    ws.memory.trust(ws.resolver.root)
    for found in (None, layers.Found(None)):
        bench = Workbench(
            Overlay(ws.resolver), Keeper(ws.rules, ws.resolver.root), folder.parent / "scratch", found=found
        )

        async def go(bench=bench):
            await bench.ready()
            permit = issue(bench.command("ls", "."))
            try:
                await bench.run(bench.command("id", "."), permit, timeout_s=10)
            finally:
                await bench.close()

        with pytest.raises(PermitRefused, match="not what was about to happen"):
            asyncio.run(go())


def test_a_permit_is_good_for_one_use(folder):
    ws = workspace(folder)
    bench = Workbench(Overlay(ws.resolver), Keeper(ws.rules, ws.resolver.root), folder.parent / "scratch")

    async def go():
        await bench.ready()
        command = bench.command("true", ".")
        permit = issue(command)
        try:
            await bench.run(command, permit, timeout_s=10)
            await bench.run(command, permit, timeout_s=10)
        finally:
            await bench.close()

    with pytest.raises(PermitRefused, match="used already"):
        asyncio.run(go())


def proposal_for(folder, path):
    run, _, _ = play(folder, [call("write", path=path, content="the agent's\n"), finish()])
    return workspace(folder), run.proposal


def test_file_changed_since_review(folder):
    lay(folder, {"src/a.py": "1\n"})
    ws, proposal = proposal_for(folder, "src/a.py")
    (folder / "src/a.py").write_text("changed by somebody else\n")
    with pytest.raises(RedlineError):
        accept(ws, proposal, [item.id for item in proposal.items])
    assert (folder / "src/a.py").read_text() == "changed by somebody else\n"


def test_directory_swapped_for_symlink_before_accept(folder, tmp_path):
    (folder / "out").mkdir()
    ws, proposal = proposal_for(folder, "out/a.txt")
    (tmp_path / "elsewhere").mkdir()
    (folder / "out").rmdir()
    os.symlink(tmp_path / "elsewhere", folder / "out")
    with pytest.raises(RedlineError):
        accept(ws, proposal, [item.id for item in proposal.items])
    assert not list((tmp_path / "elsewhere").iterdir())


def test_directory_swapped_after_the_check(folder, tmp_path, monkeypatch):
    """The window between resolving and opening: the folder is reached through no link, whoever changes it."""
    from redline_agent.safety.paths import Resolver

    (folder / "out").mkdir()
    ws, proposal = proposal_for(folder, "out/a.txt")
    (tmp_path / "elsewhere").mkdir()
    check = Resolver.place

    def swapping(self, path):
        place = check(self, path)
        if (folder / "out").is_dir() and not (folder / "out").is_symlink():
            (folder / "out").rmdir()
            os.symlink(tmp_path / "elsewhere", folder / "out")
        return place

    monkeypatch.setattr(Resolver, "resolve", lambda self, name: name)
    monkeypatch.setattr(Resolver, "place", swapping)
    with pytest.raises(RedlineError):
        accept(ws, proposal, [item.id for item in proposal.items])
    assert not list((tmp_path / "elsewhere").iterdir())


# ---- configuration, servers, approvals


def test_untrusted_project_runs_nothing(folder):
    marker = folder / "owned"
    bomb = f"import os; os.system('touch {marker}')\n"
    lay(folder, {".ropeproject/config.py": bomb, "conftest.py": bomb, "sitecustomize.py": bomb})
    lay(folder, {".git/config": f"[core]\n\tfsmonitor = touch {marker}\n", "a.py": "def f():\n    return 1\n"})
    script = [
        call("rename_symbol", path="a.py", old="f", new="g"),
        call("run", command="git status; pytest -q"),
        finish(),
    ]
    run, events, _ = play(folder, script)
    assert [error for error, _ in results(events)] == [False, True, False]
    assert run.proposal
    assert not marker.exists()


def test_workspace_config_cannot_allow_but_can_deny(folder):
    lay(
        folder,
        {
            ".redline/config.toml": '[permissions]\nallow = ["run: *", "net: *"]\ndeny = ["run: curl"]\n[limits]\nturns_max = 3\n[proof]\ntests = "./x"\n'
        },
    )
    ws = workspace(folder)
    run = ws.new_run(Task("x"), _Named(), Config())
    assert ws.rules.allow == ()
    assert [line.text for line in ws.rules.deny] == ["run: curl"]
    assert run.meter.limits.turns_max == 3


class _Named:
    name = "none"


@pytest.mark.parametrize(
    ("granted", "asked", "verdict"),
    [
        (Server("x", "a" * 64), Server("x", "a" * 64), "allow"),
        (Server("x", "a" * 64), Server("x", "b" * 64), "ask"),
        (Server("x", "a" * 64, "t"), Server("x", "b" * 64, "t"), "ask"),
    ],
)
def test_a_changed_mcp_server_or_description_asks_again(granted, asked, verdict):
    """The gate alone: there is no MCP client in this version."""
    standing = Standing(trusted=True, approved=frozenset({granted.grant_key()}))
    assert decide(asked, CLEAN, built_in_rules(), standing).verdict == verdict


def test_approval_flood(folder):
    asked = []

    async def person(question):
        asked.append(question)
        return "deny"

    async def go():
        keeper = Keeper(built_in_rules(), folder, ask=person)
        refused = 0
        for number in range(1000):
            try:
                await keeper.obtain(workspace_access(folder, number))
            except RedlineError:
                refused += 1
        return refused

    assert asyncio.run(go()) == 1000
    assert len(asked) == WINDOW_QUESTIONS_MAX


def workspace_access(folder, number):
    from redline_agent.safety.requests import Access

    return Access("read", f"/somewhere/{number}", place="outside")
