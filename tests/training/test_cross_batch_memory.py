"""Documents of earlier steps are in-batch documents, under the vectors that those steps gave them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_distill.config import StudentConfig, parse_recipe
from retrieval_distill.errors import UserError
from retrieval_distill.objectives import OBJECTIVES, Mix
from retrieval_distill.objectives.views import parse_views
from retrieval_distill.student import build, encoder
from retrieval_distill.training.cross_batch_memory import Memory, MemoryCollator
from retrieval_distill.training.distillation_model import DistillationModel
from retrieval_distill.training.groups import Draw, Group
from retrieval_distill.training.objective_mix import objective_mix
from tests.training.driver import teacher_run, train
from tests.training.test_distillation import with_training


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=4, unique=True), min_size=1, max_size=12),
    st.integers(1, 8),
    st.integers(1, 3),
    st.integers(1, 2),
)
@settings(max_examples=80)
def test_what_is_remembered_is_there_to_be_found(lists, size, batch, accumulation):
    """The last documents of earlier steps; every one was embedded, and is held from then until it is wanted."""
    groups = [Group(f"q{i}", tuple(f"d{doc}" for doc in docs), (), ()) for i, docs in enumerate(lists)]
    draws = [Draw(i, tuple(range(len(docs)))) for i, docs in enumerate(lists)]
    step = batch * accumulation
    recalling = MemoryCollator(SimpleNamespace(groups=groups), draws, size, step)
    memory, like = Memory(), torch.zeros(1, 1)
    for place in range(0, len(draws), batch):
        start = place // step * step
        earlier = [doc for group in groups[:start] for doc in group.doc_ids]
        latest = sorted(set(earlier), key=lambda doc: -max(i for i, other in enumerate(earlier) if other == doc))
        wanted = recalling.remembered_at(place)
        last_draw = set().union(*(groups[i].doc_ids for i in range(start - 1, start)[:1])) if start else set()
        assert len(wanted) == min(size, len(latest)) == len(set(wanted))
        assert set(wanted) <= set(earlier) and (not last_draw or set(wanted) & last_draw)
        own = list(dict.fromkeys(doc for group in groups[place : place + batch] for doc in group.doc_ids))
        others = [doc for doc in wanted if doc not in own]
        found = memory.recall(others, like).ravel().tolist()
        latest_step = {doc: i // step for i, group in enumerate(groups[:start]) for doc in group.doc_ids}
        assert found == [latest_step[doc] for doc in others]
        memory.store(own, torch.full((len(own), 1), float(place // step)), others)
        if (place + batch) % step == 0:
            memory.on_step_end(None, None, None)


def rows(rng, count: int) -> list[np.ndarray]:
    return [rng.integers(5, 60, 8).astype(np.int32) for _ in range(count)]


@pytest.mark.parametrize("views", [{"full": 1.0}, {"full": 1.0, 8: 0.5}])
def test_a_step_by_hand(encoders, views):
    """The second step's loss and gradients: stale vectors as further columns, which learn nothing."""
    rng = np.random.default_rng(0)
    student = build.build(StudentConfig(model=encoders["bert"], max_length=40))
    build.set_dropout(student, 0.0)
    memory = Memory()
    mix = Mix({"in_batch": 1.0, "soft_contrastive": 0.5})
    model = DistillationModel(student, mix, 20.0, views=parse_views(views), memory=memory)

    def batch(ids: list[str], remembered: list[str], relevant: list[list[float]]) -> dict:
        positions = torch.tensor([[0, 1], [2, 3]])
        labels = torch.tensor(relevant)
        return {
            "queries": rows(rng, 2), "documents": rows(rng, 4), "document_ids": ids, "remembered": remembered,
            "positions": positions, "teacher": torch.tensor([[3.0, 1.0], [2.0, 2.5]]),
            "labels": labels.gather(1, positions), "mask": torch.ones(2, 2, dtype=torch.bool), "in_batch_labels": labels,
        }  # fmt: skip

    first = batch(["a", "b", "c", "d"], [], [[1.0, 0, 0, 0], [0, 0, 1.0, 0]])
    model(**first)
    stale = encoder.encode_rows(student, first["documents"]).detach()
    memory.on_step_end(None, None, None)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    # b is embedded again; of what is remembered, d is relevant to the second query
    second = batch(["e", "b", "f", "g"], ["d", "a"], [[1.0, 0, 0, 0, 0, 0], [0, 0, 1.0, 0, 1.0, 0]])
    outputs = model(**second)
    outputs["loss"].backward()
    gradients = [p.grad.clone() for p in student.parameters() if p.grad is not None]
    student.zero_grad()
    vectors = encoder.encode_rows(student, [*second["queries"], *second["documents"]])
    every = torch.cat([vectors[2:], stale[[3, 0]]])
    expected = 0.0
    for name, weight in views.items():
        queries, documents = (v if name == "full" else v[:, :8] for v in (vectors[:2], every))
        scores = 20 * torch.cosine_similarity(queries[:, None], documents[None], dim=-1)
        infos = []
        for row, positive, others in ((0, 0, [1, 2, 3, 4, 5]), (1, 2, [0, 1, 3, 5]), (1, 4, [0, 1, 3, 5])):
            infos.append(scores[row, [positive, *others]].logsumexp(0) - scores[row, positive])
        soft = second["teacher"].softmax(1)
        losses = []
        for row, own, negatives in ((0, [0, 1], [1, 2, 3, 4, 5]), (1, [2, 3], [0, 1, 3, 5])):
            normaliser = scores[row, [own[0], *negatives]].logsumexp(0)
            target = 0.5 * torch.tensor([1.0, 0.0]) + 0.5 * soft[row]
            losses.append(-(target * (scores[row, own] - normaliser)).sum())
        expected = expected + weight * (torch.stack(infos).mean() + 0.5 * torch.stack(losses).mean())
    assert outputs["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    expected.backward()
    for found, parameter in zip(gradients, [p for p in student.parameters() if p.grad is not None], strict=True):
        torch.testing.assert_close(found, parameter.grad, atol=1e-5, rtol=1e-3)


def test_an_embedding_teachers_word_on_remembered_documents(tiny_recipe, tmp_path):
    """Of all documents for the divergence over them; of a step's own for the distance of vectors."""
    values = with_training(tiny_recipe, steps=4, memory=30, learning_rate=1e-9, dropout=0.0, save_steps=1)
    values |= {
        "objectives": {"in_batch_kl": 1.0, "embedding": 1.0},
        "embedding_teacher": {"model": "start", "max_length": 48, "dtype": "float32"},
        "student": {**values["student"], "scale": 20.0},
    }
    log = train(values, tmp_path / "student")
    assert [row["in_batch_kl"] for row in log] == [pytest.approx(0, abs=1e-5)] * 4
    assert [row["embedding"] for row in log] == [pytest.approx(0, abs=1e-5)] * 4


def test_a_training_remembers(tiny_recipe, dataset, tmp_path, monkeypatch):
    """With weights that stand still, a step's loss is that over all documents so far."""
    seen = []
    real = DistillationModel.forward

    def forward(self, queries, documents, **batch):
        seen.append(batch)
        return real(self, queries, documents, **batch)

    monkeypatch.setattr(DistillationModel, "forward", forward)
    values = with_training(
        tiny_recipe, steps=3, memory=1000, learning_rate=1e-12, dropout=0.0, save_steps=1, agreement_queries=0
    )
    log = train({**values, "objectives": {"in_batch": 1.0}}, tmp_path / "student", teacher_run(dataset))
    student = build.build(StudentConfig(model=tiny_recipe["student"]["model"], max_length=48))
    so_far: dict[str, None] = {}
    for row, batch in zip(log, seen, strict=True):
        so_far |= dict.fromkeys(batch["document_ids"])
        assert set(batch["document_ids"] + batch["remembered"]) == set(so_far)
        queries = encoder.encode(student, dataset.queries.take(batch["query_ids"]), "query")
        documents = encoder.encode(student, dataset.documents.take(list(so_far)), "document")
        scores = torch.tensor(20 * queries @ documents.T)
        losses = [
            scores[i].logsumexp(0) - scores[i, list(so_far).index(doc)]
            for i, query in enumerate(batch["query_ids"])
            for doc in dataset.qrels("train")[query]  # one each
        ]
        assert row["loss"] == pytest.approx(torch.stack(losses).mean().item(), rel=1e-4)


def test_refused_where_nothing_compares_documents(tiny_recipe):
    values = {**with_training(tiny_recipe, memory=100), "objectives": {"margin_mse": 1.0, "listwise_kl": 1.0}}
    with pytest.raises(
        UserError, match=r"training\.memory is of no use to margin_mse, listwise_kl; .* one of in_batch"
    ):
        objective_mix(parse_recipe(values))
    able = {name for name, kind in OBJECTIVES.items() if kind.compares_documents}
    assert able == {"in_batch", "soft_contrastive", "in_batch_kl", "self_distillation"}
