"""``index`` of kind ``auto``: every kind is built and asked held-out queries, and the cheapest that will do is kept.

Knows kinds of index, clocks and vectors; must not know texts or judgements. After autofaiss, which turns an intent into
an index by rules, and FAISS's ``ParameterSpace``, which tries settings; here both are measured on the corpus itself.
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
from retrieval_distill.formatting import size
from retrieval_distill.hardware import devices
from retrieval_distill.index import build, rescoring
from retrieval_distill.index.faiss_index import identity
from retrieval_distill.index.index import Setting
from retrieval_distill.index.kinds import FEWEST_TO_TRAIN, KINDS
from retrieval_distill.index.operating_points import Point, choose, front, shortfalls
from retrieval_distill.index.trials import CANDIDATES, CHOOSE, CONFIRM, SMALL, Trials, estimated
from retrieval_distill.index.vectors import Prepared
from retrieval_distill.runtime import stages
from retrieval_distill.runtime.progress import clock

logger = logging.getLogger("retrieval_distill")

REPORT = "tuning.json"

FEWEST = 2
"""Queries: one chooses, one measures."""


@dataclass(frozen=True)
class HeldOut:
    """:data:`FEWEST` queries or more to tune on: their fingerprint, and what makes their vectors, float32 [any, d]."""

    fingerprint: str
    vectors: Callable[[], np.ndarray]


def auto(
    embeddings: str | Path,
    folder: str | Path,
    intent: IntentConfig,
    similarity: str = "cosine",
    dimensions: int | None = None,
    queries: HeldOut | None = None,
) -> stages.Manifest:
    """Find, tune and keep the cheapest index that meets an intent; ``tuning.json`` in its folder tells what was tried.

    A killed search for it continues with the indexes it had built.

    Args:
        embeddings: Folder written by ``embed``.
        folder: Where the index goes.
        intent: What the index is for.
        similarity: ``"cosine"`` or ``"dot"``.
        dimensions: Dimensions kept, the first ones; ``None``: all.
        queries: Held-out queries; ``None``: documents' own vectors, each moved by the difference of two others until it
            is as far away as a query is from its answer (cosine 0.7).

    Raises:
        UserError: The embeddings are missing or hold a NaN, another process builds there, or the disk is full.
    """
    prepared = Prepared(Embeddings.open(embeddings), similarity, dimensions)
    given = queries and queries.fingerprint
    inputs = {**identity(prepared), "kind": "auto", "intent": intent.model_dump(mode="json"), "queries": given}

    def work(out: Path) -> dict[str, Any]:
        if not _has_chosen(out):
            stages.write_json(out / REPORT, _tuned(prepared, intent, queries, out))
        return _keep(out, Point(**stages.read_json(out / REPORT)["chosen"]))

    return stages.stage("index", folder, inputs, work, scratch=(CANDIDATES,))


def _tuned(prepared: Prepared, intent: IntentConfig, given: HeldOut | None, out: Path) -> dict[str, Any]:
    """Build, measure and choose; the report of it."""
    if given is None:
        queries, source = _imagined(prepared, intent.queries), "documents' own vectors, moved"
    else:
        queries, source = given.vectors(), "held-out queries"
    start, trials = time.monotonic(), Trials(prepared, queries, intent.depth, out)
    costs = _costs(prepared, intent)
    points, skipped = _measured(trials, intent, costs, start + 60 * intent.minutes)
    chosen = choose(points, intent)
    recalls, milliseconds = trials.ask(trials.opened(chosen.kind), Setting(chosen.setting, chosen.rescore), CONFIRM)
    best, missed = front(points), list(shortfalls(chosen, intent))
    report = {
        "intent": intent.model_dump(mode="json"),
        "documents": prepared.documents,
        "dimensions": prepared.dimensions,
        "queries": {"chosen_by": len(queries[CHOOSE]), "measured_by": len(recalls), "source": source},
        "met": not missed,
        "missed": missed,
        "chosen": asdict(chosen),
        "fresh": {
            "recall": asdict(mean_with_interval(recalls)),
            "latency_ms": dict(zip(("p50", "p95"), np.percentile(milliseconds, [50, 95]).tolist(), strict=True)),
        },
        "points": [asdict(point) | {"front": point in best} for point in points],
        "skipped": skipped,
        "hardware": devices.name(),
        "seconds": round(time.monotonic() - start, 1),
    }
    _tell(report)
    return report


def _costs(prepared: Prepared, intent: IntentConfig) -> dict[str, float]:
    """Seconds that building each kind takes, said before any is built."""
    some = prepared.sample(SMALL)
    costs = {name: estimated(kind, some, prepared.documents) for name, kind in KINDS.items()}
    each = ", ".join(f"{name} {clock(seconds)}" for name, seconds in costs.items())
    logger.info(
        "index: %s documents; building takes about %s (%s), and no more is begun after %s",
        f"{prepared.documents:,}", clock(sum(costs.values())), each, clock(60 * intent.minutes),
    )  # fmt: skip
    return costs


def _measured(
    trials: Trials, intent: IntentConfig, costs: dict[str, float], end: float
) -> tuple[list[Point], dict[str, str]]:
    """Every point there was time for, quickly built kinds first, and why kinds were left out."""
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


def _unsuitable(name: str, seconds: float, left: float, prepared: Prepared, intent: IntentConfig, others: bool) -> str:
    """Why a kind is not tried; the first is, whatever it costs, so that there is an index at all."""
    memory, budget = KINDS[name].bytes(prepared.dimensions) * prepared.documents, intent.memory
    if "{parts}" in KINDS[name].factory and prepared.documents < FEWEST_TO_TRAIN:
        return "too few documents to train it"
    if others and seconds > left:
        return f"building takes about {clock(seconds)}, {clock(max(left, 0))} are left"
    if others and budget is not None and memory > 2 * budget:
        return f"holds {size(memory)}, more than twice the budget"
    return ""


def _has_chosen(out: Path) -> bool:
    """Whether a killed attempt chose an index that is still there."""
    if not (out / REPORT).is_file():
        return False
    kind = stages.read_json(out / REPORT)["chosen"]["kind"]
    return stages.read_manifest(out / CANDIDATES / kind) is not None


def _keep(out: Path, chosen: Point) -> dict[str, Any]:
    """A copy of the chosen index beside the candidates, and its manifest's counts."""
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


def _tell(report: dict[str, Any]) -> None:
    """The result in a line, and a warning where nothing meets the intent."""
    chosen, fresh = report["chosen"], report["fresh"]
    how = f"{chosen['kind']}, recall {fresh['recall']['mean']:.3f}, {fresh['latency_ms']['p50']:.2f} ms, "
    if report["met"]:
        logger.info("index: %s%s", how, size(chosen["memory"]))
    else:
        logger.warning(
            "index: nothing that was tried meets the intent; nearest is %s%s, which misses its %s",
            how, size(chosen["memory"]), " and ".join(report["missed"]),
        )  # fmt: skip


def drawn(ids: Sequence[str], count: int, seed: int = 7) -> list[str]:
    """So many of the ids, drawn by the seed; all of them where there are no more."""
    return [ids[row] for row in np.random.default_rng(seed).permutation(len(ids))[:count]]


def _imagined(prepared: Prepared, count: int, seed: int = 7) -> np.ndarray:
    """Vectors like queries': documents' own, each moved along the difference of two others by its own length."""
    own = Prepared(prepared.embeddings, "dot").sample(count, seed)
    own = np.repeat(own, FEWEST, axis=0) if len(own) < FEWEST else own  # of a corpus of one document
    rng = np.random.default_rng(seed)
    ways = own[rng.permutation(len(own))] - own[rng.permutation(len(own))]
    length, moved = (np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (own, ways))
    return own + ways * (length / np.maximum(moved, 1e-12))
