"""Groups know positives by id; the schedule is whole, fair and fixed by its seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from retrieval_distill.config import parse_recipe
from retrieval_distill.data.relevance import with_relevant
from retrieval_distill.data.run import Run
from retrieval_distill.data.tokens import Tokens
from retrieval_distill.errors import UserError
from retrieval_distill.training.batches import Collator
from retrieval_distill.training.groups import Draw, Group, build_groups, schedule
from retrieval_distill.training.token_store import TokenizedTexts

QRELS = {"q1": {"b": 1}, "q2": {"x": 2, "y": 0}, "q3": {"z": 1}}


def test_a_relevant_document_that_was_not_found_is_added():
    found = Run.from_dict({"q1": {"a": 3.0, "b": 2.0}, "q2": {"y": 1.0}})
    merged = with_relevant(found, QRELS).as_dict()
    assert set(merged["q1"]) == {"a", "b"}
    assert set(merged["q2"]) == {"x", "y"}
    assert set(merged["q3"]) == {"z"}


def test_groups_carry_grades_by_id_whatever_the_order():
    scores = {"q1": {"a": 9.0, "b": 1.0, "c": 5.0}, "q3": {"z": 1.0}}
    groups = build_groups(Run.from_dict(scores), QRELS)
    assert len(groups) == 1  # q3 has nothing to compare with
    assert dict(zip(groups[0].doc_ids, groups[0].grades, strict=True)) == {"a": 0, "b": 1, "c": 0}
    assert dict(zip(groups[0].doc_ids, groups[0].scores, strict=True)) == scores["q1"]


def test_nothing_to_learn_from_is_an_error():
    with pytest.raises(UserError, match="no training query"):
        build_groups(Run.from_dict({"q3": {"z": 1.0}}), QRELS)


GROUPS = [
    Group(f"q{i}", tuple(f"d{i}{j}" for j in range(6)), tuple(range(6, 0, -1)), (0, 1, 0, 1, 0, 0)) for i in range(5)
]


def test_every_group_is_drawn_once_an_epoch():
    draws = schedule(GROUPS, steps=10, queries_per_step=2, candidates=3, seed=1)
    assert len(draws) == 20
    for start in range(0, 20, 5):
        assert Counter(draw.group for draw in draws[start : start + 5]) == Counter(range(5))


def test_a_draw_holds_one_relevant_and_distinct_others():
    for draw in schedule(GROUPS, steps=50, queries_per_step=4, candidates=4, seed=1):
        grades = [GROUPS[draw.group].grades[c] for c in draw.candidates]
        assert grades[0] > 0 and not any(grades[1:])
        assert len(set(draw.candidates)) == 4


def test_negatives_are_fresh_and_the_seed_fixes_them():
    draws = schedule(GROUPS, 20, 5, 3, seed=4)
    assert draws == schedule(GROUPS, 20, 5, 3, seed=4)
    assert draws != schedule(GROUPS, 20, 5, 3, seed=5)
    assert len({draw.candidates for draw in draws if draw.group == 0}) > 3


def test_a_longer_schedule_begins_like_a_shorter_one():
    assert schedule(GROUPS, 20, 5, 3, seed=4)[:50] == schedule(GROUPS, 10, 5, 3, seed=4)


def test_a_curriculum_goes_from_easy_to_hard():
    """One of the others is drawn each time: its expected rank is the documented weights' mean."""
    groups = [Group("q", tuple("abcde"), (5.0, 4.0, 3.0, 2.0, 1.0), (0, 0, 1, 0, 0))]
    ranks = {0: 0, 1: 1, 3: 2, 4: 3}  # among the others
    draws = schedule(groups, 6000, 1, 2, seed=2, easy_to_hard=True)
    drawn = [ranks[draw.candidates[1]] for draw in draws]
    for start, likeliest in ((0, 3), (5900, 0)):
        weights = [1 / (2 + abs(rank - likeliest)) for rank in range(4)]
        expected = sum(rank * weight for rank, weight in enumerate(weights)) / sum(weights)
        assert np.mean(drawn[start : start + 100]) == pytest.approx(expected, abs=0.4)  # 3.5 standard errors
    thirds = [np.mean(part) for part in np.array_split(drawn, 3)]
    assert thirds[0] > thirds[1] + 0.1 > thirds[2] + 0.2
    assert schedule(groups, 6000, 1, 2, seed=2, easy_to_hard=False) != draws


def test_stratified_draws_cover_the_range_of_scores():
    """Most others score low; in each third of their range one is drawn, any of the third's alike."""
    scores = (9.0, 6.0, 3.9, 3.8, 3.7, 1.5, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.0)
    group = [Group("q", tuple("abcdefghijklm"), scores, (0, 1, *[0] * 11))]  # of grade 1: b, which has 6
    draws = schedule(group, 3000, 1, 4, seed=0, stratified=True)
    assert draws == schedule(group, 3000, 1, 4, seed=0, stratified=True)
    thirds = [{0}, {2, 3, 4}, set(range(5, 13))]
    for draw in draws:
        assert draw.candidates[0] == 1
        assert [len(third & set(draw.candidates)) for third in thirds] == [1, 1, 1]
    counts = Counter(c for draw in draws for c in draw.candidates)
    assert all(abs(counts[c] - 1000) < 110 for c in thirds[1])  # 4 standard errors
    assert all(abs(counts[c] - 375) < 75 for c in thirds[2])


def test_stratified_draws_where_parts_are_empty():
    def drawn(scores, candidates):
        group = [Group("q", tuple(map(str, range(len(scores) + 1))), (5.0, *scores), (1, *[0] * len(scores)))]
        return [draw.candidates[1:] for draw in schedule(group, 200, 1, candidates, seed=3, stratified=True)]

    assert set(drawn((10.0, 1.0, 0.9, 0.0), 4)) == {(1, 2, 3), (1, 2, 4)}  # 10, one below 3.3, the nearest to 5
    assert Counter(drawn((10.0, 1.0, 0.9, 0.0), 4))[1, 2, 4] > 40
    assert set(drawn((3.0, 2.0), 6)) == {(1, 2)}  # fewer than asked for: all
    assert set(drawn((1.0, 1.0, 1.0), 3)) == {(1, 2), (1, 3), (2, 3)}  # all alike: any
    assert set(drawn((4.0, 2.0), 2)) == {(1,), (2,)}


def test_a_curriculum_is_not_stratified():
    with pytest.raises(UserError, match=r"training: easy_to_hard draws by rank: leave out draw=stratified or"):
        parse_recipe({"name": "x", "training": {"easy_to_hard": True, "draw": "stratified"}})


def test_batch_by_hand():
    groups = [Group("q1", ("a", "b", "c"), (3.0, 2.0, 1.0), (0, 2, 0)), Group("q2", ("b", "x"), (7.0, 6.0), (0, 1))]
    texts = TokenizedTexts(
        {id_: i for i, id_ in enumerate(["q1", "q2", "a", "b", "c", "x"])}, Tokens.from_rows([[i] for i in range(6)])
    )
    batch = Collator(groups, texts, texts, {"q1": {"b": 2, "x": 1, "far": 1}, "q2": {"x": 1}})(
        [Draw(0, (1, 0, 2)), Draw(1, (1, 0))]
    )
    assert [row.tolist() for row in batch["queries"]] == [[0], [1]]
    assert [row.tolist() for row in batch["documents"]] == [[3], [2], [4], [5]]  # b, a, c, x: each once
    assert batch["positions"].tolist() == [[0, 1, 2], [3, 0, 0]]
    assert batch["mask"].tolist() == [[True, True, True], [True, True, False]]
    assert batch["teacher"].tolist() == [[2.0, 3.0, 1.0], [6.0, 7.0, 0.0]]
    assert batch["labels"].tolist() == [[2.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    # x is relevant to q1 too, though it came into the step with q2
    assert batch["in_batch_labels"].tolist() == [[2.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]]
    assert batch["in_batch_labels"].dtype == torch.float32


def test_higher_ranked_negatives_are_likelier():
    group = [Group("q", tuple("abcdefghij"), tuple(np.arange(10.0, 0, -1)), (1, *[0] * 9))]
    counts = Counter(c for draw in schedule(group, 500, 1, 3, seed=0) for c in draw.candidates[1:])
    assert counts[1] > 2 * counts[9]
