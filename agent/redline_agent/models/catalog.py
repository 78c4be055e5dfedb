"""What models cost, and how a name becomes one. Data is in `catalog.toml`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from redline_agent.errors import UsageError
from redline_agent.messages import Usage
from redline_agent.models.base import Model
from redline_agent.models.names import catalog


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens."""

    input: float
    output: float

    def cost_usd(self, usage: Usage) -> float:
        """Return what the tokens cost."""
        return (
            usage.input_tokens * self.input
            + usage.cache_read_tokens * self.input * 0.1
            + usage.cache_write_tokens * self.input * 1.25
            + usage.output_tokens * self.output
        ) / 1e6


def price_of(provider: str, model: str) -> Price:
    """Return a model's price, the longest listed name that its own begins with, else the provider's dearest."""
    models: dict[str, dict[str, float]] = catalog()[provider]["models"]
    names = sorted((name for name in models if model.startswith(name)), key=len)
    entry = models[names[-1]] if names else max(models.values(), key=lambda each: each["output"])
    return Price(entry["input"], entry["output"])


def make_model(name: str) -> Model:
    """Return the model of a name; raises UsageError for an unknown provider. No SDK is imported yet."""
    provider, _, model = name.partition(":")
    match provider:
        case "builtin":
            from redline_agent.models.builtin import BuiltinModel

            return BuiltinModel()
        case "anthropic" if model:
            from redline_agent.models.anthropic import AnthropicModel

            return AnthropicModel(model)
        case "scripted" if model:
            from redline_agent.models.scripted import ScriptedModel

            return ScriptedModel.from_file(Path(model))
        case _:
            raise UsageError(
                f"There is no model {name!r}.",
                hint="Use builtin or anthropic:MODEL, as in anthropic:claude-sonnet-5-5.",
            )
