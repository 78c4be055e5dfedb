"""What stands for the part of a conversation that was folded: goal, decisions, files, open questions, next step.

Facts that the journal has (the user's words, files and why, what was refused) are written by rule, so they are certain;
a model that can adds the rest in its own words. Everything else here is pure.
"""

from __future__ import annotations

import json
from typing import Any, cast

from redline_agent.context.view import Conversation, Entry, Exchange
from redline_agent.messages import USER, Label, Text, ToolCall
from redline_agent.safety.labels import Taint
from redline_agent.text import clip, one_line

DETAIL = "summary of the conversation so far"
_WORDS_MAX, _FILES_MAX, _LINES_MAX = 12, 60, 8
_RESULT_CHARS, _TRANSCRIPT_CHARS = 600, 120_000
_EDITS = frozenset(
    {
        "edit",
        "write",
        "move",
        "delete",
        "replace_symbol",
        "rename_symbol",
        "organise_imports",
        "fix_lint",
        "str_replace_based_edit_tool",
        "apply_patch",
        "extract",
        "inline",
        "move_symbol",
        "quick_fix",
    }
)


def folded(conversation: Conversation, keep: int) -> list[Entry]:
    """Return the entries that a fold takes out."""
    return conversation.entries[: conversation.cut(keep)]


def by_rule(conversation: Conversation, keep: int) -> str:
    """Return the summary that needs no model, of what a fold takes out."""
    entries = folded(conversation, keep)
    earlier = conversation.summary.text if conversation.summary else ""
    goal = conversation.task[0].text if conversation.task else ""
    words = [t.text for e in entries if not isinstance(e, Exchange) for t in e if t.label.source == USER.source]
    exchanges = [entry for entry in entries if isinstance(entry, Exchange)]
    said = [one_line(exchange.reply.text, 200) for exchange in exchanges if exchange.reply.text.strip()]
    answered = [(call, exchange.results[call.id]) for exchange in exchanges for call in exchange.calls
                if call.id in exchange.results]  # fmt: skip
    refused = [f"{call.name}: {one_line(result.text, 160)}" for call, result in answered if result.error]
    parts = [
        ("Goal", [one_line(goal, 400)]),
        ("The user's words", [one_line(each, 400) for each in words[-_WORDS_MAX:]]),
        ("Decisions", said[-_LINES_MAX:]),
        ("Files", _files(exchanges)),
        ("Refused", refused[-_LINES_MAX:]),
        ("Next step", ["go on from the newest messages"]),
    ]
    text = "\n".join(f"{name}:\n" + "\n".join(f"- {line}" for line in lines) for name, lines in parts if lines)
    return clip(f"{text}\nBefore that:\n{clip(earlier, 4_000)}", 12_000) if earlier else clip(text, 12_000)


def _files(exchanges: list[Exchange]) -> list[str]:
    """Each file that was worked on, and why; the newest last."""
    found: dict[str, str] = {}
    for exchange in exchanges:
        for call in exchange.calls:
            arguments = _object(call)
            path = str(arguments.get("path", ""))
            done = call.id in exchange.results and not exchange.results[call.id].error
            if not path or not done:
                continue
            if call.name in _EDITS:
                found.pop(path, None)
                found[path] = f"{path}: {call.name}: {one_line(str(arguments.get('reason', '') or 'done'), 160)}"
            else:
                found.setdefault(path, f"{path}: seen by {call.name}")
    return list(found.values())[-_FILES_MAX:]


def _object(call: ToolCall) -> dict[str, Any]:
    try:
        value = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def transcript(conversation: Conversation, keep: int, chars_max: int = _TRANSCRIPT_CHARS) -> str:
    """Return what a fold takes out, as text for the summariser, at most `chars_max` long."""
    lines: list[str] = []
    if conversation.summary:
        lines.append(f"Earlier summary:\n{conversation.summary.text}")
    for entry in folded(conversation, keep):
        if isinstance(entry, Exchange):
            if entry.reply.text.strip():
                lines.append(f"agent: {clip(entry.reply.text, _RESULT_CHARS * 2)}")
            for call in entry.calls:
                lines.append(f"call {call.name}: {clip(call.arguments, _RESULT_CHARS)}")
                if call.id in entry.results:
                    lines.append(f"result: {clip(entry.results[call.id].text, _RESULT_CHARS)}")
        else:
            lines += [f"{block.label.source}: {clip(block.text, _RESULT_CHARS * 2)}" for block in entry]
    return clip("\n".join(lines), chars_max)


def as_text(summary: str, taint: Taint) -> Text:
    """Return the summary as the view shows it: its label is the join of what it was made of."""
    label = Label(source="workspace" if taint.tainted else "redline", detail=DETAIL, secret=taint.secret)
    return Text(text=f"What came before was folded into this:\n{summary}", label=label)
