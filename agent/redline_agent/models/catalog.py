"""What models cost and can do, and how a name becomes one. Data is in `catalog.toml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from redline_agent.errors import UsageError
from redline_agent.messages import Usage
from redline_agent.models.base import Capabilities, Model
from redline_agent.models.names import catalog


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens; a cached token read or written costs a share of `input`."""

    input: float
    output: float
    read: float = 0.1
    write: float = 1.25
    known: bool = True

    def cost_usd(self, usage: Usage) -> float | None:
        """Return what the tokens cost, None when the price is not known."""
        return self.bound_usd(usage) if self.known else None

    def bound_usd(self, usage: Usage) -> float:
        """Return what the tokens cost at most."""
        return (
            usage.input_tokens * self.input
            + usage.cache_read_tokens * self.input * self.read
            + usage.cache_write_tokens * self.input * self.write
            + usage.output_tokens * self.output
        ) / 1e6


UNKNOWN = Price(0.0, 0.0, known=False)


def price_of(provider: str, model: str) -> Price:
    """Return a model's price: the longest listed name that its own begins with, else unknown, bounded by the dearest.

    A provider that lists no models has unknown prices without a bound.
    """
    entry: dict[str, Any] = catalog().get(provider, {})
    models: dict[str, dict[str, float]] = entry.get("models", {})
    found = _listed(provider, model)
    if not models:
        return UNKNOWN
    price = found or max(models.values(), key=lambda each: each["output"])
    return Price(price["input"], price["output"], entry["read"], entry["write"], known=bool(found))


def _listed(provider: str, model: str) -> dict[str, Any]:
    models: dict[str, dict[str, Any]] = catalog().get(provider, {}).get("models", {})
    names = sorted((name for name in models if model.startswith(name)), key=len)
    return models[names[-1]] if names else {}


def capabilities_of(provider: str, model: str, given: Mapping[str, Any] | None = None) -> Capabilities:
    """Return what a model can do: its provider's entry, its own, and what the user says of it, each over the last.

    Raises UsageError for an ability that there is none of.
    """
    entry = catalog().get(provider, {}).get("can", {}) | _listed(provider, model).get("can", {})
    window = _listed(provider, model).get("window")
    known = {each.name for each in fields(Capabilities)}
    said = {**entry, **({"window": window} if window else {}), **(given or {})}
    unknown = set(said) - known
    if unknown:
        raise UsageError(
            f"{provider} has the unknown ability {min(unknown)!r}.", hint=f"Known: {', '.join(sorted(known))}."
        )
    return replace(Capabilities(), **said)


def make_model(name: str, servers: Mapping[str, Mapping[str, Any]] | None = None) -> Model:
    """Return the model of a name; raises UsageError for an unknown provider. No SDK is imported yet.

    `servers` are the user's own entries under [compatible.NAME].
    """
    provider, _, model = name.partition(":")
    match provider:
        case "builtin":
            from redline_agent.models.builtin import BuiltinModel

            return BuiltinModel()
        case "anthropic" if model:
            from redline_agent.models.anthropic import AnthropicModel

            return AnthropicModel(model)
        case "openai" if model:
            from redline_agent.models.openai import OpenAIModel

            return OpenAIModel(model)
        case "gemini" if model:
            from redline_agent.models.gemini import GeminiModel

            return GeminiModel(model)
        case "compatible" if model:
            from redline_agent.models.compatible import CompatibleModel

            return CompatibleModel(model, dict((servers or {}).get(model, {})))
        case "scripted" if model:
            from redline_agent.models.scripted import ScriptedModel

            return ScriptedModel.from_file(Path(model))
        case _:
            raise UsageError(
                f"There is no model {name!r}.",
                hint="Use builtin, anthropic:MODEL, openai:MODEL, gemini:MODEL or compatible:NAME,"
                " as in anthropic:claude-sonnet-5-5.",
            )
