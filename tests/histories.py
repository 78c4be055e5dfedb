"""Random histories of sessions, as the loop writes them, cut off anywhere."""

from hypothesis import strategies as st
from redline_agent.events import ReplyReceived, RunStarted, Said, ToolFinished
from redline_agent.messages import MODEL, REDLINE, USER, Reply, Text, Thinking, ToolCall, ToolResult

ME = "provider:me"


@st.composite
def histories(draw):
    """A session's events as the loop writes them, cut off anywhere."""
    events, calls = [], 0
    for run in range(draw(st.integers(1, 3))):
        content = (Text(text=f"task {run}", label=USER),)
        events.append(RunStarted(instruction=f"task {run}", content=content, model=ME, prompt_digest="d", layers={}))
        for turn in range(draw(st.integers(0, 4))):
            made = [ToolCall(id=f"c{calls + n}", name="read", arguments="{}") for n in range(draw(st.integers(0, 3)))]
            calls += len(made)
            blocks = []
            if draw(st.booleans()):
                model = draw(st.sampled_from([ME, "provider:other"]))
                blocks.append(
                    Thinking(model=model, data={"type": "thinking", "thinking": "…\u2028", "signature": f"s{calls}"})
                )
            blocks.append(Text(text=draw(st.sampled_from(["", "words", " "])), label=MODEL))
            stop = draw(st.sampled_from(["tool_use", "end_turn", "max_tokens", "refusal", "pause_turn"]))
            events.append(ReplyReceived(turn=turn, reply=Reply(model=ME, content=(*blocks, *made), stop=stop)))
            if stop in ("tool_use", "end_turn", "pause_turn"):
                done = draw(st.integers(0, len(made)))
                events += [
                    ToolFinished(result=ToolResult(call_id=c.id, text="r", label=REDLINE), summary="")
                    for c in made[:done]
                ]
                if done < len(made):
                    break
            if draw(st.booleans()):
                events.append(Said(text=Text(text="steer", label=USER)))
    return events[: draw(st.integers(1, len(events)))]
