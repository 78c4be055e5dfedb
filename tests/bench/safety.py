"""What safety costs: a decision of the gate, a command in each layer, masking, a storm of cancelled requests."""

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from kit import lay, workspace
from raw_client import RawClient
from redline_agent.safety.gate import Standing, decide
from redline_agent.safety.keeper import Keeper
from redline_agent.safety.labels import Taint
from redline_agent.safety.permits import issue
from redline_agent.safety.requests import Access, Command, Connect
from redline_agent.safety.rules import built_in_rules
from redline_agent.safety.sandbox import layers
from redline_agent.safety.secrets import Masks
from redline_agent.workspace.hunks import Origin
from redline_agent.workspace.overlay import Overlay
from redline_agent.workspace.workbench import Workbench

FILES = 5_000


def gate():
    """Decisions on mixed requests."""
    rules, taint, standing = built_in_rules(), Taint(("README.md",)), Standing(trusted=True)
    requests = [
        Access("read", "src/deep/er/a.py"),
        Access("write", "tests/test_a.py"),
        Access("write", ".vscode/settings.json"),
        Command("cd src && " + "true && " * 60 + "grep -rn def . | head", ("sh",), sandbox="bubblewrap"),
        Command("cd src && " + "true && " * 60 + "grep -rn def . | head", ("sh",)),
        Connect("docs.example.org", 443),
    ]
    times = []
    for number in range(20_000):
        began = time.perf_counter()
        decide(requests[number % len(requests)], taint, rules, standing)
        times.append((time.perf_counter() - began) * 1000)
    times.sort()
    yield (
        "a decision of the gate, p99 ms",
        f"{times[int(len(times) * 0.99)]:.2f}",
        f"median {statistics.median(times):.3f}",
        "",
        "5",
    )


def commands(rounds):
    """`true` as a tool call would run it (request, mount, run, harvest), beside `sh -c true`, on a tree of 5,000 files."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "ws"
        lay(root, {f"d{n % 100}/e{n % 7}/f{n}.py": "x = 1\n" for n in range(FILES)})
        for layer in layers.candidates():
            bare, ours = asyncio.run(_commands(root, layer, rounds))
            name = f"{layer.name}{' over a copy' if layer.copies else ''}"
            aim = "10" if not layer.copies else "150" if layer.name == "bubblewrap" else ""
            yield f"a command: {name}, overhead ms", f"{ours - bare:.1f}", f"sh -c true alone: {bare:.1f}", "", aim


async def _commands(root, layer, rounds):
    ws = workspace(root)
    bench = Workbench(
        Overlay(ws.resolver), Keeper(built_in_rules(), root), root.parent / "scratch", found=layers.Found(layer)
    )
    await bench.ready()
    bare, ours = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "true", stdout=-1, stderr=-2)
        await process.wait()
        bare.append((time.perf_counter() - began) * 1000)
        began = time.perf_counter()
        command = bench.command("true", ".")
        started_s = time.time()
        await bench.run(command, issue(command), timeout_s=10)
        await bench.harvest(Origin(0, "", "run", "bench"), started_s)
        ours.append((time.perf_counter() - began) * 1000)
    await bench.close()
    ws.journal.close()
    return statistics.median(bare), statistics.median(ours)


def probe():
    """Finding the sandbox, once a process."""
    began = time.perf_counter()
    found = asyncio.run(layers.find_layer(again=True))
    yield "trying to get out, once, ms", f"{(time.perf_counter() - began) * 1000:.0f}", found.name or "no layer", "", ""


def masking():
    """Looking for secrets in what one `read` shows at most."""
    text = "def func(value):\n    total = value + 1  # token and password of nothing\n    return total\n\n" * 450
    began = time.perf_counter()
    for number in range(20):
        Masks().masked(text + str(number))
    yield "masking 40,000 characters, ms", f"{(time.perf_counter() - began) * 50:.1f}", "", "", ""


def storm(pairs=5_000):
    """Requests, each followed by its cancellation."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "ws"
        lay(root, {"a.py": "x = 1\n"})
        with RawClient(root) as client:
            client.initialize(root)
            uri = client.open(root / "a.py")
            where = {"textDocument": {"uri": uri}, "position": {"line": 0, "character": 0}}
            client.request("textDocument/hover", where)
            parts = []
            for number in range(pairs):
                for entry in (
                    {"jsonrpc": "2.0", "id": f"s{number}", "method": "textDocument/hover", "params": where},
                    {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": f"s{number}"}},
                ):
                    body = json.dumps(entry).encode()
                    parts.append(b"Content-Length: %d\r\n\r\n" % len(body) + body)
            began = time.perf_counter()
            client.send_bytes(b"".join(parts))
            while len(client._replies) < pairs:
                time.sleep(0.005)
            yield "5,000 requests, cancelled, s", f"{time.perf_counter() - began:.2f}", "each answered once", "", "0.5"
