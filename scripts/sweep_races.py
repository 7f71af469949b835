"""Start every act twice at the same moment in one folder: one works, the other waits or is told; the result is whole.

    python scripts/sweep_races.py --races 200 --seed 1 --json races.json

Half of the races are run as with ``--wait``. ``lost``: neither ends well, or the folder holds something else than after
an undisturbed act; ``silent``: one ends well before the result is there. The exit code is 1 if anything went wrong.
"""

from __future__ import annotations

import random
import shutil
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from sweep_kills import Reference, place, reference, same, world_in
from sweep_stages import ACTS, Act, World, small
from sweeping import Child, Table, sweep

from retrieval_distill.runtime import lock

BUSY = "is writing there"
"""What the one that comes second is told."""


def racing(act: Act, world: World, out: Path, waits: bool, start: float) -> Callable[[], Any]:
    """The act, begun at a moment of the clock."""

    def work() -> None:
        small()
        time.sleep(max(start - time.monotonic(), 0))
        with lock.waiting() if waits else nullcontext():
            act.make(world, out, out.parent / "log")

    return work


def race(act: Act, world: World, out: Path, expected: Reference, rng: random.Random) -> tuple[str, str]:
    """Two at once, the second a little later: how it ended, and what there is to say."""
    waits, start = rng.random() < 0.5, time.monotonic() + 0.1
    later = start + rng.choice([0, 0, 0.001, 0.01, rng.uniform(0, expected.seconds)])
    both = [Child(racing(act, world, out, waits, moment)) for moment in (start, later)]
    ends = [one.end(600) for one in both]
    told = "; ".join(f"{end.how}: {end.said}" for end in ends)
    for end in ends:
        if end.how in ("traceback", "hang", "killed"):
            return ("hang" if end.how == "hang" else "traceback"), told
    refused = [end for end in ends if end.how == "refused"]
    if len(refused) == 2 or (refused and (waits or BUSY not in refused[0].said)):
        return "lost", told
    if said := same(act, world, out, expected):
        return "lost", f"{said}; {told}"
    return ("refused", refused[0].said) if refused else ("both well", "")


def walk(chosen: Namespace, rng: random.Random, table: Table, root: Path) -> None:
    world = world_in(root)
    names = chosen.only or list(ACTS)
    expected: dict[str, Reference] = {}
    for number in range(chosen.count):
        name = rng.choices(names, [ACTS[name].weight for name in names])[0]
        act, own = ACTS[name], random.Random(rng.random())
        if name not in expected:
            expected[name] = reference(act, world, root, name)
        out = place(root, f"{name} {number}")
        table.add(name, *race(act, world, out, expected[name], own), f"race {number}")
        table.note(name, "rubbish", bool({path.name for path in out.parent.iterdir()} - expected[name].beside))
        shutil.rmtree(out.parent, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(sweep(__doc__ or "", "races", "stage", 60, ACTS, walk))
