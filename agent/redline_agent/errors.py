"""Every error that Redline raises on purpose.

    RedlineError
    ├── UsageError              the caller asked for something that cannot be meant
    ├── ConfigError             a setting or a key is missing or wrong
    ├── WorkspaceError
    │   ├── PathRefused         a path leaves the workspace, or a rule forbids it
    │   ├── PermitRefused       an executor was given no permit, a used one, or one for something else
    │   ├── FileRefused         a file is missing, binary, undecodable or too large
    │   ├── EditRefused         the text to replace is not there, or not unique
    │   └── StaleFile           a file changed since it was read
    ├── ToolError               a tool could not do its work; its text goes to the model
    ├── ModelError
    │   ├── ModelUnavailable    overloaded, rate limited, unreachable: may be tried again
    │   ├── StreamDropped       the reply broke off after it had begun
    │   └── ContextOverflow     the request does not fit the model's window
    ├── JournalError            the session's log cannot be read or written
    ├── LimitReached            a budget of turns, tokens, time or money is used up
    └── ReviewError             a hunk is unknown, already decided, or has moved on

A message says what happened and where; `hint` says what to do next.
"""

from __future__ import annotations


class RedlineError(Exception):
    """Base of all errors; `message` is for people, `hint` is the next step (may be empty)."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class UsageError(RedlineError):
    """The request itself is wrong: unknown argument, no such model, no workspace."""


class ConfigError(RedlineError):
    """A setting, file or key is missing or malformed."""


class WorkspaceError(RedlineError):
    """Something about the files."""


class PathRefused(WorkspaceError):
    """A path that may not be used."""


class PermitRefused(WorkspaceError):
    """What was about to happen is not what was allowed."""


class FileRefused(WorkspaceError):
    """A file that cannot be used as text."""


class EditRefused(WorkspaceError):
    """An edit whose place is missing or ambiguous."""


class StaleFile(WorkspaceError):
    """A file that changed since the run read it."""


class ToolError(RedlineError):
    """A tool's own failure, told to the model."""


class ModelError(RedlineError):
    """The model's side failed in a way that trying again will not mend."""


class ModelUnavailable(ModelError):
    """May be tried again; `retry_after_s` is the provider's wish, if it named one."""

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class StreamDropped(ModelUnavailable):
    """The connection broke in mid-reply; what came was paid for and is thrown away.

    `paid` is what the provider had reported by then: tokens in, tokens out.
    """

    def __init__(
        self, message: str, *, hint: str = "", retry_after_s: float | None = None, paid: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__(message, hint=hint, retry_after_s=retry_after_s)
        self.paid = paid


class ContextOverflow(ModelError):
    """The request is larger than the model's window."""


class JournalError(RedlineError):
    """The journal cannot be read or written."""


class LimitReached(RedlineError):
    """A hard limit of the run; `limit` is its name."""

    def __init__(self, message: str, *, limit: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.limit = limit


class ReviewError(RedlineError):
    """A decision on a hunk that cannot be carried out."""
