"""The user's configuration: where it is, what it may say. The workspace's own word is not read here."""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

import platformdirs

from redline_agent.errors import ConfigError
from redline_agent.limits import Limits

_APP = "redline"


KNOWN = frozenset({
    "model", "limits", "permissions", "fallback", "plan", "validate", "roles", "flags", "prompts", "context",
    "compatible", "mcp", "proof",
})  # fmt: skip
ROLES = ("executor", "planner", "validator", "explorer", "summariser")
CONTEXT_TOKENS_LEAST = 2_000
PROOF_S_MAX = 600
KINDS = ("run", "read", "write", "net", "mcp")
_LINE = re.compile(r"\s*(?:" + "|".join(KINDS) + r"):\s*\S.*")


@dataclass(frozen=True, slots=True)
class Permissions:
    """The `permissions` setting: lines such as "run: pytest -q" (safety/rules.py says what each kind means)."""

    allow: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the user; "" for the model means: the first provider with a key, else the built-in engine.

    `denied` are rules of the workspace's, as its editor configuration gives them: it may only tighten. `fallback` is
    the model that goes on where the first refuses or cannot be reached; `roles` are models by role, `flags` versions of
    prompt layers by id, `compatible` and `mcp` servers by name.
    """

    model: str = ""
    limits: Limits = field(default_factory=Limits)
    permissions: Permissions = field(default_factory=Permissions)
    denied: tuple[str, ...] = ()
    fallback: str = ""
    plan: str = "auto"
    validate: str = "auto"
    roles: Mapping[str, str] = field(default_factory=dict[str, str])
    flags: Mapping[str, str] = field(default_factory=dict[str, str])
    prompts_dir: str = ""
    proof_tests: str = "affected"
    proof_seconds: float = 60.0
    proof_servers: tuple[str, ...] = ("auto",)
    context_tokens_max: int = 0
    compatible: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    mcp: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])


def state_dir(env: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of journals and diffs: REDLINE_STATE_DIR, or the system's place for state."""
    return Path(env.get("REDLINE_STATE_DIR") or platformdirs.user_state_path(_APP, appauthor=False))


def journal_path(state: Path, root: Path) -> Path:
    """Return the place of a workspace folder's journal, one file for each folder."""
    key = hashlib.sha256(str(root).encode()).hexdigest()[:12]
    return state / "journals" / f"{root.name or 'root'}-{key}.sqlite"


def config_path(env: Mapping[str, str] = os.environ) -> Path:
    """Return the configuration file: REDLINE_CONFIG, or config.toml in the system's place for configuration."""
    return Path(env.get("REDLINE_CONFIG") or platformdirs.user_config_path(_APP, appauthor=False) / "config.toml")


def load_config(env: Mapping[str, str] = os.environ) -> Config:
    """Read the user's configuration; a missing file is an empty one. Raises ConfigError."""
    path = config_path(env)
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if env.get("REDLINE_CONFIG"):
            raise ConfigError(f"REDLINE_CONFIG names {path}, which is not there.") from None
        return Config()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"The configuration {path} cannot be read: {error}.") from error
    return merge(Config(), data, str(path))


def merge(config: Config, data: Mapping[str, Any], where: str) -> Config:
    """Return the configuration with settings laid over it; raises ConfigError on unknown or wrong ones."""
    unknown = set(data) - KNOWN
    if unknown:
        raise ConfigError(
            f"{where} has the unknown setting {min(unknown)!r}.", hint=f"Known: {', '.join(sorted(KNOWN))}."
        )
    lines = _permissions(data.get("permissions", {}), where)
    joined = Permissions(*(getattr(config.permissions, name) + lines[name] for name in ("allow", "ask", "deny")))
    tests, seconds, servers = _proof(config, _mapping(data, "proof", where, {"tests", "seconds", "servers"}), where)
    roles = _tables(data, "roles", where)
    wrong = [name for name in roles if name not in ROLES or set(roles[name]) != {"model"}]
    if wrong:
        raise ConfigError(f"{where}: roles.{wrong[0]} must be {{ model = NAME }} of one of {', '.join(ROLES)}.")
    return replace(
        config,
        model=_text(data, "model", config.model, where),
        limits=with_limits(config.limits, data.get("limits", {}), where),
        permissions=joined,
        fallback=_text(data, "fallback", config.fallback, where),
        plan=_choice(data, "plan", config.plan, ("auto", "always", "never", "ask"), where),
        validate=_choice(data, "validate", config.validate, ("auto", "never"), where),
        roles={**config.roles, **{name: str(table["model"]) for name, table in roles.items()}},
        flags={**config.flags, **{name: str(value) for name, value in _mapping(data, "flags", where).items()}},
        prompts_dir=_text(_mapping(data, "prompts", where, {"dir"}), "dir", config.prompts_dir, where),
        proof_tests=tests,
        proof_seconds=seconds,
        proof_servers=servers,
        context_tokens_max=_tokens(data, config.context_tokens_max, where),
        compatible={**config.compatible, **_tables(data, "compatible", where)},
        mcp={**config.mcp, **_tables(_mapping(data, "mcp", where, {"servers"}), "servers", where)},
    )


def _mapping(data: Mapping[str, Any], name: str, where: str, keys: set[str] | None = None) -> Mapping[str, Any]:
    value = data.get(name, {})
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: {name} must be a table.")
    table = cast("Mapping[str, Any]", value)
    unknown = set(table) - keys if keys is not None else set[str]()
    if unknown:
        raise ConfigError(f"{where} has the unknown setting {name}.{min(unknown)}.")
    return table


def _tables(data: Mapping[str, Any], name: str, where: str) -> dict[str, Mapping[str, Any]]:
    table = _mapping(data, name, where)
    return {key: _mapping(table, key, f"{where}: {name}") for key in table}


def _text(data: Mapping[str, Any], name: str, before: str, where: str) -> str:
    value = data.get(name, before)
    if not isinstance(value, str):
        raise ConfigError(f"{where}: {name} must be a string.")
    return value


def _choice(data: Mapping[str, Any], name: str, before: str, choices: tuple[str, ...], where: str) -> str:
    value = _text(data, name, before, where)
    if value not in choices:
        raise ConfigError(f"{where}: {name} is {value!r}; it may be {', '.join(choices)}.")
    return value


def _proof(config: Config, table: Mapping[str, Any], where: str) -> tuple[str, float, tuple[str, ...]]:
    """Read the `proof` table: which tests, for how long, which language servers."""
    seconds = table.get("seconds", config.proof_seconds)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= PROOF_S_MAX:
        raise ConfigError(f"{where}: proof.seconds must be a number above 0 and at most {PROOF_S_MAX}.")
    servers = table.get("servers", config.proof_servers)
    names = (servers,) if isinstance(servers, str) else tuple(cast("list[Any]", servers))
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f'{where}: proof.servers must be "auto", "off", or a list of names.')
    return _text(table, "tests", config.proof_tests, f"{where}: proof"), float(seconds), names


def _tokens(data: Mapping[str, Any], before: int, where: str) -> int:
    value = _mapping(data, "context", where, {"tokens_max"}).get("tokens_max", before)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0 or 0 < value < CONTEXT_TOKENS_LEAST:
        raise ConfigError(f"{where}: context.tokens_max must be a whole number of at least {CONTEXT_TOKENS_LEAST}.")
    return value


def _permissions(given: Any, where: str) -> dict[str, tuple[str, ...]]:
    """Read a `permissions` table; raises ConfigError with what is wrong with it."""
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where}: permissions must be a table of allow, ask and deny.")
    table = cast("Mapping[str, Any]", given)
    lists: dict[str, tuple[str, ...]] = {"allow": (), "ask": (), "deny": ()}
    for name, value in table.items():
        entries = cast("list[Any]", value) if isinstance(value, list) else None
        if name not in lists:
            raise ConfigError(f"{where} has the unknown setting permissions.{name}.", hint="Known: allow, ask, deny.")
        wrong = (
            "?" if entries is None else next((e for e in entries if not (isinstance(e, str) and _LINE.match(e))), None)
        )
        if entries is None or wrong is not None:
            raise ConfigError(
                f"{where}: permissions.{name} has {wrong!r}, which is no permission.",
                hint=f"Write a list of lines KIND: WHAT, where KIND is {', '.join(KINDS)}; as in 'run: pytest -q'.",
            )
        lists[name] = tuple(entries)
    return lists


def with_limits(limits: Limits, given: Any, where: str) -> Limits:
    """Return the limits with others laid over them."""
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where}: limits must be a table.")
    data = cast("Mapping[str, Any]", given)
    known = {entry.name for entry in fields(Limits)}
    for name, value in data.items():
        if name not in known:
            raise ConfigError(f"{where} has the unknown limit {name!r}.", hint=f"Known: {', '.join(sorted(known))}.")
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise ConfigError(f"{where}: limits.{name} must be a number above 0.")
    return replace(limits, **dict(data))


def tighten(config: Config, given: Mapping[str, Any]) -> Config:
    """Return the configuration with the workspace's limits where they are lower and its denials; the rest is not its
    to say.
    """
    limits, lines = (_table(given.get(name)) for name in ("limits", "permissions"))
    denied = (line for line in _list(lines.get("deny")) if isinstance(line, str) and _LINE.match(line))
    lower = {
        name: min(value, getattr(config.limits, name))
        for name, value in limits.items()
        if name in {entry.name for entry in fields(Limits)} and isinstance(value, int | float) and value > 0
    }
    return replace(config, limits=replace(config.limits, **lower), denied=(*config.denied, *denied))


def loosens(given: Mapping[str, Any]) -> list[str]:
    """Return the names of settings that a workspace gave and that are not its to give."""
    lines = _table(given.get("permissions"))
    names = [f"permissions.{name}" for name in lines if name != "deny"]
    return [*names, *(name for name in given if name not in ("limits", "permissions"))]


def _table(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []
