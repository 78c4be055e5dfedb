"""What the server is told: the user's options, and the workspace's configuration, which may only tighten.
only tighten. Knows no protocol types.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

from redline_agent.config import Config, load_config, loosens, merge, tighten
from redline_agent.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration in force, and the user's alone; `problem` is what was wrong with it, `ignored` what the
    workspace may not say.
    """

    config: Config
    user: Config
    own_client: bool = False
    problem: str = ""
    ignored: tuple[str, ...] = ()


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
    wanted = {name: given[name] for name in ("model", "limits", "permissions") if given.get(name)}
    try:
        config = merge(config, wanted, "initializationOptions")
    except ConfigError as error:
        problem = problem or str(error)
    if model:
        config = replace(config, model=model)
    return Settings(config, config, own, problem)


def with_workspace(settings: Settings, section: Any) -> Settings:
    """Lay `workspace/configuration` over the settings: it ranks as the workspace's word, so it only tightens."""
    given = {name: value for name, value in _table(section).items() if value not in (None, "", [], {})}
    return replace(settings, config=tighten(settings.user, given), ignored=tuple(loosens(given)))


def with_model(settings: Settings, model: str) -> Settings:
    """Return the settings with another model, which the user chose."""
    return replace(settings, config=replace(settings.config, model=model), user=replace(settings.user, model=model))


def _table(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
