"""STS and paraphrase mining from files: the library's own evaluators on the same model and texts are the oracle."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy import stats
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import (
    EmbeddingSimilarityEvaluator,
    ParaphraseMiningEvaluator,
)

from retrieval_distill.benchmarks import paraphrases, sts
from retrieval_distill.errors import UserError
from tests.conftest import sentence


@pytest.fixture(scope="module")
def model(encoders):
    return SentenceTransformer(encoders["bert"], device="cpu")


def test_sts_equals_the_librarys(model, encoders, tmp_path):
    rng = random.Random(1)
    rows = [(sentence(rng, 6), sentence(rng, 6), rng.randrange(6)) for _ in range(40)]
    path = tmp_path / "pairs.tsv"
    path.write_text("sentence1\tsentence2\tscore\n" + "".join(f"{a}\t{b}\t{s}\n" for a, b, s in rows))
    theirs = EmbeddingSimilarityEvaluator(*map(list, zip(*rows, strict=True)), write_csv=False)(model)
    found = sts.measure(str(path), encoders["bert"], "float32")
    assert found["pairs"] == 40
    assert found["mean"] == pytest.approx(theirs["spearman_cosine"], abs=1e-6)
    assert found["low"] < found["mean"] < found["high"]


def test_the_interval_covers_the_correlation():
    """1,000 samples of a bivariate normal, whose rank correlation is 6/pi asin(rho/2)."""
    rng, rho, pairs = np.random.default_rng(2), 0.7, 60
    truth = 6 / np.pi * np.arcsin(rho / 2)
    x = rng.normal(size=(1000, pairs))
    y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=x.shape)
    ranks = [stats.rankdata(side, axis=1) for side in (x, y)]
    deviations = 6 * ((ranks[0] - ranks[1]) ** 2).sum(axis=1) / (pairs * (pairs**2 - 1))
    covered = [i.low <= truth <= i.high for i in (sts.interval(1 - d, pairs) for d in deviations)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.022)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb\t1\na\tb\n", r"pairs.tsv:2: expected sentence, sentence and score"),
        ("a\tb\thigh\n", r"pairs.tsv:1: expected"),
        ("a\tb\t1\nc\td\tnan\n", r"pairs.tsv:2: expected"),
        ("a\tb\t1\n" * 5, "two different scores"),
        ("a\tb\t1\nc\td\t2\n", "at least four pairs"),
    ],
)
def test_malformed_pairs(text, message, tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        sts.read(path)
    with pytest.raises(UserError, match="no such file"):
        sts.read(tmp_path / "missing.tsv")


def test_paraphrases_equal_the_librarys(model, encoders, tmp_path):
    rng = random.Random(3)
    groups = []
    for size in [2] * 8 + [3] * 3 + [1] * 10:
        words = sentence(rng, 6).split()
        groups.append([" ".join(rng.sample(words, 6)) for _ in range(size)])
    path = tmp_path / "groups.tsv"
    path.write_text("".join("\t".join(group) + "\n" for group in groups))
    sentences = [text for group in groups for text in group]
    pairs = [(a, b) for group in groups for a in group for b in group if a < b]
    theirs = ParaphraseMiningEvaluator({text: text for text in sentences}, pairs, write_csv=False)(model)
    found = paraphrases.measure(str(path), encoders["bert"], "float32")
    assert (found["sentences"], found["pairs"]) == (len(sentences), 8 + 9)
    assert found["mean"] == pytest.approx(theirs["average_precision"], abs=1e-6)
    assert found["low"] <= found["mean"] <= found["high"]


def test_precisions_by_hand():
    """Known pairs at ranks 1, 3 and 4, the last two at equal scores; a fourth was not mined."""
    mined = [[0.9, 0, 1], [0.8, 0, 2], [0.5, 1, 2], [0.5, 2, 3], [0.1, 0, 3]]
    found = paraphrases.precisions(mined, {(0, 1), (1, 2), (2, 3), (5, 6)})
    assert found.tolist() == [1.0, 0.75, 0.75, 0.0]


def test_malformed_paraphrases(tmp_path):
    path = tmp_path / "groups.tsv"
    path.write_text("a\tb\nc\td\ta\n")
    with pytest.raises(UserError, match=r"groups.tsv:2: 'a' occurs twice"):
        paraphrases.read(path)
    path.write_text("a\nb\n")
    with pytest.raises(UserError, match="no line has two"):
        paraphrases.read(path)
    path.write_text("a\tb\tc\n\nd\n")
    assert paraphrases.read(path) == (["a", "b", "c", "d"], {(0, 1), (0, 2), (1, 2)})


ODD = "one\u2028two\x85three\x0cfour\x0bfive\x1csix"
"""A sentence with characters that `str.splitlines` takes for ends of lines."""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lines_end_where_lines_end(tmp_path, end, encoding):
    path = tmp_path / "pairs.tsv"
    rows = [f"{ODD} {row}\tother {row}\t{row}" for row in range(4)]
    path.write_text(end.join(rows) + end, encoding=encoding, newline="")
    assert sts.read(path)[0] == [f"{ODD} {row}" for row in range(4)]
    path.write_text(end.join(rows[:2]) + end, encoding=encoding, newline="")
    assert paraphrases.read(path)[0] == [f"{ODD} 0", "other 0", "0", f"{ODD} 1", "other 1", "1"]


@pytest.mark.parametrize("read", [sts.read, paraphrases.read])
def test_bytes_of_another_encoding_are_named(tmp_path, read):
    path = tmp_path / "pairs.tsv"
    path.write_bytes("caf\u00e9\tbar\t1\n".encode("cp1252"))
    with pytest.raises(UserError, match=r"pairs\.tsv: byte 0xe9 at position 3 .* is not utf-8; save it as UTF-8"):
        read(path)
