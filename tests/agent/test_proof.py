"""The proof: new failures and diagnostics told from those of before, by real runners and servers in the sandbox."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from kit import call, carry_out, disk, finish, lay, proposed_text, workspace
from redline_agent.config import Config, merge
from redline_agent.context.gather import Task
from redline_agent.errors import ConfigError
from redline_agent.events import Said
from redline_agent.models.scripted import ScriptedModel
from redline_agent.proof import child, diagnostics, servers, suite
from redline_agent.proof.affected import affected, direct
from redline_agent.proof.servers import memory_bytes

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the sandbox here is Linux's")]

PROJECT = {
    "conftest.py": "",
    "pkg/__init__.py": "",
    "pkg/a.py": "def total(x: int) -> int:\n    return x\n",
    "pkg/b.py": "from pkg.a import total\n\n\ndef twice(x: int) -> int:\n    return total(x) * 2\n",
    "tests/test_a.py": "from pkg.b import twice\n\n\ndef test_twice():\n    assert twice(2) == 4\n\n\ndef test_old():\n    assert twice(1) == 7\n",
    "tests/test_other.py": "def test_other():\n    raise SystemExit('never run')\n",
}
QUIET = Config(validate="never", plan="never", proof_servers=("off",))


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """The project's interpreter is the one that the tests run with: it has pytest."""
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)


def prove(folder, *replies, config=QUIET, trusted=True, files=None, mends=False):
    lay(folder, files or PROJECT)
    ws = workspace(folder)
    if trusted:
        ws.memory.trust(ws.resolver.root)
    model = ScriptedModel([*replies, finish()], can={"mends": mends})
    run, events = asyncio.run(carry_out(ws, model, "do it", config=config))
    assert disk(folder) == (files or PROJECT)
    return run, events, model


def items(run, check):
    return [item for item in run.proposal.proof if item.check == check]


def suite_of(run):
    (item,) = items(run, "tests")
    return item


def edit(new):
    return call("edit", path="pkg/a.py", old="return x", new=f"return {new}")


# ---- tests


def test_a_new_failure_is_told_from_an_old_one(folder):
    run, _, _ = prove(folder, edit("x + 1"))
    item = suite_of(run)
    assert (item.state, item.ok) == ("current", False)
    assert "1 new failure: tests/test_a.py::test_twice; 1 more failed before" in item.detail
    assert "1 affected test file" in item.detail


def test_what_failed_before_is_no_fault_of_the_change(folder):
    item = suite_of(prove(folder, edit("x + 0"))[0])
    assert (item.state, item.ok) == ("current", True)
    assert "1 test failed as before the change: tests/test_a.py::test_old" in item.detail


def test_tests_that_pass_are_counted(folder):
    files = {**PROJECT, "tests/test_a.py": "from pkg.a import total\n\n\ndef test_total():\n    assert total(2) == 2\n"}
    item = suite_of(prove(folder, edit("+x"), files=files)[0])
    assert (item.state, item.ok) == ("current", True)
    assert "1 affected test file: 1 passed" in item.detail


def test_a_new_test_that_fails_is_new(folder):
    new = call(
        "write",
        path="tests/test_new.py",
        content="from pkg.a import total\n\n\ndef test_it():\n    assert total(1) == 2\n",
    )
    item = suite_of(prove(folder, new)[0])
    assert item.ok is False
    assert "tests/test_new.py::test_it" in item.detail


def test_nothing_runs_before_trust(folder):
    files = {**PROJECT, "conftest.py": "raise SystemExit('it ran')\n"}
    item = suite_of(prove(folder, edit("x + 1"), trusted=False, files=files)[0])
    assert (item.state, item.ok) == ("unavailable", None)
    assert "not trusted" in item.detail


def test_tests_that_take_too_long_are_timed_out(folder):
    files = {**PROJECT, "tests/test_a.py": "import time\nimport pkg.a\n\n\ndef test_slow():\n    time.sleep(60)\n"}
    config = merge(QUIET, {"proof": {"seconds": 2}}, "x")
    began = time.monotonic()
    item = suite_of(prove(folder, edit("x + 1"), config=config, files=files)[0])
    assert (item.state, item.ok) == ("timed-out", None)
    assert time.monotonic() - began < 30


def test_what_is_saved_while_the_tests_run_makes_what_they_say_stale(folder):
    slow = "import time\nimport pkg.a\n\n\ndef test_slow():\n    time.sleep(3)\n"
    files = {**PROJECT, "tests/test_a.py": slow, "tests/test_other.py": ""}
    lay(folder, files)
    threading.Timer(2, lambda: (folder / "tests/test_other.py").write_text("")).start()
    item = suite_of(prove(folder, edit("x + 1"), files=files)[0])
    assert (item.state, item.ok) == ("stale", True)
    assert "tests/test_other.py changed meanwhile" in item.detail


OTHERS = {
    **PROJECT,
    "tests/test_a.py": "from pkg.a import total\n\n\ndef test_total():\n    assert total(2) == 2\n",
    # uses the module by name, which no import shows
    "tests/test_other.py": "import importlib\n\n\ndef test_by_name():\n    assert importlib.import_module('pkg.a').total(0) == 0\n"
    "\n\ndef test_old():\n    assert False\n",
}


def test_after_the_affected_tests_the_others_are_run_too(folder):
    item = suite_of(prove(folder, edit("x or 1"), files=OTHERS)[0])
    assert item.ok is False
    assert item.detail.startswith("1 affected test file: 1 passed")
    assert "; the others: 1 new failure: tests/test_other.py::test_by_name; 1 more failed before" in item.detail


def test_others_that_pass_or_failed_before_are_said(folder):
    item = suite_of(prove(folder, edit("+x"), files=OTHERS)[0])
    assert item.ok is True
    assert "; the others: 1 test failed as before the change: tests/test_other.py::test_old" in item.detail


def test_others_that_take_too_long_hold_nobody_up(folder, monkeypatch):
    monkeypatch.setattr(suite, "OTHERS_S_MAX", 1.5)
    slow = "import time\n\n\ndef test_slow():\n    time.sleep(60)\n"
    item = suite_of(prove(folder, edit("+x"), files={**OTHERS, "tests/test_other.py": slow})[0])
    assert (item.state, item.ok) == ("current", True)
    assert item.detail.startswith("1 affected test file: 1 passed")
    assert "; the others did not end in 1.5 s" in item.detail


def test_where_no_test_imports_what_was_changed_all_are_run(folder):
    files = {"pkg/a.py": "def total(x):\n    return x\n", "tests/test_b.py": "def test_b():\n    assert True\n"}
    item = suite_of(prove(folder, edit("+x"), files=files)[0])
    assert item.ok is True
    assert item.detail.startswith("no test imports what was changed; the others: 1 passed")


def test_what_tests_write_is_no_part_of_the_proposal(folder):
    text = "import pathlib\nimport pkg.a\n\n\ndef test_writes():\n    pathlib.Path('made.txt').write_text('x')\n"
    run, _, _ = prove(folder, edit("x + 1"), files={**PROJECT, "tests/test_a.py": text})
    assert [item.path for item in run.proposal.items] == ["pkg/a.py"]
    assert suite_of(run).ok is True


@pytest.mark.parametrize(
    ("command", "ok"), [("test -d pkg", True), ("! grep -q broken pkg/a.py", False), ("false", None)]
)
def test_a_command_of_the_users_own(folder, command, ok):
    item = suite_of(prove(folder, edit("x  # broken"), config=merge(QUIET, {"proof": {"tests": command}}, "x"))[0])
    assert (item.state, item.ok) == ("current", ok), item


def test_the_executor_mends_what_the_proof_found_before_anybody_sees_it(folder):
    mended = call("edit", path="pkg/a.py", old="return x + 1", new="return x + 0")
    run, events, model = prove(folder, edit("x + 1"), finish("first"), mended, mends=True)
    told, said = [event for event in events if isinstance(event, Said)]
    assert told.text.label.source == "redline"  # the word to mend is Redline's, what was printed is material
    assert "tests/test_a.py::test_twice" in said.text.text
    assert said.text.label.source == "command"
    assert proposed_text(run, "pkg/a.py").endswith("return x + 0\n")
    assert suite_of(run).ok is True


def test_it_is_told_twice_at_most(folder):
    run, events, _ = prove(folder, edit("x + 1"), finish("a"), finish("b"), mends=True)
    assert sum(isinstance(event, Said) and event.text.label.source == "command" for event in events) == 2
    assert suite_of(run).ok is False


def test_a_broken_test_file_does_not_hide_what_the_change_breaks(folder):
    files = {**PROJECT, "tests/test_broken.py": "import pkg.a\nimport nothing_like_it\n"}
    item = suite_of(prove(folder, edit("x + 1"), files=files)[0])
    assert item.ok is False
    assert "tests/test_a.py::test_twice" in item.detail
    assert "test_broken" not in item.detail.splitlines()[0]


def test_a_new_test_beside_an_old_failure(folder):
    more = "\n\ndef test_new():\n    assert twice(1) == 3\n"
    new = call("edit", path="tests/test_a.py", old="assert twice(1) == 7\n", new="assert twice(1) == 7\n" + more)
    item = suite_of(prove(folder, new)[0])
    assert item.ok is False
    assert "1 new failure: tests/test_a.py::test_new; 1 more failed before" in item.detail


def test_names_of_tests_may_have_spaces(folder):
    test = 'import pytest\nfrom pkg.b import twice\n\n\n@pytest.mark.parametrize("x", ["a b", "c d"])\ndef test_it(x):\n    assert twice(1) == 7\n'
    item = suite_of(prove(folder, edit("x + 0"), files={**PROJECT, "tests/test_a.py": test})[0])
    assert item.ok is True, item
    assert "2 tests failed as before" in item.detail


# ---- what needs nothing of the project


@pytest.mark.parametrize(
    ("path", "text", "new", "ok"),
    [
        ("a.py", "\ufeffx = 1\n", "y", True),
        ("a.py", "def (:\nx = 1\n", "y", None),
        ("a.json", '{"x": 1}\n', "y", True),
        ("a.json", '{"x": 1}\n', '"', False),
        ("tsconfig.json", '{"x": 1} // why\n', "y", "none"),
    ],
)
def test_what_did_not_parse_before_is_no_fault_of_the_change(folder, path, text, new, ok):
    run, _, _ = prove(folder, call("edit", path=path, old="x", new=new), files={path: text}, config=QUIET)
    found = items(run, "parses")
    assert [item.ok for item in found] == ([] if ok == "none" else [ok])


# ---- which tests


def test_affected_tests_are_found_over_several_steps():
    assert affected(PROJECT, ["pkg/a.py"]) == ["tests/test_a.py"]
    assert affected(PROJECT, ["tests/test_other.py"]) == ["tests/test_other.py"]
    assert affected(PROJECT, ["conftest.py"]) == ["tests/test_a.py", "tests/test_other.py"]
    assert affected(PROJECT, ["pkg/__init__.py"]) == ["tests/test_a.py"]
    assert direct(PROJECT, ["pkg/a.py"]) == ["pkg/b.py"]


@pytest.mark.parametrize(
    "line",
    ["import pkg.a", "import os, pkg.a as b", "from pkg import a", "from pkg import (\n  z,\n  a,\n)", "from .. import pkg\nfrom ..pkg import a",
     "def f():\n    from pkg.a import x"],
)  # fmt: skip
def test_every_way_to_import(line):
    texts = {"pkg/__init__.py": "", "pkg/a.py": "", "tests/test_x.py": line, "tests/test_y.py": "import pkgs.a\n"}
    assert affected(texts, ["pkg/a.py"]) == ["tests/test_x.py"]


@pytest.mark.parametrize(
    "table", [{"seconds": 0}, {"seconds": "1"}, {"servers": [1]}, {"servers": []}, {"tests": 1}, {"other": 1}]
)
def test_wrong_settings_are_refused(table):
    with pytest.raises(ConfigError):
        merge(Config(), {"proof": table}, "x")


# ---- language servers

FAKE = """
import json, sys, time
def send(message):
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    sys.stdout.buffer.write(b"Content-Length: %d\\r\\n\\r\\n" % len(body) + body)
    sys.stdout.buffer.flush()
def say(document, text, version):
    found = [{"range": {"start": {"line": n, "character": 0}, "end": {"line": n, "character": 1}}, "severity": 1,
              "message": f"line {n} says {line.strip()}"} for n, line in enumerate(text.split("\\n")) if "bad" in line]
    send({"method": "textDocument/publishDiagnostics", "params": {"uri": document["uri"], "version": version, "diagnostics": found}})
while True:
    length = 0
    while (line := sys.stdin.buffer.readline().strip()):
        length = int(line.split(b":")[1]) if line.lower().startswith(b"content-length") else length
    if not length:
        break
    message = json.loads(sys.stdin.buffer.read(length))
    method, params = message.get("method"), message.get("params") or {}
    if method == "initialize":
        send({"id": 900, "method": "workspace/configuration", "params": {"items": [{"section": "fake"}]}})
        send({"id": 901, "method": "no/suchThing", "params": {}})
        send({"id": message["id"], "result": {"capabilities": {}}})
    elif method == "shutdown":
        send({"id": message["id"], "result": None})
    elif method in ("textDocument/didOpen", "textDocument/didChange"):
        document = params["textDocument"]
        text = document.get("text") or params["contentChanges"][0]["text"]
        if "hang" in text:
            continue
        if "die" in text:
            sys.exit(3)
        if "stale" in text:
            say(document, "bad of before", document["version"] - 1)
        say(document, text, document["version"])
"""


@pytest.fixture
def fake(monkeypatch, tmp_path):
    entry = {"group": "x", "command": [sys.executable, "fake.py"], "ends": [".txt"]}
    monkeypatch.setattr(servers, "_catalogue", lambda: {"fake": entry})
    monkeypatch.setattr(diagnostics, "FILE_S_MAX", 1.0)
    return {"fake.py": FAKE, "a.txt": "good\nbad before\n"}


SERVED = Config(validate="never", plan="never", proof_tests="off")


def change(new, old="good"):
    return call("edit", path="a.txt", old=old, new=new)


@pytest.mark.parametrize(
    ("new", "state", "ok", "words"),
    [
        ("better", "current", True, "introduces none (fake)"),
        ("bad now", "current", False, "introduces 1 error (fake): line 1: line 0 says bad now"),
        ("one\ntwo", "current", True, "introduces none"),
        ("stale", "current", True, "introduces none"),
        ("hang", "timed-out", None, "did not answer in time"),
        ("die", "unavailable", None, "has ended"),
    ],
)
def test_only_what_the_change_introduces_counts(folder, fake, new, state, ok, words):
    run, _, _ = prove(folder, change(new), config=SERVED, files=fake)
    (item,) = items(run, "diagnostics")
    assert (item.state, item.ok) == (state, ok), item
    assert words in item.detail


SILENT = (
    FAKE.replace(
        '    send({"method": "textDocument/publish',
        """    if found == said.get(document["uri"], []):
        return
    said[document["uri"]] = found
    send({"method": "textDocument/publish""",
    )
    .replace('"version": version, ', "")
    .replace("def say(", "said = {}\ndef say(")
)


@pytest.mark.parametrize(
    ("old", "new", "ok"), [("good", "better", True), ("good", "bad now", False), ("bad before", "x", True)]
)
def test_a_server_that_says_nothing_of_what_is_as_before_is_shown_a_mistake_too(
    folder, fake, monkeypatch, old, new, ok
):
    entry = {
        "group": "x",
        "command": [sys.executable, "fake.py"],
        "ends": [".txt"],
        "settle_s": 0.05,
        "probe": "bad probe",
    }
    monkeypatch.setattr(servers, "_catalogue", lambda: {"fake": entry})
    monkeypatch.setattr(child, "PROBE_AFTER_S", 0.1)
    files = {**fake, "fake.py": SILENT, "a.txt": "good\nbad before"}
    (item,) = items(prove(folder, change(new, old=old), config=SERVED, files=files)[0], "diagnostics")
    assert (item.state, item.ok) == ("current", ok), item
    assert ("removes 1" in item.detail) == (old == "bad before")


def test_what_it_removes_is_said(folder, fake):
    (item,) = items(prove(folder, change("fine", old="bad before"), config=SERVED, files=fake)[0], "diagnostics")
    assert "removes 1" in item.detail


def test_a_server_is_started_after_trust_alone(folder, fake):
    (item,) = items(prove(folder, change("x"), config=SERVED, files=fake, trusted=False)[0], "diagnostics")
    assert (item.state, item.ok) == ("unavailable", None)
    assert "not trusted" in item.detail


def test_one_server_serves_several_proofs_and_ends_with_the_workspace(folder, fake):
    lay(folder, fake)
    ws = workspace(folder)
    ws.memory.trust(ws.resolver.root)

    async def go():
        pids = set()
        for new in ("x", "y", "bad now"):
            model = ScriptedModel([change(new), finish()])
            run = ws.new_run(Task("x"), model, SERVED)
            async for _ in ws.carry_out(run, model):
                pass
            pids |= {warm.child.process.pid for warm in ws.servers._warm.values()}
        assert memory_bytes(next(iter(pids))) > 1_000_000
        await ws.close()
        return run, pids

    run, pids = asyncio.run(go())
    assert len(pids) == 1
    (item,) = items(run, "diagnostics")
    assert "introduces 1 error" in item.detail
    assert gone(pids)


def gone(pids):
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if not any(map(alive, pids)):
            return True
        time.sleep(0.05)
    return False


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]
    except OSError:
        return False


def test_an_idle_server_is_let_go(folder, fake, monkeypatch):
    monkeypatch.setattr(servers, "IDLE_S_MAX", 0.2)
    lay(folder, fake)
    ws = workspace(folder)
    ws.memory.trust(ws.resolver.root)

    async def go():
        model = ScriptedModel([change("x"), finish()])
        run = ws.new_run(Task("x"), model, SERVED)
        async for _ in ws.carry_out(run, model):
            pass
        for _ in range(100):
            if not ws.servers._warm:
                break
            await asyncio.sleep(0.05)
        left = dict(ws.servers._warm)
        await ws.close()
        return left

    assert asyncio.run(go()) == {}


def proofs_in_one_workspace(folder, files, steps, then):
    """Prove one change after the other with the same servers; `then[i]` happens after the i-th."""
    lay(folder, files)
    ws = workspace(folder)
    ws.memory.trust(ws.resolver.root)

    async def go():
        found, pids = [], []
        for at, step in enumerate(steps):
            model = ScriptedModel([step, finish()])
            run = ws.new_run(Task("x"), model, SERVED)
            async for _ in ws.carry_out(run, model):
                pass
            found.append(items(run, "diagnostics"))
            pids.append({warm.child.process.pid for warm in ws.servers._warm.values()})
            then.get(at, lambda: None)()
        await ws.close()
        return found, pids

    return asyncio.run(go())


def test_a_server_that_hangs_is_not_asked_again(folder, fake):
    found, pids = proofs_in_one_workspace(folder, fake, [change("hang"), change("bad now")], {})
    assert [(item.state, item.ok) for (item,) in found] == [("timed-out", None), ("current", False)]
    assert pids[0] == set()  # it was let go at once


SEES_THE_DISK = (
    FAKE.replace(
        '    elif method == "shutdown":',
        """    elif method == "workspace/didChangeWatchedFiles":
        for change in params["changes"]:
            told[change["uri"].rsplit("/", 1)[-1]] = change["type"]
    elif method == "shutdown":""",
    )
    .replace('"message": f"line', '"message": f"{sorted(told.items())} line')
    .replace("def say(", "told = {}\ndef say(")
)


def test_a_warm_server_is_told_what_was_saved_since(folder, fake):
    files = {**fake, "fake.py": SEES_THE_DISK, "gone.txt": "x\n", "saved.txt": "x\n"}

    def save():
        (folder / "saved.txt").write_text("longer than before\n")
        (folder / "made.txt").write_text("x\n")
        (folder / "gone.txt").unlink()

    found, pids = proofs_in_one_workspace(folder, files, [change("bad one"), change("bad two")], {0: save})
    assert "[] line" in found[0][0].detail
    assert "[('gone.txt', 3), ('made.txt', 1), ('saved.txt', 2)] line" in found[1][0].detail
    assert pids[0] == pids[1]


def test_servers_are_few_and_small(folder, fake, monkeypatch):
    entry = {"command": [sys.executable, "fake.py"]}
    monkeypatch.setattr(
        servers, "_catalogue",
        lambda: {"one": {**entry, "group": "x", "ends": [".txt"]}, "two": {**entry, "group": "y", "ends": [".md"]}},
    )  # fmt: skip
    files = {**fake, "b.md": "good\n"}
    more = call("edit", path="b.md", old="good", new="better")
    _, pids = proofs_in_one_workspace(folder, files, [change("x"), more], {})
    assert [len(each) for each in pids] == [1, 2]
    monkeypatch.setattr(servers, "AT_ONCE_MAX", 1)
    _, pids = proofs_in_one_workspace(folder, files, [change("y"), more], {})
    assert [len(each) for each in pids] == [1, 1]
    assert not pids[0] & pids[1]
    monkeypatch.setattr(servers, "MEMORY_BYTES_MAX", 1)
    _, pids = proofs_in_one_workspace(folder, files, [change("z")], {})
    assert pids == [set()]


SERVED_BY = """
import asyncio, sys
from pathlib import Path
from redline_agent.proof import servers
from redline_agent.safety.keeper import Keeper
from redline_agent.workspace.overlay import Overlay
from kit import workspace
servers._catalogue = lambda: {"fake": {"group": "x", "command": [sys.executable, "fake.py"], "ends": [".txt"]}}
async def main():
    ws = workspace(Path(sys.argv[1]))
    keeper = Keeper(ws.rules, ws.resolver.root, trusted=True)
    async with ws.servers.lease(servers.found(ws.resolver.root)[0], Overlay(ws.resolver), keeper) as child:
        print(child.process.pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


def test_a_server_dies_with_its_parent_however_that_ends(folder, fake):
    lay(folder, fake)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    argv = [sys.executable, "-c", SERVED_BY, str(folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=env, text=True) as parent:
        pid = int(parent.stdout.readline())
        below = [pid, *children(pid)]
        assert len(below) > 1  # the sandbox, and the server in it
        parent.kill()
    assert gone(below)


def children(pid):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found += [int(stat.parent.name), *children(int(stat.parent.name))]
    return found


UNVERSIONED = FAKE.replace(
    '    send({"method": "textDocument/publish',
    '    send({"method": "textDocument/publishDiagnostics", "params": {"uri": document["uri"], "diagnostics": []}})\n'
    "    time.sleep(0.6)\n"
    '    send({"method": "textDocument/publish',
).replace('"version": version, ', "")


def test_what_a_server_says_first_of_no_version_is_not_its_last_word(folder, fake, monkeypatch):
    monkeypatch.setattr(diagnostics, "FILE_S_MAX", 8.0)
    files = {**fake, "fake.py": UNVERSIONED}
    (item,) = items(prove(folder, change("bad now"), config=SERVED, files=files)[0], "diagnostics")
    assert (item.state, item.ok) == ("current", False), item


def test_a_file_that_moves_takes_its_findings_along(folder, fake):
    files = {**fake, "b.txt": "bad\n"}
    move = call("move", path="b.txt", to="c.txt")
    found = items(prove(folder, move, config=SERVED, files=files)[0], "diagnostics")
    assert {item.path: item.ok for item in found}.get("c.txt") is True, found
    more = call("edit", path="c.txt", old="bad", new="bad\nbad too")
    found = items(prove(folder, move, more, config=SERVED, files=files)[0], "diagnostics")
    assert "introduces 1 error" in next(item.detail for item in found if item.path == "c.txt")


def test_more_files_than_are_asked_about_are_said(folder, fake, monkeypatch):
    monkeypatch.setattr(diagnostics, "FILES_CHECKED_MAX", 2)
    files = {**fake, **{f"n{n}.txt": "good\n" for n in range(3)}}
    calls = [call("edit", path=f"n{n}.txt", old="good", new="better") for n in range(3)]
    found = items(prove(folder, *calls, config=SERVED, files=files)[0], "diagnostics")
    assert len([item for item in found if item.ok]) == 2
    assert "1 more file not checked by fake" in found[-1].detail


def test_what_is_not_run_since_a_file_does_not_parse_is_said(folder):
    run, _, _ = prove(folder, edit("("), config=Config(validate="never", plan="never"))
    assert [(i.check, i.ok) for i in run.proposal.proof] == [
        ("parses", False), ("diagnostics", False), ("diagnostics", None), ("tests", None)
    ]  # fmt: skip


FLAKY = (
    "from pathlib import Path\n\nfrom pkg.b import twice\n\n\ndef test_flaky():\n"
    "    mark = Path('was-here')\n    first = 'the same' in Path('pkg/a.py').read_text() and not mark.exists()\n"
    "    mark.touch()\n    assert twice(2) == 4 and not first\n"
)


def test_a_test_that_passes_when_run_again_is_no_new_failure(folder):
    files = {**PROJECT, "tests/test_a.py": FLAKY}
    item = suite_of(prove(folder, edit("x  # the same"), files=files)[0])
    assert (item.state, item.ok) == ("current", None), item
    assert "passed when run again" in item.detail


def test_colours_hide_no_failure(folder):
    files = {**PROJECT, "pytest.ini": "[pytest]\naddopts = --color=yes\n"}
    item = suite_of(prove(folder, edit("x + 1"), files=files)[0])
    assert "1 new failure: tests/test_a.py::test_twice" in item.detail


def test_a_test_file_that_moves_takes_its_old_failures_along(folder):
    move = call("move", path="tests/test_a.py", to="tests/test_moved.py")
    item = suite_of(prove(folder, move)[0])
    assert item.ok is True, item
    assert "failed as before the change: tests/test_moved.py::test_old" in item.detail


def test_a_real_type_checker_speaks_of_the_change_and_of_those_who_use_it(folder, monkeypatch):
    monkeypatch.setattr(diagnostics, "FILE_S_MAX", 90.0)
    files = {path: text for path, text in PROJECT.items() if path.startswith("pkg")}
    rename = call("edit", path="pkg/a.py", old="def total", new="def whole")
    run, _, _ = prove(folder, edit("str(x)"), rename, config=SERVED, files=files)
    found = {item.path: item for item in items(run, "diagnostics") if "basedpyright" in item.detail}
    assert found["pkg/a.py"].ok is False
    assert "not assignable" in found["pkg/a.py"].detail
    assert found["pkg/b.py"].ok is False
    assert "total" in found["pkg/b.py"].detail


def test_a_moved_module_is_seen_over_the_whole_overlay(folder, monkeypatch):
    monkeypatch.setattr(diagnostics, "FILE_S_MAX", 90.0)
    files = {path: text for path, text in PROJECT.items() if path.startswith("pkg")}
    move = call("move", path="pkg/a.py", to="pkg/c.py")
    run, _, _ = prove(folder, move, config=SERVED, files=files)
    found = {item.path: item for item in items(run, "diagnostics") if "basedpyright" in item.detail}
    assert found["pkg/c.py"].ok is True
    assert found["pkg/b.py"].ok is False
    follow = call("edit", path="pkg/b.py", old="from pkg.a", new="from pkg.c")
    run, _, _ = prove(folder, move, follow, config=SERVED, files=files)
    assert all(item.ok for item in items(run, "diagnostics"))


def test_the_catalogue_names_each_server_once_and_all_that_is_needed():
    for name, entry in servers._catalogue().items():
        assert {"group", "command", "ends"} <= set(entry), name
        assert all(end.startswith(".") for end in entry["ends"])
