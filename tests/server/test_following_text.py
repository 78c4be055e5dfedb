"""Hunks over a real connection while the user types in ranges, saves elsewhere, and the editor says one thing and does
another.
"""

import json

import pytest
from kit import call, finish, lay
from raw_client import CAPABILITIES, RawClient

TEXT = "a\nx = 1\nb\n"


def started(folder, tmp_path, files, *replies, capabilities=None):
    lay(folder, files)
    (tmp_path / "script.json").write_text(json.dumps([*replies, finish()]))
    client = RawClient(folder)
    client.initialize(folder, capabilities)
    client.do("redline.setModel", {"model": f"scripted:{tmp_path / 'script.json'}"})
    return client


@pytest.fixture
def begin(folder, tmp_path):
    clients = []

    def start(files, *replies, **more):
        clients.append(started(folder, tmp_path, files, *replies, **more))
        return clients[-1]

    yield start
    for client in clients:
        client.close()


def typed(client, uri, line, text, end=None):
    """Type at the start of a line, as an editor sends it."""
    document = client.documents[uri]
    lines = document[1].splitlines(keepends=True)
    lines[line : line if end is None else end] = [text]
    document[0] += 1
    document[1] = "".join(lines)
    span = {"start": {"line": line, "character": 0}, "end": {"line": line if end is None else end, "character": 0}}
    client.notify(
        "textDocument/didChange",
        {"textDocument": {"uri": uri, "version": document[0]}, "contentChanges": [{"range": span, "text": text}]},
    )


def test_of_two_equal_lines_the_right_one_is_changed(begin, folder):
    client = begin({"t.txt": TEXT}, call("edit", path="t.txt", old="x = 1", new="x = 2"))
    uri = client.open(folder / "t.txt")
    run = client.run("change it", uri=uri)["runId"]
    typed(client, uri, 1, "x = 1\nc\n")
    client.apply = client.apply_edit
    client.do("redline.accept", {"runId": run, "hunks": ["h1"]})
    client.wait(lambda: client.states(run) == {"h1": "accepted"}, what="the accept")
    assert client.documents[uri][1] == "a\nx = 1\nc\nx = 2\nb\n"


def test_what_the_user_cuts_and_puts_back_can_be_accepted_again(begin, folder):
    client = begin({"t.txt": TEXT}, call("edit", path="t.txt", old="x = 1", new="x = 2"))
    uri = client.open(folder / "t.txt")
    run = client.run("change it", uri=uri)["runId"]
    typed(client, uri, 0, "", end=3)
    client.wait(lambda: client.states(run) == {"h1": "conflicted"}, what="the conflict")
    typed(client, uri, 0, TEXT)
    client.wait(lambda: client.states(run) == {"h1": "pending"}, what="the way back")


def test_a_no_that_says_yes_can_be_asked_again(begin, folder):
    client = begin({"t.txt": TEXT}, call("edit", path="t.txt", old="x = 1", new="x = 2"))
    uri = client.open(folder / "t.txt")
    run = client.run("change it", uri=uri)["runId"]
    client.apply = lambda params: {"applied": True}
    client.do("redline.accept", {"runId": run, "hunks": ["h1"]})
    client.wait(lambda: client.states(run) == {"h1": "unconfirmed"}, what="no echo")
    client.apply = client.apply_edit
    client.do("redline.accept", {"runId": run, "hunks": ["h1"]})
    client.wait(lambda: client.states(run) == {"h1": "accepted"}, what="the second time")
    assert client.documents[uri][1] == TEXT.replace("1", "2")


def operations(client, run):
    return {each["id"]: each["state"] for each in client.proposal(run)["fileOperations"]}


def test_a_file_that_is_newer_on_the_disk_is_not_deleted(begin, folder):
    client = begin({"t.txt": TEXT}, call("delete", path="t.txt"))
    uri = client.open(folder / "t.txt")
    run = client.run("delete it", uri=uri)["runId"]
    (folder / "t.txt").write_text("newer\n")
    client.do("redline.accept", {"runId": run, "hunks": ["f1"]})
    client.wait(lambda: any("has changed since" in m["message"] for m in client.notes("window/showMessage")) or None)
    assert (folder / "t.txt").read_text() == "newer\n"
    assert operations(client, run) == {"f1": "pending"}


PLAIN = {**CAPABILITIES, "workspace": {**CAPABILITIES["workspace"], "workspaceEdit": {"documentChanges": True}}}


def test_a_file_with_unsaved_changes_is_renamed_when_it_is_saved(begin, folder):
    client = begin(
        {"a.txt": TEXT}, call("edit", path="a.txt", old="x = 1", new="x = 2"), call("move", path="a.txt", to="b.txt"),
        capabilities=PLAIN,
    )  # fmt: skip
    uri = client.open(folder / "a.txt")
    run = client.run("move it", uri=uri)["runId"]
    client.apply = client.apply_edit
    proposal = client.proposal(run)
    ids = [each["id"] for each in [*proposal["hunks"], *proposal["fileOperations"]]]
    client.do("redline.accept", {"runId": run, "hunks": ids})
    client.wait(lambda: any("unsaved changes" in m["message"] for m in client.notes("window/showMessage")) or None)
    assert (folder / "a.txt").read_text() == TEXT
    assert not (folder / "b.txt").exists()
    (folder / "a.txt").write_text(client.documents[uri][1])
    client.notify("textDocument/didSave", {"textDocument": {"uri": uri}})
    (name,) = operations(client, run)
    client.wait(lambda: operations(client, run) == {name: "pending"} or None)
    client.do("redline.accept", {"runId": run, "hunks": [name]})
    client.wait(lambda: operations(client, run) == {name: "accepted"} or None, what="the rename")
    assert (folder / "b.txt").read_text() == TEXT.replace("1", "2")


def test_two_proposals_over_one_file_are_told_of_also_where_one_deletes_it(begin, folder, tmp_path):
    client = begin({"t.txt": TEXT}, call("edit", path="t.txt", old="x = 1", new="x = 2"))
    uri = client.open(folder / "t.txt")
    client.run("change it", uri=uri)
    (tmp_path / "other.json").write_text(json.dumps([call("delete", path="t.txt"), finish()]))
    client.do("redline.setModel", {"model": f"scripted:{tmp_path / 'other.json'}"})
    client.run("delete it", uri=uri)
    client.wait(
        lambda: any("t.txt is changed by h1" in m["message"] for m in client.notes("window/showMessage")) or None
    )
