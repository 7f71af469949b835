"""People who search, simulated: they look at rank r with a probability of 1 / r^eta and click on what they see by its relevance.

Used by the tests of feedback. Knows rankings, judgements and the log; must not know how
clicks are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from retrieval_distill.feedback.log import FeedbackLog
from retrieval_distill.feedback.propensities import swap_first


@dataclass(frozen=True)
class Users:
    """How people click.

    Attributes:
        eta: How quickly the probability to look at a rank falls: 1 / rank^eta.
        relevant: Probability to click on a relevant document that is looked at.
        noise: Probability to click on another one that is looked at.
        swaps: Share of the searches in which a document changes places with the first one.
        depth: Documents shown.
    """

    eta: float = 1.0
    relevant: float = 0.8
    noise: float = 0.1
    swaps: float = 0.5
    depth: int = 10

    def search(
        self,
        log: FeedbackLog,
        rankings: Mapping[str, Sequence[str]],
        relevant: Mapping[str, set[str]],
        *,
        times: int,
        seed: int,
        system: str = "start",
    ) -> None:
        """Ask each query so many times and record what is shown and clicked.

        Args:
            log: Where it is recorded.
            rankings: Query -> document ids from the top.
            relevant: Query -> its relevant documents.
            times: Searches of each query.
            seed: Random seed.
            system: Name of the system that made the rankings.
        """
        rng = np.random.default_rng(seed)
        looked = np.arange(1.0, self.depth + 1) ** -self.eta
        for query, ranking in rankings.items():
            for _ in range(times):
                shown, swapped = swap_first(ranking[: self.depth], share=self.swaps, seed=rng)
                search = log.record_search(query=query, system=system, shown=shown, swapped=swapped)
                clicked = [self.relevant if doc_id in relevant[query] else self.noise for doc_id in shown]
                for doc_id, drawn, chance in zip(shown, rng.random(len(shown)), looked * clicked, strict=False):
                    if drawn < chance:
                        log.record_click(search_id=search, doc_id=doc_id)
