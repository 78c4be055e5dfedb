import asyncio
import json

from kit import call, carry_out, finish, lay, play, workspace
from redline_agent.context.tokens import count
from redline_agent.models.scripted import ScriptedModel
from redline_agent.prompts.builder import build, layers, parse
from redline_agent.tools.registry import TOOLS, specs

FIXED_TOKENS_MAX = 2_500


def fixed_tokens():
    system = "\n\n".join(part.text for part in build(specs(), {"folder": "project", "date": "2026-01-01"}).parts)
    tools = [{"name": t.name, "description": t.description, "input_schema": t.schema} for t in specs()]
    return count(system) + count(json.dumps(tools, separators=(",", ":"), ensure_ascii=False))


def test_the_fixed_prompt_fits_its_budget():
    assert fixed_tokens() <= FIXED_TOKENS_MAX


def test_tokens_are_counted_offline_and_exactly():
    assert count("hello world") == 2
    assert count("def f():\n    return 1\n") == 8


def test_every_tool_has_its_text_and_a_closed_schema():
    for tool in TOOLS:
        assert tool.description()
        schema = tool.schema()
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) <= set(schema["properties"])


def test_layers_have_versions_and_static_ones_come_first():
    assert [layer.id for layer in layers()] == ["identity", "task", "tools", "safety", "output", "workspace"]
    parts = build(specs(), {"folder": "x", "date": "y"}).parts
    assert [part.static for part in parts] == sorted((part.static for part in parts), reverse=True)


def test_a_layer_without_front_matter_is_refused():
    import pytest
    from redline_agent.errors import ConfigError

    for source in ("no front matter", "---\nid: x\n---\ntext", "---\nid: x\nversion: 1\ntier: other\n---\ntext"):
        with pytest.raises(ConfigError):
            parse(source, "x.md")


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


def test_the_digest_and_each_layers_version_are_in_the_journal(folder):
    _, events, _ = play(folder, [finish()])
    assert events[0].layers == {layer.id: layer.version for layer in layers()}
    assert len(events[0].prompt_digest) == 16


def test_every_piece_of_context_is_labelled(folder):
    from redline_agent.context.gather import Task

    lay(folder, {"AGENTS.md": "Use tabs.\n", "a.py": "x = 1\ny = 2\n"})
    _, _, model = play(folder, [finish()], Task("do it", file="a.py", lines=(1, 1), diagnostics=("line 1: bad",)))
    blocks = model.requests[0].messages[0].content
    assert [(b.label.source, b.label.detail) for b in blocks] == [
        ("user", "task"), ("redline", ""), ("workspace", "a.py"), ("workspace", "a.py"), ("workspace", "AGENTS.md")
    ]  # fmt: skip
