"""The stage that tunes the fusion with BM25 on dev queries, for the start model and the student alike.

Knows which Runs are fused and where the weights are kept; must not know how they are found.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from retrieval_distill.data.run import Run
from retrieval_distill.evaluation.passages import pooling
from retrieval_distill.evaluation.rivals import HYBRIDS
from retrieval_distill.pipeline import dev_search
from retrieval_distill.pipeline.job import Job
from retrieval_distill.pipeline.rounds import Round
from retrieval_distill.retrieval import hybrid
from retrieval_distill.retrieval.hybrid import Fusion, FusionTuning
from retrieval_distill.runtime import stages


def tune_fusion(job: Job) -> None:
    """Tune both hybrids, and choose between the student and its fusion; do nothing without dev queries of people's.

    The student's weights are kept where a search of the run finds them, as if they were tuned by ``search --tune``.
    """
    if job.tuning_split is None:
        return
    _tune(job, job, HYBRIDS)
    place = job.out / "search"
    if not (job.manifests["tune-fusion"]["skipped"] and (place / FusionTuning.file).is_file()):  # tuned by hand: kept
        kept = _tuned(job, "hybrid-student")
        kept.key = hybrid.key(job.manifests["index-student"]["fingerprint"], job.dataset.documents.fingerprint)
        kept.write(place)


def fusion_of(turn: Round) -> Fusion:
    """How the student of a further seed is fused with BM25: as tuned on dev for it alone, or untuned."""
    if turn.job.tuning_split is None:
        return Fusion()
    _tune(turn.job, turn, {"hybrid-student": turn.student})
    return _tuned(turn, "hybrid-student").chosen


def _tune(job: Job, at: Job | Round, hybrids: Mapping[str, str]) -> None:
    """Tune hybrids, named with the bi-encoder of each, in the folder of the job or of a round, under its names."""
    split, config = job.tuning_split, job.recipe.evaluate
    assert split is not None
    queries, depth = job.dataset.queries(split), job.dataset.in_passages(config.depth)

    def work(folder: Path) -> dict[str, int]:
        lexical = dev_search.lexical(job, queries, depth)
        for name, of in hybrids.items():
            dense = dev_search.dense(job, of, queries, depth)
            found = tuned(job, split, lexical, dense)
            if name == "hybrid-student":
                found.decide()
            found.split = split
            found.write(folder, f"{name}.json")
        return {"queries": len(queries)}

    inputs = {
        "indexes": {of: job.manifests[f"index-{of}"]["fingerprint"] for of in hybrids.values()},
        "queries": queries.fingerprint,
        "qrels": stages.fingerprint(job.dataset.qrels(split)),
        "retrieve": job.recipe.retrieve.bm25,
        "depth": depth,
        "measure": config.measures[0],
        **job.dev_inputs,
    }
    at.stage("tune-fusion", "fusion", inputs, work)


def tuned(job: Job, split: str, lexical: Run, dense: Run) -> FusionTuning:
    """What :func:`retrieval_distill.retrieval.hybrid.tune` finds for two Runs of a judged split."""
    pool, qrels = pooling(job.dev, job.dev.qrels(split))
    return hybrid.tune(lexical, dense, qrels, pool, job.recipe.evaluate.measures[0])


def fusions(job: Job) -> dict[str, Fusion]:
    """How each hybrid fuses: as tuned on dev, or untuned."""
    if "tune-fusion" not in job.manifests:
        return {name: Fusion() for name in HYBRIDS}
    return {name: _tuned(job, name).chosen for name in HYBRIDS}


def _tuned(at: Job | Round, name: str) -> FusionTuning:
    found = FusionTuning.read(at.out / "fusion", f"{name}.json")
    assert found is not None
    return found
