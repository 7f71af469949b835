"""What scoring says: its cost before it arises, what it keeps when it is stopped, and each thing once."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest

from retrieval_distill import api
from retrieval_distill.benchmarks.rerank_benchmark import cost
from retrieval_distill.scores.store import ScoreStore
from retrieval_distill.teacher import cross_encoder, scoring


class Slow:
    """Scores a pair at a time; ``after`` so many the user presses Ctrl-C."""

    fingerprint = "slow"
    description = {"model": "slow"}  # noqa: RUF012

    def __init__(self, clock: list[float], after: int | None = None) -> None:
        self.clock, self.after, self.said_before = clock, after, ""

    def score(self, pairs):
        for number, position in enumerate(pairs.positions):
            if number == self.after:
                raise KeyboardInterrupt
            self.clock[0] += 5.0 if number == 0 else 0.5  # the first loads the model
            yield np.array([position]), np.array([float(position)], np.float32)


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(scoring, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.fixture
def first_stage(dataset):
    return api.retrieve(dataset.queries, dataset.documents, depth=6)


def test_the_cost_is_said_before_it_arises(dataset, first_stage, tmp_path, clock, caplog):
    caplog.set_level("INFO", "retrieval_distill")
    api.score(first_stage.top(2), dataset, teacher=Slow(clock), store=tmp_path / "s")
    before, pairs = len(first_stage.top(2)), len(first_stage)
    caplog.clear()
    api.score(first_stage, dataset, teacher=Slow(clock), store=tmp_path / "s")
    first, second = caplog.messages[:2]
    assert first == f"the teacher scores {pairs - before} pairs of 40 queries; {before} were scored before"
    assert second == f"scoring takes about {(pairs - before) / 2 / 60:.0f} min 20 s: 2.0 pairs/s here"


def test_ctrl_c_keeps_what_was_scored_and_says_so(dataset, first_stage, tmp_path, caplog):
    with pytest.raises(KeyboardInterrupt):
        api.score(first_stage, dataset, teacher=Slow([0.0], after=50), store=tmp_path / "s")
    assert f"stopped; 50 of {len(first_stage)} pairs are kept in {tmp_path / 's'}" in caplog.text
    [stored] = ScoreStore(tmp_path / "s").teachers()
    assert stored["pairs"] == 50


def test_a_pace_is_that_of_all_lengths():
    batches = [np.array([number]) for number in range(20)]
    order = [int(batch[0]) for batch in cross_encoder.typical_first(batches)]
    assert order[:4] == [0, 10, 5, 15] and sorted(order) == list(range(20)) and order[8:] == sorted(order[8:])
    for few in range(4):
        assert len(cross_encoder.typical_first(batches[:few])) == few


def test_what_is_cut_is_said_once_however_often_a_teacher_is_asked(cross_encoders, dataset, first_stage, caplog):
    caplog.set_level("INFO", "retrieval_distill")
    teacher = cross_encoder.load(cross_encoders["bert"], max_length=12, dtype="float32")
    cost(teacher, scoring.pairs_of(first_stage, dataset.queries, dataset.documents))
    assert len(re.findall("pairs are longer than 12 tokens and are cut", caplog.text)) == 1


def test_a_slow_library_gives_its_scores_batch_by_batch(cross_encoders, dataset, first_stage):
    """So that little is lost of a call to the library, which may take minutes."""
    teacher = cross_encoder.load(cross_encoders["bert"], max_length=40, dtype="float32")
    pairs = scoring.pairs_of(first_stage, dataset.queries, dataset.documents)
    whole = dict(zip(pairs.positions.tolist(), [0.0] * len(pairs), strict=True))
    for rows, scores in teacher.score(pairs):
        whole.update(zip(rows.tolist(), scores.tolist(), strict=True))
    teacher.plain = False  # as of a model with modules of its own
    parts = list(teacher.score(pairs))
    assert max(len(rows) for rows, _ in parts) <= 32 < len(pairs)
    found = {row: score for rows, scores in parts for row, score in zip(rows.tolist(), scores.tolist(), strict=True)}
    assert found == pytest.approx(whole, abs=1e-5)
