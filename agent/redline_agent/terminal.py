"""Asking at the terminal: for leave, for a word, for one of some keys."""

from __future__ import annotations

import signal

from rich.console import Console
from rich.prompt import Prompt as RichPrompt
from rich.text import Text as RichText

from redline_agent.children import Words
from redline_agent.safety.approvals import Answer, Asker, Question
from redline_agent.text import escape_hidden


def asker(console: Console) -> Asker:
    """Return how a person at the terminal is asked for leave; the safe answer is the one that comes first."""

    async def asked(question: Question) -> Answer:
        console.print()
        console.print(RichText(f"Redline asks for leave to {question.what}", style="bold yellow"), soft_wrap=True)
        console.print(RichText(f"  {question.why}", style="yellow"), soft_wrap=True)
        key = ask(console, {each[0]: each for each in question.answers}, "d", at_end="d")
        return next(each for each in question.answers if each[0] == key)

    return asked


def words_from(console: Console) -> Words:
    """Return how a person at the terminal is asked a question."""

    async def asked(question: str) -> str | None:
        console.print()
        console.print(RichText(escape_hidden(question), style="bold yellow"), soft_wrap=True)
        return ask_words(console)

    return asked


def ask(console: Console, choices: dict[str, str], default: str | None, at_end: str = "") -> str:
    """Ask for one of some keys; the end of input means `at_end`, or the last choice, which is to quit."""
    words = ", ".join(f"{key} = {what}" for key, what in choices.items())
    words += f" ({default})" if default else ""
    # Inside an event loop Ctrl-C would only be noted while this waits for a key; here it is to interrupt at once.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        # An Ellipsis is the prompt's own way to have no default.
        return str(
            RichPrompt.ask(
                RichText(words),
                choices=list(choices),
                default=default or ...,
                console=console,
                show_choices=False,
                show_default=False,
            )
        )
    except EOFError:
        console.print()
        return at_end or list(choices)[-1]
    finally:
        signal.signal(signal.SIGINT, before)


def ask_words(console: Console) -> str | None:
    """Ask for a line of words; None at the end of input."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return str(RichPrompt.ask(RichText(">"), default="", show_default=False, console=console))
    except EOFError:
        console.print()
        return None
    finally:
        signal.signal(signal.SIGINT, before)
