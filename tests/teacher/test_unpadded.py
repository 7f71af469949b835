"""Batches without padding give the scores of padded ones, by PyTorch's usual attention where there is no GPU."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from retrieval_distill.hardware import varlen
from retrieval_distill.teacher import cross_encoder, first_token
from tests.conftest import tiny_config
from tests.hardware.test_varlen import kernel  # noqa: F401
from tests.teacher.test_cross_encoder import PAIRS, scores_of
from tests.teacher.test_modular import backbones, modular  # noqa: F401

KINDS = ["bert", "roberta", "modernbert"]


@pytest.fixture
def packs(monkeypatch):
    """From now on the device is said to have the kernel."""
    return lambda: monkeypatch.setattr(varlen, "is_available", lambda *_: True)


def both(folder: str, packs, dtype: str = "float32"):
    """Two teachers: with padding and without."""
    usual = cross_encoder.load(folder, 40, dtype)
    packs()
    return usual, cross_encoder.load(folder, 40, dtype)


def shapes_of(teacher, layer: int = 0) -> list[tuple[int, ...]]:
    """The shapes of what enters a layer from now on."""
    found: list[tuple[int, ...]] = []
    model = teacher.model[0].model
    layers = next(module for name, module in model.named_modules() if name.split(".")[-1] in ("layer", "layers"))
    layers[layer].register_forward_pre_hook(lambda _, inputs: found.append(tuple(inputs[0].shape)))
    return found


def tokens_of(teacher) -> int:
    tokenizer = teacher.model.tokenizer
    texts = [PAIRS.texts(place) for place in range(len(PAIRS))]
    encoded = tokenizer(*map(list, zip(*texts, strict=True)), truncation="longest_first", max_length=40)
    return sum(map(len, encoded["input_ids"]))


@pytest.mark.parametrize("kind", KINDS)
def test_classifiers(cross_encoders, packs, kind):
    usual, teacher = both(cross_encoders[kind], packs)
    shapes = shapes_of(teacher)
    expected = scores_of(usual)
    np.testing.assert_allclose(scores_of(teacher), expected, atol=1e-5)
    assert expected.std() > 1e-3
    assert {shape[0] for shape in shapes} == {1}
    assert sum(shape[1] for shape in shapes) == tokens_of(teacher)  # not one of padding


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["cls", "mean", "lasttoken"])
def test_several_modules(backbones, tmp_path, packs, kind, pooling):  # noqa: F811
    usual, teacher = both(modular(backbones[kind], tmp_path, pooling), packs)
    shapes = shapes_of(teacher)
    expected = scores_of(usual)
    np.testing.assert_allclose(scores_of(teacher), expected, atol=1e-5)
    assert expected.std() > 1e-2 and sum(shape[1] for shape in shapes) == tokens_of(teacher)


@pytest.mark.parametrize("kind", KINDS)
def test_the_kernel_is_asked_for_the_same(cross_encoders, packs, kind, kernel):  # noqa: F811
    """As it is documented; what it computes on a GPU is compared by scripts/check_gpu.py."""
    usual, teacher = both(cross_encoders[kind], packs)
    kernel.reset_mock()
    np.testing.assert_allclose(scores_of(teacher), scores_of(usual), atol=1e-5)
    windows = {asked.kwargs["window_size"] for asked in kernel.call_args_list}
    assert windows == ({(-1, -1), (8, 8)} if kind == "modernbert" else {(-1, -1)})


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_one_by_one(cross_encoders, packs, kind):
    """Of any length, an empty document among them."""
    usual, teacher = both(cross_encoders[kind], packs)
    expected = scores_of(usual)
    alone = [scores_of(teacher, PAIRS.only(np.array([place])))[place] for place in range(len(PAIRS))]
    np.testing.assert_allclose(alone, expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_layer_computes_first_tokens_alone(cross_encoders, packs, kind):
    _, teacher = both(cross_encoders[kind], packs)
    last = first_token.last_layer(teacher.model.model)[0]
    widths = []
    feed_forward = last.mlp if kind == "modernbert" else last.intermediate
    feed_forward.register_forward_pre_hook(lambda _, inputs: widths.append(inputs[0].shape[:-1].numel()))
    scores_of(teacher)
    assert sum(widths) == len(PAIRS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(cross_encoders, packs, kind, dtype):
    usual, teacher = both(cross_encoders[kind], packs, dtype)
    found, expected = scores_of(teacher), scores_of(usual)
    np.testing.assert_allclose(found, expected, atol=0.25)
    assert len(np.unique(found)) == len(np.unique(expected))


def test_no_mask_of_all_tokens_by_all_tokens_is_made(cross_encoders, packs, monkeypatch):
    masks = []

    def watched(module, query, key, value, attention_mask, *args, **options):
        masks.append(attention_mask)
        return varlen.attend(module, query, key, value, attention_mask, *args, **options)

    monkeypatch.setitem(varlen.AttentionInterface._global_mapping, varlen.NAME, watched)
    for kind in KINDS:
        scores_of(both(cross_encoders[kind], packs)[1])
    assert masks and all(mask is None for mask in masks)


def test_a_last_layer_that_looks_around_itself_stays_padded(tokenizers_by_kind, tmp_path, packs):
    config = tiny_config("modernbert", tokenizers_by_kind["modernbert"])
    config.initializer_range, config.layer_types = 0.3, [*config.layer_types[:-1], "sliding_attention"]
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    tokenizers_by_kind["modernbert"].save_pretrained(tmp_path)
    usual, teacher = both(str(tmp_path), packs)
    shapes = shapes_of(teacher, -1)
    np.testing.assert_allclose(scores_of(teacher), scores_of(usual), atol=1e-5)
    assert sum(shape[0] for shape in shapes) == len(PAIRS)


def test_a_bias_for_distance_stays_padded(backbones, tmp_path, packs):  # noqa: F811
    usual, teacher = both(modular(backbones["mpnet"], tmp_path), packs)
    shapes = shapes_of(teacher, -1)
    np.testing.assert_allclose(scores_of(teacher), scores_of(usual), atol=1e-5)
    assert sum(shape[0] for shape in shapes) == len(PAIRS)


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_a_kernel_that_gives_other_scores_is_left_alone(cross_encoders, packs, kind, monkeypatch):
    real = varlen.attention
    monkeypatch.setattr(varlen, "attention", lambda *args, **options: real(*args, **options) * 0.5)
    usual, teacher = both(cross_encoders[kind], packs)
    np.testing.assert_allclose(scores_of(teacher), scores_of(usual), atol=1e-5)


def test_a_copy_is_a_model_of_its_own(cross_encoders, packs):
    """As for a second GPU."""
    _, teacher = both(cross_encoders["bert"], packs)
    expected = scores_of(teacher)
    other = copy.deepcopy(teacher.model)
    with torch.no_grad():
        for parameter in teacher.model.parameters():
            parameter.zero_()
    assert np.abs(scores_of(teacher)).max() == 0
    teacher.model = other
    np.testing.assert_array_equal(scores_of(teacher), expected)


def test_running_out_of_memory_changes_no_score(cross_encoders, packs, monkeypatch):
    usual, teacher = both(cross_encoders["roberta"], packs)
    real = varlen.attention

    def small_device(query, *args, **options):
        if query.shape[2] > 100:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(query, *args, **options)

    monkeypatch.setattr(varlen, "attention", small_device)
    np.testing.assert_allclose(scores_of(teacher), scores_of(usual), atol=1e-5)
