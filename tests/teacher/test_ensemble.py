"""An ensemble asks each member through the store, calibrates, and is known by all that changes its scores."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from retrieval_distill import api
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.scores.store import ScoreStore
from retrieval_distill.teacher import ensemble as ensembles
from retrieval_distill.teacher import scoring
from retrieval_distill.teacher.calibration.calibration import Calibration, Member
from retrieval_distill.teacher.ensemble import Ensemble
from retrieval_distill.training.groups import build_groups


class ByHand:
    """A teacher whose score is a function of the two texts' sets of words."""

    def __init__(self, name, score_of, kind="cross-encoder"):
        self.fingerprint = name
        self.description = {"kind": kind, "model": name}
        self.score_of = score_of
        self.asked = 0

    def score(self, pairs):
        for i in pairs.positions:
            self.asked += 1
            query, document = (set(text.split()) for text in pairs.texts(i))
            yield np.array([i]), np.array([self.score_of(query, document)], np.float32)


def shared(query, document):
    return 2.0 * len(query & document)


def share(query, document):
    """From 0 to 1 with many different values, as a sigmoid's or a cosine's."""
    return (len(query & document) + 0.5) / (len(query) + 0.37 * len(document))


@pytest.fixture(scope="module")
def candidates(dataset):
    return api.retrieve(dataset.queries, dataset.documents, depth=6)


@pytest.fixture
def store(tmp_path):
    return ScoreStore(tmp_path / "store")


def raw_score(dataset, query, document, score_of) -> float:
    return float(np.float32(score_of(set(dataset.queries[query].split()), set(dataset.documents[document].split()))))


def test_one_plain_member_gives_its_raw_run(dataset, candidates, store):
    teacher = ByHand("one", shared)
    single = Ensemble((teacher,), Calibration((Member(),)))
    run, counts = ensembles.score(candidates, dataset.queries, dataset.documents, single, store)
    raw, plain = scoring.score(candidates, dataset.queries, dataset.documents, teacher, store)
    assert run.frame.equals(raw.frame)
    assert plain == {"pairs": len(candidates), "scored": 0, "stored": len(candidates)}
    assert counts["members"] == [{"pairs": len(candidates), "scored": len(candidates), "stored": 0}]


def test_every_member_is_weighed(dataset, candidates, store):
    both = Ensemble(
        (ByHand("one", shared), ByHand("two", share)), Calibration((Member("temperature", 4.0), Member(weight=3.0)))
    )
    run, _ = ensembles.score(candidates, dataset.queries, dataset.documents, both, store)
    assert set(run.pairs) == set(candidates.pairs)
    for query, document, value in run.frame.itertuples(index=False):
        expected = raw_score(dataset, query, document, shared) / 4 + 3 * raw_score(dataset, query, document, share)
        assert value == pytest.approx(expected)


def test_the_store_keeps_raw_scores_and_nothing_is_asked_twice(dataset, candidates, store):
    first, second = ByHand("one", shared), ByHand("two", share)
    pairs, few = len(candidates), len(candidates.top(2))
    scoring.score(candidates.top(2), dataset.queries, dataset.documents, first, store)
    both = Ensemble((first, second), Calibration((Member("z-score"), Member("rank", weight=0.5))))
    _, counts = ensembles.score(candidates, dataset.queries, dataset.documents, both, store)
    assert counts == {
        "pairs": 2 * pairs,
        "scored": 2 * pairs - few,
        "stored": few,
        "members": [
            {"pairs": pairs, "scored": pairs - few, "stored": few},
            {"pairs": pairs, "scored": pairs, "stored": 0},
        ],
    }
    recalibrated = replace(both, calibration=Calibration((Member("min-max"), Member())))
    _, counts = ensembles.score(candidates, dataset.queries, dataset.documents, recalibrated, store)
    assert counts["scored"] == 0 and first.asked == second.asked == pairs
    raw, _ = scoring.score(candidates, dataset.queries, dataset.documents, second, store)
    for query, document, value in raw.frame.itertuples(index=False):
        assert value == raw_score(dataset, query, document, share)


def test_fitted_on_dev_and_seen_by_groups(dataset, candidates, store):
    teachers = [ByHand("one", shared), ByHand("two", lambda query, document: -len(document))]
    dev = dataset.qrels("dev")
    raw, counts = ensembles.raw_scores(
        candidates.select(list(dev)), dataset.queries, dataset.documents, teachers, store
    )
    assert counts["scored"] == 2 * len(candidates.select(list(dev)))
    fitted = Ensemble.fit(teachers, raw, dev, ["z-score", "z-score"], None, "undo")
    weights = [member.weight for member in fitted.calibration.members]
    assert weights[0] > weights[1] >= 0  # a query is a part of its document; length says little
    run, _ = ensembles.score(candidates, dataset.queries, dataset.documents, fitted, store)
    seen = {
        (g.query_id, doc): s
        for g in build_groups(run, dataset.qrels("train"))
        for doc, s in zip(g.doc_ids, g.scores, strict=True)
    }
    calibrated = run.as_dict()
    assert seen and all(score == calibrated[query][doc] for (query, doc), score in seen.items())


def test_similarities_are_no_probabilities(dataset, candidates, store):
    cross, bi = ByHand("cross", share), ByHand("bi", share, "bi-encoder")
    raw, _ = ensembles.raw_scores(candidates, dataset.queries, dataset.documents, [cross, bi], store)
    assert raw[0].frame["score"].between(0, 1).all() and raw[0].frame["score"].nunique() >= 20
    few = [Run(run.frame.drop_duplicates("score", keep=False).reset_index(drop=True)) for run in raw]
    fitted = Ensemble.fit([cross, bi], few, None, ["none", "none"], [1.0, 1.0], "undo")
    assert [member.unsquash for member in fitted.calibration.members] == [True, False]
    assert not Ensemble.fit([bi], [raw[1]], None, ["none"], None, "refuse").calibration.members[0].unsquash
    with pytest.raises(UserError, match=r"teacher 2 of 2: .* squashed by a sigmoid"):
        Ensemble.fit([bi, cross], raw, None, ["none", "none"], [1.0, 1.0], "refuse")


def test_the_fingerprint_covers_members_and_calibration():
    one, two = ByHand("one", shared), ByHand("two", share)
    base = Ensemble((one, two), Calibration((Member(), Member())))
    others = [
        Ensemble((two, one), base.calibration),
        Ensemble((one, one), base.calibration),
        Ensemble((one,), Calibration((Member(),))),
        replace(base, calibration=Calibration((Member(weight=2.0), Member()))),
        replace(base, calibration=Calibration((Member(), Member(weight=2.0)))),
        replace(base, calibration=Calibration((Member("temperature"), Member()))),
        replace(base, calibration=Calibration((Member(temperature=2.0), Member()))),
        replace(base, calibration=Calibration((Member(unsquash=True), Member()))),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 1 + len(others)
    assert base.fingerprint == Ensemble((ByHand("one", shared), two), Calibration((Member(), Member()))).fingerprint


def test_the_description_names_every_member():
    both = Ensemble(
        (ByHand("one", shared), ByHand("two", share, "bi-encoder")), Calibration((Member("rank"), Member(weight=0.5)))
    )
    described = json.loads(json.dumps(both.description))
    assert (described["kind"], described["model"]) == ("ensemble", "one + two")
    assert [member["kind"] for member in described["members"]] == ["cross-encoder", "bi-encoder"]
    assert described["members"][0]["calibration"]["normalise"] == "rank"
    assert described["members"][1]["calibration"]["weight"] == 0.5


def test_every_teacher_needs_its_calibration():
    with pytest.raises(ValueError, match="2 teachers, but 1"):
        Ensemble((ByHand("one", shared), ByHand("two", share)), Calibration((Member(),)))
