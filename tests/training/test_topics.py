"""Batches of one topic: every query once an epoch, as pure as the topics' sizes allow, fixed by the seed."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_distill.errors import UserError
from retrieval_distill.training.groups import Group, schedule
from retrieval_distill.training.topics import by_topic, cluster, single_topic_share

TOPICS = st.lists(st.integers(0, 4), min_size=1, max_size=40).map(np.array)


def batches(topics: np.ndarray, size: int, count: int, seed: int = 0) -> list[list[int]]:
    order = list(islice(by_topic(topics, size, np.random.default_rng(seed)), size * count))
    return [order[start : start + size] for start in range(0, len(order), size)]


@given(TOPICS, st.integers(1, 7), st.integers(1, 4))
def test_every_query_once_an_epoch(topics, size, epochs):
    """But for those fewer than a batch that do not fill one; they open the next epoch."""
    drawn = Counter(query for batch in batches(topics, size, epochs * len(topics) // size) for query in batch)
    left = epochs * len(topics) % size
    assert sum(drawn.values()) == epochs * len(topics) - left
    counts = [drawn[query] for query in range(len(topics))]
    assert max(counts) <= epochs
    assert sum(epochs - count for count in counts) == left


@given(TOPICS, st.integers(1, 7))
def test_as_many_batches_of_one_topic_as_there_can_be(topics, size):
    first = batches(topics, size, len(topics) // size)
    pure = sum(len({topics[query] for query in batch}) == 1 for batch in first)
    possible = sum(count // size for count in Counter(topics.tolist()).values())
    assert pure >= possible  # left-overs of one topic may happen to meet
    assert single_topic_share(topics, size) == pytest.approx(possible * size / len(topics))


def test_the_seed_fixes_the_order_and_epochs_differ():
    topics = np.arange(40) % 4
    assert batches(topics, 5, 16, seed=1) == batches(topics, 5, 16, seed=1)
    assert batches(topics, 5, 16, seed=1) != batches(topics, 5, 16, seed=2)
    both = batches(topics, 5, 16)
    assert {frozenset(batch) for batch in both[:8]} != {frozenset(batch) for batch in both[8:]}
    assert [topics[batch[0]] for batch in both] != sorted(topics[batch[0]] for batch in both)  # topics alternate


def test_every_query_is_nearest_to_its_own_topics_mean():
    """What k-means ends with; and vectors that are all but equal share a topic."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(0, 1, (60, 8)), 2, axis=0).astype(np.float32)
    vectors[1::2] += 1e-4
    found = cluster(vectors, 5, seed=3)
    assert set(found.tolist()) == set(range(5))
    means = np.stack([vectors[found == topic].mean(axis=0) for topic in range(5)])
    assert (found == ((vectors[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)).all()
    assert (found[::2] == found[1::2]).all()
    assert (found == cluster(vectors, 5, seed=3)).all()


def test_more_topics_than_queries():
    with pytest.raises(UserError, match=r"training\.topics=5: there are only 3 texts"):
        cluster(np.eye(3, dtype=np.float32), 5, seed=0)


def test_a_schedule_by_topic():
    groups = [Group(f"q{i}", ("a", "b", "c"), (3.0, 2.0, 1.0), (1, 0, 0)) for i in range(24)]
    topics = np.arange(24) % 3
    order = partial(by_topic, topics, 4)
    draws = schedule(groups, steps=12, queries_per_step=4, candidates=2, seed=5, order=order)
    assert Counter(draw.group for draw in draws) == dict.fromkeys(range(24), 2)
    steps = [{topics[draw.group] for draw in draws[start : start + 4]} for start in range(0, 48, 4)]
    assert all(len(step) == 1 for step in steps)
    assert draws[:20] == schedule(groups, 5, 4, 2, 5, order)
