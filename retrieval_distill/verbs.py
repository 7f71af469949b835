"""The verbs: what the command line, a recipe and Python code do, each in one function.

Each takes the nouns (Dataset, Run, folders of models and vectors) and gives one back; a stage of the pipeline adds
only where results are kept. Knows how rooms fit together; must not know recipes or option parsing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from retrieval_distill import artifacts, models, processes
from retrieval_distill.artifacts import Manifest
from retrieval_distill.config import (
    NO_LIMIT,
    CompressConfig,
    GenerateConfig,
    IntentConfig,
    MemberConfig,
    MiningConfig,
    Recipe,
    parse,
)
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.errors import UserError, nearest
from retrieval_distill.evaluation import compare, measures
from retrieval_distill.evaluation.passages import by_document
from retrieval_distill.generate import copies
from retrieval_distill.indexing import faiss_index
from retrieval_distill.indexing.embed import Embeddings, embed, embed_queries
from retrieval_distill.indexing.export import export
from retrieval_distill.indexing.faiss_index import Index
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.retrieval.fusion import reciprocal_rank_fusion
from retrieval_distill.retrieval.run import Run
from retrieval_distill.teacher import ensemble, scoring
from retrieval_distill.teacher.contract import Teacher
from retrieval_distill.teacher.ensemble import Ensemble
from retrieval_distill.teacher.store import ScoreStore

__all__ = [
    "benchmark", "compress", "convert", "distill", "embed", "evaluate", "export", "filter_negatives", "fit_teacher",
    "generate", "index", "load_teacher", "mine", "prepare", "rerank", "retrieve", "score", "search",
]  # fmt: skip


TRAINS = {"student", "objectives", "views", "embedding_teacher", "training"}
"""Sections of a recipe that decide what the student learns."""


def convert(
    dataset: Dataset, out: str | Path, to: str, run: Run | None = None, split: str = "train", negatives: int = 7
) -> None:
    """Write a dataset in another format.

    Args:
        dataset: What to write.
        out: Folder to write; with ``sentence-transformers`` a file (``.parquet``, ``.jsonl``, ``.csv``).
        to: ``beir``, ``jsonl``, ``csv``, ``parquet``, ``trec`` (judgements only) or ``sentence-transformers``.
        run: Teacher scores, for a training table.
        split: Split of a training table.
        negatives: Negatives in each row of a training table.

    Raises:
        UserError: No such format, the format cannot hold a text or an id, or a training table lacks its scores.
    """
    from retrieval_distill.data.formats import FORMATS
    from retrieval_distill.data.formats.contract import Export

    written = [name for name, format_ in FORMATS.items() if format_.write is not None]
    write = FORMATS[to].write if to in FORMATS else None
    if write is None:
        raise UserError(f"format {to!r} is not written{nearest(to, written)}")
    write(dataset, Path(out), Export(run, split, negatives))


def prepare(dataset: Dataset, folder: str | Path, overrides: Sequence[str] = (), **options: Any) -> Manifest:
    """Clean, segment and check a dataset; ``load_dataset(folder, cache)`` loads the result.

    Args:
        dataset: What to prepare.
        folder: Where the result and its ``report.json`` go; a finished one is kept.
        overrides: Keys of ``PrepareConfig``, as ``"duplicates=near"``.
        options: The same as Python values.

    Raises:
        UserError: An option is unknown, or what a step needs is missing.
    """
    from retrieval_distill.config import PrepareConfig
    from retrieval_distill.data.prepare import prepare as prepare_into

    return prepare_into(dataset, folder, parse(PrepareConfig, dict(options), "prepare", overrides))


def generate(
    dataset: Dataset, folder: str | Path, overrides: Sequence[str] = (), teacher: Teacher | Ensemble | None = None,
    store: str | Path | None = None, seed: int = 7, **options: Any,
) -> Manifest:  # fmt: skip
    """Make queries from a dataset's documents; ``load_dataset(folder, cache)`` loads the result, BEIR layout.

    The dataset's own queries and judgements stay; the generated ones are the split ``generated``, and
    ``generated.parquet`` tells how each was made.

    Args:
        dataset: Its documents are asked.
        folder: Where the result and its ``report.json`` go; a killed attempt continues, a finished one is kept.
        overrides: Keys of ``GenerateConfig``, as ``"ways={titles: 1, sentences: 2}"``.
        teacher: For ``round_trip.teacher`` and ``round_trip.score``; retrieval is BM25.
        store: Score store of the teacher.
        seed: Of every draw.
        options: The same as Python values.

    Raises:
        UserError: An option is unknown or missing, or no query is left.
    """
    from retrieval_distill.data.formats import beir
    from retrieval_distill.generate.making import generate as generate_into
    from retrieval_distill.generate.round_trip import Asked

    def scored(run: Run, queries: Texts, documents: Texts) -> Run:
        assert teacher is not None and store is not None
        return score(run, queries, documents, teacher, store)[0]

    if teacher is not None and store is None:
        raise UserError("a teacher needs a score store: name a folder for it")
    config = parse(GenerateConfig, dict(options), "generate", overrides)
    asked = Asked(lambda queries, depth: retrieve(dataset.documents, queries, depth), scored if teacher else None,
                  {"teacher": teacher and teacher.fingerprint})  # fmt: skip
    return generate_into(
        dataset, folder, config, seed, asked, lambda made, out: beir.save(copies.merged(dataset, made), out)
    )


def retrieve(
    documents: Texts,
    queries: Texts,
    depth: int = 100,
    index_folder: str | Path | None = None,
    model: str | None = None,
    k1: float = 1.5,
    b: float = 0.75,
    stemmer: str | None = None,
) -> Run:
    """First-stage retrieval: BM25, fused with dense search where an index is given.

    Args:
        documents: The corpus.
        queries: What to ask.
        depth: Documents per query that each retriever puts forward, and that are kept.
        index_folder: Index written by ``index``; ``None`` retrieves with BM25 alone.
        model: The bi-encoder the index was built with.
        k1: BM25's term-frequency saturation.
        b: BM25's length normalisation.
        stemmer: PyStemmer language for BM25, or ``None``.
    """
    lexical = BM25(documents, k1, b, stemmer).search(queries, depth)
    if index_folder is None or model is None:
        return lexical
    return reciprocal_rank_fusion([lexical, search(index_folder, model, queries, depth)]).top(depth)


def index(
    embeddings: str | Path,
    folder: str | Path,
    kind: str = "flat",
    similarity: str = "cosine",
    dimensions: int | None = None,
    rescore: int | None = None,
    intent: IntentConfig | None = None,
    asked: tuple[str, Texts] | None = None,
) -> Manifest:
    """Build a FAISS index over embedded documents, or (``kind="auto"``) find the cheapest that meets an intent.

    Args:
        embeddings: Folder written by ``embed``.
        folder: Where the index goes; with ``auto`` also ``tuning.json`` and ``tuning.html``, which tell what was tried.
        kind: ``flat``, ``hnsw``, ``ivf``, ``ivf-pq``, ``sq8``, ``binary`` or ``auto``.
        similarity: ``"cosine"`` or ``"dot"``.
        dimensions: Dimensions kept, the first ones; ``None``: all.
        rescore: Rescoring depth, see :func:`retrieval_distill.indexing.faiss_index.index`; ``auto`` tunes its own.
        intent: What ``auto`` aims at; ``None``: its defaults.
        asked: The model that embedded the documents and held-out queries for ``auto``; ``None``: documents' own
            vectors, moved, stand in for queries.

    Raises:
        UserError: See :mod:`retrieval_distill.indexing`; or the model is not the one that embedded the documents.
    """
    if kind != "auto":
        return faiss_index.index(embeddings, folder, kind, similarity, dimensions, rescore)
    from retrieval_distill.indexing import tune
    from retrieval_distill.reporting import tradeoff

    source, queries = Embeddings.open(embeddings), None
    aim = intent or IntentConfig()
    if asked is not None:
        model, texts = asked
        drawn = texts.select(tune.drawn(texts.ids, aim.queries))
        queries = tune.HeldOut(drawn.fingerprint, lambda: embed_queries(model, drawn, source.manifest, source.folder))
    manifest = tune.auto(embeddings, folder, aim, similarity, dimensions, queries)
    tradeoff.write(Path(folder))
    return manifest


def search(index_folder: str | Path, model: str, queries: Texts, depth: int = 100, dtype: str = "auto") -> Run:
    """Dense search of an index with the model it was built with."""
    return faiss_index.search(Index.open(index_folder), model, queries, depth, dtype)


def mine(
    dataset: Dataset,
    folder: str | Path,
    split: str = "train",
    depth: int = 30,
    keep: int = 12,
    seed: int = 7,
    dtype: str = "auto",
    overrides: Sequence[str] = (),
    **options: Any,
) -> tuple[Run, dict[str, Any]]:
    """Candidates of a split's queries, by any number of retrievers, with every relevant document.

    Args:
        dataset: Texts and judgements.
        folder: Keeps the vectors of the retrievers, so that they are made once.
        split: Whose queries are mined.
        depth: Documents that each retriever puts forward per query.
        keep: Candidates per query.
        seed: Of every draw.
        dtype: What models compute in.
        overrides: Keys of a recipe's section ``mining``, as ``"retrievers=[bm25, my-model]"``; those for scores
            (``filter``) and training (``rounds``) do nothing here.
        options: The same as Python values.

    Returns:
        The candidates; their scores are those of the fusion, 0 where there is none. And the mining report, see
        :func:`retrieval_distill.mining.report.of_lists`, with the ``copies`` of relevant documents left out.

    Raises:
        UserError: An option is unknown, or a retriever is no model; ``start`` is none outside of a recipe.
    """
    from retrieval_distill.mining import report
    from retrieval_distill.mining.mine import mine
    from retrieval_distill.mining.search import search_all

    config = parse(MiningConfig, dict(options), "mine", overrides)
    queries, qrels = dataset.queries_of(split), dataset.split(split)
    lists, vectors = search_all(config, queries, dataset.documents, depth, Path(folder), dtype)
    mined = mine(lists, queries, qrels, dataset.documents, config, keep, seed, vectors)
    return mined.candidates, {**report.of_lists(lists, mined.drawn, qrels), "copies": mined.copies}


def filter_negatives(
    scored: Run, dataset: Dataset, split: str = "train", overrides: Sequence[str] = (), **options: Any
) -> tuple[Run, dict[str, int]]:
    """A scored run without what looks like false negatives.

    Args:
        scored: Candidates under a teacher's raw scores.
        dataset: Whose judgements tell the relevant ones, which always stay.
        split: Of these judgements.
        overrides: Keys of a recipe's section ``mining.filter``, as ``"margin=1"``.
        options: The same as Python values.

    Returns:
        The run, and how many documents each rule would have removed alone.

    Raises:
        UserError: An option is unknown or out of bounds.
    """
    from retrieval_distill.config import FilterConfig
    from retrieval_distill.mining.filters import keep_negatives

    config = parse(FilterConfig, dict(options), "filter-negatives", overrides)
    return keep_negatives(scored, dataset.split(split), config)


def load_teacher(
    name: str, max_length: int | None = 512, dtype: str = "auto", overrides: Sequence[str] = (), **options: Any
) -> Teacher:
    """A teacher by name.

    Args:
        name: A cross-encoder (hub id, folder, ``starter``), ``bi-encoder:NAME``, ``llm:NAME`` or ``scores:FILE``.
        max_length: Tokens of a pair, at most the model's own limit, which ``None`` stands for.
        dtype: What the model computes in; ``"auto"``: bfloat16 where it is native.
        overrides: Other keys of a recipe's teacher section, as ``"llm.endpoint=http://localhost:8000/v1"``.
        options: The same as Python values, such as ``label=1`` or ``llm={"endpoint": URL}``.

    Raises:
        UserError: No such teacher, or an option is missing or unknown.
    """
    from retrieval_distill.teacher import load

    limit = NO_LIMIT if max_length is None else max_length
    values = {"model": name, "max_length": limit, "dtype": dtype, **options}
    return load.load(parse(MemberConfig, values, "teacher", overrides))


def score(
    run: Run, queries: Texts, documents: Texts, teacher: Teacher | Ensemble, store: str | Path, engine: str = "local"
) -> tuple[Run, dict[str, Any]]:
    """A teacher's raw scores for every pair of a Run, through the score store in folder ``store``.

    Several teachers (an ensemble) give calibrated scores; the store keeps each one's raw ones. With ``engine="ray"``
    a cross-encoder scores on the nodes of a Ray cluster (``RAY_ADDRESS``), and the store stays here.
    """
    if engine not in ("local", "ray"):
        raise UserError(f"engine {engine!r} is unknown{nearest(engine, ('local', 'ray'))}")
    if engine == "ray":
        from retrieval_distill.teacher.on_cluster import on_cluster

        teacher = on_cluster(teacher)
    if isinstance(teacher, Ensemble):
        return ensemble.score(run, queries, documents, teacher, ScoreStore(store))
    return scoring.score(run, queries, documents, teacher, ScoreStore(store))


def fit_teacher(
    dataset: Dataset, folder: str | Path, overrides: Sequence[str] = (), bi_encoder: str | None = None,
    train: str = "train", dev: str | None = "dev", **options: Any,
) -> Manifest:  # fmt: skip
    """Fine-tune a cross-encoder on a dataset's judgements; ``load_teacher(folder)`` loads it.

    Args:
        dataset: Texts and judgements.
        folder: Where the teacher goes; a killed fit continues, a finished one is kept.
        overrides: Keys of ``FitTeacherConfig``, as ``"loss=lambda"``.
        bi_encoder: Fused with BM25 to find hard candidates; ``None``: BM25 alone.
        train: Split to learn from.
        dev: Split that tells which weights to keep; ``None``: the last ones are kept.
        options: Keys of ``FitTeacherConfig`` as Python values.

    Raises:
        UserError: Several processes were started, or see ``retrieval_distill.teacher.fit``.
    """
    if processes.count() > 1:
        raise UserError("fit-teacher trains in one process; start it without torchrun")
    from retrieval_distill.teacher.fit import fit_on
    from retrieval_distill.teacher.fit_config import FitTeacherConfig

    config = parse(FitTeacherConfig, dict(options), "fit-teacher", overrides)
    return fit_on(dataset, config, folder, bi_encoder, train, dev)


def compress(
    texts: Texts, folder: str | Path, overrides: Sequence[str] = (), seed: int = 7, **options: Any
) -> Manifest:
    """Make a small encoder of a larger one, on plain text; a killed training continues, a finished one is kept.

    Args:
        texts: What to learn from, such as a dataset's ``documents``.
        folder: Where the student goes; ``SentenceTransformer(folder)`` loads it.
        overrides: Keys of ``CompressConfig``, as ``"layers=spaced:3"``.
        seed: Of all that is drawn.
        options: Keys of ``CompressConfig`` as Python values; ``model`` or ``teacher`` is needed.

    Raises:
        UserError: Several processes were started, or see ``retrieval_distill.compress.training``.
    """
    from retrieval_distill.compress import training

    config = parse(CompressConfig, dict(options), "compress", overrides)

    def work(out: Path) -> dict[str, Any]:
        if processes.count() > 1:
            raise UserError("compress trains in one process; start it without torchrun, then the rest with it")
        return training.compress(config, texts, out, seed)

    named = {name for name in (config.model, config.teacher) if name}
    inputs = {
        "texts": texts.fingerprint,
        "models": {name: models.fingerprint(name) for name in sorted(named)},
        "seed": seed,
        "config": config.model_dump(mode="json"),
    }
    return artifacts.stage("compress", folder, inputs, work)


def distill(
    run: Run,
    dataset: Dataset,
    split: str,
    recipe: Recipe,
    folder: str | Path,
    dev: tuple[Run, str] | None = None,
) -> Manifest:
    """Train a student on raw teacher scores; a killed training continues, a finished one is kept.

    Args:
        run: Candidates of the split's queries under teacher scores.
        dataset: Texts and judgements.
        split: Which judgements tell relevant candidates from the others.
        recipe: Its sections ``student``, ``objectives``, ``views``, ``embedding_teacher`` and ``training`` and its
            ``seed`` are used; with ``dev``, ``evaluate`` too.
        folder: Where the student goes; ``SentenceTransformer(folder)`` loads it.
        dev: First-stage candidates of other queries and the split that judges them, for ``training.evaluate_steps``.

    Raises:
        UserError: ``training.evaluate_steps`` without ``dev``, or see ``retrieval_distill.training.trainer``.
    """
    asked = None
    if dev:
        from retrieval_distill.training.dev import DevSet

        asked = DevSet.pool(*dev, dataset, recipe.training.dev_documents, recipe.seed)
    seen = copies.as_trained(dataset, split)

    def work(out: Path) -> dict[str, Any]:
        from retrieval_distill.training.trainer import distill

        return distill(run, seen.split(split), seen.queries, seen.documents, recipe, out, asked)

    embedding_teacher = recipe.embedding_teacher.model
    named = None if embedding_teacher in (None, "start") else models.fingerprint(embedding_teacher)
    inputs = {
        "scores": artifacts.fingerprint(run.frame.to_csv(index=False)),
        "texts": [seen.documents.fingerprint, seen.queries.fingerprint],
        "qrels": artifacts.fingerprint(seen.split(split)),
        "model": models.fingerprint(recipe.student.model),
        "embedding_teacher_model": named,
        "query_model": recipe.student.query_model and models.fingerprint(recipe.student.query_model),
        "seed": recipe.seed,
        "dev": [asked.fingerprint, recipe.evaluate.measures[0], recipe.evaluate.depth] if asked else None,
        "datasets": {name: source.weight for name, source in recipe.datasets.items()},
        **recipe.model_dump(mode="json", include=TRAINS, exclude={"training": {"report_to"}}),
    }
    return artifacts.stage("distill", folder, inputs, work, together=True)


def rerank(
    run: Run, queries: Texts, documents: Texts, teacher: Teacher | Ensemble, store: str | Path, depth: int
) -> tuple[Run, dict[str, Any]]:
    """The first ``depth`` documents of every query in the teacher's order, the others below them in their old order."""
    head, counts = score(run.top(depth), queries, documents, teacher, store)
    tail = run.frame[run.frame.groupby("query_id", sort=False).cumcount() >= depth]
    if tail.empty:
        return head, counts
    floor = tail["query_id"].map(head.frame.groupby("query_id")["score"].min())
    below = tail.groupby("query_id", sort=False).cumcount() + 1
    merged = pd.concat([head.frame, tail.assign(score=floor - below)])
    return Run.from_columns(merged["query_id"], merged["doc_id"], merged["score"]), counts


def evaluate(
    systems: Mapping[str, Run], dataset: Dataset, split: str, names: Sequence[str] = measures.DEFAULT_MEASURES
) -> dict[str, dict[str, Any]]:
    """Measures of several Runs over the same judged queries, with intervals and paired tests between them.

    Of a dataset cut into passages, documents are measured: each by its best passage.

    Raises:
        UserError: A run belongs to another dataset, or is defective; see :mod:`retrieval_distill.evaluation.checks`.
    """
    measured, judged = by_document(systems, dataset, split)
    documents = dataset.documents if dataset.parents is None else None
    return compare.summarise(compare.per_query(measured, judged, names, documents))


def benchmark(
    bi_encoders: Sequence[str],
    on: Sequence[str],
    folder: str | Path,
    runs: Mapping[str, str] | None = None,
    cache: str | Path = "runs/cache",
    split: str = "test",
    names: Sequence[str] = ("nDCG@10", "RR@10", "R@100"),
    depth: int = 100,
    dtype: str = "auto",
) -> dict[str, Any]:
    """Measure BM25, models and runs from elsewhere on many datasets, resumably.

    Args:
        bi_encoders: Hub ids, folders or packaged names.
        on: Datasets and tasks; see :func:`retrieval_distill.evaluation.benchmark.benchmark`, which also says what
            comes back and what is refused.
        folder: Where everything is kept.
        runs: Run files by name; ``{dataset}`` in a file's name stands for the dataset's.
        cache: Keeps datasets that are built or downloaded.
        split: Which judgements.
        names: Measures; the first one is the headline.
        depth: Documents per query.
        dtype: What models compute in.
    """
    from retrieval_distill.evaluation.benchmark import Systems, benchmark

    found = models.by_short_name(bi_encoders, ["bm25", *(runs or {})], "benchmark")
    return benchmark(on, Systems(found, runs or {}, dtype), folder, cache, split, names, depth)
