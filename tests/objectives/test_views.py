"""Views: what an index holds of vectors is what the objectives see of them."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.util.quantization import quantize_embeddings

from retrieval_distill.errors import UserError
from retrieval_distill.objectives import Vectors
from retrieval_distill.objectives.views import binary, int8, parse_views, shorten


def random(rows: int, dimensions: int, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(rows, dimensions, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@given(dimensions=st.integers(1, 8), seed=st.integers(0, 99))
@settings(max_examples=25)
def test_short_vectors_keep_their_direction_and_the_whole_length(dimensions, seed):
    whole = random(5, 8, seed, torch.float64)
    short = shorten(whole, dimensions)
    torch.testing.assert_close(short.norm(dim=1), whole.norm(dim=1))
    cosines = torch.cosine_similarity(short, whole[:, :dimensions])
    torch.testing.assert_close(cosines, torch.ones(5, dtype=torch.float64))


def test_a_margin_keeps_its_size_where_the_dimensions_carry_the_same():
    """Eight equal dimensions: a plain cut dot product would be a quarter, and so would every margin."""
    query, documents = torch.ones(1, 8), torch.stack([torch.full((8,), 3.0), torch.full((8,), 1.0)])
    for dimensions in (8, 2):
        products = shorten(query, dimensions) @ shorten(documents, dimensions).T
        assert products.tolist() == [[pytest.approx(24), pytest.approx(8)]]


def test_int8_is_what_the_index_holds():
    vectors = random(200, 16)
    quantiser = faiss.ScalarQuantizer(16, faiss.ScalarQuantizer.QT_8bit)
    quantiser.train(vectors.numpy())
    held = quantiser.decode(quantiser.compute_codes(vectors.numpy()))
    np.testing.assert_allclose(int8(vectors).numpy(), held, atol=1e-5)


def test_binary_is_the_librarys_sign():
    vectors = random(20, 16)
    bits = np.unpackbits(quantize_embeddings(vectors.numpy(), precision="ubinary"), axis=1)
    signs = np.where(bits == 1, 1.0, -1.0)
    np.testing.assert_allclose(
        binary(vectors).numpy(), signs / 4 * np.linalg.norm(vectors, axis=1, keepdims=True), rtol=1e-5
    )


@pytest.mark.parametrize("quantise", [int8, binary])
def test_gradients_pass_as_if_nothing_were_quantised(quantise):
    vectors = random(6, 4).requires_grad_()
    weights = random(6, 4, 1)
    (quantise(vectors) * weights).sum().backward()
    torch.testing.assert_close(vectors.grad, weights)


def test_views_are_data():
    views = parse_views({"full": 1.0, 4: 0.5, "2/binary": 0.25, "int8": 0})
    assert [(v.name, v.weight, v.dimensions, v.precision) for v in views] == [
        ("full", 1.0, None, None),
        ("4", 0.5, 4, None),
        ("2/binary", 0.25, 2, "binary"),
    ]
    vectors = Vectors(random(2, 8), random(3, 8, 1))
    seen = views[2](vectors)
    torch.testing.assert_close(seen.queries, shorten(vectors.queries, 2))  # queries are searched with as they are
    torch.testing.assert_close(seen.documents, binary(shorten(vectors.documents, 2)))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"int9": 1.0}, "did you mean 'int8'"),
        ({"0": 1.0}, "'0' is unknown"),
        ({"int8/64": 1.0}, "'int8/64' is unknown"),
        ({"full": -1.0}, "cannot be negative"),
        ({"full": 0.0}, "at least one view"),
    ],
)
def test_views_that_cannot_be(weights, message):
    with pytest.raises(UserError, match=message):
        parse_views(weights)
