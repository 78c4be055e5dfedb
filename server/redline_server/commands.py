"""The commands: their arguments, checked, and what each answers at once. Imported with the first command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from redline_agent.config import ROLES
from redline_agent.context.gather import Task
from redline_agent.errors import ReviewError, UsageError
from redline_agent.history import fork
from redline_agent.messages import Label
from redline_agent.models.catalog import make_model
from redline_agent.safety.keeper import Keeper
from redline_agent.safety.paths import Resolver
from redline_agent.safety.requests import Access
from redline_agent.safety.rules import built_in_rules
from redline_agent.text import escape_hidden, one_line
from redline_agent.workspace.revising import Revision

from redline_server import convert
from redline_server.accepting import revertable
from redline_server.arguments import (
    AnswerArguments,
    ApproveArguments,
    Arguments,
    DecideArguments,
    DiffArguments,
    ForkArguments,
    MaybeRunId,
    ModelArguments,
    NoArguments,
    RevertArguments,
    ReviseArguments,
    RunArguments,
    RunId,
    SessionArguments,
    Span,
    SteerArguments,
    TrustArguments,
)
from redline_server.diffs import show_diff, show_revert
from redline_server.documents import Document, directive_in

if TYPE_CHECKING:
    from redline_server.app import RedlineServer


Handler = Callable[["RedlineServer", Any], Awaitable[Any]]


async def dispatch(server: RedlineServer, name: str, given: tuple[Any, ...]) -> Any:
    """Check the arguments and carry the command out; raises UsageError for what is wrong with them."""
    arguments, handler = _COMMANDS[name]
    if len(given) > 1:
        raise UsageError(f"{name} takes one object, not {len(given)} arguments.")
    try:
        parsed = arguments.model_validate(given[0] if given and given[0] is not None else {})
    except ValidationError as error:
        complaints = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'argument'}: {e['msg']}" for e in error.errors()[:4])
        raise UsageError(f"{name}: {complaints}.") from error
    return await handler(server, parsed)


# ---- runs


async def _run(server: RedlineServer, args: RunArguments) -> dict[str, str]:
    if not args.instruction.strip():
        raise UsageError("The instruction is empty.", hint="Say what to change.")
    path, document = _target(server, args.uri)
    root = server.root_for(path)
    resolver = Resolver(root)
    file = resolver.resolve(str(path)) if path else ""
    if file:
        decision = Keeper(built_in_rules(), root).decide(Access("read", file))
        if decision.verdict != "allow":
            raise UsageError(f"{file}: {decision.reason}.")
    lines = _lines(args.range, document)
    directive = _directive(args, document)
    task = Task(
        args.instruction.strip(),
        file=file,
        lines=lines,
        diagnostics=(),
        directive_line=directive[0] + 1 if directive else None,
        source=Label(source="user"),
    )
    confirm = ""
    if directive and document and directive[1] in document.brought:
        confirm = (
            f"This instruction came with the file {file}; you did not type it here:\n{escape_hidden(directive[1])}"
        )
    if args.background and confirm:
        raise UsageError(confirm, hint="Run it without `background`, where you are asked to confirm it.")
    if args.background:
        run = server.runs.start_in_background(root, task, args.sessionId or "")
    else:
        run = server.runs.start(root, task, uri=args.uri or "", session=args.sessionId or "", confirm=confirm)
    return {"runId": run.id, "sessionId": run.session}


def _target(server: RedlineServer, uri: str | None) -> tuple[Path | None, Document | None]:
    if uri is None:
        return None, None
    path = convert.path_of(uri)
    if path is None:
        scheme = uri.partition(":")[0]
        raise UsageError(f"Redline works on files; this document is {scheme}:.", hint="Save it to a file first.")
    document = server.documents.get(uri) or server.documents.at(path)
    if document is None and not path.is_file():
        raise UsageError(f"{uri} is not open, and there is no such file.")
    return path, document


def _lines(span: Span | None, document: Document | None) -> tuple[int, int] | None:
    if span is None:
        return None
    if (span.end.line, span.end.character) < (span.start.line, span.start.character):
        raise UsageError("The range ends before it starts.")
    if document is not None and span.start.line > len(document.lines):
        raise UsageError(f"The range starts at line {span.start.line + 1}; the file has {len(document.lines)}.")
    last = span.end.line - (1 if span.end.character == 0 and span.end.line > span.start.line else 0)
    return span.start.line + 1, last + 1


def _directive(args: RunArguments, document: Document | None) -> tuple[int, str] | None:
    """Return the directive at the range's first line when its words are the instruction."""
    if document is None or args.range is None or args.range.start.line >= len(document.lines):
        return None
    found = directive_in(document.lines[args.range.start.line])
    return (args.range.start.line, found["text"]) if found and found["text"] == args.instruction else None


async def _runs(server: RedlineServer, args: MaybeRunId) -> list[dict[str, Any]]:
    return server.runs.describe(args.runId)


async def _cancel(server: RedlineServer, args: RunId) -> dict[str, bool]:
    return {"cancelled": server.runs.cancel(args.runId)}


async def _steer(server: RedlineServer, args: SteerArguments) -> dict[str, bool]:
    await server.runs.steer(args.runId, args.text)
    return {"steered": True}


async def _answer(server: RedlineServer, args: AnswerArguments) -> dict[str, bool]:
    server.runs.questions.answer(args.requestId, args.text)
    return {"answered": True}


async def _approve(server: RedlineServer, args: ApproveArguments) -> dict[str, str]:
    server.runs.questions.approve(args.requestId, args.decision)
    return {"decision": args.decision}


async def _trust(server: RedlineServer, args: TrustArguments) -> dict[str, str]:
    """Trust the workspace folder that a document or folder is in."""
    path = convert.path_of(args.uri)
    if path is None or not path.exists():
        raise UsageError(f"{args.uri} is no file or folder here.")
    root = server.root_for(path) if not path.is_dir() or path not in server.roots() else path
    if root not in server.roots():
        raise UsageError(f"{path} is in no open workspace folder.", hint="Open its folder first.")
    workspace = server.runs.workspace(root)
    workspace.memory.trust(workspace.resolver.root)
    server.client.show(f"Redline: {root.name} is trusted: its commands and tests may run, in the sandbox.")
    return {"trusted": convert.uri_of(root)}


# ---- review


async def _proposals(server: RedlineServer, _: NoArguments) -> list[dict[str, Any]]:
    for root in server.places():
        server.runs.restore(root)
    for entry in server.reviews.entries.values():
        if entry.proposal.open:
            server.decider.take_over(entry)
    server.refresh_reviews()
    return [server.proposal_json(entry) for entry in server.reviews.entries.values()]


async def _accept(server: RedlineServer, args: DecideArguments) -> dict[str, Any]:
    entry = server.entry_of(args.runId)
    server.decider.take_over(entry)
    items = server.reviews.select(args.runId, args.hunks, args.revision, to_accept=True)
    skipped = (
        [item.id for item in entry.proposal.items if item.badge and item.state == "pending"]
        if args.hunks == "all"
        else []
    )
    if not items:
        why = f"{', '.join(skipped)} must be accepted one by one." if skipped else "Nothing in it is pending."
        raise ReviewError(f"There is nothing to accept in {args.runId}. {why}")
    needs = entry.proposal.needs(item.id for item in items)
    if needs:
        server.client.show(f"Redline: what you accept needs {', '.join(needs[:5])} too.")
    left = [f"{item.id} ({item.state})" for item in entry.proposal.items if item.state in ("conflicted", "stale")]
    if args.hunks == "all" and left:
        server.client.show(f"Redline: left as they are: {', '.join(left[:5])}.")
    server.decider.accept_soon(entry, items)
    return {"accepting": [item.id for item in items], "skipped": skipped, "needs": needs}


async def _reject(server: RedlineServer, args: DecideArguments) -> dict[str, Any]:
    entry = server.entry_of(args.runId)
    server.decider.take_over(entry)
    items = server.reviews.select(args.runId, args.hunks, args.revision, to_accept=False)
    server.decider.reject(entry, items)
    return {"rejected": [item.id for item in items]}


async def _revise(server: RedlineServer, args: ReviseArguments) -> dict[str, str]:
    """Send a hunk or file operation back to the agent with a word; what it makes of it takes its place."""
    entry = server.entry_of(args.runId)
    server.refresh_reviews()
    words = args.text.strip()
    if not words:
        raise UsageError("The word on the hunk is empty.", hint="Say what to change in it.")
    path = next((item.path for item in entry.proposal.items if item.id == args.hunk), "")
    document = server.documents.at(entry.path(path)) if path else None
    typed = [document.lines[at] for at, said in document.directives() if said == words] if document else []
    revision = Revision(entry.proposal, args.hunk, words, typed[0] if len(typed) == 1 else "")
    run = server.runs.revise(entry, revision, document.uri if document else "")
    return {"runId": run.id, "sessionId": run.session}


async def _revert_run(server: RedlineServer, args: RevertArguments) -> dict[str, Any]:
    server.entry_of(args.runId)
    server.refresh_reviews()
    entry = server.reviews.get(args.runId)
    done = [item for item in entry.proposal.items
            if item.state == "accepted" and (args.hunks == "all" or item.id in args.hunks)]  # fmt: skip
    known = {item.id for item in done}
    if not done or (args.hunks != "all" and set(args.hunks) - known):
        which = args.runId if args.hunks == "all" else ", ".join(sorted(set(args.hunks) - known)) or "none"
        raise ReviewError(f"Nothing of {which} is accepted, so there is nothing to revert.")
    files = entry.proposal.files.values()
    moved = [hunk.id for review in files for hunk in review.hunks
             if hunk.id in known and not revertable(review, hunk)]  # fmt: skip
    if moved:
        raise ReviewError(
            f"You changed the text of {', '.join(moved[:5])} since, so it is not reverted.",
            hint="Use the editor's undo for it, and name the others in `hunks`.",
        )
    if args.preview:
        return show_revert(server, entry, known)
    server.in_background(server.decider.revert(entry, done))
    return {"reverting": [item.id for item in done]}


async def _show_diff(server: RedlineServer, args: DiffArguments) -> dict[str, Any]:
    """Write the diff, and each file's proposed text, as read-only files, and show the diff where the editor can."""
    entry = server.entry_of(args.runId)
    server.refresh_reviews()
    return show_diff(server, entry, convert.path_of(args.uri) if args.uri else None)


# ---- the rest


async def _sessions(server: RedlineServer, _: NoArguments) -> list[dict[str, Any]]:
    return [
        {
            "sessionId": row.session,
            "runId": row.run,
            "startedAt": row.started_s,
            "instruction": one_line(row.instruction, 200),
            "model": row.model,
            "state": row.state,
            "tokens": row.tokens,
        }
        for root in server.places()
        for row in server.runs.workspace(root).journal.runs()
    ]


async def _usage(server: RedlineServer, _: NoArguments) -> dict[str, Any]:
    return {
        **server.runs.status(),
        "runs": [{"runId": r["runId"], **r["usage"]} for r in server.runs.describe(None)],
    }


async def _resume(server: RedlineServer, args: SessionArguments) -> dict[str, str]:
    """Go on with the run of a session that was cut off."""
    run = server.runs.resume(_root_of_session(server, args.sessionId), args.sessionId)
    return {"runId": run.id, "sessionId": run.session}


async def _fork(server: RedlineServer, args: ForkArguments) -> dict[str, str]:
    """Copy a session up to a turn; `redline.run` with the new id goes on there."""
    workspace = server.runs.workspace(_root_of_session(server, args.sessionId))
    return {"sessionId": fork(workspace.journal, args.sessionId, args.at)}


async def _compact(server: RedlineServer, args: SessionArguments) -> dict[str, Any]:
    workspace = server.runs.workspace(_root_of_session(server, args.sessionId))
    server.runs.check_free(args.sessionId)
    event = await workspace.compact(args.sessionId, server.runs.config, server.runs.pool)
    return {"beforeTokens": event.before_tokens, "afterTokens": event.after_tokens, "passes": list(event.passes)}


def _root_of_session(server: RedlineServer, session: str) -> Path:
    for root in server.places():
        if server.runs.workspace(root).journal.of_session(session):
            return root
    raise UsageError(f"There is no session {session!r} here.", hint="redline.sessions lists them.")


async def _set_model(server: RedlineServer, args: ModelArguments) -> dict[str, str]:
    await make_model(args.model, server.runs.config.compatible).close()
    if args.role is not None:
        if args.role not in ROLES:
            raise UsageError(f"There is no role {args.role!r}.", hint=f"Roles: {', '.join(ROLES)}.")
        if args.role != "executor":
            server.runs.config = replace(server.runs.config, roles={**server.runs.config.roles, args.role: args.model})
            return {"model": args.model, "role": args.role}
    server.set_model(args.model)
    return {"model": args.model}


async def _doctor(_: RedlineServer, __: NoArguments) -> list[dict[str, Any]]:
    from redline_agent.doctor import examine

    checks = await asyncio.to_thread(examine)
    return [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in checks]


_COMMANDS: dict[str, tuple[type[Arguments], Handler]] = {
    "redline.run": (RunArguments, _run),
    "redline.runs": (MaybeRunId, _runs),
    "redline.cancel": (RunId, _cancel),
    "redline.steer": (SteerArguments, _steer),
    "redline.answer": (AnswerArguments, _answer),
    "redline.approve": (ApproveArguments, _approve),
    "redline.trust": (TrustArguments, _trust),
    "redline.proposals": (NoArguments, _proposals),
    "redline.accept": (DecideArguments, _accept),
    "redline.reject": (DecideArguments, _reject),
    "redline.revise": (ReviseArguments, _revise),
    "redline.revertRun": (RevertArguments, _revert_run),
    "redline.showDiff": (DiffArguments, _show_diff),
    "redline.sessions": (NoArguments, _sessions),
    "redline.resume": (SessionArguments, _resume),
    "redline.fork": (ForkArguments, _fork),
    "redline.compact": (SessionArguments, _compact),
    "redline.usage": (NoArguments, _usage),
    "redline.setModel": (ModelArguments, _set_model),
    "redline.doctor": (NoArguments, _doctor),
}
NAMES = tuple(_COMMANDS)
"""What `app` advertises; a test holds the two lists together."""
