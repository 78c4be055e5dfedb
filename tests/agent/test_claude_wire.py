"""The real SDK against a loopback server that speaks the Messages API."""

import asyncio
import json

import pytest
from claude_server import ClaudeServer
from kit import call, carry_out, finish, lay, proposed_text, results, workspace
from redline_agent.limits import Limits
from redline_agent.models.anthropic import AnthropicModel

FILES = {"a.py": "def f():\n    return 1\n", "b.py": "x = 1\n"}
EDIT = call("edit", path="a.py", old="return 1", new="return 2", reason="two")

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def play(folder, monkeypatch):
    lay(folder, FILES)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "test-key")

    def go(script, limits=None):
        with ClaudeServer(script) as server:
            monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
            model = AnthropicModel("claude-sonnet-5-5")
            run, events = asyncio.run(carry_out(workspace(folder), model, "return two", limits))
        return run, events, server

    return go


def test_it_reads_edits_gets_one_wrong_and_mends_it(play):
    wrong = call("edit", path="a.py", old="return one", new="return 2")
    run, events, server = play([{"text": "Looking.", **call("read", path="a.py")}, wrong, EDIT, finish("two now")])
    assert (run.state, run.answer) == ("proposed", "two now")
    assert [error for error, _ in results(events)] == [False, True, False, False]
    assert proposed_text(run, "a.py") == "def f():\n    return 2\n"
    last = server.requests[-1]["messages"]
    assert [m["role"] for m in last] == ["user", "assistant", "user", "assistant", "user", "assistant", "user"]
    assert last[4]["content"][0]["is_error"] is True
    assert run.meter.tokens == 4 * (50 + 30 + 10 + 900)
    assert run.meter.cost_usd == pytest.approx(4 * (50 * 2 + 30 * 10 + 10 * 2.5 + 900 * 0.2) / 1e6)


def test_two_calls_at_once_get_their_results_in_one_message(play):
    both = {"calls": [*call("read", path="a.py")["calls"], *call("read", path="b.py")["calls"]]}
    _, _, server = play([both, finish()])
    content = server.requests[1]["messages"][-1]["content"]
    assert [block["type"] for block in content] == ["tool_result", "tool_result"]
    assert [block["tool_use_id"] for block in content] == ["toolu_1_0", "toolu_1_1"]


def test_thinking_goes_back_byte_for_byte(play):
    thought = ["Let me see… ", "ünïcode \u2028", " end"]
    _, _, server = play([{"thinking": thought, "signature": "sig+/=", **call("read", path="a.py")}, finish()])
    block = server.requests[1]["messages"][1]["content"][0]
    assert block == {"type": "thinking", "thinking": "".join(thought), "signature": "sig+/="}


def test_the_stable_prefix_is_cached_and_byte_identical(play):
    _, _, server = play([call("read", path="a.py"), EDIT, finish()])
    prefixes = [json.dumps([r["tools"], r["system"]]) for r in server.requests]
    assert len(set(prefixes)) == 1
    assert server.requests[0]["system"][0]["cache_control"] == {"type": "ephemeral"}
    for request in server.requests:
        marks = json.dumps(request).count("cache_control")
        assert marks == 2
        assert "cache_control" in request["messages"][-1]["content"][-1]
    assert any("test-key" in value for value in server.headers.values()), server.headers


@pytest.mark.parametrize("status", [429, 529, 503])
def test_a_refusal_to_start_waits_as_long_as_it_is_told(play, status):
    run, events, server = play([{"status": status, "headers": {"retry-after": "0.3"}}, finish("done")])
    (retry,) = [e for e in events if e.type == "retrying"]
    assert run.state == "answered"
    assert retry.wait_s >= 0.3
    assert server.seen_s[1] - server.seen_s[0] >= 0.3
    assert str(status) in retry.reason


@pytest.mark.parametrize("after", [1, 3, 5, 8])
def test_a_drop_in_mid_stream_is_sent_again(play, after, monkeypatch):
    monkeypatch.setattr("redline_agent.asking._wait_s", lambda *_: 0.01)
    run, events, server = play([{"text": "Half a", **EDIT, "drop_after": after}, EDIT, finish()])
    assert [e.reason for e in events if e.type == "retrying"] != []
    assert run.state == "proposed"
    assert len(run.proposal.hunks) == 1
    assert server.requests[0] == server.requests[1]


def test_an_error_event_in_mid_stream_is_sent_again(play, monkeypatch):
    monkeypatch.setattr("redline_agent.asking._wait_s", lambda *_: 0.01)
    run, events, _ = play([{"text": "Half", "error_event": "overloaded_error"}, finish("done")])
    assert [e.type for e in events].count("retrying") == 1
    assert (run.state, run.answer) == ("answered", "done")


def test_a_reply_cut_in_mid_call_is_not_carried_out(play):
    cut = {"calls": [{"tool": "delete", "raw": '{"path": "a.p'}], "stop": "max_tokens"}
    run, events, server = play([cut, finish("smaller")])
    assert [e.call.name for e in events if e.type == "tool_started"] == ["finish"]
    assert run.proposal is None
    assert "cut off" in server.requests[1]["messages"][-1]["content"][-1]["text"]
    assert len(server.requests[1]["messages"]) == 1


def test_malformed_arguments_go_back_as_an_error(play):
    run, events, _ = play([{"calls": [{"tool": "read", "raw": '{"path": '}]}, finish()])
    assert "not valid JSON" in results(events)[0][1]
    assert run.state == "answered"


def test_a_refusal_says_why(play):
    run, _, _ = play([{"text": "", "stop": "refusal", "why": "Not that."}])
    assert (run.state, run.answer) == ("refused", "Not that.")


def test_a_pause_is_resent(play):
    run, _, server = play([{"text": "One moment.", "stop": "pause_turn"}, finish("done")])
    assert run.state == "answered"
    assert server.requests[1]["messages"][-1] == {
        "role": "assistant",
        "content": [{"type": "text", "text": "One moment.", "cache_control": {"type": "ephemeral"}}],
    }


def test_a_full_window_ends_with_what_to_do(play):
    run, _, _ = play([{"text": "", "stop": "model_context_window_exceeded"}])
    assert run.state == "failed"
    assert "Start a new session" in run.answer


def test_a_wrong_key_is_told_and_not_tried_again(play):
    run, events, server = play([{"status": 401, "error": "authentication_error", "message": "invalid x-api-key"}])
    assert run.state == "failed"
    assert "ANTHROPIC_API_KEY" in run.answer
    assert len(server.requests) == 1
    assert not [e for e in events if e.type == "retrying"]


def test_no_key_at_all_is_told(folder, monkeypatch):
    run, _ = asyncio.run(carry_out(workspace(folder), AnthropicModel("claude-sonnet-5-5"), "go"))
    assert run.state == "failed"
    assert "Set ANTHROPIC_API_KEY" in run.answer


def test_nobody_listening_is_told(folder, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("redline_agent.asking._wait_s", lambda *_: 0.0)
    monkeypatch.setattr("redline_agent.asking.RETRIES_MAX", 1)
    run, _ = asyncio.run(carry_out(workspace(folder), AnthropicModel("claude-sonnet-5-5"), "go"))
    assert run.state == "failed"
    assert "cannot be reached" in run.answer


def test_cancel_in_mid_reply_leaves_a_valid_journal(folder, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    with ClaudeServer([{"status": 529, "headers": {"retry-after": "30"}}] * 3) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        ws = workspace(folder)

        async def go():
            task = asyncio.create_task(carry_out(ws, AnthropicModel("claude-sonnet-5-5"), "go", Limits()))
            while not server.requests:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(go())
    (row,) = ws.journal.runs()
    assert row.state == "cancelled"
