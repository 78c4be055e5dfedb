"""What the server is told: the user's options, and the workspace's configuration, which may only tighten.
only tighten. Knows no protocol types.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

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
    outer = _table(options)
    given = _table(outer.get("redline", outer))
    own = bool(given.get("client")) or bool(_table(experimental).get("redline"))
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
    return replace(settings, config=tighten(settings.config, _table(_table(section).get("limits"))))


def _table(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
