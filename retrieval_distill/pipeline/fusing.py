"""The stage that tunes the fusion with BM25 on dev queries, for the start model and the student alike.

Knows which Runs are fused and where the weights are kept; must not know how they are found.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrieval_distill.data.run import Run
from retrieval_distill.evaluation.passages import pooling
from retrieval_distill.evaluation.rivals import HYBRIDS
from retrieval_distill.pipeline.job import Job
from retrieval_distill.retrieval import hybrid
from retrieval_distill.retrieval.hybrid import Fusion
from retrieval_distill.runtime import stages
from retrieval_distill.runtime.stages import read_json, write_json

FILE = Path("search", hybrid.FILE)
"""What a search of the run reads, as if it had been told ``--tune``: the weights of the student's fusion (``chosen``),
what was tried and on which ``split``; ``use``, which of ``student`` and ``hybrid-student`` dev found better; ``dev``,
by how much; and ``key``, which covers ``index-student`` and the documents: weights
of another index or other documents are no longer right."""


def tune_fusion(job: Job) -> None:
    """Weights for each side and the choice between the student and its fusion; nothing where no dev query is judged."""
    split, config = job.judged_dev, job.recipe.evaluate
    if split is None:
        return
    queries, depth = job.dataset.queries(split), job.dataset.in_passages(config.depth)
    indexes = {"start": job.rival, "student": "student"}

    def work(folder: Path) -> dict[str, int]:
        lexical = job.lexical(queries, depth)
        for name, of in HYBRIDS.items():
            dense = job.dense(indexes[of], job.model(of), queries, depth)
            found = tuned(job, split, lexical, dense)
            decided = hybrid.decide(found) if of == "student" else {}
            write_json(folder / f"{name}.json", {**found, **decided, "split": split})
        return {"queries": len(queries)}

    inputs = {
        "indexes": {of: job.manifests[f"index-{index}"]["fingerprint"] for of, index in indexes.items()},
        "queries": queries.fingerprint,
        "qrels": stages.fingerprint(job.dataset.qrels(split)),
        "retrieve": job.recipe.retrieve.bm25,
        "depth": depth,
        "measure": config.measures[0],
    }
    job.stage("tune-fusion", "fusion", inputs, work)
    if not (job.manifests["tune-fusion"]["skipped"] and (job.out / FILE).is_file()):  # one tuned by hand stays
        index = job.manifests["index-student"]["fingerprint"]
        key = hybrid.key(index, job.dataset.documents.fingerprint)
        kept = read_json(job.out / "fusion" / "hybrid-student.json")
        write_json(job.out / FILE, {**kept, "key": key})


def tuned(job: Job, split: str, lexical: Run, dense: Run) -> dict[str, Any]:
    """What :func:`retrieval_distill.retrieval.hybrid.tune` finds for two Runs of a judged split."""
    pool, qrels = pooling(job.dataset, job.dataset.qrels(split))
    return hybrid.tune(lexical, dense, qrels, pool, job.recipe.evaluate.measures[0])


def fusions(job: Job) -> dict[str, Fusion]:
    """How each hybrid fuses: as tuned on dev, or by reciprocal ranks, both sides counting alike."""
    if "tune-fusion" not in job.manifests:
        return {name: Fusion() for name in HYBRIDS}
    return {name: Fusion(**read_json(job.out / "fusion" / f"{name}.json")["chosen"]) for name in HYBRIDS}
