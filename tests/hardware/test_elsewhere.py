"""Models on another device than the CPU: nothing is left behind, and what comes back is what the CPU computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer.modules import Dense, Normalize

from retrieval_distill import api
from retrieval_distill.config import StudentConfig
from retrieval_distill.hardware import devices
from retrieval_distill.objectives import OBJECTIVES, Mix
from retrieval_distill.objectives.views import parse_views
from retrieval_distill.student import build, encoder
from retrieval_distill.teacher import bi_encoder, cross_encoder
from retrieval_distill.training.model import DistillationModel
from tests import stand_in
from tests.teacher.decoders import classifying_decoder, yes_or_no_decoder
from tests.teacher.test_cross_encoder import KINDS, PAIRS, scores_of
from tests.training.test_gradient_caching import batch_of

TEXTS = ["path", "sort the list by count and mean", "graph " * 50, "", "tree edge node " * 12]


@pytest.fixture
def there(monkeypatch):
    """Makes the stand-in the best device from now on."""
    opened = stand_in.device()

    def go() -> None:
        monkeypatch.setattr(devices, "device", lambda: stand_in.NAME)
        monkeypatch.setattr(devices, "devices", lambda: [stand_in.NAME])
        for budgets in (encoder.TOKENS_PER_BATCH, encoder.TOKENS_AT_ONCE, cross_encoder.TOKENS_PER_BATCH):
            monkeypatch.setitem(budgets, stand_in.NAME, 256)
        opened.__enter__()

    yield go
    opened.__exit__(None, None, None)


def test_the_stand_in_refuses_to_mix(there):
    there()
    layer = torch.nn.Linear(3, 2)
    given, expected = torch.randn(4, 3), None
    expected = layer(given)
    layer.to(stand_in.NAME)
    with pytest.raises(RuntimeError, match="operands on elsewhere and on cpu"):
        layer(given)
    found = layer(given.to(stand_in.NAME))
    assert found.device.type == stand_in.NAME
    with pytest.raises(RuntimeError, match="numpy"):
        found.detach().numpy()
    assert torch.equal(found.cpu(), expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_cross_encoders(cross_encoders, kind, dtype, there):
    expected = scores_of(cross_encoder.load(cross_encoders[kind], 40, dtype))
    there()
    teacher = cross_encoder.load(cross_encoders[kind], 40, dtype)
    assert teacher.model.device.type == stand_in.NAME
    np.testing.assert_allclose(scores_of(teacher), expected, atol=1e-5 if dtype == "float32" else 0.1)


@pytest.mark.parametrize("make", [yes_or_no_decoder, classifying_decoder])
def test_decoders(make, tmp_path, there):
    folder = make(tmp_path)
    expected = scores_of(cross_encoder.load(folder, 40, "float32"))
    there()
    np.testing.assert_allclose(scores_of(cross_encoder.load(folder, 40, "float32")), expected, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_bi_encoders(encoders, kind, there):
    expected = scores_of(bi_encoder.load(encoders[kind], 40, "float32"))
    there()
    np.testing.assert_allclose(scores_of(bi_encoder.load(encoders[kind], 40, "float32")), expected, atol=1e-4)
