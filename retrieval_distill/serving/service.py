"""The running service: which engine answers now, and what requests share.

Knows engines; must not know HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from retrieval_distill.serving.engine import Engine


@dataclass(eq=False)
class Service:
    """What all requests share; ``engine`` is replaced as a whole, and a request keeps the one that it began with."""

    engine: Engine

    def described(self) -> dict[str, Any]:
        """The systems, fields and abilities."""
        engine = self.engine
        return {
            "systems": [system.described() for system in engine.systems.values()],
            "default": engine.default,
            "rerank": engine.teacher is not None,
            "fields": [{"name": name, "type": kind} for name, kind in engine.fields.types.items()],
            "feedback": False,
            "docs": engine.systems[engine.default].searcher.size,
        }
