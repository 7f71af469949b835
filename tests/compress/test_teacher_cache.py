"""What is kept of a teacher is what it gave; a training that reads it ends as one that asks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrieval_distill import api
from retrieval_distill.compress import teacher_cache, training
from retrieval_distill.compress.captures import Captures, shape_of
from retrieval_distill.compress.compression_model import CompressionModel
from retrieval_distill.compress.teacher_cache import TeacherCache
from retrieval_distill.compress.transfer import VECTOR
from retrieval_distill.data.tokens import Tokens
from retrieval_distill.errors import UserError
from retrieval_distill.student import encoder
from tests.compress.conftest import FAMILIES
from tests.compress.test_compress import SMALL

ASKS = {("hidden", 1), ("query", 0), ("value", 0), ("embeddings", 0), ("tokens", 0), VECTOR}
ROWS = Tokens.from_rows([[0, 7, 8, 9, 10, 2], [0, 11, 12, 2], [0, 5, 6, 7, 2]])


def never() -> dict:
    raise AssertionError("all of it is kept")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_read_is_what_was_seen(family, dtype, every_encoder, tmp_path):
    model = encoder.load(every_encoder[family], dtype)
    see = Captures(model, ASKS)
    store = TeacherCache(tmp_path, ASKS, shape_of(model), ROWS, getattr(torch, dtype))
    batch = np.array([2, 0])
    with torch.no_grad():
        seen = store(batch, lambda: see([ROWS[row] for row in batch]))
    reopened = TeacherCache(tmp_path, ASKS, shape_of(model), ROWS, getattr(torch, dtype))
    found = reopened(batch, never)
    assert found.keys() == ASKS
    assert torch.equal(found[VECTOR], seen[VECTOR])
    for ask in ASKS - {VECTOR}:
        assert found[ask].dtype == seen[ask].dtype
        for place, row in enumerate(batch):
            length = len(ROWS[row])
            assert torch.equal(found[ask][place, :length], seen[ask][place, :length])
            assert not found[ask][place, length:].any()
    with pytest.raises(AssertionError):
        reopened(np.array([0, 1]), never)  # one of the two is not there


@pytest.mark.parametrize(
    "transfers",
    [
        {"relations": 1.0, "embedding": 1.0},
        {"hidden_states": {"mapping": "earth_mover"}},
        {"hidden_states": {"distance": "cosine"}},
    ],
)
def test_the_student_is_the_same(transfers, every_encoder, dataset, tmp_path, monkeypatch):
    """Padding is all that may differ: the second training reads everything, and ends where the first one did."""
    options = {**SMALL, "model": every_encoder["bert"], "layers": "first:2", "steps": 6, "transfers": transfers}
    asked = api.compress(dataset.documents, out=tmp_path / "asked", **options).manifest
    api.compress(dataset.documents, out=tmp_path / "kept", teacher_cache=str(tmp_path / "cache"), **options)
    monkeypatch.setattr(CompressionModel, "_run_teacher", _only_kept)
    api.compress(dataset.documents, out=tmp_path / "read", teacher_cache=str(tmp_path / "cache"), **options)
    models = [encoder.load(str(tmp_path / name)).state_dict() for name in ("asked", "kept", "read")]
    assert asked["counts"]["steps"] == 6
    for name, weight in models[0].items():
        torch.testing.assert_close(models[1][name], weight, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(models[2][name], weight, atol=1e-6, rtol=1e-5)


def _only_kept(self, teacher, rows):
    return self._kept(rows, never)


def test_another_teacher_or_other_texts_have_a_folder_of_their_own(every_encoder, dataset, tmp_path):
    options = {**SMALL, "steps": 1, "transfers": {"embedding": 1.0}, "teacher_cache": str(tmp_path / "cache")}
    few = dataset.documents.select(dataset.documents.ids[:5])
    for number, (name, texts) in enumerate(
        (("bert", few), ("roberta", few), ("bert", dataset.documents), ("bert", few))
    ):
        api.compress(texts, out=tmp_path / str(number), model=every_encoder[name], **options)
    assert len(list((tmp_path / "cache").iterdir())) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"transfers": {"attention_maps": 1.0}}, "attention maps are too large to cache"),
        ({"transfers": {"embedding": 1.0}, "masked": 0.1}, "masked texts change in every pass"),
    ],
)
def test_what_cannot_be_kept_is_refused(options, said, every_encoder, dataset, tmp_path):
    with pytest.raises(UserError, match=said):
        api.compress(dataset.documents, out=tmp_path / "small", model=every_encoder["bert"], steps=1, teacher_cache=str(tmp_path / "cache"), **SMALL, **options)  # fmt: skip


def test_a_full_disk_is_said_before_training(every_encoder, dataset, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(teacher_cache.os, "posix_fallocate", full)
    monkeypatch.setattr(training, "_train", lambda *_: never())
    options = {"model": every_encoder["bert"], "teacher_cache": str(tmp_path / "cache")}
    with pytest.raises(UserError, match=r"the disk is full, .*leave compress.teacher_cache out"):
        api.compress(dataset.documents, out=tmp_path / "small", **options)
