"""Models are loaded whole or refused by name, and are written for others to read."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

from retrieval_distill import models, weights
from retrieval_distill.compress.logits import language_head
from retrieval_distill.config import StudentConfig
from retrieval_distill.config.fit_teacher import FitTeacherConfig
from retrieval_distill.errors import UserError
from retrieval_distill.student import build, encoder
from retrieval_distill.teacher import cross_encoder
from retrieval_distill.teacher.fitting import trainable_model as fit_model
from tests.conftest import tiny_config
from tests.model_folders import saved_adapter, saved_student, set_to

TEXTS = ["path file root", "sort the list"]


def altered(source: str, to: Path, change) -> Path:
    """A copy of a model with other weights."""
    shutil.copytree(source, to)
    file = to / "model.safetensors"
    save_file({name: w.contiguous() for name, w in change(load_file(file)).items()}, file, metadata={"format": "pt"})
    return to


def without(*parts: str):
    return lambda held: {name: w for name, w in held.items() if not any(part in name for part in parts)}


def renamed(held):
    return {f"their.{name}": weight for name, weight in held.items()}


LOADERS = {"student": lambda name: encoder.load(name), "teacher": lambda name: cross_encoder.load(name)}


@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert", "distilbert"])
@pytest.mark.parametrize("role", LOADERS)
def test_a_model_without_some_of_its_weights_is_refused_by_their_names(encoders, cross_encoders, kind, role, tmp_path):
    source = (encoders if role == "student" else cross_encoders)[kind]
    layer = {"distilbert": "layer.2.", "modernbert": "layers.2."}.get(kind, "layer.2.")
    with pytest.raises(UserError, match=rf"is incomplete: it lacks weights .*{layer}.* and \d+ more"):
        LOADERS[role](str(altered(source, tmp_path / "gap", without(layer))))
    with pytest.raises(UserError, match=r"is incomplete: it lacks weights .* and \d+ more"):
        LOADERS[role](str(altered(source, tmp_path / "renamed", renamed)))


def test_a_plain_encoder_is_no_teacher(encoders):
    for kind, lacking in {"bert": "classifier.bias, classifier.weight", "modernbert": "classifier.bias"}.items():
        with pytest.raises(UserError, match=f"is no cross-encoder: it has no weights for {lacking}.*fit-teacher"):
            cross_encoder.load(encoders[kind])


@pytest.mark.parametrize("role", LOADERS)
def test_a_layer_that_would_be_left_out_is_refused(encoders, cross_encoders, role, tmp_path):
    shutil.copytree((encoders if role == "student" else cross_encoders)["bert"], folder := tmp_path / "model")
    set_to(folder / "config.json", num_hidden_layers=3)
    with pytest.raises(UserError, match=r"no place for some of its weights, which would be dropped: .*layer\.3\."):
        LOADERS[role](str(folder))


@pytest.mark.parametrize("role", LOADERS)
def test_weights_of_another_size_are_refused(encoders, cross_encoders, role, tmp_path):
    shutil.copytree((encoders if role == "student" else cross_encoders)["bert"], folder := tmp_path / "model")
    set_to(folder / "config.json", vocab_size=999)
    with pytest.raises(UserError, match=r"have other sizes than.*word_embeddings.weight"):
        LOADERS[role](str(folder))


@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert"])
def test_encoders_below_other_heads_are_whole(tokenizers_by_kind, kind, tmp_path):
    """A student may start from a masked language model or a cross-encoder: their heads, and a pooler, are not used."""
    for auto in (AutoModelForMaskedLM, AutoModelForSequenceClassification):
        folder = tmp_path / auto.__name__
        auto.from_config(tiny_config(kind, tokenizers_by_kind[kind])).save_pretrained(folder)
        tokenizers_by_kind[kind].save_pretrained(folder)
        assert encoder.encode(encoder.load(str(folder)), TEXTS, "document").shape == (2, 32)


def test_old_files_that_hold_positions_are_whole(encoders, tmp_path):
    def older(held):
        return {**held, "embeddings.position_ids": torch.arange(64)[None]}

    encoder.load(str(altered(encoders["bert"], tmp_path / "older", older)))


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_fit_teacher_draws_a_head_and_nothing_else(encoders, tmp_path, kind):
    fit_model.build(FitTeacherConfig(model=encoders[kind]))
    gap = altered(encoders[kind], tmp_path / "gap", without("layer.2."))
    with pytest.raises(UserError, match="is incomplete"):
        fit_model.build(FitTeacherConfig(model=str(gap)))


@pytest.fixture
def adapter(encoders, tmp_path) -> Path:
    return saved_adapter(encoders["bert"], tmp_path / "adapter")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda name: "layer.1." in name, r"adapter does not fit its base model: .*layer\.1\."),
        (lambda name: "classifier" in name, r"classifier.weight"),
    ],
)
def test_an_adapter_is_whole(adapter, damage, message):
    assert cross_encoder.load(str(adapter)).fingerprint
    file = adapter / "adapter_model.safetensors"
    save_file({name: weight for name, weight in load_file(file).items() if not damage(name)}, file)
    with pytest.raises(UserError, match=message):
        cross_encoder.load(str(adapter))


def test_an_adapter_without_a_head_is_no_cross_encoder(adapter):
    set_to(adapter / "adapter_config.json", modules_to_save=None)
    with pytest.raises(UserError, match=r"adapter' is no cross-encoder: it has no weights for classifier"):
        cross_encoder.load(str(adapter))


def test_an_adapter_on_itself_is_refused(adapter):
    set_to(adapter / "adapter_config.json", base_model_name_or_path=str(adapter))
    for act in (models.fingerprint, cross_encoder.load):
        with pytest.raises(UserError, match="is itself an adapter"):
            act(str(adapter))


def test_a_language_head_is_whole(tokenizers_by_kind, tmp_path):
    whole = tmp_path / "whole"
    AutoModelForMaskedLM.from_config(tiny_config("bert", tokenizers_by_kind["bert"])).save_pretrained(whole)
    tokenizers_by_kind["bert"].save_pretrained(whole)
    language_head(str(whole))
    with pytest.raises(UserError, match=r"lacks weights .*cls.predictions.transform"):
        language_head(str(altered(str(whole), tmp_path / "gap", without("predictions.transform"))))


@pytest.mark.parametrize("role", LOADERS)
def test_weights_that_are_no_numbers_are_refused_by_name(encoders, cross_encoders, role, tmp_path):
    def spoilt(held):
        return {name: w * float("nan") if "layer.1.output.dense.weight" in name else w for name, w in held.items()}

    source = (encoders if role == "student" else cross_encoders)["bert"]
    with pytest.raises(UserError, match=r"spoilt' has NaN or infinite weights: .*layer\.1\.output\.dense\.weight"):
        LOADERS[role](str(altered(source, tmp_path / "spoilt", spoilt)))


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_saved_weights_have_the_mode_of_other_files(encoders, tmp_path, umask):
    before = os.umask(umask)
    try:
        student = build.build(StudentConfig(model=encoders["bert"]))
        weights.save(student, tmp_path / "student")
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "student").rglob("*") if path.is_file()}
    assert modes == {0o666 & ~umask}


@pytest.fixture
def static(tokenizers_by_kind, tmp_path) -> str:
    tokenizer = copy.deepcopy(tokenizers_by_kind["bert"])
    tokenizer.backend_tokenizer.no_truncation()  # another test may have set one
    module = StaticEmbedding(tokenizer, embedding_dim=24)
    SentenceTransformer(modules=[module], device="cpu").save_pretrained(str(tmp_path / "static"))
    return str(tmp_path / "static")


def test_static_embeddings_embed_and_are_no_student(static):
    model = encoder.load(static)
    long = "path " * 1000 + "file"
    found = encoder.encode(model, [*TEXTS, long], "document")
    expected = SentenceTransformer(static, device="cpu").encode_document([*TEXTS, long])
    torch.testing.assert_close(torch.from_numpy(found), torch.from_numpy(expected))
    assert encoder.tokens_of(model, [long], "document").lengths.tolist() == [1001]
    with pytest.raises(UserError, match=r"static.*StaticEmbedding; it can be a baseline"):
        build.build(StudentConfig(model=static))


@pytest.mark.parametrize("measure", ["euclidean", "manhattan"])
def test_distances_are_refused(encoders, tmp_path, measure):
    saved = saved_student(encoders["bert"], tmp_path / "saved")
    set_to(saved / "config_sentence_transformers.json", similarity_fn_name=measure)
    with pytest.raises(UserError, match=f"compares its vectors by '{measure}'"):
        models.similarity(str(saved))
