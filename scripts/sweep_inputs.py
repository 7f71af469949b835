"""Read damaged and hostile inputs: every one gives a result or a message, in little time and memory.

    python scripts/sweep_inputs.py --inputs 10000 --seed 1 --json inputs.json

One file of a reader's valid input is mutated (``sweep_mutations.py``), and all of it is read in a child with an alarm and
a limit of memory. ``traceback``: another exception than ``UserError``; ``hang``: more than the seconds allowed;
``silent``: something else was read than before although the change must be noticed (a flipped byte in a file with
checksums, a TREC line that was cut). Inputs that went wrong are kept in ``--keep``. The exit code is 1 if any did.
"""

from __future__ import annotations

import hashlib
import pickle
import random
import shutil
import signal
import sys
import traceback
from argparse import Namespace
from pathlib import Path

import sweep_stages
from sweep_kills import whole, world_in
from sweep_mutations import mutated
from sweep_readers import Reader, readers
from sweeping import BAD, Table, child, is_refusal, sweep

SECONDS, MEMORY, BATCH = 20.0, 2 << 30, 40
"""Allowed for one input, and how many are read by one child."""

NAMES = (
    "beir", "jsonl", "csv", "parquet", "hugging-face", "ms-marco", "training table, parquet", "training table, jsonl",
    "training table, csv", "tsv", "trec judgements", "zip", "tar", "tar.gz", "texts", "run, trec", "run, parquet",
    "scores, trec", "scores, parquet", "scores, jsonl", "sentence pairs", "paraphrases", "recipe", "where", "set, 1",
    "set, 2", "set, 3", "answer, log-odds", "answer, graded", "answer, queries", "bi-encoder", "cross-encoder",
)  # fmt: skip


def lay(files: dict[str, bytes], folder: Path) -> None:
    """Write the files of an input."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def seen(reader: Reader, files: dict[str, bytes], folder: Path) -> str:
    """A hash of what is read; a value that cannot be shown is an error of the reader."""
    lay(files, folder / "in")
    shutil.rmtree(folder / "made", ignore_errors=True)
    return hashlib.sha256(repr(reader.read(folder / "in")).encode("utf-8", "surrogatepass")).hexdigest()


def case(reader: Reader, seed: float) -> tuple[str, str, dict[str, bytes], bool]:
    """A mutated input: which file, what was done, all files, and whether the same must be read, or it be refused."""
    rng = random.Random(seed)
    files = dict(reader.files)
    name = rng.choice(sorted(files))
    how, data = mutated(rng, files[name])
    changed = data != files[name]
    return name, how, {**files, name: data}, changed and reader.exact(how, data)


def read_all(
    all_: dict[str, Reader], cases: list[tuple[str, float]], before: dict[str, str], folder: Path, told: Path
) -> None:
    """Read inputs one after the other, and tell how each ended as it ends."""
    sweep_stages.small()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with told.open("ab") as out:
        for name, seed in cases:
            _, _, files, exact = case(all_[name], seed)
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            how, said = ended(all_[name], files, folder, before[name] if exact else None)
            signal.setitimer(signal.ITIMER_REAL, 0)
            pickle.dump((how, said), out)
            out.flush()


def ended(reader: Reader, files: dict[str, bytes], folder: Path, expected: str | None) -> tuple[str, str]:
    """How reading ends."""
    try:
        found = seen(reader, files, folder)
    except BaseException as error:
        if is_refusal(error):
            return "refused", str(error)
        return "traceback", traceback.format_exc()
    return ("silent", "other values") if expected not in (None, found) else ("read", "")


def results(told: Path) -> list[tuple[str, str]]:
    """What a child told before it ended."""
    found = []
    with told.open("rb") as lines:
        try:
            while True:
                found.append(pickle.load(lines))
        except (EOFError, pickle.UnpicklingError):
            return found


def keep(reader: Reader, seed: float, folder: Path) -> str:
    """Keep an input that went wrong; what it is, to be told."""
    name, how, files, _ = case(reader, seed)
    lay(files, folder)
    return f"{folder.name}: {name} {how}"


def walk(chosen: Namespace, rng: random.Random, table: Table, root: Path) -> None:
    world = world_in(root)
    all_ = readers(world, root / "valid")
    names = chosen.only or list(all_)
    before = {
        name: whole(lambda name=name: seen(all_[name], dict(all_[name].files), root / "case")).value for name in names
    }
    weights = [all_[name].weight for name in names]
    cases = [(rng.choices(names, weights)[0], rng.random()) for _ in range(chosen.count)]
    next_, told = 0, root / "told"
    while next_ < len(cases):
        batch = cases[next_ : next_ + BATCH]
        told.write_bytes(b"")
        end = child(lambda: read_all(all_, batch, before, root / "case", told), limit=SECONDS * BATCH, memory=MEMORY)  # noqa: B023
        found = results(told)
        if len(found) < len(batch):
            found.append(
                ("hang", f"more than {SECONDS:g} s") if end.how in ("killed", "hang") else ("traceback", end.said)
            )
        for (name, seed), (how, said) in zip(batch, found, strict=False):
            wrong = (
                keep(all_[name], seed, root / "kept" / f"{len(table.faults)}-{name.replace(', ', '-')}")
                if how in BAD
                else ""
            )
            table.add(name, how, said, wrong)
        next_ += len(found)


if __name__ == "__main__":
    sys.exit(sweep(__doc__ or "", "inputs", "reader", 2000, NAMES, walk))
