"""Accepting and asking in each editor as it really answers; how each behaves is the table in fake_editors.py."""

import json
import time
from pathlib import Path

import pytest
from fake_editors import SEEN, FakeEditor
from kit import call, disk, finish, lay

FILES = {
    "a.py": "def foo():\n    return 1\n",
    "b.py": "from a import foo\n",
    "notes.md": "foo is here\n",
    "gone.py": "x = 1\n",
    "from.py": "y = 1\n",
}


@pytest.fixture(params=SEEN)
def editor(request, folder):
    lay(folder, FILES)
    with FakeEditor(folder, request.param) as client:
        client.start(folder)
        yield client
        assert client.early == [], "a command is answered before an edit is asked for: Emacs waits up to 10 s for it"
        assert not any("changeAnnotations" in edit for edit in client.edits), (
            "a client asks about these, or ignores them"
        )
        if client.kind.startswith("emacs"):
            assert not [each for each in client.requests if each["method"] == "workspace/codeLens/refresh"]


def of(kinds):
    """Only these editors."""
    return pytest.mark.parametrize("editor", kinds, indirect=True)


def proposed(client, folder, tmp_path, *replies):
    (tmp_path / "script.json").write_text(json.dumps([*replies, finish()]))
    client.do("redline.setModel", {"model": f"scripted:{tmp_path / 'script.json'}"})
    uri = client.open(folder / "a.py")
    run = client.run("change it", uri=uri)
    assert run["state"] == "proposed", run
    return uri, run["runId"]


def edit(path, old, new):
    return call("edit", path=path, old=old, new=new)


TWO = (edit("a.py", "return 1", "return 2"), edit("b.py", "foo", "foo  # used"))


def states(client, run):
    proposal = client.proposal(run)
    return {each["id"]: each["state"] for each in [*proposal["hunks"], *proposal["fileOperations"]]}


def ends(client, run, wanted):
    try:
        client.wait(lambda: set(states(client, run).values()) == wanted or None, what=str(wanted))
    except TimeoutError:
        pytest.fail(f"{states(client, run)}, not {wanted}; {client.notes('window/showMessage')[-3:]}")
    return states(client, run)


def text_of(client, path):
    """What the person sees of a file: its buffer, else the disk."""
    known = client.documents.get(path.as_uri())
    return known[1] if known else client.hidden.get(path) or path.read_bytes().decode()


def test_hunks_of_open_and_other_files_are_accepted(editor, folder, tmp_path):
    _, run = proposed(editor, folder, tmp_path, *TWO)
    editor.do("redline.accept", {"runId": run, "hunks": "all"})
    ends(editor, run, {"accepted"})
    assert text_of(editor, folder / "a.py") == FILES["a.py"].replace("1", "2")
    assert text_of(editor, folder / "b.py") == FILES["b.py"].replace("foo", "foo  # used")
    assert disk(folder) == FILES  # every buffer is left unsaved, as the person's own edits are
    editor.do("redline.revertRun", {"runId": run})
    ends(editor, run, {"undone"})
    assert {name: text_of(editor, folder / name) for name in ("a.py", "b.py")} == {
        n: FILES[n] for n in ("a.py", "b.py")
    }


@of([kind for kind, seen in SEEN.items() if seen.asks != "never"])
def test_a_no_is_told_from_a_yes_by_the_text(editor, folder, tmp_path):
    """Of these, Emacs 28 answers an error, and Emacs 30 that it was applied."""
    _, run = proposed(editor, folder, tmp_path, edit("b.py", "foo", "foo  # used"))
    editor.says = "no"
    editor.do("redline.accept", {"runId": run, "hunks": "all"})
    ends(editor, run, {"unconfirmed"})
    assert text_of(editor, folder / "b.py") == FILES["b.py"]
    editor.says = "yes"
    editor.do("redline.accept", {"runId": run, "hunks": ["h1"]})
    ends(editor, run, {"accepted"})
    assert text_of(editor, folder / "b.py") == FILES["b.py"].replace("foo", "foo  # used")


def test_files_are_created_renamed_and_deleted_whatever_it_can(editor, folder, tmp_path):
    """Where it cannot, Redline does them, and never sends what would be ignored or would refuse a whole edit."""
    _, run = proposed(
        editor, folder, tmp_path, call("write", path="made.py", content="z = 1\n"), call("delete", path="gone.py"),
        call("write", path="bare.py", content="z = 2"), call("move", path="from.py", to="to.py"), *TWO,
    )  # fmt: skip
    ids = list(states(editor, run))
    editor.do("redline.accept", {"runId": run, "hunks": ids})
    ends(editor, run, {"accepted"})
    files = disk(folder)
    assert "gone.py" not in files
    assert "from.py" not in files
    assert files["to.py"] == "y = 1\n"
    assert text_of(editor, folder / "made.py") == "z = 1\n"
    assert text_of(editor, folder / "bare.py") == "z = 2"
    sent = [change for each in editor.edits for change in each.get("documentChanges", []) if "kind" in change]
    assert (sent == []) == (editor.seen.operations != "work")
    kinds = [{change.get("kind") for change in each.get("documentChanges", [])} for each in editor.edits]
    assert all(len(each) <= 1 for each in kinds), "file operations are never mixed with edits of text"
    assert not any("create" in each for each in kinds), "a new file would be in a buffer alone"


def test_what_was_accepted_is_taken_back_file_operations_too_and_done_again(editor, folder, tmp_path):
    """A file that was moved and edited among them, and after a restart of the server."""
    (folder / "gone.py").chmod(0o755)
    _, run = proposed(
        editor, folder, tmp_path, call("write", path="new/made.py", content="z = 1\n"), call("delete", path="gone.py"),
        call("move", path="from.py", to="to.py"), edit("to.py", "y = 1", "y = 10"), *TWO,
    )  # fmt: skip
    editor.open(folder / "from.py")

    def accept(client):
        """Accept all, and save; Emacs's file is moved by Redline, so only once it is saved."""
        for _ in range(2):
            left = [ident for ident, state in states(client, run).items() if state != "accepted"]
            if left:
                client.do("redline.accept", {"runId": run, "hunks": left})
                client.wait(lambda: "applying" not in states(client, run).values(), what="the accept")
            save(client)
        assert set(states(client, run).values()) == {"accepted"}

    def save(client):
        """Save what differs, and close what shows a file that is gone."""
        for uri in list(client.documents):
            path = Path(uri.removeprefix("file://"))
            if not path.exists():
                del client.documents[uri]
                client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
            elif path.read_text() != client.documents[uri][1]:
                client.save(path)

    accept(editor)
    after = disk(folder)
    assert after == {
        "a.py": FILES["a.py"].replace("1", "2"), "b.py": FILES["b.py"].replace("foo", "foo  # used"), "new/made.py": "z = 1\n",
        "notes.md": FILES["notes.md"], "to.py": "y = 10\n",
    }  # fmt: skip

    def revert(client):
        for _ in range(2):
            if "accepted" in states(client, run).values():
                client.do("redline.revertRun", {"runId": run})
                time.sleep(1)
                client.wait(lambda: "applying" not in states(client, run).values(), what="the revert")
            save(client)
        ends(client, run, {"undone"})
        assert disk(folder) == FILES

    revert(editor)
    assert (folder / "gone.py").stat().st_mode & 0o777 == 0o755
    accept(editor)
    assert disk(folder) == after
    editor.close()
    with FakeEditor(folder, editor.kind) as again:
        again.start(folder)
        again.open(folder / "a.py")
        assert again.do("redline.revertRun", {"runId": run, "preview": True})["uri"]
        revert(again)


@pytest.mark.parametrize("opened", [True, False], ids=["open", "not open"])
def test_line_ends_are_as_they_were(editor, folder, tmp_path, opened):
    """Emacs has newlines in its buffer and the file's own on the disk."""
    (folder / "b.py").write_bytes(b"x = 1\r\ny = 1\r\nz = 1\r\n")
    _, run = proposed(
        editor, folder, tmp_path, edit("b.py", "y = 1\n", "y = 2\nyy = 2\n"), call("delete", path="gone.py")
    )
    if opened:
        editor.open(folder / "b.py")
    editor.do("redline.accept", {"runId": run, "hunks": "all"})
    ends(editor, run, {"accepted"})
    editor.save(folder / "b.py")
    assert (folder / "b.py").read_bytes() == b"x = 1\r\ny = 2\r\nyy = 2\r\nz = 1\r\n"
    editor.do("redline.revertRun", {"runId": run})
    ends(editor, run, {"undone"})
    editor.save(folder / "b.py")
    assert (folder / "b.py").read_bytes() == b"x = 1\r\ny = 1\r\nz = 1\r\n"


def test_a_crlf_file_that_is_open_can_be_deleted_and_moved(editor, folder, tmp_path):
    for name in ("gone.py", "from.py"):
        (folder / name).write_bytes(b"x = 1\r\n")
    _, run = proposed(
        editor, folder, tmp_path, call("delete", path="gone.py"), call("move", path="from.py", to="to.py")
    )
    for name in ("gone.py", "from.py"):
        editor.open(folder / name)
    editor.do("redline.accept", {"runId": run, "hunks": "all"})
    ends(editor, run, {"accepted"})
    assert (folder / "to.py").read_bytes() == b"x = 1\r\n"


ENDS = [  # before, what is edited, and what is saved where the last line's end is a matter of edits
    ("a = 1\n", "a = 1\n", "a = 1\nx = 1\n", "a = 1\nx = 1\n"),
    ("a = 1\nx = 1\n", "x = 1\n", "", "a = 1\n"),
    ("a = 1\nx = 1\n", "x = 1\n", "x = 2\ny = 3\n", "a = 1\nx = 2\ny = 3\n"),
    ("a = 1\nx = 1", "x = 1", "x = 2\n", "a = 1\nx = 2\n"),
    ("a = 1\nx = 1", "x = 1", "x = 2\ny = 3", "a = 1\nx = 2\ny = 3"),
    ("a = 1\nx = 1", "x = 1", "x = 1\n", "a = 1\nx = 1\n"),
]


@pytest.mark.parametrize("end", ENDS)
def test_what_is_saved_at_the_end_of_a_file_is_what_was_proposed(editor, folder, tmp_path, end):
    before, old, new, after = end
    (folder / "b.py").write_text(before)
    _, run = proposed(editor, folder, tmp_path, edit("b.py", old, new))
    editor.open(folder / "b.py")
    editor.do("redline.accept", {"runId": run, "hunks": "all"})
    ends(editor, run, {"accepted"})
    editor.save(folder / "b.py")
    ended = (lambda text: text.removesuffix("\n") + "\n") if editor.seen.lines_end else (lambda text: text)
    assert (folder / "b.py").read_text() == ended(after)
    if new.strip() != old.strip():
        editor.do("redline.revertRun", {"runId": run})
        ends(editor, run, {"undone"})
        editor.save(folder / "b.py")
        assert (folder / "b.py").read_text() == ended(before)


def test_what_is_typed_while_an_edit_is_on_its_way_stays(editor, folder, tmp_path):
    """It is passed over by some in silence, by others with an error; either way it is pending, and can come again."""
    uri, run = proposed(editor, folder, tmp_path, edit("a.py", "return 1", "return 2"))
    editor.before_an_edit = lambda: editor.replace(uri, "# typed\n" + FILES["a.py"])
    editor.do("redline.accept", {"runId": run, "hunks": "all"})
    editor.wait(lambda: editor.states(run)["h1"] in ("pending", "unconfirmed") or None, what="the end")
    assert editor.documents[uri][1] == "# typed\n" + FILES["a.py"]
    editor.do("redline.accept", {"runId": run, "hunks": ["h1"]})
    ends(editor, run, {"accepted"})
    assert editor.documents[uri][1] == "# typed\n" + FILES["a.py"].replace("1", "2")


def test_what_is_typed_in_the_second_file_meanwhile_stays(editor, folder, tmp_path):
    """Neovim compares the version of an edit's first file only, and would lay the rest over what was typed."""
    _, run = proposed(editor, folder, tmp_path, *TWO)
    other = editor.open(folder / "b.py")
    editor.before_an_edit = lambda: editor.replace(other, "# typed\n" + FILES["b.py"])
    editor.do("redline.accept", {"runId": run, "hunks": "all"})
    editor.wait(lambda: "applying" not in states(editor, run).values(), what="the end")
    left = [ident for ident, state in states(editor, run).items() if state != "accepted"]
    if left:
        assert text_of(editor, folder / "b.py") == "# typed\n" + FILES["b.py"]
        editor.do("redline.accept", {"runId": run, "hunks": left})
    ends(editor, run, {"accepted"})
    assert text_of(editor, folder / "a.py") == FILES["a.py"].replace("1", "2")
    assert text_of(editor, folder / "b.py") == "# typed\n" + FILES["b.py"].replace("foo", "foo  # used")


def test_a_file_that_the_server_is_not_told_of_is_unconfirmed_until_it_is_saved(editor, folder, tmp_path):
    """Eglot tells of the files of its mode alone; the others it changes in a buffer that nobody else sees."""
    _, run = proposed(editor, folder, tmp_path, edit("notes.md", "foo is", "bar is"))
    editor.do("redline.accept", {"runId": run, "hunks": "all"})
    notes = folder / "notes.md"
    if editor.seen.only_its_mode:
        ends(editor, run, {"unconfirmed"})
        editor.save(notes)
    ends(editor, run, {"accepted"})
    assert text_of(editor, notes) == "bar is here\n"


def test_one_edit_a_file_unless_all_of_it_is_one_transaction(editor, folder, tmp_path):
    _, run = proposed(editor, folder, tmp_path, *TWO)
    editor.do("redline.accept", {"runId": run, "hunks": "all"})
    ends(editor, run, {"accepted"})
    counts = [len(each.get("documentChanges") or each["changes"]) for each in editor.edits]
    assert counts == ([2] if editor.kind == "vs-code" else [1, 1])


@of([kind for kind, seen in SEEN.items() if not seen.shows_documents])
def test_nothing_waits_for_an_editor_that_never_shows_a_document(editor, folder, tmp_path):
    _, run = proposed(editor, folder, tmp_path, edit("a.py", "return 1", "return 2"))
    began = time.monotonic()
    shown = editor.do("redline.showDiff", {"runId": run})
    assert time.monotonic() - began < 5
    assert "+    return 2" in Path(shown["uri"].removeprefix("file://")).read_text()
    assert editor.states(run) == {"h1": "pending"}


@of([kind for kind, seen in SEEN.items() if seen.leaves_lying_s])
def test_no_request_comes_in_one_piece_with_an_answer(editor, folder, tmp_path):
    """Emacs 28 would see it with the next message only, and here none comes."""
    _, run = proposed(editor, folder, tmp_path, edit("a.py", "return 1", "return 2"))
    editor.do("redline.accept", {"runId": run, "hunks": "all"})
    time.sleep(1)
    assert len(editor.edits) == 1


def test_return_at_a_question_and_turning_away_from_it_both_mean_no(editor, folder, tmp_path):
    (folder.parent / "beside.txt").write_text("beside\n")
    script = [call("read", path=str(folder.parent / "beside.txt")), finish()]
    (tmp_path / "script.json").write_text(json.dumps(script))
    editor.do("redline.setModel", {"model": f"scripted:{tmp_path / 'script.json'}"})
    run = editor.do("redline.run", {"instruction": "read it", "uri": editor.open(folder / "a.py")})["runId"]

    def over():
        (found,) = editor.do("redline.runs", {"runId": run})
        return found if found["outcome"] or (found["pending"] and not editor.asked) else None

    time.sleep(1)
    found = editor.wait(over, what="the question")
    if found["outcome"] is None:  # it has no such question: it stays open for a command or a code action
        editor.do("redline.approve", {"requestId": found["pending"][0]["requestId"], "decision": "deny"})
        found = editor.ended(run)
    assert found["refusals"], found
    for asked in editor.asked:
        assert asked["actions"][0]["title"] == "Deny"


def test_an_editor_that_resolves_no_action_gets_whole_ones(editor, folder, tmp_path):
    uri, _ = proposed(editor, folder, tmp_path, edit("a.py", "return 1", "return 2"))
    span = {"start": {"line": 1, "character": 0}, "end": {"line": 1, "character": 0}}
    found = editor.result(
        "textDocument/codeAction", {"textDocument": {"uri": uri}, "range": span, "context": {"diagnostics": []}}
    )
    titles = [each["title"] for each in found]
    assert any("accept" in title.lower() for title in titles), titles
    assert all("command" in each or "edit" in each for each in found)
    assert not any(each.get("isPreferred") for each in found)


def test_every_editor_of_the_table_announces_what_it_really_announces():
    folder = Path(__file__).parents[1] / "cases/clients"
    assert set(SEEN) == {path.stem for path in folder.glob("*.json")}
