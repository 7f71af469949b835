"""Batches in shares: exact where they are whole numbers, else never off by one; every query once an epoch of its own."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_distill.config import TrainingConfig, parse_recipe
from retrieval_distill.errors import UserError
from retrieval_distill.training import plan
from retrieval_distill.training.groups import Group, schedule
from retrieval_distill.training.query_order import order, stream_shares, take_turns

WEIGHTS = st.lists(st.floats(0.01, 1), min_size=1, max_size=7).map(np.array)


@given(WEIGHTS)
def test_every_stream_has_had_its_share_at_all_times(weights):
    of_streams = weights / weights.sum()
    had = np.zeros(len(weights))
    for turn, stream in enumerate(islice(take_turns(of_streams), 300), 1):
        had[stream] += 1
        assert np.abs(had - turn * of_streams).max() < 1


def test_shares_by_hand():
    sizes = np.array([100, 400])
    assert stream_shares(sizes, [1, 1], 1) == pytest.approx([0.2, 0.8])
    assert stream_shares(sizes, [1, 1], 0.5) == pytest.approx([1 / 3, 2 / 3])  # 10 to 20
    assert stream_shares(sizes, [1, 1], 0) == pytest.approx([0.5, 0.5])
    assert stream_shares(sizes, [6, 1], 0.5) == pytest.approx([0.75, 0.25])  # 60 to 20


SOURCES = np.repeat([0, 1, 2], [90, 40, 10])


def batches(config: dict, of_sources: list[float], size: int, count: int, topics=None, seed=0) -> list[list[int]]:
    draw = order(SOURCES, np.array(of_sources), topics, TrainingConfig(**config), size)
    rows = list(islice(draw(np.random.default_rng(seed)), size * count))
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def test_a_batch_holds_every_datasets_share_exactly():
    """8 queries in shares of a half, a quarter and a quarter: 4, 2 and 2, though sizes are 90, 40 and 10."""
    for batch in batches({}, [0.5, 0.25, 0.25], 8, 50):
        assert Counter(SOURCES[batch].tolist()) == {0: 4, 1: 2, 2: 2}


def test_batches_of_one_dataset_come_in_their_shares():
    found = [set(SOURCES[batch].tolist()) for batch in batches({"dataset_batches": "one"}, [0.6, 0.3, 0.1], 4, 100)]
    assert all(len(of) == 1 for of in found)
    assert Counter(of.pop() for of in found) == {0: 60, 1: 30, 2: 10}


@pytest.mark.parametrize("config", [{}, {"dataset_batches": "one"}])
def test_every_query_once_in_an_epoch_of_its_dataset(config):
    """A small dataset with a large share is gone through often, and evenly."""
    drawn = Counter(row for batch in batches(config, [0.5, 0.25, 0.25], 4, 400) for row in batch)
    for source in range(3):
        counts = [drawn[row] for row in np.flatnonzero(source == SOURCES)]
        assert max(counts) - min(counts) <= 1


def test_every_topic_has_as_many_places_of_a_batch():
    topics = np.random.default_rng(0).choice(4, 140, p=[0.7, 0.1, 0.1, 0.1])
    config = {"topics": 4, "topic_batches": "even", "dataset_batches": "one"}
    for batch in batches(config, [0.5, 0.3, 0.2], 8, 30, topics):
        there = np.unique(topics[SOURCES[batch[0]] == SOURCES])
        counts = Counter(topics[batch].tolist())
        if len(there) == 4:
            assert counts == dict.fromkeys(range(4), 2)
        assert set(counts) == set(there.tolist())


def test_one_topic_of_one_dataset():
    topics = np.arange(140) % 2
    config = {"topics": 2, "dataset_batches": "one"}
    for batch in batches(config, [0.5, 0.4, 0.1], 5, 60, topics):
        assert len({(SOURCES[row], topics[row]) for row in batch}) == 1


GROUPS = [Group(f"{name}/q{i}", ("x", "y"), (2.0, 1.0), (1, 0)) for name, n in (("a", 30), ("b", 6)) for i in range(n)]


def recipe(**training):
    sources = {"a": {"source": "x"}, "b": {"source": "y", "weight": 2}}
    return parse_recipe(
        {"name": "mix", "datasets": sources, "training": {"steps": 5, "queries_per_step": 7, **training}}
    )


def drawn(tmp_path, **training):
    return plan.schedule_draws(None, GROUPS, QUERIES, recipe(**training), tmp_path)


class Queries:
    """Stands for texts that only topics would need."""

    def select(self, ids):
        return self


QUERIES = Queries()


def test_the_recipes_weights_and_a_longer_training_begins_like_a_shorter_one(tmp_path):
    """30 and 6 queries, the latter with weight 2: 30 to 12, of 7 places 5 and 2."""
    short, long = drawn(tmp_path), drawn(tmp_path, steps=50)
    assert len(short) == 35 and long[:35] == short == drawn(tmp_path)
    for start in range(0, len(long), 7):
        names = Counter(GROUPS[draw.group].query_id[0] for draw in long[start : start + 7])
        assert names == {"a": 5, "b": 2}
    even = drawn(tmp_path, dataset_exponent=0, steps=6)  # weights alone: 1 to 2
    assert Counter(GROUPS[draw.group].query_id[0] for draw in even) == {"a": 14, "b": 28}


def test_one_dataset_is_shuffled_as_ever(tmp_path):
    alone = parse_recipe({"name": "one", "training": {"steps": 5, "queries_per_step": 7}})
    assert plan.schedule_draws(None, GROUPS, QUERIES, alone, tmp_path) == schedule(GROUPS, 5, 7, 6, alone.seed)


def test_a_query_of_no_dataset(tmp_path):
    stray = [*GROUPS, Group("c/q", ("x", "y"), (2.0, 1.0), (1, 0))]
    with pytest.raises(UserError, match="'c/q' belongs to none of the recipe's datasets"):
        plan.schedule_draws(None, stray, QUERIES, recipe(), tmp_path)


def test_options_that_do_not_go_together():
    with pytest.raises(UserError, match=r"batches of one topic need training\.dataset_batches=one"):
        recipe(topics=3)
    recipe(topics=3, topic_batches="even")
    with pytest.raises(UserError, match="would mix the datasets' documents"):
        parse_recipe({"name": "x", "datasets": {"a": {"source": "x"}}, "mining": {"draw": {"top": 1, "random": 1}}})
    with pytest.raises(UserError, match="beside datasets"):
        parse_recipe({"name": "x", "dataset": {"source": "y"}, "datasets": {"a": {"source": "x"}}})
    with pytest.raises(UserError, match="did you mean 'source'"):
        parse_recipe({"name": "x", "datasets": {"a": {"sourc": "x"}}})
