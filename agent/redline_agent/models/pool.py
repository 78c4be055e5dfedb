"""Models that are kept open: a new connection costs more than a request. One pool for a server, or for a run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from redline_agent.models.base import Model
from redline_agent.models.catalog import make_model


class Pool:
    """Models by name, made when first asked for."""

    def __init__(self, servers: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._servers = servers or {}
        self._models: dict[str, Model] = {}

    def keep(self, model: Model) -> None:
        """Keep a model that was made elsewhere."""
        self._models[model.name] = model

    def get(self, name: str) -> Model:
        """Return the model of a name; raises UsageError for an unknown one. A script is played anew each time."""
        if name.startswith("scripted:") and name not in self._models:
            return make_model(name)
        if name not in self._models:
            self._models[name] = make_model(name, self._servers)
        return self._models[name]

    async def close(self) -> None:
        """Close what is open."""
        models, self._models = list(self._models.values()), {}
        await asyncio.gather(*(model.close() for model in models), return_exceptions=True)
