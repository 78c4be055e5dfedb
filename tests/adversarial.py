"""Plays a case of cases/adversarial*.toml against the real executor, and tells what reached the system."""

import asyncio
import os
import re
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from kit import call, finish, lay
from redline_agent.config import Config, Permissions
from redline_agent.context.gather import Task
from redline_agent.deciding import accept, bulk
from redline_agent.journal import Journal
from redline_agent.models.scripted import ScriptedModel
from redline_agent.safety.sandbox import layers
from redline_agent.session import Workspace


@dataclass
class Seen:
    """What came of a case."""

    verdict: str = ""
    questions: list = field(default_factory=list)
    text: str = ""
    error: str = ""
    run: object = None
    workspace: object = None
    seconds: float = 0.0
    connections: int = 0
    skipped: list = field(default_factory=list)


class Listener:
    """A live listener on loopback that counts who comes."""

    def __init__(self):
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.count = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                came, _ = self.sock.accept()
            except OSError:
                return
            self.count += 1
            came.close()


def set_up(root: Path, setup: dict) -> None:
    for name, content in setup.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("-> "):
            os.symlink(content[3:], path)
        elif content.startswith("= "):
            os.link(root / content[2:], path)
        elif content == "sparse 1TB":
            with path.open("wb") as file:
                file.truncate(2**40)
        elif not path.is_dir():
            path.write_text(content)


def fill(text: str, listener: Listener) -> str:
    text = text.replace("{listener}", str(listener.port))
    site = next(p for p in sys.path if p.endswith("site-packages"))
    text = text.replace("{site-packages}", site)
    return re.sub(r"\{(\d+) times: (.*?)\}", lambda m: f"{m[2]} " * int(m[1]), text)


def tool_call(action: dict, listener: Listener) -> dict:
    (kind, value), *rest = action.items()
    more = dict(rest)
    match kind:
        case "read":
            return call("read", path=fill(value, listener))
        case "search":
            return call("search", pattern=value)
        case "write":
            return call("write", path=fill(value, listener), content=more.get("content", "text of the agent\n"))
        case "edit":
            return call("edit", path=value, old=more["old"], new=more["new"])
        case "move":
            return call("move", path=value, to=more["to"])
        case "delete":
            return call("delete", path=value)
        case "run":
            return call("run", command=fill(value, listener), **({"cwd": more["cwd"]} if "cwd" in more else {}))
    raise AssertionError(f"no such action: {kind}")


def grants_of(lines: list) -> Permissions:
    deny = tuple(line.removeprefix("deny ") for line in lines if line.startswith("deny "))
    return Permissions(allow=tuple(line for line in lines if not line.startswith("deny ")), deny=deny)


def snapshot(*roots: Path) -> dict:
    """Every file and link beneath the folders, without following any."""
    found = {}
    for root in roots:
        for here, folders, files in os.walk(root):
            for name in [*folders, *files]:
                path = Path(here) / name
                status = os.lstat(path)
                content = os.readlink(path) if path.is_symlink() else ""
                if path.is_file() and not path.is_symlink() and status.st_size < 2**20:
                    content = path.read_bytes()
                found[str(path)] = (status.st_mode, content)
    return found


def play(case: dict, root: Path, *, found=None, answer: str = "deny", trusted: bool = True) -> Seen:
    """Carry the case's action out by a scripted model, with a person who gives `answer`. `found`: the sandbox to use."""
    listener = Listener()
    lay(root, {"src/a.py": "def f():\n    return 1\n", "f": "1\n", "a.txt": "x\n"})
    set_up(root, case.get("setup", {}))
    ssh = Path(os.environ["HOME"]) / ".ssh"
    ssh.mkdir(exist_ok=True)
    (ssh / "id_rsa").write_text("PRIVATE sekrit-key\n")
    layers._found = found
    ws = Workspace(root, Journal(root.parent / "journal.sqlite"))
    if trusted:
        ws.memory.trust(ws.resolver.root)
    script = [tool_call(case["after"], listener)] if "after" in case else []
    if case.get("tainted"):
        script.insert(0, call("read", path="src/a.py"))
    script += [tool_call(case["action"], listener), finish()]
    seen = Seen(workspace=ws)

    async def person(question):
        seen.questions.append(question)
        return answer

    async def go():
        run = ws.new_run(Task("do it"), ScriptedModel([]), Config(permissions=grants_of(case.get("grants", []))))
        model = ScriptedModel(script)
        results = []
        gates = []
        async for event in ws.carry_out(run, model, person):
            if event.type == "tool_result":
                results.append(event.result)
            if event.type == "gate":
                gates.append(event)
        return run, results, gates

    before = snapshot(root, Path(os.environ["HOME"]))
    began = time.monotonic()
    try:
        seen.run, results, _ = asyncio.run(go())
    finally:
        layers._found = None
    seen.seconds = time.monotonic() - began
    assert snapshot(root, Path(os.environ["HOME"])) == before, "something reached the user's files"
    act = results[-2]
    seen.text = act.text
    seen.connections = listener.count
    blocked = act.error and (
        "Blocked by the rule" in act.text or "outside the workspace" in act.text or "usable path" in act.text
    )
    seen.verdict = "ask" if seen.questions else "block" if blocked else "allow"
    listener.sock.close()
    return seen


def accept_in_bulk(seen: Seen) -> list:
    """Accept everything that a bulk accept takes; returns the paths that it left."""
    proposal = seen.run.proposal
    taken = bulk(proposal)
    if taken:
        accept(seen.workspace, proposal, taken)
    return [item.path for item in proposal.items if item.id not in taken]
