"""Tools of MCP servers: started in the sandbox or reached by HTTP, pinned by digest, approved by digest, labelled.

The servers are the user's own configuration. What one says of itself is not trusted: names, descriptions and schemas
are bounded and as they were when the run began, a call is asked about until that very tool is allowed, and whatever
comes back is material from outside. The official SDK speaks the protocol; it is imported when a server is first used.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, ClassVar, cast

from pydantic import ConfigDict

from redline_agent.errors import ConfigError, RedlineError, ToolError
from redline_agent.extend.wires import Wire, http_streams, stdio_streams
from redline_agent.messages import Label
from redline_agent.safety.keeper import Keeper
from redline_agent.safety.requests import Request, Server
from redline_agent.text import clip, escape_hidden, one_line
from redline_agent.tools.base import EVERYTHING, Footprint, Input, Outcome, Tool, ToolContext
from redline_agent.workspace.workbench import Workbench

TOOLS_MAX, PAGES_MAX = 40, 10
NAME_CHARS_MAX, DESCRIPTION_CHARS_MAX, SCHEMA_CHARS_MAX = 64, 1_000, 8_000
START_S_MAX, CALL_S_MAX = 30.0, 120.0
RESULT_CHARS_SHOWN = 20_000
_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_SETTINGS = frozenset({"command", "env", "url", "header_env"})


class AnyInput(Input):
    """Arguments of a tool whose schema only its server knows; the server checks them."""

    model_config = ConfigDict(extra="allow")


@dataclass(frozen=True, slots=True)
class Known:
    """A tool as its server gave it when the run began."""

    server: str
    name: str
    description: str
    schema: dict[str, Any]

    @property
    def digest(self) -> str:
        """What an approval is bound to: name, description and schema."""
        told = json.dumps([self.server, self.name, self.description, self.schema], sort_keys=True)
        return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def full(self) -> str:
        """The name that the model calls."""
        return f"mcp__{_NAME.sub('_', self.server)}__{_NAME.sub('_', self.name)}"[:NAME_CHARS_MAX]


class McpTool(Tool[AnyInput]):
    """One tool of one server."""

    name = ""
    input = AnyInput
    example: ClassVar[Mapping[str, Any]] = {}
    once = True

    def __init__(self, known: Known, connection: Connection) -> None:
        self.name = known.full  # type: ignore[misc]  each instance is a tool of its own
        self._known = known
        self._connection = connection

    def footprint(self, arguments: AnyInput, context: ToolContext) -> Footprint:  # noqa: ARG002
        """Nobody knows what it touches, so nothing goes on beside it."""
        return EVERYTHING

    def description(self) -> str:
        """Return what the server says of the tool."""
        return self._known.description

    def schema(self) -> dict[str, Any]:
        """Return the schema as it was when the run began."""
        return self._known.schema

    def requests(self, arguments: AnyInput, context: ToolContext) -> Sequence[Request]:  # noqa: ARG002
        """Call this tool, as it is."""
        return [self._request(arguments)]

    def _request(self, arguments: AnyInput) -> Server:
        told = json.dumps(arguments.model_dump(), sort_keys=True, ensure_ascii=False)
        return Server(self._known.server, self._known.digest, self._known.name, told, self._connection.remote)

    def title(self, arguments: AnyInput) -> str:  # noqa: ARG002
        """Name server and tool."""
        return f"Calling {one_line(self._known.name, 40)} of {self._known.server}"

    async def run(self, arguments: AnyInput, context: ToolContext) -> Outcome:
        """Call it; a tool that failed is a result too, labelled like any."""
        request = self._request(arguments)
        context.permitted(request).spend(request)
        text, failed = await self._connection.call(self._known.name, arguments.model_dump())
        label = Label(source="mcp", detail=f"{self._known.server}: {one_line(self._known.name, 60)}")
        name = one_line(self._known.name, 40)
        told = f"Error: {text}" if failed else text
        summary = f"{name} of {self._known.server} {'failed' if failed else 'answered'}"
        return Outcome(context.shown(told), summary, label=label, chars_max=RESULT_CHARS_SHOWN, failed=failed)


class Connection:
    """One server's session, owned by a task of its own: the SDK's scopes must be left where they were entered."""

    def __init__(self, name: str, streams: Any, wire: Wire, *, remote: bool) -> None:
        self.name = name
        self.remote = remote
        self._streams = streams
        self._wire = wire
        self._session: Any = None
        self._error: BaseException | None = None
        self._owner: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin the session; raises ToolError with what went wrong."""
        ready = asyncio.Event()
        self._owner = asyncio.create_task(self._own(ready))
        waiting = asyncio.create_task(ready.wait())
        try:
            await asyncio.wait({waiting, self._owner}, timeout=START_S_MAX, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._session is None:
            await self.close()
            raise ToolError(f"The MCP server {self.name} did not start: {self._why()}.")

    async def _own(self, ready: asyncio.Event) -> None:
        import mcp  # heavy: 0.6 s, so with the first server

        try:
            info = mcp.types.Implementation(name="redline", version="1")
            async with mcp.Client(
                self._streams, mode="legacy", cache=None, read_timeout_seconds=CALL_S_MAX, client_info=info
            ) as client:
                self._session = client.session
                ready.set()
                await self._wire.closed.wait()
        except Exception as error:  # noqa: BLE001  the SDK gives groups of its transport's errors
            self._error = error
        finally:
            self._session = None

    def _why(self) -> str:
        return one_line(self._wire.reason or _first(self._error) or "it did not answer in time")

    async def tools(self) -> list[Known]:
        """Return its tools, bounded; raises ToolError."""
        import mcp

        found: list[Known] = []
        cursor: str | None = None
        for _ in range(PAGES_MAX):
            params = mcp.types.PaginatedRequestParams(cursor=cursor)
            page = await self._guarded(self._live().list_tools(params=params))
            for tool in page.tools:
                schema = _schema(tool.input_schema)
                if schema is not None and len(found) < TOOLS_MAX:
                    description = clip(escape_hidden(tool.description or tool.name), DESCRIPTION_CHARS_MAX)
                    found.append(Known(self.name, tool.name, description, schema))
            cursor = page.next_cursor
            if cursor is None:
                break
        return found

    async def call(self, name: str, arguments: dict[str, Any]) -> tuple[str, bool]:
        """Call a tool; returns its text and whether it failed. Raises ToolError when the server does not answer."""
        import mcp

        params = mcp.types.CallToolRequestParams(name=name, arguments=arguments)
        request = mcp.types.CallToolRequest(params=params)
        # not `call_tool`: that would check the answer with the server's own patterns, on this loop
        asked = self._live().send_request(request, mcp.types.CallToolResult, request_read_timeout_seconds=CALL_S_MAX)
        result = await self._guarded(asked)
        return "\n".join(_text(block) for block in result.content) or "(nothing)", bool(result.is_error)

    def _live(self) -> Any:
        if self._session is None:
            raise ToolError(f"The MCP server {self.name} is gone: {self._why()}.")
        return self._session

    async def _guarded(self, asked: Any) -> Any:
        import mcp

        try:
            async with asyncio.timeout(CALL_S_MAX + 6):
                return await asked
        except (TimeoutError, ValueError, RuntimeError, mcp.MCPError) as error:
            raise ToolError(f"The MCP server {self.name}: {one_line(str(error) or 'no answer in time')}.") from error

    async def close(self) -> None:
        """End the session and its process."""
        self._wire.closed.set()
        if self._owner is not None and not (await asyncio.wait({self._owner}, timeout=10))[0]:
            self._owner.cancel()
            await asyncio.wait({self._owner})


def _first(error: BaseException | None) -> str:
    """The words of the first error of a group of groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return str(error or "")  # pyright: ignore[reportUnknownArgumentType]


def _schema(given: Any) -> dict[str, Any] | None:
    """Return a tool's schema, None for one that is too large or no object's."""
    if not isinstance(given, dict) or given.get("type") != "object" or len(json.dumps(given)) > SCHEMA_CHARS_MAX:  # pyright: ignore[reportUnknownMemberType]
        return None
    return _plain({"properties": {}, "required": [], **given})


def _plain(value: Any) -> Any:
    """The same value, with what cannot be seen in its strings escaped: a server may say anything."""
    if isinstance(value, str):
        return escape_hidden(value)
    if isinstance(value, dict):
        return {escape_hidden(str(key)): _plain(each) for key, each in cast("dict[Any, Any]", value).items()}
    return [_plain(each) for each in cast("list[Any]", value)] if isinstance(value, list) else value


def _text(block: Any) -> str:
    match getattr(block, "type", ""):
        case "text":
            return str(block.text)
        case "resource":
            return str(getattr(block.resource, "text", "") or f"[a resource: {block.resource.uri}]")
        case "resource_link":
            return f"[a link: {block.uri}]"
        case kind:
            return f"[{kind}, which is not shown]"


@dataclass(slots=True)
class Servers:
    """The servers of one run: `tools` by the names that the model calls, `notes` on those that are not there."""

    tools: dict[str, Tool[Any]] = field(default_factory=dict[str, Tool[Any]])
    notes: list[str] = field(default_factory=list[str])
    _open: list[Connection] = field(default_factory=list[Connection])
    _benches: list[Workbench] = field(default_factory=list[Workbench])

    async def start(self, settings: Mapping[str, Mapping[str, Any]], keeper: Keeper, bench: Workbench) -> None:
        """Start each server that may be; one that cannot leaves a note."""
        for name, given in settings.items():
            try:
                connection = await self._connect(name, given, keeper, bench)
                for known in await connection.tools():
                    self.tools[known.full] = McpTool(known, connection)
            except RedlineError as error:
                self.notes.append(f"MCP server {name}: {error.message}")

    async def _connect(self, name: str, given: Mapping[str, Any], keeper: Keeper, bench: Workbench) -> Connection:
        unknown = set(given) - _SETTINGS
        if unknown or ("command" in given) == ("url" in given):
            raise ConfigError(f"mcp.servers.{name} needs either command or url, and may have env or header_env.")
        if find_spec("mcp") is None:  # told before anything starts
            raise ConfigError("The MCP SDK is not installed.", hint="pip install 'redline-ls[mcp]'")
        digest = hashlib.sha256(json.dumps(dict(given), sort_keys=True).encode()).hexdigest()
        request = Server(name, digest)
        permit, _ = await keeper.obtain(request)
        wire = Wire()
        if "url" in given:
            permit.spend(request)
            headers = {key: os.environ.get(str(var), "") for key, var in dict(given.get("header_env", {})).items()}
            streams = http_streams(str(given["url"]), headers)
        else:
            command = given["command"]
            if not isinstance(command, list) or not command:
                raise ConfigError(f"mcp.servers.{name}.command must be a list of words.")
            argv = tuple(str(word) for word in command)  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
            env = {str(key): str(value) for key, value in dict(given.get("env", {})).items()}
            own = bench.beside(_NAME.sub("_", name))  # a live server shares no folder with the run's commands
            self._benches.append(own)
            streams = stdio_streams(await own.serve(request, permit, argv, env), wire)
        connection = Connection(name, streams, wire, remote="url" in given)
        self._open.append(connection)  # before it is open: a run that is cancelled meanwhile ends it
        await connection.open()
        return connection

    async def close(self) -> None:
        """End every server."""
        for connection in self._open:
            await connection.close()
        for bench in self._benches:
            await bench.close()
