"""`redline try`: the tour. A real package's source in a scratch folder, the real server over stdio, a small editor here
that asks for a rename and a clean-up through LSP, shows what comes, and lets the person decide on each hunk.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from lsprotocol import types as lsp
from pygls.lsp.client import LanguageClient
from redline_agent.errors import RedlineError, UsageError
from redline_agent.terminal import ask
from redline_agent.text import escape_hidden, plural, split_lines
from rich.console import Console
from rich.text import Text

from redline_server import convert
from redline_server.positions import place

PACKAGE = "pygls"
TASKS = (
    ("rename to_fs_path to uri_to_path", "pygls/uris.py"),
    ("modernise syntax", "pygls/progress.py"),
)
RUN_S_MAX = 300.0


class TourEditor:
    """The smallest honest editor: opens files, shows progress, applies edits, echoes their text."""

    def __init__(self, root: Path, console: Console) -> None:
        self.root = root
        self.console = console
        self.client: Any = LanguageClient("redline-try", "1")
        self.texts: dict[str, tuple[int, str]] = {}
        self._register()

    def _register(self) -> None:
        @self.client.feature(lsp.WINDOW_WORK_DONE_PROGRESS_CREATE)
        def _(_params: lsp.WorkDoneProgressCreateParams) -> None:
            return None

        @self.client.feature(lsp.PROGRESS)
        def _(params: lsp.ProgressParams) -> None:
            self._progress(params.value)

        @self.client.feature(lsp.WORKSPACE_APPLY_EDIT)
        def _(params: lsp.ApplyWorkspaceEditParams) -> lsp.ApplyWorkspaceEditResult:
            for change in params.edit.document_changes or []:
                if isinstance(change, lsp.TextDocumentEdit):
                    self._apply(change)
            return lsp.ApplyWorkspaceEditResult(applied=True)

        @self.client.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def _(_params: lsp.PublishDiagnosticsParams) -> None:
            return None

        @self.client.feature(lsp.WINDOW_SHOW_MESSAGE)
        def _(params: lsp.ShowMessageParams) -> None:
            self.console.print(Text(f"  {escape_hidden(params.message)}", style="dim"))

    def _progress(self, value: Any) -> None:
        got = _plain(value)
        text = got.get("title") or got.get("message")
        if text:
            self.console.print(Text(f"  … {escape_hidden(str(text))}", style="dim"), soft_wrap=True)

    def _apply(self, change: lsp.TextDocumentEdit) -> None:
        uri = change.text_document.uri
        if uri not in self.texts:
            self.open(convert.path_of(uri) or self.root)
        number, text = self.texts[uri]
        after = _edited(text, [edit for edit in change.edits if isinstance(edit, lsp.TextEdit)])
        self.texts[uri] = (number + 1, after)
        self.client.text_document_did_change(
            lsp.DidChangeTextDocumentParams(
                text_document=lsp.VersionedTextDocumentIdentifier(uri=uri, version=number + 1),
                content_changes=[lsp.TextDocumentContentChangeWholeDocument(text=after)],
            )
        )
        (convert.path_of(uri) or self.root).write_text(after, "utf-8", newline="")

    async def start(self, model: str) -> None:
        """Start the server and introduce this editor."""
        argv = ["-m", "redline_server", "serve", *(["--model", model] if model else [])]
        env = {**os.environ, "REDLINE_STATE_DIR": str(self.root.parent / "state")}
        await self.client.start_io(
            sys.executable, *argv, cwd=str(self.root), env=env, start_new_session=sys.platform != "win32"
        )
        uri = convert.uri_of(self.root)
        capabilities = lsp.ClientCapabilities(
            workspace=lsp.WorkspaceClientCapabilities(
                apply_edit=True, workspace_edit=lsp.WorkspaceEditClientCapabilities(document_changes=True)
            ),
            window=lsp.WindowClientCapabilities(work_done_progress=True),
            general=lsp.GeneralClientCapabilities(position_encodings=[lsp.PositionEncodingKind.Utf32]),
        )
        folders = [lsp.WorkspaceFolder(uri=uri, name=self.root.name)]
        info = lsp.ClientInfo("redline try")
        params = lsp.InitializeParams(
            capabilities=capabilities,
            process_id=os.getpid(),
            root_uri=uri,
            workspace_folders=folders,
            client_info=info,
        )
        await self.client.initialize_async(params)
        self.client.initialized(lsp.InitializedParams())

    def open(self, path: Path) -> str:
        """Open a file, as an editor does."""
        uri = convert.uri_of(path)
        text = path.read_text("utf-8", newline="") if sys.version_info >= (3, 13) else path.read_bytes().decode()
        self.texts[uri] = (1, text)
        item = lsp.TextDocumentItem(uri=uri, language_id="python", version=1, text=text)
        self.client.text_document_did_open(lsp.DidOpenTextDocumentParams(text_document=item))
        return uri

    async def command(self, name: str, argument: dict[str, Any]) -> Any:
        """Execute one of Redline's commands."""
        params = lsp.ExecuteCommandParams(command=name, arguments=[argument])
        return await asyncio.wait_for(self.client.workspace_execute_command_async(params), 30)

    async def run(self, instruction: str, path: Path) -> dict[str, Any]:
        """Run a task to its end and return what `redline.runs` says."""
        started = _plain(await self.command("redline.run", {"instruction": instruction, "uri": self.open(path)}))
        until = time.monotonic() + RUN_S_MAX
        while time.monotonic() < until:
            (run,) = _plain(await self.command("redline.runs", {"runId": started["runId"]}))
            if run["outcome"]:
                return run
            await asyncio.sleep(0.05)
        raise UsageError("The run did not end in time.")

    async def proposal(self, run: str) -> dict[str, Any] | None:
        """Return a run's proposal, None when it made none."""
        proposals = _plain(await self.command("redline.proposals", {}))
        return next((one for one in proposals if one["runId"] == run), None)

    async def decide(self, run: str, accepted: list[str], rejected: list[str]) -> dict[str, str]:
        """Accept and reject, wait until the server has confirmed it, and return the hunks' states."""
        if rejected:
            await self.command("redline.reject", {"runId": run, "hunks": rejected})
        if accepted:
            await self.command("redline.accept", {"runId": run, "hunks": accepted})
        states: dict[str, str] = {}
        for _ in range(100):
            proposal = await self.proposal(run)
            states = {hunk["id"]: hunk["state"] for hunk in (proposal or {"hunks": []})["hunks"]}
            if all(states[ident] not in ("pending", "applying") for ident in accepted):
                break
            await asyncio.sleep(0.05)
        return states

    async def stop(self) -> None:
        """Say goodbye to the server."""
        await asyncio.wait_for(self.client.shutdown_async(None), 10)
        self.client.exit(None)
        await asyncio.wait_for(self.client.stop(), 10)


def _plain(value: Any) -> Any:
    """Return an answer as plain dictionaries and lists: pygls makes named tuples of JSON objects."""
    if hasattr(value, "_asdict"):
        return {key: _plain(each) for key, each in value._asdict().items()}
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_plain(each) for each in cast("list[Any]", value)]
    return value


def _edited(text: str, edits: Iterable[lsp.TextEdit]) -> str:
    lines = split_lines(text)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def offset(at: lsp.Position) -> int:
        line, index = place(lines, at.line, at.character, "utf-32")
        return starts[line] + index

    for edit in sorted(edits, key=lambda e: (e.range.start.line, e.range.start.character), reverse=True):
        text = text[: offset(edit.range.start)] + edit.new_text + text[offset(edit.range.end) :]
    return text


def tour(*, accept_all: bool, model: str) -> int:
    """Give the tour; returns the exit code."""
    console = Console(highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="redline-try-"))
    root = folder / "project"
    spec = find_spec(PACKAGE)
    source = Path(spec.origin).parent if spec and spec.origin else None
    if source is None:
        raise UsageError(f"The sample project {PACKAGE} is not installed.", hint="Reinstall Redline.")
    shutil.copytree(source, root / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    try:
        return asyncio.run(_tour(root.resolve(), console, accept_all=accept_all, model=model))
    except KeyboardInterrupt:
        console.print("\nInterrupted. Nothing more is changed.")
        return 130


async def _tour(root: Path, console: Console, *, accept_all: bool, model: str) -> int:
    files = sum(1 for _ in root.rglob("*.py"))  # noqa: ASYNC240  before anything else runs
    console.print(Text("Redline: the tour", style="bold"))
    console.print(
        f"Project: the source of {PACKAGE} {version(PACKAGE)}, {files} Python files, copied to {root}",
        soft_wrap=True,
    )
    console.print("Nothing is changed there until you accept it.\n")
    editor = TourEditor(root, console)
    await editor.start(model)
    if accept_all:
        console.print("Nobody is at the terminal to ask (or --yes was given), so every hunk is accepted for you.\n")
    try:
        for number, (instruction, path) in enumerate(TASKS, 1):
            console.print(Text(f"{number}. You ask, in {path}: {instruction}", style="bold"))
            if not await _one(editor, console, instruction, root / path, accept_all=accept_all):
                break
    finally:
        with contextlib.suppress(Exception):
            await editor.stop()
    _farewell(console, root)
    return 0


async def _one(editor: TourEditor, console: Console, instruction: str, path: Path, *, accept_all: bool) -> bool:
    """Ask, show and decide; False when the person has seen enough."""
    run = await editor.run(instruction, path)
    proposal = await editor.proposal(run["runId"])
    if proposal is None:
        raise RedlineError(f"The run ended without a proposal: {run['answer']}")
    _proof(console, proposal)
    accepted: list[str] = []
    rejected: list[str] = []
    answer = "A" if accept_all else ""
    for hunk in proposal["hunks"]:
        _show(console, editor.root, hunk)
        missing = [each for each in hunk["dependsOn"] if each in rejected]
        if missing:
            console.print(Text(f"    It needs {', '.join(missing)}, which you rejected.", style="yellow"))
        answer = answer if answer in ("A", "q") else _ask(console)
        if answer in ("a", "A"):
            accepted.append(hunk["id"])
        elif answer == "r":
            rejected.append(hunk["id"])
        elif answer == "q":
            break
    states = await editor.decide(run["runId"], accepted, rejected)
    counts = [f"{list(states.values()).count(state)} {state}" for state in dict.fromkeys(states.values())]
    console.print(Text(f"Confirmed by the text that the editor echoed: {', '.join(counts)}.\n", style="bold green"))
    return answer != "q"


def _ask(console: Console) -> str:
    """Ask in the main thread; the event loop has nothing else to do."""
    return ask(console, {"a": "accept", "A": "accept all", "r": "reject", "s": "skip", "q": "quit"}, None)


def _show(console: Console, root: Path, hunk: dict[str, Any]) -> None:
    path = (convert.path_of(hunk["uri"]) or root).relative_to(root)
    line = hunk["range"]["start"]["line"] + 1
    needs = f"  (needs {', '.join(hunk['dependsOn'])})" if hunk["dependsOn"] else ""
    console.print(
        Text(f"  {hunk['id']}  {path}:{line}  {escape_hidden(hunk['reason'])}{needs}", style="cyan"), soft_wrap=True
    )
    for sign, style, text in (("-", "red", hunk["oldText"]), ("+", "green", hunk["newText"])):
        for shown in text.splitlines():
            console.print(Text(f"    {sign} {escape_hidden(shown)}", style=style), soft_wrap=True)


def _proof(console: Console, proposal: dict[str, Any]) -> None:
    good = [item for item in proposal["proof"] if item["ok"]]
    checks = " and ".join(sorted({item["check"] for item in good}))
    files = plural(len({item["path"] for item in good}), "file")
    console.print(Text(f"  Proof: {checks}: fine in {files}.", style="green"))
    for item in proposal["proof"]:
        if not item["ok"]:
            style = "red" if item["ok"] is False else "yellow"
            console.print(
                Text(f"  Proof: {item['check']}: {item['state']}: {item['detail']}", style=style),
                soft_wrap=True,
            )


def _farewell(console: Console, root: Path) -> None:
    console.print(Text("What next", style="bold"))
    console.print(f"  Look at what you accepted:  {root} (a scratch copy; remove it when you like)", soft_wrap=True)
    console.print('  On your own code:           redline run "rename X to Y" --review')
    console.print("  With Claude:                export ANTHROPIC_API_KEY=... and ask for anything")
    console.print("  In your editor:             README.md has a paragraph each for VS Code, Neovim, Emacs and Helix")
    console.print("  When something is wrong:    redline doctor")
