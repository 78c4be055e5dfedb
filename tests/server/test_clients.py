"""Each editor as it really answers: its announced capabilities, and a fake client that behaves as it was seen to do.

tests/cases/clients has what each announces (but VS Code, whose is here); BEHAVES has what each does with an edit.
"""

import json
import time
from pathlib import Path

import pytest
from kit import call, disk, finish, lay
from raw_client import CAPABILITIES, RawClient

FOLDER = Path(__file__).parents[1] / "cases/clients"
FILES = {
    "a.py": "def foo():\n    return 1\n",
    "b.py": "from a import foo\n",
    "gone.py": "x = 1\n",
    "from.py": "y = 1\n",
}
VS_CODE = {
    "clientInfo": {"name": "Visual Studio Code"},
    "capabilities": {
        **CAPABILITIES,
        "workspace": {
            **CAPABILITIES["workspace"],
            "workspaceEdit": {
                "documentChanges": True,
                "resourceOperations": ["create", "rename", "delete"],
                "failureHandling": "textOnlyTransactional",
            },
        },
    },
}
CLIENTS = {"vs-code": VS_CODE} | {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def faithful(client, params):
    return client.apply_edit(params)


def silent(client, params):
    """Says that it applied the edit, and did not: a "no" at Neovim's and Emacs 30's question."""
    return {"applied": True}


def honest(client, params):
    return {"applied": False, "failureReason": "the user said no"}


def without_files(client, params):
    """Emacs: file operations are passed over in silence (28), or refuse the whole edit (30)."""
    changes = params["edit"].get("documentChanges") or []
    assert not any("kind" in change for change in changes), "it was sent what it cannot do"
    return client.apply_edit(params)


NEVER_SAYS_NO = {"neovim-0.11", "neovim-0.12", "emacs-30"}
NO_FILE_OPERATIONS = {"emacs-28", "emacs-30"}


@pytest.fixture(params=CLIENTS)
def editor(request, folder, tmp_path):
    lay(folder, FILES)
    entry = CLIENTS[request.param]
    with RawClient(folder) as client:
        client.initialize(folder, entry["capabilities"], name=(entry["clientInfo"] or {}).get("name", ""))
        client.kind = request.param
        yield client


def proposed(client, folder, tmp_path, *replies):
    (tmp_path / "script.json").write_text(json.dumps([*replies, finish()]))
    client.do("redline.setModel", {"model": f"scripted:{tmp_path / 'script.json'}"})
    uri = client.open(folder / "a.py")
    run = client.run("change it", uri=uri)
    assert run["state"] == "proposed", run
    return uri, run["runId"]


def edit(path, old, new):
    return call("edit", path=path, old=old, new=new)


def ends(client, run, wanted):
    def items():
        proposal = client.proposal(run)
        return {each["id"]: each["state"] for each in [*proposal["hunks"], *proposal["fileOperations"]]}

    client.wait(lambda: set(items().values()) == wanted or None, what=f"{wanted}, not {items()}")
    return items()


def test_hunks_of_open_and_other_files_are_accepted(editor, folder, tmp_path):
    uri, run = proposed(
        editor, folder, tmp_path, edit("a.py", "return 1", "return 2"), edit("b.py", "foo", "foo  # used")
    )
    editor.apply = lambda params: faithful(editor, params)
    editor.do("redline.accept", {"runId": run, "hunks": "all"})
    ends(editor, run, {"accepted"})
    assert editor.documents[uri][1] == FILES["a.py"].replace("1", "2")


def test_a_no_is_told_from_a_yes_by_the_text(editor, folder, tmp_path):
    uri, run = proposed(editor, folder, tmp_path, edit("a.py", "return 1", "return 2"))
    editor.apply = lambda params: (silent if editor.kind in NEVER_SAYS_NO else honest)(editor, params)
    editor.do("redline.accept", {"runId": run, "hunks": "all"})
    ends(editor, run, {"unconfirmed"} if editor.kind in NEVER_SAYS_NO else {"pending"})
    assert editor.documents[uri][1] == FILES["a.py"]
    assert (folder / "a.py").read_text() == FILES["a.py"]


def test_files_are_created_renamed_and_deleted_whatever_it_can(editor, folder, tmp_path):
    _, run = proposed(
        editor, folder, tmp_path, call("write", path="made.py", content="z = 1\n"), call("delete", path="gone.py"),
        call("move", path="from.py", to="to.py"),
    )  # fmt: skip
    behaves = without_files if editor.kind in NO_FILE_OPERATIONS else faithful
    editor.apply = lambda params: behaves(editor, params)
    ids = [each["id"] for each in editor.proposal(run)["fileOperations"]]
    editor.do("redline.accept", {"runId": run, "hunks": ids})
    ends(editor, run, {"accepted"})
    files = disk(folder)
    assert "gone.py" not in files
    assert "from.py" not in files
    assert files["to.py"] == "y = 1\n"
    made = editor.documents.get((folder / "made.py").as_uri(), [0, files["made.py"]])[1]
    assert made == "z = 1\n"


def test_an_edit_for_a_text_that_has_moved_on_loses_nothing(editor, folder, tmp_path):
    """The user types while the edit is on its way: the client passes it over, and says so or not."""
    uri, run = proposed(editor, folder, tmp_path, edit("a.py", "return 1", "return 2"))

    def typing(params):
        if len(editor.documents[uri]) == 2 and "typed" not in editor.documents[uri][1]:
            editor.replace(uri, "# typed\n" + FILES["a.py"])
        answer = editor.apply_edit(params)
        return {"applied": True} if editor.kind in NEVER_SAYS_NO else answer

    editor.apply = typing
    editor.do("redline.accept", {"runId": run, "hunks": "all"})
    editor.wait(lambda: editor.states(run)["h1"] in ("pending", "unconfirmed") or None, what="the end")
    assert editor.documents[uri][1] == "# typed\n" + FILES["a.py"]
    if editor.states(run)["h1"] == "pending":
        editor.do("redline.accept", {"runId": run, "hunks": ["h1"]})
        ends(editor, run, {"accepted"})
        assert editor.documents[uri][1] == "# typed\n" + FILES["a.py"].replace("1", "2")


def test_where_only_the_first_file_of_an_edit_is_checked_each_edit_has_one(editor, folder, tmp_path):
    """Neovim and Emacs check no version but the first one's, and apply the rest: so they are never given more than one."""
    _, run = proposed(
        editor, folder, tmp_path, edit("a.py", "return 1", "return 2"), edit("b.py", "foo", "foo  # used")
    )
    files = []

    def counting(params):
        files.append(len(params["edit"].get("documentChanges") or params["edit"]["changes"]))
        return faithful(editor, params)

    editor.apply = counting
    editor.do("redline.accept", {"runId": run, "hunks": "all"})
    ends(editor, run, {"accepted"})
    assert files == ([2] if editor.kind == "vs-code" else [1, 1])


def test_nothing_waits_for_an_editor_that_never_shows_a_document(folder, tmp_path):
    lay(folder, FILES)
    entry = CLIENTS["emacs-30"]
    with RawClient(folder, left=("window/showDocument",)) as client:
        client.initialize(folder, entry["capabilities"], name="Emacs")
        _, run = proposed(client, folder, tmp_path, edit("a.py", "return 1", "return 2"))
        began = time.monotonic()
        shown = client.do("redline.showDiff", {"runId": run})
        assert time.monotonic() - began < 5
        assert "+    return 2" in Path(shown["uri"].removeprefix("file://")).read_text()
        assert client.states(run) == {"h1": "pending"}


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


def test_every_editor_of_the_list_is_here():
    assert set(CLIENTS) == {"vs-code", "neovim-0.11", "neovim-0.12", "emacs-28", "emacs-30", "helix"}
