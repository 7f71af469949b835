"""What was left out, and why: how many of each kind, and the first of them by name.

Knows reasons and names; must not know what is read or cleaned.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from retrieval_distill.errors import UserError

logger = logging.getLogger("retrieval_distill")

NAMED = 5
"""Examples kept of every reason."""


@dataclass
class Ledger:
    """Counts by reason, with the first few examples of each."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, example: str) -> None:
        """Note one case."""
        self.counts[reason] += 1
        examples = self.first.setdefault(reason, [])
        if len(examples) < NAMED:
            examples.append(example)

    def merge(self, found: dict[str, dict[str, object]]) -> None:
        """Take over what another ledger's ``as_dict`` says."""
        for reason, case in found.items():
            self.counts[reason] += int(case["count"])  # type: ignore[call-overload]
            self.first.setdefault(reason, list(case["first"]))  # type: ignore[call-overload]

    def as_dict(self) -> dict[str, dict[str, object]]:
        """``{reason: {"count", "first"}}``."""
        return {reason: {"count": count, "first": self.first[reason]} for reason, count in self.counts.items()}


@dataclass
class BadInput(Ledger):
    """Rows that cannot be read: the first one stops the reading, or each is left out and counted."""

    on_bad: Literal["refuse", "skip"] = "refuse"

    def row(self, where: str, reason: str, detail: str = "") -> None:
        """Note a bad row.

        Args:
            where: File and row.
            reason: What kind of defect it is; cases of one reason are counted together.
            detail: What exactly is wrong and what would mend it, for the message.

        Raises:
            UserError: Bad rows are refused.
        """
        if self.on_bad == "refuse":
            raise UserError(f"{where}: {detail or reason}")
        self.add(reason, where)

    def report(self) -> None:
        """Say what was left out."""
        for reason, count in self.counts.items():
            logger.warning("%d left out: %s; first %s", count, reason, ", ".join(self.first[reason]))
