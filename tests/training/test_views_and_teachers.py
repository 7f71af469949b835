"""Views and embedding teachers in a training: the loss is the one computed by hand, and the student stays plain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from retrieval_distill import api, pipeline
from retrieval_distill.config import StudentConfig, parse_recipe
from retrieval_distill.errors import UserError
from retrieval_distill.index.faiss_index import Index
from retrieval_distill.objectives import Mix
from retrieval_distill.objectives.views import parse_views
from retrieval_distill.pipeline.data import open_job
from retrieval_distill.runtime import stages
from retrieval_distill.student import build, encoder
from retrieval_distill.training.distillation_model import DistillationModel
from retrieval_distill.training.objective_mix import objective_mix
from tests.conftest import tiny_config
from tests.training.driver import teacher_run, train
from tests.training.test_gradient_caching import batch_of


@pytest.fixture(scope="module")
def wide_encoder(tokenizers_by_kind, tmp_path_factory) -> str:
    """A teacher whose vectors have 48 dimensions; the others' have 32."""
    from transformers import AutoModel

    config = tiny_config("bert", tokenizers_by_kind["bert"])
    config.hidden_size, config.intermediate_size = 48, 96
    torch.manual_seed(4)
    plain, folder = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("wide")
    AutoModel.from_config(config).save_pretrained(plain)
    tokenizers_by_kind["bert"].save_pretrained(plain)
    transformer = Transformer(str(plain))
    SentenceTransformer(modules=[transformer, Pooling(48, "mean")], device="cpu").save_pretrained(str(folder))
    return str(folder)


def one_step(recipe: dict, **sections) -> dict:
    """A training of a single step in which nothing is random, over all queries."""
    training = {**recipe["training"], "steps": 1, "queries_per_step": 24, "warmup": 0, "dropout": 0.0}
    return {**recipe, "training": training, **sections}


def test_the_loss_is_the_weighted_sum_over_views(encoders):
    student = build.build(StudentConfig(model=encoders["bert"], max_length=40))
    build.set_dropout(student, 0.0)
    batch = batch_of([5, 4, 9, 12, 7, 6, 11], 2, 3)
    views = parse_views({"full": 1.0, 8: 0.5, "int8": 0.25})
    outputs = DistillationModel(student, Mix({"margin_mse": 1.0}), 20.0, views=views)(**batch)
    vectors = encoder.encode_rows(student, [*batch["queries"], *batch["documents"]]).detach()
    queries, documents = vectors[:2], vectors[2:]
    low, high = documents.aminmax(dim=0)
    held = low + (((documents - low) / (high - low) * 255).floor().clamp(0, 255) + 0.5) / 255 * (high - low)
    cosines = {
        "margin_mse": queries @ documents.T,
        "margin_mse@8": torch.cosine_similarity(queries[:, None, :8], documents[None, :, :8], dim=-1),
        "margin_mse@int8": queries @ held.T,
    }
    for name, seen in cosines.items():
        student_scores = 20 * seen.gather(1, batch["positions"])
        margins = [
            ((s[0] - s[c]) - (t[0] - t[c])) ** 2
            for s, t, kept in zip(student_scores, batch["teacher"], batch["mask"], strict=True)
            for c in (1, 2)
            if kept[c]
        ]
        assert outputs["components"][name].item() == pytest.approx(torch.stack(margins).mean().item(), rel=1e-4)
    parts = [outputs["components"][name].item() for name in cosines]
    assert outputs["loss"].item() == pytest.approx(parts[0] + 0.5 * parts[1] + 0.25 * parts[2], rel=1e-6)


@pytest.mark.parametrize("kind", ["roberta", "wide"])
def test_an_embedding_teacher(tiny_recipe, dataset, encoders, wide_encoder, tmp_path, kind):
    teacher = wide_encoder if kind == "wide" else encoders[kind]
    recipe = one_step(
        tiny_recipe,
        objectives={"embedding": 1.0, "in_batch_kl": 0.5},
        embedding_teacher={"model": teacher, "max_length": 48, "dtype": "float32"},
    )
    [row] = train(recipe, tmp_path / "one")
    assert row["loss"] == pytest.approx(row["embedding"] + 0.5 * row["in_batch_kl"], rel=1e-5)
    theirs, ours = (SentenceTransformer(name, device="cpu") for name in (teacher, tiny_recipe["student"]["model"]))
    theirs.max_seq_length = ours.max_seq_length = 48
    queries = dataset.queries("train").take()
    if kind == "roberta":  # of the student's dimension: no projection in between
        run = teacher_run(dataset)
        drawn = {doc for _, docs, _ in run for doc in docs}
        means = []
        for texts in (queries, dataset.documents.take(sorted(drawn))):
            cosines = torch.cosine_similarity(*(torch.tensor(model.encode(texts)) for model in (ours, theirs)))
            means.append(1 - cosines.mean().item())
        assert row["embedding"] == pytest.approx(np.mean(means), rel=0.05)  # a step draws most candidates, not all
    longer = {**recipe["training"], "steps": 20, "learning_rate": 3e-3}
    trained = train({**recipe, "training": longer}, tmp_path / "t")
    assert trained[-1]["embedding"] < 0.9 * row["embedding"]
    student = SentenceTransformer(str(tmp_path / "t"), device="cpu")
    assert student.encode("path").shape == (32,)
    assert not (tmp_path / "t" / "teacher-vectors").exists()


def test_the_student_before_training_teaches_nothing_at_first(tiny_recipe, tmp_path):
    recipe = one_step(
        tiny_recipe,
        objectives={"in_batch_kl": {"weight": 1.0, "teacher_temperature": 0.05}, "margin_mse": 0.05},
        embedding_teacher={"model": "start", "max_length": 48, "dtype": "float32"},
    )
    recipe["student"] = {**recipe["student"], "scale": 20.0}  # the inverse of the teacher's temperature
    [row] = train(recipe, tmp_path / "student")
    assert row["in_batch_kl"] == pytest.approx(0, abs=1e-5)
    assert row["margin_mse"] > 0.1


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"objectives": {"embedding": 1.0}}, "objectives.embedding needs embedding_teacher.model to be set"),
        ({"objectives": {"in_batch_kl": 1.0}}, "objectives.in_batch_kl needs embedding_teacher.model"),
        ({"objectives": {"self_distillation": 1.0}}, "needs a view besides full"),
        (
            {"objectives": {"embedding": 1.0}, "embedding_teacher": {"model": "start"}, "views": {"8": 1.0}},
            "needs the view full",
        ),
        ({"views": {"fulll": 1.0}}, "did you mean 'full'"),
    ],
)
def test_what_a_recipe_cannot_ask(tiny_recipe, sections, message):
    with pytest.raises(UserError, match=message):
        objective_mix(parse_recipe({**tiny_recipe, **sections}))


def test_a_run_over_short_vectors(tiny_recipe, tmp_path):
    """The index holds the view, and what it finds is what the library's own truncated vectors find."""
    values = {
        **tiny_recipe,
        "objectives": {"listwise_kl": 1.0, "self_distillation": 0.5},
        "views": {"full": 1.0, 8: 0.5},
        "index": {"dimensions": 8},
        "embed": {"dtype": "float32"},
    }
    report = pipeline.run(parse_recipe(values), out=tmp_path).details
    index = Index.open(tmp_path / "index-student")
    assert index.faiss.d == 8
    assert {"self_distillation@8", "listwise_kl@8", "listwise_kl"} <= set(
        stages.read_json(tmp_path / "student" / "training_log.json")[0]
    )
    student = SentenceTransformer(str(tmp_path / "student"), device="cpu", truncate_dim=8)
    job = open_job(parse_recipe(values), tmp_path)
    queries = job.dataset.queries("test")
    expected = student.similarity(
        student.encode_query(queries.take()), student.encode_document(job.dataset.documents.take())
    )
    found = api.search(queries, tmp_path / "index-student", model=str(tmp_path / "student"), depth=5, dtype="float32")
    for query, docs, scores in found:
        row = expected[queries.rows[query]]
        np.testing.assert_allclose(scores, row.sort(descending=True).values[:5], atol=1e-5)
        assert len(docs) == 5
    assert report["systems"]["student"]["dimensions"] == 8
