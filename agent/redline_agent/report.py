"""Reports for people: a session, or a campaign, as one HTML file without scripts, links or anything to fetch.

Everything in it is text from a model, a project or a person, and is escaped.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from redline_agent.decisions import proposals
from redline_agent.errors import UsageError
from redline_agent.events import Durable, Failed, Planned, ReplyReceived, RunEnded, RunStarted, Said, ToolFinished
from redline_agent.history import usage
from redline_agent.journal import Journal
from redline_agent.messages import Text
from redline_agent.text import clip, escape_hidden, one_line, plural
from redline_agent.workspace.proposal import FileOperation, Proposal

if TYPE_CHECKING:
    from redline_agent.jobs.campaign import Campaign
    from redline_agent.jobs.store import Row

TEXT_CHARS_MAX = 20_000
PROPOSALS_MAX = 1_000
"""Proposals that a campaign's report shows whole."""


def write_session(path: Path, journal: Journal, session: str) -> None:
    """Write the report of a session; raises UsageError when there is none, or the file cannot be written."""
    events = journal.of_session(session)
    if not events:
        raise UsageError(f"There is no session {session!r} in this folder.", hint="`redline sessions` lists them.")
    used = {each.name: each for each in usage(journal, session).runs}
    runs: dict[str, list[Durable]] = {}
    for run, event in events:
        runs.setdefault(run, []).append(event)
    parts: list[str] = []
    for run, its in runs.items():
        parts += _run(run, its, proposals(journal, run).get(run))
        if run in used:
            one = used[run]
            cost = "at an unknown price" if one.cost_usd is None else f"${one.cost_usd:.4f}"
            lost = f", {one.lost} sent and never answered" if one.lost else ""
            parts.append(
                f"<p class=meta>{plural(one.requests, 'request')}{lost}; {one.input_tokens:,} tokens read"
                f" ({one.cached_share:.0%} from the cache), {one.output_tokens:,} written; {cost}</p>"
            )
    _write(path, f"Session {session}", parts)


def write_campaign(path: Path, campaign: Campaign) -> None:
    """Write the report of a campaign: the table of outcomes, and what each target proposes."""
    rows = campaign.rows()
    plan = campaign.plan
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.state] = counts.get(row.state, 0) + 1
    total = sum(row.cost_usd for row in rows)
    said = ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items()))
    used = f"{sum(row.requests for row in rows):,} requests, {sum(row.tokens for row in rows):,} tokens, ${total:.4f}"
    parts = [
        f"<pre>{_text(plan.task)}</pre>",
        f"<p>{len(rows):,} targets: {said}. {used}, on {_text(campaign.model)}.</p>",
        "<table><tr><th>target<th>outcome<th class=n>tokens<th class=n>cost<th class=n>s<th></tr>",
        *(_row(row) for row in rows),
        "</table>",
    ]
    proposed = [row for row in rows if row.state == "proposed"]
    for row in proposed[:PROPOSALS_MAX]:
        parts.append(f"<h2>{_text(row.target.label)}</h2>")
        parts += _proposal(campaign.proposal(row))
    if len(proposed) > PROPOSALS_MAX:
        parts.append(f"<p>And {len(proposed) - PROPOSALS_MAX:,} more proposals, which are not shown.</p>")
    _write(path, f"Campaign {plan.ident}", parts)


def _row(row: Row) -> str:
    bad = " class=bad" if row.state in ("failed", "over budget") else ""
    why = _text(one_line(row.why or row.delivered, 300))
    return (
        f"<tr{bad}><td>{_text(row.target.label)}<td>{row.state}<td class=n>{row.tokens:,}"
        f"<td class=n>${row.cost_usd:.4f}<td class=n>{row.seconds:.1f}<td>{why}</tr>"
    )


def _run(run: str, events: Iterable[Durable], proposal: Proposal | None) -> list[str]:
    parts: list[str] = []
    steps: list[str] = []
    for event in events:
        match event:
            case RunStarted():
                parts.append(f"<h2>{_text(one_line(event.instruction, 120))}</h2>")
                parts.append(f"<p class=meta>{_text(run)} on {_text(event.model)}</p>")
                if "\n" in event.instruction or len(event.instruction) > 120:
                    parts.append(f"<pre>{_text(event.instruction)}</pre>")
            case Planned():
                items = "".join(f"<li>{_text(f'{step.what} ({step.state})')}" for step in event.steps)
                steps.append(f"<ol>{items}</ol>")
            case ReplyReceived():
                words = "\n".join(block.text for block in event.reply.content if isinstance(block, Text)).strip()
                steps += [f"<pre>{_text(words)}</pre>"] if words else []
            case ToolFinished():
                kind = "bad" if event.result.error else "ok"
                steps.append(f"<div class={kind}>{'✗' if event.result.error else '✓'} {_text(event.summary)}</div>")
            case Said():
                steps.append(f"<pre>{_text(event.text.text)}</pre>")
            case Failed():
                steps.append(f"<div class=bad>{_text(event.what)}: {_text(event.message)}</div>")
            case RunEnded():
                parts.append(f"<p><b>{event.state}</b>. {_text(event.answer)}</p>")
            case _:
                pass
    if steps:
        parts += ["<details><summary>What it did</summary>", *steps, "</details>"]
    return parts + (_proposal(proposal) if proposal is not None else [])


def _proposal(proposal: Proposal) -> list[str]:
    parts: list[str] = []
    for review in proposal.files.values():
        parts.append(f"<h3>{_text(review.path)}</h3>")
        for hunk in review.hunks:
            badge = f" <span class=bad>{_text(hunk.badge)}</span>" if hunk.badge else ""
            where = f"{hunk.id}, line {hunk.start + 1}, {hunk.state}: {hunk.reason}"
            parts.append(f"<div class=meta>{_text(where)}{badge}</div>")
            lines = [f"<span class=del>-{_text(line)}</span>" for line in _bare(hunk.old)]
            lines += [f"<span class=add>+{_text(line)}</span>" for line in _bare(hunk.new)]
            parts.append(f"<pre>{''.join(lines)}</pre>")
    parts += [_operation(op) for op in proposal.operations]
    for item in proposal.proof_now:
        kind = "dunno" if item.ok is None or item.state != "current" else "ok" if item.ok else "bad"
        where = f"{item.path}: " if item.path else ""
        parts.append(f"<div class={kind}>{_text(f'{where}{item.check} ({item.state}): {item.detail}')}</div>")
    return parts


def _operation(op: FileOperation) -> str:
    state = _text(f"{op.id}, {op.state}: {op.reason}")
    head = f"<h3>{_text(op.told)}</h3><div class=meta>{state}</div>"
    if op.kind != "create" or op.file is None:
        return head
    shown = [f"<span class=add>+{_text(line)}</span>" for line in op.file.text.splitlines()]
    return f"{head}<pre>{''.join(shown)}</pre>"


def _bare(lines: Iterable[str]) -> list[str]:
    return [line.rstrip("\r\n") for line in lines]


def _text(text: str) -> str:
    return escape(escape_hidden(clip(text, TEXT_CHARS_MAX)))


def _write(path: Path, title: str, parts: list[str]) -> None:
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    style = files("redline_agent").joinpath("report.css").read_text("utf-8")
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    page = (
        f'<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=Content-Security-Policy content="{policy}">'
        f"<meta name=viewport content='width=device-width'><title>Redline: {_text(title)}</title><style>{style}</style>"
        f"<h1>{_text(title)}</h1><p class=meta>Redline, {when}</p>{''.join(parts)}</html>\n"
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=".report-")
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
            file.write(page)
        try:
            Path(beside).replace(path)
        except OSError:
            with suppress(OSError):
                Path(beside).unlink()
            raise
    except OSError as error:
        raise UsageError(f"The report {path} cannot be written: {error}.") from error
