import json
import os
import select
import signal
import subprocess
import sys
import time

import pytest
from claude_server import ClaudeServer
from kit import call, disk, finish, lay

FILES = {"a.py": "import os\n\n\ndef foo():\n    return 1\n", "b.py": "from a import foo\n\nfoo()\n"}


def redline(folder, *args, **env):
    return subprocess.run(
        [sys.executable, "-m", "redline_server", *args], cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env={**os.environ, **env}, timeout=60,
    )  # fmt: skip


def outcome(done):
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1]["type"] == "outcome"
    return lines[-1]


def test_run_proposes_and_review_shows_it_later(folder):
    lay(folder, FILES)
    done = redline(folder, "run", "rename foo to bar")
    assert done.returncode == 0, done.stderr
    assert "+def bar():" in done.stdout
    assert "redline review" in done.stdout
    assert disk(folder) == FILES
    pending = json.loads(redline(folder, "review", "--json").stdout)
    assert [len(p["hunks"]) for p in pending] == [3]
    (folder / "b.py").write_text("changed\n")
    pending = json.loads(redline(folder, "review", "--json").stdout)
    assert {h["path"]: h["state"] for h in pending[0]["hunks"]} == {"a.py": "pending", "b.py": "conflicted"}


def test_run_accept_writes_the_files(folder):
    lay(folder, FILES)
    (folder / "a.py").chmod(0o755)
    done = redline(folder, "run", "rename foo to bar; remove unused", "--accept", "--json")
    assert done.returncode == 0, done.stderr
    assert disk(folder) == {"a.py": "\n\ndef bar():\n    return 1\n", "b.py": "from a import bar\n\nbar()\n"}
    assert (folder / "a.py").stat().st_mode & 0o777 == 0o755
    assert set(outcome(done)["decided"].values()) == {"accepted"}
    assert json.loads(redline(folder, "review", "--json").stdout) == []


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["run", "rename foo to bar", "--check"], 1),
        (["run", "organise imports", "--check"], 0),
        (["run", "write a poem"], 1),
        (["run", "fix lint", "missing.py"], 2),
        (["run", "fix lint", "--model", "nonsense:x"], 2),
        (["run", "fix lint", "--max-turns", "0"], 2),
        (["run", " "], 2),
        (["run", "fix lint", "../outside"], 1),
        (["run", "rename foo to bar", "--max-turns", "1"], 3),
        (["nonsense"], 2),
        ([], 2),
        (["sessions"], 0),
        (["doctor"], 0),
        (["--version"], 0),
        (["run", "--help"], 0),
    ],
)
def test_exit_codes(folder, args, code):
    lay(folder, FILES)
    done = redline(folder, *args)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert disk(folder) == FILES


def test_json_is_one_object_a_line_ending_in_the_outcome(folder):
    lay(folder, FILES)
    done = redline(folder, "run", "rename foo to bar", "--json")
    last = outcome(done)
    assert (last["state"], last["exitCode"]) == ("proposed", 0)
    assert [h["line"] for h in last["proposal"]["hunks"]] == [4, 1, 3]
    assert {json.loads(line)["type"] for line in done.stdout.splitlines()} >= {"run_started", "tool_result", "proposed"}


def test_paths_narrow_the_task(folder):
    lay(folder, {"x/a.py": "import os\n", "y/a.py": "import os\n"})
    redline(folder, "run", "remove unused", "x", "--accept")
    assert disk(folder) == {"x/a.py": "", "y/a.py": "import os\n"}


def test_a_file_that_cannot_be_written_changes_none(folder):
    lay(folder, {"a.py": "import os\n", "z/b.py": "import os\n"})
    code = f"""
import sys
from pathlib import Path
import redline_agent.workspace.applying as applying
put = applying._put
def failing(resolver, path, data, *rest):
    if path == "z/b.py" and data == b"":
        raise OSError(28, "No space left on device", path)
    put(resolver, path, data, *rest)
applying._put = failing
from redline_server.__main__ import main
sys.exit(main(["run", "remove unused", "--accept", "--folder", {str(folder)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Nothing was changed" in done.stderr
    assert "No space left" in done.stderr
    assert disk(folder) == {"a.py": "import os\n", "z/b.py": "import os\n"}


@pytest.mark.slow
def test_interrupt_is_130_and_leaves_the_files(folder):
    lay(folder, FILES)
    with ClaudeServer([{"status": 529, "headers": {"retry-after": "30"}}] * 9) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "redline_server", "run", "anything"], cwd=folder, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**os.environ, "ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": server.url},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs ignore it
        )  # fmt: skip
        until = time.monotonic() + 20
        while not server.requests and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert disk(folder) == FILES
    assert [row["state"] for row in json.loads(redline(folder, "sessions", "--json").stdout)] == ["cancelled"]


def test_with_a_key_the_same_command_runs_on_claude(folder):
    lay(folder, FILES)
    script = [
        call("read", path="a.py"),
        call("edit", path="a.py", old="return 1", new="return 2", reason="as asked"),
        finish(),
    ]
    with ClaudeServer(script) as server:
        done = redline(folder, "run", "return two", "--accept", ANTHROPIC_API_KEY="k", ANTHROPIC_BASE_URL=server.url)
    assert done.returncode == 0, done.stderr
    assert (folder / "a.py").read_text() == FILES["a.py"].replace("return 1", "return 2")
    assert server.requests[0]["model"] == "claude-sonnet-5-5"


def test_an_empty_answer_to_the_review_changes_nothing(folder):
    lay(folder, FILES)
    done = redline(folder, "run", "rename foo to bar", "--review")
    assert done.returncode == 0
    assert "no terminal" in done.stdout
    assert disk(folder) == FILES


TERMINAL = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")


def in_a_terminal(folder, *args, answers, prompt=b"= quit (s):", seconds=30, **env):
    """Answer each prompt of a command at a pseudo terminal; returns all that it showed."""
    import pty

    pid, handle = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ.update({"TERM": "dumb", "COLUMNS": "200", **env})
        os.execv(sys.executable, [sys.executable, "-m", "redline_server", *args])
    left = [answer.encode() + b"\n" for answer in answers]
    shown, fresh, until = b"", b"", time.monotonic() + seconds
    while time.monotonic() < until:
        if not select.select([handle], [], [], 0.1)[0]:
            continue
        try:
            data = os.read(handle, 4096)
        except OSError:
            break
        shown, fresh = shown + data, fresh + data
        if prompt in fresh and left:
            fresh = b""
            os.write(handle, left.pop(0))
    os.waitpid(pid, 0)
    assert not left, shown
    return shown.decode()


@TERMINAL
def test_review_in_a_terminal(folder):
    lay(folder, FILES)
    redline(folder, "run", "rename foo to bar")
    shown = in_a_terminal(folder, "review", answers=["a", "r", "s"])
    assert "1 accepted, 1 rejected, 1 left." in shown
    assert disk(folder) == {**FILES, "a.py": FILES["a.py"].replace("foo", "bar")}


@TERMINAL
def test_what_a_hunk_needs_is_not_offered_when_it_was_rejected(folder):
    lay(folder, FILES)
    redline(folder, "run", "rename foo to bar")
    shown = in_a_terminal(folder, "review", answers=["r", "s", "s"])
    first, second, _ = shown.split("(s):")[:3]
    assert "w = accept it with what it needs" in first
    assert "w = accept it" not in second
    assert "of which h1 (rejected) cannot be accepted" in " ".join(second.split())


@TERMINAL
def test_what_was_accepted_in_part_is_proven_in_the_terminal_too(folder, tmp_path):
    lay(folder, {"a.py": "x = 1\n\n\n# a\n# b\n\n\ndef foo():\n    return 1\n"})
    edits = [{"tool": "edit", "args": {"path": "a.py", "old": old, "new": new}}
             for old, new in (("x = 1", "import os\n\nx = 1"), ("return 1", "return os.sep"))]  # fmt: skip
    (tmp_path / "script.json").write_text(
        json.dumps([{"calls": edits}, {"calls": [{"tool": "finish", "args": {"summary": "x"}}]}])
    )
    redline(folder, "run", "x", REDLINE_MODEL=f"scripted:{tmp_path / 'script.json'}")
    shown = in_a_terminal(folder, "review", answers=["s", "a"])
    assert "What you accepted is not whole: accepted: diagnostics of a.py" in shown
    (pending,) = json.loads(redline(folder, "review", "--json").stdout)
    part = [i for i in pending["proof"] if i["check"] == "accepted: diagnostics" and i["path"] == "a.py"]
    assert [(i["state"], i["ok"]) for i in part] == [("current", False)]


@TERMINAL
@pytest.mark.slow
def test_the_tour_can_be_left(tmp_path):
    shown = in_a_terminal(tmp_path, "try", answers=["r", "q"], prompt=b"= quit:", seconds=60, TMPDIR=str(tmp_path))
    assert "It needs h1, which you rejected." in shown
    assert "1 rejected" in shown
    assert "What next" in shown
    assert "modernise syntax" not in shown


def test_settings_of_the_folder_that_cannot_be_read_are_told(folder):
    lay(folder, {**FILES, ".redline/config.toml": "limits = [\n"})
    done = redline(folder, "run", "rename foo to bar")
    assert done.returncode == 0
    assert ".redline/config.toml cannot be read, so it tightens nothing" in done.stdout


def test_settings_of_the_users_own_that_cannot_be_read_are_a_usage_error(folder, tmp_path):
    lay(folder, FILES)
    (tmp_path / "config.toml").write_text("limits = [\n")
    done = redline(folder, "run", "rename foo to bar", "--check", REDLINE_CONFIG=str(tmp_path / "config.toml"))
    assert (done.returncode, "config.toml" in done.stderr) == (2, True)


@pytest.mark.slow
def test_the_tour_runs_to_its_end_without_a_terminal(tmp_path):
    done = redline(tmp_path, "try", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Confirmed by the text that the editor echoed") == 2
    assert "rename to_fs_path to uri_to_path" in done.stdout
    assert "+ def uri_to_path(uri: str)" in done.stdout
    assert "ANTHROPIC_API_KEY" in done.stdout
    (source,) = tmp_path.glob("redline-try-*/project/pygls/uris.py")
    assert "def uri_to_path(" in source.read_text()


def test_a_proposal_follows_what_the_user_did_since(folder):
    lay(folder, FILES)
    redline(folder, "run", "rename foo to bar")
    (folder / "a.py").write_text("# mine\n" + FILES["a.py"])
    (pending,) = json.loads(redline(folder, "review", "--json").stdout)
    assert {(h["path"], h["line"], h["state"]) for h in pending["hunks"]} == {
        ("a.py", 5, "pending"), ("b.py", 1, "pending"), ("b.py", 3, "pending")
    }  # fmt: skip
    redline(folder, "review")
    assert len(json.loads(redline(folder, "review", "--json").stdout)) == 1
    assert "Dropped 1" in redline(folder, "review", "--drop").stdout
    assert json.loads(redline(folder, "review", "--json").stdout) == []


def test_inside_a_repository_paths_are_from_where_one_stands(folder):
    lay(
        folder,
        {
            ".git/HEAD": "x",
            "mod.py": "import os\n",
            "pkg/mod.py": "import os\n",
            "pkg/use.py": "from pkg.mod import os\n",
        },
    )
    assert redline(folder / "pkg", "run", "remove unused in mod.py", "--accept").returncode == 0
    assert (folder / "mod.py").read_text() == "import os\n"
    lay(folder, {"other.py": "import sys\n"})
    redline(folder / "pkg", "run", "remove unused", "--accept")
    assert (folder / "other.py").read_text() == "import sys\n"


def test_a_failed_accept_still_ends_in_an_outcome(folder):
    lay(folder, FILES)
    (folder / "a.py").chmod(0o444)
    done = redline(folder, "run", "rename foo to bar", "--accept", "--json")
    assert done.returncode == 1
    assert "read-only" in outcome(done)["error"]
    assert disk(folder) == FILES


def test_a_file_in_another_encoding_is_cleaned_too(folder):
    lay(folder, {"a.py": b"# coding: latin-1\nimport os\n\nx = '\xe9'\n"})
    redline(folder, "run", "remove unused", "--accept")
    assert (folder / "a.py").read_bytes() == b"# coding: latin-1\n\nx = '\xe9'\n"
