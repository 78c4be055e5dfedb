"""Renames and quick fixes of the project's language servers, as hunks."""

import asyncio
import sys

import pytest
from kit import call, carry_out, disk, finish, lay, proposed_text, results, workspace
from redline_agent.config import Config
from redline_agent.errors import ToolError
from redline_agent.models.scripted import ScriptedModel
from redline_agent.proof import servers
from redline_agent.proof.language import _place, applied

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox here is Linux's")

FAKE = """
import json, sys
def send(message):
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    sys.stdout.buffer.write(b"Content-Length: %d\\r\\n\\r\\n" % len(body) + body)
    sys.stdout.buffer.flush()
texts = {}
def everywhere(word, new):
    changes = {}
    for uri, text in texts.items():
        for number, line in enumerate(text.split("\\n")):
            if word in line:
                at = len(line[: line.index(word)].encode("utf-16-le")) // 2
                span = {"start": {"line": number, "character": at}, "end": {"line": number, "character": at + len(word)}}
                changes.setdefault(uri, []).append({"range": span, "newText": new})
    return changes
while True:
    length = 0
    while (line := sys.stdin.buffer.readline().strip()):
        length = int(line.split(b":")[1]) if line.lower().startswith(b"content-length") else length
    if not length:
        break
    message = json.loads(sys.stdin.buffer.read(length))
    method, params = message.get("method"), message.get("params") or {}
    if method == "initialize":
        send({"id": message["id"], "result": {"capabilities": {"renameProvider": True, "referencesProvider": True, "definitionProvider": {}, "codeActionProvider": {"resolveProvider": True}}}})
    elif method == "shutdown":
        send({"id": message["id"], "result": None})
    elif method in ("textDocument/didOpen", "textDocument/didChange"):
        document = params["textDocument"]
        texts[document["uri"]] = document.get("text") or params["contentChanges"][0]["text"]
        send({"method": "textDocument/publishDiagnostics", "params": {"uri": document["uri"], "version": document["version"], "diagnostics": []}})
    elif method == "textDocument/rename":
        at, uri = params["position"], params["textDocument"]["uri"]
        line = texts[uri].split("\\n")[at["line"]].encode("utf-16-le")[at["character"] * 2 :].decode("utf-16-le")
        word = line.split(" ")[0].split("(")[0]
        new = params["newName"]
        if new == "outside":
            send({"id": message["id"], "result": {"changes": {"file:///etc/passwd": []}}})
        elif new == "creates":
            send({"id": message["id"], "result": {"documentChanges": [{"kind": "create", "uri": uri + "x"}]}})
        else:
            send({"id": message["id"], "result": {"changes": everywhere(word, new)}})
    elif method == "textDocument/references":
        span = {"start": {"line": 0, "character": 5}}
        inside = [{"uri": uri, "range": span} for uri in texts]
        send({"id": message["id"], "result": [*inside, {"uri": "file:///etc/passwd", "range": span}]})
    elif method == "textDocument/definition":
        link = {"targetUri": params["textDocument"]["uri"], "targetSelectionRange": {"start": {"line": 1, "character": 0}}}
        send({"id": message["id"], "result": [link]})
    elif method == "textDocument/codeAction":
        only = params["context"]["only"]
        found = [{"title": "Make it better", "kind": "quickfix", "data": 1}] if only == ["quickfix"] else []
        if "source.organizeImports" in only:
            found = [{"title": "Sort", "kind": "source.organizeImports", "edit": {"changes": everywhere("bad", "sorted")}}]
        if only == ["refactor"]:
            span = params["range"]
            found = [{"title": f"Extract lines {span['start']['line']} to {span['end']['line']}", "kind": "refactor.extract", "edit": {"changes": everywhere("bad", "extracted")}},
                     {"title": "Move to a new file", "kind": "refactor.move", "edit": {"documentChanges": [{"kind": "create", "uri": "file:///x"}]}},
                     {"title": "Not here", "kind": "refactor.inline", "disabled": {"reason": "no"}, "edit": {"changes": everywhere("bad", "x")}}]
        send({"id": message["id"], "result": [*found, {"title": "run me", "command": {"command": "rm"}}]})
    elif method == "codeAction/resolve":
        send({"id": message["id"], "result": {**params, "edit": {"changes": everywhere("bad", "good")}}})
"""
FILES = {"fake.py": FAKE, "a.txt": "😀 name is here\nbad\n", "b.txt": "call name(1)\n"}
CONFIG = Config(validate="never", plan="never", proof_tests="off", proof_servers=("off",))


@pytest.fixture
def play(folder, monkeypatch):
    entry = {"group": "x", "command": [sys.executable, "fake.py"], "ends": [".txt"]}
    monkeypatch.setattr(servers, "_catalogue", lambda: {"fake": entry})

    def go(*replies, trusted=True, files=FILES):
        lay(folder, files)
        ws = workspace(folder)
        if trusted:
            ws.memory.trust(ws.resolver.root)
        run, events = asyncio.run(carry_out(ws, ScriptedModel([*replies, finish()]), "do it", config=CONFIG))
        assert disk(folder) == files
        return run, results(events)

    return go


def places_of(result):
    """A result's places, without the versions of their files, which stand beneath."""
    places, _, versions = result[1].partition("\n[versions: ")
    assert versions
    return places


def rename(new, **more):
    return call("rename_symbol", path="a.txt", old="name", new=new, **more)


def test_another_languages_symbol_is_renamed_by_its_server(play):
    touch = call("edit", path="b.txt", old="call name", new="call the name")
    run, found = play(touch, rename("title"))
    assert not any(error for error, _ in found), found
    assert proposed_text(run, "a.txt") == "😀 title is here\nbad\n"
    assert proposed_text(run, "b.txt") == "call the title(1)\n"


def test_a_fix_is_listed_and_made(play):
    run, found = play(
        call("quick_fix", path="a.txt", line=2), call("quick_fix", path="a.txt", line=2, title="Make it better"),
        call("quick_fix", path="a.txt", line=2, title="run me"),
    )  # fmt: skip
    assert "- Make it better (fake)" in found[0][1]
    assert "run me" not in found[0][1]  # a command is never executed, so it is not offered
    assert [error for error, _ in found] == [False, False, True, False]
    assert proposed_text(run, "a.txt") == "😀 name is here\ngood\n"
    assert run.proposal.hunks[0].reason == "Make it better"


def test_a_refactoring_of_a_server_is_listed_for_lines_and_made(play):
    run, found = play(
        call("quick_fix", path="a.txt", line=1, end=2),
        call("quick_fix", path="a.txt", line=1, end=2, title="Extract lines 0 to 1"),
    )
    assert "- Extract lines 0 to 1 (fake)" in found[0][1]
    assert "Move to a new file" not in found[0][1]  # it would do more than change texts
    assert "Not here" not in found[0][1]
    assert proposed_text(run, "a.txt") == "😀 name is here\nextracted\n"


def test_a_symbol_is_found_by_its_server(play):
    touch = call("edit", path="b.txt", old="call name", new="call the name")
    _, found = play(
        touch,
        call("references", name="name", path="a.txt", line=1),
        call("definition", name="name", path="a.txt", line=1),
    )
    assert places_of(found[1]) == "a.txt:1: 😀 name is here\nb.txt:1: call the name(1)\n[1 place outside the workspace]"
    assert places_of(found[2]) == "a.txt:2: bad"


def test_without_a_server_names_are_words(play):
    _, found = play(call("references", name="name", path="a.txt", line=1), trusted=False)
    assert found[0][1].startswith("a.txt:1")


def test_another_languages_imports_are_organised_by_its_server(play):
    run, found = play(call("organise_imports", path="a.txt"))
    assert (found[0][0], found[0][1].splitlines()[0]) == (False, "Organised the imports of a.txt by fake.")
    assert proposed_text(run, "a.txt") == "😀 name is here\nsorted\n"


def test_a_real_servers_references(folder):
    lay(
        folder,
        {
            "a.py": "class A:\n    def go(self): ...\n\n\nclass B:\n    def go(self): ...\n",
            "b.py": "from a import A, B\n\nA().go()\nB().go()\n",
        },
    )
    ws = workspace(folder)
    ws.memory.trust(ws.resolver.root)
    script = [
        call("references", name="go", path="a.py", line=2),
        call("definition", name="go", path="b.py", line=4),
        finish(),
    ]
    _, events = asyncio.run(carry_out(ws, ScriptedModel(script), "do it", config=CONFIG))
    uses, defined = results(events)[:2]
    assert places_of(uses) == "a.py:2: def go(self): ...\nb.py:3: A().go()"  # not B's
    assert places_of(defined) == "a.py:6: def go(self): ..."


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (rename("outside"), "not in the workspace"),
        (rename("creates"), "create files as well"),
        (call("rename_symbol", path="a.txt", old="nothing", new="x"), "is not there"),
        (call("rename_symbol", path="a.txt", old="name", new="x", line=2), "not on line 2"),
        (call("quick_fix", path="a.txt", line=99), "2 lines"),
        (call("quick_fix", path="c.txt", line=1), "no file c.txt"),
    ],
)
def test_what_cannot_be_done_changes_nothing(play, reply, why):
    run, found = play(reply)
    assert found[0][0]
    assert why in found[0][1]
    assert run.proposal is None


def test_no_server_is_started_before_trust(play):
    _, found = play(rename("title"), call("quick_fix", path="a.txt", line=1), trusted=False)
    assert all(error and "not trusted" in text for error, text in found[:2])


def test_a_real_servers_fixes(folder):
    lay(folder, {"a.py": "import sys\nimport os\n\nprint(sys.path)\n"})
    ws = workspace(folder)
    ws.memory.trust(ws.resolver.root)
    script = [
        call("quick_fix", path="a.py", line=2),
        call("quick_fix", path="a.py", line=2, title="Ruff (F401): Remove unused import: `os`"),
        finish(),
    ]
    run, events = asyncio.run(carry_out(ws, ScriptedModel(script), "do it", config=CONFIG))
    assert proposed_text(run, "a.py") == "import sys\n\nprint(sys.path)\n", results(events)


class Units:
    def __init__(self, utf16):
        self.utf16 = utf16

    def column(self, line, character):
        from redline_agent.proof.child import Child

        child = Child.__new__(Child)
        child._utf16 = self.utf16
        return child.column(line, character)


@pytest.mark.parametrize(("utf16", "at"), [(True, 3), (False, 2)])
def test_edits_of_both_encodings(utf16, at):
    edit = {"range": {"start": {"line": 0, "character": at}, "end": {"line": 0, "character": at + 1}}, "newText": "X"}
    assert applied("a😀bc\r\nd", [edit], Units(utf16)) == "a😀Xc\r\nd"


def insert(text):
    at = {"line": 0, "character": 0}
    return {"range": {"start": at, "end": at}, "newText": text}


def test_of_several_edits_at_one_place_the_first_comes_first_and_overlaps_are_refused():
    assert applied("x\n", [insert("A\n"), insert("B\n")], Units(False)) == "A\nB\nx\n"
    span = {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 3}}
    inner = {"start": {"line": 0, "character": 1}, "end": {"line": 0, "character": 2}}
    with pytest.raises(ToolError, match="overlap"):
        applied("abc\n", [{"range": span, "newText": "X"}, {"range": inner, "newText": "Y"}], Units(False))
    with pytest.raises(ToolError, match="malformed"):
        applied("abc\n", [{"range": span}], Units(False))


def test_a_name_is_a_word():
    assert _place("const width = id;\n", "a.txt", "id", 1) == (0, 14)
    with pytest.raises(ToolError, match="2 times"):
        _place("id = id\n", "a.txt", "id", 1)
