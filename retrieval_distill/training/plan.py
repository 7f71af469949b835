"""The training plan, fixed before the first step so that a resumed training repeats it: tokens, topics and order.

Knows groups, texts and the untrained student; must not know objectives or the trainer.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from retrieval_distill.config import Recipe
from retrieval_distill.data.dataset import Qrels, Texts
from retrieval_distill.data.mixture import source_of
from retrieval_distill.data.training_set import TrainingSet
from retrieval_distill.errors import UserError
from retrieval_distill.runtime import stages
from retrieval_distill.student import encoder, lengths
from retrieval_distill.student.routes import Kind
from retrieval_distill.training import distributed, frozen_layers, query_order, token_store, topics
from retrieval_distill.training.batches import Collator, Rows
from retrieval_distill.training.groups import Draw, Group, schedule
from retrieval_distill.training.lexical_term import LexicalTerm
from retrieval_distill.training.teacher_vectors import teacher_vectors
from retrieval_distill.training.token_store import TokenizedTexts
from retrieval_distill.training.trainer_arguments import dtype

logger = logging.getLogger("retrieval_distill")


def training_texts(groups: list[Group], training_set: TrainingSet) -> dict[Kind, Texts]:
    """The texts to train on: the queries of all groups, and each of their candidates once."""
    doc_ids = dict.fromkeys(doc for group in groups for doc in group.doc_ids)
    return {
        "query": training_set.queries.select([group.query_id for group in groups]),
        "document": training_set.documents.select(list(doc_ids)),
    }


def build_collator(
    student: SentenceTransformer,
    groups: list[Group],
    texts: dict[Kind, Texts],
    qrels: Qrels,
    recipe: Recipe,
    folder: Path,
    lexical: LexicalTerm | None = None,
) -> Collator:
    """Prepare all training texts: tokenize them, and embed them if there is an embedding teacher.

    If layers are frozen, their hidden states are computed as well.
    """
    own_queries, own_documents = texts["query"], texts["document"]
    limit = recipe.training.max_length
    tokens: dict[Kind, TokenizedTexts] = {
        "query": token_store.tokenize(student, own_queries, "query", limit, folder / "tokens" / "queries"),
        "document": token_store.tokenize(student, own_documents, "document", limit, folder / "tokens" / "documents"),
    }
    rows: Mapping[Kind, Rows] = tokens
    if count := recipe.training.frozen_layers:
        rows = frozen_layers.hidden_states(student, tokens, count, dtype(recipe.training), folder / "hidden-states")
    return Collator(
        groups,
        rows["query"],
        rows["document"],
        qrels,
        teacher_vectors(recipe, own_queries, own_documents, folder / "teacher-vectors"),
        lexical.for_queries(own_queries) if lexical else None,
    )


def count_truncated(
    student: SentenceTransformer, texts: dict[Kind, Texts], recipe: Recipe
) -> dict[Kind, lengths.Truncation]:
    """How many training queries and documents exceed the maximum length; see ``student.lengths``."""
    name, limit = recipe.student.model, recipe.training.max_length
    return {kind: lengths.report_truncation(name, student, own, kind, limit) for kind, own in texts.items()}


def schedule_draws(
    student: SentenceTransformer, groups: list[Group], queries: Texts, recipe: Recipe, folder: Path
) -> list[Draw]:
    """The whole training order, for all steps and processes."""
    config = recipe.training
    batch = config.queries_per_step * distributed.count()
    steps = config.steps or max(1, round(config.epochs * len(groups) / (batch * config.gradient_accumulation)))
    by_group = _topics(student, queries.select([group.query_id for group in groups]), recipe, batch, folder)
    order = query_order.order(*_sources(groups, recipe), by_group, config, batch)
    count = steps * config.gradient_accumulation
    ways = config.easy_to_hard, config.draw == "stratified"
    return schedule(groups, count, batch, config.candidates, recipe.seed, order, *ways)


def _sources(groups: list[Group], recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """The dataset of each group, from 0, and the share of each dataset."""
    names = [source_of(group.query_id) if recipe.datasets else "" for group in groups]
    found = {name: place for place, name in enumerate(dict.fromkeys(names))}
    if unknown := [name for name in found if recipe.datasets and name not in recipe.datasets]:
        query_id = groups[names.index(unknown[0])].query_id
        known = ", ".join(recipe.datasets)
        raise UserError(f"training query {query_id!r} belongs to none of the recipe's datasets ({known})")
    sources = np.array([found[name] for name in names])
    weights = [recipe.datasets[name].weight if name else 1.0 for name in found]
    of_sources = query_order.stream_shares(np.bincount(sources), weights, recipe.training.dataset_exponent)
    if recipe.datasets:
        listed = ", ".join(f"{name} {share:.1%}" for name, share in zip(found, of_sources, strict=True))
        logger.info("shares of the datasets: %s", listed)
    return sources, of_sources


def _topics(
    student: SentenceTransformer, queries: Texts, recipe: Recipe, batch: int, folder: Path
) -> np.ndarray | None:
    """The topic of each query; clustered once and stored, for a resumed training."""
    count = recipe.training.topics
    if count is None:
        return None

    def work(out: Path) -> dict[str, int]:
        found = topics.cluster(encoder.encode(student, queries.take(), "query"), count, recipe.seed)
        np.save(out / "topics.npy", found, allow_pickle=False)
        return {"queries": len(queries), "topics": count}

    inputs = {
        "queries": queries.fingerprint,
        "student": recipe.student.model_dump(),
        "topics": count,
        "seed": recipe.seed,
    }
    stages.stage("topics", folder, inputs, work)
    found = np.load(folder / "topics.npy")
    if recipe.training.topic_batches == "one":
        share = topics.single_topic_share(found, batch)
        logger.info("%d topics: %.0f %% of the queries are in batches of a single topic", count, 100 * share)
    return found
