"""Anything at all on standard input: no exit, no hang, and a cancelled request costs nothing."""

import json
import os
import random
import time

import pytest
from kit import lay
from raw_client import RawClient

MESSAGES = 1_000_000 if os.environ.get("REDLINE_EXAMPLES") == "deep" else 40_000
"""The deep profile sends a million."""
METHODS = [
    "initialize", "shutdown!", "textDocument/hover", "textDocument/codeAction", "textDocument/codeLens", "textDocument/didChange",
    "textDocument/didOpen", "textDocument/didClose", "workspace/executeCommand", "$/cancelRequest", "$/setTrace", "redline/none",
    "workspace/didChangeConfiguration", "window/workDoneProgress/cancel", "workspace/didChangeWatchedFiles", "", "exit!",
]  # fmt: skip
COMMANDS = [
    "redline.runs",
    "redline.proposals",
    "redline.usage",
    "redline.approve",
    "redline.accept",
    "redline.none",
    "redline.cancel",
]


def value(chance, depth=0):
    kind = chance.randrange(9 if depth < 4 else 6)
    match kind:
        case 0:
            return None
        case 1:
            return chance.choice([True, -1, 0, 2**70, 1.5, 1e308])
        case 2 | 3:
            return chance.choice(["", "x", "file:///a.py", "\ud800", "ä\u202e\0", "a" * 300, "run-1"])
        case 4:
            return {"uri": "file:///nowhere/a.py"}
        case 5:
            return {"line": chance.choice([0, -1, 10**9]), "character": chance.choice([0, "x"])}
        case 6:
            return [value(chance, depth + 1) for _ in range(chance.randrange(4))]
        case _:
            keys = [
                "textDocument",
                "position",
                "range",
                "context",
                "id",
                "command",
                "arguments",
                "contentChanges",
                "text",
                "token",
            ]
            return {chance.choice(keys): value(chance, depth + 1) for _ in range(chance.randrange(4))}


def message(chance):
    found = {"jsonrpc": chance.choice(["2.0", "2.0", "2.0", "1.0", None])}
    if chance.random() < 0.8:
        found["method"] = chance.choice(METHODS)
    if chance.random() < 0.6:
        found["id"] = chance.choice([1, 2, 3, "a", None, 1.5, [], -1, 2**60])
    if chance.random() < 0.8:
        found["params"] = value(chance)
    if found.get("method") == "workspace/executeCommand" and chance.random() < 0.7:
        found["params"] = {"command": chance.choice(COMMANDS), "arguments": [value(chance)]}
    if chance.random() < 0.1:
        found["result"] = value(chance)
    return found if chance.random() < 0.95 else value(chance)


def frame(chance, body):
    length = len(body)
    dice = chance.random()
    if dice < 0.005:
        length = max(0, length + chance.choice([-3, -1, 1, 3]))
    name = chance.choice([b"Content-Length", b"content-length", b"CONTENT-LENGTH"])
    end = chance.choice([b"\r\n", b"\n"])
    more = b"Content-Type: x" + end if dice > 0.9 else b""
    junk = chance.choice([b"junk\r\n", b"\xff\x00\n", b"Content-Length: x\r\n\r\n"]) if 0.005 < dice < 0.01 else b""
    return junk + more + name + b": %d" % length + end + end + body


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_flood_of_anything(folder):
    chance = random.Random(11)
    lay(folder, {"a.py": "x = 1\n"})
    with RawClient(folder, env={"REDLINE_MODEL": "builtin"}) as client:
        client.initialize(folder)
        uri = client.open(folder / "a.py")
        slowest = 0.0
        step = 5_000
        for sent in range(0, MESSAGES, step):
            parts = []
            for _ in range(step):
                try:
                    body = json.dumps(message(chance)).encode("utf-8", "surrogatepass")
                except ValueError:
                    continue
                if chance.random() < 0.01:
                    body = body[: chance.randrange(len(body) + 1)]
                parts.append(frame(chance, body))
            client.send_bytes(b"".join(parts) + b"\r\n\r\n")
            client.send({"id": f"lost-{sent}", "method": "redline/none"})  # a wrong length may have taken it along
            began = time.monotonic()
            where = {"textDocument": {"uri": uri}, "position": {"line": 0, "character": 0}}
            client.send({"id": f"alive-{sent}", "method": "textDocument/hover", "params": where})
            reply = client.reply(f"alive-{sent}", timeout=60)
            slowest = max(slowest, (time.monotonic() - began) / step)
            assert "id" in reply
            assert client.process.poll() is None, client.stderr[-3000:]
            client._replies.clear()
            client.messages.clear()
        # each message took its share of the wait: none held the others up
        assert slowest * 1000 < 2
        assert client.do("redline.runs", {}) == []


def test_a_storm_of_cancelled_requests_costs_little(folder):
    """5,000 pairs take 0.3 s on an idle machine (tests/bench/bench.py); here: each is answered, once, as cancelled."""
    lay(folder, {"a.py": "x = 1\n"})
    with RawClient(folder) as client:
        client.initialize(folder)
        uri = client.open(folder / "a.py")
        client.request("textDocument/hover", {"textDocument": {"uri": uri}, "position": {"line": 0, "character": 0}})
        params = {"textDocument": {"uri": uri}, "position": {"line": 0, "character": 0}}
        parts = []
        for number in range(5_000):
            for entry in (
                {"jsonrpc": "2.0", "id": f"s{number}", "method": "textDocument/hover", "params": params},
                {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": f"s{number}"}},
            ):
                body = json.dumps(entry).encode()
                parts.append(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        client.send_bytes(b"".join(parts))
        client.wait(lambda: len(client._replies) >= 5_000, what="the answers")
        cancelled = [reply for reply in client._replies.values() if reply.get("error", {}).get("code") == -32800]
        assert len(cancelled) > 4_900
        assert client.do("redline.runs", {}) == []
