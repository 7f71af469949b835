"""What is measured of a dataset that was cut into passages: its documents, each by its best passage.

Knows Runs, judgements and which document a passage is part of; must not know measures.
"""

from __future__ import annotations

from collections.abc import Mapping

from retrieval_distill.data.dataset import Dataset, Qrels
from retrieval_distill.data.passages import max_pool
from retrieval_distill.data.run import Run


def by_document(systems: Mapping[str, Run], dataset: Dataset, judged: Qrels) -> tuple[Mapping[str, Run], Qrels]:
    """Runs and judgements of documents; those of a dataset of whole documents stay as they are."""
    if dataset.parents is None:
        return systems, judged
    pooled = {name: max_pool(run, dataset.parents_of(run.frame["doc_id"])) for name, run in systems.items()}
    return pooled, dataset.by_document(judged)
