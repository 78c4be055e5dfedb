"""A language server of the project's, as a client of it: what it says of texts that only the overlay has.

It runs in the sandbox over the workspace, is fed whole texts, and is believed only for the version that it speaks of.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from redline_agent.errors import ToolError
from redline_agent.proof.wire import as_list, as_object, message_from

START_S_MAX = 20.0
SETTLE_S = 0.3
"""A server that only pushes may push twice for one version; what it said last within so long counts."""
UNVERSIONED_SETTLE_S = 1.0
"""The same for a server that names no versions: it must have said nothing more for so long."""
UNREAD_BYTES_MAX = 64 * 2**20
PROBE_AFTER_S = 1.0
"""How long a server that has a probe in the catalogue is waited for before it is shown that."""
Freshness = Literal["current", "timed-out", "unavailable"]


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """What a server says of a line (from 1). `severity` is the protocol's: 1 is an error, 2 a warning."""

    line: int
    severity: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a server says of one text, and whether it is of that text."""

    freshness: Freshness
    diagnostics: tuple[Diagnostic, ...] = ()


class Child:
    """One server that has been started; `name` is its name in the catalogue."""

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        root: Path,
        settings: Mapping[str, Any],
        *,
        settle_s: float,
        registers: bool = False,
        probe: str = "",
    ) -> None:
        self.name = name
        self.process = process
        self._root = root
        self._settings = settings
        self._settle_s = settle_s
        self._registers = registers
        self._probe = probe
        self._shown: dict[str, tuple[str, str, str]] = {}
        self._ids = 0
        self._version = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._pushed: dict[str, tuple[int | None, list[Any]]] = {}
        self._news = asyncio.Event()
        self._open: dict[str, int] = {}
        self._last: dict[str, list[Any]] = {}
        self._pulls = False
        self._registered = asyncio.Event()
        self._able: dict[str, Any] = {}
        self._utf16 = True
        self._reader = asyncio.create_task(self._read())

    @property
    def alive(self) -> bool:
        """Whether it still answers."""
        return self.process.returncode is None and not self._reader.done()

    def can(self, name: str, *more: str) -> bool:
        """Whether it has a capability, or a part of one."""
        value: Any = self._able.get(name)
        for each in more:
            value = as_object(value).get(each)
        return bool(value) or value == {}

    def uri(self, path: str) -> str:
        """Return the URI of a path of the workspace."""
        return (self._root / path).as_uri()

    def said(self, path: str) -> list[Any]:
        """Return the diagnostics that it gave last for a file, as they came."""
        return self._last.get(self.uri(path), [])

    def units(self, text: str) -> int:
        """Return the length of a part of a line as the server counts it."""
        return len(text) + sum(char > "\uffff" for char in text) if self._utf16 else len(text)

    def column(self, line: str, character: int) -> int:
        """Return the index in a line of a character as the server counts it; never after its end."""
        if not self._utf16 or line.isascii():
            return min(max(character, 0), len(line))
        at = 0
        for index, char in enumerate(line):
            if at >= character:
                return index
            at += 2 if char > "\uffff" else 1
        return len(line)

    # ---- the session

    async def begin(self) -> None:
        """Shake hands; raises ToolError when it does not answer in time."""
        uri = self._root.as_uri()
        capabilities = {
            "workspace": {
                "configuration": True,
                "workspaceFolders": True,
                "didChangeWatchedFiles": {"dynamicRegistration": True},
            },
            "textDocument": {
                "synchronization": {"didSave": False},
                "publishDiagnostics": {"versionSupport": True},
                "diagnostic": {"dynamicRegistration": True},
                "rename": {"prepareSupport": False},
                "references": {},
                "definition": {"linkSupport": True},
                "codeAction": {
                    "codeActionLiteralSupport": {"codeActionKind": {"valueSet": ["quickfix", "refactor", "source"]}},
                    "dataSupport": True,
                    "resolveSupport": {"properties": ["edit"]},
                },
            },
            "general": {"positionEncodings": ["utf-32", "utf-16"]},
        }
        answer = await self.request(
            "initialize",
            {
                "processId": None,
                "rootUri": uri,
                "capabilities": capabilities,
                "workspaceFolders": [{"uri": uri, "name": self._root.name}],
                "initializationOptions": {},
            },
            START_S_MAX,
        )
        self._able = as_object(as_object(answer).get("capabilities"))
        self._utf16 = self._able.get("positionEncoding", "utf-16") == "utf-16"
        self._pulls = self.can("diagnosticProvider")
        self.notify("initialized", {})
        self.notify("workspace/didChangeConfiguration", {"settings": _nested(self._settings)})
        if self._registers:
            try:
                async with asyncio.timeout(START_S_MAX):
                    await self._registered.wait()
            except TimeoutError as error:
                raise ToolError(f"{self.name} did not get ready in {START_S_MAX:g} s.") from error

    def show(self, path: str, text: str, language: str) -> None:
        """Give it a text as the file at `path`, which stays so until `forget`."""
        uri = (self._root / path).as_uri()
        self._version += 1
        version = self._version
        self._pushed.pop(uri, None)
        if uri in self._open:
            self.notify(
                "textDocument/didChange",
                {"textDocument": {"uri": uri, "version": version}, "contentChanges": [{"text": text}]},
            )
        else:
            item = {"uri": uri, "languageId": language, "version": version, "text": text}
            self.notify("textDocument/didOpen", {"textDocument": item})
        self._open[uri] = version
        self._shown[uri] = path, text, language

    async def diagnose(self, path: str, timeout_s: float) -> Report:
        """Return what it says of the text that it was shown last as the file at `path`."""
        uri = (self._root / path).as_uri()
        try:
            async with asyncio.timeout(timeout_s):
                found = await (self._pull(uri) if self._pulls else self._told(uri))
        except TimeoutError:
            return Report("timed-out")
        except ToolError:
            return Report("unavailable")
        try:
            return Report("current", tuple(map(_diagnostic, found)))
        except (TypeError, ValueError):
            return Report("unavailable")  # it speaks no protocol that anybody knows
        finally:
            self._last[uri] = found

    async def _pull(self, uri: str) -> list[Any]:
        answer = await self.request("textDocument/diagnostic", {"textDocument": {"uri": uri}}, None)
        return list(as_object(answer).get("items") or [])

    async def _told(self, uri: str) -> list[Any]:
        """What it pushes of a text. One that is silent about a text with nothing new is shown a mistake as well."""
        if not self._probe:
            return await self._push(uri, self._open[uri])
        with suppress(TimeoutError):
            async with asyncio.timeout(PROBE_AFTER_S):
                found = await self._push(uri, self._open[uri])
                if self._pushed[uri][0] is not None:
                    return found
        path, text, language = self._shown[uri]
        whole = text if text.endswith("\n") or not text else text + "\n"
        self.show(path, whole + self._probe + "\n", language)
        try:
            while True:
                found = await self._push(uri, self._open[uri])
                rest = [each for each in found if _start_line(each) < whole.count("\n")]
                if len(rest) < len(found):
                    return rest
                self._pushed.pop(uri)  # that was of the text before
        finally:
            self.show(path, text, language)

    async def _push(self, uri: str, version: int) -> list[Any]:
        while True:
            said = self._pushed.get(uri)
            if said is not None and said[0] == version:
                await asyncio.sleep(self._settle_s)
                return self._pushed[uri][1]
            if said is not None and said[0] is None:  # of which text it is, only its silence afterwards says
                await asyncio.sleep(self._settle_s if self._probe else max(self._settle_s, UNVERSIONED_SETTLE_S))
                if self._pushed[uri] is said:
                    return said[1]
                continue
            self._news.clear()
            if not self.alive:
                raise ToolError(f"{self.name} has ended.")
            await self._news.wait()

    def changed_on_disk(self, kinds: Mapping[str, int]) -> None:
        """Tell it which files were saved, with the protocol's word for each."""
        changes = [{"uri": self.uri(path), "type": kind} for path, kind in sorted(kinds.items())]
        self.notify("workspace/didChangeWatchedFiles", {"changes": changes})

    def forget(self) -> None:
        """Close every text, so that the next overlay begins with the disk."""
        for uri in self._open:
            self.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
        self._open.clear()
        self._shown.clear()
        self._pushed.clear()
        self._last.clear()

    async def end(self) -> None:
        """Say goodbye; what does not go by itself is killed with its sandbox."""
        with suppress(ToolError, TimeoutError):
            await self.request("shutdown", None, 2.0)
            self.notify("exit", None)
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    # ---- messages

    async def request(self, method: str, params: Any, timeout_s: float | None) -> Any:
        """Return the answer to a request; raises ToolError when there is none."""
        self._ids += 1
        ident = self._ids
        future = self._waiting[ident] = asyncio.get_running_loop().create_future()
        try:
            self._send({"id": ident, "method": method, "params": params})
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError as error:
            if timeout_s is None:
                raise
            raise ToolError(f"{self.name} did not answer {method} in {timeout_s:g} s.") from error
        finally:
            self._waiting.pop(ident, None)

    def notify(self, method: str, params: Any) -> None:
        """Send a notification."""
        self._send({"method": method, "params": params})

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        if self.process.stdin is None or self.process.stdin.is_closing() or not self.alive:
            raise ToolError(f"{self.name} has ended.")
        if self.process.stdin.transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            raise ToolError(f"{self.name} reads nothing any more.")
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)

    async def _read(self) -> None:
        stream = self.process.stdout
        assert stream is not None  # noqa: S101  it was started with pipes
        try:
            while (message := await message_from(stream)) is not None:
                self._take(message)
        except (ValueError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ToolError(f"{self.name} has ended."))
            self._news.set()

    def _take(self, message: dict[str, Any]) -> None:
        method, ident = message.get("method"), message.get("id")
        if method is None:
            future = self._waiting.get(ident) if isinstance(ident, int) else None
            if future is not None and not future.done():
                error = message.get("error")
                if error:
                    future.set_exception(ToolError(f"{self.name}: {str(error.get('message', error))[:300]}"))
                else:
                    future.set_result(message.get("result"))
        elif ident is not None:
            self._answer(ident, str(method), as_object(message.get("params")))
        elif method == "textDocument/publishDiagnostics":
            params = as_object(message.get("params"))
            self._pushed[str(params.get("uri"))] = (params.get("version"), list(params.get("diagnostics") or []))
            self._news.set()

    def _answer(self, ident: Any, method: str, params: dict[str, Any]) -> None:
        """Answer what servers ask of clients."""
        with suppress(ToolError):
            match method:
                case "workspace/configuration":
                    result: Any = [self._setting(str(each.get("section", ""))) for each in params.get("items", [])]
                case "workspace/workspaceFolders":
                    result = [{"uri": self._root.as_uri(), "name": self._root.name}]
                case "client/registerCapability":
                    names = {as_object(each).get("method") for each in as_list(params.get("registrations"))}
                    if "textDocument/diagnostic" in names:
                        self._pulls = True
                        self._registered.set()
                    result = None
                case "client/unregisterCapability" | "window/workDoneProgress/create":
                    result = None
                case "workspace/applyEdit":
                    result = {"applied": False, "failureReason": "nothing is applied here"}
                case _ if method.endswith("/refresh"):
                    result = None
                case _:
                    self._send({"id": ident, "error": {"code": -32601, "message": f"no {method} here"}})
                    return
            self._send({"id": ident, "result": result})

    def _setting(self, section: str) -> Any:
        if section in self._settings:
            return self._settings[section]
        inside = {key.removeprefix(section + "."): value for key, value in self._settings.items()
                  if key.startswith(section + ".")}  # fmt: skip
        return _nested(inside) or None


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by section, as objects in objects."""
    out: dict[str, Any] = {}
    for name, value in settings.items():
        *folders, last = name.split(".")
        here = out
        for folder in folders:
            here = here.setdefault(folder, {})
        here[last] = value
    return out


def _start_line(value: Any) -> int:
    return int(as_object(as_object(as_object(value).get("range")).get("start")).get("line", 0))


def _diagnostic(value: Any) -> Diagnostic:
    said = as_object(value)
    code = said.get("code")
    return Diagnostic(
        _start_line(said) + 1, int(said.get("severity") or 1), str(code if code is not None else ""),
        str(said.get("message", "")),
    )  # fmt: skip
