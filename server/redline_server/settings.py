"""What the server is told at its start: the user's `initializationOptions`, and the workspace's configuration, which may
only tighten. Knows no protocol types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from redline_agent.config import Config, load_config, merge, tighten
from redline_agent.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration in force; `problem` is what was wrong with it, for the user."""

    config: Config
    own_client: bool = False
    problem: str = ""


def at_start(options: Any, experimental: Any, model: str) -> Settings:
    """Return the settings of the user: file, environment, command line (`model`), initializationOptions."""
    problem = ""
    try:
        config = load_config()
    except ConfigError as error:
        config, problem = Config(), str(error)
    given = options.get("redline", options) if isinstance(options, Mapping) else {}
    own = bool(given.get("client")) or (isinstance(experimental, Mapping) and bool(experimental.get("redline")))
    wanted = {name: given[name] for name in ("model", "limits") if given.get(name)}
    try:
        config = merge(config, wanted, "initializationOptions")
    except ConfigError as error:
        problem = problem or str(error)
    if model:
        config = replace(config, model=model)
    return Settings(config, own, problem)


def with_workspace(settings: Settings, section: Any) -> Settings:
    """Lay `workspace/configuration` over the settings: it ranks as the workspace's word, so lower limits only."""
    if not isinstance(section, Mapping) or not isinstance(section.get("limits"), Mapping):
        return settings
    return replace(settings, config=tighten(settings.config, section["limits"]))
