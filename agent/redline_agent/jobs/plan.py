"""What a campaign is: one task over many targets, as a TOML file or the command line says it. Pure values, checked."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pathspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from redline_agent.errors import UsageError

TARGETS_MAX = 200_000
Proof = Literal["none", "no-failures", "strict"]
Output = Literal["proposals", "patches", "branch"]
_BRANCH = re.compile(r"(?!.*(\.\.|//|/\.|\.lock(/|$)))[A-Za-z0-9_][A-Za-z0-9._/-]*(?<![./])")
_MARKS = ("__init__.py", "package.json", "Cargo.toml", "go.mod", "pyproject.toml", "pom.xml")
"""A folder with one of these is a package."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class CampaignLimits(_Part):
    """What a campaign may use: US dollars and requests a minute over all workers, the rest for each target."""

    cost_usd_max: float = Field(default=5.0, gt=0)
    target_cost_usd_max: float = Field(default=0.5, gt=0)
    target_turns_max: int = Field(default=20, gt=0)
    target_minutes_max: float = Field(default=15.0, gt=0)
    requests_per_minute: float = Field(default=0.0, ge=0)
    concurrency: int = Field(default=0, ge=0, le=4096)
    tries_max: int = Field(default=3, gt=0, le=100)


class Plan(_Part):
    """A campaign. `split` is "file", "package", "repository", or "files:N" for N files a target.

    `proof` is what must hold of a proposal: "none", "no-failures" (nothing that was checked is bad) or "strict" (and
    everything could be checked). `validation`: whether the model looks at each change once more.
    """

    task: str = Field(min_length=1, max_length=20_000)
    name: str = Field(default="", pattern=r"^[a-z0-9][a-z0-9._-]{0,60}$|^$")
    repositories: list[str] = Field(default=["."], min_length=1)
    over: list[str] = Field(default=["*"], min_length=1)
    exclude: list[str] = []
    split: str = Field(default="file", pattern=r"^(file|package|repository|files:[1-9][0-9]{0,4})$")
    model: str = ""
    proof: Proof = "no-failures"
    tests: str = "off"
    validation: Literal["auto", "never"] = "auto"
    output: Output = "proposals"
    out: str = "patches"
    branch: str = ""
    limits: CampaignLimits = CampaignLimits()

    @field_validator("task")
    @classmethod
    def _said(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("it is empty")
        return value.strip()

    @field_validator("over", "exclude")
    @classmethod
    def _globs(cls, value: list[str]) -> list[str]:
        for each in value:
            try:
                pathspec.PathSpec.from_lines("gitignore", [each]).match_file("a")
            except (ValueError, re.error) as error:
                raise ValueError(f"{each!r} is no glob") from error
        return value

    @field_validator("branch")
    @classmethod
    def _branch(cls, value: str) -> str:
        if value and not _BRANCH.fullmatch(value):
            raise ValueError("it is no name for a branch")
        return value

    @property
    def ident(self) -> str:
        """The name that its state is kept under: its own, or one made of the task, and of where it works."""
        words = re.sub(r"[^a-z0-9]+", "-", self.task.lower()).strip("-")[:32].strip("-")
        what = "" if self.name else self.digest
        where = hashlib.sha256("\0".join([what, *sorted(self.repositories)]).encode()).hexdigest()[:8]
        return f"{self.name or words or 'campaign'}-{where}"

    @property
    def digest(self) -> str:
        """What the work on a target depends on, beside the target."""
        said = {"task": self.task, "model": self.model, "proof": self.proof, "tests": self.tests,
                "validation": self.validation}  # fmt: skip
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def branch_name(self) -> str:
        """The branch that results are committed to."""
        return self.branch or f"redline/{self.name or self.ident}"


def load(path: Path) -> Plan:
    """Read a campaign's file; raises UsageError with what is wrong in it."""
    try:
        return checked(tomllib.loads(path.read_text("utf-8")), str(path))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"The campaign {path} cannot be read: {error}.") from error


def checked(data: dict[str, Any], where: str) -> Plan:
    """Return the plan that some values mean; raises UsageError."""
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:4])
        raise UsageError(f"{where}: {wrong}.", hint="See docs/campaigns.md for what a campaign may say.") from error


@dataclass(frozen=True, slots=True)
class Target:
    """One piece of work: some files of a commit of a repository, or (without paths) all of it.

    `paths` are files or folders; `key` names the target by commit, place, paths and task, so a second start knows it.
    """

    key: str
    repository: str
    commit: str
    paths: tuple[str, ...]

    @property
    def label(self) -> str:
        """What a person is shown."""
        name = Path(self.repository).name
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return f"{name}:{self.paths[0]}{more}" if self.paths else name


def chosen(paths: Iterable[str], plan: Plan) -> list[str]:
    """Return the files that the plan's globs name, in order; they are written like those of .gitignore."""
    over = pathspec.PathSpec.from_lines("gitignore", plan.over)
    without = pathspec.PathSpec.from_lines("gitignore", plan.exclude)
    return [path for path in sorted(paths) if over.match_file(path) and not without.match_file(path)]


def targets(plan: Plan, repository: str, commit: str, paths: Sequence[str]) -> list[Target]:
    """Split a commit's files into targets."""
    wanted = chosen(paths, plan)
    match plan.split:
        case "repository":
            groups = [()] if wanted else []
        case "package":
            groups = [(folder,) for folder in _packages(wanted, paths)]
        case "file":
            groups = [(path,) for path in wanted]
        case many:
            size = int(many.removeprefix("files:"))
            groups = [tuple(wanted[at : at + size]) for at in range(0, len(wanted), size)]
    return [Target(_key(plan, repository, commit, group), repository, commit, tuple(group)) for group in groups]


def _packages(wanted: Sequence[str], paths: Sequence[str]) -> list[str]:
    """The outermost folders that are packages and have a wanted file; the rest of the files are the root's."""
    marked = {path.rpartition("/")[0] for path in paths if path.rpartition("/")[2] in _MARKS}
    found: dict[str, None] = {}
    for path in wanted:
        parts = path.split("/")[:-1]
        above = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
        found[next((each for each in above if each in marked), parts[0] if parts else ".")] = None
    return sorted(found)


def _key(plan: Plan, repository: str, commit: str, paths: Sequence[str]) -> str:
    return hashlib.sha256("\0".join([commit, plan.digest, repository, *paths]).encode()).hexdigest()[:16]
