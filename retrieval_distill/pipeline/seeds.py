"""Further seeds: the last training again on the same lists, and what each student finds for the test queries.

Knows what is kept of each student; must not know how it is trained, embedded or fused.
"""

from __future__ import annotations

from pathlib import Path

from retrieval_distill.data.run import Run
from retrieval_distill.pipeline.fusing import fusion_of
from retrieval_distill.pipeline.rounds import Round


def find(turn: Round) -> None:
    """The Runs of a further seed's student over the test queries: alone, and fused with BM25."""
    job = turn.job
    queries = job.dataset.queries(job.recipe.dataset.measured)
    fusion, depth = fusion_of(turn), job.dataset.in_passages(job.recipe.evaluate.depth)

    def work(folder: Path) -> dict[str, int]:
        lexical = Run.load(job.out / "runs" / "bm25.parquet")
        dense = job.dense(turn.student, job.model(turn.student), queries, depth)
        dense.save(folder / "student.parquet")
        fusion.fuse(lexical, dense).top(depth).save(folder / "hybrid-student.parquet")
        return {"queries": len(queries)}

    inputs = {
        "index": turn.fingerprint("index-student"),
        "queries": queries.fingerprint,
        "retrieve": job.recipe.retrieve.bm25,
        "depth": depth,
        "fusion": [fusion.method, fusion.dense],
    }
    turn.stage("search", "runs", inputs, work)
