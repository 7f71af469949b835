"""Teachers that compute in half precision tell their pairs apart: their heads compute in float32."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling

from retrieval_distill.config import MemberConfig
from retrieval_distill.data.dataset import Texts
from retrieval_distill.scores.teacher_contract import Pairs
from retrieval_distill.teacher import cross_encoder, teacher_loader
from tests.conftest import sentence
from tests.teacher.decoders import classifying_decoder, yes_or_no_decoder

RNG = random.Random(0)
DOCUMENTS = [sentence(RNG, 12) for _ in range(200)]
PAIRS = Pairs(
    ["q"], ["sort the list"], [f"d{i}" for i in range(200)], DOCUMENTS, np.array([[0, i] for i in range(200)]),
    np.ones(200, bool),
)  # fmt: skip
KINDS = ["bert", "distilbert", "roberta", "modernbert", "yes or no", "decoder"]


def scores_of(teacher) -> np.ndarray:
    scores = np.empty(len(PAIRS), np.float32)
    for positions, values in teacher.score(PAIRS):
        scores[positions] = values
    return scores


@pytest.fixture(scope="module", params=KINDS)
def folder(request, cross_encoders, tmp_path_factory) -> str:
    made = {"yes or no": yes_or_no_decoder, "decoder": classifying_decoder}
    if request.param in cross_encoders:
        return cross_encoders[request.param]
    return made[request.param](tmp_path_factory.mktemp("decoder"))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_few_scores_tie(folder, dtype):
    exact, half = (scores_of(cross_encoder.load(folder, 48, name)) for name in ("float32", dtype))
    assert len(np.unique(exact)) >= 195
    assert len(np.unique(half)) >= 195
    assert np.abs(exact - half).max() < 0.5 * np.abs(exact).max()


def test_several_modules(cross_encoders, tmp_path):
    """A transformer, pooling and a dense layer; the tokenizer's output that passes through them is no dict."""
    first = Transformer(cross_encoders["modernbert"])
    one = Dense(32, 1, activation_function=torch.nn.Identity(), module_output_name="scores")
    CrossEncoder(modules=[first, Pooling(32, "cls"), one], device="cpu").save_pretrained(str(tmp_path))
    exact, half = (scores_of(cross_encoder.load(str(tmp_path), 48, name)) for name in ("float32", "bfloat16"))
    assert len(np.unique(half)) >= 195
    assert np.abs(exact - half).max() < 0.5 * np.abs(exact).max()


def test_a_copy_scores_alike(folder):
    """As on a second device."""
    teacher = cross_encoder.load(folder, 48, "bfloat16")
    expected = scores_of(teacher)
    teacher.model = copy.deepcopy(teacher.model)
    np.testing.assert_array_equal(scores_of(teacher), expected)


def test_a_library_teacher_in_bfloat16_ties(cross_encoders):
    """What these tests would find without a head in float32: fewer different scores than they ask for."""
    peer = CrossEncoder(cross_encoders["bert"], device="cpu", model_kwargs={"dtype": "bfloat16"})
    assert len(np.unique(peer.predict([PAIRS.texts(i) for i in range(200)]))) < 195


def test_scores_of_another_arithmetic_are_another_teachers(cross_encoders):
    described = {dtype: cross_encoder.load(cross_encoders["bert"], 48, dtype) for dtype in ("float32", "bfloat16")}
    assert described["bfloat16"].description["head"] == "float32"
    assert "head" not in described["float32"].description
    stages = {
        dtype: teacher_loader.identity(MemberConfig(model=cross_encoders["bert"], dtype=dtype), Texts.from_records([]))
        for dtype in ("float32", "int8", "bfloat16", "float16")
    }
    assert [dtype for dtype, identity in stages.items() if "head" in identity] == ["bfloat16", "float16"]
