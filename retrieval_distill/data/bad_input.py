"""Counts of rows left out, by reason, with examples.

Knows reasons and names; must not know what is read or cleaned.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from retrieval_distill.errors import UserError

logger = logging.getLogger("retrieval_distill")

EXAMPLES_PER_REASON = 5
"""Number of examples kept per reason."""


@dataclass
class Ledger:
    """Counts by reason, with the first few examples of each."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, example: str) -> None:
        """Count one case."""
        self.counts[reason] += 1
        examples = self.first.setdefault(reason, [])
        if len(examples) < EXAMPLES_PER_REASON:
            examples.append(example)

    def merge(self, found: dict[str, dict[str, object]]) -> None:
        """Add the result of another ledger's ``as_dict``."""
        for reason, case in found.items():
            self.counts[reason] += int(case["count"])  # type: ignore[call-overload]
            self.first.setdefault(reason, list(case["first"]))  # type: ignore[call-overload]

    def as_dict(self) -> dict[str, dict[str, object]]:
        """``{reason: {"count", "first"}}``."""
        return {reason: {"count": count, "first": self.first[reason]} for reason, count in self.counts.items()}


@dataclass
class BadInput(Ledger):
    """Rows that cannot be read: the first one is an error, or each is left out and counted."""

    on_bad: Literal["refuse", "skip"] = "refuse"

    def row(self, where: str, reason: str, detail: str = "") -> None:
        """Report a bad row.

        Args:
            where: File and row.
            reason: Kind of defect; cases with the same reason are counted together.
            detail: What exactly is wrong and how to fix it, for the message.

        Raises:
            UserError: ``on_bad`` is ``"refuse"``.
        """
        if self.on_bad == "refuse":
            raise UserError(f"{where}: {detail or reason}")
        self.add(reason, where)

    def report(self) -> None:
        """Log what was left out."""
        for reason, count in self.counts.items():
            logger.warning("%d left out: %s; first %s", count, reason, ", ".join(self.first[reason]))
