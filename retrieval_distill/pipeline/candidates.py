"""Stages that find candidates, of training queries and of dev queries, and that keep those that may teach."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from retrieval_distill import api
from retrieval_distill.config.mining import LEXICAL, START
from retrieval_distill.data import feedback_queries
from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import Embeddings
from retrieval_distill.mining import mining_report
from retrieval_distill.pipeline import dev_search
from retrieval_distill.pipeline.job import Job
from retrieval_distill.pipeline.rounds import Round
from retrieval_distill.retrieval.fusion import reciprocal_rank_fusion
from retrieval_distill.runtime import stages
from retrieval_distill.runtime.stages import write_json

logger = logging.getLogger("retrieval_distill")


def retrieve(turn: Round) -> None:
    """Candidates of the training queries, chosen as the recipe's ``mining`` says, with the relevant documents."""
    job, config, mining = turn.job, turn.job.recipe.retrieve, turn.job.recipe.mining
    indexes = _indexes(turn)
    short = {model: name for name, model in job.retrievers.items()}

    def work(folder: Path) -> dict[str, int]:
        found = api.mine(
            job.dataset,
            split=job.train_split,
            queries=job.training_queries,
            depth=config.depth,
            keep=config.keep,
            relevant=config.relevant,
            start=turn.start,
            indexes=indexes,
            topic_vectors=Embeddings.open(turn.start_vectors) if "in-topic" in mining.draw else None,
            bm25=job.bm25 if LEXICAL in mining.retrievers else None,
            dtype=job.recipe.embed.dtype,
            seed=job.recipe.seed,
            config=mining,
        )
        learnt: Run = found
        if job.told is not None and job.recipe.feedback is not None:
            limit = job.recipe.feedback.negatives
            learnt = feedback_queries.with_negatives(found, job.told, found.query_ids, limit)
        learnt.save(folder / "run.parquet")
        for name, run in found.lists.items():
            run.save(folder / "lists" / f"{short.get(name, name)}.parquet")
        for source, run in found.drawn.items():
            run.save(folder / "drawn" / f"{source}.parquet")
        write_json(folder / "mining.json", found.report)
        logger.info(mining_report.lists_table(found.report))
        queries, pairs = len(learnt.query_ids), len(learnt)
        left_out = {name: found.report[name] for name in ("copies", "relevant_left_out")}
        logger.info(mining_report.pairs_line(queries, pairs, left_out["relevant_left_out"], "retrieve.relevant"))
        return {"queries": queries, "pairs": pairs, **left_out}

    inputs = {
        "texts": [job.dataset.documents.fingerprint, job.training_queries.fingerprint],
        "qrels": stages.fingerprint(job.dataset.qrels(job.train_split)),
        "indexes": {name: (stages.read_manifest(index) or {})["fingerprint"] for name, index in indexes.items()},
        "retrieve": config.model_dump(),
        "mining": mining.model_dump(exclude={"preset", "filter", "rounds"}),
        "seed": job.recipe.seed if mining.draws_by_chance else None,
        **job.feedback_inputs,
    }
    turn.stage("retrieve", "candidates", inputs, work)


def filter_negatives(turn: Round) -> None:
    """The scored candidates without those that the recipe's ``mining.filter`` takes for false negatives."""
    job, config = turn.job, turn.job.recipe.mining.filter
    qrels = job.trained.qrels(job.train_split)

    def work(folder: Path) -> dict[str, Any]:
        scored = Run.load(turn.out / "teacher-scores" / "run.parquet")
        kept = api.filter_negatives(scored, job.dataset, split=job.train_split, config=config)
        kept.save(folder / "run.parquet")
        found = {**mining_report.of_scores(scored, qrels), "removed": kept.facts["removed"]}
        write_json(folder / "mining.json", found)
        logger.info(mining_report.scores_line(found))
        return {"pairs": len(scored), "removed": len(scored) - len(kept)}

    inputs = {
        "scores": turn.fingerprint("score"),
        "qrels": stages.fingerprint(qrels),
        "filter": config.model_dump(),
    }
    turn.stage("filter", "training-lists", inputs, work)


def find_dev(job: Job) -> None:
    """Candidates of the dev queries that the training is evaluated on."""
    if job.recipe.training.evaluate_steps:
        dev_candidates(job, job.out / "dev-candidates", job.recipe.training.dev_queries)


def dev_candidates(job: Job, out: Path, count: int | None) -> Run:
    """What BM25 and the start model, fused, find for so many dev queries; ``None``: for all."""
    depth, queries = job.recipe.retrieve.depth, job.dataset.queries(job.dev_split()).sample(count, job.recipe.seed)

    def work(folder: Path) -> dict[str, int]:
        both = [dev_search.lexical(job, queries, depth), dev_search.dense(job, "start", queries, depth)]
        found = reciprocal_rank_fusion(both).top(depth)
        found.save(folder / "run.parquet")
        return {"queries": len(queries), "pairs": len(found)}

    inputs = {
        "texts": [job.dataset.documents.fingerprint, queries.fingerprint],
        "start": job.manifests["index-start"]["fingerprint"],
        "retrieve": {"depth": depth, **job.recipe.retrieve.bm25},
        **job.dev_inputs,
    }
    job.note("retrieve-dev", stages.stage("retrieve-dev", out, inputs, work))
    return Run.load(out / "run.parquet")


def _indexes(turn: Round) -> dict[str, Path]:
    """Each dense retriever's index."""
    others = {model: turn.job.out / f"index-{name}" for name, model in turn.job.retrievers.items()}
    known = {START: turn.start_index, **others}
    return {name: known[name] for name in turn.job.recipe.mining.retrievers if name != LEXICAL}
