"""Stages that find candidates, of training queries and of dev queries, and that keep those that may teach."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from retrieval_distill import models
from retrieval_distill.config.mining import LEXICAL, START
from retrieval_distill.data.dataset import Qrels, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import Embeddings
from retrieval_distill.mining import report
from retrieval_distill.mining.filters import keep_negatives
from retrieval_distill.mining.mine import mine
from retrieval_distill.pipeline.job import Job
from retrieval_distill.pipeline.rounds import Round
from retrieval_distill.runtime import stages
from retrieval_distill.runtime.stages import write_json

logger = logging.getLogger("retrieval_distill")


def retrieve(turn: Round) -> None:
    """Candidates of the training queries, chosen as the recipe's ``mining`` says, with the relevant documents."""
    job, config, mining = turn.job, turn.job.recipe.retrieve, turn.job.recipe.mining
    qrels, dense = _judged(job), _dense(turn)

    def work(folder: Path) -> dict[str, int]:
        lists = {name: _list(turn, name, mining.depth(config.depth)) for name in mining.retrievers}
        vectors = Embeddings.open(turn.start_vectors) if "in-topic" in mining.draw else None
        texts = job.training_queries, qrels, job.dataset.documents
        mined = mine(lists, *texts, mining, config.keep, job.recipe.seed, vectors, config.relevant)
        mined.candidates.save(folder / "run.parquet")
        for name, run in lists.items():
            run.save(folder / "lists" / f"{models.short_name(name)}.parquet")
        for source, run in mined.drawn.items():
            run.save(folder / "drawn" / f"{source}.parquet")
        found = {**report.of_lists(lists, mined.drawn, qrels), "copies": mined.copies}
        write_json(folder / "mining.json", found)
        logger.info(report.lists_table(found))
        queries, pairs = len(mined.candidates.query_ids), len(mined.candidates)
        logger.info(report.pairs_line(queries, pairs, mined.beyond, "retrieve.relevant"))
        return {"queries": queries, "pairs": pairs, "copies": mined.copies, "relevant_left_out": mined.beyond}

    inputs = {
        "texts": [job.dataset.documents.fingerprint, job.training_queries.fingerprint],
        "qrels": stages.fingerprint(job.dataset.split(job.train_split)),
        "indexes": {name: (stages.read_manifest(index) or {})["fingerprint"] for name, (index, _) in dense.items()},
        "retrieve": config.model_dump(),
        "mining": mining.model_dump(exclude={"preset", "filter", "rounds"}),
        "seed": job.recipe.seed if mining.draws_by_chance else None,
    }
    turn.stage("retrieve", "candidates", inputs, work)


def filter_negatives(turn: Round) -> None:
    """The scored candidates without those that the recipe's ``mining.filter`` takes for false negatives."""
    job, config = turn.job, turn.job.recipe.mining.filter
    qrels = job.trained.split(job.train_split)

    def work(folder: Path) -> dict[str, Any]:
        scored = Run.load(turn.out / "teacher-scores" / "run.parquet")
        kept, removed = keep_negatives(scored, qrels, config)
        kept.save(folder / "run.parquet")
        found = {**report.of_scores(scored, qrels), "removed": {**removed, "all": len(scored) - len(kept)}}
        write_json(folder / "mining.json", found)
        logger.info(report.scores_line(found))
        return {"pairs": len(scored), "removed": len(scored) - len(kept)}

    inputs = {
        "scores": turn.fingerprint("score"),
        "qrels": stages.fingerprint(qrels),
        "filter": config.model_dump(),
    }
    turn.stage("filter", "training-lists", inputs, work)


def find_dev(job: Job) -> None:
    """Candidates of the dev queries that the training is evaluated on."""
    training, depth = job.recipe.training, job.recipe.retrieve.depth
    queries = job.dataset.queries_of(job.dev_split()).drawn(training.dev_queries, job.recipe.seed)

    def work(folder: Path) -> dict[str, int]:
        found = job.first_stage(queries, depth)
        found.save(folder / "run.parquet")
        return {"queries": len(queries), "pairs": len(found)}

    inputs = {
        "texts": [job.dataset.documents.fingerprint, queries.fingerprint],
        "start": job.manifests["index-start"]["fingerprint"],
        "retrieve": job.recipe.retrieve.model_dump(include={"depth", "k1", "b", "stemmer"}),
    }
    job.stage("retrieve-dev", "dev-candidates", inputs, work)


def _judged(job: Job) -> Qrels:
    """The judgements of the training queries."""
    qrels = job.dataset.split(job.train_split)
    return {id_: qrels[id_] for id_ in job.training_queries}


def _dense(turn: Round) -> dict[str, tuple[Path, str]]:
    """Each dense retriever's index and model."""
    others = {model: (turn.job.out / f"index-{name}", model) for name, model in turn.job.retrievers.items()}
    known = {START: (turn.start_index, turn.start), **others}
    return {name: known[name] for name in turn.job.recipe.mining.retrievers if name != LEXICAL}


def _list(turn: Round, retriever: str, depth: int) -> Run:
    """What one retriever finds for the training queries."""
    queries: Texts = turn.job.training_queries
    if retriever == LEXICAL:
        return turn.job.lexical(queries, depth)
    return turn.job.dense(*_dense(turn)[retriever], queries, depth)
