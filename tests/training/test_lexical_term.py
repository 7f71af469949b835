"""Hybrid-aware distillation: BM25's part of every similarity, on the student's scale, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrieval_distill import api
from retrieval_distill.config import StudentConfig, parse_recipe
from retrieval_distill.data.training_set import TrainingSet
from retrieval_distill.errors import UserError
from retrieval_distill.objectives import Mix
from retrieval_distill.objectives.views import parse_views
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.student import build, encoder
from retrieval_distill.training import dev_retrieval, distillation
from retrieval_distill.training.distillation_model import DistillationModel
from retrieval_distill.training.groups import build_groups
from retrieval_distill.training.lexical_term import LexicalTerm
from tests.training.driver import dev_set, distill, teacher_run, train
from tests.training.test_distillation import with_training
from tests.training.test_gradient_caching import batch_of


def test_the_weight_is_in_standard_deviations_of_the_candidates(dataset):
    groups, index = build_groups(teacher_run(dataset), dataset.qrels("train")), BM25(dataset.documents)
    lexical = LexicalTerm.from_weight(index.score_matrix, 3.0, groups, dataset.queries)
    found = index.search(dataset.queries, len(dataset.documents)).as_dict()
    scores = [found[group.query_id].get(doc, 0.0) for group in groups for doc in group.doc_ids]
    pairs = lexical.for_queries(dataset.queries)(["q3", "q1"], ["d1", "d3", "d40"])
    expected = [
        [3 / np.std(scores) * found[query].get(doc, 0.0) for doc in ("d1", "d3", "d40")] for query in ("q3", "q1")
    ]
    np.testing.assert_allclose(pairs, expected, rtol=1e-5)
    assert pairs.dtype == np.float32 and pairs[0, 1] > 0


def in_step(folder: str, mix: dict, batch: dict, views: dict | None = None) -> dict:
    student = build.build(StudentConfig(model=folder, max_length=40))
    build.set_dropout(student, 0.0)
    return DistillationModel(student, Mix(mix), 20.0, views=parse_views(views or {"full": 1.0}))(**batch)


def test_the_objectives_see_the_sum(encoders):
    """Every pair of the step, by hand; the whole vectors' ranking that a view copies is the fused one too."""
    batch = batch_of([5, 4, 9, 12, 7, 6, 11], 2, 3)
    lexical = torch.rand(2, 5, generator=torch.Generator().manual_seed(1)) * 6
    student = build.build(StudentConfig(model=encoders["bert"], max_length=40))
    vectors = encoder.encode_rows(student, [*batch["queries"], *batch["documents"]]).detach()
    fused = 20 * vectors[:2] @ vectors[2:].T + lexical
    relevant = batch["in_batch_labels"] > 0
    expected = -(fused.log_softmax(1)[relevant]).mean()
    mix = {"in_batch": 1.0, "score_mse": 1.0, "self_distillation": 1.0}
    found = in_step(encoders["bert"], mix, {**batch, "lexical": lexical}, {"full": 1.0, 8: 1.0})["components"]
    assert found["in_batch"].item() == pytest.approx(expected.item(), rel=1e-5)
    errors = (fused.gather(1, batch["positions"]) - batch["teacher"]).square()[batch["mask"]]
    assert found["score_mse"].item() == pytest.approx(errors.mean().item(), rel=1e-5)
    short = torch.cosine_similarity(vectors[:2, None, :8], vectors[None, 2:, :8], dim=-1)
    target, own = fused.log_softmax(1), (20 * short + lexical).log_softmax(1)
    divergence = (target.exp() * (target - own)).sum(1).mean().item()
    assert found["self_distillation@8"].item() == pytest.approx(divergence, rel=1e-4)


def test_what_bm25_knows_already_is_not_learnt(encoders):
    """The teacher is the student plus BM25: nothing is left to learn, and without BM25's part there would be."""
    batch = batch_of([5, 4, 9, 12, 7, 6, 11], 2, 3)
    lexical = torch.rand(2, 5, generator=torch.Generator().manual_seed(1)) * 6
    student = build.build(StudentConfig(model=encoders["bert"], max_length=40))
    vectors = encoder.encode_rows(student, [*batch["queries"], *batch["documents"]]).detach()
    batch["teacher"] = (20 * vectors[:2] @ vectors[2:].T + lexical).gather(1, batch["positions"])
    mix = {"margin_mse": 1.0, "listwise_kl": 1.0}
    assert in_step(encoders["bert"], mix, {**batch, "lexical": lexical})["loss"].item() == pytest.approx(0, abs=1e-6)
    assert in_step(encoders["bert"], mix, batch)["loss"].item() > 0.1


def test_a_training_uses_it_and_tells_by_it(tiny_recipe, dataset, tmp_path, monkeypatch):
    """The first step's loss, the agreement and the dev measure are those of the sum."""
    seen = []
    real = DistillationModel.forward

    def forward(self, queries, documents, **batch):
        seen.append(batch["lexical"])
        return real(self, queries, documents, **batch)

    monkeypatch.setattr(DistillationModel, "forward", forward)
    values = with_training(tiny_recipe, steps=1, queries_per_step=24, lexical_weight=1e4, evaluate_steps=1)
    counts = distill({**values, "objectives": {"in_batch": 1.0}}, tmp_path / "student", teacher_run(dataset))
    [pairs] = seen
    assert pairs.shape[0] == 24 and pairs.shape[1] > 40 and (pairs > 0).any()
    # so heavy a BM25 is all that ranks: the agreement and the measure on dev are its own
    index = BM25(dataset.documents)
    assert counts["agreement"]["start"]["agreement_spearman"] == pytest.approx(
        counts["agreement"]["end"]["agreement_spearman"], abs=0.05
    )
    log = train({**values, "objectives": {"in_batch": 1.0}}, tmp_path / "student")
    asked = dev_set(dataset)
    student = build.build(StudentConfig(model=tiny_recipe["student"]["model"]))
    lexical = LexicalTerm(index.score_matrix, 1e4)
    expected = dev_retrieval.measure(student, asked, "nDCG@10", 20, lexical, 1.0)["eval_nDCG@10"]
    alone = dev_retrieval.measure(student, asked, "nDCG@10", 20)["eval_nDCG@10"]
    assert log[-1]["eval_nDCG@10"] == pytest.approx(expected) and abs(expected - alone) > 0.1


def test_what_is_refused(tiny_recipe, dataset, tmp_path):
    values = with_training(tiny_recipe, lexical_weight=1.0)
    learnt = TrainingSet(teacher_run(dataset), dataset.qrels("train"), dataset.queries, dataset.documents)
    with pytest.raises(UserError, match=r"training\.lexical_weight needs BM25 over the documents"):
        distillation.distill(learnt, parse_recipe(values), tmp_path / "student")
    with pytest.raises(UserError, match=r"training\.lexical_weight: BM25 gives all candidates .* retrieve\.language"):
        LexicalTerm.from_weight(
            lambda queries, ids: np.ones((len(queries), len(ids)), np.float32), 1.0,
            build_groups(learnt.scored, learnt.qrels), dataset.queries,
        )  # fmt: skip
    with pytest.raises(UserError, match=r"training\.lexical_weight: .*greater than 0"):
        parse_recipe(with_training(tiny_recipe, lexical_weight=0))


def test_the_stage_knows_the_bm25_that_it_was_trained_beside(tiny_recipe, dataset, tmp_path):
    run = teacher_run(dataset)

    def skipped(weight: float | None, k1: float) -> bool:
        recipe = parse_recipe(
            {**with_training(tiny_recipe, steps=1, agreement_queries=0, lexical_weight=weight), "retrieve": {"k1": k1}}
        )
        return api.distill(run, dataset, recipe=recipe, out=tmp_path / "student").manifest["skipped"]

    assert [skipped(None, 1.5), skipped(None, 0.9)] == [False, True]
    assert [skipped(1.0, 1.5), skipped(1.0, 1.5), skipped(1.0, 0.9)] == [False, True, False]


def test_bm25_that_is_there_already_is_asked_for_only_where_it_is_needed(tiny_recipe, dataset, tmp_path):
    built = []

    def bm25() -> BM25:
        built.append(BM25(dataset.documents))
        return built[-1]

    for weight, expected in ((None, 0), (1.0, 1), (1.0, 1)):  # the last time it is finished
        recipe = parse_recipe(with_training(tiny_recipe, steps=1, agreement_queries=0, lexical_weight=weight))
        api.distill(teacher_run(dataset), dataset, recipe=recipe, out=tmp_path / "student", bm25=bm25)
        assert len(built) == expected
