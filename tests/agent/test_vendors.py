"""What agent runtimes learned the hard way, for each vendor that it applies to: the real SDK against its own wire format
on loopback. docs/models.md has the table; a row there names a test here.
"""

import asyncio
import json

import pytest
from kit import call, carry_out, finish, lay, proposed_text, results, workspace
from redline_agent.config import Config
from redline_agent.events import Compacted, ModelChanged, Retrying
from redline_agent.models.catalog import make_model
from redline_agent.models.pool import Pool
from wires import USAGE, WIRES, Server

FILES = {"a.py": "def f():\n    return 1\n", "b.py": "x = 1\n"}
EDIT = call("edit", path="a.py", old="return 1", new="return 2")
REWRITE = call("replace_symbol", path="a.py", symbol="f", code="def f():\n    return 2\n")
READ = call("read", path="a.py")
QUIET = Config(validate="never", plan="never")

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(params=WIRES, ids=lambda wire: f"{wire.name}{'' if wire.native else '-json'}")
def wire(request):
    return request.param


@pytest.fixture
def play(wire, folder, monkeypatch):
    lay(folder, FILES)
    monkeypatch.setenv(wire.key, "test-key")
    monkeypatch.setattr("redline_agent.asking._wait_s", lambda *_: 0.0)

    def go(script, config=QUIET):
        with Server(wire, script) as server:
            monkeypatch.setenv(wire.base, server.url)
            model = make_model(f"{wire.name}:{wire.model}")
            run, events = asyncio.run(carry_out(workspace(folder), model, "return two", config=config))
        return run, events, server

    return go


def edit_for(wire):
    return EDIT if wire.native else REWRITE


def retries(events):
    return [event for event in events if isinstance(event, Retrying)]


def test_it_reads_edits_and_ends(play, wire):
    run, events, server = play([{"text": "Looking.", **READ}, edit_for(wire), finish("two now")])
    assert (run.state, run.answer) == ("proposed", "two now")
    assert proposed_text(run, "a.py") == "def f():\n    return 2\n"
    assert not any(error for error, _ in results(events))
    assert "version" in server.wire.results(server.requests[1])[0][1]


def test_usage_counts_what_was_cached_once(play, wire):
    run, events, _ = play([finish()])
    if wire.name == "anthropic":
        assert run.meter.tokens == 50 + 30 + 10 + 900
        return
    (reply,) = [event.reply for event in events if event.type == "reply"]
    assert reply.usage.cache_read_tokens == USAGE["cached"]
    assert run.meter.tokens == USAGE["input"] + USAGE["output"]


def test_the_fixed_prefix_is_the_same_bytes_in_every_request(play, wire):
    _, _, server = play([READ, edit_for(wire), finish()])
    assert len({wire.fixed(request) for request in server.requests}) == 1


def test_a_call_cut_off_by_a_crash_gets_an_error_result(wire, folder, monkeypatch):
    """Lesson 1: the API would refuse the whole history otherwise."""
    lay(folder, FILES)
    monkeypatch.setenv(wire.key, "k")
    ws = workspace(folder)

    async def go(url, script_left):
        monkeypatch.setenv(wire.base, url)
        model = make_model(f"{wire.name}:{wire.model}")
        run = ws.new_run(__import__("redline_agent.context.gather", fromlist=["Task"]).Task("go"), model, QUIET)
        async for event in ws.carry_out(run, model):
            if event.type == "reply":
                break
        await model.close()
        other = make_model(f"{wire.name}:{wire.model}")
        return await carry_out(ws, other, "and now?", session=run.session, config=QUIET)

    with Server(wire, [READ, finish("done")]) as server:
        run, _ = asyncio.run(go(server.url, None))
    assert run.answer == "done"
    assert "not carried out" in json.dumps(server.requests[-1])


def test_parallel_calls_are_answered_together_in_their_order(play, wire):
    """Lesson 3."""
    if not wire.native:
        pytest.skip("the JSON dialect makes one call a reply")
    both = {"calls": [*READ["calls"], *call("read", path="b.py")["calls"]]}
    _, _, server = play([both, finish()])
    answered = wire.results(server.requests[1])
    assert [ident for ident, _, _ in answered] == wire.calls(server.requests[1])
    assert ["a.py" in text for _, text, _ in answered] == [True, False]


def test_thinking_goes_back_byte_for_byte(play, wire):
    """Lesson 4."""
    if not wire.native:
        pytest.skip("the JSON dialect has no thinking")
    _, _, server = play([{"thought": "q83vASNF", **READ}, finish()])
    assert wire.thoughts(server.requests[1]) == ["sig+/=" if wire.name == "anthropic" else "q83vASNF"]


def test_another_models_thinking_is_left_out(play, wire, folder, monkeypatch):
    """Lesson 4: switching the model in mid-session drops its signatures, and nothing else."""
    if not wire.native or wire.name == "compatible":
        pytest.skip("has no signatures")
    with Server(wire, [{"thought": "q83vASNF", **READ}, finish("one"), finish("two")]) as server:
        monkeypatch.setenv(wire.base, server.url)
        ws = workspace(folder)

        async def go():
            first, _ = await carry_out(ws, make_model(f"{wire.name}:{wire.model}"), "one", config=QUIET)
            other = make_model(f"{wire.name}:{wire.model}-other")
            await carry_out(ws, other, "two", session=first.session, config=QUIET)

        asyncio.run(go())
    assert wire.thoughts(server.requests[1])
    assert not wire.thoughts(server.requests[2])
    assert wire.calls(server.requests[2])


def test_a_call_cut_at_the_length_limit_is_never_run(play, wire):
    """Lesson 6."""
    cut = {"calls": [{"tool": "delete", "args": {"path": "a.py"}}], "stop": "max_tokens"}
    run, events, server = play([cut, finish("gave up")])
    assert [e.call.name for e in events if e.type == "tool_started"] == ["finish"]
    assert "cut off" in json.dumps(server.requests[1])
    assert run.proposal is None


def test_replies_that_are_always_cut_end_the_run(play):
    """Lesson 6: the repeats are capped."""
    run, _, server = play([{"text": "on and on", "stop": "max_tokens"}] * 6)
    assert (run.state, len(server.requests)) == ("failed", 3)


def test_a_refusal_ends_cleanly(play, wire):
    """Lesson 7."""
    run, _, server = play([{"text": "", "stop": "refusal", "why": "I may not."}])
    assert (run.state, len(server.requests)) == ("refused", 1)
    assert run.answer


def test_a_refusal_goes_on_with_the_second_model_where_one_is_set(play, folder, tmp_path):
    script = tmp_path / "second.json"
    script.write_text(json.dumps([finish("the second did it")]))
    run, events, _ = play(
        [{"text": "", "stop": "refusal", "why": "No."}],
        Config(validate="never", plan="never", fallback=f"scripted:{script}"),
    )
    assert (run.state, run.answer) == ("answered", "the second did it")
    assert run.frame.model.name == f"scripted:{script}"
    ws = workspace(folder)
    assert [event.model for event in ws.journal.of_run(run.id) if isinstance(event, ModelChanged)] == [
        f"scripted:{script}"
    ]


SUMMARY = [{"text": "Goal: to return two. Next step: go on."}]
OVERFLOWS = {
    "anthropic": {"status": 400, "code": "invalid_request_error", "message": "prompt is too long: 210000 tokens"},
    "openai": {"status": 400, "code": "context_length_exceeded", "message": "Your input exceeds the context window"},
    "gemini": {
        "status": 400,
        "message": "The input token count (1200293) exceeds the maximum number of tokens allowed",
    },
    "compatible": {
        "status": 400,
        "code": "exceed_context_size_error",
        "message": "the request exceeds the context size",
    },
}


def test_a_refusal_of_the_window_compacts_and_tries_once(play, wire, folder):
    """Lessons 5 and 7."""
    lay(folder, {"big.py": "".join(f"line_{n} = 'words that fill the line up'\n" for n in range(900))})
    script = [call("read", path="big.py", start=n) for n in range(1, 8)]
    run, events, server = play([*script, OVERFLOWS[wire.name], *SUMMARY[: wire.native], finish("done")])
    assert (run.state, run.answer) == ("answered", "done")
    assert any(isinstance(event, Compacted) for event in events)
    assert len(json.dumps(server.requests[-1])) < len(json.dumps(server.requests[len(script)])) * 0.7


def test_the_window_can_be_exceeded_inside_the_stream(play, wire, folder):
    """Lesson 7."""
    if wire.name not in ("anthropic", "openai"):
        pytest.skip("says so before the stream")
    lay(folder, {"big.py": "".join(f"line_{n} = 'words that fill the line up'\n" for n in range(900))})
    script = [call("read", path="big.py", start=n) for n in range(1, 12)]
    run, events, _ = play([*script, {"text": "", "stop": "context_exceeded"}, finish("done")])
    assert run.answer == "done"
    assert sum(isinstance(event, Compacted) for event in events) == 1


@pytest.mark.parametrize("status", [429, 503, 529])
def test_overloaded_is_tried_again_after_the_wait_that_it_asks_for(wire, folder, monkeypatch, status):
    """Lesson 8."""
    if wire.name == "gemini" and status == 529:
        pytest.skip("Anthropic's own")
    lay(folder, FILES)
    monkeypatch.setenv(wire.key, "k")
    with Server(wire, [{"status": status, "message": "busy", "retry_s": 0.05}, finish()]) as server:
        monkeypatch.setenv(wire.base, server.url)
        model = make_model(f"{wire.name}:{wire.model}")
        run, events = asyncio.run(carry_out(workspace(folder), model, "go", config=QUIET))
    (retry,) = retries(events)
    assert run.state == "answered"
    assert 0.05 <= retry.wait_s < 0.1


@pytest.mark.parametrize("how", ["cut", "clean"])
def test_a_drop_in_mid_stream_is_sent_again_and_nothing_of_it_is_run(play, wire, how):
    """Lesson 8: another case than a refusal to start. A clean end without a reason is a drop too."""
    run, events, server = play([{"text": "Deleting.", **call("delete", path="a.py"), "drop": how}, finish("whole")])
    assert (run.state, run.answer, len(server.requests)) == ("answered", "whole", 2)
    assert "broke" in retries(events)[0].reason
    assert server.requests[0] == server.requests[1]


def test_an_error_inside_the_stream_is_sent_again(play):
    """Lesson 8."""
    run, events, _ = play([{"text": "Let me see.", "fail": "server overloaded"}, finish("whole")])
    assert run.answer == "whole"
    assert len(retries(events)) == 1


def test_what_is_no_stream_at_all_is_sent_again(play):
    run, events, _ = play([{"body": "<html>busy</html>"}, finish("whole")])
    assert run.answer == "whole"
    assert len(retries(events)) == 1


def test_a_malformed_argument_goes_back_with_the_complaint_and_an_example(play, wire):
    """Lesson 9."""
    if wire.name == "gemini":
        wrong = {"calls": [{"tool": "read", "args": {"path": 3}}]}
    else:
        wrong = {"calls": [{"tool": "read", "raw": '{"tool": "read", "path": 3}' if not wire.native else '{"path": '}]}
    run, _, server = play([wrong, finish("ok")])
    told = json.dumps(server.requests[1])
    assert run.answer == "ok"
    assert "read" in told
    assert "An example" in told


def test_a_reply_that_broke_off_was_paid_for(play, wire):
    """Lesson 10: where the vendor says what it used before the end."""
    if wire.name != "anthropic":
        pytest.skip("says what it used at the end alone")
    run, events, _ = play([{"text": "Half a reply", "drop": "cut"}, finish()])
    assert retries(events)[0].usage.total > 0
    assert run.meter.tokens > 50 + 30 + 10 + 900


def test_a_repeated_call_is_compared_by_its_arguments(play, wire):
    """Lesson 13."""
    if not wire.native:
        pytest.skip("as the native dialect")
    run, _, server = play([READ] * 9)
    assert (run.limit, len(server.requests)) == ("identical_calls", 5)
    run, _, _ = play([*(call("read", path="a.py", start=n) for n in range(1, 8)), finish("fine")])
    assert run.answer == "fine"


def test_a_wrong_key_and_no_key_say_what_to_do(play, wire, monkeypatch, folder):
    run, _, _ = play([{"status": 401, "message": "API key not valid", "code": "invalid_api_key"}])
    assert run.state == "failed"
    assert wire.key in run.answer
    if wire.name == "compatible":
        return  # a local server needs none
    monkeypatch.delenv(wire.key)
    run, _ = asyncio.run(carry_out(workspace(folder), make_model(f"{wire.name}:{wire.model}"), "go", config=QUIET))
    assert run.state == "failed"
    assert "no key" in run.answer


def test_nobody_listening_is_told(wire, folder, monkeypatch):
    lay(folder, FILES)
    monkeypatch.setenv(wire.key, "k")
    monkeypatch.setenv(wire.base, "http://127.0.0.1:9/v1")
    monkeypatch.setattr("redline_agent.asking._wait_s", lambda *_: 0.0)
    run, events = asyncio.run(carry_out(workspace(folder), make_model(f"{wire.name}:{wire.model}"), "go", config=QUIET))
    assert run.state == "failed"
    assert "cannot be reached" in run.answer
    assert len(retries(events)) == 6


def test_the_schemas_keep_to_the_vendors_rules(play, wire):
    """Lesson 12: Gemini refuses some keywords, OpenAI's strict mode wants everything required and closed."""
    _, _, server = play([finish()])
    request = server.requests[0]
    if wire.name == "gemini":
        told = json.dumps(request["tools"])
        assert not [
            word for word in ("exclusiveMinimum", "uniqueItems", "additionalProperties", "$ref") if word in told
        ]
    if wire.name == "openai":
        for tool in request["tools"]:
            check_strict(tool["parameters"])
            assert tool["strict"] is True
    if not wire.native:
        for each in request["response_format"]["json_schema"]["schema"]["anyOf"]:
            check_strict(each)


def check_strict(schema):
    if schema.get("type") == "object":
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) == set(schema["properties"])
        for each in schema["properties"].values():
            check_strict(each)
    if "items" in schema:
        check_strict(schema["items"])


def test_optional_arguments_that_come_as_null_are_left_out(play, wire):
    if wire.name != "openai":
        pytest.skip("strict mode's own")
    run, events, _ = play(
        [{"calls": [{"tool": "read", "args": {"path": "a.py", "start": None, "end": None}}]}, finish()]
    )
    assert run.state == "answered"
    assert not any(error for error, _ in results(events))


def test_a_pool_makes_each_model_once():
    pool = Pool()
    assert pool.get("builtin") is pool.get("builtin")
