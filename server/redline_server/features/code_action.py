"""textDocument/codeAction: what Redline offers at a range. Never calls a model, never waits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from lsprotocol import types as lsp
from redline_agent.text import one_line, plural
from redline_agent.workspace.filereview import OPEN
from redline_agent.workspace.proposal import Proposal

from redline_server import convert
from redline_server.documents import Document
from redline_server.review import SHOWN

if TYPE_CHECKING:
    from redline_server.app import RedlineServer

REWRITE = "refactor.rewrite.redline"
QUICKFIX = "quickfix.redline"
ACCEPT = "quickfix.redline.accept"
REJECT = "quickfix.redline.reject"
REVISE = "quickfix.redline.revise"
SOURCES = {
    "source.redline.document": ("document this", "Write or complete the documentation of the selected code."),
    "source.redline.test": (
        "write tests for this",
        "Write tests for the selected code, in the project's own style.",
    ),
    "source.redline.explain": ("explain this", "Explain the selected code. Change nothing."),
    "source.redline.review": ("review this", "Review the selected code for mistakes. Change nothing."),
}
KINDS = [REWRITE, QUICKFIX, ACCEPT, REJECT, REVISE, *SOURCES]
FILES_OFFERED_MAX = 10
"""File operations that are offered at once; the list of proposals has all."""
CLEAN_UPS = ("organise imports", "remove unused", "fix lint", "modernise syntax")


def code_actions(server: RedlineServer, params: lsp.CodeActionParams) -> list[lsp.CodeAction | lsp.Command]:
    """Return the actions at the range, of the kinds that were asked for."""
    uri = params.text_document.uri
    path = convert.path_of(uri)
    document = server.documents.get(uri)
    if path is None or document is None:
        return []
    asked = params.context.only
    found = [*_on_hunks(server, path, params.range), *_on_files(server, path)]
    found += _on_questions(server, uri, params.range)
    found += _on_directives(server, document, params.range)
    if path.suffix in (".py", ".pyi"):
        found += _clean_ups(server, uri, params)
    found += _with_model(server, uri, params, list(asked or []))
    chosen = [action for action in found if _wanted(str(action.kind), asked)]
    if server.client.able.action_literals:
        return [action if server.client.able.action_tags else attrs.evolve(action, tags=None) for action in chosen]
    return [action.command for action in chosen if action.command]


def _wanted(kind: str, asked: Any) -> bool:
    """Whether a kind was asked for; `source` kinds only when asked for by name."""
    if asked is None:
        return not kind.startswith("source.")
    return any(kind == str(one) or kind.startswith(f"{_value(one)}.") or not _value(one) for one in asked)


def _value(kind: Any) -> str:
    return str(kind.value if hasattr(kind, "value") else kind)


def _action(title: str, kind: str, command: str, argument: dict[str, Any], *, llm: bool = False) -> lsp.CodeAction:
    tags = [lsp.CodeActionTag.LlmGenerated] if llm else None
    return lsp.CodeAction(
        title=title,
        kind=kind,
        tags=tags,
        command=lsp.Command(title=title, command=command, arguments=[argument]),
    )


def _on_hunks(server: RedlineServer, path: Path, span: lsp.Range) -> Iterator[lsp.CodeAction]:
    server.refresh_reviews(path)
    seen: set[str] = set()
    for place in server.reviews.hunks(path):
        hunk, run = place.hunk, place.entry.proposal.run
        first, last = hunk.start, max(hunk.start, hunk.end - 1)
        if span.end.line < first - (hunk.start == hunk.end) or span.start.line > last:
            continue
        argument = {"runId": run, "hunks": [hunk.id]}
        if hunk.state == "pending":
            yield _action(
                f"Redline: accept {hunk.id} ({one_line(hunk.reason, 40)})", ACCEPT, "redline.accept", argument
            )
            needs = place.entry.proposal.together([hunk.id])
            if needs:
                title = f"Redline: accept together: {one_line(', '.join([hunk.id, *needs]), 60)}"
                together = {"runId": run, "hunks": [hunk.id, *needs]}
                yield _action(title, ACCEPT, "redline.accept", together)
        yield _action(f"Redline: reject {hunk.id} ({one_line(hunk.reason, 40)})", REJECT, "redline.reject", argument)
        if run not in seen:
            seen.add(run)
            yield from _on_all(place.entry.proposal)


def _on_all(proposal: Proposal) -> Iterator[lsp.CodeAction]:
    pending = sum(item.state == "pending" for item in proposal.items)
    every = {"runId": proposal.run, "hunks": "all"}
    yield _action(f"Redline: accept all {plural(pending, 'change')}", ACCEPT, "redline.accept", every)
    yield _action(f"Redline: reject all {plural(pending, 'change')}", REJECT, "redline.reject", every)
    yield _action("Redline: show the diff", QUICKFIX, "redline.showDiff", {"runId": proposal.run})


def _on_files(server: RedlineServer, path: Path) -> Iterator[lsp.CodeAction]:
    """Files that would be made, deleted or moved have no line of their own: each document of the folder offers them."""
    left = FILES_OFFERED_MAX
    for entry in reversed(server.reviews.entries.values()):
        operations = [op for op in entry.proposal.operations if entry.proposal.state_of(op) in OPEN | {"unconfirmed"}]
        if not operations or not path.is_relative_to(entry.root) or left <= 0:
            continue
        for op in operations[:left]:
            argument = {"runId": entry.proposal.run, "hunks": [op.id]}
            what = one_line(f"{op.id}: {op.told}{f' ({op.badge})' if op.badge else ''}", 100)
            yield _action(f"Redline: accept {what}", ACCEPT, "redline.accept", argument)
            yield _action(f"Redline: reject {what}", REJECT, "redline.reject", argument)
        left -= len(operations)
        if not any(entry.path(hunk.path) == path and hunk.state in SHOWN for hunk in entry.proposal.hunks):
            yield from _on_all(entry.proposal)


def _on_questions(server: RedlineServer, uri: str, span: lsp.Range) -> Iterator[lsp.CodeAction]:
    for pending in server.open_questions():
        for each in pending.answers:
            title = f"Redline: {each} — {one_line(pending.question, 100)} ({one_line(pending.why, 80)})"
            yield _action(title, QUICKFIX, "redline.approve", {"requestId": pending.id, "decision": each})
        if not pending.answers and pending.uri == uri and span.start.line <= pending.line <= span.end.line:
            question = one_line(pending.question, 100)
            yield _action(
                f"Redline: do not run it ({question})",
                QUICKFIX,
                "redline.answer",
                {"requestId": pending.id, "text": "no"},
            )
            yield _action(
                f"Redline: run it ({question})",
                QUICKFIX,
                "redline.answer",
                {"requestId": pending.id, "text": "yes"},
            )


def _on_directives(server: RedlineServer, document: Document, span: lsp.Range) -> Iterator[lsp.CodeAction]:
    for line, words in document.directives():
        if span.start.line <= line <= span.end.line:
            for place in server.reviews.hunks(document.path):
                hunk = place.hunk
                if hunk.start - 1 <= line <= hunk.end and words not in document.brought:
                    title = f"Redline: revise {hunk.id}: {one_line(words, 60)}"
                    argument = {"runId": place.entry.proposal.run, "hunk": hunk.id, "text": words}
                    yield _action(title, REVISE, "redline.revise", argument)
            yield _action(
                f"Redline: {one_line(words, 80)}",
                REWRITE,
                "redline.run",
                directive_run(document, line, words),
            )


def directive_run(document: Document, line: int, words: str) -> dict[str, Any]:
    """Return the argument of the run that a directive asks for."""
    at = {"line": line, "character": 0}
    return {"instruction": words, "uri": document.uri, "range": {"start": at, "end": at}, "kind": REWRITE}


def _clean_ups(server: RedlineServer, uri: str, params: lsp.CodeActionParams) -> Iterator[lsp.CodeAction]:
    llm = server.uses_language_model()
    for words in CLEAN_UPS:
        yield _action(
            f"Redline: {words}",
            REWRITE,
            "redline.run",
            {"instruction": words, "uri": uri, "kind": REWRITE},
            llm=llm,
        )
    ruff = [d for d in params.context.diagnostics if (d.source or "").lower() == "ruff"]
    if ruff:
        yield _action(
            "Redline: fix lint",
            QUICKFIX,
            "redline.run",
            {"instruction": "fix lint", "uri": uri, "kind": QUICKFIX},
            llm=llm,
        )


def _with_model(
    server: RedlineServer, uri: str, params: lsp.CodeActionParams, asked: list[Any]
) -> Iterator[lsp.CodeAction]:
    """What only a language model can do; with the built-in engine these are not offered."""
    if not server.uses_language_model():
        return
    span = params.range
    where = {
        "start": {"line": span.start.line, "character": span.start.character},
        "end": {"line": span.end.line, "character": span.end.character},
    }
    for diagnostic in params.context.diagnostics[:5]:
        if diagnostic.source != convert.SOURCE:
            words = f"Fix this problem at line {diagnostic.range.start.line + 1}: {one_line(diagnostic.message, 300)}"
            argument = {"instruction": words, "uri": uri, "range": where, "kind": QUICKFIX}
            yield _action(
                f"Redline: fix “{one_line(diagnostic.message, 50)}”",
                QUICKFIX,
                "redline.run",
                argument,
                llm=True,
            )
    for kind, (title, words) in SOURCES.items():
        if asked:
            argument = {"instruction": words, "uri": uri, "range": where, "kind": kind}
            yield _action(f"Redline: {title}", kind, "redline.run", argument, llm=True)
