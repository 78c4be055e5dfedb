"""The command line for what has been (resume, fork, compact, export, import, usage), and for prompts and context."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redline_agent import cli_jobs
from redline_agent.errors import JournalError, UsageError

if TYPE_CHECKING:
    from redline_agent.events import Compacted
    from redline_agent.session import Workspace

_FOLDER = "the workspace folder (default: the repository around the current one)"


def add_commands(commands: Any, folder: Any) -> None:
    """Add this module's subcommands; `folder` finds the workspace folder of parsed arguments."""

    def add(name: str, handler: Any, text: str, description: str = "") -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=text, description=description or f"{text[0].upper()}{text[1:]}.")
        parser.add_argument("--folder", help=_FOLDER)

        def handle(args: argparse.Namespace) -> int:
            return int(handler(args, _open(folder(args))))

        parser.set_defaults(handler=handle)
        return parser

    resume = add(
        "resume", _resume, "go on with a run that was cut off",
        "Go on with the run that was cut off last, or with that session's. What the model has answered is not asked"
        " for again; at most the one request that was in flight is sent twice.",
    )  # fmt: skip
    resume.add_argument("session", nargs="?", default="", metavar="SESSION")
    resume.add_argument("--accept", action="store_true", help="accept every hunk that carries no badge")
    resume.add_argument("--review", action="store_true", help="decide on each hunk in the terminal")
    resume.add_argument("--background", action="store_true", help="hand it to a worker and return")
    resume.add_argument("--json", action="store_true", help="one JSON object a line, ending in the outcome")

    fork = add("fork", _fork, "copy a session up to one of its turns, to go on differently")
    fork.add_argument("session", metavar="SESSION")
    fork.add_argument("--at", type=int, metavar="TURN", help="the last turn to copy (default: the last there is)")

    compact = add("compact", _compact, "fold a session's past into a summary, so that it costs less to go on")
    compact.add_argument("session", metavar="SESSION")

    export = add("export", _export, "write a session as lines of JSON (masked; the files' raw texts are not in it)")
    export.add_argument("session", metavar="SESSION")
    export.add_argument("-o", "--output", metavar="FILE", help="where to (default: standard output)")

    into = add("import", _import, "bring an exported session in, as a new one without any grants")
    into.add_argument("file", metavar="FILE")

    report = add("report", _report, "write a session, and what it proposes, as one HTML file")
    report.add_argument("session", metavar="SESSION", help="a session or run (see: redline sessions)")
    report.add_argument("-o", "--output", metavar="FILE.html", required=True, help="where to")

    usage = add("usage", _usage, "tokens, cost and cache hits by day, session, run, turn and model")
    usage.add_argument("session", nargs="?", default="", metavar="SESSION")
    usage.add_argument("--turns", action="store_true", help="each turn too")
    usage.add_argument("--json", action="store_true", help="print as JSON")

    context = add(
        "context", _context, "what would be gathered for a task, and why",
        "Say which files and symbols the index finds for a task, ranked, with their tokens. No model is asked.",
    )  # fmt: skip
    context.add_argument("task", metavar="TASK")
    context.add_argument("--limit", type=int, default=20, metavar="N", help="how many files (default: 20)")
    context.add_argument("--json", action="store_true", help="print as JSON")

    prompts = commands.add_parser(
        "prompts", help="the prompts, layer by layer", description="Show the layers that prompts are made of."
    )
    kinds = prompts.add_subparsers(metavar="list | show | diff", required=True)
    listing = kinds.add_parser("list", help="every layer with its versions and budget")
    listing.add_argument("--json", action="store_true", help="print as JSON")
    listing.set_defaults(handler=_prompts_list)
    show = kinds.add_parser("show", help="the whole prompt of a role, as a model is sent it")
    show.add_argument("--role", default="executor", help="executor, planner, validator, explorer or summariser")
    show.add_argument("--profile", default="standard", choices=["standard", "small"])
    show.set_defaults(handler=_prompts_show)
    diff = kinds.add_parser("diff", help="two layers (ID@VERSION) or two roles' prompts, compared")
    diff.add_argument("a", metavar="A")
    diff.add_argument("b", metavar="B")
    diff.set_defaults(handler=_prompts_diff)


def _open(folder: Path) -> Workspace:
    from redline_agent.headless import open_workspace

    return open_workspace(folder)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _resume(args: argparse.Namespace, workspace: Workspace) -> int:
    from rich.console import Console

    from redline_agent import live
    from redline_agent.config import load_config
    from redline_agent.headless import Wish, run_task, run_until_interrupted
    from redline_agent.models.pool import Pool

    config = load_config()
    run = workspace.resume(workspace.cut_off(args.session), config)
    if run.revision is not None and (args.background or live.reached(workspace.journal.path)):
        raise UsageError(
            f"It revises {run.revision.item} of {run.revision.proposal.run}, which an editor may hold just now.",
            hint="Go on with it in the editor (redline.resume), or here without --background when that is closed.",
        )
    if args.background:
        return cli_jobs.start(workspace, run, config, as_json=args.json)
    wish = Wish(review=args.review, accept=args.accept, as_json=args.json)
    console = Console(stderr=args.json, highlight=False)
    return run_until_interrupted(run_task(workspace, run, Pool(config.compatible), wish, console))


def _fork(args: argparse.Namespace, workspace: Workspace) -> int:
    from redline_agent.history import fork, turns_of

    last = turns_of(event for _, event in workspace.journal.of_session(args.session))
    made = fork(workspace.journal, args.session, last if args.at is None else args.at)
    _say(f'{made}\nGo on there with: redline run "TASK" --session {made}')
    return 0


def _compact(args: argparse.Namespace, workspace: Workspace) -> int:
    import asyncio

    from redline_agent.config import load_config
    from redline_agent.models.pool import Pool

    config = load_config()

    async def fold() -> Compacted:
        pool = Pool(config.compatible)
        try:
            return await workspace.compact(args.session, config, pool)
        finally:
            await pool.close()

    event = asyncio.run(fold())
    _say(f"{event.before_tokens:,} tokens before, {event.after_tokens:,} after.")
    for each in event.passes:
        _say(f"  {each}")
    return 0


def _export(args: argparse.Namespace, workspace: Workspace) -> int:
    from redline_agent.history import export

    lines = export(workspace.journal, args.session)
    if not args.output:
        for line in lines:
            _say(line)
        return 0
    try:
        Path(args.output).write_text("".join(f"{line}\n" for line in lines), "utf-8")
    except OSError as error:
        raise UsageError(f"{args.output} cannot be written: {error}.") from error
    return 0


def _report(args: argparse.Namespace, workspace: Workspace) -> int:
    from redline_agent.report import write_session

    rows = {row.run: row.session for row in workspace.journal.runs()}
    write_session(Path(args.output), workspace.journal, rows.get(args.session) or str(args.session))
    _say(args.output)
    return 0


def _import(args: argparse.Namespace, workspace: Workspace) -> int:
    from redline_agent.history import import_session

    try:
        with Path(args.file).open(encoding="utf-8") as lines:
            made = import_session(workspace.journal, lines)
    except (OSError, UnicodeDecodeError) as error:
        raise JournalError(f"{args.file} cannot be read: {error}.") from error
    _say(f'{made}\nGo on there with: redline run "TASK" --session {made}')
    return 0


def _usage(args: argparse.Namespace, workspace: Workspace) -> int:
    from redline_agent.history import usage

    found = usage(workspace.journal, args.session)
    tables = {"days": found.days, "sessions": found.sessions, "runs": found.runs, "models": found.models}
    if args.turns or args.json:
        tables["turns"] = found.turns
    if args.json:
        told = {name: [each.as_json() for each in table] for name, table in tables.items()}
        errors = {name: {"replies": c.replies, "factor": round(c.factor, 3), "error": c.error}
                  for name, c in found.calibrations.items()}  # fmt: skip
        _say(json.dumps({**told, "estimates": errors}))
        return 0
    if not found.runs:
        _say("Nothing was used here yet.")
    for name, table in tables.items():
        for each in table[:20]:
            cost = "cost unknown" if each.cost_usd is None else f"${each.cost_usd:.4f}"
            lost = f", {each.lost} sent and never answered" if each.lost else ""
            _say(
                f"{name[:-1]:<8} {each.name}: {each.requests} requests, {each.input_tokens:,} in"
                f" ({each.cached_share:.0%} cached), {each.output_tokens:,} out, {cost}{lost}"
            )
    for name, each in found.calibrations.items():
        error = "not known yet" if each.error is None else f"{each.error:.1%}"
        _say(f"estimate {name}: {each.replies} replies, factor {each.factor:.2f}, median error {error}")
    return 0


def _context(args: argparse.Namespace, workspace: Workspace) -> int:
    import asyncio

    from redline_agent.headless import found_for

    files = asyncio.run(found_for(workspace, args.task, args.limit))
    if args.json:
        _say(json.dumps({"files": files}))
        return 0
    for each in files:
        _say(f"{each['score']:8.2f}  {each['tokens']:>7,} tokens  {each['path']}  ({each['why']})")
        for line, text in each["symbols"][:6]:
            _say(f"              {line}: {text}")
    if not files:
        _say("Nothing here speaks of that.")
    return 0


def _prompts_list(args: argparse.Namespace) -> int:
    from redline_agent.config import load_config
    from redline_agent.prompts.builder import described, layers

    found = [described(layer) for layer in layers(load_config().prompts_dir)]
    if args.json:
        _say(json.dumps(found))
        return 0
    for each in found:
        mark = " " if each["chosen"] else "-"
        of = f"{', '.join(each['roles'])}; {', '.join(each['profiles'])}"
        _say(f"{mark} {each['id']}@{each['version']:<4} {each['tier']:<8} at most {each['tokens']:>4} tokens  {of}")
    return 0


def _prompts_show(args: argparse.Namespace) -> int:
    _say(_shown(args.role, args.profile))
    return 0


def _shown(name: str, profile: str) -> str:
    """Return a role's whole prompt: layers, then tools with their schemas."""
    from redline_agent.config import load_config
    from redline_agent.models.base import Capabilities
    from redline_agent.prompts.builder import build
    from redline_agent.roles.roles import role
    from redline_agent.tools.registry import by_name, specs

    config, part = load_config(), role(name)
    can = Capabilities(profile="small", edits="symbol") if profile == "small" else Capabilities()
    tools = specs(by_name(part.tool_names(can)).values())
    prompt = build(part, profile, tools, {}, flags=config.flags, folder=config.prompts_dir)
    lines = [part.text for part in prompt.parts]
    lines += [f"## {tool.name}\n{tool.description}\n{json.dumps(tool.schema)}" for tool in prompt.tools]
    return "\n\n".join([*lines, f"Digest: {prompt.digest}"])


def _prompts_diff(args: argparse.Namespace) -> int:
    import difflib

    a, b = (_layer_or_role(each).splitlines() for each in (args.a, args.b))
    lines = list(difflib.unified_diff(a, b, args.a, args.b, lineterm=""))
    _say("\n".join(lines) if lines else "They are the same.")
    return 0


def _layer_or_role(name: str) -> str:
    from redline_agent.config import load_config
    from redline_agent.prompts.builder import layers
    from redline_agent.roles.roles import NAMES

    ident, _, version = name.partition("@")
    if ident in NAMES and not version:
        return _shown(ident, "standard")
    found = [each for each in layers(load_config().prompts_dir) if each.id == ident]
    chosen = [each for each in found if (each.version == version if version else each.chosen)]
    if not chosen:
        has = ", ".join(f"{each.id}@{each.version}" for each in found)
        raise UsageError(
            f"There is no layer or role {name!r}.", hint=f"There is {has}." if has else "See: prompts list"
        )
    return chosen[-1].text
