"""A raw JSON-RPC client: sends anything, well formed or not, and keeps all that comes back."""

import contextlib
import json
import os
import subprocess
import threading
import time
from pathlib import Path

import forked


class RawClient:
    """One `redline serve` (or any server) on pipes. `apply` decides what happens to applyEdit requests."""

    def __init__(self, cwd: Path, *, command=None, env=None, answer=True, left=()):
        whole = {**os.environ, "REDLINE_STATE_DIR": str(cwd.parent / "state"), "REDLINE_CONFIG": "", **(env or {})}
        self.process = forked.start(["serve"], command, cwd=cwd, env=whole)
        self.answer = answer
        self.left = left  # requests that the test answers itself
        self.messages = []
        self.requests = []
        self.documents = {}
        self.apply = None
        self._replies = {}
        self._id = 0
        self._news = threading.Condition()
        self._err = []
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._read_err, daemon=True).start()

    def _read_err(self):
        for line in self.process.stderr:
            self._err.append(line.decode("utf-8", "replace"))

    @property
    def stderr(self):
        return "".join(self._err)

    def _read(self):
        stream = self.process.stdout
        while True:
            length = 0
            while line := stream.readline().strip():
                name, _, value = line.partition(b":")
                assert name.lower() in (b"content-length", b"content-type"), f"not JSON-RPC on stdout: {line!r}"
                if name.lower() == b"content-length":
                    length = int(value)
            if not length:
                return
            message = json.loads(stream.read(length))
            with self._news:
                if "method" in message and "id" in message:
                    self.requests.append(message)
                elif "method" in message:
                    self.messages.append(message)
                else:
                    assert "id" in message, message
                    self._replies[message["id"] if not isinstance(message["id"], list) else None] = message
                self._news.notify_all()
            if "method" in message and "id" in message and self.answer and message["method"] not in self.left:
                self._respond(message)

    def _respond(self, message):
        result = None
        if message["method"] == "workspace/configuration":
            result = [None] * len(message["params"]["items"])
        elif message["method"] == "workspace/applyEdit":
            result = self.apply(message["params"]) if self.apply else self.apply_edit(message["params"])
        elif message["method"] == "window/showDocument":
            result = {"success": True}
        self.send({"id": message["id"], "result": result})

    # ---- sending

    def send_bytes(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, message):
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        with contextlib.suppress(BrokenPipeError, ValueError):
            self.send_bytes(b"Content-Length: %d\r\n\r\n" % len(body) + body)

    def notify(self, method, params):
        self.send({"method": method, "params": params})

    def request(self, method, params=None, timeout=20):
        self._id += 1
        ident = self._id
        self.send({"id": ident, "method": method, "params": params})
        return self.reply(ident, timeout)

    def reply(self, ident, timeout=20):
        with self._news:
            if not self._news.wait_for(lambda: ident in self._replies, timeout):
                raise TimeoutError(f"no reply to {ident}; stderr: {self.stderr[-2000:]}")
            return self._replies.pop(ident)

    def result(self, method, params=None, timeout=20):
        reply = self.request(method, params, timeout)
        assert "error" not in reply, reply
        return reply["result"]

    def command(self, name, argument=None):
        arguments = [] if argument is None else [argument]
        return self.request("workspace/executeCommand", {"command": name, "arguments": arguments})

    def do(self, name, argument=None):
        reply = self.command(name, argument)
        assert "error" not in reply, reply
        return reply["result"]

    # ---- a session

    def initialize(self, root=None, capabilities=None, folders=None, options=None, name="raw"):
        uri = Path(root).as_uri() if root else None
        folders = folders if folders is not None else ([{"uri": uri, "name": "ws"}] if uri else None)
        result = self.result(
            "initialize",
            {
                "processId": os.getpid(),
                "clientInfo": {"name": name},
                "rootUri": uri,
                "workspaceFolders": folders,
                "capabilities": CAPABILITIES if capabilities is None else capabilities,
                "initializationOptions": options,
            },
        )
        self.notify("initialized", {})
        return result

    def open(self, path, text=None, language="python"):
        text = path.read_bytes().decode() if text is None else text
        uri = path.as_uri()
        self.documents[uri] = [1, text]
        self.notify(
            "textDocument/didOpen",
            {"textDocument": {"uri": uri, "languageId": language, "version": 1, "text": text}},
        )
        return uri

    def replace(self, uri, text):
        """Full-text change."""
        document = self.documents[uri]
        document[0] += 1
        document[1] = text
        self.notify(
            "textDocument/didChange",
            {"textDocument": {"uri": uri, "version": document[0]}, "contentChanges": [{"text": text}]},
        )

    def apply_edit(self, params):
        """What a faithful editor does (utf-16 columns are not needed by these tests: ASCII)."""
        edit = params["edit"]
        changes = edit.get("documentChanges") or [
            {"textDocument": {"uri": uri, "version": None}, "edits": edits}
            for uri, edits in (edit.get("changes") or {}).items()
        ]
        for change in changes:
            if "kind" in change:
                self._file_operation(change)
                continue
            identifier = change["textDocument"]
            uri = identifier["uri"]
            if uri not in self.documents:
                from urllib.parse import unquote

                self.open(Path(unquote(uri.removeprefix("file://"))))
            version, text = self.documents[uri]
            if identifier.get("version") is not None and identifier["version"] != version:
                return {"applied": False, "failureReason": "stale version"}
            self.replace(uri, apply_text_edits(text, change["edits"]))
        return {"applied": True}

    def _file_operation(self, change):
        from urllib.parse import unquote

        path = Path(unquote((change.get("uri") or change.get("oldUri")).removeprefix("file://")))
        match change["kind"]:
            case "create":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("")
            case "delete":
                path.unlink()
            case "rename":
                to = Path(unquote(change["newUri"].removeprefix("file://")))
                to.parent.mkdir(parents=True, exist_ok=True)
                path.rename(to)
                if change["oldUri"] in self.documents:  # what was not saved goes along
                    _, text = self.documents.pop(change["oldUri"])
                    self.notify("textDocument/didClose", {"textDocument": {"uri": change["oldUri"]}})
                    self.open(to, text)

    # ---- waiting

    def wait(self, condition, timeout=20, what="a condition"):
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            value = condition()
            if value:
                return value
            time.sleep(0.02)
        raise TimeoutError(f"{what} did not come true; stderr: {self.stderr[-2000:]}")

    def run(self, instruction, timeout=60, **arguments):
        """Run to the end; returns the run's description."""
        started = self.do("redline.run", {"instruction": instruction, **arguments})
        return self.ended(started["runId"], timeout)

    def ended(self, run, timeout=60):
        return self.wait(
            lambda: next((r for r in self.do("redline.runs", {"runId": run}) if r["outcome"]), None),
            timeout,
            "the run's end",
        )

    def proposal(self, run):
        return next(p for p in self.do("redline.proposals", {}) if p["runId"] == run)

    def states(self, run):
        return {h["id"]: h["state"] for h in self.proposal(run)["hunks"]}

    def notes(self, method):
        return [m["params"] for m in self.messages if m["method"] == method]

    def close(self):
        if self.process.poll() is None:
            try:
                self.request("shutdown", timeout=10)
                self.notify("exit", None)
                self.process.wait(10)
            except (TimeoutError, OSError, subprocess.TimeoutExpired):
                self.process.kill()
        self.process.wait(10)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                stream.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def apply_text_edits(text, edits):
    lines = text.split("\n")

    def offset(position):
        line = min(position["line"], len(lines))
        return sum(len(each) + 1 for each in lines[:line]) + position["character"]

    for edit in sorted(
        edits, key=lambda e: (e["range"]["start"]["line"], e["range"]["start"]["character"]), reverse=True
    ):
        start, end = (
            min(len(text), offset(edit["range"]["start"])),
            min(len(text), offset(edit["range"]["end"])),
        )
        text = text[:start] + edit["newText"] + text[end:]
    return text


CAPABILITIES = {
    "workspace": {
        "applyEdit": True,
        "configuration": True,
        "workspaceEdit": {"documentChanges": True, "resourceOperations": ["create", "rename", "delete"]},
        "codeLens": {"refreshSupport": True},
    },
    "textDocument": {
        "codeAction": {
            "codeActionLiteralSupport": {"codeActionKind": {"valueSet": ["quickfix", "refactor", "source"]}}
        },
        "codeLens": {},
        "hover": {"contentFormat": ["markdown"]},
        "publishDiagnostics": {},
    },
    "window": {"workDoneProgress": True, "showDocument": {"support": True}},
}
