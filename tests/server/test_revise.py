"""A hunk sent back with a word, parts that are proven again, and reverts that are shown first."""

import json
import sqlite3
import time
from pathlib import Path

import pytest
from kit import call, finish, lay
from raw_client import RawClient

TEXT = "import os\n\n\ndef foo(x):\n    return x\n\n\n# a\n# b\n\n\nprint(foo(1))\n"


def edit(old, new):
    return call("edit", path="a.py", old=old, new=new, reason=f"{new} is better")


FIRST = [{"calls": [*edit("return x", "return x + 1")["calls"], *edit("foo(1)", "foo(2)")["calls"]]}, finish()]


def scripted(tmp_path, name, replies):
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(replies))
    return f"scripted:{path}"


@pytest.fixture
def client(folder):
    lay(folder, {"a.py": TEXT})
    with RawClient(folder) as client:
        client.initialize(folder)
        yield client


def begun(client, folder, tmp_path, replies=FIRST):
    uri = client.open(folder / "a.py")
    client.do("redline.setModel", {"model": scripted(tmp_path, "first", replies)})
    run = client.run("change it", uri=uri)
    assert run["state"] == "proposed", run
    return uri, run["runId"]


def by_text(client, run):
    return {hunk["newText"]: hunk for hunk in client.proposal(run)["hunks"]}


def test_a_word_on_a_hunk_brings_another_in_its_place(client, folder, tmp_path):
    uri, run = begun(client, folder, tmp_path)
    hunk = by_text(client, run)["    return x + 1\n"]
    client.do(
        "redline.setModel", {"model": scripted(tmp_path, "second", [edit("return x + 1", "return 1 + x"), finish()])}
    )
    revised = client.do("redline.revise", {"runId": run, "hunk": hunk["id"], "text": "the other way round"})
    client.ended(revised["runId"])
    found = by_text(client, run)
    assert set(found) == {"    return 1 + x\n", "print(foo(2))\n"}
    new = found["    return 1 + x\n"]
    assert (new["oldText"], new["state"]) == ("    return x\n", "pending")
    assert new["id"] == f"{hunk['id']}r1"
    assert revised["runId"] not in {p["runId"] for p in client.do("redline.proposals")}
    client.do("redline.accept", {"runId": run, "hunks": [new["id"], found["print(foo(2))\n"]["id"]]})
    client.wait(lambda: set(client.states(run).values()) == {"accepted"} or None, what="the accept")
    assert client.documents[uri][1] == TEXT.replace("return x", "return 1 + x").replace("foo(1)", "foo(2)")


def test_the_new_hunk_is_there_after_a_restart(client, folder, tmp_path):
    _, run = begun(client, folder, tmp_path)
    hunk = by_text(client, run)["    return x + 1\n"]
    client.do("redline.reject", {"runId": run, "hunks": [by_text(client, run)["print(foo(2))\n"]["id"]]})
    client.do(
        "redline.setModel", {"model": scripted(tmp_path, "second", [edit("return x + 1", "return 1 + x"), finish()])}
    )
    client.ended(client.do("redline.revise", {"runId": run, "hunk": hunk["id"], "text": "turn it"})["runId"])
    client.close()
    with RawClient(folder) as again:
        again.initialize(folder)
        again.open(folder / "a.py")
        again.wait(lambda: again.do("redline.proposals"), what="the proposals of before")
        assert {h["newText"]: h["state"] for h in again.proposal(run)["hunks"]} == {
            "    return 1 + x\n": "pending", "print(foo(2))\n": "rejected"
        }  # fmt: skip
        assert len(again.do("redline.proposals")) == 1


def test_a_directive_on_a_hunk_offers_to_revise_it_and_goes(client, folder, tmp_path):
    uri, run = begun(client, folder, tmp_path)
    version, text = client.documents[uri]
    at = text.index("    return x")
    lines = text[:at].count("\n")
    typed = "    # redline: the other way round\n"
    for place, letter in enumerate("\n" + typed[:-1]):  # an empty line, then the words in it
        position = {"line": lines, "character": max(0, place - 1)}
        type_(client, uri, {"range": {"start": position, "end": position}, "text": letter})
    client.documents[uri][1] = text[:at] + typed + text[at:]
    span = {"start": {"line": lines, "character": 0}, "end": {"line": lines, "character": 0}}
    offered = client.result("textDocument/codeAction",
                            {"textDocument": {"uri": uri}, "range": span, "context": {"diagnostics": []}})  # fmt: skip
    (action,) = [each for each in offered if each["title"].startswith("Redline: revise")]
    assert action["kind"] == "quickfix.redline.revise"
    client.do(
        "redline.setModel", {"model": scripted(tmp_path, "second", [edit("return x + 1", "return 1 + x"), finish()])}
    )
    client.ended(client.do(action["command"]["command"], action["command"]["arguments"][0])["runId"])
    hunks = [h for h in client.proposal(run)["hunks"] if "1 + x" in h["newText"]]
    client.do("redline.accept", {"runId": run, "hunks": [h["id"] for h in hunks]})
    client.wait(lambda: "1 + x" in client.documents[uri][1] or None, what="the accept")
    assert client.documents[uri][1] == TEXT.replace("return x", "return 1 + x")


def type_(client, uri, change):
    client.documents[uri][0] += 1
    client.notify("textDocument/didChange",
                  {"textDocument": {"uri": uri, "version": client.documents[uri][0]}, "contentChanges": [change]})  # fmt: skip


@pytest.mark.parametrize(
    ("argument", "why"),
    [
        ({"hunk": "h99"}, "no hunk 'h99'"),
        ({"text": " "}, "empty"),
        ({"runId": "run-x"}, "no proposal"),
        ({"extra": 1}, "extra"),
    ],
)
def test_what_cannot_be_revised_says_why(client, folder, tmp_path, argument, why):
    _, run = begun(client, folder, tmp_path)
    reply = client.command("redline.revise", {"runId": run, "hunk": "h1", "text": "x", **argument})
    assert why in reply["error"]["message"].lower()


def test_a_part_is_proven_again(client, folder, tmp_path):
    replies = [
        {"calls": [*edit("import os", "import os\nimport sys")["calls"], *edit("foo(1)", "foo(sys.maxsize)")["calls"]]},
        finish(),
    ]
    _, run = begun(client, folder, tmp_path, replies)
    hunk = by_text(client, run)["print(foo(sys.maxsize))\n"]
    answer = client.do("redline.accept", {"runId": run, "hunks": [hunk["id"]]})
    assert len(answer["needs"]) == 1

    def part():
        return [i for i in client.proposal(run)["proof"] if i["check"].startswith("accepted: ")]

    found = client.wait(part, what="the proof of the part")
    assert any(i["ok"] is False and "sys" in i["detail"] for i in found), found
    client.do("redline.accept", {"runId": run, "hunks": answer["needs"]})
    client.wait(lambda: set(client.states(run).values()) == {"accepted"} or None, what="the rest")


def test_a_revert_is_shown_first_and_can_be_reverted(client, folder, tmp_path):
    uri, run = begun(client, folder, tmp_path)
    client.do("redline.accept", {"runId": run, "hunks": "all"})
    client.wait(lambda: set(client.states(run).values()) == {"accepted"} or None, what="the accept")
    after = client.documents[uri][1]
    shown = client.do("redline.revertRun", {"runId": run, "preview": True})
    assert shown["reverting"] == []
    assert "-    return x + 1\n+    return x\n" in Path(shown["uri"].removeprefix("file://")).read_text()
    assert client.documents[uri][1] == after
    client.do("redline.revertRun", {"runId": run})
    client.wait(lambda: client.documents[uri][1] == TEXT or None, what="the revert")
    client.wait(lambda: set(client.states(run).values()) == {"undone"} or None, what="its echo")
    client.do("redline.accept", {"runId": run, "hunks": list(client.states(run))})
    client.wait(lambda: client.documents[uri][1] == after or None, what="the revert of the revert")


def test_a_run_of_an_earlier_server_can_be_reverted(client, folder, tmp_path):
    uri, run = begun(client, folder, tmp_path)
    client.do("redline.accept", {"runId": run, "hunks": "all"})
    client.wait(lambda: set(client.states(run).values()) == {"accepted"} or None, what="the accept")
    (folder / "a.py").write_text(client.documents[uri][1])
    client.close()
    with RawClient(folder) as again:
        again.initialize(folder)
        uri = again.open(folder / "a.py")
        again.do("redline.revertRun", {"runId": run})
        again.wait(lambda: again.documents[uri][1] == TEXT or None, what="the revert")


def test_what_was_checked_before_the_user_typed_is_stale(client, folder, tmp_path):
    uri, run = begun(client, folder, tmp_path)
    before = {item["state"] for item in client.proposal(run)["proof"] if item["ok"]}
    assert before == {"current"}
    client.replace(uri, "# typed\n" + TEXT)
    client.wait(
        lambda: client.proposal(run)["hunks"][0]["range"]["start"]["line"] == 5 or None, what="the hunks to follow"
    )
    assert {item["state"] for item in client.proposal(run)["proof"] if item["ok"]} == {"stale"}
    client.do("redline.accept", {"runId": run, "hunks": [by_text(client, run)["print(foo(2))\n"]["id"]]})
    part = client.wait(
        lambda: [i for i in client.proposal(run)["proof"] if i["check"].startswith("accepted: ")],
        what="the proof of the part",
    )
    assert {item["state"] for item in part if item["ok"]} == {"current"}


def test_two_proposals_that_change_the_same_lines_are_told_of(client, folder, tmp_path):
    uri, first = begun(client, folder, tmp_path)
    client.do("redline.setModel", {"model": scripted(tmp_path, "second", [edit("return x", "return -x"), finish()])})
    second = client.run("another way", uri=uri)["runId"]
    told = client.wait(
        lambda: [m["message"] for m in client.notes("window/showMessage") if "same lines" in m["message"]],
        what="the word",
    )
    assert f"h1 and h1 of {first} in a.py" in told[0]
    client.do("redline.accept", {"runId": second, "hunks": "all"})
    client.wait(lambda: client.states(second)["h1"] == "accepted" or None, what="the accept")
    assert client.states(first) == {"h1": "conflicted", "h2": "pending"}


def test_a_conflicted_hunk_is_sent_back_with_what_the_user_made_of_it(client, folder, tmp_path):
    uri, run = begun(client, folder, tmp_path)
    hunk = by_text(client, run)["    return x + 1\n"]["id"]
    client.replace(uri, TEXT.replace("return x", "return abs(x)"))
    client.wait(lambda: client.states(run)[hunk] == "conflicted" or None, what="the conflict")
    client.do(
        "redline.setModel",
        {"model": scripted(tmp_path, "second", [edit("return abs(x)", "return abs(x) + 1"), finish()])},
    )
    revised = client.do("redline.revise", {"runId": run, "hunk": hunk, "text": "keep my abs"})
    client.ended(revised["runId"])
    new = by_text(client, run)["    return abs(x) + 1\n"]
    assert (new["oldText"], new["state"]) == ("    return abs(x)\n", "pending")
    (journal,) = [p for p in (folder.parent / "state/journals").glob("*.sqlite") if ".raw" not in p.name]
    with sqlite3.connect(journal) as db:
        (body,) = db.execute(
            "SELECT body FROM event WHERE run = ? AND type = 'run_started'", (revised["runId"],)
        ).fetchone()
    db.close()
    told = next(each for each in json.loads(body)["content"] if "As the user has it now" in each["text"])
    assert "Proposed:\n    return x + 1\n" in told["text"]
    assert "now:\n    return abs(x)\n" in told["text"]
    assert told["label"]["source"] == "workspace"


def test_a_change_of_another_file_makes_what_was_checked_of_the_project_stale(folder, tmp_path):
    """As the tests, which may be of that file; what was checked of the proposal's own files is not concerned."""
    lay(folder, {"a.py": TEXT, "test_a.py": "1\n", "out/x.log": "1\n", ".venv/x.py": "1\n", ".gitignore": "out/\n"})
    with RawClient(folder) as client:
        client.initialize(folder, options={"proof": {"tests": "true", "servers": ["off"]}})
        client.do("redline.trust", {"uri": folder.as_uri()})
        other = client.open(folder / "test_a.py")
        ignored = [client.open(folder / ".venv/x.py"), client.open(folder / "out/x.log")]
        uri, run = begun(client, folder, tmp_path)

        def states():
            return {item["check"]: item["state"] for item in client.proposal(run)["proof"]}

        assert states() == {"parses": "current", "diagnostics": "current", "tests": "current"}
        for each in ignored:
            client.replace(each, "2\n")
        client.do("redline.accept", {"runId": run, "hunks": [by_text(client, run)["print(foo(2))\n"]["id"]]})
        client.wait(lambda: states().get("accepted: tests") == "current" or None, what="the proof of the part")
        assert states()["tests"] == "current"
        client.replace(other, "2\n")
        client.wait(lambda: states()["tests"] == "stale" or None, what="the tests to be stale")
        assert states() == {
            "parses": "current", "diagnostics": "current", "tests": "stale",
            "accepted: parses": "current", "accepted: diagnostics": "current", "accepted: tests": "stale",
        }  # fmt: skip


def test_a_file_that_changes_on_the_disk_makes_them_stale_too(folder, tmp_path):
    lay(folder, {"a.py": TEXT, "test_a.py": "1\n"})
    with RawClient(folder) as client:
        client.initialize(folder, options={"proof": {"tests": "true", "servers": ["off"]}})
        client.do("redline.trust", {"uri": folder.as_uri()})
        _, run = begun(client, folder, tmp_path)
        changed = {"uri": (folder / "test_a.py").as_uri(), "type": 2}
        client.notify("workspace/didChangeWatchedFiles", {"changes": [changed]})
        stale = lambda: [i for i in client.proposal(run)["proof"] if (i["check"], i["state"]) == ("tests", "stale")]
        client.wait(stale, what="the tests to be stale")


def test_what_was_checked_of_the_project_is_stale_when_another_file_changed_while_the_editor_was_closed(
    folder, tmp_path
):
    lay(folder, {"a.py": TEXT, "test_a.py": "1\n"})
    asked = {"proof": {"tests": "true", "servers": ["off"]}}
    with RawClient(folder) as client:
        client.initialize(folder, options=asked)
        client.do("redline.trust", {"uri": folder.as_uri()})
        _, run = begun(client, folder, tmp_path)
    for state, change in (("current", False), ("stale", True)):
        if change:
            (folder / "test_a.py").write_text("2\n")
        with RawClient(folder) as again:
            again.initialize(folder, options=asked)
            again.wait(lambda c=again: c.do("redline.proposals"), what="the proposals of before")
            tests = lambda c=again: [i["state"] for i in c.proposal(run)["proof"] if i["check"] == "tests"]
            again.wait(lambda s=state, t=tests: t() == [s] or None, what=f"the tests to be {state}")
            time.sleep(0.3)
            assert tests() == [state]
