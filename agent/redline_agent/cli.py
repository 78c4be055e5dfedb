"""The command line, but for what needs the server: run, review, sessions, doctor. Knows no protocol."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from redline_agent import cli_campaign, cli_history, cli_jobs
from redline_agent.errors import ConfigError, RedlineError, UsageError


def add_commands(commands: Any) -> None:
    """Add this module's subcommands to a parser's subparsers."""
    run = commands.add_parser(
        "run",
        help="ask for a change and see the proposal",
        description="Run one task without an editor. Without --accept or --review nothing is changed:"
        " the proposal waits for `redline review`.",
        epilog='Examples:\n  redline run "rename parse_args to parse_arguments"\n'
        '  redline run "modernise syntax" src --accept\n  redline run "remove unused; organise imports" --check\n'
        "Exit codes: 0 done, 1 failed or refused (or --check found changes), 2 usage, 3 a limit was reached,"
        " 130 cancelled.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("task", help="what to do, in words")
    run.add_argument("paths", nargs="*", metavar="PATH", help="files or folders that the task is about")
    run.add_argument("--folder", help="the workspace folder (default: the repository around the current one)")
    run.add_argument("--model", help="provider:model, as in anthropic:claude-sonnet-5-5, or builtin")
    what = run.add_mutually_exclusive_group()
    what.add_argument("--review", action="store_true", help="decide on each hunk in the terminal")
    what.add_argument("--accept", action="store_true", help="accept every hunk that carries no badge")
    what.add_argument("--check", action="store_true", help="change nothing; exit code 1 when there is a proposal")
    what.add_argument("--background", action="store_true", help="hand it to a worker and return (see: redline watch)")
    run.add_argument("--json", action="store_true", help="one JSON object a line, ending in the outcome")
    run.add_argument(
        "--plan", choices=["auto", "always", "never", "ask"], help="whether a plan comes first, and waits for your word"
    )
    run.add_argument("--session", default="", metavar="SESSION", help="go on in an earlier session")
    run.add_argument("--max-turns", type=_positive_int, metavar="N", help="limit of model turns")
    run.add_argument("--max-cost", type=_positive, metavar="USD", help="limit of cost in US dollars")
    run.set_defaults(handler=_run)

    review = commands.add_parser(
        "review", help="decide on pending proposals", description="Decide on each pending hunk."
    )
    review.add_argument("--folder", help="the workspace folder (default: the repository around the current one)")
    review.add_argument("--json", action="store_true", help="print the pending proposals as JSON")
    review.add_argument("--drop", action="store_true", help="reject everything that is pending")
    review.set_defaults(handler=_review)

    sessions = commands.add_parser(
        "sessions", help="list past runs", description="List this folder's runs, newest first."
    )
    sessions.add_argument("--folder", help="the workspace folder (default: the repository around the current one)")
    sessions.add_argument("--json", action="store_true", help="print as JSON")
    sessions.set_defaults(handler=_sessions)

    trust = commands.add_parser(
        "trust",
        help="let commands and tests of a folder run",
        description="Trust a workspace folder: from then on the agent may run its commands and tests, in the sandbox."
        " Before that nothing of the folder runs by any path.",
        epilog="Examples:\n  redline trust            the repository around the current folder\n"
        "  redline trust --revoke   take it back, with everything that was approved always there\n"
        "  redline trust --list     say whether it is trusted, and what was approved always",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    trust.add_argument(
        "folder", nargs="?", help="the workspace folder (default: the repository around the current one)"
    )
    trust.add_argument("--revoke", action="store_true", help="take trust and approvals back")
    trust.add_argument("--list", action="store_true", help="change nothing, say what holds")
    trust.set_defaults(handler=_trust)

    cli_history.add_commands(commands, _folder)
    cli_jobs.add_commands(commands, _folder)
    cli_campaign.add_commands(commands)

    doctor = commands.add_parser(
        "doctor", help="check the installation", description="Say what works here and what does not."
    )
    doctor.add_argument("--json", action="store_true", help="print as JSON")
    doctor.set_defaults(handler=_doctor)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _positive_int(text: str) -> int:
    value = _positive(text)
    if value != int(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(value)


def _folder(args: argparse.Namespace) -> Path:
    """Return the workspace folder: the one that was named, the repository around here, or here."""
    if args.folder:
        return Path(args.folder)
    here = _here()
    around = [each for each in (here, *here.parents) if each != Path.home() or each == here]
    return next((each for each in around if (each / ".git").exists() or (each / ".hg").exists()), here)


def _here() -> Path:
    try:
        return Path.cwd().resolve()
    except OSError as error:
        raise UsageError("The current folder is gone.", hint="Change to one that exists.") from error


def _run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from redline_agent.config import load_config, with_limits
    from redline_agent.context.gather import Task
    from redline_agent.headless import Wish, open_workspace, run_task, run_until_interrupted
    from redline_agent.models.names import default_model
    from redline_agent.models.pool import Pool

    if not args.task.strip():
        raise UsageError("The task is empty.")
    config = load_config()
    wanted = {"turns_max": args.max_turns, "cost_usd_max": args.max_cost}
    limits = with_limits(config.limits, {name: value for name, value in wanted.items() if value}, "the command line")
    workspace = open_workspace(_folder(args))
    here = _here()
    paths: list[str] = args.paths or ([] if here == workspace.resolver.root or args.folder else [str(here)])
    targets: list[str] = []
    for path in paths:
        inside = workspace.resolver.resolve(str(Path(path).absolute()))
        if not (workspace.resolver.root / inside).exists():
            raise UsageError(f"There is no {path}.")
        targets.append(inside)
    pool = Pool(config.compatible)
    model = pool.get(args.model or config.model or default_model())
    wish = Wish(args.review, args.accept, args.check, args.json)
    file = targets[0] if len(targets) == 1 and (workspace.resolver.root / targets[0]).is_file() else ""
    root = workspace.resolver.root
    cwd = here.relative_to(root).as_posix() if here != root and here.is_relative_to(root) else ""
    task = Task(args.task, file=file, targets=tuple(targets), cwd=cwd)
    from dataclasses import replace

    console = Console(stderr=args.json, highlight=False)
    config = replace(config, limits=limits, plan=args.plan or config.plan)
    run = workspace.new_run(task, model, config, args.session)
    if args.background:
        return cli_jobs.start(workspace, run, config, as_json=args.json)
    pool.keep(model)
    return run_until_interrupted(run_task(workspace, run, pool, wish, console))


def _review(args: argparse.Namespace) -> int:
    import json

    from rich.console import Console

    from redline_agent.deciding import pending_proposals, reject
    from redline_agent.headless import open_workspace, proposal_json, review_all

    workspace = open_workspace(_folder(args))
    proposals = pending_proposals(workspace)
    if args.json:
        print(json.dumps([{"runId": p.run, "instruction": p.instruction, **proposal_json(p)} for p in proposals]))  # noqa: T201
        return 0
    console = Console(highlight=False)
    if not proposals:
        console.print("No proposal is pending here.")
        return 0
    if args.drop:
        for proposal in proposals:
            reject(workspace, proposal, [item.id for item in proposal.items])
        console.print(f"Dropped {len(proposals)} of them.")
        return 0
    review_all(workspace, proposals, console)
    return 0


def _sessions(args: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict
    from datetime import datetime

    from redline_agent.headless import open_workspace
    from redline_agent.text import one_line

    rows = open_workspace(_folder(args)).journal.runs()
    if args.json:
        print(json.dumps([asdict(row) for row in rows]))  # noqa: T201
        return 0
    for row in rows:
        when = datetime.fromtimestamp(row.started_s).astimezone().strftime("%Y-%m-%d %H:%M")
        tokens = f"  {row.tokens:,} tokens" if row.tokens else ""
        print(f"{when}  {row.state:<11} {row.run}  {row.session}  {row.model}{tokens}")  # noqa: T201
        print(f"    {one_line(row.instruction)}")  # noqa: T201
    if not rows:
        print("No run in this folder yet.")  # noqa: T201
    return 0


def _trust(args: argparse.Namespace) -> int:
    from redline_agent.config import state_dir
    from redline_agent.safety.approvals import Memory

    root = _folder(args).resolve()
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder.")
    memory = Memory(state_dir() / "permissions.json")
    if not args.list:
        memory.trust(root, not args.revoke)
    trusted = memory.standing(root, "").trusted
    print(f"{root} is {'trusted: its commands and tests may run, in the sandbox' if trusted else 'not trusted'}.")  # noqa: T201
    for shown in memory.always(root):
        print(f"  always: {shown}")  # noqa: T201
    return 0


def _doctor(args: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from redline_agent.doctor import examine

    checks = examine()
    if args.json:
        print(json.dumps([asdict(check) for check in checks]))  # noqa: T201
    else:
        for check in checks:
            mark = {True: "ok", False: "NO", None: "--"}[check.ok]
            print(f"{mark:>3}  {check.name:<14} {check.detail}")  # noqa: T201
    return 1 if any(check.ok is False for check in checks) else 0


def guarded(handler_args: argparse.Namespace) -> int:
    """Carry out a parsed command; an error of ours is one message and an exit code, never a traceback."""
    try:
        return int(handler_args.handler(handler_args))
    except (UsageError, ConfigError) as error:
        sys.stderr.write(f"redline: {error}\n")
        return 2
    except RedlineError as error:
        sys.stderr.write(f"redline: {error}\n")
        return 1
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted.\n")
        return 130
