"""What campaigns cost: `python tests/bench/campaigns.py [--targets N]`. Needs the extra `scale`; a few minutes.

Overhead of a target against a bare run, targets a second as workers are added, memory, the journal's cost, and resuming.
Ratios compare things measured in the same round; absolute figures are this machine's.
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE.parent.parent / "server"))
os.environ["REDLINE_STATE_DIR"] = tempfile.mkdtemp(prefix="redline-bench-")
os.environ["REDLINE_CONFIG"] = ""

from redline_agent.config import Config  # noqa: E402
from redline_agent.context.gather import Task  # noqa: E402
from redline_agent.events import ReplyReceived, TurnStarted  # noqa: E402
from redline_agent.jobs.campaign import Campaign, Where  # noqa: E402
from redline_agent.jobs.plan import Plan  # noqa: E402
from redline_agent.journal import Journal  # noqa: E402
from redline_agent.messages import MODEL, Reply, Text, Usage  # noqa: E402
from redline_agent.models.scripted import ScriptedModel  # noqa: E402
from redline_agent.session import Workspace  # noqa: E402

SCRIPT = [
    {"calls": [{"tool": "list", "args": {"path": "."}}]},
    {"calls": [{"tool": "finish", "args": {"summary": "nothing to do"}}]},
]


def repository(count):
    root = Path(tempfile.mkdtemp(prefix="redline-bench-")) / "r"
    root.mkdir()
    for n in range(count):
        (root / f"m{n:04}.txt").write_text(f"x = {n}\n")
    for args in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", *args], cwd=root, check=True)
    return root


def script():
    path = Path(tempfile.mkdtemp(prefix="redline-bench-")) / "script.json"
    path.write_text(json.dumps(SCRIPT))
    return f"scripted:{path}"


def bare(root, count):
    """Seconds of one run after the other in this process, each with its journal."""
    ws = Workspace(root, Journal(root.parent / "bare.sqlite"))

    async def go():
        began = time.perf_counter()
        for n in range(count):
            model = ScriptedModel(SCRIPT)
            run = ws.new_run(Task("look", targets=(f"m{n:04}.txt",)), model, Config(validate="never", plan="never"))
            async for _ in ws.carry_out(run, model):
                pass
        return time.perf_counter() - began

    seconds = asyncio.run(go())
    ws.journal.close()
    return seconds


def rss(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def children():
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            parent = next(line for line in status.read_text().splitlines() if line.startswith("PPid"))
            if parent.split()[1] == str(os.getpid()) and b"jobs.worker" in (status.parent / "cmdline").read_bytes():
                found.append(int(status.parent.name))
        except (OSError, StopIteration):
            continue
    return found


def campaign(root, count, workers, name):
    """Seconds of a campaign, from its start and from its first result; memory of this process and of a worker, MB."""
    said = Plan(
        task="look", name=name, over=["*.txt"], model=script(), validation="never", limits={"concurrency": workers}
    )
    run = Campaign(said, root)
    times, memory = [], []

    async def go():
        def changed(_row):
            times.append(time.perf_counter())
            if len(times) in (count // 2, count - 1):
                memory.append((rss(os.getpid()), [rss(pid) for pid in children()]))

        run.changed = changed
        run.find()
        run.take_in(again=False)
        began, used = time.perf_counter(), time.process_time()
        await run.carry_out(Where(workers))
        return time.perf_counter() - began, time.process_time() - used

    seconds, used = asyncio.run(go())
    size = sum(path.stat().st_size for path in run.folder.glob("*.sqlite*"))
    states = {row.state for row in run.rows()}
    run.close()
    assert states == {"nothing"}, states
    return seconds, times[-1] - times[0], memory[-1], used / count, size / count


def journal_cost():
    """Events a second, bytes and fsyncs of a journal; and of one whose every event is on the disk at once."""
    folder = Path(tempfile.mkdtemp(prefix="redline-bench-"))
    journal = Journal(folder / "j.sqlite")
    text = Text(text="x" * 600, label=MODEL)
    started = TurnStarted(turn=0, request="r", model="m")
    reply = ReplyReceived(
        turn=0, reply=Reply(model="m", content=(text,), stop="tool_use", usage=Usage(output_tokens=1))
    )
    figures = {}
    for name, event, count in (("ordinary", started, 5_000), ("precious", reply, 1_000)):
        size = (folder / "j.sqlite").stat().st_size + (folder / "j.sqlite-wal").stat().st_size
        began = time.perf_counter()
        for _ in range(count):
            journal.append("session-1", "run-1", event)
        seconds = time.perf_counter() - began
        now = (folder / "j.sqlite").stat().st_size + (folder / "j.sqlite-wal").stat().st_size
        figures[name] = {
            "events_a_second": round(count / seconds),
            "ms": round(1000 * seconds / count, 3),
            "bytes": max(0, now - size) // count,
        }
    journal.close()
    return figures


def resuming():
    """Milliseconds to the next request of a run that was cut off after some events."""
    return dict(asyncio.run(cut_and_resumed(turns)) for turns in (2, 250))


async def cut_and_resumed(turns):
    root = Path(tempfile.mkdtemp(prefix="redline-bench-")) / "r"
    root.mkdir()
    (root / "a.txt").write_text("".join(f"line {n}\n" for n in range(turns)))
    ws = Workspace(root, Journal(root.parent / "j.sqlite"))
    config = Config(validate="never", plan="never")
    reads = [
        {"calls": [{"tool": "read", "args": {"path": "a.txt", "start": n + 1, "end": n + 1}}]} for n in range(turns)
    ]
    model = ScriptedModel(reads)
    run = ws.new_run(Task("look"), model, replace(config, limits=replace(config.limits, turns_max=turns)))
    async for _ in ws.carry_out(run, model):
        pass
    count = len(ws.journal.of_run(run.id))
    row = next(row for row in ws.journal.runs() if row.run == run.id)
    resumed = ws.resume(row, replace(config, limits=replace(config.limits, turns_max=turns + 1)))
    last = ScriptedModel([{"calls": [{"tool": "finish", "args": {"summary": "x"}}]}])
    seconds, began = 0.0, time.perf_counter()
    async for event in ws.carry_out(resumed, last):
        if isinstance(event, TurnStarted):
            seconds = time.perf_counter() - began
    ws.journal.close()
    assert seconds, "it asked for nothing"
    return f"{count} events", round(1000 * seconds, 1)


def fsyncs(events=200):
    """How often the journal syncs, for that many replies, as strace counts it; None where there is none."""
    code = (
        "import sys, tempfile, pathlib; from redline_agent.journal import Journal; from redline_agent.events import *;"
        "from redline_agent.messages import *;"
        "j = Journal(pathlib.Path(tempfile.mkdtemp()) / 'j.sqlite');"
        "r = ReplyReceived(turn=0, reply=Reply(model='m', content=(Text(text='x', label=MODEL),), stop='tool_use', usage=Usage()));"
        f"[j.append('s', 'r', r if sys.argv[1] == 'precious' else TurnStarted(turn=0)) for _ in range({events})]"
    )
    found = {}
    for kind in ("ordinary", "precious"):
        try:
            done = subprocess.run(
                ["strace", "-f", "-c", "-e", "trace=fsync,fdatasync", sys.executable, "-c", code, kind],
                capture_output=True,
                text=True,
            )
        except FileNotFoundError:
            return None
        calls = [line.split() for line in done.stderr.splitlines() if line.endswith(("fsync", "fdatasync"))]
        found[kind] = sum(int(line[3]) for line in calls) / events
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, default=1_000)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    args = parser.parse_args()
    root = repository(args.targets)
    few = min(100, args.targets)
    alone = median(bare(root, few) / few for _ in range(3))
    print(f"a bare run: {1000 * alone:.1f} ms")
    for workers in args.workers:
        whole, steady, (own, others), used, size = campaign(root, args.targets, workers, f"bench-{workers}")
        each = steady / (args.targets - 1)
        print(
            f"{workers} workers: {args.targets} targets in {whole:.1f} s, {1 / each:.1f} targets/s,"
            f" {1000 * each * workers:.1f} ms of a worker each ({each * workers / alone:.2f} of a bare run),"
            f" {1000 * used:.1f} ms of the coordinator's processor and {size / 1000:.1f} kB on its disk;"
            f" coordinator and scheduler {own:.0f} MB, a worker {max(others, default=0):.0f} MB"
        )
    print("journal:", json.dumps(journal_cost()), "fsyncs an event:", json.dumps(fsyncs()))
    print("to the first request of a resumed run, ms:", json.dumps(resuming()))
    print(f"peak memory of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
