"""``index`` of kind ``auto``: every kind is built and asked held-out queries, and the cheapest that will do is kept.

Knows kinds of index, clocks and vectors; must not know texts or judgements. After autofaiss, which turns an intent into
an index by rules, and FAISS's ``ParameterSpace``, which tries settings; here both are measured on the corpus itself.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrieval_distill import artifacts, hardware
from retrieval_distill.config import IntentConfig
from retrieval_distill.evaluation.significance import mean_with_interval
from retrieval_distill.indexing import build, exact, rescoring
from retrieval_distill.indexing.embed import Embeddings, comparable
from retrieval_distill.indexing.faiss_index import Index, Setting, identity, index
from retrieval_distill.indexing.kinds import (
    FEWEST_TO_TRAIN,
    KINDS,
    RESCORES,
    Kind,
    empty_index,
    encoded,
    training_vectors,
)
from retrieval_distill.indexing.points import Point, choose, front, shortfalls
from retrieval_distill.indexing.prepared import Prepared
from retrieval_distill.progress import clock
from retrieval_distill.reporting.text import size

logger = logging.getLogger("retrieval_distill")

REPORT = "tuning.json"

ENOUGH = 0.9995
"""Recall from which a more thorough setting could only be slower."""

TRIAL = 4096
"""Vectors of the small index whose building time tells the whole one's."""

TIED = 1e-5
"""Documents whose product is so close to the last of the exact best are as good as it."""


@dataclass(frozen=True)
class HeldOut:
    """Two or more queries to tune on: their fingerprint, and what makes their vectors, float32 [any, dimensions]."""

    fingerprint: str
    vectors: Callable[[], np.ndarray]


def auto(
    embeddings: str | Path,
    folder: str | Path,
    intent: IntentConfig,
    similarity: str = "cosine",
    dimensions: int | None = None,
    queries: HeldOut | None = None,
) -> artifacts.Manifest:
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
        UserError: The embeddings are missing or hold a NaN, or the disk is full.
    """
    prepared = Prepared(Embeddings.open(embeddings), similarity, dimensions)
    given = queries and queries.fingerprint
    inputs = {**identity(prepared), "kind": "auto", "intent": intent.model_dump(mode="json"), "queries": given}

    def work(out: Path) -> dict[str, Any]:
        if queries is None:
            asked, source = _imagined(prepared, intent.queries), "documents' own vectors, moved"
        else:
            asked, source = queries.vectors(), "held-out queries"
        return _Tuning(prepared, intent, asked, source, out).run()

    return artifacts.stage("index", folder, inputs, work)


@dataclass
class _Tuning:
    """One search for an index, in the folder ``out``."""

    prepared: Prepared
    intent: IntentConfig
    queries: np.ndarray
    source: str
    out: Path

    def run(self) -> dict[str, Any]:
        """Build, measure, choose and keep."""
        start = time.monotonic()
        some = self.prepared.sample(TRIAL)
        costs = {name: self._estimated(kind, some) for name, kind in KINDS.items()}
        logger.info(
            "index: %s documents; building takes about %s (%s), at most %s",
            f"{self.prepared.documents:,}", clock(sum(costs.values())),
            ", ".join(f"{name} {clock(seconds)}" for name, seconds in costs.items()), clock(60 * self.intent.minutes),
        )  # fmt: skip
        truth = self._truth()
        points, skipped = self._measured(costs, start + 60 * self.intent.minutes, truth)
        chosen = choose(points, self.intent)
        fresh = self._ask(self._opened(chosen.kind), Setting(chosen.setting, chosen.rescore), truth, slice(1, None, 2))
        report = self._report(points, skipped, chosen, fresh) | {"seconds": round(time.monotonic() - start, 1)}
        _tell(report)
        artifacts.write_json(self.out / REPORT, report)
        return self._keep(chosen)

    def _estimated(self, kind: Kind, some: np.ndarray) -> float:
        """Seconds that building takes, from a small index of some of the vectors."""
        if len(some) < FEWEST_TO_TRAIN:
            return 0.0
        small, start = empty_index(kind, len(some), self.prepared.dimensions), time.monotonic()
        if training_vectors(kind, len(some)):
            small.train(some)
        small.add(encoded(kind, some))
        return (time.monotonic() - start) * (self.prepared.documents / len(some)) ** kind.growth

    def _truth(self) -> list[set[int]]:
        """The rows of each query's exact best documents, and of those that equal the last of them."""
        asked, depth = comparable(self.queries, self.prepared.similarity, self.prepared.cut), self._depth
        scores, rows = exact.best(asked, self.prepared.blocks, 2 * depth)
        best = scores >= scores[:, depth - 1 : depth] - TIED * np.abs(scores[:, :1])
        return [set(found[among & (found >= 0)].tolist()) for found, among in zip(rows, best, strict=True)]

    @property
    def _depth(self) -> int:
        return min(self.intent.depth, self.prepared.documents)

    def _measured(
        self, costs: dict[str, float], end: float, truth: list[set[int]]
    ) -> tuple[list[Point], dict[str, str]]:
        """Every point there was time for, and why kinds were left out."""
        points: list[Point] = []
        skipped = {}
        for name, seconds in sorted(costs.items(), key=lambda item: item[1]):
            if reason := self._unsuitable(name, seconds, end - time.monotonic(), bool(points)):
                skipped[name] = reason
                continue
            index(self.prepared.embeddings.folder, self._folder(name), name, self.prepared.similarity,
                  self.prepared.cut, 0)  # fmt: skip
            found = list(self._points(name, truth, end))
            points += found
            logger.info("index: %s, recall %.3f to %.3f", name, found[0].recall, max(p.recall for p in found))
        return points, skipped

    def _unsuitable(self, name: str, seconds: float, left: float, others: bool) -> str:
        """Why a kind is not tried; the first is, whatever it costs, so that there is an index at all."""
        memory, budget = KINDS[name].bytes(self.prepared.dimensions) * self.prepared.documents, self.intent.memory
        if "{parts}" in KINDS[name].factory and self.prepared.documents < FEWEST_TO_TRAIN:
            return "too few documents to train it"
        if others and seconds > left:
            return f"building takes about {clock(seconds)}, {clock(max(left, 0))} are left"
        if others and budget is not None and memory > 2 * budget:
            return f"holds {size(memory)}, more than twice the budget"
        return ""

    def _points(self, name: str, truth: list[set[int]], end: float) -> Iterator[Point]:
        """The kind's settings and rescoring depths, each measured; those that could only be slower are passed over."""
        opened, kind = self._opened(name), KINDS[name]
        for setting in kind.settings or (None,):
            for rescore in RESCORES if kind.loses else (0,):
                recalls, milliseconds = self._ask(opened, Setting(setting, rescore), truth, slice(0, None, 2))
                middle, slow = np.percentile(milliseconds, [50, 95]).tolist()
                memory, recall = opened.manifest["counts"]["bytes"], float(recalls.mean())
                yield Point(name, setting, rescore, recall, round(middle, 4), round(slow, 4), memory)
                if time.monotonic() > end:
                    return
                if recall >= ENOUGH:
                    break
            if recall >= ENOUGH:
                return

    def _ask(
        self, opened: Index, setting: Setting, truth: list[set[int]], which: slice
    ) -> tuple[np.ndarray, np.ndarray]:
        """Recall and milliseconds of each of some queries, asked one by one."""
        recalls, milliseconds = [], []
        opened.best_rows(self.queries[:1], self._depth, setting)
        for query, best in zip(self.queries[which], truth[which], strict=True):
            start = time.perf_counter()
            _, rows = opened.best_rows(query[None], self._depth, setting)
            milliseconds.append(1000 * (time.perf_counter() - start))
            recalls.append(min(len(best & set(rows[0].tolist())), self._depth) / self._depth)
        return np.array(recalls), np.array(milliseconds)

    def _folder(self, name: str) -> Path:
        return self.out / "candidates" / name

    def _opened(self, name: str) -> Index:
        """A candidate; one that loses something with the stored vectors that all such candidates share."""
        opened = Index.open(self._folder(name))
        return replace(opened, stored=rescoring.open_stored(self._stored())) if KINDS[name].loses else opened

    def _stored(self) -> Path:
        path, made = self.out / rescoring.FILE, self.prepared
        if not path.is_file():
            whole = path.with_suffix(".whole")
            rescoring.write(whole, made.blocks(), made.documents, made.dimensions, made.similarity)
            whole.replace(path)
        return path

    def _report(
        self, points: list[Point], skipped: dict[str, str], chosen: Point, fresh: tuple[np.ndarray, np.ndarray]
    ) -> dict[str, Any]:
        best, missed = front(points), shortfalls(chosen, self.intent)
        return {
            "intent": self.intent.model_dump(mode="json"),
            "documents": self.prepared.documents,
            "dimensions": self.prepared.dimensions,
            "queries": {"chosen_by": len(self.queries[0::2]), "measured_by": len(fresh[0]), "source": self.source},
            "met": not missed,
            "missed": list(missed),
            "chosen": asdict(chosen),
            "fresh": {
                "recall": asdict(mean_with_interval(fresh[0])),
                "latency_ms": dict(zip(("p50", "p95"), np.percentile(fresh[1], [50, 95]).tolist(), strict=True)),
            },
            "points": [asdict(point) | {"front": point in best} for point in points],
            "skipped": skipped,
            "hardware": hardware.name(),
        }

    def _keep(self, chosen: Point) -> dict[str, Any]:
        """The chosen index in the place of all candidates, and its manifest's counts."""
        folder = self._folder(chosen.kind)
        counts = artifacts.read_json(folder / "manifest.json")["counts"]
        for name in (build.FILE, build.IDS):
            shutil.copyfile(folder / name, self.out / name)  # a killed search finds its candidates whole
        shutil.rmtree(self.out / "candidates")
        if not chosen.rescore:
            (self.out / rescoring.FILE).unlink(missing_ok=True)
        names = (build.FILE, build.IDS, *([rescoring.FILE] if chosen.rescore else []))
        files = build.fingerprints(self.out, names)
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
    rng = np.random.default_rng(seed)
    ways = own[rng.permutation(len(own))] - own[rng.permutation(len(own))]
    length, moved = (np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (own, ways))
    return own + ways * (length / np.maximum(moved, 1e-12))
