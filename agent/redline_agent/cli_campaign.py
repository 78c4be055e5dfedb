"""The command line for campaigns: campaign, worker, scheduler."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redline_agent.errors import RedlineError, UsageError

if TYPE_CHECKING:
    from redline_agent.jobs.campaign import Campaign, Where
    from redline_agent.jobs.plan import Plan
    from redline_agent.jobs.store import Row

_EPILOG = """Examples:
  redline campaign "modernise syntax; organise imports; remove unused" --over 'src/**/*.py'
  redline campaign "port the tests to pytest" --over 'tests/*.py' --model openai:gpt-5 --dry-run
  redline campaign migration.toml --workers 4
  redline campaign migration.toml --scheduler tls://build1:8786 --listen laptop:7000 \\
      --tls-ca keys/ca.pem --tls-cert keys/campaign.pem --tls-key keys/campaign.key
A second start does only what is left.
Exit codes: 0 done, 1 some target failed, 2 usage, 3 over budget, 130 cancelled."""


def add_commands(commands: Any) -> None:
    """Add this module's subcommands."""
    campaign = commands.add_parser(
        "campaign",
        help="one task over many files, packages or repositories",
        description="Carry one task out over many targets, on worker processes here or on other machines. Works on what"
        " is committed; nothing in your working tree is changed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    campaign.add_argument("campaign", metavar="FILE.toml | TASK", help="a campaign's file, or the task in words")
    what = campaign.add_argument_group("what")
    what.add_argument("--over", action="append", metavar="GLOB", help="which files (as in .gitignore); may be repeated")
    what.add_argument("--exclude", action="append", metavar="GLOB", help="which not; may be repeated")
    what.add_argument("--repository", action="append", metavar="FOLDER", help="which repositories (default: this one)")
    what.add_argument("--split", metavar="HOW", help="file (default), package, repository, or files:N for N at a time")
    what.add_argument("--name", help="the name that its state is kept under (default: made of the task)")
    what.add_argument("--model", help="provider:model, as in anthropic:claude-sonnet-5-5, or builtin")
    what.add_argument("--proof", choices=["none", "no-failures", "strict"], help="what must hold of each proposal")
    what.add_argument("--tests", metavar="HOW", help="tests in each proof: off (default), affected, all, or a command")
    what.add_argument(
        "--validation", choices=["auto", "never"], help="whether the model looks at each change once more"
    )
    result = campaign.add_argument_group("results")
    result.add_argument("--output", choices=["proposals", "patches", "branch"], help="where results go")
    result.add_argument("--out", metavar="FOLDER", help="where patches go (default: patches)")
    result.add_argument("--branch", help="the branch that results are committed to (default: redline/NAME)")
    limits = campaign.add_argument_group("limits")
    limits.add_argument("--max-cost", type=float, metavar="USD", help="of all targets (default: 5)")
    limits.add_argument("--max-target-cost", type=float, metavar="USD", help="of one target (default: 0.50)")
    limits.add_argument("--per-minute", type=float, metavar="N", help="requests a minute over all workers")
    where = campaign.add_argument_group("where")
    where.add_argument(
        "--workers", type=int, metavar="N", help="worker processes here (default: as many as cores, 2 at least)"
    )
    where.add_argument("--scheduler", default="", metavar="tls://HOST:PORT", help="use the workers of this scheduler")
    where.add_argument("--listen", default="", metavar="HOST:PORT", help="where those workers reach this process")
    _tls(where)
    campaign.add_argument("--dry-run", action="store_true", help="show targets, tokens and cost; do nothing")
    campaign.add_argument("--retry", action="store_true", help="do targets again that failed")
    campaign.add_argument("--report", metavar="FILE.html", help="write a report of all targets and what they propose")
    campaign.add_argument("--json", action="store_true", help="one JSON object a line, ending in the outcome")
    campaign.set_defaults(handler=_campaign)

    worker = commands.add_parser(
        "worker",
        help="work for a campaign's scheduler",
        description="Carry targets out for a scheduler, with this machine's own configuration, sandbox and model keys.",
    )
    worker.add_argument("--scheduler", required=True, metavar="tls://HOST:PORT")
    worker.add_argument("--threads", type=int, default=max(1, os.cpu_count() or 1), help="targets at once")
    worker.add_argument("--host", default="", help="the address that it listens on, as others reach it")
    _tls(worker)
    worker.set_defaults(handler=_worker)

    scheduler = commands.add_parser(
        "scheduler",
        help="be the scheduler of workers on several machines",
        description="Hand targets out to workers, over mutual TLS alone. See docs/campaigns.md.",
    )
    scheduler.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    scheduler.add_argument("--port", type=int, default=8786)
    scheduler.add_argument("--new-keys", metavar="FOLDER", help="write an authority and keys for all there, and end")
    _tls(scheduler)
    scheduler.set_defaults(handler=_scheduler)


def _tls(parser: Any) -> None:
    for name, what in (("ca", "the authority's certificate"), ("cert", "this side's certificate"), ("key", "its key")):
        parser.add_argument(f"--tls-{name}", default="", metavar="FILE", help=what)


def _plan(args: argparse.Namespace) -> tuple[Plan, Path]:
    """The plan of a file or of the command line, options over it; and the folder that its paths start from."""
    from redline_agent.jobs.plan import checked, load

    path, base = Path(args.campaign), Path.cwd()
    data: dict[str, Any] = {"task": args.campaign}
    if path.suffix == ".toml" and (path.exists() or not re.search(r"\s", args.campaign)):
        data, base = load(path).model_dump(exclude_unset=True), path.resolve().parent
    given = {
        "over": args.over, "exclude": args.exclude, "repositories": args.repository, "split": args.split,
        "name": args.name, "model": args.model, "proof": args.proof, "tests": args.tests, "output": args.output,
        "validation": args.validation,
        "out": args.out, "branch": args.branch,
    }  # fmt: skip
    limits = {
        "cost_usd_max": args.max_cost,
        "target_cost_usd_max": args.max_target_cost,
        "requests_per_minute": args.per_minute,
    }
    data |= {name: value for name, value in given.items() if value is not None}
    told = {name: float(value) for name, value in limits.items() if value is not None}
    data["limits"] = {**dict(data.get("limits", {})), **told}
    if args.repository:
        base = Path.cwd()
    return checked(data, "the campaign"), base


def _repository(base: Path) -> Path:
    """The repository around a folder, for a plan that names none."""
    around = [base, *base.parents]
    return next((each for each in around if (each / ".git").exists()), base)


def _campaign(args: argparse.Namespace) -> int:
    from redline_agent.config import load_config
    from redline_agent.jobs.campaign import Campaign, Where
    from redline_agent.jobs.channel import place_of
    from redline_agent.models.catalog import make_model

    plan, base = _plan(args)
    if plan.repositories == ["."]:
        plan = plan.model_copy(update={"repositories": [str(_repository(base.resolve()))]})
    if args.scheduler:
        from redline_agent.jobs.certificates import from_files

        if not args.listen:
            raise UsageError("Workers elsewhere must reach this process.", hint="Give --listen HOST:PORT.")
        place_of(args.listen)
        where = Where(0, args.scheduler, from_files(args.tls_ca, args.tls_cert, args.tls_key), args.listen)
    elif args.workers is not None and args.workers < 1:
        raise UsageError("--workers must be at least 1.")
    else:
        where = Where(args.workers or max(2, os.cpu_count() or 2))
    campaign = Campaign(plan, base)
    ended = False
    try:
        campaign.find()
        for note in campaign.notes:
            sys.stderr.write(f"redline: {note}\n")
        if not args.scheduler:
            make_model(campaign.model, load_config().compatible)  # one that cannot be had is said before all else
        if args.dry_run:
            return _dry_run(campaign, campaign.look(), as_json=args.json)
        rows = campaign.take_in(again=args.retry)
        code = asyncio.run(_carried_out(campaign, where, rows, as_json=args.json))
        ended = True
        if args.report:
            from redline_agent.report import write_campaign

            write_campaign(Path(args.report), campaign)
        return code
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. What is done is kept; start it again to go on.\n")
        if args.json:
            _outcome(campaign, 130)
        return 130
    except RedlineError as error:
        if args.json and not ended:
            campaign.problems.append(str(error))
            _outcome(campaign, 2 if isinstance(error, UsageError) else 1)
        raise
    finally:
        campaign.close()


def _dry_run(campaign: Campaign, rows: list[Row], *, as_json: bool) -> int:
    from rich.console import Console

    from redline_agent.config import load_config
    from redline_agent.jobs.outcomes import estimate, table
    from redline_agent.models.catalog import make_model

    model = make_model(campaign.model, load_config().compatible)
    expected = estimate(rows, model)
    if as_json:
        print(json.dumps({"type": "estimate", **expected.as_json(), "model": campaign.model,  # noqa: T201
                          "rows": [row.as_json() for row in rows]}))  # fmt: skip
        return 0
    console = Console(highlight=False)
    console.print(table(rows))
    cost = "at an unknown price" if expected.cost_usd is None else f"${expected.cost_usd:.2f}"
    console.print(
        f"\n{expected.targets:,} targets to do of {len(rows):,} on {campaign.model}:"
        f" about {expected.tokens:,} tokens, {cost}"
    )
    console.print(f"(by {expected.basis}; the limit is ${campaign.plan.limits.cost_usd_max:g})")
    return 0


async def _carried_out(campaign: Campaign, where: Where, rows: list[Row], *, as_json: bool) -> int:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from redline_agent.jobs.outcomes import summary, table

    console = Console(stderr=as_json, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=as_json or not console.is_terminal) as progress:
        shown = progress.add_task(campaign.plan.ident, total=len(rows))
        before = sum(row.cost_usd for row in rows)
        costs = {row.target.key: row.cost_usd for row in rows}

        def changed(row: Row) -> None:
            costs[row.target.key] = row.cost_usd
            if as_json:
                try:
                    print(json.dumps({"type": "target", **row.as_json()}), flush=True)  # noqa: T201
                except BrokenPipeError:
                    campaign.stop("nobody reads what it prints any more")
            progress.update(shown, completed=_done(campaign), description=_described(campaign, sum(costs.values())))

        campaign.changed = changed
        progress.update(shown, completed=_done(campaign), description=_described(campaign, before))
        await campaign.carry_out(where)
    rows = campaign.rows()
    said = summary(rows)
    code = _code(said["counts"], campaign)
    if as_json:
        _outcome(campaign, code)
        return code
    console.print(table(rows))
    counts = ", ".join(f"{count:,} {state}" for state, count in said["counts"].items())
    cost = f", ${said['costUsd']:.4f}" if said["costUsd"] else ""
    console.print(f"\n{len(rows):,} targets: {counts}; {said['tokens']:,} tokens{cost}")
    for problem in campaign.problems:
        console.print(problem, style="red", markup=False)
    console.print(_next(campaign, said["counts"]), markup=False)
    return code


def _outcome(campaign: Campaign, code: int) -> None:
    """Print the last line of `--json`."""
    from redline_agent.jobs.outcomes import summary

    said = summary(campaign.rows()) if campaign.wanted else {}
    last = {"type": "outcome", "campaign": campaign.plan.ident, **said, "problems": campaign.problems, "exitCode": code}
    with suppress(BrokenPipeError):
        print(json.dumps(last), flush=True)  # noqa: T201


def _done(campaign: Campaign) -> int:
    return sum(campaign.counts[state] for state in ("proposed", "nothing", "failed", "over budget"))


def _described(campaign: Campaign, cost: float) -> str:
    counts = campaign.counts
    bad = f" [red]{counts['failed']} failed[/]" if counts["failed"] else ""
    return f"[green]{counts['proposed']} proposed[/] {counts['nothing']} nothing{bad} ${cost:.2f}"


def _code(counts: dict[str, int], campaign: Campaign) -> int:
    if campaign.lost or campaign.problems or counts.get("failed") or counts.get("left") or counts.get("running"):
        return 1
    return 3 if counts.get("over budget") else 0


def _next(campaign: Campaign, counts: dict[str, int]) -> str:
    if campaign.lost:
        return f"{campaign.lost} What is done is kept; start the campaign again to go on."
    if not counts.get("proposed"):
        return "Nothing is proposed."
    match campaign.plan.output:
        case "proposals":
            return "Decide in your editor, or with: redline review"
        case "patches":
            return f"The patches are in {campaign.plan.out}; apply one with: git apply FILE"
        case _:
            branch = campaign.plan.branch_name
            return f"The results are on the branch {branch}; see: git diff HEAD {branch}"


def _worker(args: argparse.Namespace) -> int:
    from redline_agent.jobs.certificates import from_files
    from redline_agent.jobs.worker import work

    own = from_files(args.tls_ca, args.tls_cert, args.tls_key)
    if not args.scheduler.startswith("tls://"):
        raise UsageError(f"The scheduler {args.scheduler} is not reached by mutual TLS.", hint="Give tls://HOST:PORT.")
    asyncio.run(work(args.scheduler, own, max(1, args.threads), host=args.host))
    return 0


def _scheduler(args: argparse.Namespace) -> int:
    from redline_agent.jobs.certificates import from_files, write_keys
    from redline_agent.jobs.worker import schedule

    if args.new_keys:
        for name in write_keys(Path(args.new_keys)):
            print(Path(args.new_keys) / name)  # noqa: T201
        return 0
    asyncio.run(schedule(args.host, args.port, from_files(args.tls_ca, args.tls_cert, args.tls_key)))
    return 0
