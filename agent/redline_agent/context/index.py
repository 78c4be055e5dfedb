"""The index as the runtime sees it: a process of its own that knows every file's words and symbols.

It is started with the first run, kept while the server lives, and told of unsaved and edited texts with each question.
It never opens files of secrets, protected places or files with other names elsewhere, and what it finds goes through
the gate again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redline_agent.errors import ToolError
from redline_agent.safety.keeper import Keeper
from redline_agent.safety.process import Helper, start_helper
from redline_agent.workspace.overlay import Overlay

if TYPE_CHECKING:
    from redline_agent.context.gather import Task

FILES_MAX = 40
ANSWER_S_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Found:
    """A file that the task may be about: its score, why, and its symbols {line, text} in the file's order."""

    path: str
    score: float
    tokens: int
    why: str
    symbols: tuple[tuple[int, str], ...]


class Index:
    """One workspace folder's index. All questions go to the process one at a time; a dead one is started again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._helper: Helper | None = None
        self._lock = asyncio.Lock()
        self._warming: asyncio.Task[Any] | None = None
        self._late: set[asyncio.Task[dict[str, Any]]] = set()

    async def ask(self, op: str, overlay: Overlay | None = None, **question: Any) -> dict[str, Any]:
        """Return the process's answer; raises ToolError when it has none."""
        above = overlay.texts_above_disk() if overlay is not None else {}
        line = json.dumps({"op": op, "above": above, **question}) + "\n"
        async with self._lock:
            try:
                return await asyncio.wait_for(self._exchange(line), ANSWER_S_MAX)
            except (TimeoutError, OSError, ValueError, asyncio.IncompleteReadError) as error:
                await self._stop()
                raise ToolError(f"The index does not answer: {type(error).__name__}.", hint="Use `search`.") from error
            except asyncio.CancelledError:
                await self._stop()  # its answer to this would be taken for the next one's
                raise

    async def _exchange(self, line: str) -> dict[str, Any]:
        if self._helper is None:
            argv = [sys.executable, "-P", "-m", "redline_agent.indexer", str(self.root)]
            env = {"PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1", "PYTHONWARNINGS": "ignore"}
            self._helper = await start_helper(argv, cwd=self.root, env=env)
        answer: dict[str, Any] = json.loads(await self._helper.exchange(line.encode()))
        if "error" in answer:
            raise ToolError(str(answer["error"]))
        return answer

    def warm(self) -> None:
        """Begin to read the folder, so that the first run finds the index ready."""
        if self._warming is None and self._helper is None:
            self._warming = asyncio.create_task(self._warm())

    async def _warm(self) -> None:
        with contextlib.suppress(ToolError):
            await self.ask("sync")

    async def find(
        self, task: Task, overlay: Overlay, keeper: Keeper, *, wait_s: float, limit: int = FILES_MAX
    ) -> list[Found]:
        """Return the likeliest files for a task, best first; [] when the index is not ready in time."""
        question = {
            "query": task.instruction, "file": task.file, "targets": list(task.targets), "limit": limit,
            "open": overlay.buffers.open_paths(),
        }  # fmt: skip
        asked = asyncio.create_task(self.ask("find", overlay, **question))
        done, _ = await asyncio.wait({asked}, timeout=wait_s)
        if not done:
            self._late.add(asked)
            asked.add_done_callback(self._done)
            return []  # it reads on, and is ready for the next one
        try:
            answer = asked.result()
        except ToolError:
            return []
        files = [
            Found(each["path"], each["score"], each["tokens"], each["why"],
                  tuple((line, text) for line, text in each["symbols"]))
            for each in answer["files"]
        ]  # fmt: skip
        return [each for each in files if keeper.allowed(overlay.resolver.access("read", each.path))]

    def _done(self, late: asyncio.Task[dict[str, Any]]) -> None:
        self._late.discard(late)
        if not late.cancelled():
            late.exception()  # nobody waits for it any more

    def over(self, overlay: Overlay) -> Definitions:
        """Return what it knows of symbols, as an overlay has them."""
        return Definitions(self, overlay)

    async def _stop(self) -> None:
        helper, self._helper = self._helper, None
        if helper is not None:
            await helper.stop()

    async def close(self) -> None:
        """End the process."""
        waiting = [*self._late, *([self._warming] if self._warming else [])]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await self._stop()


@dataclass(frozen=True, slots=True)
class Definitions:
    """Questions about symbols over one overlay (tools/base.py: Symbols)."""

    index: Index
    overlay: Overlay

    async def definitions(self, name: str, path: str = "") -> Sequence[dict[str, Any]]:
        """Return places that define a name."""
        answer = await self.index.ask("definitions", self.overlay, name=name, under=path)
        return answer["places"]
