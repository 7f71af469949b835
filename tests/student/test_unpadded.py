"""Texts of several lengths in one row: the same vectors as alone, to the bit, and as the library's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from retrieval_distill.student import encoder, routes, unpadded
from tests.conftest import WORDS

TEXTS = [" ".join(WORDS[i % 20 : i % 20 + 1 + i % 17]) for i in range(60)]


@pytest.fixture(autouse=True)
def one_thread():
    """Among several threads, products as small as those of these models are dealt out by the number of rows."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("kind", "able"), [("bert", True), ("distilbert", True), ("roberta", True), ("modernbert", True)]
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_vectors_do_not_depend_on_the_others(encoders, kind, able, dtype):
    model = encoder.load(encoders[kind], dtype)
    assert unpadded.is_able(routes.path(model, "document")[0]) == able
    together = encoder.encode(model, TEXTS, "document")
    alone = np.concatenate([encoder.encode(model, [text], "document") for text in TEXTS])
    assert np.array_equal(together, alone)
    library = SentenceTransformer(str(encoders[kind]), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(together, library, atol=1e-5 if dtype == "float32" else 0.05)


def test_groups_of_one_length_hold_every_text_once():
    lengths = torch.tensor([5, 3, 3, 1])
    mask = (torch.arange(5) < lengths[:, None]).long()
    features = {"attention_mask": mask, "row": torch.arange(4)[:, None].expand(4, 5)}
    found = [(group["row"][:, 0].tolist(), group["attention_mask"].tolist()) for group in unpadded.by_length(features)]
    assert found == [([0], [[1] * 5]), ([1, 2], [[1] * 3] * 2), ([3], [[1]])]
