"""Benchmarks: each figure beside what it is compared with, in one run. `make bench` prints the table.

No figure is a test: times move from machine to machine, so look at the ratios.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import forked  # noqa: E402
import safety  # noqa: E402
from claude_server import ClaudeServer  # noqa: E402
from raw_client import RawClient  # noqa: E402

forked.AT_ALL = False  # figures are of processes that start for real

FLOOR = [sys.executable, str(HERE / "pygls_floor.py")]
SERVE = [sys.executable, "-m", "redline_server", "serve"]


def median(values):
    return statistics.median(values)


def p99(values):
    return sorted(values)[max(0, int(len(values) * 0.99) - 1)]


def rss_mb(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def big_file(lines=5000):
    out = ['"""Generated."""', "import os", "import sys", ""]
    number = 0
    while len(out) < lines:
        out += [f"def func_{number}(value):", f"    total = value + {number}", "    return total", "", ""]
        number += 1
    return "\n".join(out[:lines]) + "\n"


def start_up(rounds):
    """initialize answered, and memory 1.5 s later, in turns."""
    found = {"floor": ([], []), "redline": ([], [])}
    for _ in range(rounds):
        for name, command in (("floor", FLOOR), ("redline", SERVE)):
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder) / "ws"
                root.mkdir()
                began = time.perf_counter()
                client = RawClient(root, command=command)
                client.initialize(root)
                found[name][0].append((time.perf_counter() - began) * 1000)
                time.sleep(1.5)
                found[name][1].append(rss_mb(client.process.pid))
                client.close()
    (floor_ms, floor_mb), (ms, mb) = [(median(a), median(b)) for a, b in found.values()]
    yield "initialize answered", f"{ms:.0f} ms", f"no-op pygls {floor_ms:.0f} ms", f"{ms / floor_ms:.2f}", "1.3"
    yield "idle memory", f"{mb:.0f} MB", f"no-op pygls {floor_mb:.0f} MB", f"{mb / floor_mb:.2f}", "1.5"


def code_actions(rounds):
    """Listing on a 5,000-line file, alone and while a run is going on; and 1,000 changes, then a listing."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "ws"
        root.mkdir()
        (root / "big.py").write_text(big_file())
        for number in range(300):
            (root / f"m{number}.py").write_text("import os\nimport sys\n" + big_file(300))
        with RawClient(root) as client:
            client.initialize(root)
            uri = client.open(root / "big.py")
            ask = {
                "textDocument": {"uri": uri},
                "range": {"start": {"line": 2500, "character": 0}, "end": {"line": 2500, "character": 0}},
                "context": {"diagnostics": []},
            }

            def one():
                began = time.perf_counter()
                client.result("textDocument/codeAction", ask)
                return (time.perf_counter() - began) * 1000

            client.run("rename func_1 to func_one in big.py", uri=uri)
            time.sleep(1)
            one()
            alone = [one() for _ in range(rounds)]
            yield "code actions, 5,000 lines, p99", f"{p99(alone):.1f} ms", f"median {median(alone):.1f} ms", "", "5 ms"
            run = client.do(
                "redline.run", {"instruction": "remove unused in project; modernise in project", "uri": uri}
            )["runId"]
            busy, until = [], time.monotonic() + 30
            while time.monotonic() < until:
                busy.append(one())
                if len(busy) % 20 == 0 and client.do("redline.runs", {"runId": run})[0]["outcome"]:
                    break
            yield (
                "the same during a run, p99",
                f"{p99(busy):.1f} ms",
                f"median {median(busy):.1f} ms, {len(busy)} asked",
                "",
                "50 ms",
            )
            began = time.perf_counter()
            for number in range(1000):
                at = {"line": number * 4 % 4000, "character": 0}
                change = {"range": {"start": at, "end": at}, "text": "#"}
                client.notify(
                    "textDocument/didChange",
                    {"textDocument": {"uri": uri, "version": 2 + number}, "contentChanges": [change]},
                )
            client.result("textDocument/codeAction", ask, timeout=60)
            yield "1,000 changes, then code actions", f"{(time.perf_counter() - began) * 1000:.0f} ms", "", "", ""


def while_indexing():
    """Listing code actions while the index of 200,000 lines is built, in its own process, for the first run."""
    with tempfile.TemporaryDirectory() as folder, ClaudeServer([{"text": "done"}]) as server:
        root = Path(folder) / "ws"
        root.mkdir()
        for number in range(40):
            (root / f"m{number}.py").write_text(big_file())
        with RawClient(root, env={"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": server.url}) as client:
            client.initialize(root)
            uri = client.open(root / "m0.py")
            ask = {
                "textDocument": {"uri": uri},
                "range": {"start": {"line": 2500, "character": 0}, "end": {"line": 2500, "character": 0}},
                "context": {"diagnostics": []},
            }
            client.result("textDocument/codeAction", ask)
            run = client.do("redline.run", {"instruction": "say done", "uri": uri})["runId"]
            busy, began = [], time.monotonic()
            while time.monotonic() < began + 60:
                asked = time.perf_counter()
                client.result("textDocument/codeAction", ask)
                busy.append((time.perf_counter() - asked) * 1000)
                if len(busy) % 20 == 0 and client.do("redline.runs", {"runId": run})[0]["outcome"]:
                    break
            took = time.monotonic() - began
    yield (
        "code actions while 200,000 lines are indexed, p99",
        f"{p99(busy):.1f} ms",
        f"median {median(busy):.1f} ms, {len(busy)} asked in {took:.1f} s",
        "",
        "50 ms",
    )


def to_first_request(rounds):
    """From redline.run in a warm server, and from the command line, to the first byte at the model's door."""
    with tempfile.TemporaryDirectory() as folder, ClaudeServer([]) as server:
        root = Path(folder) / "ws"
        root.mkdir()
        (root / "a.py").write_text("x = 1\n")
        env = {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": server.url}
        took = []
        with RawClient(root, env=env) as client:
            client.initialize(root)
            uri = client.open(root / "a.py")
            for number in range(rounds + 2):
                server.script = [{"text": "done"}]
                began = time.monotonic()
                run = client.do("redline.run", {"instruction": "say done", "uri": uri})["runId"]
                client.ended(run)
                if number >= 2:
                    took.append((server.seen_s[-1] - began) * 1000)
        yield "redline.run to first request, warm", f"{median(took):.1f} ms", f"p99 {p99(took):.1f} ms", "", "20 ms"
        sdk, whole = [], []
        for _ in range(max(3, rounds // 10)):
            sdk.append(clock([sys.executable, "-c", "import anthropic"]))
            server.script = [{"text": "done"}]
            began = time.monotonic()
            argv = [sys.executable, "-m", "redline_server", "run", "say done"]
            subprocess.run(
                argv, cwd=root, env={**os.environ, **env, "REDLINE_STATE_DIR": folder}, capture_output=True, check=True
            )
            whole.append((server.seen_s[-1] - began) * 1000)
        bar = median(sdk) + 300
        yield (
            "redline run to first request",
            f"{median(whole):.0f} ms",
            f"python -c 'import anthropic' {median(sdk):.0f} ms",
            f"{median(whole) / bar:.2f}",
            f"{bar:.0f} ms",
        )


def clock(argv):
    began = time.perf_counter()
    subprocess.run(argv, capture_output=True, check=True)
    return (time.perf_counter() - began) * 1000


def prompt():
    """The fixed prompt in o200k tokens."""
    from redline_agent.context.tokens import count
    from redline_agent.models.base import Capabilities
    from redline_agent.prompts.builder import build
    from redline_agent.roles.roles import role
    from redline_agent.tools.registry import by_name, specs

    part = role("executor")
    told = specs(by_name(part.tool_names(Capabilities())).values())
    made = build(part, "standard", told, {"folder": "project", "date": "2026-01-01"})
    system = count("\n\n".join(part.text for part in made.parts))
    tools = count(
        json.dumps(
            [{"name": t.name, "description": t.description, "input_schema": t.schema} for t in told],
            separators=(",", ":"),
        )
    )
    yield (
        "the fixed prompt",
        f"{system + tools} tokens",
        f"system {system}, tools {tools}",
        f"{(system + tools) / 3000:.2f}",
        "2500",
    )


def journal():
    """Appending events."""
    from redline_agent.events import TurnStarted
    from redline_agent.journal import Journal

    with tempfile.TemporaryDirectory() as folder:
        log = Journal(Path(folder) / "j.sqlite")
        began = time.perf_counter()
        for turn in range(2000):
            log.append("s", "r", TurnStarted(turn=turn))
        yield "journal", f"{2000 / (time.perf_counter() - began):,.0f} events/s", "SQLite, WAL", "", ""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    print(f"{'what':<36} {'redline':>14}  {'beside':<42} {'ratio':>6}  {'aim':>8}")
    for part in (
        start_up(max(3, rounds // 15)),
        code_actions(rounds * 3),
        while_indexing(),
        to_first_request(rounds),
        prompt(),
        journal(),
        safety.gate(),
        safety.probe(),
        safety.commands(max(10, rounds // 3)),
        safety.masking(),
        safety.storm(),
    ):
        for what, value, beside, ratio, aim in part:
            print(f"{what:<36} {value:>14}  {beside:<42} {ratio:>6}  {aim:>8}", flush=True)


if __name__ == "__main__":
    main()
