"""Children of a warm process that work, are killed, hang or fail, and tables of how they ended.

A child is a fork: it starts in milliseconds, with everything imported. Knows processes and counts; must not know what
a child does. Nothing but the standard library is imported, so that tests can use it too.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import pickle
import random
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

ACTS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}

WRITES = os.O_WRONLY | os.O_RDWR

BAD = ("lost", "doubled", "silent", "traceback", "hang")
"""What may not happen: one of these fails a sweep."""

_acts = 0


def done() -> int:
    """How many acts upon files this child has done."""
    return _acts


@dataclass(frozen=True)
class End:
    """How a child ended: ``how`` is ``done``, ``refused``, ``traceback``, ``killed`` or ``hang``."""

    how: str
    said: str = ""
    """The message of a refusal, or the traceback."""
    value: Any = None
    acts: int = 0


def child(
    work: Callable[[], Any],
    moment: int | None = None,
    seconds: float | None = None,
    limit: float = 120.0,
    memory: int | None = None,
    quiet: bool = True,
) -> End:
    """Run ``work`` in a child.

    Args:
        work: What to do; its value is handed back by pickle.
        moment: Kill it before this act upon files: a file opened to be written, a sync, a rename, a removal, a new
            folder. So every state that a kill can leave behind is met, whatever the clock does; ``None``: never.
        seconds: Kill it after this time, also within a library's native code; ``None``: never.
        limit: Seconds after which it hangs.
        memory: Bytes of address space on top of what is there; ``None``: as much as it likes.
        quiet: Whether what it prints is dropped.
    """
    return Child(work, moment, seconds, memory, quiet).end(limit)


class Child:
    """A child at work; see :func:`child`."""

    def __init__(
        self,
        work: Callable[[], Any],
        moment: int | None = None,
        seconds: float | None = None,
        memory: int | None = None,
        quiet: bool = True,
    ) -> None:
        self._reading, writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        gc.freeze()  # else every stage in a child would walk, and so copy, the libraries' own objects
        self._start = time.monotonic()
        self.number = os.fork()
        if self.number == 0:
            os.close(self._reading)
            _work(work, writing, moment, seconds, memory, quiet)
        os.close(writing)

    def end(self, limit: float = 120.0) -> End:
        """Wait for it, and stop it once ``limit`` seconds have passed since its start."""
        told, hung = b"", False
        while True:
            left = self._start + limit - time.monotonic()
            if not select.select([self._reading], [], [], max(left, 0))[0]:
                os.kill(self.number, signal.SIGKILL)
                hung = True
                break
            if not (part := os.read(self._reading, 1 << 20)):
                break
            told += part
        os.close(self._reading)
        _, status = os.waitpid(self.number, 0)
        if hung:
            return End("hang", f"more than {limit:g} s")
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number in (signal.SIGKILL, signal.SIGALRM):
                return End("killed")
            return End("traceback", f"the process died of {signal.Signals(number).name}")
        return pickle.loads(told) if told else End("traceback", f"the process ended with status {status}")


def _work(
    work: Callable[[], Any], writing: int, moment: int | None, seconds: float | None, memory: int | None, quiet: bool
) -> None:
    """All of a child's life."""
    if quiet:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
    if memory is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    if seconds is not None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
    _count_acts(moment)
    try:
        value = work()
        end = End("done", "", value, _acts)
    except BaseException as error:
        how = "refused" if is_refusal(error) else "traceback"
        end = End(how, str(error) if how == "refused" else traceback.format_exc(), None, _acts)
        if not quiet and how == "traceback":
            traceback.print_exc()
    with os.fdopen(writing, "wb") as out:
        out.write(pickle.dumps(end))
    os._exit(0)


def is_refusal(error: BaseException) -> bool:
    """Whether an exception is a message for the user, told by its name: nothing of the package is imported here."""
    return any(kind.__name__ == "UserError" for kind in type(error).__mro__)


def _count_acts(moment: int | None) -> None:
    def count() -> None:
        global _acts
        _acts += 1
        if _acts == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, given: tuple) -> None:
        if event in ACTS or (event == "open" and isinstance(given[2], int) and given[2] & WRITES):
            count()

    def fsync(handle: Any) -> None:
        count()
        real(handle)

    real, os.fsync = os.fsync, fsync
    sys.addaudithook(hook)


def attempt(work: Callable[[], Any], moment: int | None = None) -> int | None:
    """Run ``work`` in a child that has to succeed, or to be killed before its ``moment``-th act.

    Returns:
        How many acts it did, or ``None`` if it was killed.
    """
    end = child(work, moment, limit=600, quiet=False)
    assert end.how in ("done", "killed"), end.said
    return end.acts if end.how == "done" else None


def files(folder: Path, *left_out: str) -> dict[str, str]:
    """Hash of every file of a folder by name; the manifest, which holds times, hidden files and these are left out."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith(".") and path.name not in ("manifest.json", *left_out):
            hashes[str(path.relative_to(folder))] = sha256(path.read_bytes()).hexdigest()
    return hashes


class Table:
    """Counts by row (a stage, a reader) and by what happened, the messages of refusals, and what went wrong."""

    def __init__(self, what: str, seed: int) -> None:
        self.what, self.seed = what, seed
        self.rows: dict[str, Counter[str]] = defaultdict(Counter)
        self.messages: dict[str, Counter[str]] = defaultdict(Counter)
        self.faults: list[dict[str, Any]] = []
        self._start = time.monotonic()

    def add(self, row: str, how: str, said: str = "", case: str = "") -> None:
        """Count a case; ``case`` names one that went wrong, so that it can be tried again."""
        self.rows[row]["tried"] += 1
        self.rows[row][how] += 1
        if (tried := sum(counts["tried"] for counts in self.rows.values())) % 100 == 0:
            print(
                f"{tried:,} tried, {self.bad} wrong, {time.monotonic() - self._start:.0f} s",
                file=sys.stderr,
                flush=True,
            )
        if how == "refused":
            self.messages[row][kind_of(said)] += 1
        if how in BAD:
            self.faults.append({"row": row, "how": how, "case": case, "said": said[-3000:]})
            print(f"{how.upper()} {row}: {case}: {said[-1500:]}", file=sys.stderr, flush=True)

    def note(self, row: str, what: str, count: int = 1) -> None:
        """Count something beside the cases."""
        self.rows[row][what] += count

    @property
    def bad(self) -> int:
        """How many cases went wrong."""
        return sum(counts[how] for counts in self.rows.values() for how in BAD)

    def text(self) -> str:
        """The table, its total and the messages."""
        seen = dict.fromkeys(how for counts in self.rows.values() for how in counts)
        columns = [how for how in dict.fromkeys(["tried", *seen, *BAD]) if how not in BAD] + list(BAD)
        total = sum(self.rows.values(), Counter())
        lines = [f"| {self.what} | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
        for name, counts in [*sorted(self.rows.items()), ("all", total)]:
            lines.append(f"| {name} | " + " | ".join(f"{counts[how]:,}" for how in columns) + " |")
        seconds = time.monotonic() - self._start
        lines.append(f"\nseed {self.seed}, {seconds:.0f} s, {total['tried'] / max(seconds, 1e-9):.1f} a second\n")
        for name, messages in sorted(self.messages.items()):
            lines += [f"{name}: {count:,} x {said}" for said, count in messages.most_common(8)]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "what": self.what, "seed": self.seed, "seconds": round(time.monotonic() - self._start, 1),
            "rows": {name: dict(counts) for name, counts in sorted(self.rows.items())},
            "messages": {name: dict(counts.most_common()) for name, counts in sorted(self.messages.items())},
            "faults": self.faults,
        }  # fmt: skip

    def finish(self, path: str | None) -> int:
        """Print it, write it to ``path``, and give the exit code."""
        print(self.text(), flush=True)
        if path:
            Path(path).write_text(json.dumps(self.as_dict(), indent=1, ensure_ascii=True) + "\n", encoding="utf-8")
        return int(self.bad > 0)


def kind_of(said: str) -> str:
    """A message without what differs from case to case: paths, quoted values and numbers."""
    said = said.encode("ascii", "backslashreplace").decode().splitlines()[0] if said else ""
    said = re.sub(r"(?<![\w'])/[^\s:;,']+", "PATH", said)
    said = re.sub(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", "'...'", said)
    return re.sub(r"\d[\d,.]*", "N", said)[:140]


def options(about: str, what: str, count: int, names: Iterable[str]) -> argparse.Namespace:
    """What every sweep's command line has.

    Args:
        about: The script's docstring.
        what: The option that says how many cases there are, such as ``kills``.
        count: Its default.
        names: The rows that can be chosen.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(f"--{what}", type=int, default=count, dest="count", help=f"how many (default {count:,})")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn")
    parser.add_argument("--only", action="append", choices=sorted(names), help="these alone; may be repeated")
    parser.add_argument("--work", help="folder to work in; default: a temporary one, which is removed")
    parser.add_argument("--json", help="write the table here too")
    return parser.parse_args()


def sweep(
    about: str,
    what: str,
    row: str,
    count: int,
    names: Iterable[str],
    walk: Callable[[argparse.Namespace, random.Random, Table, Path], None],
) -> int:
    """A whole sweep, from its command line to its exit code.

    Args:
        about: The script's docstring.
        what: What is counted, such as ``kills``: the option that says how many cases there are.
        row: What a row of the table is, such as ``stage``.
        count: How many cases there are by default.
        names: The rows that can be chosen.
        walk: Tries the cases in a folder, and counts them in the table.
    """
    chosen = options(about, what, count, names)
    root, table = Path(chosen.work or tempfile.mkdtemp(prefix=f"sweep-{what}-")), Table(row, chosen.seed)
    walk(chosen, random.Random(chosen.seed), table, root)
    if not chosen.work:
        shutil.rmtree(root, ignore_errors=True)
    return table.finish(chosen.json)
