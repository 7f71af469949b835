"""What people's clicks and judgements teach."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from retrieval_distill.config.section import Section


class FeedbackConfig(Section):
    """Queries, judgements and hard negatives from a log of what people searched, clicked and judged; they are added to
    the training split.
    """

    log: str = "feedback.db"
    """The log, as ``serve`` writes it."""
    rows: int | None = Field(None, ge=1)
    """The log's first so many rows, so that a run that is continued learns from the same ones; ``None``: all that there
    are."""
    eta: float = Field(1.0, ge=0)
    """Position bias: people look at rank r with a probability of 1 / r^eta, so a click there counts r^eta (inverse
    propensity weighting, arXiv 1608.04468); 0: clicks count as they are."""
    swaps: bool = False
    """Measure that probability, instead of taking ``eta``'s, by searches in which a document changed places with the
    first one at random (arXiv 1608.04468, section 5)."""
    clip: float = Field(10.0, ge=1)
    """Greatest weight of a click: a higher one corrects more, a lower one varies less by chance."""
    caution: float = Field(1.0, ge=0, lt=2)
    """Standard deviations by which estimates are lowered before documents are compared, so that a few clicks far down
    count less; 0: not at all."""
    min_clicks: int = Field(1, ge=1)
    """Clicks on a document, in all searches with the same words, below which they do not make it relevant."""
    relevant: float = Field(0.7, gt=0, le=1)
    """Relevant to a query are the documents whose (lowered) estimate is at least this share of the best one's; grades
    rise from 1 there to 3 for the best."""
    negatives: int | None = Field(5, ge=0)
    """Hard negatives of a query that are added to its candidates, the most often skipped first; ``None``: all. A
    document is one if people skipped it to click on one below and nobody clicked on it, or if it was judged not
    relevant."""
    weight: float = Field(1.0, ge=0)
    """How much the teacher's score rises for a relevance of 1, in standard deviations of its scores; 0: feedback only
    tells the relevant documents from the others."""
    query_threshold: float = Field(0.9, gt=0, le=1)
    """Jaccard similarity of words from which a query counts as one of a split that does not train, and is left out."""
    on_bad: Literal["refuse", "skip"] = "refuse"
    """What to do with a damaged row of the log: ``refuse`` it and stop, or ``skip`` it, counted and named."""
