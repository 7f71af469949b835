"""Exact search in blocks: the same rows as a whole matrix product, whatever the blocks, and ties as documented."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import Embeddings, comparable, embed
from retrieval_distill.errors import UserError
from retrieval_distill.index import faiss_index
from retrieval_distill.index.faiss_index import Index, index
from retrieval_distill.retrieval import coarse, exact, exact_best


def by_brute_force(queries, documents, depth):
    """Rows by falling product, equal ones by row."""
    products = queries @ documents.T
    rows = np.argsort(-products, axis=1, kind="stable")[:, :depth]
    return np.take_along_axis(products, rows, axis=1), rows


@settings(max_examples=60)
@given(
    st.integers(1, 12), st.integers(1, 90), st.integers(1, 30), st.integers(1, 4),
    st.lists(st.integers(1, 90), max_size=4), st.integers(0, 10_000),
)  # fmt: skip
def test_equals_a_whole_product(queries, documents, depth, levels, cuts, seed):
    """Small whole numbers, so that products are exact and often equal."""
    rng = np.random.default_rng(seed)
    asked, corpus = (rng.integers(-levels, levels + 1, (n, 3)).astype(np.float32) for n in (queries, documents))
    blocks = np.split(corpus, sorted(cut for cut in cuts if cut < documents))
    scores, rows = exact.best(asked, lambda: blocks, depth)
    found = min(depth, documents)
    expected_scores, expected_rows = by_brute_force(asked, corpus, depth)
    np.testing.assert_array_equal(rows[:, :found], expected_rows)
    np.testing.assert_array_equal(scores[:, :found], expected_scores)
    assert (rows[:, found:] == -1).all()


def test_tiles_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    asked, corpus = (rng.normal(size=(n, 16)).astype(np.float32) for n in (50, 700))
    whole = exact.best(asked, lambda: [corpus], 20)
    monkeypatch.setattr(exact, "TILE", 32)
    monkeypatch.setattr(exact, "QUERIES", 40)
    scores, rows = exact.best(asked, lambda: [corpus[:100], corpus[100:333], corpus[333:]], 20)
    np.testing.assert_array_equal(rows, whole[1])
    np.testing.assert_array_equal(scores, whole[0])


@pytest.fixture(params=[127, 79, 0], ids=["127 levels", "79 levels", "float32"])
def every_look(request, monkeypatch):
    """Eight bits as with VNNI, if it is here, eight bits as with AVX2, and float32."""
    here = coarse.int8_levels
    if request.param > here(64):
        pytest.skip("not exact on this processor")
    monkeypatch.setattr(coarse, "int8_levels", lambda dimensions: min(request.param, here(dimensions)))


@pytest.mark.parametrize("spread", [1e-3, 1.0])
def test_coarse_products_lose_nothing(every_look, spread):
    """Vectors that lie close together, and of lengths that differ a thousandfold, against float64."""
    rng = np.random.default_rng(2)
    asked, corpus = (1 + spread * rng.normal(size=(n, 24)) for n in (30, 1500))
    corpus *= 10 ** rng.uniform(-1.5, 1.5, (1500, 1)) if spread == 1 else 1
    asked, corpus = asked.astype(np.float32), corpus.astype(np.float32)
    scores, rows = exact.best(asked, lambda: np.array_split(corpus, 7), 10)
    truth = asked.astype(np.float64) @ corpus.astype(np.float64).T
    tenth = np.sort(truth, axis=1)[:, -10:-9]
    assert (np.take_along_axis(truth, rows, axis=1) >= tenth * (1 - 1e-6)).all()
    np.testing.assert_allclose(scores, np.take_along_axis(truth, rows, axis=1), rtol=1e-5)


def test_rounding_against_the_best_loses_nothing(every_look):
    """The best document and its query both round down, those just behind it up, in every number."""
    numbers, roundoff, little = 128, 2.0**-8, 2.0**-20
    query = np.repeat([1 + roundoff - little, 1 + roundoff + little], numbers)
    behind = np.append(np.repeat(query[[0, -1]] * [0, 1], numbers), 0)
    best = np.append(np.repeat(query[[0, -1]] * [1, 0], numbers), 8 * numbers * little)
    corpus = np.stack([behind] * 5 + [best]).astype(np.float32)
    asked = np.append(query, 1)[None].astype(np.float32)
    truth = asked.astype(np.float64) @ corpus.astype(np.float64).T
    assert 0 < truth[0, 5] / truth[0, 0] - 1 < roundoff / 100
    _, rows = exact.best(asked, lambda: [corpus], 5)
    np.testing.assert_array_equal(rows, [[5, 0, 1, 2, 3]])


@pytest.mark.parametrize(
    ("of_queries", "of_documents"),
    [
        ((18, 18), (17, 18)),
        ((-25, -25), (20, 21)),
        ((-20, -18), (-20, -18)),
        ((-38, -38), (-2, 2)),
        ((-2, 2), (-40, -37)),
    ],
)
def test_very_long_and_very_short_vectors(of_queries, of_documents, every_look):
    """Lengths are powers of ten. Squares of such numbers, products, and some of the numbers have no exponent left."""
    rng = np.random.default_rng(4)
    asked, corpus = (
        (rng.normal(size=(n, 8)) * 10 ** rng.uniform(*lengths, (n, 1))).astype(np.float32)
        for n, lengths in ((40, of_queries), (600, of_documents))
    )
    _, rows = exact.best(asked, lambda: np.array_split(corpus, 3), 10)
    truth = asked.astype(np.float64) @ corpus.astype(np.float64).T
    tenth = np.sort(truth, axis=1)[:, -10:-9]
    wrong = (
        1e-6 * np.linalg.norm(asked, axis=1, keepdims=True) * np.linalg.norm(corpus.astype(np.float64), axis=1).max()
    )
    assert (np.take_along_axis(truth, rows, axis=1) >= tenth - wrong - 16 * 2.0**-149).all()


def test_products_too_large_for_the_coarse_dtype(every_look):
    """Lengths whose product is close to the largest float32, where rounding up would be infinite."""
    asked = np.float32([[1e19, 1e19], [1e19, -1e19]])
    corpus = np.float32([[1e19, 0], [0, 1.5e19], [-1e19, 0], [3e19, -3e19], [3e19, 3e18], [1.6e19, 1.6e19]])
    scores, rows = exact.best(asked, lambda: [corpus], 4)
    expected_scores, expected_rows = by_brute_force(asked.astype(np.float64), corpus.astype(np.float64), 4)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_allclose(scores[0], expected_scores[0], rtol=1e-6)


def test_queries_that_tell_nothing_or_like_nothing(every_look):
    """A query of zeros gets the first documents; one that all documents oppose gets those that oppose it least."""
    rng = np.random.default_rng(5)
    corpus = -np.abs(rng.normal(size=(300, 6))).astype(np.float32)
    corpus[7] = 0
    scores, rows = exact.best(np.float32([[0] * 6, [1] * 6]), lambda: np.array_split(corpus, 4), 3)
    np.testing.assert_array_equal(rows[0], [0, 1, 2])
    np.testing.assert_array_equal(rows[1], [7, *(order := np.argsort(corpus.sum(1))[::-1])[order != 7][:2]])
    assert (scores[0] == 0).all() and (scores[1, 1:] < 0).all()


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(width=32, allow_nan=False)), min_size=1, max_size=40))
def test_keys_sort_as_group_then_value(pairs):
    group, value = np.array([group for group, _ in pairs]), np.array([value for _, value in pairs], np.float32)
    order = np.argsort(exact_best.sort_keys(group, value), kind="stable")
    np.testing.assert_array_equal(order, np.lexsort((value, group)))


KINDS = {
    "random": lambda rng, n, d: rng.normal(size=(n, d)),
    "halves of a step": lambda rng, n, d: rng.choice([-79, 0.5, 1.5, 38.5, 79], (n, d)),
    "one outlier": lambda rng, n, d: np.where(np.arange(d) == 0, 1e4, rng.normal(size=(n, d))),
    "of all lengths": lambda rng, n, d: rng.normal(size=(n, d)) * 10 ** rng.uniform(-9, 9, (n, 1)),
    "of nearly no length": lambda rng, n, d: rng.normal(size=(n, d)) * 10 ** rng.uniform(-44, -30, (n, 1)),
    "zeros": lambda rng, n, d: np.zeros((n, d)),
    "alike": lambda rng, n, d: np.ones((n, d)) + 1e-3 * rng.normal(size=(n, d)),
}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(sorted(KINDS)),
    st.sampled_from(sorted(KINDS)),
    st.sampled_from([1, 8, 64, 401]),
    st.integers(0, 10_000),
)
def test_products_are_as_close_as_promised(every_look, of_queries, of_documents, dimensions, seed):
    """The coarse product and the float32 one, both against float64."""
    rng = np.random.default_rng(seed)
    asked = KINDS[of_queries](rng, 9, dimensions).astype(np.float32)
    corpus = KINDS[of_documents](rng, 31, dimensions).astype(np.float32)
    truth = asked.astype(np.float64) @ corpus.astype(np.float64).T
    query, row = (places.ravel() for places in np.indices(truth.shape))
    whole = exact_best.products(asked, corpus, query, row).reshape(truth.shape)
    for queries, documents in zip(coarse.rounded(asked, False), coarse.rounded(corpus, True), strict=True):
        look = coarse.Look(queries, documents)
        products = look.products.numpy() * look.unit[:, None]
        assert (np.abs(products - truth) <= look.error[:, None]).all()
        assert (np.abs(products - whole) <= look.error[:, None]).all()
        least = np.quantile(whole, 0.8, axis=1).astype(np.float32)
        assert set(np.flatnonzero(whole >= least[:, None])) <= set(look.reaching(least))
        assert not (look.kth(np.arange(9), 5) >= np.sort(whole, axis=1)[:, -5]).any()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.sampled_from(sorted(KINDS)), st.integers(1, 40), st.integers(0, 10_000))
def test_every_look_finds_the_same(every_look, of_queries, of_documents, depth, seed):
    """All products computed, and sorted: the same bytes."""
    rng = np.random.default_rng(seed)
    asked = KINDS[of_queries](rng, 7, 24).astype(np.float32)
    corpus = KINDS[of_documents](rng, 230, 24).astype(np.float32)
    query, row = (places.ravel() for places in np.indices((7, 230)))
    whole = exact_best.products(asked, corpus, query, row).reshape(7, 230)
    expected = np.argsort(-whole, axis=1, kind="stable")[:, :depth]
    scores, rows = exact.best(asked, lambda: np.array_split(corpus, 5), depth)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(scores, np.take_along_axis(whole, expected, axis=1))


@pytest.mark.parametrize("dimensions", [1, 8, 31, 384, 1024, 4096])
def test_eight_bit_products_are_exact(dimensions):
    """Without VNNI, oneDNN adds up pairs of products in 16 bits, which 127 levels would overflow."""
    levels = coarse.int8_levels(dimensions)
    if not levels:
        pytest.skip("no eight-bit products on this processor")
    rng = np.random.default_rng(dimensions)
    for most in (False, True):
        drawn = [rng.choice([-levels, levels], (n, dimensions), p=[0.1, 0.9]) for n in (70, 90)]
        left, right = drawn if most else [rng.integers(-levels, levels + 1, (n, dimensions)) for n in (1, 300)]
        numbers = torch._int_mm(torch.from_numpy(left.astype(np.int8)), torch.from_numpy(right.astype(np.int8)).T)
        np.testing.assert_array_equal(numbers.numpy(), left @ right.T)


def test_documents_that_keep_getting_better(every_look):
    """Every document is among the best when it comes."""
    rng = np.random.default_rng(6)
    asked, corpus = 1 + 0.1 * rng.random((5, 16)), 1 + 0.1 * rng.random((900, 16))
    corpus = (corpus * np.linspace(1, 9, 900)[:, None]).astype(np.float32)
    scores, rows = exact.best(asked.astype(np.float32), lambda: np.array_split(corpus, 30), 10)
    truth = asked @ corpus.astype(np.float64).T
    np.testing.assert_allclose(scores, -np.sort(-truth, axis=1)[:, :10], rtol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(truth, rows, axis=1), scores, rtol=1e-6)


def test_ties_take_no_memory(every_look):
    """All products are equal: the first documents are kept, and the others not held."""
    corpus = np.zeros((4_000, 4), np.float32)
    best = exact_best.Best(np.ones((50, 4), np.float32), 10)
    best.offer(exact_best.Documents(corpus), 0)
    tracemalloc.start()
    for number in range(1, 30):
        best.offer(exact_best.Documents(corpus[:100]), 4_000 + 100 * number)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 100 * 50 * exact_best.PAIR.itemsize
    np.testing.assert_array_equal(best.ranked()[1], np.tile(np.arange(10), (50, 1)))


@pytest.mark.parametrize("where", ["queries", "documents"])
def test_infinite_numbers(every_look, where):
    """Infinite products are the best, undefined ones the worst, and they leave other queries and documents alone."""
    rng = np.random.default_rng(7)
    asked, corpus = (rng.normal(size=(n, 5)).astype(np.float32) for n in (4, 300))
    (asked if where == "queries" else corpus)[2, 1] = np.inf
    with np.errstate(invalid="ignore"):
        truth = np.nan_to_num(asked @ corpus.T, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    scores, _ = exact.best(asked, lambda: np.array_split(corpus, 3), 10)
    np.testing.assert_allclose(scores, -np.sort(-truth, axis=1)[:, :10], rtol=1e-5)


def test_a_first_look_leaves_little_to_do(every_look):
    rng = np.random.default_rng(3)
    asked, corpus = (comparable(rng.normal(size=(n, 384)), "cosine") for n in (20, 8000))
    tenth = np.sort(asked @ corpus.T, axis=1)[:, -10]
    look = coarse.Look(coarse.rounded(asked, one_step=False)[0], coarse.rounded(corpus, one_step=True)[0])
    assert 10 * 20 <= len(look.reaching(tenth)) < 100 * 20  # of 8,000 * 20


@pytest.fixture(scope="module", params=["cosine", "dot"])
def searched(request, encoders, dataset, tmp_path_factory):
    """Vectors of the tiny corpus, an exact index over them, and the similarity."""
    folder = tmp_path_factory.mktemp(request.param)
    embed(encoders["bert"], dataset.documents, folder / "vectors", "float32")
    index(folder / "vectors", folder / "index", "flat", request.param)
    return Embeddings.open(folder / "vectors"), Index.open(folder / "index"), request.param


def test_finds_what_the_flat_index_finds(searched, encoders, dataset):
    embeddings, flat, similarity = searched
    found = exact.search(embeddings, encoders["bert"], dataset.queries, 7, similarity, "float32")
    theirs = faiss_index.search(flat, encoders["bert"], dataset.queries, 7, "float32")
    assert found.pairs == theirs.pairs
    np.testing.assert_allclose(found.frame["score"], theirs.frame["score"], rtol=1e-5)
    everything = exact.search(embeddings, encoders["bert"], dataset.queries, 1000, similarity, "float32")
    assert len(everything) == len(dataset.queries) * len(dataset.documents)


def test_rescored_pairs_have_their_search_scores(searched, encoders, dataset, monkeypatch):
    embeddings, _, similarity = searched
    everything = exact.search(embeddings, encoders["bert"], dataset.queries, 60, similarity, "float32").as_dict()
    rng = np.random.default_rng(2)
    drawn = {q: {d: float(rng.random()) for d in rng.choice(dataset.documents.ids, 5, False)} for q in ("q3", "q1")}
    found = exact.rescore(Run.from_dict(drawn), embeddings, encoders["bert"], dataset.queries, similarity, "float32")
    assert found.query_ids == ["q3", "q1"]
    for query, docs in found.as_dict().items():
        assert docs == pytest.approx({doc: everything[query][doc] for doc in drawn[query]}, rel=1e-5)
        assert list(docs) == sorted(docs, key=docs.get, reverse=True)
    shards = np.split(np.concatenate(list(embeddings.shards())), [7, 30])
    monkeypatch.setattr(Embeddings, "shards", lambda self: iter(shards))
    again = exact.rescore(Run.from_dict(drawn), embeddings, encoders["bert"], dataset.queries, similarity, "float32")
    assert again.frame.equals(found.frame)


def test_foreign_models_and_documents_are_refused(searched, encoders, dataset):
    embeddings, _, similarity = searched
    with pytest.raises(UserError, match="was not built with"):
        exact.search(embeddings, encoders["distilbert"], dataset.queries, 5, similarity)
    with pytest.raises(UserError, match="no vector of document 'elsewhere'"):
        exact.rescore(Run.from_dict({"q1": {"elsewhere": 1.0}}), embeddings, encoders["bert"], dataset.queries)


def test_comparable_vectors():
    vectors = np.array([[3.0, 4.0], [0.0, 0.0]])
    assert comparable(vectors, "dot").tolist() == [[3, 4], [0, 0]]
    assert comparable(vectors, "cosine") == pytest.approx(np.array([[0.6, 0.8], [0, 0]]))
