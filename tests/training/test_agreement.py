"""Agreement with the teacher: numbers by hand, by other libraries, and of a student whose scores are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from retrieval_distill.config import StudentConfig
from retrieval_distill.data.dataset import Texts
from retrieval_distill.student import build
from retrieval_distill.training import agreement as module
from retrieval_distill.training import token_store
from retrieval_distill.training.agreement import Agreement, agreement
from retrieval_distill.training.batches import Collator
from retrieval_distill.training.groups import Group


def lists(*pairs):
    return [(np.array(student, float), np.array(teacher, float)) for student, teacher in pairs]


def test_by_hand():
    log2 = math.log(2)
    found = agreement(lists(([log2, 0, 0, -50], [log2, log2, 0, -50]), ([4, 3, 2, 1], [1, 2, 3, 4])))
    # softmax: student 1/2, 1/4, 1/4; teacher 2/5, 2/5, 1/5
    first = 0.4 * math.log(0.4 / 0.5) + 0.4 * math.log(0.4 / 0.25) + 0.2 * math.log(0.2 / 0.25)
    weights = np.exp(np.arange(4.0)) / np.exp(np.arange(4.0)).sum()
    second = float((weights * (np.arange(4.0) - np.arange(4.0)[::-1])).sum())
    assert found["agreement_kl"] == pytest.approx((first + second) / 2)
    # ranks with ties: student 4, 2.5, 2.5, 1; teacher 3.5, 3.5, 2, 1 -> 4 / 4.5 ... by Pearson: 3.75 / 4.5
    assert found["agreement_spearman"] == pytest.approx((3.75 / 4.5 - 1) / 2)
    assert found["agreement_top1"] == pytest.approx((1 + 0) / 2)
    assert found["agreement_top3"] == pytest.approx((1 + 2 / 3) / 2)


@given(
    st.lists(
        st.tuples(st.floats(-9, 9), st.floats(-9, 9)),
        min_size=4,
        max_size=9,
        unique_by=(lambda p: p[0], lambda p: p[1]),
    )
)
def test_by_other_libraries(pairs):
    student, teacher = (np.array(column) for column in zip(*pairs, strict=True))
    found = agreement([(student, teacher)])
    own, wanted = (torch.from_numpy(scores).log_softmax(0) for scores in (student, teacher))
    kl = torch.nn.functional.kl_div(own, wanted, reduction="sum", log_target=True)
    assert found["agreement_kl"] == pytest.approx(float(kl), abs=1e-12)
    pearson_of_ranks = stats.pearsonr(stats.rankdata(student), stats.rankdata(teacher)).statistic
    assert found["agreement_spearman"] == pytest.approx(pearson_of_ranks)


def test_lists_without_a_value_are_passed_over():
    found = agreement(lists(([1, 1, 1], [1, 2, 3]), ([2, 1, 0], [2, 1, 0])))
    assert found["agreement_spearman"] == pytest.approx(1.0)
    assert "agreement_top3" not in found  # every top of three is the whole list
    assert agreement(lists(([5, 5], [5, 5]))) == {"agreement_kl": 0.0, "agreement_top1": 1.0}


@pytest.fixture
def setting(encoders, dataset, tmp_path):
    student = build.build(StudentConfig(model=encoders["bert"], max_length=40))
    rng = np.random.default_rng(0)
    docs = dataset.documents.ids
    groups = [
        Group(
            query,
            tuple(docs[row : row + 4 + row % 2]),
            tuple(rng.normal(0, 3, 4 + row % 2)),
            (1, 0, 0, 0, 0)[: 4 + row % 2],
        )
        for row, query in enumerate(dataset.queries.ids[:7])
    ]

    def cut(texts: Texts, kind):
        return token_store.tokenize(student, texts, kind, 40, tmp_path / kind)

    collator = Collator(
        groups, cut(dataset.queries, "query"), cut(dataset.documents, "document"), {g.query_id: {} for g in groups}
    )
    return student, groups, collator


def test_of_a_student(setting, dataset, monkeypatch):
    """Its scores by the library's own encoding, every list whole, in pieces of two."""
    monkeypatch.setattr(module, "LISTS_AT_ONCE", 2)
    student, groups, collator = setting
    found = Agreement.sample(100, groups, collator, 20.0, None, seed=1)(student)
    expected = []
    for group in groups:
        query = student.encode_query(dataset.queries[group.query_id])
        expected.append(
            (20 * student.encode_document(dataset.documents.take(group.doc_ids)) @ query, np.array(group.scores))
        )
    assert found == pytest.approx(agreement(expected), rel=1e-4, abs=1e-5)


def test_the_sample_is_the_seeds(setting):
    _, groups, collator = setting
    drawn = [
        [draw.group for draw in Agreement.sample(count, groups, collator, 1.0, None, seed).lists]
        for count, seed in ((4, 1), (4, 1), (4, 2), (9, 1), (0, 1))
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert [len(rows) for rows in drawn] == [4, 4, 4, 7, 0]
    assert all(rows == sorted(set(rows)) for rows in drawn)
    assert Agreement.sample(0, groups, collator, 1.0, None, 1)(setting[0]) == {}
