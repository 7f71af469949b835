"""The weight of an objective over the course of training.

Knows only numbers; must not know objectives.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from retrieval_distill.objectives.contract import Share

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _pair(value: Any) -> Any:
    """A single weight applies to start and end."""
    return value if isinstance(value, list | tuple) else (value, value)


class Schedule(BaseModel):
    """A weight over the course of training, whose progress runs from 0 to 1."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    weight: Annotated[tuple[Weight, Weight], BeforeValidator(_pair)] = (1.0, 1.0)
    """The weight, or ``[at the start, at the end]`` of training, linear in between."""
    begin: Share = Field(0.0, alias="from")
    """Progress from which the objective is active."""
    until: Share = 1.0
    """Progress from which it is no longer active; ``1``: active to the end."""

    def active(self, progress: float) -> bool:
        """Whether the objective is active at this point of training."""
        return self.begin <= progress and (progress < self.until or self.until == 1)

    def at(self, progress: float) -> float:
        """The weight at this point of training."""
        start, end = self.weight
        return start + (end - start) * progress
