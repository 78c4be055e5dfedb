"""A whole review over a raw connection: ask, watch, accept, reject, undo, revert."""

import json
import os
import stat
import time
from pathlib import Path

import pytest
from kit import lay
from raw_client import CAPABILITIES, RawClient, apply_text_edits

FILES = {
    "a.py": "import os\nimport sys\n\n\ndef foo(x):\n    return x\n\n\nprint(foo(1), sys.argv)\n",
    "b.py": "from a import foo\n\nprint(foo(2))\n",
}


@pytest.fixture
def client(folder):
    lay(folder, FILES)
    with RawClient(folder) as client:
        client.initialize(folder)
        yield client


def at(line, end=None):
    return {"start": {"line": line, "character": 0}, "end": {"line": line if end is None else end, "character": 0}}


def actions(client, uri, line, only=None):
    context = {"diagnostics": [], **({"only": only} if only else {})}
    return client.result(
        "textDocument/codeAction", {"textDocument": {"uri": uri}, "range": at(line), "context": context}
    )


def proposed(client, folder):
    uri = client.open(folder / "a.py")
    run = client.run("rename foo to bar; remove unused", uri=uri)
    assert run["state"] == "proposed", run
    return uri, run["runId"]


def settled(client, run):
    def done():
        states = client.states(run)
        return states if "applying" not in states.values() else None

    return client.wait(done, what="the accept")


def test_a_proposal_has_the_public_shape(client, folder):
    uri, run = proposed(client, folder)
    proposal = client.proposal(run)
    assert set(proposal) == {"runId", "instruction", "state", "revision", "hunks", "fileOperations", "proof"}
    hunk = proposal["hunks"][1]
    assert set(hunk) == {
        "id", "uri", "version", "range", "oldText", "newText", "reason", "origin", "dependsOn", "state", "proof"
    }  # fmt: skip
    assert (hunk["uri"], hunk["version"], hunk["range"]) == (uri, 1, at(4, 5))
    assert (hunk["oldText"], hunk["newText"]) == ("def foo(x):\n", "def bar(x):\n")
    assert hunk["origin"] == {"turn": 1, "callId": "builtin-1-1", "tool": "rename_symbol"}
    assert {h["id"]: h["dependsOn"] for h in proposal["hunks"]} == {
        "h1": [], "h2": ["h3", "h4", "h5"], "h3": ["h2"], "h4": ["h2", "h5"], "h5": ["h2", "h4"]
    }  # fmt: skip
    assert {i["check"] for i in proposal["proof"]} == {"parses", "diagnostics", "tests"}


def test_a_run_answers_at_once_and_shows_progress_under_its_own_token(client, folder):
    uri = client.open(folder / "a.py")
    client.run("fix lint", uri=uri)
    started = time.monotonic()
    run = client.do("redline.run", {"instruction": "rename foo to bar", "uri": uri})
    assert time.monotonic() - started < 1
    client.ended(run["runId"])
    token = f"redline-{run['runId']}"
    kinds = [p["value"]["kind"] for p in client.notes("$/progress") if p["token"] == token]
    assert (kinds[0], kinds[-1]) == ("begin", "end")
    assert "report" in kinds
    assert [r["params"]["token"] for r in client.requests if r["method"] == "window/workDoneProgress/create"][
        -1
    ] == token


def test_pending_hunks_are_diagnostics_actions_lenses_and_hovers(client, folder):
    uri, run = proposed(client, folder)
    notes = [p for p in client.notes("textDocument/publishDiagnostics") if p["uri"] == uri][-1]
    assert [(d["code"], d["severity"], d["source"]) for d in notes["diagnostics"]] == [
        ("h1", 3, "redline"), ("h2", 3, "redline"), ("h3", 3, "redline")
    ]  # fmt: skip
    assert notes["version"] == 1
    titles = [a["title"] for a in actions(client, uri, 4)]
    assert titles[:6] == [
        "Redline: accept h2 (rename foo to bar)",
        "Redline: accept together: h2, h3, h4, h5",
        "Redline: reject h2 (rename foo to bar)",
        "Redline: accept all 5 changes",
        "Redline: reject all 5 changes",
        "Redline: show the diff",
    ]
    assert not any(a.get("isPreferred") for a in actions(client, uri, 4))
    lenses = client.result("textDocument/codeLens", {"textDocument": {"uri": uri}})
    assert [lens["command"]["title"] for lens in lenses][:2] == ["Accept h1", "Reject h1"]
    hover = client.result("textDocument/hover", {"textDocument": {"uri": uri}, "position": {"line": 4, "character": 5}})
    assert "rename foo to bar" in hover["contents"]["value"]
    assert "+ def bar(x):" in hover["contents"]["value"]
    assert "tests: unavailable" in hover["contents"]["value"]
    assert any(r["method"] == "workspace/codeLens/refresh" for r in client.requests)


def test_accept_one_reject_another_undo_and_compare_bytes(client, folder):
    uri, run = proposed(client, folder)
    before = client.documents[uri][1]
    client.do("redline.accept", {"runId": run, "hunks": ["h1"]})
    client.do("redline.reject", {"runId": run, "hunks": ["h2"]})
    states = settled(client, run)
    assert states == {"h1": "accepted", "h2": "rejected", "h3": "pending", "h4": "pending", "h5": "pending"}
    assert client.documents[uri][1] == before.replace("import os\n", "")
    client.replace(uri, before)
    client.wait(lambda: client.states(run)["h1"] == "undone", what="the undo")
    assert (folder / "a.py").read_text() == FILES["a.py"]


def test_edits_carry_the_version_that_they_are_for(client, folder):
    uri, run = proposed(client, folder)
    client.replace(uri, "# typed\n" + client.documents[uri][1])
    client.do("redline.accept", {"runId": run, "hunks": ["h2"]})
    assert settled(client, run)["h2"] == "accepted"
    (request,) = [r for r in client.requests if r["method"] == "workspace/applyEdit"]
    (change,) = request["params"]["edit"]["documentChanges"]
    assert change["textDocument"] == {"uri": uri, "version": 2}
    assert change["edits"] == [
        {"range": {"start": {"line": 5, "character": 4}, "end": {"line": 5, "character": 7}}, "newText": "bar"}
    ]
    assert client.documents[uri][1] == "# typed\n" + FILES["a.py"].replace("def foo", "def bar")


def test_bulk_accept_then_revert_restores_everything(client, folder):
    uri, run = proposed(client, folder)
    client.do("redline.accept", {"runId": run, "hunks": "all", "revision": client.proposal(run)["revision"]})
    client.wait(lambda: set(client.states(run).values()) == {"accepted"}, what="the accept")
    texts = {Path(u).name: text for u, (_, text) in client.documents.items()}
    assert texts["b.py"] == "from a import bar\n\nprint(bar(2))\n"
    client.do("redline.revertRun", {"runId": run})
    client.wait(lambda: set(client.states(run).values()) == {"undone"}, what="the revert")
    assert {Path(u).name: text for u, (_, text) in client.documents.items()} == FILES


def test_a_revert_is_refused_where_the_text_moved_on(client, folder):
    uri, run = proposed(client, folder)
    client.do("redline.accept", {"runId": run, "hunks": ["h2"]})
    settled(client, run)
    client.replace(uri, client.documents[uri][1].replace("def bar(x)", "def bar(x, y)"))
    reply = client.command("redline.revertRun", {"runId": run})
    assert "You changed the text of h2" in reply["error"]["message"]


def test_some_hunks_are_reverted_and_the_others_stay(client, folder):
    uri, run = proposed(client, folder)
    client.do("redline.accept", {"runId": run, "hunks": "all"})
    client.wait(lambda: set(client.states(run).values()) == {"accepted"}, what="the accept")
    assert "error" in client.command("redline.revertRun", {"runId": run, "hunks": ["h9"]})
    client.do("redline.revertRun", {"runId": run, "hunks": ["h1"]})
    client.wait(lambda: client.states(run)["h1"] == "undone" or None, what="the revert")
    assert {state for ident, state in client.states(run).items() if ident != "h1"} == {"accepted"}
    assert client.documents[uri][1] == FILES["a.py"].replace("foo", "bar")


@pytest.mark.slow
def test_a_client_that_says_applied_but_did_nothing_leaves_it_unconfirmed_and_a_late_echo_confirms(client, folder):
    uri, run = proposed(client, folder)
    kept = []
    client.apply = lambda params: kept.append(params) or {"applied": True}
    client.do("redline.accept", {"runId": run, "hunks": ["h2"]})
    client.wait(lambda: client.states(run)["h2"] == "unconfirmed", what="unconfirmed")
    assert "has not confirmed h2" in client.notes("window/showMessage")[-1]["message"]
    client.apply_edit(kept[0])
    client.wait(lambda: client.states(run)["h2"] == "accepted", what="the late echo")


def test_a_client_that_refuses_an_edit_leaves_it_pending(client, folder):
    uri, run = proposed(client, folder)
    client.apply = lambda params: {"applied": False, "failureReason": "read-only"}
    client.do("redline.accept", {"runId": run, "hunks": ["h2"]})
    client.wait(lambda: any("read-only" in m["message"] for m in client.notes("window/showMessage")))
    assert client.states(run)["h2"] == "pending"


def test_a_diff_is_a_real_read_only_file(client, folder):
    uri, run = proposed(client, folder)
    shown = client.do("redline.showDiff", {"runId": run})
    path = Path(shown["uri"].removeprefix("file://"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    text = path.read_text()
    assert "--- a/a.py\n+++ b/a.py\n" in text
    assert "-def foo(x):\n+def bar(x):\n" in text
    client.wait(lambda: [r for r in client.requests if r["method"] == "window/showDocument"])
    again = client.do("redline.showDiff", {"runId": run, "uri": uri})
    assert [f["uri"] for f in again["files"]] == [uri]


def test_files_that_are_made_deleted_or_moved_can_be_seen_and_decided_on_by_code_actions(client, folder, tmp_path):
    """They have no line of their own, so every document of the folder offers them."""
    lay(folder, {"gone.py": "x = 1\n", "from.py": "y = 1\n"})
    calls = [("write", {"path": "conftest.py", "content": "z = 1\n"}), ("delete", {"path": "gone.py"}),
             ("move", {"path": "from.py", "to": "to.py"})]  # fmt: skip
    script = [{"calls": [{"tool": tool, "args": args}]} for tool, args in calls]
    script.append({"calls": [{"tool": "finish", "args": {"summary": "done"}}]})
    (tmp_path / "script.json").write_text(json.dumps(script))
    client.do("redline.setModel", {"model": f"scripted:{tmp_path / 'script.json'}"})
    uri = client.open(folder / "a.py")
    run = client.run("change files", uri=uri)["runId"]
    titles = {action["title"]: action for action in actions(client, uri, 0)}
    assert "Redline: accept f1: create conftest.py (tools run or obey a file of this name later)" in titles
    assert {"Redline: accept all 3 changes", "Redline: reject all 3 changes", "Redline: show the diff"} <= set(titles)
    chosen = next(action for title, action in titles.items() if "reject f3: delete gone.py" in title)
    client.do(chosen["command"]["command"], chosen["command"]["arguments"][0])

    shown = client.do("redline.showDiff", {"runId": run})
    text = Path(shown["uri"].removeprefix("file://")).read_text()
    assert "--- /dev/null\n+++ b/conftest.py\n@@ -0,0 +1 @@\n+z = 1\n" in text
    assert "rename from from.py\nrename to to.py\n" in text
    assert "gone.py" not in text  # it was rejected
    (made,) = shown["files"]
    assert Path(made["proposedUri"].removeprefix("file://")).read_text() == "z = 1\n"
    assert Path(made["originalUri"].removeprefix("file://")).read_text() == ""

    for wanted in ("accept f1", "accept f2"):
        action = next(each for each in actions(client, uri, 0) if f"Redline: {wanted}" in each["title"])
        client.do(action["command"]["command"], action["command"]["arguments"][0])
        ident = wanted.removeprefix("accept ")
        client.wait(
            lambda ident=ident: (
                {o["id"]: o["state"] for o in client.proposal(run)["fileOperations"]}[ident] == "accepted"
            )
        )
    assert not [each for each in actions(client, uri, 0) if "f1" in each["title"] or "f2" in each["title"]]
    assert (folder / "gone.py").exists()
    assert (folder / "to.py").read_text() == "y = 1\n"


def test_an_undo_of_a_file_operation_is_noticed_and_it_can_be_accepted_again(client, folder, tmp_path):
    lay(folder, {"gone.py": "x = 1\n", "old/from.py": "y = 1\n"})
    calls = [("write", {"path": "new/made.py", "content": "z = 1\n"}), ("delete", {"path": "gone.py"}),
             ("move", {"path": "old/from.py", "to": "to.py"})]  # fmt: skip
    script = [{"calls": [{"tool": tool, "args": args}]} for tool, args in calls]
    script.append({"calls": [{"tool": "finish", "args": {"summary": "done"}}]})
    (tmp_path / "script.json").write_text(json.dumps(script))
    client.do("redline.setModel", {"model": f"scripted:{tmp_path / 'script.json'}"})
    run = client.run("change files", uri=client.open(folder / "a.py"))["runId"]

    def become(state):
        found = lambda: {o["state"] for o in client.proposal(run)["fileOperations"]}
        client.wait(lambda: found() == {state}, what=state)

    client.do("redline.accept", {"runId": run, "hunks": "all"})
    become("accepted")
    assert (folder / "new/made.py").read_text() == "z = 1\n"
    assert not (folder / "old").exists()  # a folder that nothing is in any more goes along
    (folder / "new/made.py").unlink()
    (folder / "gone.py").write_text("x = 1\n")
    (folder / "old").mkdir()
    (folder / "to.py").rename(folder / "old/from.py")
    become("undone")
    client.do("redline.accept", {"runId": run, "hunks": ["f1", "f2", "f3"]})
    become("accepted")
    assert not (folder / "gone.py").exists()
    assert (folder / "to.py").exists()


def test_a_deletion_that_is_taken_back_has_the_mode_that_the_file_had(client, folder, tmp_path):
    (folder / "key.txt").write_text("mine\n")
    (folder / "key.txt").chmod(0o600)
    script = [
        {"calls": [{"tool": "delete", "args": {"path": "key.txt"}}]},
        {"calls": [{"tool": "finish", "args": {"summary": "x"}}]},
    ]
    (tmp_path / "script.json").write_text(json.dumps(script))
    client.do("redline.setModel", {"model": f"scripted:{tmp_path / 'script.json'}"})
    run = client.run("delete it", uri=client.open(folder / "a.py"))["runId"]
    client.do("redline.accept", {"runId": run, "hunks": ["f1"]})
    client.wait(lambda: not (folder / "key.txt").exists() or None, what="the accept")
    client.wait(lambda: client.proposal(run)["fileOperations"][0]["state"] == "accepted" or None, what="its state")
    client.do("redline.revertRun", {"runId": run})
    client.wait(lambda: (folder / "key.txt").exists() or None, what="the revert")
    assert stat.S_IMODE((folder / "key.txt").stat().st_mode) == 0o600


def test_a_deletion_is_taken_back_while_its_buffer_is_still_open(client, folder, tmp_path):
    """Emacs keeps the buffer of a file that is gone."""
    uri = client.open(folder / "a.py")
    text = client.documents[uri][1]
    script = [
        {"calls": [{"tool": "delete", "args": {"path": "a.py"}}]},
        {"calls": [{"tool": "finish", "args": {"summary": "x"}}]},
    ]
    (tmp_path / "script.json").write_text(json.dumps(script))
    client.do("redline.setModel", {"model": f"scripted:{tmp_path / 'script.json'}"})
    run = client.run("delete it", uri=uri)["runId"]

    def state():
        return client.proposal(run)["fileOperations"][0]["state"]

    client.do("redline.accept", {"runId": run, "hunks": ["f1"]})
    client.wait(lambda: state() == "accepted" or None, what="the accept")
    client.do("redline.revertRun", {"runId": run})
    client.wait(lambda: state() == "undone" or None, what="the revert")
    assert (folder / "a.py").read_text() == text


def test_a_change_of_mode_is_accepted_and_taken_back_by_redline_itself(client, folder, tmp_path):
    """No editor has an operation for it."""
    script = [
        {"calls": [{"tool": "run", "args": {"command": "chmod +x b.py"}}]},
        {"calls": [{"tool": "finish", "args": {"summary": "x"}}]},
    ]
    (tmp_path / "script.json").write_text(json.dumps(script))
    client.do("redline.setModel", {"model": f"scripted:{tmp_path / 'script.json'}"})
    client.do("redline.trust", {"uri": folder.as_uri()})
    run = client.run("make it a program", uri=client.open(folder / "a.py"))["runId"]
    (operation,) = client.proposal(run)["fileOperations"]
    assert (operation["kind"], operation["executable"], operation["state"]) == ("mode", True, "pending")
    assert operation["badge"]

    def becomes(state):
        client.wait(lambda: client.proposal(run)["fileOperations"][0]["state"] == state, what=state)
        return stat.S_IMODE((folder / "b.py").stat().st_mode)

    client.do("redline.accept", {"runId": run, "hunks": [operation["id"]]})
    assert becomes("accepted") == 0o755
    client.do("redline.revertRun", {"runId": run})
    assert becomes("undone") == 0o644
    client.do("redline.accept", {"runId": run, "hunks": [operation["id"]]})
    assert becomes("accepted") == 0o755


def test_cancel_by_progress_and_by_command(client, folder):
    lay(folder, {f"m{n}.py": "import os\nimport sys\n" * 50 for n in range(60)})
    uri = client.open(folder / "a.py")
    for how in ("progress", "command"):
        run = client.do("redline.run", {"instruction": "search(everything); fix lint in project", "uri": uri})["runId"]
        assert client.ended(run)["state"] == "refused"
        run = client.do("redline.run", {"instruction": "remove unused in project; modernise in project", "uri": uri})[
            "runId"
        ]
        if how == "progress":
            token = f"redline-{run}"
            client.wait(lambda t=token: any(p["token"] == t for p in client.notes("$/progress")))
            client.notify("window/workDoneProgress/cancel", {"token": token})
        else:
            assert client.do("redline.cancel", {"runId": run}) == {"cancelled": True}
        assert client.ended(run)["state"] == "cancelled"
    assert client.do("redline.cancel", {"runId": run}) == {"cancelled": False}


def test_file_operations_are_accepted_by_their_ids(folder, tmp_path):
    script = [
        {"calls": [
            {"tool": "write", "args": {"path": "new/c.py", "content": "C = 1\n"}},
            {"tool": "move", "args": {"path": "b.py", "to": "pkg/b.py"}},
            {"tool": "delete", "args": {"path": "dead.py"}},
            {"tool": "write", "args": {"path": "conftest.py", "content": "x = 1\n"}},
        ]},
        {"calls": [{"tool": "finish", "args": {"summary": "done"}}]},
    ]  # fmt: skip
    path = tmp_path / "script.json"
    path.write_text(json.dumps(script))
    lay(folder, {**FILES, "dead.py": "pass\n"})
    plain = {**CAPABILITIES, "workspace": {**CAPABILITIES["workspace"], "workspaceEdit": {"documentChanges": True}}}
    for capabilities in (CAPABILITIES, plain):
        lay(folder, {**FILES, "dead.py": "pass\n"})
        with RawClient(folder, env={"REDLINE_MODEL": f"scripted:{path}"}) as client:
            client.initialize(folder, capabilities)
            run = client.run("do it")["runId"]
            operations = client.proposal(run)["fileOperations"]
            assert [(op["kind"], Path(op["uri"]).name, op.get("badge", "") != "") for op in operations] == [
                ("rename", "b.py", False), ("create", "conftest.py", True), ("delete", "dead.py", False), ("create", "c.py", False)
            ]  # fmt: skip
            answer = client.do("redline.accept", {"runId": run, "hunks": "all"})
            assert answer["skipped"] == [operations[1]["id"]]
            client.wait(
                lambda c=client, r=run: [op["state"] for op in c.proposal(r)["fileOperations"]].count("accepted") == 3
            )
            assert not (folder / "dead.py").exists()
            assert (folder / "pkg/b.py").read_text() == FILES["b.py"]
            created = (
                client.documents.get((folder / "new/c.py").as_uri(), [0, ""])[1] or (folder / "new/c.py").read_text()
            )
            assert created == "C = 1\n"
            assert not (folder / "conftest.py").exists()
        for name in ("pkg/b.py", "new/c.py"):
            (folder / name).unlink()


def test_sessions_usage_doctor_and_model(client, folder):
    uri, run = proposed(client, folder)
    assert [row["runId"] for row in client.do("redline.sessions", {})] == [run]
    assert client.do("redline.usage", {})["model"] == "builtin"
    assert {check["name"] for check in client.do("redline.doctor", {})} >= {"python", "model", "state folder"}
    assert client.do("redline.setModel", {"model": "anthropic:claude-sonnet-5-5"}) == {
        "model": "anthropic:claude-sonnet-5-5"
    }
    assert any("write tests" in a["title"] for a in actions(client, uri, 0, ["source.redline.test"]))
    assert "no model" in client.command("redline.setModel", {"model": "nonsense"})["error"]["message"]


def test_the_built_in_engine_offers_what_it_can_and_source_kinds_only_when_asked(client, folder):
    uri = client.open(folder / "a.py")
    assert [a["title"] for a in actions(client, uri, 0)] == [
        "Redline: organise imports", "Redline: remove unused", "Redline: fix lint", "Redline: modernise syntax"
    ]  # fmt: skip
    assert actions(client, uri, 0, ["source.redline.test"]) == []
    assert actions(client, uri, 0, ["quickfix"]) == []
    assert len(actions(client, uri, 0, ["refactor"])) == 4


def test_a_typed_directive_runs_and_goes_with_the_proposal(client, folder):
    uri = client.open(folder / "a.py")
    client.replace(uri, FILES["a.py"] + "\n# redline: rename foo to bar\n")
    line = FILES["a.py"].count("\n") + 1
    action = next(a for a in actions(client, uri, line) if a["title"] == "Redline: rename foo to bar")
    lens = client.result("textDocument/codeLens", {"textDocument": {"uri": uri}})[-1]
    assert lens["command"]["arguments"] == action["command"]["arguments"]
    run = client.do(action["command"]["command"], action["command"]["arguments"][0])["runId"]
    assert client.ended(run)["state"] == "proposed"
    reasons = {h["reason"] for h in client.proposal(run)["hunks"]}
    assert reasons == {"rename foo to bar", "the directive is done: rename foo to bar"}


@pytest.mark.parametrize("answer", ["yes", "no"])
def test_a_directive_that_came_with_the_file_is_confirmed_first(client, folder, answer):
    lay(
        folder,
        {"c.py": "x = 1\n# redline: remove \u202eunused\nimport os\n", "d.py": "import os\n# redline: remove unused\n"},
    )
    uri = client.open(folder / "d.py")
    action = next(a for a in actions(client, uri, 1) if a["title"] == "Redline: remove unused" and "range" in str(a))
    run = client.do("redline.run", action["command"]["arguments"][0])["runId"]
    described = client.wait(lambda: next((r for r in client.do("redline.runs", {"runId": run}) if r["pending"]), None))
    assert described["state"] == "waiting"
    assert "you did not type it here" in described["pending"][0]["question"]
    offered = [a["title"] for a in actions(client, uri, 1)]
    assert any(title.startswith("Redline: do not run it") for title in offered)
    client.do("redline.answer", {"requestId": described["pending"][0]["requestId"], "text": answer})
    assert client.ended(run)["state"] == ("proposed" if answer == "yes" else "cancelled")


def test_a_directive_that_the_disk_brought_in_while_open_is_confirmed_too(client, folder):
    uri = client.open(folder / "a.py")
    text = FILES["a.py"] + "# redline: remove unused\n"
    (folder / "a.py").write_text(text)
    client.replace(uri, text)
    line = FILES["a.py"].count("\n")
    argument = {"instruction": "remove unused", "uri": uri, "range": at(line)}
    run = client.do("redline.run", argument)["runId"]
    assert client.wait(lambda: client.do("redline.runs", {"runId": run})[0]["pending"])
    client.do("redline.cancel", {"runId": run})
    assert client.ended(run)["state"] == "cancelled"


def test_unsaved_text_is_what_the_run_sees(client, folder):
    uri = client.open(folder / "a.py")
    client.replace(uri, FILES["a.py"].replace("foo", "fresh"))
    lay(folder, {"b.py": "from a import fresh\n\nprint(fresh(2))\n"})
    run = client.run("rename fresh to bar", uri=uri)
    assert run["state"] == "proposed"
    assert {h["oldText"] for h in client.proposal(run["runId"])["hunks"]} >= {"def fresh(x):\n", "print(fresh(2))\n"}


def test_typing_while_pending_moves_and_conflicts_but_loses_nothing(client, folder):
    uri, run = proposed(client, folder)
    typed = "# note\n" + FILES["a.py"].replace("def foo(x):", "def foo(x, y):")
    client.replace(uri, typed)
    assert client.states(run) == {
        "h1": "pending",
        "h2": "conflicted",
        "h3": "pending",
        "h4": "pending",
        "h5": "pending",
    }
    reply = client.command("redline.accept", {"runId": run, "hunks": ["h2"]})
    assert "user text wins" in reply["error"]["message"]
    client.do("redline.accept", {"runId": run, "hunks": ["h1"]})
    assert settled(client, run)["h1"] == "accepted"
    assert client.documents[uri][1] == typed.replace("import os\n", "")


def test_a_directive_that_the_agent_inserted_is_not_the_users_word(folder, tmp_path):
    lay(folder, FILES)
    script = [
        {
            "calls": [
                {
                    "tool": "edit",
                    "args": {"path": "b.py", "old": "print(foo(2))", "new": "print(foo(2))\n# redline: fix lint"},
                }
            ]
        },
        {"calls": [{"tool": "finish", "args": {"summary": "done"}}]},
    ]
    (tmp_path / "script.json").write_text(json.dumps(script))
    with RawClient(folder, env={"REDLINE_MODEL": f"scripted:{tmp_path / 'script.json'}"}) as client:
        client.initialize(folder)
        uri = client.open(folder / "b.py")
        run = client.run("do it", uri=uri)["runId"]
        client.do("redline.accept", {"runId": run, "hunks": "all"})
        client.wait(lambda: set(client.states(run).values()) == {"accepted"})
        client.do("redline.setModel", {"model": "builtin"})
        second = client.do("redline.run", {"instruction": "fix lint", "uri": uri, "range": at(3)})["runId"]
        assert client.wait(lambda: client.do("redline.runs", {"runId": second})[0]["pending"])
        client.do("redline.cancel", {"runId": second})


def test_accepting_a_use_without_its_definition_says_what_it_needs(client, folder):
    uri, run = proposed(client, folder)
    assert client.do("redline.accept", {"runId": run, "hunks": ["h3"]})["needs"] == ["h2", "h4", "h5"]
    assert "needs h2, h4, h5" in client.notes("window/showMessage")[-1]["message"]


def test_file_operations_respect_what_the_user_did_meanwhile_and_are_reverted(folder, tmp_path):
    lay(folder, {**FILES, "dead.py": "pass\n"})
    script = [
        {"calls": [
            {"tool": "write", "args": {"path": "new.py", "content": "N = 1\n"}},
            {"tool": "delete", "args": {"path": "dead.py"}},
            {"tool": "move", "args": {"path": "b.py", "to": "moved.py"}},
        ]},
        {"calls": [{"tool": "finish", "args": {"summary": "done"}}]},
    ]  # fmt: skip
    (tmp_path / "script.json").write_text(json.dumps(script))
    with RawClient(folder, env={"REDLINE_MODEL": f"scripted:{tmp_path / 'script.json'}"}) as client:
        client.initialize(folder, {})
        run = client.run("do it")["runId"]

        def ops():
            return {op["kind"]: op["state"] for op in client.proposal(run)["fileOperations"]}

        (folder / "new.py").write_text("mine\n")
        (folder / "dead.py").write_text("pass\n# mine\n")
        client.do("redline.accept", {"runId": run, "hunks": "all"})
        client.wait(lambda: ops() == {"create": "pending", "delete": "pending", "rename": "accepted"})
        assert (folder / "new.py").read_text() == "mine\n"
        assert (folder / "dead.py").read_text() == "pass\n# mine\n"
        client.do("redline.revertRun", {"runId": run})
        client.wait(lambda: ops()["rename"] == "undone")
        assert (folder / "b.py").read_text() == FILES["b.py"]


def test_only_json_rpc_on_stdout(client, folder):
    proposed(client, folder)
    assert client.process.poll() is None  # the reader asserts every header


@pytest.mark.slow
def test_position_encodings(folder):
    lay(folder, {"u.py": "x = '🙂'; foo = 1\nprint(foo)\n"})
    for offered, chosen in ((["utf-8", "utf-16"], "utf-8"), (["utf-32"], "utf-32"), (None, "utf-16")):
        capabilities = {**CAPABILITIES, **({"general": {"positionEncodings": offered}} if offered else {})}
        with RawClient(folder) as client:
            reply = client.initialize(folder, capabilities)
            assert reply["capabilities"]["positionEncoding"] == chosen
            client.open(folder / "u.py")
            seen = []
            client.apply = lambda params, seen=seen: seen.append(params) or {"applied": False}
            run = client.run("rename foo to bar in u.py")["runId"]
            client.do("redline.accept", {"runId": run, "hunks": ["h1"]})
            client.wait(lambda seen=seen: seen)
            edit = seen[0]["edit"]["documentChanges"][0]["edits"][0]
            first = {"utf-8": 12, "utf-16": 10, "utf-32": 9}[chosen]
            if edit["range"]["end"]["line"] == 0:
                assert edit["range"]["start"]["character"] == first
            assert json.dumps(edit)


def test_reference_editor_applies_edits_as_the_server_means_them():
    text = "a\nb\nc"
    edits = [{"range": {"start": {"line": 1, "character": 0}, "end": {"line": 3, "character": 0}}, "newText": "x\n"}]
    assert apply_text_edits(text, edits) == "a\nx\n"
    assert os.sep == "/"
