"""What each command is given: one object, unknown keys refused, nothing coerced."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Arguments(BaseModel):
    """Base of command arguments: unknown keys are refused, nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Point(Arguments):
    """A position of LSP."""

    line: int = Field(ge=0)
    character: int = Field(ge=0)


class Span(Arguments):
    """A range of LSP."""

    start: Point
    end: Point


class RunArguments(Arguments):
    """`redline.run`."""

    instruction: str = Field(min_length=1, max_length=20_000)
    uri: str | None = None
    range: Span | None = None
    kind: str | None = None
    sessionId: str | None = None  # noqa: N815  the public surface's own spelling, here and below
    background: bool = False


class RunId(Arguments):
    """A command on one run."""

    runId: str  # noqa: N815


class MaybeRunId(Arguments):
    """`redline.runs`."""

    runId: str | None = None  # noqa: N815


class SteerArguments(RunId):
    """`redline.steer`."""

    text: str = Field(min_length=1, max_length=20_000)


class AnswerArguments(Arguments):
    """`redline.answer`."""

    requestId: str  # noqa: N815
    text: str


class ApproveArguments(Arguments):
    """`redline.approve`."""

    requestId: str  # noqa: N815
    decision: Literal["once", "session", "always", "deny"]


class TrustArguments(Arguments):
    """`redline.trust`."""

    uri: str


class DecideArguments(RunId):
    """`redline.accept` and `redline.reject`."""

    hunks: list[str] | Literal["all"]
    revision: int | None = None


class ReviseArguments(RunId):
    """`redline.revise`."""

    hunk: str
    text: str = Field(min_length=1, max_length=20_000)


class RevertArguments(RunId):
    """`redline.revertRun`; with `preview` nothing is changed: the diff of the revert is shown."""

    preview: bool = False
    hunks: list[str] | Literal["all"] = "all"


class DiffArguments(RunId):
    """`redline.showDiff`."""

    uri: str | None = None


class ModelArguments(Arguments):
    """`redline.setModel`."""

    model: str
    role: str | None = None


class NoArguments(Arguments):
    """A command without arguments."""


class SessionArguments(Arguments):
    """`redline.resume` and `redline.compact`."""

    sessionId: str  # noqa: N815  the public surface's own names


class ForkArguments(SessionArguments):
    """`redline.fork`; `at` is the last turn that is copied, from 1."""

    at: int = Field(ge=0)
