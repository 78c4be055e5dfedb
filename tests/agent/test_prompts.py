import asyncio
import json
import os
from pathlib import Path

import pytest
from kit import call, carry_out, finish, lay, play, workspace
from redline_agent.config import Config
from redline_agent.context.tokens import count
from redline_agent.errors import ConfigError, UsageError
from redline_agent.history import rebuilt
from redline_agent.models.base import Capabilities
from redline_agent.models.dialect import one_prompt
from redline_agent.models.scripted import ScriptedModel
from redline_agent.prompts.builder import build, built_in, chosen, layers, load, parse
from redline_agent.roles.roles import NAMES, role, why_plan
from redline_agent.tools.registry import TOOLS, by_name, specs

STANDARD_TOKENS_MAX, SMALL_TOKENS_MAX = 3_000, 600
FACTS = {"folder": "project", "date": "2026-01-01"}
SNAPSHOTS = Path(__file__).parent.parent / "snapshots"
SMALL = Capabilities(profile="small", edits="symbol", native_tools=False)


def prompt_of(name="executor", can=None, **options):
    can = can or Capabilities()
    return build(role(name), can.profile, specs(by_name(role(name).tool_names(can)).values()), FACTS, **options)


def fixed_tokens(prompt):
    system = "\n\n".join(part.text for part in prompt.parts)
    tools = [{"name": t.name, "description": t.description, "input_schema": t.schema} for t in prompt.tools]
    return count(system) + count(json.dumps(tools, separators=(",", ":"), ensure_ascii=False))


@pytest.mark.parametrize("name", NAMES)
def test_the_fixed_prompt_of_each_role_fits_the_standard_budget(name):
    assert fixed_tokens(prompt_of(name)) <= STANDARD_TOKENS_MAX


def test_the_small_profile_fits_its_budget():
    prompt = prompt_of(can=SMALL)
    words = "\n\n".join(part.text for part in prompt.parts) + one_prompt(prompt.tools)
    assert count(words) <= SMALL_TOKENS_MAX


@pytest.mark.parametrize("layer", built_in(), ids=lambda layer: f"{layer.id}@{layer.version}")
def test_each_layer_keeps_to_its_own_budget(layer):
    assert count(layer.text) <= layer.tokens


@pytest.mark.parametrize("name", [*NAMES, "executor-small"])
def test_the_prompt_of_each_role_is_what_it_was(name):
    """REDLINE_UPDATE=1 writes the snapshots anew: read the diff, and give the layer that you changed a new version."""
    prompt = prompt_of("executor", SMALL) if name == "executor-small" else prompt_of(name)
    text = "\n\n".join(part.text for part in prompt.parts)
    text += "\n\ntools: " + ", ".join(tool.name for tool in prompt.tools) + "\n"
    text += "layers: " + ", ".join(f"{ident}@{version}" for ident, version in prompt.layers.items()) + "\n"
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("REDLINE_UPDATE"):
        SNAPSHOTS.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8")


def test_tokens_are_counted_offline_and_exactly():
    assert count("hello world") == 2
    assert count("def f():\n    return 1\n") == 8


def test_every_tool_has_its_text_a_closed_schema_and_an_example_that_holds():
    for tool in TOOLS:
        assert tool.description()
        schema = tool.schema()
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) <= set(schema["properties"])
        assert "$ref" not in json.dumps(schema)
        tool.input.model_validate(dict(tool.example))


def test_static_layers_come_first():
    for name in NAMES:
        parts = prompt_of(name).parts
        assert [part.static for part in parts] == sorted((part.static for part in parts), reverse=True)


@pytest.mark.parametrize(
    "source",
    [
        "no front matter",
        "---\nid: x\n---\ntext",
        "---\nid: x\nversion: 1\ntier: other\nroles: *\nprofiles: small\ntokens: 5\n---\ntext",
        "---\nid: x\nversion: 1\ntier: static\nroles: *\nprofiles: small\ntokens: many\n---\ntext",
    ],
)
def test_a_layer_without_front_matter_is_refused(source):
    with pytest.raises(ConfigError):
        parse(source, "x.md")


def own_layer(folder, name, text, ident="task", version="9", tier="static"):
    head = f"---\nid: {ident}\nversion: {version}\ntier: {tier}\nroles: executor\nprofiles: standard\ntokens: 50\n---\n"
    (folder / name).write_text(head + text)


def test_flags_choose_between_versions_and_the_run_says_which(folder, tmp_path):
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    own_layer(prompts, "20-task@9.md", "Do it the ninth way.")
    assert "ninth" not in str(prompt_of(folder=str(prompts)).parts)
    lay(folder, {"a.py": "x = 1\n"})
    config = Config(validate="never", prompts_dir=str(prompts), flags={"task": "9"})
    model = ScriptedModel([finish()])
    _, events = asyncio.run(carry_out(workspace(folder), model, "go", config=config))
    assert "Do it the ninth way." in [part.text for part in model.requests[0].system]
    assert (events[0].layers["task"], events[0].flags) == ("9", {"task": "9"})


def test_the_users_own_layer_is_added(tmp_path):
    own_layer(tmp_path, "90-house.md", "Write British English.", ident="house", version="1")
    assert "Write British English." in [part.text for part in prompt_of(folder=str(tmp_path)).parts]
    assert "Write British English." not in [part.text for part in prompt_of("planner", folder=str(tmp_path)).parts]


def test_a_version_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="no version '77'"):
        chosen(layers(), {"task": "77"})


def test_the_static_prefix_is_byte_identical_over_a_session(folder):
    lay(folder, {"a.py": "x = 1\n"})
    ws = workspace(folder)

    async def go():
        models = [ScriptedModel([call("read", path="a.py"), finish()]) for _ in range(2)]
        first, _ = await carry_out(ws, models[0], "one")
        await carry_out(ws, models[1], "two", session=first.session)
        return [request for model in models for request in model.requests]

    requests = asyncio.run(go())
    assert len({(request.system, str(request.tools)) for request in requests}) == 1
    for shorter, longer in zip(requests, requests[1:], strict=False):
        assert longer.messages[: len(shorter.messages) - 1] == shorter.messages[:-1]


def test_any_request_can_be_made_again_from_the_journal(folder):
    lay(folder, {"a.py": "x = 1\n"})
    ws = workspace(folder)
    model = ScriptedModel([call("read", path="a.py"), call("edit", path="a.py", old="x", new="y"), finish()])
    run, events = asyncio.run(carry_out(ws, model, "go"))
    assert events[0].layers == {layer.id: layer.version for layer in built_in() if "executor" in layer.roles
                                and "standard" in layer.profiles}  # fmt: skip
    for turn, sent in enumerate(model.requests, 1):
        request, started = rebuilt(ws.journal, run.session, run.id, turn)
        assert request == sent
        from redline_agent.frame import request_digest

        assert request_digest(request, started.prompt, started.model) == started.request
    assert load(ws.journal.prompt(events[0].prompt_digest)).digest == events[0].prompt_digest


def test_every_piece_of_context_is_labelled(folder):
    from redline_agent.context.gather import Task

    lay(folder, {"AGENTS.md": "Use tabs.\n", "a.py": "x = 1\ny = 2\n"})
    _, _, model = play(folder, [finish()], Task("do it", file="a.py", lines=(1, 1), diagnostics=("line 1: bad",)))
    blocks = model.requests[0].messages[0].content
    assert [(b.label.source, b.label.detail) for b in blocks] == [
        ("user", "task"), ("redline", ""), ("workspace", "a.py"), ("workspace", "a.py"), ("workspace", "AGENTS.md")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("task", "planned"),
    [
        ("rename load to read", False),
        ("fix the bug in a.py and b.py", False),
        ("change a.py, b.py and c/d.py together", True),
        ("do:\n- one\n- two\n- three", True),
        ("word " * 61, True),
    ],
)
def test_what_is_planned_first_is_a_stated_rule(task, planned):
    assert bool(why_plan(task)) is planned


@pytest.mark.parametrize("name", [name for name in NAMES if name != "summariser"])
def test_every_role_has_the_tool_that_it_ends_with(name):
    assert role(name).ends_with in role(name).tool_names(Capabilities())
    assert set(role(name).tool_names(Capabilities())) <= {tool.name for tool in TOOLS}


def test_an_unknown_role_is_refused():
    with pytest.raises(UsageError, match="Roles: executor"):
        role("boss")
