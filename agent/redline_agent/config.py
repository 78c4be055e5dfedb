"""The user's configuration: where it is, what it may say. The workspace's own word is not read here."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

import platformdirs

from redline_agent.errors import ConfigError
from redline_agent.limits import Limits

_APP = "redline"


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the user; "" for the model means: the first provider with a key, else the built-in engine."""

    model: str = ""
    limits: Limits = field(default_factory=Limits)


def state_dir(env: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of journals and diffs: REDLINE_STATE_DIR, or the system's place for state."""
    return Path(env.get("REDLINE_STATE_DIR") or platformdirs.user_state_path(_APP, appauthor=False))


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
    unknown = set(data) - {"model", "limits"}
    if unknown:
        raise ConfigError(f"{where} has the unknown setting {min(unknown)!r}.", hint="Known: model, limits.")
    model = data.get("model", config.model)
    if not isinstance(model, str):
        raise ConfigError(f"{where}: model must be a string.")
    return Config(model, with_limits(config.limits, data.get("limits", {}), where))


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


def tighten(config: Config, limits: Mapping[str, Any]) -> Config:
    """Return the configuration with the workspace's limits where they are lower; the rest is not its to say."""
    lower = {
        name: min(value, getattr(config.limits, name))
        for name, value in limits.items()
        if name in {entry.name for entry in fields(Limits)} and isinstance(value, int | float) and value > 0
    }
    return replace(config, limits=replace(config.limits, **lower))
