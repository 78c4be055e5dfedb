"""Each scenario: a workspace, a script (or the built-in engine), the workspace if all is accepted, the transcript.

REDLINE_UPDATE=1 writes the transcripts anew.
"""

import asyncio
import json
import os
import tomllib
from pathlib import Path

import pytest
import txtar
from kit import disk, lay, workspace
from redline_agent.config import Config
from redline_agent.context.gather import Task
from redline_agent.context.view import view
from redline_agent.deciding import accept, bulk
from redline_agent.messages import ToolCall, ToolResult
from redline_agent.models.builtin import BuiltinModel
from redline_agent.models.scripted import ScriptedModel

SCENARIOS = sorted((Path(__file__).parent.parent / "scenarios").glob("*.txtar"))


def load(path):
    files = txtar.read(path)
    task = tomllib.loads(files["task.toml"])
    if "lines" in task:
        task["lines"] = tuple(task["lines"])
    model = ScriptedModel(json.loads(files["script.json"])) if "script.json" in files else BuiltinModel()
    return files, Task(**task), model


def line(event):
    match event.type:
        case "tool_result":
            return f"{'error' if event.result.error else 'ok'}: {event.summary}"
        case "retrying":
            return f"retry: {event.reason}"
        case "outcome":
            return f"{event.state}: {event.answer}"
        case _:
            return None


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda p: p.stem)
def test_scenario(path, folder):
    files, task, model = load(path)
    lay(folder, txtar.beneath(files, "before/"))
    before = disk(folder)
    ws = workspace(folder)
    run = ws.new_run(task, model, Config())

    async def go():
        return [event async for event in ws.carry_out(run, model)]

    events = asyncio.run(go())
    assert disk(folder) == before
    transcript = "".join(f"{shown}\n" for shown in map(line, events) if shown)
    if run.proposal:
        accept(ws, run.proposal, bulk(run.proposal))
    if os.environ.get("REDLINE_UPDATE"):
        txtar.replace(path, "transcript", transcript)
    assert disk(folder) == txtar.beneath(files, "after/")
    assert transcript == txtar.read(path)["transcript"]


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda p: p.stem)
def test_cut_off_at_every_event_the_journal_is_valid_and_the_files_untouched(path, folder):
    files, task, _ = load(path)
    lay(folder, txtar.beneath(files, "before/"))
    before = disk(folder)

    async def cut_after(count):
        model = load(path)[2]
        ws = workspace(folder)
        run = ws.new_run(task, model, Config())
        events = ws.carry_out(run, model)
        seen = 0
        async for _ in events:
            seen += 1
            if seen == count:
                break
        await events.aclose()
        return ws, run, seen

    for count in range(1, 200):
        if count > 4 and "script.json" not in files and count % 3:
            continue  # the built-in engine starts processes, so fewer cuts there
        ws, run, seen = asyncio.run(cut_after(count))
        history = ws.journal.of_run(run.id)
        assert sum(event.type == "outcome" for event in history) == 1
        assert history[-1].type == "outcome"
        messages = view(history, model="any")
        calls = [b.id for m in messages for b in m.content if isinstance(b, ToolCall)]
        answers = [b.call_id for m in messages for b in m.content if isinstance(b, ToolResult)]
        assert calls == answers
        assert disk(folder) == before
        ws.journal.close()
        if seen < count:
            return
    pytest.fail("a scenario of 200 events?")
