"""Editors as they were seen to behave when a server asks something of them: each announces what it really announces
(tests/cases/clients), and does with an edit, a file or a question what the real one did. SEEN is the table.
"""

import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from raw_client import RawClient, apply_text_edits

CASES = Path(__file__).parent / "cases/clients"
INTERNAL_ERROR = -32603


@dataclass(frozen=True)
class Behaviour:
    """What one editor does.

    asks: before which edits the person is asked: "never", "always", "unvisited" (of files that no buffer visits).
    no: its answer when they say no. stale: whose version it compares: "all" before anything is applied, "each" as its
    turn comes, "first" (and never a version 0). stale_says: its answer then. operations: "work", "ignored" or "error".
    An answer is "applied" (though nothing was), "refused" or "error".
    """

    asks: str = "never"
    no: str = "refused"
    stale: str = "all"
    stale_says: str = "refused"
    operations: str = "work"
    newlines: bool = False
    """Its buffers have newlines, whatever the disk has, and take what they are sent as it is."""
    only_its_mode: bool = False
    """It tells a server only of files in the mode that it was started for; others it changes in silence."""
    shows_documents: bool = True
    first_is_prefilled: bool = False
    """Pressing return at a question gives the first answer."""
    leaves_lying_s: float = 0.0
    """A request that comes so soon after an answer, in one piece with it, is not seen until something else comes."""
    lines_end: bool = False
    """Each line of a buffer has an end: a new file has one empty line, and only an edit from below it takes it along."""


SEEN = {
    "vs-code": Behaviour(),
    "neovim-0.11": Behaviour(stale="first", stale_says="applied", lines_end=True),
    "neovim-0.12": Behaviour(stale="first", stale_says="applied", lines_end=True),
    "emacs-28": Behaviour(
        asks="always", no="error", stale="each", stale_says="error", operations="ignored", only_its_mode=True,
        shows_documents=False, first_is_prefilled=True, leaves_lying_s=0.02, newlines=True,
    ),
    "emacs-30": Behaviour(
        asks="unvisited", no="applied", stale="each", stale_says="error", operations="error", only_its_mode=True,
        first_is_prefilled=True, newlines=True,
    ),
    "helix": Behaviour(stale="each"),
}  # fmt: skip


class _Answer(Exception):
    """The end of an edit that was not (wholly) applied."""

    def __init__(self, kind, why):
        super().__init__(why)
        self.kind = kind


class _Replies(dict):
    """Replies by id; `came` are the ids of all that ever came."""

    def __init__(self):
        super().__init__()
        self.came = set()

    def __setitem__(self, ident, reply):
        self.came.add(ident)
        super().__setitem__(ident, reply)


class FakeEditor(RawClient):
    """A client that answers as the editor of that name; `says` is what the person answers when asked."""

    def __init__(self, folder, kind, **more):
        self.kind = kind
        self.seen = SEEN[kind]
        self.says = "yes"
        self.before_an_edit = None
        self.hidden = {}
        """Texts of buffers that the server is not told of, by path, unsaved."""
        self.dos = set()
        """Documents that are saved with the line ends that they had."""
        self.no_end = set()
        """Documents whose last line had no end when they were opened, where that is no matter of edits."""
        self.asked = []
        self.edits = []
        self.early = []
        """Edits that came before the command that asked for them was answered."""
        self._waiting = 0
        self._answered_s = 0.0
        self._lying = []
        self._lock = threading.RLock()
        super().__init__(folder, **more)
        self._replies = _Replies()

    def start(self, folder):
        case = json.loads((CASES / f"{self.kind}.json").read_text())
        return self.initialize(folder, case["capabilities"], name=(case["clientInfo"] or {}).get("name", ""))

    def request(self, method, params=None, timeout=20):
        decides = (params or {}).get("command") in ("redline.accept", "redline.revertRun")
        self._waiting = self._id + 1 if decides else 0
        try:
            return super().request(method, params, timeout)
        finally:
            lying, self._lying = self._lying, []
            self._waiting, self._answered_s = 0, time.monotonic()
            for message in lying:
                self._answer(message)

    def open(self, path, text=None, language="python"):
        text = path.read_bytes().decode() if text is None else text
        if self.seen.lines_end:
            (self.no_end.discard if text.endswith("\n") or not text else self.no_end.add)(path.as_uri())
        if self.seen.newlines and "\r\n" in text:
            self.dos.add(path.as_uri())
            text = text.replace("\r\n", "\n")
        return super().open(path, text or ("\n" if self.seen.lines_end else ""), language)

    def replace(self, uri, text):
        with self._lock:
            super().replace(uri, text)

    # ---- what the server asks

    def _respond(self, message):
        if self._waiting and self._waiting not in self._replies.came and message["method"] == "workspace/applyEdit":
            self.early.append(message)
        if time.monotonic() - self._answered_s < self.seen.leaves_lying_s:
            self._lying.append(message)
        else:
            self._answer(message)

    def _answer(self, message):
        method, params = message["method"], message.get("params")
        if method == "window/showDocument" and not self.seen.shows_documents:
            return
        result, error = None, None
        if method == "workspace/applyEdit":
            self.edits.append(params["edit"])
            try:
                result = self._edit(params["edit"])
            except _Answer as answer:
                result = {"applied": answer.kind == "applied"}
                if answer.kind == "error":
                    result, error = None, {"code": INTERNAL_ERROR, "message": str(answer)}
                elif answer.kind == "refused":
                    result["failureReason"] = str(answer)
        elif method == "window/showMessageRequest":
            self.asked.append(params)
            result = params["actions"][0] if self.seen.first_is_prefilled else None  # return, or turned away
        elif method == "workspace/configuration":
            result = [None] * len(params["items"])
        elif method == "window/showDocument":
            result = {"success": True}
        self.send({"id": message["id"], **({"error": error} if error else {"result": result})})

    def _edit(self, edit):
        if self.before_an_edit:
            act, self.before_an_edit = self.before_an_edit, None
            act()
        changes = edit.get("documentChanges") or [
            {"textDocument": {"uri": uri, "version": None}, "edits": edits} for uri, edits in edit["changes"].items()
        ]
        with self._lock:
            unvisited = any(
                "kind" not in each and each["textDocument"]["uri"] not in self.documents for each in changes
            )
            asks = self.seen.asks == "always" or (self.seen.asks == "unvisited" and unvisited)
            if asks and self.says == "no":
                raise _Answer(self.seen.no, "User cancelled server edit")
            if self.seen.operations == "error" and any("kind" in each for each in changes):
                raise _Answer("error", "the edit has a kind that it does not know")
            if self.seen.stale == "all" and any(self._is_stale(each) for each in changes):
                raise _Answer(self.seen.stale_says, "stale version")
            for number, change in enumerate(changes):
                if "kind" in change:
                    if self.seen.operations == "work":
                        self._file_operation(change)
                elif self._is_stale(change) and (self.seen.stale == "each" or number == 0):
                    if self.seen.stale == "first":
                        continue  # "Buffer newer than edits", and that it was applied
                    raise _Answer(self.seen.stale_says, "stale version")
                else:
                    self._change(change)
        return {"applied": True}

    def _is_stale(self, change):
        if "kind" in change:
            return False
        version, known = change["textDocument"].get("version"), self.documents.get(change["textDocument"]["uri"])
        if self.seen.stale == "first":
            return bool(version) and known is not None and known[0] > version
        return version is not None and known is not None and known[0] != version

    def _change(self, change):
        uri = change["textDocument"]["uri"]
        path = Path(unquote(uri.removeprefix("file://")))

        def apply(text, edits):
            if self.seen.lines_end:
                return _with_line_ends(text, edits, ended=uri not in self.no_end)
            return apply_text_edits(text, edits)

        if uri in self.documents:
            self.replace(uri, apply(self.documents[uri][1], change["edits"]))
        elif self.seen.only_its_mode and path.suffix != ".py":
            self.hidden[path] = apply(path.read_bytes().decode(), change["edits"])
        else:
            self.open(path)
            self.replace(uri, apply(self.documents[uri][1], change["edits"]))

    def _file_operation(self, change):
        """As real ones do: a buffer goes along with its file, what is unsaved in it too."""
        super()._file_operation(change)
        if change["kind"] != "create" and (known := self.documents.pop(change.get("uri") or change["oldUri"], None)):
            self.notify("textDocument/didClose", {"textDocument": {"uri": change.get("uri") or change["oldUri"]}})
            if change["kind"] == "rename":
                self.open(Path(unquote(change["newUri"].removeprefix("file://"))), known[1])

    def save(self, path):
        """Write a buffer, whether the server knows it or not; Neovim gives the last line an end."""
        known = self.documents.get(path.as_uri())
        text = (known[1] if known else self.hidden.pop(path)) + ("\n" if path.as_uri() in self.no_end else "")
        path.write_bytes((text.replace("\n", "\r\n") if path.as_uri() in self.dos else text).encode())


def _with_line_ends(text, edits, *, ended):
    """Neovim's way: lines without their ends. What begins below the last one is put behind it whole, and an edit that
    reaches below it takes an empty last line along.
    """
    lines = (text.removesuffix("\n") if ended else text).split("\n")
    below = False
    for edit in sorted(edits, key=lambda each: tuple(each["range"]["start"].values()), reverse=True):
        start, end = edit["range"]["start"], edit["range"]["end"]
        put = edit["newText"].split("\n")
        if start["line"] >= len(lines):
            lines += put
            continue
        last, column = end["line"], end["character"]
        if last >= len(lines):
            last, column, below = len(lines) - 1, len(lines[-1]), True
        put[0] = lines[start["line"]][: start["character"]] + put[0]
        put[-1] += lines[last][column:]
        lines[start["line"] : last + 1] = put
    if below and lines[-1] == "" and len(lines) > 1:
        lines.pop()
    return "\n".join(lines) + ("\n" if ended else "")
