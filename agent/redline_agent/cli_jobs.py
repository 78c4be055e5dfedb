"""The command line for background runs: list, watch, steer, cancel, approve."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from redline_agent.errors import RedlineError, UsageError

if TYPE_CHECKING:
    from redline_agent.config import Config
    from redline_agent.safety.approvals import Answer
    from redline_agent.session import Run, Workspace

_FOLDER = "the workspace folder (default: the repository around the current one)"
_EXITS = {"proposed": 0, "answered": 0, "limit": 3, "cancelled": 130}


def add_commands(commands: Any, folder: Callable[[argparse.Namespace], Path]) -> None:
    """Add this module's subcommands; `folder` finds the workspace folder of parsed arguments."""

    def add(name: str, handler: Callable[[argparse.Namespace, Path], int], text: str, more: str = "") -> Any:
        parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {more}".strip())
        parser.add_argument("--folder", help=_FOLDER)

        def handle(args: argparse.Namespace) -> int:
            return handler(args, _journal(folder(args)))

        parser.set_defaults(handler=handle)
        return parser

    jobs = add("jobs", _jobs, "list background runs that go on", "`redline sessions` lists those that have ended.")
    jobs.add_argument("--json", action="store_true", help="print as JSON")
    watch = add(
        "watch", _watch, "follow a background run",
        "Shows what it does, and asks you what it asks. Ctrl-C stops watching; the run goes on.",
    )  # fmt: skip
    steer = add("steer", _steer, "put a word in before a background run's next turn")
    steer.add_argument("text", metavar="TEXT")
    cancel = add("cancel", _cancel, "cancel a background run")
    approve = add("approve", _approve, "answer what a background run waits for")
    approve.add_argument("request", metavar="REQUEST", help="its id, as `redline jobs` shows it")
    approve.add_argument("answer", metavar="ANSWER", help="deny, once, session or always; or words, for a question")
    for parser in (watch, steer, cancel, approve):
        parser.add_argument("--run", default="", metavar="RUN", help="the run or session (default: the only one)")


def _journal(root: Path) -> Path:
    from redline_agent.config import journal_path, state_dir

    return journal_path(state_dir(), root.resolve())


def start(workspace: Workspace, run: Run, config: Config, *, as_json: bool) -> int:
    """Hand a run to a worker and return at once."""
    from redline_agent.jobs.orders import order, start

    given = order(workspace.resolver.root, run, config)
    start(given)
    if as_json:
        print(json.dumps({"type": "started", "runId": given.run, "sessionId": given.session}))  # noqa: T201
    else:
        print(f"{given.run} goes on in the background. Follow it with: redline watch --run {given.run}")  # noqa: T201
        print("Its proposal will be in your editor's list, and in: redline review")  # noqa: T201
    return 0


def _jobs(args: argparse.Namespace, journal: Path) -> int:
    from redline_agent.jobs.reach import jobs
    from redline_agent.text import escape_hidden, one_line

    found = [said for _, said in jobs(journal).values()]
    if args.json:
        print(json.dumps(found))  # noqa: T201
        return 0
    for said in found:
        print(f"{said['state']:<9} {said['runId']}  {said['model']}  {escape_hidden(one_line(said['doing'], 70))}")  # noqa: T201
        print(f"    {escape_hidden(one_line(said['instruction']))}")  # noqa: T201
        for each in said["pending"]:
            print(f"    waits: {each['requestId']}: {escape_hidden(one_line(each['question'], 120))}")  # noqa: T201
    if not found:
        print("No background run is going on in this folder.")  # noqa: T201
    return 0


def _steer(args: argparse.Namespace, journal: Path) -> int:
    from redline_agent.jobs.reach import asked, job

    if not args.text.strip():
        raise UsageError("The word is empty.")
    asked(job(journal, args.run), {"do": "steer", "text": args.text})
    print("It is told before its next turn.")  # noqa: T201
    return 0


def _cancel(args: argparse.Namespace, journal: Path) -> int:
    from redline_agent.jobs.reach import asked, job

    done = asked(job(journal, args.run), {"do": "cancel"})
    print("It is cancelled; `redline resume` goes on with it." if done["cancelled"] else "It had ended.")  # noqa: T201
    return 0


def _approve(args: argparse.Namespace, journal: Path) -> int:
    from redline_agent.jobs.reach import asked, job

    path = job(journal, args.run)
    pending = {each["requestId"]: each for each in asked(path, {"do": "job"})["pending"]}
    if args.request not in pending:
        raise UsageError(f"There is no open question {args.request!r}.", hint=f"Open: {', '.join(pending) or 'none'}.")
    asked(path, _answer(pending[args.request], args.answer))
    return 0


def _answer(pending: dict[str, Any], answer: str) -> dict[str, Any]:
    ident = pending["requestId"]
    if pending.get("answers"):
        return {"do": "approve", "requestId": ident, "decision": answer}
    return {"do": "answer", "requestId": ident, "text": answer}


def _watch(args: argparse.Namespace, journal: Path) -> int:
    from rich.console import Console

    from redline_agent.jobs.reach import asked, job

    path, after, console, asked_for = job(journal, args.run), 0, Console(highlight=False), set[str]()
    while True:
        said = asked(path, {"do": "watch", "after": after})
        after = said["next"]
        for kind, text in said["notes"]:
            _show(console, kind, text)
        if said["over"]:
            return _over(console, said)
        for pending in said["pending"]:
            if pending["requestId"] not in asked_for:
                asked_for.add(pending["requestId"])
                _ask(console, path, pending)


_MARKS = {"started": ("…", "dim"), "done": ("✓", "green"), "refused": ("✗", "red"), "working": ("…", "dim")}


def _show(console: Any, kind: str, text: str) -> None:
    from rich.text import Text

    from redline_agent.text import escape_hidden

    if kind in _MARKS:
        mark, style = _MARKS[kind]
        console.print(Text(f"  {mark} {escape_hidden(text)}", style=style), soft_wrap=True)


def _ask(console: Any, path: Path, pending: dict[str, Any]) -> None:
    """Ask the person at the terminal; where there is none, it waits for somebody else."""
    import asyncio

    from rich.text import Text

    from redline_agent.jobs.reach import asked
    from redline_agent.safety.approvals import Question
    from redline_agent.terminal import asker, words_from

    question, answers = str(pending["question"]), cast("tuple[Answer, ...]", tuple(pending.get("answers", ())))
    if not sys.stdin.isatty():
        console.print(Text(f"It waits: {question}\nAnswer with: redline approve {pending['requestId']} ANSWER"))
        return

    async def given() -> str | None:
        if answers:
            return await asker(console)(Question("", question, str(pending["why"]), answers))
        return await words_from(console)(question)

    answer = asyncio.run(given())
    if answer is not None:
        try:
            asked(path, _answer(pending, answer))
        except RedlineError as error:  # somebody else was quicker
            console.print(Text(str(error), style="yellow"))


def _over(console: Any, said: dict[str, Any]) -> int:
    from rich.text import Text

    from redline_agent.text import escape_hidden

    if said["answer"]:
        console.print(Text(escape_hidden(said["answer"])), soft_wrap=True)
    used = said["usage"]
    console.print(f"{said['outcome']}: {used['turns']} turns, {used['tokens']:,} tokens", markup=False)
    if said["outcome"] == "proposed":
        console.print("Decide with: redline review")
    return _EXITS.get(said["outcome"], 1)
