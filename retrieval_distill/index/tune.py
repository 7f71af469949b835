"""``index`` of kind ``auto``: builds every kind, measures it on held-out queries, and keeps the cheapest that suffices.

Knows kinds of index, clocks and vectors; must not know texts or judgements. Inspired by autofaiss, which derives an
index from an intent by rules, and FAISS's ``ParameterSpace``, which tries settings; here both are measured on the
corpus itself.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrieval_distill.config import IntentConfig
from retrieval_distill.embedding.embed import Embeddings
from retrieval_distill.evaluation.significance import mean_with_interval
from retrieval_distill.formatting import counted, size
from retrieval_distill.hardware import devices
from retrieval_distill.index import build, rescoring
from retrieval_distill.index.faiss_index import identity
from retrieval_distill.index.index import Setting
from retrieval_distill.index.index_tuning_file import Fresh, IndexTuning, MeasuredPoint, Percentiles, TuningQueries
from retrieval_distill.index.kinds import KINDS, MIN_TRAINING_VECTORS
from retrieval_distill.index.operating_points import Point, choose, front, shortfalls
from retrieval_distill.index.trials import CANDIDATES, CHOOSE, CONFIRM, ESTIMATE_VECTORS, Trials, estimate_build_seconds
from retrieval_distill.index.vectors import PreparedVectors
from retrieval_distill.runtime import stages
from retrieval_distill.runtime.progress import clock

logger = logging.getLogger("retrieval_distill")

MIN_QUERIES = 2
"""Fewest queries: one to choose with, one to measure with."""


@dataclass(frozen=True)
class HeldOutQueries:
    """At least :data:`MIN_QUERIES` queries to tune on: their fingerprint, and a function that embeds them."""

    fingerprint: str
    vectors: Callable[[], np.ndarray]


def auto(
    embeddings: str | Path,
    folder: str | Path,
    intent: IntentConfig,
    similarity: str = "cosine",
    dimensions: int | None = None,
    queries: HeldOutQueries | None = None,
) -> stages.Manifest:
    """Find, tune and keep the cheapest index that meets an intent; ``tuning.json`` in its folder lists what was tried.

    After a kill, tuning continues with the indexes already built.

    Args:
        embeddings: Folder written by ``embed``.
        folder: Where the index goes.
        intent: The recall, memory and latency wanted.
        similarity: ``"cosine"`` or ``"dot"``.
        dimensions: Number of leading dimensions to keep; ``None``: all.
        queries: Held-out queries; ``None``: document vectors, each moved by the difference of two others until it is
            as far away as a query is from its answer (cosine 0.7).

    Raises:
        UserError: The embeddings are missing or hold a NaN, another process builds there, or the disk is full.
    """
    prepared = PreparedVectors(Embeddings.open(embeddings), similarity, dimensions)
    given = queries and queries.fingerprint
    inputs = {**identity(prepared), "kind": "auto", "intent": intent.model_dump(mode="json"), "queries": given}

    def work(out: Path) -> dict[str, Any]:
        found = _unfinished(out)
        if found is None:
            found = _tune(prepared, intent, queries, out)
            found.write(out)
        return _keep(out, found.chosen)

    return stages.stage("index", folder, inputs, work, scratch=(CANDIDATES,))


def _tune(prepared: PreparedVectors, intent: IntentConfig, given: HeldOutQueries | None, out: Path) -> IndexTuning:
    """Build, measure and choose an index."""
    if given is None:
        queries, source = synthetic_queries(prepared, intent.queries), "documents' own vectors, moved"
    else:
        queries, source = given.vectors(), "held-out queries"
    start, trials = time.monotonic(), Trials(prepared, queries, intent.depth, out)
    costs = _costs(prepared, intent)
    points, skipped = _measure(trials, intent, costs, start + 60 * intent.minutes)
    chosen = choose(points, intent)
    recalls, milliseconds = trials.ask(trials.opened(chosen.kind), Setting(chosen.setting, chosen.rescore), CONFIRM)
    best, missed = front(points), list(shortfalls(chosen, intent))
    p50, p95 = np.percentile(milliseconds, [50, 95]).tolist()
    found = IndexTuning(
        intent=IntentConfig(**intent.model_dump()),
        documents=prepared.documents,
        dimensions=prepared.dimensions,
        queries=TuningQueries(chosen_by=len(queries[CHOOSE]), measured_by=len(recalls), source=source),
        met=not missed,
        missed=missed,
        chosen=chosen,
        fresh=Fresh(recall=mean_with_interval(recalls), latency_ms=Percentiles(p50=p50, p95=p95)),
        points=[MeasuredPoint(**asdict(point), front=point in best) for point in points],
        skipped=skipped,
        hardware=devices.name(),
        seconds=round(time.monotonic() - start, 1),
    )
    _log_result(found)
    return found


def _costs(prepared: PreparedVectors, intent: IntentConfig) -> dict[str, float]:
    """Estimated seconds to build each kind, logged before any is built."""
    some = prepared.sample(ESTIMATE_VECTORS)
    costs = {name: estimate_build_seconds(kind, some, prepared.documents) for name, kind in KINDS.items()}
    each = ", ".join(f"{name} {clock(seconds)}" for name, seconds in costs.items())
    logger.info(
        "index: %s; building takes about %s (%s), and no more are started after %s",
        counted(prepared.documents, "document"), clock(sum(costs.values())), each, clock(60 * intent.minutes),
    )  # fmt: skip
    return costs


def _measure(
    trials: Trials, intent: IntentConfig, costs: dict[str, float], end: float
) -> tuple[list[Point], dict[str, str]]:
    """Every point there was time to measure, fastest-built kinds first, and why kinds were skipped."""
    points: list[Point] = []
    skipped = {}
    for name, seconds in sorted(costs.items(), key=lambda item: item[1]):
        if reason := _unsuitable(name, seconds, end - time.monotonic(), trials.prepared, intent, bool(points)):
            skipped[name] = reason
            continue
        found = list(trials.points(name, end))
        points += found
        logger.info("index: %s, recall %.3f to %.3f", name, found[0].recall, max(point.recall for point in found))
    return points, skipped


def _unsuitable(
    name: str, seconds: float, left: float, prepared: PreparedVectors, intent: IntentConfig, others: bool
) -> str:
    """Why a kind is skipped; the first never is for its cost, so that there is an index at all."""
    memory, budget = KINDS[name].bytes(prepared.dimensions) * prepared.documents, intent.memory
    if "{parts}" in KINDS[name].factory and prepared.documents < MIN_TRAINING_VECTORS:
        return "too few documents to train it"
    if others and seconds > left:
        return f"building takes about {clock(seconds)}, but only {clock(max(left, 0))} are left"
    if others and budget is not None and memory > 2 * budget:
        return f"holds {size(memory)}, more than twice the budget"
    return ""


def _unfinished(out: Path) -> IndexTuning | None:
    """The result of a killed attempt that had chosen an index which still exists."""
    found = IndexTuning.read(out)
    return found if found and stages.read_manifest(out / CANDIDATES / found.chosen.kind) else None


def _keep(out: Path, chosen: Point) -> dict[str, Any]:
    """Copy the chosen index out of the candidates; returns the manifest's counts."""
    folder = out / CANDIDATES / chosen.kind
    counts = (stages.read_manifest(folder) or {})["counts"]
    for name in (build.FILE, build.IDS):
        shutil.copyfile(folder / name, out / name)
    if not chosen.rescore:
        (out / rescoring.FILE).unlink(missing_ok=True)
    files = build.fingerprints(out, (build.FILE, build.IDS, *([rescoring.FILE] if chosen.rescore else [])))
    return counts | {
        "search": {"setting": chosen.setting, "rescore": chosen.rescore},
        "files": files,
        "disk_bytes": sum(file["bytes"] for file in files.values()),
    }


def _log_result(found: IndexTuning) -> None:
    """Log the result, or a warning if nothing meets the intent."""
    chosen, fresh = found.chosen, found.fresh
    how = f"{chosen.kind}, recall {fresh.recall.mean:.3f}, {fresh.latency_ms.p50:.2f} ms, {size(chosen.memory)}"
    if found.met:
        logger.info("index: %s", how)
    else:
        logger.warning(
            "index: nothing tried meets the intent; the nearest is %s, which misses its %s",
            how,
            " and ".join(found.missed),
        )  # fmt: skip


def sample_ids(ids: Sequence[str], count: int, seed: int = 7) -> list[str]:
    """A random sample of the ids; all of them if there are no more than ``count``."""
    return [ids[row] for row in np.random.default_rng(seed).permutation(len(ids))[:count]]


def synthetic_queries(prepared: PreparedVectors, count: int, seed: int = 7) -> np.ndarray:
    """Query-like vectors: document vectors, each moved by its own length along the difference of two others."""
    own = PreparedVectors(prepared.embeddings, "dot").sample(count, seed)
    own = np.repeat(own, MIN_QUERIES, axis=0) if len(own) < MIN_QUERIES else own  # a corpus of one document
    rng = np.random.default_rng(seed)
    ways = own[rng.permutation(len(own))] - own[rng.permutation(len(own))]
    length, moved = (np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (own, ways))
    return own + ways * (length / np.maximum(moved, 1e-12))
