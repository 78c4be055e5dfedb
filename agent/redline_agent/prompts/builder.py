"""The prompt: layers that are files with front matter, composed in the order of their names. Pure but for reading them.

Static layers come first and never change over a session, so that providers cache them; a session's own come after; a
turn's are words around context. A file `10-identity@2.md` is another version of a layer: flags choose between them
(`flags = { identity = "2" }`), else the one without a number in its name is taken. A folder of the user's own
(`prompts.dir`) may add layers, and versions of these.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from redline_agent.errors import ConfigError
from redline_agent.models.base import SystemPart, ToolSpec
from redline_agent.roles.roles import Role

Tier = Literal["static", "session", "turn"]
_FIELDS = {"id", "version", "tier", "roles", "profiles", "tokens"}
USER_TOKENS_MAX = 2_000
"""What a layer of the user's own may have at most."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One versioned piece of the prompt; `tokens` is its budget, `chosen` whether it is taken without a flag."""

    id: str
    version: str
    tier: Tier
    roles: tuple[str, ...]
    profiles: tuple[str, ...]
    tokens: int
    text: str
    order: str = ""
    chosen: bool = True


@dataclass(frozen=True, slots=True)
class Prompt:
    """A composed prompt: its parts, its tools, each layer's version, and the digest of what is sent of it."""

    parts: tuple[SystemPart, ...]
    tools: tuple[ToolSpec, ...]
    layers: dict[str, str]
    digest: str

    def dump(self) -> str:
        """Return the prompt as JSON, for the journal."""
        body = {"parts": [asdict(part) for part in self.parts], "tools": [asdict(tool) for tool in self.tools]}
        return json.dumps({**body, "layers": self.layers}, ensure_ascii=False)


def load(body: str) -> Prompt:
    """Return the prompt that `dump` wrote."""
    data = json.loads(body)
    parts = tuple(SystemPart(**part) for part in data["parts"])
    tools = tuple(ToolSpec(**tool) for tool in data["tools"])
    return Prompt(parts, tools, data["layers"], _digest(parts, tools))


@cache
def built_in() -> tuple[Layer, ...]:
    """Return the layers that come with Redline, every version, in order."""
    folder = files("redline_agent.prompts").joinpath("layers")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".md"))
    return tuple(parse(folder.joinpath(name).read_text("utf-8"), name) for name in names)


def layers(folder: str = "") -> tuple[Layer, ...]:
    """Return every layer there is, the user's after Redline's own; raises ConfigError for one that is wrong."""
    if not folder:
        return built_in()
    path = Path(folder).expanduser()
    if not path.is_absolute():  # else the folder that one happens to stand in would write the prompt
        raise ConfigError(f"prompts.dir must be an absolute path, and {folder!r} is none.")
    if not path.is_dir():
        raise ConfigError(f"prompts.dir names {path}, which is no folder.")
    own: list[Layer] = []
    for file in sorted(path.glob("*.md")):
        try:
            own.append(parse(file.read_text("utf-8"), file.name))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"The layer {file} cannot be read: {error}.") from error
    for layer in own:
        if len(layer.text) > USER_TOKENS_MAX * 4:
            raise ConfigError(f"The layer {layer.id} in {path} has more than {USER_TOKENS_MAX:,} tokens.")
    return tuple(sorted((*built_in(), *own), key=lambda layer: layer.order))


def parse(source: str, name: str) -> Layer:
    """Return the layer of a file's text; raises ConfigError when its front matter is wrong."""
    head, _, text = source.removeprefix("---\n").partition("\n---\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
    if not source.startswith("---\n") or set(fields) != _FIELDS:
        raise ConfigError(f"The layer {name} needs front matter with {', '.join(sorted(_FIELDS))}.")
    if fields["tier"] not in ("static", "session", "turn"):
        raise ConfigError(f"The layer {name} has the unknown tier {fields['tier']!r}.")
    if not fields["tokens"].isdigit():
        raise ConfigError(f"The layer {name} needs a number of tokens.")
    roles, profiles = (tuple(part.strip() for part in fields[key].split(",")) for key in ("roles", "profiles"))
    return Layer(
        fields["id"], fields["version"], fields["tier"], roles, profiles, int(fields["tokens"]),
        text.strip(), name, "@" not in name,
    )  # fmt: skip


def chosen(every: tuple[Layer, ...], flags: Mapping[str, str]) -> dict[str, Layer]:
    """Return each layer in the version that the flags name, else in its standing one; the user's own wins.

    Raises ConfigError for a version that is not there.
    """
    found: dict[str, Layer] = {}
    for layer in every:
        wanted = flags.get(layer.id)
        if layer.version == wanted if wanted is not None else layer.chosen:
            found[layer.id] = layer
    for name, version in flags.items():
        versions = [layer.version for layer in every if layer.id == name]
        if versions and name not in found:
            raise ConfigError(
                f"The layer {name} has no version {version!r}.", hint=f"It has {', '.join(sorted(set(versions)))}."
            )
    return dict(sorted(found.items(), key=lambda pair: pair[1].order))


def build(
    role: Role,
    profile: str,
    tools: tuple[ToolSpec, ...],
    facts: Mapping[str, str],
    *,
    flags: Mapping[str, str] | None = None,
    folder: str = "",
) -> Prompt:
    """Compose a role's layers for a profile; `facts` fills the session layers' {names}."""
    taken = [
        layer
        for layer in chosen(layers(folder), flags or {}).values()
        if layer.tier != "turn" and _is_for(layer, role, profile)
    ]
    parts = tuple(
        SystemPart(layer.text if layer.tier == "static" else _filled(layer.text, facts), layer.tier == "static")
        for layer in sorted(taken, key=lambda each: each.tier != "static")
    )
    return Prompt(parts, tools, {layer.id: layer.version for layer in taken}, _digest(parts, tools))


def _is_for(layer: Layer, role: Role, profile: str) -> bool:
    named = layer.id in role.layers or layer.order not in {each.order for each in built_in()}
    return named and profile in layer.profiles and ("*" in layer.roles or role.name in layer.roles)


def framed(layer: str, **values: str) -> str:
    """Return words of context inside their turn layer."""
    return _filled(chosen(built_in(), {})[layer].text, values)


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Replace {names}; other braces stay, so that a layer may show code."""
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text


def _digest(parts: tuple[SystemPart, ...], tools: tuple[ToolSpec, ...]) -> str:
    seen = hashlib.sha256()
    for part in parts:
        seen.update(part.text.encode())
    for tool in tools:
        told, words = (tool.vendor, "") if tool.vendor else (tool.schema, tool.description)
        seen.update(f"{tool.name}{words}{json.dumps(told, sort_keys=True)}".encode())
    return seen.hexdigest()[:16]


def described(layer: Layer) -> dict[str, Any]:
    """Return a layer for a listing."""
    return {
        "id": layer.id, "version": layer.version, "tier": layer.tier, "roles": list(layer.roles),
        "profiles": list(layer.profiles), "tokens": layer.tokens, "chosen": layer.chosen,
    }  # fmt: skip
