"""The prompt: layers that are files with front matter, composed in the order of their names. Pure but for reading them.

Static layers come first and never change over a session, so that providers cache them; a session's own come after.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from redline_agent.errors import ConfigError
from redline_agent.models.base import SystemPart, ToolSpec

Tier = Literal["static", "session"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One versioned piece of the prompt."""

    id: str
    version: str
    tier: Tier
    text: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A composed prompt: its parts, each layer's version, and the digest of every byte that is sent of it."""

    parts: tuple[SystemPart, ...]
    layers: dict[str, str]
    digest: str


@cache
def layers() -> tuple[Layer, ...]:
    """Return the layers that come with Redline, in order."""
    folder = files("redline_agent.prompts").joinpath("layers")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".md"))
    return tuple(parse(folder.joinpath(name).read_text("utf-8"), name) for name in names)


def parse(source: str, name: str) -> Layer:
    """Return the layer of a file's text; raises ConfigError when its front matter is wrong."""
    head, _, text = source.removeprefix("---\n").partition("\n---\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
    if not source.startswith("---\n") or set(fields) != {"id", "version", "tier"}:
        raise ConfigError(f"The layer {name} needs front matter with id, version and tier.")
    if fields["tier"] not in ("static", "session"):
        raise ConfigError(f"The layer {name} has the unknown tier {fields['tier']!r}.")
    return Layer(fields["id"], fields["version"], fields["tier"], text.strip())


def build(tools: tuple[ToolSpec, ...], facts: Mapping[str, str]) -> Prompt:
    """Compose the layers; `facts` fills the session layers' {names}."""
    parts = tuple(
        SystemPart(
            layer.text if layer.tier == "static" else layer.text.format_map(dict(facts)),
            layer.tier == "static",
        )
        for layer in sorted(layers(), key=lambda each: each.tier != "static")
    )
    seen = hashlib.sha256()
    for part in parts:
        seen.update(part.text.encode())
    for tool in tools:
        seen.update(f"{tool.name}{tool.description}{tool.schema}".encode())
    return Prompt(parts, {layer.id: layer.version for layer in layers()}, seen.hexdigest()[:16])
