"""Items of many callers in shared batches: each gets its own results, a small job need not wait for a large one."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest

from retrieval_distill.serving.batching import Batcher, QueueFullError


@asynccontextmanager
async def working(batcher: Batcher):
    task = asyncio.create_task(batcher.run())
    try:
        yield batcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_everyone_gets_their_own_results_in_order_and_batches_are_shared():
    batches: list[list[int]] = []

    def doubled(items):
        batches.append(items)
        return [2 * item for item in items]

    async def main():
        async with working(Batcher(8, 1000)) as batcher:
            jobs = [list(range(10 * job, 10 * job + job % 5 + 1)) for job in range(20)]
            found = await asyncio.gather(*(batcher(doubled, job) for job in jobs))
            assert found == [[2 * item for item in job] for job in jobs]
            assert await batcher(doubled, []) == []
            assert batcher.length == 0

    asyncio.run(main())
    assert max(map(len, batches)) == 8 and len(batches) < 20


def test_a_single_item_does_not_wait_for_a_thousand():
    done: list[str] = []

    async def main():
        async with working(Batcher(10, 10_000)) as batcher:

            async def job(name, items):
                await batcher(lambda_, items)
                done.append(name)

            await asyncio.gather(job("large", range(1000)), *(job(f"small {n}", [n]) for n in range(3)))

    def lambda_(items):
        return items

    asyncio.run(main())
    assert done[-1] == "large" and len(done) == 4


def test_other_functions_have_batches_of_their_own():
    async def main():
        async with working(Batcher(10, 100)) as batcher:
            found = await asyncio.gather(batcher(lambda items: ["a"] * len(items), [1, 2]), batcher(list, [3]))
            assert found == [["a", "a"], [3]]

    asyncio.run(main())


def test_more_than_may_wait_are_refused_with_a_time():
    go = threading.Event()

    def slow(items):
        go.wait()
        return items

    async def main():
        async with working(Batcher(2, 5)) as batcher:
            first = asyncio.create_task(batcher(slow, [1, 2, 3, 4]))
            await asyncio.sleep(0.01)
            with pytest.raises(QueueFullError) as refused:
                await batcher(slow, [5, 6])
            assert refused.value.seconds >= 1
            second = asyncio.create_task(batcher(slow, [7]))
            go.set()
            assert await first == [1, 2, 3, 4] and await second == [7]

    asyncio.run(main())


def test_a_job_that_fails_fails_alone():
    def inverse(items):
        return [1 / item for item in items]

    async def main():
        async with working(Batcher(10, 100)) as batcher:
            found = await asyncio.gather(*(batcher(inverse, job) for job in ([1], [0, 2], [4])), return_exceptions=True)
            assert found[0] == [1] and isinstance(found[1], ZeroDivisionError) and found[2] == [0.25]
            assert batcher.length == 0

    asyncio.run(main())


def test_items_of_a_caller_that_has_gone_are_not_worked_on():
    seen: list[int] = []
    go = threading.Event()

    def noting(items):
        go.wait()
        seen.extend(items)
        return items

    async def main():
        async with working(Batcher(1, 100)) as batcher:
            first = asyncio.create_task(batcher(noting, [1]))
            gone = asyncio.create_task(batcher(noting, [2, 3]))
            await asyncio.sleep(0.01)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            go.set()
            assert await first == [1] and await batcher(noting, [4]) == [4]

    asyncio.run(main())
    assert seen == [1, 4]
