"""The server's composition root: protocol, documents, reviews and runs put together, and `serve`.

Nothing of the agent's heavy half (pydantic, the loop, any SDK) is imported before the first command or, to be ready for
it, a little after the first document was opened.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lsprotocol import converters
from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException, JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer
from redline_agent.config import Config, journal_path, state_dir
from redline_agent.errors import RedlineError, UsageError
from redline_agent.models.names import default_model
from redline_agent.version import VERSION

from redline_server import convert, moves, settings, transport, wiring
from redline_server.accepting import Acceptor
from redline_server.client import Client, abilities
from redline_server.deciding import Decider
from redline_server.documents import Documents, Edit
from redline_server.protocol import RedlineProtocol
from redline_server.review import Entry, Reviews
from redline_server.shown import write_read_only

if TYPE_CHECKING:
    from redline_server.neighbours import Neighbours
    from redline_server.questions import Pending
    from redline_server.runs import Runs

REQUEST_FAILED = -32803
WARM_UP_S = 0.3
REPUBLISH_S = 0.1

logger = logging.getLogger(__name__)


class RedlineServer(LanguageServer):
    """One client's server."""

    protocol: RedlineProtocol  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, *, model: str = "") -> None:
        super().__init__(  # pyright: ignore[reportUnknownMemberType]
            "redline",
            VERSION,
            text_document_sync_kind=lsp.TextDocumentSyncKind.Incremental,
            protocol_cls=RedlineProtocol,
            converter_factory=converters.get_converter,
        )
        self.documents = Documents()
        self.reviews = Reviews(self.documents)
        self.settings = settings.Settings(Config(), Config())
        self._model = model
        self._runs: Runs | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._published: dict[Path, str] = {}
        self._republishing = False
        self._warm = False
        self.decider = Decider(self)
        self._neighbours: Neighbours | None = None
        self._told_ignored = False
        wiring.register(self)

    # ---- life

    def begin(self, params: lsp.InitializeParams) -> None:
        """Take the client's capabilities and options in."""
        experimental = params.capabilities.experimental
        self.settings = settings.at_start(params.initialization_options, experimental, self._model)
        self.client = Client(self, abilities(params), own=self.settings.own_client)
        self.acceptor = Acceptor(self.client, self.documents, self.reviews, self.entry_changed)
        encoding = str(
            getattr(self.protocol.workspace.position_encoding, "value", self.protocol.workspace.position_encoding)
        )
        self.documents.encoding = cast("Any", encoding)

    async def began(self) -> None:
        """Ask for the workspace's configuration, and say what was wrong with the user's."""
        if self.settings.problem:
            self.client.show(f"Redline: {self.settings.problem}", error=True)
        section = await self.client.configuration()
        self.settings = settings.with_workspace(self.settings, section)
        ignored = () if self.client.own else self.settings.ignored  # our own clients pass the user's by another way
        if ignored and not self._told_ignored:
            self._told_ignored = True
            self.client.show(
                "Redline: settings that come by workspace/configuration may only tighten, so these are ignored: "
                f"{', '.join(ignored)}. Give them in config.toml or as initialization options."
            )
        if self._runs is not None:
            self._runs.config = self.settings.config
        await self.client.watch()
        if self.places():  # what waits there for a decision is to be seen before a file is opened
            self._warm_soon()

    async def finish(self) -> None:
        """Cancel runs, close journals."""
        for task in list(self._tasks):
            task.cancel()
        if self._neighbours is not None:
            await self._neighbours.leave()
        if self._runs is not None:
            await self._runs.close()

    @property
    def runs(self) -> Runs:
        """The runs; their half of the program is imported here."""
        if self._runs is None:
            from redline_server.runs import Runs  # pydantic and the agent come with it

            self._runs = Runs(self.client, self.documents, self.reviews, self.settings.config)
            self._runs.on_proposal = self._proposed
            self._runs.restorer.on_changed = self.entry_changed
            self._runs.on_answer = self._answered
        return self._runs

    @property
    def has_runs(self) -> bool:
        """Whether anything was asked of the agent yet."""
        return self._runs is not None

    def in_background(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something that nobody waits for; its failure goes to the log and the user."""
        task = asyncio.create_task(work)
        self._tasks.add(task)

        def done(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()):
                logger.error("A background task failed", exc_info=error)
                self.client.show(f"Redline: {error}", error=True)

        task.add_done_callback(done)

    # ---- documents

    def opened(self, item: lsp.TextDocumentItem) -> None:
        """Take an opened document in; only files can be worked on, others are told so when asked about."""
        path = convert.path_of(item.uri)
        if path is None:
            return
        self.documents.open(item.uri, path, item.version, item.text, item.language_id)
        moves.found_again(self, path, item.text)
        self._follow(path)
        self._warm_soon()
        if self._neighbours is not None:
            self.in_background(self._neighbours.meet(self.places()))

    def _warm_soon(self) -> None:
        if not self._warm:
            self._warm = True
            self.in_background(self._warm_up())

    async def _warm_up(self) -> None:
        """Import what a run needs, a little after the first document, or the start where there was a run before."""
        await asyncio.sleep(WARM_UP_S)
        await asyncio.to_thread(_import_heavy)
        self.runs.warm(self.roots())
        from redline_server.neighbours import Neighbours  # its half of the program is there by now

        self._neighbours = Neighbours(self)
        await self._neighbours.meet([*self.roots(), *self.places()])

    def changed(self, params: lsp.DidChangeTextDocumentParams) -> None:
        """Take a change in and let the pending hunks follow it."""
        uri = params.text_document.uri
        document = self.documents.change(uri, params.text_document.version, [_edit(c) for c in params.content_changes])
        if document is None:
            logger.warning("A change to a document that was never opened: %s", uri)
            return
        self.changed_elsewhere(document.path)
        self._follow(document.path)

    def closed(self, uri: str) -> None:
        """Forget a document; from now on the disk counts."""
        document = self.documents.close(uri)
        if document is not None:
            self._follow(document.path)

    def changed_elsewhere(self, path: Path) -> None:
        """Show which proofs are stale by a change of a file that is not their proposal's."""
        for entry in self.reviews.elsewhere(path):
            entry.proposal.revision += 1
            self.entry_changed(entry)

    def _follow(self, path: Path) -> None:
        """Hunks follow at once where there are any; what the editor shows of them follows a little later."""
        if self._republishing or path not in self.reviews.paths():
            return
        self._republishing = True
        self.in_background(self._republish_soon())

    async def _republish_soon(self) -> None:
        await asyncio.sleep(REPUBLISH_S)
        self._republishing = False
        self.refresh_reviews()

    # ---- review

    def refresh_reviews(self, path: Path | None = None) -> None:
        """Bring the proposals to the text of now, and show what changed."""
        self.acceptor.look_again()
        for entry in self.reviews.refresh(path):
            if entry.proposal.tokens:  # an echo that came late
                self.runs.workspace(entry.root).ended(entry.proposal, ("accepted",))
            self.entry_changed(entry)

    def entry_of(self, run: str) -> Entry:
        """Return a run's proposal, from the journal where this process does not have it; raises ReviewError."""
        for root in self.places() if run not in self.reviews.entries else []:
            self.runs.restore(root, run)
        return self.reviews.get(run)

    def entry_changed(self, entry: Entry) -> None:
        """Show a proposal as it is now: diagnostics, lenses, our own notification."""
        for review in list(entry.proposal.files.values()):
            self._publish(entry.path(review.path))
        if self.client.able.lens_refresh:
            self.in_background(self.client.refresh_lenses())
        self.client.notify("redline/proposal", self.proposal_json(entry) if self.client.own else {})

    def clear_published(self, path: Path) -> None:
        """Take back what is shown of a file, or of the files of a folder, that is gone."""
        for each in [each for each in self._published if each.is_relative_to(path)]:
            self._publish(each)

    def _publish(self, path: Path) -> None:
        document = self.documents.at(path)
        encoding = self.documents.encoding
        shown = [convert.diagnostic(p.entry.proposal, p.review, p.hunk, encoding) for p in self.reviews.hunks(path)]
        key = repr((document.version if document else None, shown))
        if (shown or path in self._published) and self._published.get(path) != key:
            self._published[path] = key
            uri = document.uri if document else convert.uri_of(path)
            self.client.publish(uri, document.version if document else None, shown)

    def _proposed(self, run: str) -> None:
        self.refresh_reviews()
        entry = self.reviews.get(run)
        self.entry_changed(entry)
        if self._neighbours is not None:
            self.in_background(self._neighbours.meet([entry.root]))
        if overlapping := self.reviews.overlaps(entry):
            self.client.show(f"Redline: two proposals change the same lines, so accept one of each: {overlapping}.")

    def _answered(self, run: str, answer: str) -> None:
        """Show a long answer as a read-only Markdown file; what could act in it is escaped."""
        from redline_agent.defuse import defused  # a Markdown parser, needed only here

        path = write_read_only(state_dir() / "answers" / f"{run}.md", defused(answer) + "\n")
        self.in_background(self.client.show_document(convert.uri_of(path), focus=False))

    def proposal_json(self, entry: Entry) -> dict[str, Any]:
        """Return a proposal in the public shape."""
        opened = {path: self.documents.at(entry.path(path)) for path in entry.proposal.files}
        versions = {path: document.version for path, document in opened.items() if document}
        return convert.proposal_json(entry.proposal, entry.root, versions, self.documents.encoding)

    # ---- for commands and features

    def cancel_token(self, token: int | str) -> None:
        """Cancel the run of a progress token."""
        if self._runs is not None:
            self._runs.cancel_token(token)

    def open_questions(self) -> list[Pending]:
        """Return the questions that wait for the user."""
        return list(self._runs.questions.pending.values()) if self._runs else []

    def roots(self) -> list[Path]:
        """Return the workspace folders."""
        workspace = self.protocol.workspace
        uris = list(workspace.folders) or ([workspace.root_uri] if workspace.root_uri else [])
        return [path for uri in uris if (path := convert.path_of(uri)) is not None]

    def places(self) -> list[Path]:
        """Return the folders that Redline has worked in: workspace folders, and those of open files in none of them."""
        alone = (self.root_for(document.path) for document in self.documents.all())
        every = dict.fromkeys([*self.roots(), *alone])
        return [root for root in every if journal_path(state_dir(), root).exists()]

    def root_for(self, path: Path | None) -> Path:
        """Return the folder that a run works in; raises UsageError when that is not clear."""
        roots = self.roots()
        if path is not None:
            around = [root for root in roots if path.is_relative_to(root)]
            return max(around, key=lambda root: len(root.parts)) if around else path.parent
        if len(roots) == 1:
            return roots[0]
        what = "No folder is open" if not roots else f"{len(roots)} folders are open"
        raise UsageError(f"{what}, so it is not clear where to work.", hint="Give the `uri` of a file.")

    def uses_language_model(self) -> bool:
        """Whether the next run's model is more than the built-in engine. Reads settings only."""
        return (self.settings.config.model or default_model()) != "builtin"

    def set_model(self, model: str) -> None:
        """Use another model from the next run on."""
        self.settings = settings.with_model(self.settings, model)
        self.runs.config = self.settings.config
        self.client.notify("redline/status", self.runs.status() if self.client.own else {})

    async def execute(self, name: str, given: tuple[Any, ...]) -> Any:
        """Carry a command out; an error of ours becomes the answer's error."""
        from redline_server import commands

        try:
            return await commands.dispatch(self, name, given)
        except UsageError as error:
            raise JsonRpcInvalidParams(message=str(error)) from error
        except RedlineError as error:
            raise JsonRpcException(message=str(error), code=REQUEST_FAILED) from error


def _import_heavy() -> None:
    for name in ("redline_agent.tools.registry", "redline_server.commands", "redline_server.runs"):
        import_module(name)


def _edit(change: Any) -> Edit:
    if isinstance(change, lsp.TextDocumentContentChangePartial):
        span = change.range
        return Edit((span.start.line, span.start.character, span.end.line, span.end.character), change.text)
    return Edit(None, change.text)


def _on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody caught; a cancelled request at the end of the connection is no error."""
    if not isinstance(context.get("exception"), asyncio.CancelledError):
        loop.default_exception_handler(context)


def serve(*, log_file: str | None = None, model: str = "") -> int:
    """Be the server on standard input and output until the client leaves; returns the exit code."""
    logging.basicConfig(
        level=logging.DEBUG if log_file else logging.WARNING,
        handlers=[logging.FileHandler(log_file, encoding="utf-8") if log_file else logging.StreamHandler(sys.stderr)],
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("pygls").setLevel(logging.WARNING if log_file else logging.CRITICAL)
    reader, writer = transport.take_stdio()
    server = RedlineServer(model=model)
    out = transport.Writer(writer)
    server.protocol.set_writer(cast("Any", out))

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(_on_loop_error)
        try:
            await transport.pump(reader, server.protocol.receive, server.protocol.cancelled_early)
        finally:
            await server.finish()

    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        return 130
    finally:
        out.close()
    return 0 if server.protocol._shutdown else 1  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
