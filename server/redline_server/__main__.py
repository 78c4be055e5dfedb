"""The `redline` command. Parses the arguments; each subcommand is imported when it is used."""

from __future__ import annotations

import argparse
import sys

from redline_agent.cli import add_commands, guarded
from redline_agent.version import VERSION


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="redline",
        description="A coding agent as a language server: every change arrives as hunks that you accept or reject.",
        epilog="Begin with `redline try` (a tour, no key needed), or `redline doctor`.",
    )
    top.add_argument("--version", action="version", version=f"redline {VERSION}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    serve = commands.add_parser(
        "serve",
        help="be the language server, on standard input and output",
        description="Speak LSP on stdio.",
    )
    serve.add_argument("--stdio", action="store_true", help="accepted and ignored: stdio is the only way")
    serve.add_argument("--log", metavar="FILE", help="write a log there (default: warnings on standard error)")
    serve.add_argument("--model", help="the model to use, as in anthropic:claude-sonnet-5-5, or builtin")
    serve.set_defaults(handler=_serve)
    tour = commands.add_parser(
        "try",
        help="the tour: real code, the real server, review in the terminal",
        description="Copy a real package's source to a scratch folder, ask the server for a rename and a clean-up"
        " with the built-in engine, and review each hunk here. No key, no network.",
    )
    tour.add_argument("--yes", action="store_true", help="accept everything without asking")
    tour.add_argument(
        "--model", default="", help="another model than the built-in engine (or the one whose key is set)"
    )
    tour.set_defaults(handler=_try)
    add_commands(commands)
    return top


def _serve(args: argparse.Namespace) -> int:
    from redline_server.app import serve

    return serve(log_file=args.log, model=args.model or "")


def _try(args: argparse.Namespace) -> int:
    from redline_server.tour import tour

    return tour(accept_all=args.yes or not sys.stdin.isatty(), model=args.model)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return guarded(parser().parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
