"""Overlapping work keeps its order, its bounds and its errors."""

from __future__ import annotations

import threading
import time

import pytest

from retrieval_distill.runtime.parallel import map_in_order


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(threads):
    def work(item):
        time.sleep(0.002 * (item % 3))  # later items finish first
        return item * item

    assert list(map_in_order(work, range(30), threads)) == [item * item for item in range(30)]


def test_no_more_than_so_many_at_a_time_and_in_the_making():
    running, most, taken, lock = 0, 0, 0, threading.Lock()

    def work(item):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.003)
        with lock:
            running -= 1
        return item

    def items():
        nonlocal taken
        for item in range(40):
            taken += 1
            yield item

    ahead = 0
    for number, _ in enumerate(map_in_order(work, items(), 3)):
        ahead = max(ahead, taken - number)
        time.sleep(0.001)
    assert most == 3
    assert ahead <= 2 * 3 + 1


def test_an_error_is_raised_where_it_belongs_and_the_rest_is_not_started():
    started = []

    def work(item):
        started.append(item)
        if item == 4:
            raise ValueError("four")
        return item

    found = map_in_order(work, range(1000), 2)
    assert [next(found) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="four"):
        next(found)
    assert len(started) < 12


def test_one_thread_is_the_callers_own():
    assert list(map_in_order(lambda _: threading.get_ident(), range(2), 1)) == [threading.get_ident()] * 2
