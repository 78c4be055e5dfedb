"""What the adapters of vendors share: a name, what the model can do, what it costs."""

from __future__ import annotations

from redline_agent.messages import Usage
from redline_agent.models.base import Capabilities
from redline_agent.models.catalog import Price, capabilities_of, price_of


class Vendor:
    """Base of the adapters that ask a vendor's server (models/base.py: Model)."""

    def __init__(
        self, provider: str, model: str, *, capabilities: Capabilities | None = None, price: Price | None = None
    ) -> None:
        self.name = f"{provider}:{model}"
        self.capabilities = capabilities or capabilities_of(provider, model)
        self._model = model
        self._price = price or price_of(provider, model)

    async def ready(self) -> None:
        """Be ready: nothing is to be found out."""

    def cost_usd(self, usage: Usage) -> float | None:
        """Return the cost by the catalog's price (or the user's), None when it is not known."""
        return self._price.cost_usd(usage)

    def bound_usd(self, usage: Usage) -> float:
        """Return the cost, for an unlisted model at its provider's dearest price."""
        return self._price.bound_usd(usage)
