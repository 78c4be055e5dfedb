"""Names of models and the default one, from the catalog's data. Imports nothing heavy: a code action may ask."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def catalog() -> dict[str, Any]:
    """Return `catalog.toml`."""
    return tomllib.loads(files("redline_agent.models").joinpath("catalog.toml").read_text("utf-8"))


def default_model(env: Mapping[str, str] = os.environ) -> str:
    """Return REDLINE_MODEL, else the first provider with a key at its default model, else the built-in engine."""
    if env.get("REDLINE_MODEL"):
        return env["REDLINE_MODEL"]
    for provider, entry in catalog().items():
        if entry.get("key") and env.get(entry["key"]):
            return f"{provider}:{entry['default']}"
    return "builtin"


def light_model(name: str) -> str:
    """Return the light model of the same provider, the model itself where there is none."""
    provider = name.partition(":")[0]
    light = catalog().get(provider, {}).get("light")
    return f"{provider}:{light}" if light else name
