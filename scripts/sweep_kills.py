"""Kill every act at any moment, run it again, and compare what it leaves with what an uninterrupted one leaves.

    python scripts/sweep_kills.py --kills 1000 --seed 1 --json kills.json
    python scripts/sweep_kills.py --kills 50 --only distill --only score

A kill comes before the n-th act upon files, or after some time, then also within a library's own code. ``lost``: the
act, run again, fails or leaves other files; ``doubled``: something was paid for twice beyond what was on its way to the
disk; ``silent``: a torn folder bears a manifest. Files that differ between two uninterrupted acts (clocks) are not
compared; they are named in the end. The exit code is 1 if anything went wrong.
"""

from __future__ import annotations

import random
import shutil
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sweep_stages
from sweep_stages import ACTS, Act, World
from sweeping import End, Table, child, files, sweep


@dataclass(frozen=True)
class Reference:
    """What an uninterrupted act leaves."""

    files: dict[str, str]
    clocks: tuple[str, ...]
    value: Any
    acts: int
    seconds: float
    beside: frozenset[str]
    paid: int


def work_of(act: Act, world: World, out: Path) -> Callable[[], Any]:
    """The act in a place, as a child does it."""

    def work() -> None:
        sweep_stages.small()
        act.make(world, out, out.parent / "log")

    return work


def opening(act: Act, world: World, out: Path) -> Callable[[], Any]:
    """What the place says, as a child finds it."""

    def work() -> Any:
        sweep_stages.small()
        return act.open(world, out)

    return work


def place(root: Path, name: str) -> Path:
    """A new folder for an act to work in."""
    folder = root / name.replace(" ", "-")
    folder.mkdir(parents=True)
    return folder / "out"


def whole(work: Callable[[], Any]) -> End:
    """Do something that has to succeed."""
    end = child(work, limit=600)
    if end.how != "done":
        raise SystemExit(f"an uninterrupted act ended as {end.how}: {end.said}")
    return end


def compared(out: Path, clocks: Sequence[str]) -> dict[str, str]:
    """The files that are compared: no clocks, no texts for people, and not what was put aside for the user."""
    return {
        name: hash_
        for name, hash_ in files(out).items()
        if name not in clocks and not name.endswith(".md") and ".aside/" not in name
    }


def reference(act: Act, world: World, root: Path, name: str) -> Reference:
    """Two uninterrupted acts: what they leave, and which files of it hold clocks."""
    first, out = (place(root, f"{name} {turn}") for turn in ("first", "whole"))
    whole(work_of(act, world, first))
    start = time.monotonic()
    end = whole(work_of(act, world, out))
    seconds = time.monotonic() - start
    one, other = files(first), files(out)
    clocks = tuple(name for name in {**one, **other} if one.get(name) != other.get(name))
    log = out.parent / "log"
    paid = len(log.read_text().splitlines()) if log.exists() else 0
    beside = frozenset(path.name for path in out.parent.iterdir()) | {"log"}
    return Reference(
        compared(out, clocks), clocks, whole(opening(act, world, out)).value, end.acts, seconds, beside, paid
    )


def same(act: Act, world: World, out: Path, expected: Reference) -> str:
    """What differs from the reference; empty: nothing."""
    if not act.alone:
        end = child(opening(act, world, out))
        return "" if end.how == "done" and end.value == expected.value else f"opened it says otherwise: {end}"
    found = compared(out, expected.clocks) if out.exists() else {}
    wrong = [name for name in {**found, **expected.files} if found.get(name) != expected.files.get(name)]
    return f"other files: {wrong[:10]}" if wrong else ""


def kill(act: Act, world: World, out: Path, expected: Reference, rng: random.Random) -> tuple[int, str]:
    """Kill the act once or several times; how often it was killed, and when, to be told."""
    kills, told = 0, []
    while kills == 0 or rng.random() < 0.25:
        at: dict[str, Any] = {"moment": rng.randint(1, expected.acts)}
        if rng.random() < 0.25:
            at = {"seconds": rng.uniform(0.001, expected.seconds)}
        end = child(work_of(act, world, out), **at, limit=600)
        told.append(f"{at} {end.how} {end.said}")
        if end.how != "killed":
            break
        kills += 1
    return kills, "; ".join(told)


def after(act: Act, world: World, out: Path, expected: Reference, kills: int) -> tuple[str, str, int]:
    """Run the act again: how that ended, what there is to say, and how much was paid for twice."""
    if act.alone and (out / "manifest.json").exists() and (said := same(act, world, out, expected)):
        return "silent", said, 0
    end = child(work_of(act, world, out), limit=600)
    if end.how != "done":
        return ("lost" if end.how == "refused" else end.how), end.said, 0
    if said := same(act, world, out, expected):
        return "lost", said, 0
    log = out.parent / "log"
    twice = (len(log.read_text().splitlines()) if log.exists() else 0) - expected.paid
    if twice > kills * act.batch:
        return "doubled", f"{twice} paid for twice after {kills} kills", twice
    return "resumed", "", twice


def world_in(root: Path) -> World:
    """What the acts need, made once."""
    world = World(root / "world")
    whole(world.make)
    return world


def walk(chosen: Namespace, rng: random.Random, table: Table, root: Path) -> None:
    world = world_in(root)
    names = chosen.only or list(ACTS)
    expected: dict[str, Reference] = {}
    total = 0
    while total < chosen.count:
        name = rng.choices(names, [ACTS[name].weight for name in names])[0]
        act, own = ACTS[name], random.Random(rng.random())
        if name not in expected:
            expected[name] = reference(act, world, root, name)
        out = place(root, f"{name} {total}")
        kills, told = kill(act, world, out, expected[name], own)
        total += kills
        if kills:
            how, said, twice = after(act, world, out, expected[name], kills)
            table.add(name, how, said, told)
            table.note(name, "kills", kills)
            table.note(name, "paid twice", twice)
            left = {path.name for path in out.parent.iterdir()} - expected[name].beside
            table.note(name, "rubbish", bool(left))
            if left:
                print(f"left beside {name}: {sorted(left)}: {told}", file=sys.stderr, flush=True)
        shutil.rmtree(out.parent, ignore_errors=True)
    for name, one in expected.items():
        if one.clocks:
            print(f"{name}: not compared, for they differ between uninterrupted acts: {', '.join(one.clocks)}")


if __name__ == "__main__":
    sys.exit(sweep(__doc__ or "", "kills", "stage", 200, ACTS, walk))
