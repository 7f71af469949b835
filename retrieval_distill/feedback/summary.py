"""A log in numbers and as text: counts, clicks by rank, and which systems people preferred.

Knows what a log holds; must not know datasets or models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from retrieval_distill.feedback.interleaving import Verdict, interleaving_verdicts, preference_verdicts
from retrieval_distill.feedback.log import Feedback, LogSummary, summarise
from retrieval_distill.formatting import counted

RANKS = 10
"""Ranks whose clicks are shown."""


@dataclass(frozen=True)
class FeedbackSummary:
    """What a log holds, and what people preferred."""

    counts: LogSummary
    interleaving: Sequence[Verdict]
    preferences: Sequence[Verdict]

    @classmethod
    def of(cls, feedback: Feedback) -> FeedbackSummary:
        """Of what was read from a log."""
        return cls(summarise(feedback), interleaving_verdicts(feedback), preference_verdicts(feedback))

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        n = self.counts
        nouns = {"search": n.searches, "different query": n.queries, "session": n.sessions}
        yield f"{counted(n.rows, 'row')}: {', '.join(counted(count, noun) for noun, count in nouns.items())}"
        if n.first:
            yield f"from {n.first} to {n.last}"
        yield from (f"  {name}: {counted(count, 'search')}" for name, count in n.systems.items())
        yield f"{counted(n.clicks, 'click')} in {counted(n.clicked_searches, 'search')}"
        if n.clicks:
            shown = ((rank, n.clicks_by_rank.get(rank, 0), n.shown_by_rank[rank]) for rank in sorted(n.shown_by_rank))
            rates = [f"{rank}: {clicks / of:.1%}" for rank, clicks, of in shown if rank <= RANKS]
            yield f"  clicked, by rank: {', '.join(rates)}"
        grades = ", ".join(f"grade {grade}: {count:,}" for grade, count in n.judgements.items())
        yield f"{counted(sum(n.judgements.values()), 'judgement')}{f' ({grades})' if grades else ''}"
        swapped, preferences = counted(n.swapped, "search"), counted(n.preferences, "preference")
        yield f"{swapped} with a random swap, {n.interleaved:,} interleaved, {preferences}"
        yield from (_said("interleaved", verdict) for verdict in self.interleaving)
        yield from (_said("side by side", verdict) for verdict in self.preferences)
        if n.damaged:
            yield f"{counted(len(n.damaged), 'row', 'are')} damaged or missing, so left out"


def _said(how: str, found: Verdict) -> str:
    share = "no decision"
    if found.share is not None:
        share = f"preferred in {found.share:.1%} ({found.low:.1%} to {found.high:.1%}) of the decided, p {found.p:.4f}"
    return (
        f"{how}: {found.first} against {found.second}: {counted(found.wins, 'win')}, {counted(found.losses, 'loss')}, "
        f"{counted(found.ties, 'tie')}; {share}"
    )
