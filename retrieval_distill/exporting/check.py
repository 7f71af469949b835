"""What an exported model is checked on: texts, and how like the model's its vectors, scores and rankings are.

Knows texts, judgements and numbers; must not know graphs, runtimes or models.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation import measures
from retrieval_distill.formatting import counted

LEAST_KEPT = 0.995
"""Share of nDCG@10 that a graph in 8 bits must keep."""

LEAST_COSINE = 0.998
"""Mean cosine to float32 that a bi-encoder in 8 bits must have where there are no judgements."""

LEAST_TAU = 0.95
"""Mean Kendall's tau with float32 that a cross-encoder in 8 bits must have where there are no judgements."""

EXACT_COSINE, EXACT_DIFFERENCE = 0.9999, 1e-3
"""Lowest cosine, and largest difference of scores (relative to their spread), of a float32 graph."""

MEASURE = "nDCG@10"

QUERIES, DOCUMENTS, CANDIDATES = 40, 200, 8
"""Sizes of a sample, and documents per query that a cross-encoder scores."""

TOP = 30
"""Documents of a query, the best in float32, whose order is compared."""

WARM_UP, TIMED, ROUNDS = 4, 32, 2
"""Texts before the clock starts, texts that are timed, and rounds, of which the fastest counts."""


@dataclass(frozen=True)
class Sample:
    """Queries and documents; ``grades`` holds the judged documents' numbers by query (empty: no judgements)."""

    queries: list[str]
    documents: list[str]
    grades: list[dict[int, int]] = field(default_factory=list)
    name: str = "paragraphs about Python"

    @classmethod
    def of(cls, dataset: Dataset, split: str) -> Sample:
        """Judged queries of a split, what is judged relevant to them, and other documents.

        Raises:
            UserError: The split has no judgements.
        """
        judged = dataset.qrels(split)
        asked = dataset.queries(split).sample(QUERIES, seed=0)
        grades = [{id_: grade for id_, grade in judged.get(query, {}).items() if grade > 0} for query in asked.ids]
        if not any(grades):
            raise UserError(f"split {split!r} of {dataset.name!r} has no judgements to check an export on")
        documents, relevant = dataset.documents, list(dict.fromkeys(id_ for row in grades for id_ in row))
        there = np.array(relevant, object)[documents.rows.find(relevant) >= 0].tolist()
        ids = list(dict.fromkeys([*there, *documents.sample(DOCUMENTS, seed=0).ids]))[:DOCUMENTS]
        number = {id_: place for place, id_ in enumerate(ids)}
        kept = [{number[id_]: grade for id_, grade in row.items() if id_ in number} for row in grades]
        name = f"{counted(len(asked), 'query')} (split {split}) and {counted(len(ids), 'document')} of {dataset.name}"
        return cls(asked.take(), documents.select(ids).take(), kept if any(kept) else [], name)

    @classmethod
    def of_python(cls) -> Sample:
        """English paragraphs that come with Python; their first words are the queries."""
        from pydoc_data.topics import topics

        texts = [" ".join(part.split()) for _, topic in sorted(topics.items()) for part in topic.split("\n\n")]
        documents = [text for text in texts if 100 < len(text) < 1000][:: max(1, len(texts) // DOCUMENTS // 2)]
        return cls([" ".join(text.split()[:8]) for text in documents[:QUERIES]], documents[:DOCUMENTS])

    def texts(self, kind: str) -> list[Any]:
        """The texts of a kind, or with ``"pair"`` the pairs of them."""
        if kind == "pair":
            return [(self.queries[query], self.documents[document]) for query, document in self.pairs]
        return self.queries if kind == "query" else self.documents

    @property
    def pairs(self) -> np.ndarray:
        """Pairs for a cross-encoder, (query, document), int64 [pairs, 2]: relevant documents, and others."""
        rng, rows = np.random.default_rng(0), []
        for query in range(min(len(self.queries), QUERIES // 2)):
            good = list(self.grades[query])[: CANDIDATES // 2] if self.grades else [query % len(self.documents)]
            others = rng.permutation(len(self.documents))[:CANDIDATES].tolist()
            rows += [(query, document) for document in list(dict.fromkeys([*good, *others]))[:CANDIDATES]]
        return np.array(rows)


@dataclass(frozen=True)
class Outcome:
    """What a model makes of a sample: scores [queries, documents], NaN where a pair was not scored."""

    scores: np.ndarray
    vectors: np.ndarray | None = None
    """Of queries and documents, float32 [texts, dimensions]; ``None``: a cross-encoder."""
    seconds: float = 0.0
    """CPU seconds that :data:`TIMED` documents, or pairs, took."""


Encode = Callable[[list[str], Any], np.ndarray]
"""(texts, kind) -> vectors, float32 [texts, dimensions]."""

Score = Callable[[list[tuple[str, str]]], np.ndarray]
"""Pairs -> scores, float32 [pairs]."""


def of_vectors(encode: Encode, sample: Sample, similarity: str) -> Outcome:
    """What a bi-encoder makes of a sample."""
    seconds = _time(lambda texts: encode(texts, "document"), sample.documents)
    queries, documents = encode(sample.queries, "query"), encode(sample.documents, "document")
    vectors = np.concatenate([queries, documents])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12) if similarity == "cosine" else vectors
    return Outcome(unit[: len(queries)] @ unit[len(queries) :].T, vectors, seconds)


def of_pairs(score: Score, sample: Sample) -> Outcome:
    """What a cross-encoder makes of a sample."""
    rows, texts = sample.pairs, sample.texts("pair")
    seconds = _time(score, texts)
    scores = np.full((len(sample.queries), len(sample.documents)), np.nan)
    scores[rows[:, 0], rows[:, 1]] = score(texts)
    return Outcome(scores, None, seconds)


def _time(work: Callable[[list[Any]], object], items: list[Any]) -> float:
    """CPU seconds that a few of the items take; not those of a clock, since other programs may be running."""
    drawn, taken = items[:: max(1, len(items) // TIMED)][:TIMED], []
    work(drawn[:WARM_UP])
    for _ in range(ROUNDS):
        start = time.process_time()
        work(drawn)
        taken.append(time.process_time() - start)
    return min(taken)


def compare(found: Outcome, model: Outcome, sample: Sample) -> dict[str, Any]:
    """How like the model's an export's results are.

    Returns:
        ``cosine`` (``mean`` and ``lowest`` over the texts; of bi-encoders), ``difference`` (the largest one of two
        scores, relative to the scores' standard deviation), ``tau`` (mean of Kendall's tau-b over the queries, of the
        documents that are best in float32) and, with judgements, ``ranking``: ``measure``, ``float32``, ``exported``
        and ``kept``, their ratio.
    """
    told: dict[str, Any] = {"texts": len(sample.queries) + len(sample.documents), "sample": sample.name}
    if found.vectors is not None and model.vectors is not None:
        lengths = np.linalg.norm(found.vectors, axis=1) * np.linalg.norm(model.vectors, axis=1)
        cosines = (found.vectors * model.vectors).sum(axis=1) / lengths.clip(1e-12)
        told["cosine"] = {"mean": _round(cosines.mean()), "lowest": _round(cosines.min())}
    spread = np.nanstd(model.scores) or 1.0
    told["difference"] = _round(np.nanmax(np.abs(found.scores - model.scores)) / spread)
    told["tau"] = _round(_mean_tau(found.scores, model.scores))
    if sample.grades:
        own, exported = (_ndcg(outcome.scores, sample) for outcome in (model, found))
        told["ranking"] = {
            "measure": MEASURE, "float32": _round(own), "exported": _round(exported),
            "kept": _round(exported / own if own else 1.0),
        }  # fmt: skip
    return told


def is_exact(told: dict[str, Any]) -> bool:
    """Whether a graph computes what its model does."""
    if "cosine" in told:
        return bool(told["cosine"]["lowest"] >= EXACT_COSINE)
    return bool(told["difference"] <= EXACT_DIFFERENCE)


def passes(told: dict[str, Any]) -> bool:
    """Whether a graph in 8 bits ranks well enough."""
    if "ranking" in told:
        return bool(told["ranking"]["kept"] >= LEAST_KEPT)
    if "cosine" in told:
        return bool(told["cosine"]["mean"] >= LEAST_COSINE)
    return bool(told["tau"] >= LEAST_TAU)


def rank(told: dict[str, Any]) -> tuple[float, float]:
    """By what ways that do not pass are ordered: the share of nDCG kept, then tau."""
    return told.get("ranking", {"kept": 0.0})["kept"], told["tau"]


def sentence(told: dict[str, Any]) -> str:
    """What was found, in a line."""
    parts = [f"Kendall's tau with float32 {told['tau']:.4f}"]
    if "cosine" in told:
        parts.insert(0, f"mean cosine to float32 {told['cosine']['mean']:.5f} (lowest {told['cosine']['lowest']:.5f})")
    if "ranking" in told:
        kept = told["ranking"]
        parts.insert(
            0, f"{kept['kept']:.2%} of {kept['measure']} kept ({kept['exported']:.4f} of {kept['float32']:.4f})"
        )
    return ", ".join(parts) + f", on {told['sample']}"


def demand(told: dict[str, Any]) -> str:
    """What :func:`passes` asks for."""
    if "ranking" in told:
        return f"{LEAST_KEPT:.1%} of {MEASURE}"
    return f"a mean cosine of {LEAST_COSINE}" if "cosine" in told else f"a tau of {LEAST_TAU}"


def _mean_tau(found: np.ndarray, exact: np.ndarray) -> float:
    taus = []
    for row, own in zip(found, exact, strict=True):
        best = np.argsort(-own, kind="stable")[:TOP]  # NaN comes last
        best = best[~np.isnan(own[best])]
        taus.append(kendalltau(row[best], own[best]).statistic if len(best) > 1 else np.nan)
    return float(np.nanmean(taus)) if np.isfinite(taus).any() else 1.0


def _ndcg(scores: np.ndarray, sample: Sample) -> float:
    run = {
        str(query): {str(place): float(row[place]) for place in np.flatnonzero(~np.isnan(row))}
        for query, row in enumerate(scores)
    }
    judged = {str(query): {str(place): g for place, g in row.items()} for query, row in enumerate(sample.grades) if row}
    run = {query: found for query, found in run.items() if found and query in judged}
    return float(measures.evaluate(Run.from_dict(run), {q: judged[q] for q in run}, [MEASURE])[MEASURE].mean())


def _round(value: float) -> float:
    return round(float(value), 6)
