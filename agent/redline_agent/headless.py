"""Headless runs: the same runtime without an editor. Shows events, reviews hunks in the terminal, writes files."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text as RichText

from redline_agent.children import nobody_there
from redline_agent.config import journal_path, load_config, state_dir
from redline_agent.context.gather import Task
from redline_agent.context.index import ANSWER_S_MAX, Index
from redline_agent.deciding import accept, bulk, reject
from redline_agent.errors import RedlineError, UsageError
from redline_agent.events import Event, Failed, Retrying, RunEnded, TextDelta, ToolFinished, ToolStarted, Working
from redline_agent.journal import Journal
from redline_agent.models.pool import Pool
from redline_agent.safety.approvals import nobody
from redline_agent.safety.keeper import Keeper
from redline_agent.session import Run, Workspace
from redline_agent.terminal import ask, asker, words_from
from redline_agent.text import escape_hidden, one_line, plural
from redline_agent.workspace.filereview import OPEN, Hunk
from redline_agent.workspace.overlay import Overlay
from redline_agent.workspace.proposal import ACCEPTED, FileOperation, Proposal

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_LIMIT, EXIT_CANCELLED = 0, 1, 2, 3, 130
_EXITS = {"proposed": EXIT_OK, "answered": EXIT_OK, "limit": EXIT_LIMIT, "cancelled": EXIT_CANCELLED}


@dataclass(frozen=True, slots=True)
class Wish:
    """What to do with a proposal: review it, accept it, or only check that there is none."""

    review: bool = False
    accept: bool = False
    check: bool = False
    as_json: bool = False


def open_workspace(root: Path) -> Workspace:
    """Return the workspace of a folder with its journal opened and repaired."""
    root = root.resolve()
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder.")
    journal = Journal(journal_path(state_dir(), root))
    journal.close_open_runs()
    return Workspace(root, journal, index=Index(root))


async def found_for(workspace: Workspace, task: str, limit: int) -> list[dict[str, Any]]:
    """Return the files that the index finds for a task, best first, as JSON values."""
    index = workspace.index
    if index is None or not task.strip():
        raise UsageError("The task is empty.")
    overlay = Overlay(workspace.resolver)
    keeper = Keeper(workspace.rules, workspace.resolver.root)
    try:
        found = await index.find(Task(task), overlay, keeper, wait_s=ANSWER_S_MAX, limit=limit)
    finally:
        await index.close()
    masked = workspace.masks.masked
    return [
        {"path": each.path, "score": each.score, "tokens": each.tokens, "why": each.why,
         "symbols": [[line, masked(text)] for line, text in each.symbols]}
        for each in found
    ]  # fmt: skip


async def run_task(workspace: Workspace, run: Run, pool: Pool, wish: Wish, console: Console) -> int:
    """Carry a run out to its end and do what was wished with the proposal; returns the exit code."""
    model = pool.get(run.model)
    ended: RunEnded | None = None
    show = _json_line if wish.as_json else _shower(console)
    somebody = sys.stdin.isatty() and not wish.as_json and not wish.accept
    leave, words = (asker(console), words_from(console)) if somebody else (nobody, nobody_there)
    try:
        async for event in workspace.carry_out(run, model, leave, words, pool):
            if isinstance(event, RunEnded):
                ended = event
            else:
                show(event)
    finally:
        await model.close()
        await pool.close()
        await workspace.close()
    assert ended is not None  # noqa: S101  carry_out always ends in one
    code = _EXITS.get(ended.state, EXIT_FAILED)
    decided: dict[str, str] = {}
    problem = ""
    try:
        workspace.revised(run)
        decided = _decide(workspace, run, wish, console) if run.proposal else {}
        if run.proposal and wish.review and sys.stdin.isatty():
            await prove_part(workspace, run.proposal, console)
    except RedlineError as error:
        code, problem = EXIT_FAILED, str(error)
    if wish.check and run.proposal:
        code = EXIT_FAILED
    if wish.as_json:
        result = {"decided": decided, "error": problem or None, "exitCode": code}
        _print_json({"type": "outcome", **_outcome(run, ended), **result})
    else:
        _closing(console, run, ended, wish)
    if problem:
        sys.stderr.write(f"redline: {problem}\n")
    return code


def _decide(workspace: Workspace, run: Run, wish: Wish, console: Console) -> dict[str, str]:
    proposal = run.proposal
    assert proposal is not None  # noqa: S101  the caller looked
    if not wish.as_json:
        show_proposal(console, proposal)
    if wish.check:
        reject(workspace, proposal, [item.id for item in proposal.items])  # a check leaves nothing behind
        return {}
    if wish.accept:
        where = accept(workspace, proposal, bulk(proposal))
        if not wish.as_json:
            done = sum(item.state == "accepted" for item in proposal.items)
            console.print(RichText(f"{plural(done, 'change')} accepted{f'; {where}' if where else ''}.", style="green"))
        skipped = [item for item in proposal.items if item.badge and item.state == "pending"]
        if skipped and not wish.as_json:
            console.print(f"[yellow]Left for a single decision (redline review): {', '.join(i.id for i in skipped)}[/]")
    elif wish.review:
        review_in_terminal(workspace, proposal, console)
    return {item.id: item.state for item in proposal.items}


# ---- the terminal


def _shower(console: Console) -> Callable[[Event], None]:
    finishing: set[str] = set()

    def show(event: Event) -> None:
        match event:
            case ToolStarted() if event.call.name == "finish":
                finishing.add(event.call.id)  # its words come at the end, whole
            case ToolStarted():
                console.print(RichText("  … " + escape_hidden(event.title), style="dim"))
            case ToolFinished() if event.result.call_id not in finishing:
                style = "red" if event.result.error else "green"
                console.print(
                    RichText("  ✓ " if not event.result.error else "  ✗ ", style=style)
                    + RichText(escape_hidden(event.summary))
                )
            case Working() if event.text.startswith("waiting"):
                console.print(RichText("  … " + escape_hidden(event.text), style="yellow"))
            case Failed():
                console.print(RichText(f"  ! {escape_hidden(event.message)}", style="yellow"), soft_wrap=True)
            case Retrying():
                console.print(
                    RichText(f"  … {event.reason} Trying again in {event.wait_s:.0f} s (Ctrl-C stops).", style="yellow")
                )
            case TextDelta() | _:
                pass

    return show


def show_proposal(console: Console, proposal: Proposal) -> None:
    """Print the whole proposal: coloured hunks, operations, the proof."""
    for review in proposal.files.values():
        console.print()
        console.print(RichText(review.path, style="bold"))
        for hunk in review.hunks:
            show_hunk(console, hunk)
    for op in proposal.operations:
        console.print()
        show_operation(console, op)
    console.print()
    show_proof(console, proposal)


def show_hunk(console: Console, hunk: Hunk) -> None:
    """Print one hunk as a small diff."""
    badge = f"  [! {hunk.badge}]" if hunk.badge else ""
    console.print(
        RichText(f"  {hunk.id}  line {hunk.start + 1}: {escape_hidden(hunk.reason)}{badge}", style="cyan"),
        soft_wrap=True,
    )
    for sign, style, lines in (("-", "red", hunk.old), ("+", "green", hunk.new)):
        for line in lines:
            console.print(
                RichText(f"    {sign}{escape_hidden(line.rstrip(chr(13) + chr(10)))}", style=style),
                soft_wrap=True,
            )


def show_operation(console: Console, op: FileOperation) -> None:
    """Print one file operation; a new file with its text."""
    badge = f"  [! {op.badge}]" if op.badge else ""
    console.print(RichText(f"  {op.id}  {op.told}: {escape_hidden(op.reason)}{badge}", style="cyan"))
    for line in (op.file.text.splitlines() if op.file and op.kind == "create" else [])[:200]:
        console.print(RichText(f"    +{escape_hidden(line)}", style="green"), soft_wrap=True)


def show_proof(console: Console, proposal: Proposal) -> None:
    """Print the proof: what is bad or unknown in full, what is good in one line."""
    proof = proposal.proof_now
    good = [item for item in proof if item.ok and item.state == "current"]
    checks = sorted({item.check for item in good})
    if good:
        files = max(1, len({item.path for item in good if item.path}))
        console.print(RichText(f"Proof: {' and '.join(checks)} fine in {plural(files, 'file')}.", style="green"))
    for item in proof:
        if item not in good:
            style = "red" if item.ok is False else "yellow"
            where = f"{item.path}: " if item.path else ""
            console.print(
                RichText(f"Proof: {where}{item.check}: {item.state}: {escape_hidden(item.detail)}", style=style),
                soft_wrap=True,
            )


def review_all(workspace: Workspace, proposals: list[Proposal], console: Console) -> None:
    """Review proposals one after the other; one that fits no more is left, and that is said."""
    for number, proposal in enumerate(proposals, 1):
        title = f"{number} of {len(proposals)}: {one_line(proposal.instruction, 60)} ({proposal.run})"
        console.rule(RichText(title), align="left")
        if not any(item.state in OPEN for item in proposal.items):
            console.print(
                "Its files have changed, and nothing of it fits any more. Drop it with: redline review --drop"
            )
        elif not sys.stdin.isatty():
            show_proposal(console, proposal)
        else:
            goes_on = review_in_terminal(workspace, proposal, console)
            asyncio.run(prove_part(workspace, proposal, console))
            if not goes_on:
                return


async def prove_part(workspace: Workspace, proposal: Proposal, console: Console) -> None:
    """Prove what was accepted where something of the proposal was left, and say what is wrong with it."""
    states = {item.state for item in proposal.items}
    if "accepted" not in states or len(states) == 1 or not proposal.proof:
        return
    console.print(RichText("Proving what you accepted …", style="dim"))
    try:
        await workspace.prove_accepted(proposal, load_config())
    finally:
        await workspace.servers.close()
    workspace.keep(proposal)
    wrong = [item for item in proposal.proof if item.check.startswith(ACCEPTED) and item.ok is False]
    for item in wrong:
        where = f" of {item.path}" if item.path else ""
        console.print(
            RichText(f"What you accepted is not whole: {item.check}{where}: {escape_hidden(item.detail)}", style="red"),
            soft_wrap=True,
        )
    if not wrong:
        console.print(RichText("Nothing wrong was found with it.", style="green"))


def review_in_terminal(workspace: Workspace, proposal: Proposal, console: Console) -> bool:
    """Ask for each pending item and carry each answer out at once; False when the person quit."""
    if not sys.stdin.isatty():
        console.print("Standard input is no terminal, so nothing was decided. Use --accept, or: redline review")
        return False
    pending = [item for item in proposal.items if item.state in OPEN]
    answer = ""
    for number, item in enumerate(pending, 1):
        if item.state not in OPEN:  # it was taken along with another one
            continue
        console.print(RichText(f"{number} of {len(pending)}  {item.path}", style="bold"))
        (show_hunk(console, item) if isinstance(item, Hunk) else show_operation(console, item))
        needs = proposal.needs([item.id])
        keys = {"a": "accept", "r": "reject", "s": "skip", "A": "accept all", "q": "quit"}
        if needs:
            lost = [
                f"{each.id} ({each.state})" for each in proposal.items if each.id in needs and each.state not in OPEN
            ]
            also = f", of which {', '.join(lost)} cannot be accepted" if lost else ""
            console.print(RichText(f"  It needs {', '.join(needs)} to make sense{also}.", style="yellow"))
            keys = {**keys, "a": "accept it alone"}
        if proposal.together([item.id]):
            keys = {"a": keys["a"], "w": "accept it with what it needs", **keys}
        answer = ask(console, keys, "s")
        try:
            if answer == "A":
                rest = [each.id for each in pending[number - 1 :] if not each.badge or each is item]
                accept(workspace, proposal, rest)
            elif answer in ("a", "w"):
                accept(workspace, proposal, [item.id, *(needs if answer == "w" else ())])
            elif answer == "r":
                reject(workspace, proposal, [item.id])
        except RedlineError as error:
            console.print(RichText(str(error), style="red"))
        if answer in ("A", "q"):
            break
    counts = [sum(item.state == state for item in pending) for state in ("accepted", "rejected")]
    left = len(pending) - sum(counts)
    more = " Go on with: redline review" if left else ""
    console.print(f"{counts[0]} accepted, {counts[1]} rejected, {left} left.{more}")
    return answer != "q"


def _closing(console: Console, run: Run, ended: RunEnded, wish: Wish) -> None:
    console.print()
    if ended.answer:
        console.print(RichText(escape_hidden(ended.answer)), soft_wrap=True)
    style = "green" if ended.state in ("proposed", "answered") else "red"
    cost = f", ${ended.cost_usd:.4f}" if ended.cost_usd else ""
    console.print(
        RichText(f"[{ended.state}] {plural(ended.turns, 'turn')}, {ended.tokens:,} tokens{cost}", style=style)
    )
    if run.proposal and wish.check:
        console.print("Nothing was changed (--check). Leave --check out to review it, or use --accept.")
    elif run.proposal and run.proposal.open and not wish.accept:
        console.print(f"{plural(len(run.proposal.items), 'change')} pending. Decide with: redline review")


def _outcome(run: Run, ended: RunEnded) -> dict[str, Any]:
    return {
        "runId": run.id,
        "sessionId": run.session,
        "state": ended.state,
        "answer": ended.answer,
        "limit": ended.limit,
        "usage": {"turns": ended.turns, "tokens": ended.tokens, "costUsd": ended.cost_usd},
        "proposal": proposal_json(run.proposal) if run.proposal else None,
    }


def proposal_json(proposal: Proposal) -> dict[str, Any]:
    """Return a proposal with paths, for --json."""
    return {
        "runId": proposal.run,
        "hunks": [
            {
                "id": hunk.id,
                "path": hunk.path,
                "line": hunk.start + 1,
                "oldText": "".join(hunk.old),
                "newText": "".join(hunk.new),
                "reason": hunk.reason,
                "dependsOn": list(hunk.depends_on),
                "badge": hunk.badge or None,
                "state": hunk.state,
            }
            for hunk in proposal.hunks
        ],
        "fileOperations": [
            {
                "id": op.id,
                "kind": op.kind,
                "path": op.path,
                "newPath": op.new_path or None,
                **({"executable": op.executable} if op.kind == "mode" else {}),
                "dependsOn": list(op.depends_on),
                "badge": op.badge or None,
                "state": op.state,
            }
            for op in proposal.operations
        ],
        "proof": [item.as_json() for item in proposal.proof_now],
    }


def _json_line(event: Event) -> None:
    if not isinstance(event, TextDelta):
        _print_json(event.model_dump(mode="json"))


def _print_json(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def run_until_interrupted(work: Any) -> int:
    """Run a coroutine that returns an exit code; Ctrl-C cancels it and gives 130."""
    try:
        return int(asyncio.run(work))
    except KeyboardInterrupt:
        sys.stderr.write("\nCancelled.\n")
        return EXIT_CANCELLED
