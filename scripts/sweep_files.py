"""Alter, cut, empty or remove a file of every finished act, then open it and run the act again.

    python scripts/sweep_files.py --files 500 --seed 1 --json files.json

Checkpoints of trainings that were killed are altered too, before the training goes on. A file is altered as a failing
disk would do it: with the time it had. ``refused``: a message names the defect; ``healed``: the act, run again, leaves
what it had left; ``silent``: the altered file was used, for what is opened, or left, is something else. Files for
people (``.md``), which may be edited, and TREC runs, which have no checksum, are left alone. The exit code is 1 if anything went wrong.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from argparse import Namespace
from pathlib import Path

from sweep_kills import Reference, opening, place, reference, same, work_of, world_in
from sweep_stages import ACTS, Act, World
from sweeping import End, Table, child, sweep

HOW = ("flipped", "flipped", "cut", "emptied", "removed", "lengthened")

TRAININGS = ("distill", "compress", "fit-teacher")

CHECKPOINT = "checkpoint of "

ROWS = (*ACTS, *(CHECKPOINT + name for name in TRAININGS))

UNGUARDED = (".md", ".trec")
"""Endings of files that may be edited, and of a public format that has no checksum (a cut one is an input)."""


def alter(path: Path, how: str, rng: random.Random) -> None:
    """Do it to a file, which keeps its time."""
    seen, data = path.stat(), bytearray(path.read_bytes())
    if how == "removed":
        path.unlink()
        return
    if how == "flipped" and data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == "cut":
        del data[rng.randrange(len(data) or 1) :]
    elif how == "emptied":
        data.clear()
    else:
        data += data[:64] or b"x"
    path.write_bytes(data)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def victims(out: Path, checkpoint: bool) -> list[Path]:
    """The files that may be altered."""
    folders = sorted(out.parent.glob("out.partial/checkpoint*")) if checkpoint else [out]
    found = (path for folder in folders for path in sorted(folder.rglob("*")))
    return [path for path in found if path.is_file() and path.suffix not in UNGUARDED and path.stat().st_size]


def interrupted(act: Act, world: World, root: Path, name: str, acts: int) -> Path:
    """A training that was killed after a checkpoint."""
    for moment in range(acts // 2, acts, 5):
        out = place(root, f"{name} killed at {moment}")
        end = child(work_of(act, world, out), moment, limit=600)
        if end.how == "killed" and victims(out, True):
            return out
    raise SystemExit(f"{name}: no checkpoint was left at any moment")


def judged(end: End, expected: Reference, what: str) -> tuple[str, str]:
    """How opening ended."""
    if end.how != "done":
        return end.how, f"{what}: {end.said}"
    return ("as before", "") if end.value == expected.value else ("silent", f"{what}: it says {str(end.value)[:300]}")


def tried(act: Act, world: World, out: Path, expected: Reference, checkpoint: bool) -> list[tuple[str, str]]:
    """Open what was altered, and do the act again: how each ended, with what there is to say."""
    ends = [] if checkpoint else [judged(child(opening(act, world, out), memory=4 << 30), expected, "opened")]
    again = child(work_of(act, world, out), limit=600)
    if again.how != "done":
        ends.append((again.how, f"run again: {again.said}"))
    elif said := same(act, world, out, expected):
        ends.append(("silent", f"run again: {said}"))
    else:
        ends.append(("healed", ""))
    return ends


def walk(chosen: Namespace, rng: random.Random, table: Table, root: Path) -> None:
    world = world_in(root)
    expected: dict[str, Reference] = {}
    finished: dict[str, Path] = {}
    for number in range(chosen.count):
        name = rng.choices(
            sorted(chosen.only or ROWS),
            [ACTS[name.removeprefix(CHECKPOINT)].weight for name in sorted(chosen.only or ROWS)],
        )[0]
        own, checkpoint, of = random.Random(rng.random()), name.startswith(CHECKPOINT), name.removeprefix(CHECKPOINT)
        act = ACTS[of]
        if of not in expected:
            expected[of] = reference(act, world, root, of)
            finished[of] = root / f"{of} whole".replace(" ", "-") / "out"
        if name not in finished:
            finished[name] = interrupted(act, world, root, of, expected[of].acts)
        folder = root / f"case-{number}"
        shutil.copytree(finished[name].parent, folder)
        out = folder / "out"
        path, how = own.choice(victims(out, checkpoint)), own.choice(HOW)
        alter(path, how, own)
        for end, said in tried(act, world, out, expected[of], checkpoint):
            table.add(name, end, said, f"case {number}: {path.relative_to(folder)} {how}")
        table.note(name, "files")
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(sweep(__doc__ or "", "files", "stage", 120, ROWS, walk))
