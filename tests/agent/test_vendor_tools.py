"""The vendors' own tool types, behind a flag: the real SDK on loopback, the same overlay and the same gate behind them."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import call, carry_out, disk, finish, lay, proposed_text, workspace
from redline_agent.config import Config
from redline_agent.errors import EditRefused
from redline_agent.models.catalog import make_model
from redline_agent.workspace.patches import created, patched
from wires import WIRES, Server

CLAUDE, OPENAI = WIRES[:2]
FLAG = Config(validate="never", plan="never", flags={"vendor_tools": "on"})
FILES = {"a.py": "def f():\n    return 1\n\n\ndef g():\n    return 1\n", "sub/b.py": "x = 1\n"}


@pytest.fixture
def play(folder, monkeypatch):
    lay(folder, FILES)

    def go(wire, script, config=FLAG, trusted=False):
        monkeypatch.setenv(wire.key, "test-key")
        with Server(wire, script) as server:
            monkeypatch.setenv(wire.base, server.url)
            space = workspace(folder)
            if trusted:
                space.memory.trust(space.resolver.root)
            model = make_model(f"{wire.name}:{wire.model}")
            run, _ = asyncio.run(carry_out(space, model, "return two", config=config))
        assert disk(folder) == FILES
        return run, server

    return go


def editor(command, **args):
    return call("str_replace_based_edit_tool", command=command, **args)


def patch(kind, path, diff=None):
    return call("apply_patch", type=kind, path=path, **({"diff": diff} if diff is not None else {}))


def test_without_the_flag_the_tools_are_redlines_own(play):
    _, server = play(CLAUDE, [finish()], Config(validate="never", plan="never"))
    assert all("type" not in tool for tool in server.requests[0]["tools"])


def test_claude_edits_with_its_own_editor(play):
    run, server = play(
        CLAUDE,
        [
            editor("view", path="."),
            editor("view", path="a.py", view_range=[1, -1]),
            editor("str_replace", path="a.py", old_str="def f():\n    return 1", new_str="def f():\n    return 2"),
            editor("insert", path="a.py", insert_line=0, insert_text="import os"),
            editor("create", path="new.py", file_text="y = 1\n"),
            finish("two now"),
        ],
    )
    told = {tool["name"]: tool.get("type") for tool in server.requests[0]["tools"]}
    assert told["str_replace_based_edit_tool"] == "text_editor_20250728"
    assert told["bash"] == "bash_20250124"
    assert not {"read", "list", "edit", "write", "run"} & set(told)
    assert (run.state, run.answer) == ("proposed", "two now")
    assert proposed_text(run, "a.py") == "import os\n" + FILES["a.py"].replace("1", "2", 1)
    assert [op.path for op in run.proposal.operations] == ["new.py"]
    assert "def g" in CLAUDE.results(server.requests[2])[0][1]


def test_what_claudes_editor_refuses_says_why(play):
    run, server = play(
        CLAUDE,
        [
            editor("str_replace", path="a.py", old_str="    return 1", new_str="    return 2"),
            editor("insert", path="a.py", insert_line=99, insert_text="x"),
            editor("str_replace", path="a.py"),
            editor("create", path="../out.py", file_text="x"),
            editor("create", path=".vscode/settings.json", file_text="{}"),
            finish(),
        ],
    )
    answers = [CLAUDE.results(request)[0] for request in server.requests[1:6]]
    assert all(error for _, _, error in answers)
    for said, (_, text, _) in zip(("2 times", "6 lines", "old_str", "out.py", "settings.json"), answers, strict=True):
        assert said in text
    assert run.proposal is None


@pytest.mark.parametrize("wire", [CLAUDE, OPENAI], ids=["anthropic", "openai"])
def test_a_command_of_the_vendors_shape_meets_the_same_gate(play, wire):
    command = (
        call("bash", command="echo hi > made.txt") if wire is CLAUDE else call("shell", commands=["echo hi > made.txt"])
    )
    run, server = play(wire, [command, finish()])
    shown = str(server.requests[1])
    assert "trust" in shown.lower()
    assert run.proposal is None


@pytest.mark.parametrize("wire", [CLAUDE, OPENAI], ids=["anthropic", "openai"])
def test_a_command_of_the_vendors_shape_runs_in_the_sandbox(play, wire):
    script = ["echo hi > made.txt", "false"]
    command = (
        call("bash", command="\n".join(script)) if wire is CLAUDE else call("shell", commands=script, timeout_ms=60_000)
    )
    run, server = play(wire, [command, finish()], trusted=True)
    assert [op.path for op in run.proposal.operations] == ["made.txt"]
    if wire is OPENAI:
        answer = server.requests[1]["input"][-1]
        assert answer["type"] == "shell_call_output"
        assert answer["output"][0]["outcome"] == {"type": "exit", "exit_code": 1}


def test_openai_edits_with_its_own_patches(play):
    diff = "@@ def g():\n-    return 1\n+    return 2\n"
    run, server = play(
        OPENAI,
        [
            patch("update_file", "a.py", diff),
            patch("create_file", "new.py", "+y = 1\n+z = 2\n"),
            patch("delete_file", "sub/b.py"),
            finish("two now"),
        ],
    )
    types = [tool["type"] for tool in server.requests[0]["tools"]]
    assert {"apply_patch", "shell"} <= set(types)
    assert run.state == "proposed"
    assert proposed_text(run, "a.py") == "def f():\n    return 1\n\n\ndef g():\n    return 2\n"
    assert [(op.kind, op.path) for op in run.proposal.operations] == [("create", "new.py"), ("delete", "sub/b.py")]
    sent = server.requests[1]["input"]
    assert [item["type"] for item in sent[-2:]] == ["apply_patch_call", "apply_patch_call_output"]
    assert sent[-2]["operation"] == {"type": "update_file", "path": "a.py", "diff": diff}
    assert sent[-1]["status"] == "completed"


def test_an_ambiguous_patch_is_refused(play):
    run, server = play(OPENAI, [patch("update_file", "a.py", "-    return 1\n+    return 2\n"), finish()])
    answer = server.requests[1]["input"][-1]
    assert (answer["status"], run.proposal) == ("failed", None)
    assert "2 times" in answer["output"]


# ---- patches, pure

TEXT = "class A:\n    def f(self):\n        return 1\n\n    def g(self):\n        return 1\n\n\nclass B:\n    def f(self):\n        return 1\n"


@pytest.mark.parametrize(
    ("diff", "line"),
    [
        ("@@ class B:\n@@ def f(self):\n-        return 1\n+        return 2\n", 11),
        ("@@ class A:\n@@ def f(self):\n-        return 1\n+        return 2\n", 3),
        ("     def g(self):\n-        return 1\n+        return 2\n", 6),
    ],
)
def test_anchors_say_which_of_several(diff, line):
    lines = TEXT.splitlines(keepends=True)
    lines[line - 1] = lines[line - 1].replace("1", "2")
    assert patched(TEXT, diff) == "".join(lines)
    assert patched(TEXT.replace("\n", "\r\n"), diff) == "".join(lines).replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("diff", "why"),
    [
        ("@@ def f(self):\n-        return 1\n+        return 2\n", "there 2 times"),
        ("@@ class C:\n-        return 1\n+        return 2\n", "not in the file"),
        ("@@ class A:\n-        return 1\n+        return 2\n", "times"),
        ("-nothing like it\n+x\n", "not in the file"),
        (" class A:\n", "changes nothing"),
        ("class A:\n", "begins with"),
    ],
)
def test_a_patch_without_one_place_is_refused(diff, why):
    with pytest.raises(EditRefused, match=why):
        patched(TEXT, diff)


def test_parts_that_only_add():
    assert patched("a\nb\n", "@@ a\n+x\n") == "a\nx\nb\n"
    assert patched("a\nb", "@@ a\n+x\n*** End of File\n") == "a\nb\nx\n"
    assert created("+a\n+\n+b\n") == "a\n\nb\n"


LINES = st.lists(st.sampled_from(["a", "b", "  c", "d()", ""]), min_size=1, max_size=12)


@given(LINES, LINES, st.integers(0, 12))
def test_a_patch_of_unique_context_does_exactly_what_it_says(before, new, at):
    lines = ["first", *before, "last"]
    text = "\n".join(lines) + "\n"
    part = lines[at : at + 3] or lines[-1:]
    diff = "".join(f"-{line}\n" for line in part) + "".join(f"+{line}\n" for line in new)
    old = "\n".join(part) + "\n"
    starts = [n for n in range(len(lines)) if "\n".join([*lines[n:], ""]).startswith(old)]
    try:
        got = patched(text, diff)
    except EditRefused:
        assert len(starts) != 1 or part == new
        return
    n = starts[0]
    assert len(starts) == 1
    assert got == "\n".join([*lines[:n], *new, *lines[n + len(part) :], ""])


@pytest.mark.parametrize(
    ("text", "diff", "wanted"),
    [
        ("ab = 1\n", "-b = 1\n+b = 2\n", None),
        ("b = 12\nxb = 1", "-b = 1\n+b = 2\n", None),
        ("a\nb = 1", "-b = 1\n+b = 2\n", "a\nb = 2"),
        (
            "def f():\n        return x\n",
            "-    return x\n+    log()\n+    return x\n",
            "def f():\n        log()\n        return x\n",
        ),
        ("a\r\nb\nc\nd\n", "-d\n+e\n", "a\r\nb\nc\ne\n"),
    ],
)
def test_whole_lines_are_patched_and_nothing_else(text, diff, wanted):
    if wanted is None:
        with pytest.raises(EditRefused):
            patched(text, diff)
    else:
        assert patched(text, diff) == wanted
