"""The verb: what comes out, in every family; kills; depths; mistakes."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from retrieval_distill import api
from retrieval_distill.compress import layer_dropping, text_batches
from retrieval_distill.compress.compression_model import CompressionModel
from retrieval_distill.config import CompressConfig, parse_recipe
from retrieval_distill.data.dataset import Texts
from retrieval_distill.errors import UserError
from retrieval_distill.student import encoder, layers
from tests import programs
from tests.compress.conftest import FAMILIES

SMALL = {"tokens_per_step": 256, "max_length": 32, "bf16": False, "learning_rate": 3e-3, "save_steps": 2}
INSIDE = {"relations": 1.0, "attention_maps": 1.0}
OUTSIDE = {"hidden_states": 1.0, "embedding": 1.0}


def distance(folder: str | Path, teacher: str, plain: Texts) -> float:
    """Mean cosine distance of the vectors of some texts."""
    found, wanted = (
        SentenceTransformer(str(name), device="cpu").encode(plain.take()[:20], convert_to_tensor=True)
        for name in (folder, teacher)
    )
    return float(1 - torch.cosine_similarity(found, wanted).mean())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("transfers", [INSIDE, OUTSIDE], ids=["inside", "outside"])
def test_a_student_of_every_family_learns(family, transfers, every_encoder, dataset, tmp_path):
    """From random weights it comes nearer to its teacher in what is asked of it, and is a plain model."""
    options = {**SMALL, "model": every_encoder[family], "layers": "spaced:2", "weights": "random"}
    counts = api.compress(dataset.documents, out=tmp_path / "small", steps=14, transfers=transfers, **options).manifest[
        "counts"
    ]
    log = json.loads((tmp_path / "small" / "training_log.json").read_text())
    assert (counts["layers"], counts["steps"], counts["texts"]) == (2, 14, 60)
    for name in transfers:
        assert log[-1][name] < log[0][name]
    student = SentenceTransformer(str(tmp_path / "small"), device="cpu")
    assert len(layers.stack(student)[1]) == 2
    texts = dataset.documents.take()[:5]
    found = encoder.encode(encoder.load(str(tmp_path / "small")), texts, "document")
    np.testing.assert_allclose(student.encode(texts), found, atol=1e-5)


@pytest.mark.parametrize("more", [{"masked": 0.1}, {"teacher_cache": "cache"}], ids=["masked", "kept"])
def test_killed_at_any_step_it_ends_the_same(more, every_encoder, dataset, dataset_folder, tmp_path, monkeypatch):
    """Also where it reads what the killed one had asked its teacher, which the other asked itself."""
    options = {
        **SMALL, **more, "model": every_encoder["bert"], "layers": "first:3", "width": 16, "steps": 7, "dropout": 0.1, "transfers": {"relations": 1.0, "hidden_states": {"mapping": "earth_mover"}, "embedding": 1.0},
        "depths": [2], "self_distillation": 0.5,
    }  # fmt: skip
    for name in ("undisturbed", "disturbed"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "undisturbed")
    api.compress(dataset.documents, out=tmp_path / "whole", **options)
    monkeypatch.chdir(tmp_path / "disturbed")
    (tmp_path / "job.json").write_text(json.dumps({"dataset": dataset_folder, "options": options}))
    killed = programs.run("-m", "tests.compress.driver", tmp_path / "job.json", tmp_path / "killed", 5)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / "killed.partial" / "checkpoints" / "checkpoint-4").is_dir()
    api.compress(dataset.documents, out=tmp_path / "killed", **options)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    assert not (tmp_path / "killed" / "checkpoints").exists()
    assert api.compress(dataset.documents, out=tmp_path / "killed", **options).manifest["skipped"]


def test_a_backbone_of_a_cross_encoder_teaches(cross_encoders, dataset, tmp_path):
    """Its hidden states are what is imitated: without training, a whole copy is already there."""
    from retrieval_distill.compress import backbones
    from retrieval_distill.teacher.cross_encoder import open_model

    name = cross_encoders["roberta"]
    backbone = open_model(Path(name), "cpu").model.base_model.state_dict()
    found = backbones.load(name)[0].auto_model.state_dict()
    assert found.keys() >= backbone.keys()
    assert all(torch.equal(found[key], backbone[key]) for key in backbone)
    options = {**SMALL, "teacher": name, "steps": 1, "transfers": {"hidden_states": 1.0}}
    api.compress(dataset.documents, out=tmp_path / "copy", **options)
    log = json.loads((tmp_path / "copy" / "training_log.json").read_text())
    assert log[0]["hidden_states"] == pytest.approx(0, abs=1e-9)


def test_a_trimmed_vocabulary_still_goes_token_by_token(every_encoder, dataset, tmp_path):
    model, few = every_encoder["bert"], dataset.documents.select(dataset.documents.ids[:5])
    counts = api.compress(
        few,
        out=tmp_path / "small",
        model=model,
        vocabulary="corpus",
        steps=1,
        transfers={"hidden_states": 1.0},
        **SMALL,
    ).manifest["counts"]
    whole = sum(weight.numel() for weight in encoder.load(model).parameters())
    assert counts["parameters"] < whole
    log = json.loads((tmp_path / "small" / "training_log.json").read_text())
    assert log[0]["hidden_states"] == pytest.approx(0, abs=1e-9)  # other numbers, the same tokens


def test_layers_chosen_by_their_vectors(every_encoder, dataset, tmp_path):
    """Of a model whose last two layers do nothing, the first two are the nearest to the whole."""
    model = encoder.load(every_encoder["mpnet"])
    with torch.no_grad():
        for layer in layers.stack(model)[1]:
            for norm in (layer.attention.LayerNorm, layer.output.LayerNorm):
                norm.weight.fill_(1.0)
        for layer in layers.stack(model)[1][2:]:
            for linear in (layer.attention.attn.o, layer.output.dense):
                linear.weight.zero_()
                linear.bias.zero_()
        for layer in layers.stack(model)[1][:2]:
            layer.output.dense.weight.mul_(30)
    model.save_pretrained(str(tmp_path / "model"))
    options = {**SMALL, "learning_rate": 1e-9, "steps": 1, "transfers": {"embedding": 1.0}}
    api.compress(dataset.documents, out=tmp_path / "small", model=str(tmp_path / "model"), layers="auto:2", **options)
    assert distance(tmp_path / "small", str(tmp_path / "model"), dataset.documents) == pytest.approx(0, abs=1e-5)


def test_depths_are_trained(every_encoder, dataset, tmp_path):
    """The student cut to two layers, as ``student.layers`` would cut it, ends nearer than one trained whole only."""
    apart = {}
    for depths in ((), (2,)):
        folder = tmp_path / f"depths-{len(depths)}"
        options = {**SMALL, "transfers": {"embedding": 1.0}, "steps": 20, "weights": "random"}
        api.compress(dataset.documents, out=folder, model=every_encoder["bert"], depths=depths, **options)
        cut = SentenceTransformer(str(folder), device="cpu")
        layers.keep_only(cut, layers.select(cut, "spaced:2"))
        cut.save_pretrained(str(folder / "cut"))
        apart[depths] = distance(folder / "cut", every_encoder["bert"], dataset.documents)
    assert apart[2,] < apart[()]


def test_depths_are_drawn_alike():
    drawn = [layer_dropping.draw_layers((2, 3), 5, number, 7) for number in range(600)]
    counts = {kept: drawn.count(kept) for kept in set(drawn)}
    assert set(counts) == {(0, 4), (0, 2, 4), (0, 1, 2, 3, 4)}
    assert min(counts.values()) > 150


@pytest.mark.parametrize("steps", [None, 3])
def test_batches(steps):
    lengths = np.random.default_rng(0).integers(2, 40, 100)
    rows = np.arange(0, 100, 2)
    found = text_batches.batches(lengths, rows, 120, 2, steps, 3000, 7)
    assert len(found) % 2 == 0
    assert [batch.number for batch in found] == list(range(len(found)))
    assert all(len(batch.rows) * lengths[batch.rows].max() <= 120 for batch in found)
    if steps:
        assert len(found) == 6
    else:
        taken = [lengths[batch.rows].sum() for batch in found]
        assert sum(taken) >= 3000 > sum(taken[:-2])
        first = np.concatenate([batch.rows for batch in found])[:50]
        assert sorted(first) == rows.tolist()  # a whole pass before the next
    again = text_batches.batches(lengths, rows, 120, 2, steps, 3000, 7)
    assert all(np.array_equal(one.rows, other.rows) for one, other in zip(found, again, strict=True))


def test_masks_stand_at_the_same_places_for_both():
    from retrieval_distill.data.tokens import Tokens

    rows = [list(range(10, 40)), list(range(50, 60))]
    student, teacher = Tokens.from_rows(rows), Tokens.from_rows([[id_ + 100 for id_ in row] for row in rows])
    collator = text_batches.Collator(["a", "b"], student, teacher, (1, 2), 0.5, 7)
    batch = collator([text_batches.Batch(3, np.array([0, 1]))])
    assert batch["text_ids"] == ["a", "b"]
    for own, other, row in zip(batch["student"], batch["teacher"], rows, strict=True):
        hidden = own == 1
        assert 0 < hidden.sum() < len(row) and not hidden[[0, -1]].any()
        assert np.array_equal(hidden, other == 2)
        assert np.array_equal(own[~hidden], np.array(row)[~hidden])
    assert all(
        np.array_equal(a, b)
        for a, b in zip(batch["student"], collator([text_batches.Batch(3, np.array([0, 1]))])["student"], strict=True)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"teacher": "roberta", "transfers": {"relations": 1.0}},
            "tokenise texts differently: .*only the transfer embedding",
        ),
        ({"layers": "first:9"}, "this model has 4 layers"),
        ({"width": 18}, "multiple of the 4 attention heads"),
        ({"depths": [4]}, "the student has only 4 layers; give smaller numbers"),
        ({"transfers": {"relations": {"heads": 5}}}, "set heads to one of: 1, 2, 4, 8, 16, 32"),
        ({"transfers": {"logits": 1.0}}, "without a masked-language-model head"),
        ({"stepz": 3}, "'stepz' does not exist; did you mean 'steps'"),
    ],
)
def test_mistakes(options, message, every_encoder, dataset, tmp_path):
    options = {**SMALL, "steps": 1, **options, "model": every_encoder["bert"]}
    if "teacher" in options:
        options["teacher"] = every_encoder[options["teacher"]]
    with pytest.raises(UserError, match=message):
        api.compress(dataset.documents, out=tmp_path / "small", **options)


def test_another_tokenizer_teaches_sentence_vectors(every_encoder, dataset, tmp_path):
    options = {
        **SMALL,
        "model": every_encoder["bert"],
        "teacher": every_encoder["roberta"],
        "transfers": {"embedding": 1},
    }
    api.compress(dataset.documents, out=tmp_path / "small", steps=20, **options)
    near, far = tmp_path / "small", every_encoder["bert"]
    assert distance(near, options["teacher"], dataset.documents) < distance(far, options["teacher"], dataset.documents)


def test_texts_that_say_nothing(every_encoder, tmp_path, caplog):
    empty = Texts.from_records([("a", "", ""), ("b", "", "path")])
    with pytest.raises(UserError, match="none of the 2 texts has 2 tokens"):
        api.compress(empty, out=tmp_path / "none", model=every_encoder["bert"], steps=1, **SMALL)
    some = Texts.from_records([("a", "", ""), ("b", "", "path file root"), ("c", "", "join read")])
    counts = api.compress(some, out=tmp_path / "some", model=every_encoder["bert"], steps=1, **SMALL).manifest["counts"]
    assert counts["texts"] == 2
    assert "left out 1 text with fewer than 2 tokens" in caplog.text


def test_a_loss_that_is_not_a_number_names_its_texts(every_encoder, dataset, tmp_path, monkeypatch):
    forward = CompressionModel.forward
    monkeypatch.setattr(
        CompressionModel, "forward", lambda *a, **k: (out := forward(*a, **k)) | {"loss": out["loss"] * torch.nan}
    )
    with pytest.raises(
        UserError, match=r"step 1: the loss is nan .*compress\.learning_rate[^\n]*\ntexts of this step: d"
    ):
        api.compress(dataset.documents, out=tmp_path / "small", model=every_encoder["bert"], steps=1, **SMALL)


def test_too_little_memory(every_encoder, dataset, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(CompressionModel, "forward", fail)
    with pytest.raises(UserError, match=r"lower compress\.tokens_per_step"):
        api.compress(dataset.documents, out=tmp_path / "small", model=every_encoder["bert"], steps=1, **SMALL)


def test_one_step_in_a_recipe_is_a_chain_of_one():
    one = parse_recipe({"name": "x", "compress": {"layers": "first:3"}})
    assert one.compress == (CompressConfig(layers="first:3"),)
    assert len(parse_recipe({"name": "x", "compress": [{"layers": "first:3"}, {"width": 16}]}).compress) == 2
    with pytest.raises(UserError, match=r"'compress\.0\.layerz' does not exist; did you mean 'layers'"):
        parse_recipe({"name": "x", "compress": {"layerz": 3}})
