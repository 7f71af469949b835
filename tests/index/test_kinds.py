"""Every kind of index: what it finds against exact search, what it weighs, filters, rescoring, and adding to it."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from retrieval_distill.data.dataset import Texts
from retrieval_distill.embedding.embed import comparable, embed
from retrieval_distill.errors import UserError
from retrieval_distill.index import vectors as preparing
from retrieval_distill.index.faiss_index import Index, index
from retrieval_distill.index.index import Setting
from retrieval_distill.index.kinds import KINDS, lists, parts
from tests.index.conftest import corpus, vector_of
from tests.index.stored import clustered, store

DOCUMENTS, DIMENSIONS = 3000, 32

VECTORS, QUERIES = clustered(DOCUMENTS), clustered(30, seed=2)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    return store(tmp_path_factory.mktemp("kinds") / "vectors", VECTORS)


@pytest.fixture(scope="module")
def built(vectors):
    """The index of a kind, built once for each set of options."""

    def get(kind, similarity="cosine", dimensions=None, rescore=None):
        folder = vectors.parent / f"{kind}-{similarity}-{dimensions}-{rescore}"
        index(vectors, folder, kind, similarity, dimensions, rescore)
        return Index.open(folder)

    return get


def by_brute_force(similarity="cosine", allowed=None, dimensions=None):
    asked, documents = (comparable(v, similarity, dimensions) for v in (QUERIES, VECTORS))
    products = asked @ documents.T
    if allowed is not None:
        products[:, ~allowed] = -np.inf
    rows = np.argsort(-products, axis=1, kind="stable")[:, :10]
    return np.take_along_axis(products, rows, axis=1), rows


def recall(found, truth):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, truth, strict=True)])


LEAST = {"flat": 1.0, "hnsw": 0.98, "ivf": 0.75, "ivf-pq": 0.7, "sq8": 0.9, "binary": 0.6}
"""Recall at a kind's own setting without rescoring would be lower for the two that rescore by themselves."""


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_finds_most_of_what_is_best(built, kind, similarity):
    if (kind, similarity) == ("binary", "dot"):
        pytest.skip("signs know nothing of lengths")
    _, rows = built(kind, similarity).best_rows(QUERIES, 10)
    assert recall(rows, by_brute_force(similarity)[1]) >= LEAST[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_weighs_what_it_says(built, kind):
    bytes_each = built(kind, rescore=0).manifest["counts"]["bytes"] / DOCUMENTS
    overhead = 4 * DIMENSIONS * (lists(DOCUMENTS) + 256) / DOCUMENTS + 8  # centroids, codebooks, headers
    assert KINDS[kind].bytes(DIMENSIONS) <= bytes_each + 1 <= KINDS[kind].bytes(DIMENSIONS) + overhead + 1


def test_small_kinds_are_as_small_as_promised(built):
    flat, sq8, binary = (built(kind, rescore=0).manifest["counts"]["bytes"] for kind in ("flat", "sq8", "binary"))
    assert flat / sq8 == pytest.approx(4, rel=0.01)
    assert flat / binary == pytest.approx(32, rel=0.01)


@pytest.mark.parametrize("kind", ["ivf-pq", "sq8", "binary"])
def test_rescoring_everything_is_exact(built, kind):
    opened = built(kind, rescore=4)
    scores, rows = opened.best_rows(QUERIES, 10, Setting(256, 300))
    true_scores, true_rows = by_brute_force()
    assert recall(rows, true_rows) >= 0.99  # vectors are stored in float16
    np.testing.assert_allclose(scores, true_scores, atol=1e-3)


@pytest.mark.parametrize("kind", ["ivf-pq", "sq8", "binary"])
def test_deeper_rescoring_finds_more(built, kind):
    opened = built(kind, rescore=4)
    found = [recall(opened.best_rows(QUERIES, 10, Setting(256, depth))[1], by_brute_force()[1]) for depth in (0, 2, 40)]
    assert found[0] < found[1] <= found[2] and found[2] >= 0.95


def test_scores_of_signs_are_cosines_of_signs(built):
    scores, rows = built("binary", rescore=0).best_rows(QUERIES[:3], 5)
    signs = np.where(VECTORS[rows] > 0, 1, -1), np.where(QUERIES[:3] > 0, 1, -1)
    np.testing.assert_allclose(scores, np.einsum("qkd,qd->qk", *signs) / DIMENSIONS, atol=1e-6)


@pytest.mark.parametrize("share", [0.01, 0.5])
@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_finds_the_best_of_what_is_allowed(built, kind, share):
    allowed = np.random.default_rng(3).random(DOCUMENTS) < share
    opened = built(kind, rescore=40 if KINDS[kind].loses else None)
    _, rows = opened.best_rows(QUERIES, 10, allowed=allowed)
    assert allowed[rows[rows >= 0]].all()
    assert recall(rows, by_brute_force(allowed=allowed)[1]) >= (0.95 if kind == "binary" else 0.99)


def test_dimensions_are_cut(built):
    opened = built("flat", dimensions=8)
    assert opened.faiss.d == 8
    np.testing.assert_array_equal(
        opened.search(QUERIES, 10)[1][0], [f"d{row}" for row in by_brute_force(dimensions=8)[1][0]]
    )


def test_signs_of_dimensions_that_fill_no_byte(tmp_path):
    store(tmp_path / "vectors", VECTORS[:500, :27])
    index(tmp_path / "vectors", tmp_path / "index", "binary", rescore=0)
    scores, rows = Index.open(tmp_path / "index").best_rows(VECTORS[:5, :27], 1)
    np.testing.assert_allclose(scores[:, 0], 1)
    assert (np.sign(VECTORS[rows[:, 0], :27]) == np.sign(VECTORS[:5, :27])).all()


def test_rules_of_thumb():
    assert [lists(n) for n in (10, 1000, 1_000_000)] == [1, 25, 4000]
    assert [parts(d) for d in (384, 768, 32, 27, 7)] == [96, 192, 8, 3, 1]


def test_blocks_change_nothing(vectors, tmp_path, monkeypatch):
    """Memory is bounded by the block: the same files whatever its size."""
    found = []
    for block in (8192, 100):
        monkeypatch.setattr(preparing, "BLOCK", block)
        counts = index(vectors, tmp_path / str(block), "sq8", rescore=2)["counts"]
        found.append({name: file["sha256"] for name, file in counts["files"].items()})
    assert found[0] == found[1]


def test_no_more_than_a_block_and_a_sample_is_prepared_at_once(vectors, tmp_path, monkeypatch):
    seen = []
    real = preparing.comparable
    monkeypatch.setattr(preparing, "BLOCK", 64)
    monkeypatch.setattr(preparing, "comparable", lambda v, *rest: seen.append(len(v)) or real(v, *rest))
    index(vectors, tmp_path / "index", "flat")
    assert max(seen) == 64 and sum(seen) == DOCUMENTS


@pytest.mark.parametrize("kind", KINDS)
def test_adding_gives_what_the_whole_would(tmp_path, kind):
    """Vectors are appended to the index that is there; kinds without training give the same bytes."""
    store(tmp_path / "vectors", VECTORS[:2000])
    assert index(tmp_path / "vectors", tmp_path / "index", kind)["counts"]["added"] == 2000
    store(tmp_path / "vectors", VECTORS)
    grown = index(tmp_path / "vectors", tmp_path / "index", kind)["counts"]
    assert (grown["added"], grown["documents"]) == (1000, 3000)
    whole = index(tmp_path / "vectors", tmp_path / "whole", kind)["counts"]
    if kind in ("flat", "binary"):
        assert grown["files"] == whole["files"]
    _, rows = Index.open(tmp_path / "index").best_rows(QUERIES, 10)
    assert recall(rows, by_brute_force()[1]) >= LEAST[kind] - 0.05
    assert Index.open(tmp_path / "index").ids_of(np.array([[0, 2999]])).tolist() == [["d0", "d2999"]]


def test_what_is_embedded_later_is_added(fake_model, tmp_path):
    texts = {f"d{number}": f"the text of {number}" for number in range(30)}
    for count in (20, 30):
        embed(fake_model[0], corpus(dict(list(texts.items())[:count])), tmp_path / "vectors")
        counts = index(tmp_path / "vectors", tmp_path / "index")["counts"]
    assert (counts["added"], counts["documents"]) == (10, 30)
    asked = np.stack([vector_of(texts["d3"]), vector_of(texts["d27"])])
    assert Index.open(tmp_path / "index").search(asked, 1)[1].tolist() == [["d3"], ["d27"]]


@pytest.mark.parametrize("change", ["deleted", "altered", "tripled"])
def test_what_cannot_be_added_to_is_built_anew(tmp_path, change):
    before = VECTORS[:1000]
    after = {"deleted": VECTORS[1:1500], "altered": np.r_[-VECTORS[:1], VECTORS[1:1500]], "tripled": VECTORS}[change]
    store(tmp_path / "vectors", before)
    index(tmp_path / "vectors", tmp_path / "index", "ivf")
    store(tmp_path / "vectors", after)
    counts = index(tmp_path / "vectors", tmp_path / "index", "ivf")["counts"]
    assert counts["added"] == counts["trained_on"] == len(after)
    assert counts["files"] == index(tmp_path / "vectors", tmp_path / "whole", "ivf")["counts"]["files"]


def test_options_that_mean_nothing_are_refused(vectors, tmp_path):
    with pytest.raises(UserError, match="stores exact vectors"):
        index(vectors, tmp_path / "index", "hnsw", rescore=4)
    store(tmp_path / "few", VECTORS[:100])
    with pytest.raises(UserError, match="needs 256 documents; there are 100"):
        index(tmp_path / "few", tmp_path / "index", "ivf-pq")


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_a_gpu_builds_what_it_has_and_only_that(vectors, tmp_path, monkeypatch, kind):
    """With a GPU that FAISS can use (a stand-in: clones), the same index is built, by way of it, and searched on it."""
    moved = []

    def stand_in(direction):
        def clone(*arguments):
            moved.append(direction)
            return faiss.clone_index(arguments[-1])

        return clone

    index(vectors, tmp_path / "cpu", kind)
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", stand_in("there"), raising=False)
    monkeypatch.setattr(faiss, "index_gpu_to_cpu", stand_in("back"), raising=False)
    index(vectors, tmp_path / "gpu", kind)
    expected = Index.open(tmp_path / "cpu").best_rows(QUERIES, 5)[1]
    np.testing.assert_array_equal(Index.open(tmp_path / "gpu").best_rows(QUERIES, 5)[1], expected)
    assert moved == (["there", "back", "there", "there"] if KINDS[kind].gpu else [])


def test_no_more_threads_than_queries(built):
    """Of FAISS's, which keep PyTorch's from the cores; afterwards there are as many as before."""
    opened, seen = built("flat"), []

    class Recording:
        def search(self, *arguments, **options):
            seen.append(faiss.omp_get_max_threads())
            return opened.faiss.search(*arguments, **options)

    recorded = Index(opened.folder, opened.manifest, Recording(), opened.id_column)
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        for count in (1, 2, 30):
            recorded.search(QUERIES[:count], 5)
        assert seen == [1, 2, 3] and faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)


def test_a_filter_of_documents_follows_the_rows_of_the_index(tmp_path):
    ids = ["c", "gone", "a", "b"]  # as after a change of the corpus: another order, and one that is no longer there
    index(store(tmp_path / "vectors", np.eye(4, dtype=np.float32), ids), tmp_path / "index")
    opened = Index.open(tmp_path / "index")
    documents = Texts.from_records((id_, "", "text") for id_ in "abcd")
    rows = opened.allowed_rows(documents, np.array([True, False, True, True]))
    _, found = opened.search(np.ones((1, 4), np.float32), 4, rows)
    assert sorted(id_ for id_ in found[0] if id_ is not None) == ["a", "c"]
    assert opened.allowed_rows(documents, None) is None
