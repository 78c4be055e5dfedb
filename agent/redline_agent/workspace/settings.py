"""A folder's own settings: they may only tighten the user's."""

from __future__ import annotations

import tomllib
from typing import Any

from redline_agent.errors import RedlineError
from redline_agent.safety.paths import Resolver
from redline_agent.text import one_line

PATH = ".redline/config.toml"


def own_settings(resolver: Resolver) -> tuple[dict[str, Any], str]:
    """Return what the folder sets, and why that cannot be read ("" when it can)."""
    try:
        return tomllib.loads((resolver.read_bytes(PATH) or b"").decode("utf-8")), ""
    except (RedlineError, ValueError) as error:
        return {}, f"{PATH} cannot be read, so it tightens nothing: {one_line(str(error), 200)}"
