"""Fusing several Runs into one. Knows ranks; must not know where a Run came from."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from retrieval_distill.retrieval.run import Run


def reciprocal_rank_fusion(runs: Sequence[Run], k: int = 60) -> Run:
    """Sum of ``1 / (k + rank)`` over the runs that found a document (rank 1 is best).

    Args:
        runs: What to fuse; a document missing from a run gets nothing from it.
        k: How slowly the weight of a rank falls; 60 is the paper's value.

    Source: Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and Individual Rank
    Learning Methods", SIGIR 2009.
    """
    frames = []
    for run in runs:
        rank = run.frame.groupby("query_id", sort=False).cumcount() + 1
        frames.append(run.frame.assign(score=1.0 / (k + rank)))
    fused = pd.concat(frames).groupby(["query_id", "doc_id"], sort=False, as_index=False)["score"].sum()
    return Run.from_columns(fused["query_id"], fused["doc_id"], fused["score"])
