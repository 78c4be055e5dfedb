"""The view: a pure projection of a session's events onto the messages that the model sees.

Its invariants hold for any history, cut off anywhere: roles alternate and the user speaks first and last; each
call has exactly one result, right after it and in the order of the calls; thinking is byte-identical, or, for
another model than the one that made it, left out; the first instruction and the current plan are always there.

`Conversation` takes events in one by one and keeps only what the view still shows, so that a session of any length
takes bounded memory and time; `view` is the same over a whole list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from redline_agent.events import Compacted, Copied, Durable, Planned, ReplyReceived, RunStarted, Said, ToolFinished
from redline_agent.messages import REDLINE, Block, Label, Message, Reply, Text, Thinking, ToolCall, ToolResult
from redline_agent.safety.labels import CLEAN, Taint, join, taint_of

NO_RESULT = "This call was not carried out: the run was cut off before it ended."
_NAMES_MAX = 200
"""How many sources of taint are kept by name; what counts is that there are any."""


@dataclass(slots=True)
class Exchange:
    """A reply and the results of its calls, by the calls' ids."""

    reply: Reply
    results: dict[str, ToolResult] = field(default_factory=dict[str, ToolResult])

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """Calls that may be answered: those of a cut or refused reply are not there."""
        return () if self.reply.stop in ("max_tokens", "context_exceeded", "refusal") else self.reply.calls

    @property
    def open_calls(self) -> list[ToolCall]:
        """Calls without a result."""
        return [call for call in self.calls if call.id not in self.results]


Entry = tuple[Text, ...] | Exchange


def plan_text(steps: Planned) -> str:
    """Return a plan as the model and a person read it."""
    lines = [f"{number}. [{step.state}] {step.what}" + _details(step.files, step.check)
             for number, step in enumerate(steps.steps, 1)]  # fmt: skip
    how = "\nDo the step that is [doing], then call `finish` with what you did; you are given the next one then."
    return "The plan:\n" + "\n".join(lines) + (how if steps.stepwise else "")


def _details(files: tuple[str, ...], check: str) -> str:
    named = f" (in {', '.join(files)})" if files else ""
    return named + (f" Done when: {check}" if check else "")


class Conversation:
    """What the model is shown of a session, as far as its events have come in."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.first: tuple[Text, ...] = ()
        self.task: tuple[Text, ...] = ()
        self.plan: Planned | None = None
        self.summary: Text | None = None
        self.cleared: dict[str, str] = {}
        self.taint: Taint = CLEAN
        self.taken: set[str] = set()

    @classmethod
    def of(cls, events: Iterable[Durable]) -> Conversation:
        """Return the conversation of a session's events."""
        conversation = cls()
        for event in events:
            conversation.add(event)
        return conversation

    def add(self, event: Durable) -> None:
        """Take one event in."""
        match event:
            case RunStarted():
                self.first = self.first or event.content
                self.task = event.content
                self.plan = None
                self._say(event.content)
            case Said():
                self._say((event.text,))
            case Planned():
                self.plan = event
                if event.by != "executor":  # the executor's own is in its call and the result
                    self._say((Text(text=plan_text(event), label=event.label),))
                self._seen([event.label])
            case ReplyReceived():
                self.entries.append(Exchange(event.reply))
                self.taken |= {call.id for call in event.reply.calls}
            case ToolFinished():
                if self.exchange and event.result.call_id not in self.exchange.results:
                    self.exchange.results[event.result.call_id] = event.result
                self._seen([event.result.label])
            case Compacted():
                self._compact(event)
            case Copied() if event.imported:
                self._seen([Label(source="web", detail="an imported session")])
            case _:
                pass

    @property
    def exchanges(self) -> list[Exchange]:
        """The replies that are shown, oldest first."""
        return [entry for entry in self.entries if isinstance(entry, Exchange)]

    @property
    def exchange(self) -> Exchange | None:
        """The newest reply."""
        return next((entry for entry in reversed(self.entries) if isinstance(entry, Exchange)), None)

    def _say(self, content: tuple[Text, ...]) -> None:
        self.entries.append(content)
        self._seen([block.label for block in content])

    def _seen(self, labels: list[Label]) -> None:
        taint = join(self.taint, taint_of(labels))
        self.taint = Taint(taint.seen[-_NAMES_MAX:], taint.secret)

    def _compact(self, event: Compacted) -> None:
        self.cleared |= event.cleared
        if event.summary is None:
            return
        at = self.cut(event.keep)
        self.summary = event.summary
        self.entries = self.entries[at:]
        shown = {call.id for exchange in self.exchanges for call in exchange.calls}
        self.cleared = {ident: text for ident, text in self.cleared.items() if ident in shown}

    def cut(self, keep: int) -> int:
        """Return where the newest `keep` replies begin among the entries; a call is never parted from its result."""
        places = [at for at, entry in enumerate(self.entries) if isinstance(entry, Exchange)]
        if keep <= 0 or not places:
            return len(self.entries)
        return places[-keep] if keep <= len(places) else 0

    def messages(self, model: str) -> list[Message]:
        """Messages for `model`, oldest first."""
        out: list[Message] = []
        if self.summary is not None:
            _say(out, "user", self._head(self.summary))
        for entry in self.entries:
            if isinstance(entry, Exchange):
                self._show(out, entry, model)
            else:
                _say(out, "user", entry)
        return out

    def _head(self, summary: Text) -> list[Text]:
        """What stays of what was folded: the first instruction with its context, the newest task, the plan."""
        head = [*self.first, summary]
        kept = {id(entry) for entry in self.entries}
        if self.task is not self.first and id(self.task) not in kept:
            head += self.task[:1]
        if self.plan is not None:
            head.append(Text(text=plan_text(self.plan), label=self.plan.label))
        return head

    def _show(self, out: list[Message], exchange: Exchange, model: str) -> None:
        reply = exchange.reply
        content = [block for block in reply.content if not (isinstance(block, Thinking) and block.model != model)]
        if reply.stop in ("context_exceeded", "refusal"):
            return  # nobody answers what was refused, and another model is not to go on with it
        if reply.stop == "max_tokens":
            # What was cut is shown without its calls: half a call is never carried out.
            content = [block for block in content if not isinstance(block, ToolCall | Thinking)]
        content = [block for block in content if not (isinstance(block, Text) and not block.text.strip())]
        if not content:
            return
        _say(out, "assistant", content)
        results = [self._result(exchange, block.id) for block in content if isinstance(block, ToolCall)]
        if results:
            _say(out, "user", results)

    def _result(self, exchange: Exchange, ident: str) -> ToolResult:
        result = exchange.results.get(ident)
        if result is None:
            return ToolResult(call_id=ident, text=NO_RESULT, error=True, label=REDLINE)
        stub = self.cleared.get(ident)
        return result if stub is None else result.model_copy(update={"text": stub})


def view(events: Iterable[Durable], *, model: str) -> list[Message]:
    """Messages for `model`, oldest first."""
    return Conversation.of(events).messages(model)


def _say(messages: list[Message], role: str, content: Iterable[Block]) -> None:
    content = tuple(content)
    if messages and messages[-1].role == role:
        # Results come before any words in a user's message, as providers demand.
        joined = messages[-1].content + content
        if role == "user":
            joined = tuple(sorted(joined, key=lambda block: not isinstance(block, ToolResult)))
        messages[-1] = Message(role=messages[-1].role, content=joined)
    elif role == "user":
        messages.append(Message(role="user", content=content))
    else:
        messages.append(Message(role="assistant", content=content))
