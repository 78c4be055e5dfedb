"""What no well-behaved client sends, and what goes wrong around it: a clear error or a defined outcome, and nothing lost."""

import json
import os
import subprocess
import sys
import time

import pytest
from kit import lay
from raw_client import CAPABILITIES, RawClient

FILES = {
    "a.py": "import os\n\n\ndef foo(x):\n    return x\n\n\nprint(foo(1))\n",
    "b.py": "from a import foo\n\nprint(foo(2))\n",
}


@pytest.fixture
def client(folder):
    lay(folder, FILES)
    with RawClient(folder) as client:
        client.initialize(folder)
        yield client


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One server for what leaves it as it was."""
    root = tmp_path_factory.mktemp("shared") / "ws"
    root.mkdir()
    lay(root, FILES)
    with RawClient(root, env={"HOME": str(root.parent), "REDLINE_MODEL": "builtin"}) as client:
        client.initialize(root)
        yield client


def error_of(reply):
    return reply["error"]["code"], reply["error"]["message"]


def alive(client):
    assert client.do("redline.runs", {}) is not None


@pytest.mark.parametrize(
    ("name", "argument", "says"),
    [
        ("redline.run", None, "instruction: Field required"),
        ("redline.run", {"instruction": ""}, "at least 1 character"),
        ("redline.run", {"instruction": "  "}, "instruction is empty"),
        ("redline.run", {"instruction": 3}, "valid string"),
        ("redline.run", {"instruction": "x", "colour": "red"}, "colour: Extra inputs are not permitted"),
        ("redline.run", {"instruction": "x", "uri": "untitled:Untitled-1"}, "Save it to a file first"),
        ("redline.run", {"instruction": "x", "uri": "vscode-notebook-cell:/a.ipynb#1"}, "Redline works on files"),
        (
            "redline.run",
            {"instruction": "x", "uri": "file:///nowhere/at/all.py"},
            "is not open, and there is no such file",
        ),
        ("redline.run", {"instruction": "x", "sessionId": "session-none"}, "no session 'session-none'"),
        ("redline.run", ["x"], "valid dictionary"),
        ("redline.runs", {"runId": "run-none"}, "no run 'run-none'"),
        ("redline.cancel", {}, "runId: Field required"),
        ("redline.steer", {"runId": "run-none", "text": "x"}, "no run 'run-none'"),
        ("redline.answer", {"requestId": "ask-9", "text": "yes"}, "no open question"),
        ("redline.accept", {"runId": "run-none", "hunks": "all"}, "no proposal of run"),
        ("redline.accept", {"runId": "run-none"}, "hunks: Field required"),
        ("redline.accept", {"runId": "x", "hunks": "some"}, "hunks"),
        ("redline.setModel", {"model": "builtin", "role": "boss"}, "There is no role 'boss'"),
        ("redline.nonsense", {}, "not defined"),
    ],
)
def test_a_malformed_command_is_refused_with_the_reason(shared, name, argument, says):
    code, message = error_of(shared.command(name, argument))
    assert says in message
    assert code in (-32602, -32803)
    alive(shared)


def test_two_arguments_are_refused(shared):
    client = shared
    reply = client.request("workspace/executeCommand", {"command": "redline.runs", "arguments": [{}, {}]})
    assert "takes one object" in reply["error"]["message"]


def test_a_range_outside_the_file(client, folder):
    uri = client.open(folder / "a.py")
    far = {"start": {"line": 999, "character": 0}, "end": {"line": 999, "character": 5}}
    assert (
        "the file has 8" in error_of(client.command("redline.run", {"instruction": "x", "uri": uri, "range": far}))[1]
    )
    back = {"start": {"line": 3, "character": 0}, "end": {"line": 1, "character": 0}}
    assert (
        "ends before it starts"
        in error_of(client.command("redline.run", {"instruction": "x", "uri": uri, "range": back}))[1]
    )
    negative = {"start": {"line": -1, "character": 0}, "end": {"line": 1, "character": 0}}
    assert (
        "greater than or equal to 0"
        in error_of(client.command("redline.run", {"instruction": "x", "uri": uri, "range": negative}))[1]
    )
    answer = client.request(
        "textDocument/codeAction", {"textDocument": {"uri": uri}, "range": far, "context": {"diagnostics": []}}
    )
    assert "error" not in answer


def test_a_document_that_was_never_opened(client, folder):
    uri = (folder / "a.py").as_uri()
    client.notify(
        "textDocument/didChange", {"textDocument": {"uri": uri, "version": 2}, "contentChanges": [{"text": "x"}]}
    )
    client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    ask = {
        "textDocument": {"uri": uri},
        "range": {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 0}},
    }
    assert client.result("textDocument/codeAction", {**ask, "context": {"diagnostics": []}}) == []
    assert (
        client.result("textDocument/hover", {"textDocument": {"uri": uri}, "position": {"line": 0, "character": 0}})
        is None
    )
    assert client.run("rename foo to bar", uri=uri)["state"] == "proposed"


@pytest.mark.parametrize("data", [b"\0\1\2binary", b"# \xff\xfe not utf-8\nx = 1\n"])
def test_a_binary_or_undecodable_file(client, folder, data):
    lay(folder, {"bad.py": data})
    run = client.run("rename x to y", uri=(folder / "bad.py").as_uri())
    assert run["state"] == "refused"
    assert client.run("remove unused in project", uri=(folder / "a.py").as_uri())["state"] == "proposed"
    assert (folder / "bad.py").read_bytes() == data


def test_a_file_that_vanishes_before_accept(client, folder):
    run = client.run("rename foo to bar", uri=(folder / "a.py").as_uri())["runId"]
    (folder / "b.py").unlink()
    states = client.states(run)
    assert {states[h["id"]] for h in client.proposal(run)["hunks"] if h["uri"].endswith("b.py")} == {"stale"}
    client.do("redline.accept", {"runId": run, "hunks": "all"})
    client.wait(lambda: "pending" not in client.states(run).values() and "applying" not in client.states(run).values())
    assert not (folder / "b.py").exists()


def test_a_file_that_changed_on_the_disk_is_stale_and_comes_back(client, folder):
    run = client.run("rename foo to bar", uri=(folder / "a.py").as_uri())["runId"]
    (folder / "b.py").write_text("# somebody else\n" + FILES["b.py"])
    hunk = next(h["id"] for h in client.proposal(run)["hunks"] if h["uri"].endswith("b.py"))
    code, message = error_of(client.command("redline.accept", {"runId": run, "hunks": [hunk]}))
    assert (code, "changed outside the editor" in message) == (-32803, True)
    (folder / "b.py").write_text(FILES["b.py"])
    assert client.states(run)[hunk] == "pending"


def test_a_second_accept_and_a_stale_revision(client, folder):
    client.open(folder / "a.py")
    run = client.run("rename foo to bar", uri=(folder / "a.py").as_uri())["runId"]
    revision = client.proposal(run)["revision"]
    client.do("redline.accept", {"runId": run, "hunks": ["h1"], "revision": revision})
    client.wait(lambda: client.states(run)["h1"] == "accepted")
    assert "accepted already" in error_of(client.command("redline.accept", {"runId": run, "hunks": ["h1"]}))[1]
    assert (
        "moved on"
        in error_of(client.command("redline.accept", {"runId": run, "hunks": ["h2"], "revision": revision}))[1]
    )
    assert "no hunk 'h99'" in error_of(client.command("redline.reject", {"runId": run, "hunks": ["h99"]}))[1]
    client.do("redline.reject", {"runId": run, "hunks": "all"})
    assert set(client.states(run).values()) == {"accepted", "rejected"}
    assert "nothing to accept" in error_of(client.command("redline.accept", {"runId": run, "hunks": "all"}))[1]


def test_two_runs_over_the_same_file(client, folder):
    uri = client.open(folder / "a.py")
    one = client.do("redline.run", {"instruction": "rename foo to bar", "uri": uri})["runId"]
    two = client.do("redline.run", {"instruction": "rename foo to baz", "uri": uri})["runId"]
    assert {client.ended(run)["state"] for run in (one, two)} == {"proposed"}
    client.do("redline.accept", {"runId": one, "hunks": ["h1"]})
    client.wait(lambda: client.states(one)["h1"] == "accepted")
    assert client.states(two)["h1"] == "conflicted"
    assert client.documents[uri][1] == FILES["a.py"].replace("def foo", "def bar")


@pytest.mark.slow
def test_too_many_runs_at_once(client, folder):
    lay(folder, {f"m{n}.py": "import os\n" * 30 for n in range(40)})
    uri = client.open(folder / "a.py")
    replies = [client.command("redline.run", {"instruction": "remove unused in project", "uri": uri}) for _ in range(5)]
    assert [("error" in reply) for reply in replies] == [False] * 4 + [True]
    assert "4 runs are going on already" in replies[-1]["error"]["message"]
    for reply in replies[:4]:
        client.do("redline.cancel", {"runId": reply["result"]["runId"]})
        client.ended(reply["result"]["runId"])


@pytest.mark.slow
@pytest.mark.parametrize("folders", [[], None])
def test_no_folder_at_all(folder, folders):
    lay(folder, FILES)
    with RawClient(folder) as client:
        client.initialize(None, folders=folders or [])
        assert "No folder is open" in error_of(client.command("redline.run", {"instruction": "fix lint"}))[1]
        assert client.run("rename foo to bar", uri=client.open(folder / "a.py"))["state"] == "proposed"


def test_two_folders(folder):
    lay(folder, {f"{name}/{path}": text for name in ("one", "two") for path, text in FILES.items()})
    with RawClient(folder) as client:
        client.initialize(None, folders=[{"uri": (folder / name).as_uri(), "name": name} for name in ("one", "two")])
        assert "2 folders are open" in error_of(client.command("redline.run", {"instruction": "fix lint"}))[1]
        run = client.run("rename foo to bar", uri=(folder / "two/a.py").as_uri())["runId"]
        assert {h["uri"].split("/")[-2] for h in client.proposal(run)["hunks"]} == {"two"}


def read_only(folder):
    """A command that serves where the folder cannot be written; root needs a mount for that."""
    serve = [sys.executable, "-m", "redline_server", "serve"]
    if os.geteuid() != 0:
        folder.chmod(0o500)
        for path in folder.iterdir():
            path.chmod(0o400)
        return serve
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    wrapped = ["unshare", "-m", "sh", "-c", mount, str(folder)]
    if subprocess.run([*wrapped, "true"], capture_output=True).returncode:
        pytest.skip("root may write anywhere, and a read-only mount is not allowed here")
    return [*wrapped, *serve]


def test_a_read_only_folder(folder):
    lay(folder, FILES)
    with RawClient(folder, command=read_only(folder)) as client:
        client.initialize(folder, {})
        run = client.run("rename foo to bar", uri=(folder / "a.py").as_uri())["runId"]
        client.do("redline.accept", {"runId": run, "hunks": "all"})
        client.wait(lambda: any("could not be written" in m["message"] for m in client.notes("window/showMessage")))
        assert set(client.states(run).values()) == {"pending"}
    assert {path.name: path.read_text() for path in folder.iterdir()} == FILES
    folder.chmod(0o700)


def test_a_client_that_never_answers(folder):
    lay(folder, FILES)
    with RawClient(folder, answer=False) as client:
        client.initialize(folder)
        uri = client.open(folder / "a.py")
        run = client.do("redline.run", {"instruction": "rename foo to bar", "uri": uri})["runId"]
        assert client.ended(run)["state"] == "proposed"
        client.do("redline.accept", {"runId": run, "hunks": ["h1"]})
        client.wait(lambda: client.states(run)["h1"] == "applying")
        started = time.monotonic()
        alive(client)
        assert time.monotonic() - started < 2


def test_a_client_that_can_nothing(folder):
    """No capability at all: no request is sent, and accepting writes the files that are not open."""
    lay(folder, FILES)
    with RawClient(folder) as client:
        client.initialize(folder, {})
        run = client.run("rename foo to bar", uri=(folder / "a.py").as_uri())["runId"]
        client.do("redline.accept", {"runId": run, "hunks": "all"})
        client.wait(lambda: set(client.states(run).values()) == {"accepted"})
        assert (folder / "b.py").read_text() == FILES["b.py"].replace("foo", "bar")
        assert client.requests == []


@pytest.mark.slow
def test_neovim_takes_document_changes_without_saying_so(folder):
    lay(folder, FILES)
    plain = {**CAPABILITIES, "workspace": {"applyEdit": True, "workspaceEdit": {}}}
    for name, key in (("Neovim", "documentChanges"), ("other", "changes")):
        with RawClient(folder) as client:
            client.initialize(folder, plain, name=name)
            uri = client.open(folder / "a.py")
            run = client.run("rename foo to bar", uri=uri)["runId"]
            client.do("redline.accept", {"runId": run, "hunks": ["h1"]})
            client.wait(lambda c=client, r=run: c.states(r)["h1"] == "accepted")
            edit = next(r for r in client.requests if r["method"] == "workspace/applyEdit")["params"]["edit"]
            assert list(edit) == [key]


def test_a_secret_file_in_the_editor(client, folder):
    lay(folder, {".env": "TOKEN=sekrit\n"})
    uri = client.open(folder / ".env")
    assert "file of secrets" in error_of(client.command("redline.run", {"instruction": "tidy up", "uri": uri}))[1]


def test_a_file_outside_every_folder_works_in_its_own(client, folder, tmp_path):
    lay(tmp_path / "elsewhere", FILES)
    run = client.run("rename foo to bar", uri=(tmp_path / "elsewhere/a.py").as_uri())["runId"]
    assert len(client.proposal(run)["hunks"]) == 4


# ---- the wire


def send_frame(client, header, body):
    client.send_bytes(header + body)


def test_lenient_headers(shared):
    client = shared
    body = json.dumps(
        {"jsonrpc": "2.0", "id": 900, "method": "workspace/executeCommand", "params": {"command": "redline.runs"}}
    ).encode()
    send_frame(client, b"content-length: %d\n\n" % len(body), body)
    assert client.reply(900)["result"] == []
    send_frame(
        client,
        b"Content-Type: application/vscode-jsonrpc\r\nContent-Length:%d\r\n\r\n" % len(body),
        body.replace(b"900", b"901"),
    )
    assert client.reply(901)["result"] == []


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"{nonsense", -32700), (b"[]", -32600), (b"3", -32600)],
)
def test_what_is_no_message_is_answered_as_such(shared, body, code):
    client = shared
    send_frame(client, b"Content-Length: %d\r\n\r\n" % len(body), body)
    assert client.reply(None)["error"]["code"] == code
    alive(client)


@pytest.mark.parametrize(
    "params", [None, [], {"textDocument": 3}, {"textDocument": {"uri": 5}, "range": "x", "context": {}}]
)
def test_malformed_parameters_are_answered(shared, params):
    client = shared
    reply = client.request("textDocument/codeAction", params)
    assert reply["error"]["code"] in (-32602, -32603)
    alive(client)


def test_unknown_methods(shared):
    client = shared
    assert client.request("redline/nonsense", {})["error"]["code"] == -32601
    client.notify("redline/nonsense", {"a": 1})
    client.notify("$/whatever", {})
    client.notify("$/cancelRequest", {"id": 12345})
    alive(client)


@pytest.mark.slow
def test_a_wrong_answer_to_our_request_resolves_it(folder):
    lay(folder, FILES)
    with RawClient(folder, answer=False) as client:
        client.initialize(folder)
        uri = client.open(folder / "a.py")
        run = client.run("rename foo to bar", uri=uri)["runId"]
        client.do("redline.accept", {"runId": run, "hunks": ["h1"]})
        request = client.wait(lambda: next((r for r in client.requests if r["method"] == "workspace/applyEdit"), None))
        client.send({"id": request["id"], "result": {"applied": "perhaps"}})
        client.wait(lambda: client.states(run)["h1"] == "unconfirmed")


BODY = b'{"jsonrpc": "2.0", "id": "after", "method": "redline/none"}'


@pytest.mark.parametrize(
    "garbage",
    [
        b"Content-Length: many\r\n\r\n",
        b"Content-Length: -5\r\n\r\n",
        b"Content-Length: 99999999999\r\n\r\n",
        b"X" * 20_000 + b"\n",
        b"\x00\xff\xfe\r\n\r\n",
        b"content-length:3\n\n{}x",
        b"CONTENT-LENGTH : 2\r\nContent-Type: x\r\n\r\n[]",
        b'Content-Length: 10\r\n\r\n{"jsonrpc": "2.0", "method": "too/short"}',
        b'Content-Length: 60\r\n\r\n{"jsonrpc": "2.0", "method": "too/long"}',
        b"Content-Length: 4\r\n\r\n\xc3\x28\xa0\xa1",
        b"Content-Length: 200000\r\n\r\n" + b"[" * 200_000,
        b"Content-Length: 0\r\n\r\n",
    ],
)
def test_what_is_no_frame_is_skipped_and_the_next_message_is_answered(folder, garbage):
    with RawClient(folder) as client:
        client.initialize(folder)
        client.send_bytes(garbage)
        for _ in range(2):  # a length that was too long may take one message with it
            client.send_bytes(b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
        assert client.reply("after")["error"]["code"] in (-32601, -32602)
        assert "Traceback" not in client.stderr


def test_the_end_of_input_ends_the_server_within_a_second(folder):
    with RawClient(folder) as client:
        client.initialize(folder)
        began = time.monotonic()
        client.process.stdin.close()
        assert client.process.wait(10) == 1
        assert time.monotonic() - began < 1


def test_shutdown_and_exit_are_zero(client):
    client.result("shutdown")
    client.notify("exit", None)
    assert client.process.wait(10) == 0


def test_half_a_message_at_the_end_is_no_message(folder):
    with RawClient(folder) as client:
        client.initialize(folder)
        client.send_bytes(b'Content-Length: 100\r\n\r\n{"jsonrpc"')
        client.process.stdin.close()
        assert client.process.wait(10) == 1


def test_a_wrong_configuration_is_said_and_does_not_stop_the_server(folder, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text("model = 3\n")
    with RawClient(folder, env={"REDLINE_CONFIG": str(config)}) as client:
        client.initialize(folder)
        client.wait(lambda: any("model must be a string" in m["message"] for m in client.notes("window/showMessage")))
        alive(client)


def test_the_workspace_may_only_tighten(folder):
    lay(folder, FILES)
    with RawClient(folder, answer=False) as client:
        client.initialize(folder, options={"redline": {"limits": {"turns_max": 5}}})
        request = client.wait(
            lambda: next((r for r in client.requests if r["method"] == "workspace/configuration"), None)
        )
        section = {"model": "anthropic:evil", "limits": {"turns_max": 99, "minutes_max": 0.000001}}
        client.send({"id": request["id"], "result": [section]})
        time.sleep(0.5)
        run = client.run("rename foo to bar", uri=client.open(folder / "a.py"))
        assert (run["state"], run["limit"], run["model"]) == ("limit", "minutes_max", "builtin")


def test_a_revert_never_touches_a_file_that_changed_outside(folder):
    lay(folder, FILES)
    with RawClient(folder) as client:
        client.initialize(folder, {})
        run = client.run("rename foo to bar", uri=(folder / "a.py").as_uri())["runId"]
        client.do("redline.accept", {"runId": run, "hunks": ["h1"]})
        client.wait(lambda: client.states(run)["h1"] == "accepted")
        changed = "# somebody\n# else\n" + (folder / "a.py").read_text()
        (folder / "a.py").write_text(changed)
        client.command("redline.revertRun", {"runId": run})
        time.sleep(0.5)
        assert (folder / "a.py").read_text() == changed


def test_an_accept_of_one_proposal_moves_the_hunks_of_another_in_a_closed_file(folder):
    lay(folder, FILES)
    with RawClient(folder) as client:
        client.initialize(folder, {})
        one = client.run("remove unused", uri=(folder / "a.py").as_uri())["runId"]
        two = client.run("rename foo to bar", uri=(folder / "a.py").as_uri())["runId"]
        client.do("redline.accept", {"runId": one, "hunks": "all"})
        client.wait(lambda: set(client.states(one).values()) == {"accepted"})
        assert set(client.states(two).values()) == {"pending"}
        client.do("redline.accept", {"runId": two, "hunks": "all"})
        client.wait(lambda: set(client.states(two).values()) == {"accepted"})
        assert (folder / "a.py").read_text() == FILES["a.py"].replace("import os\n", "").replace("foo", "bar")


def test_the_answer_to_shutdown_is_written_before_the_end(folder):
    frames = b""
    for message in (
        {"id": 1, "method": "initialize", "params": {"processId": None, "rootUri": None, "capabilities": {}}},
        {"method": "initialized", "params": {}},
        {"id": 2, "method": "shutdown"},
        {"method": "exit"},
    ):
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        frames += b"Content-Length: %d\r\n\r\n" % len(body) + body
    serve = [sys.executable, "-m", "redline_server", "serve"]
    done = subprocess.run(serve, input=frames, cwd=folder, capture_output=True, timeout=30)
    assert b'"id": 1' in done.stdout
