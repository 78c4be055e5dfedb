"""Context figures: tokens of a fixed 40-turn session with and without each pass, the cached share of its input, and the
index on the largest package in the environment.

    python tests/bench/context.py

The session reads, searches and edits a real package's files; tokens are counted by bytes, the same for all rows. The cache
is modelled as a vendor describes it: a prefix (tools, system, messages), breakpoints (at most four), at least 1,024
tokens, a look-back of 20 blocks from each breakpoint, and an expiry of 5 minutes (a turn is taken to last 20 s).
"""

import asyncio
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import networkx
import redline_agent.asking as asking
from redline_agent.config import Config
from redline_agent.context import passes
from redline_agent.context.estimate import raw_fixed, raw_messages, raw_text
from redline_agent.context.gather import Task
from redline_agent.context.index import Index
from redline_agent.events import Compacted
from redline_agent.journal import Journal
from redline_agent.limits import CONTEXT_TOKENS_MAX, Limits
from redline_agent.models.anthropic import _messages, _system, _tools
from redline_agent.models.scripted import ScriptedModel
from redline_agent.safety.keeper import Keeper
from redline_agent.session import Workspace
from redline_agent.workspace.overlay import Overlay

PACKAGE = Path(networkx.__file__).parent
TRIGGER = 40_000
LOOK_BACK, LEAST, EXPIRY_S, TURN_S, BREAKPOINTS = 20, 1024, 300, 20, 4


def call(tool, **args):
    return {"calls": [{"tool": tool, "args": args}], "usage": {"input_tokens": 0, "output_tokens": 50}}


def script(files):
    """40 turns of an honest kind: look, read, read again, search, edit."""
    out = []
    for turn in range(39):
        path = files[turn % 9]
        match turn % 4:
            case 0:
                out.append(call("search", pattern=f"def .*{'abcdefghi'[turn % 9]}", path="."))
            case 3 if turn > 8:
                out.append(call("read", path=files[(turn - 4) % 9], start=1, end=400))
            case _:
                out.append(call("read", path=path, start=1, end=400))
    return [*out, call("finish", summary="done")]


class Cache:
    """A vendor's prompt cache: what of each request was there."""

    def __init__(self):
        self.seen, self.read, self.total, self.at = {}, 0, 0, 0

    def take(self, request):
        self.at += TURN_S
        blocks, marks = [], []
        for block in [*_tools(request.tools), *_system(request.system)]:
            self._add(blocks, marks, block)
        for message in _messages(request.messages):
            for block in message["content"]:
                self._add(blocks, marks, block)
        prefixes, text = [], ""
        total = 0.0
        for block in blocks:
            text = str(hash((text, block)))
            total += raw_text(block)
            prefixes.append((text, total))
        hit = 0.0
        for mark in marks[-BREAKPOINTS:]:
            for at in range(mark, max(-1, mark - LOOK_BACK), -1):
                key, tokens = prefixes[at]
                if self.at - self.seen.get(key, -(10**9)) <= EXPIRY_S and tokens >= LEAST:
                    hit = max(hit, tokens)
                    break
        for mark in marks[-BREAKPOINTS:]:
            self.seen[prefixes[mark][0]] = self.at
        self.read += hit
        self.total += total
        return hit / total

    @staticmethod
    def _add(blocks, marks, block):
        block = dict(block)
        if block.pop("cache_control", None):
            marks.append(len(blocks))
        blocks.append(json.dumps(block, sort_keys=True))


def session(folder, names, limit=TRIGGER):
    """Run the session with the named passes; returns the tokens sent, the cached share, compactions and seconds."""
    kept = passes.dedupe, passes.mask, passes.fold
    none = lambda *_: passes.Cut("off")
    passes.dedupe = kept[0] if "dedupe" in names else none
    passes.mask = kept[1] if "mask" in names else none
    passes.fold = kept[2] if "summarise" in names else (lambda conversation, *_: len(conversation.exchanges))
    refuse, asking.trigger = asking.trigger, (asking.trigger if names else (lambda _frame: 10**9))
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.py") if 4_000 < p.stat().st_size < 30_000)[:9]
    model = ScriptedModel(script(files))
    state = Path(tempfile.mkdtemp())
    try:
        workspace = Workspace(folder, Journal(state / "j.sqlite"))
        config = Config(limits=Limits(turns_max=99, tokens_max=10**9), validate="never", context_tokens_max=limit)
        run = workspace.new_run(Task("tidy the algorithms"), model, config)
        began = time.perf_counter()

        async def go():
            return [event async for event in workspace.carry_out(run, model)]

        events = asyncio.run(go())
        seconds = time.perf_counter() - began
    finally:
        passes.dedupe, passes.mask, passes.fold = kept
        asking.trigger = refuse
        shutil.rmtree(state)
    cache = Cache()
    sent = 0.0
    for request in model.requests:
        sent += raw_fixed(request.system, request.tools) + raw_messages(request.messages)
        cache.take(request)
    count = sum(isinstance(event, Compacted) for event in events)
    return sent, cache.read / cache.total, count, seconds, run.state, len(model.requests)


def index(folder):
    """Cold, and after one file was edited."""
    lines = sum(path.read_bytes().count(b"\n") for path in folder.rglob("*.py"))

    async def go():
        ours = Index(folder)
        workspace = Workspace(folder, Journal(Path(tempfile.mkdtemp()) / "j.sqlite"))
        overlay, keeper = Overlay(workspace.resolver), Keeper(workspace.rules, workspace.resolver.root)
        try:
            began = time.perf_counter()
            state = await ours.ask("sync", overlay)
            cold = time.perf_counter() - began
            path = next(folder.rglob("graph.py"))
            updates, finds = [], []
            for n in range(10):
                name = str(path.relative_to(folder))
                overlay.buffers = Open(name, path.read_text() + f"\ndef added_{n}(): ...\n")
                began = time.perf_counter()
                await ours.ask("definitions", overlay, name=f"added_{n}", under="")
                updates.append(time.perf_counter() - began)
                began = time.perf_counter()
                await ours.find(Task("shortest path of a weighted graph"), overlay, keeper, wait_s=10)
                finds.append(time.perf_counter() - began)
            await asyncio.sleep(2.1)
            began = time.perf_counter()
            await ours.ask("sync", overlay)
            walked = time.perf_counter() - began
            return state["files"], cold, statistics.median(updates), statistics.median(finds), walked
        finally:
            await ours.close()

    return lines, *asyncio.run(go())


class Open:
    """One open document."""

    def __init__(self, path, text):
        self.path, self.text = path, text

    def open_text(self, path):
        return (self.text, 1) if path == self.path else None

    def open_paths(self):
        return [self.path]


def main():
    os.environ["REDLINE_STATE_DIR"] = tempfile.mkdtemp()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "networkx"
        shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
        whole = None
        for names in ([], ["dedupe"], ["mask"], ["summarise"], ["dedupe", "mask"], ["dedupe", "mask", "summarise"]):
            sent, cached, count, seconds, state, requests = session(folder, names)
            whole = whole or sent
            print(f"{'+'.join(names) or 'no pass':<24} {sent:>11,.0f} tokens sent ({sent / whole:4.0%}), {cached:5.1%} cached,"
                  f" {count} compactions, {requests} requests, {state}, {seconds:.2f} s", flush=True)  # fmt: skip
        sent, cached, count, *_ = session(folder, ["dedupe", "mask", "summarise"], CONTEXT_TOKENS_MAX)
        print(f"all, at the usual trigger of {CONTEXT_TOKENS_MAX:,}: {sent:,.0f} tokens sent ({sent / whole:4.0%}),"
              f" {cached:5.1%} cached, {count} compactions")  # fmt: skip
        lines, files, cold, update, find, walked = index(folder)
        print(f"index: {files} files, {lines:,} lines: cold {cold:.2f} s, an edited file {update * 1000:.0f} ms,"
              f" a question {find * 1000:.0f} ms, a walk for changes {walked * 1000:.0f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
