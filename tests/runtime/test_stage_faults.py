"""Stages under kills, power cuts, damage, full disks and rivals: a result is whole or made again, and nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import stat
from pathlib import Path

import pytest

from retrieval_distill.errors import UserError
from retrieval_distill.runtime import files, lock, manifests, stages
from tests import programs
from tests.commands import command

ROOT = Path(__file__).parents[2]

WORK = {
    "a": {"corpus.txt": "of a", "qrels/train.txt": "1", "qrels/test.txt": "2", "only-a.txt": "a"},
    "b": {"corpus.txt": "of b", "qrels/train.txt": "3", "deep/er/only-b.txt": "b"},
}


def made(folder: Path, option: str, **others) -> stages.Manifest:
    """The stage with one of two options, each of which leaves other files."""

    def work(out: Path) -> dict:
        for name, text in WORK[option].items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(text)
        return {"files": len(WORK[option])}

    return stages.stage("try", folder, {"option": option}, work, **others)


def whole(folder: Path, option: str) -> bool:
    """Whether a folder holds the files of an option, all of them and no others."""
    there = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}
    return {name: text for name, text in there.items() if name not in manifests.BOOKKEEPING} == WORK[option]


KILLED = """
import json, os, signal, sys
from pathlib import Path
from tests.runtime.test_stage_faults import made, whole

root, counts, os.fsync = Path(sys.argv[1]), {}, lambda handle: None

def killed(number, act):
    # runs `act` in a child that dies at the n-th event of the file system; whether it died
    if (child := os.fork()) == 0:
        left = [number]
        def hook(event, arguments):
            if event.split(".")[0] in ("os", "open", "shutil"):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        act()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    return os.WIFSIGNALED(status)

for step in (1, 2):
    number, died = 1, True
    while died:
        folder = root / f"{step}-{number}" / "out"
        made(folder, "a")
        if step == 1:  # B is killed anywhere while it replaces A
            died = killed(number, lambda: made(folder, "b"))
        else:  # B is killed at work; A again is killed anywhere, also while it removes what B left
            killed(30, lambda: made(folder, "b"))
            (folder / "only-a.txt").unlink()
            died = killed(number, lambda: made(folder, "a"))
        assert not folder.exists() or step == 2 or whole(folder, "a") or whole(folder, "b"), (step, number)
        for option in "aba":
            made(folder, option)
            assert whole(folder, option), (step, number, option)
        left = sorted(path.name for path in folder.parent.iterdir())
        assert left == ["out"], (step, number, left)
        number += 9
    counts[step] = number
print(json.dumps(counts))
"""


def test_killed_at_any_moment_and_run_again(tmp_path):
    done = programs.run("-c", KILLED, tmp_path)
    assert done.returncode == 0, done.stderr
    assert min(json.loads(done.stdout).values()) > 60  # moments between the start and the end


class Disk:
    """What would be left after a power cut: the names and bytes that were synced, and nothing else."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.bytes, self.names = root, {}, {}
        self.cuts: list[tuple[dict, dict]] = []
        self._real = os.fsync
        monkeypatch.setattr(os, "fsync", self.fsync)
        self.fsync_folder(root)

    def fsync(self, handle: int) -> None:
        self._real(handle)
        seen, path = os.fstat(handle), Path(f"/proc/self/fd/{handle}").readlink()
        if stat.S_ISDIR(seen.st_mode):
            self.fsync_folder(path)
        else:
            self.bytes[seen.st_ino] = path.read_bytes()
        self.cuts.append((dict(self.bytes), {number: dict(names) for number, names in self.names.items()}))

    def fsync_folder(self, path: Path) -> None:
        self.names[path.stat().st_ino] = {entry.name: entry.inode() for entry in os.scandir(path)}

    def after_a_cut(self, cut: tuple[dict, dict], into: Path) -> Path:
        """The disk as it would be found again."""
        contents, names = cut

        def restore(number: int, path: Path) -> None:
            if number in names:
                path.mkdir()
                for name, inner in names[number].items():
                    restore(inner, path / name)
            elif number in contents:
                path.write_bytes(contents[number])
            else:
                path.touch()  # its name was written, its bytes were not

        restore(self.root.stat().st_ino, into)
        return into


def test_a_power_cut_after_the_commit_loses_nothing(tmp_path, monkeypatch):
    root = tmp_path / "disk"
    root.mkdir()
    disk = Disk(root, monkeypatch)
    made(root / "new" / "folders" / "out", "a")
    found = disk.after_a_cut(disk.cuts[-1], tmp_path / "found")
    assert whole(found / "new" / "folders" / "out", "a")
    assert made(found / "new" / "folders" / "out", "a")["skipped"]


def test_a_power_cut_at_any_moment_leaves_the_old_result_or_the_new_one(tmp_path, monkeypatch):
    root = tmp_path / "disk"
    root.mkdir()
    disk = Disk(root, monkeypatch)
    made(root / "out", "a")
    before = len(disk.cuts)
    made(root / "out", "b")
    monkeypatch.undo()
    for number, cut in enumerate(disk.cuts[before:]):
        found = disk.after_a_cut(cut, tmp_path / str(number))
        assert whole(found / "out", "a") or whole(found / "out", "b"), number
        made(found / "out", "b")
        assert whole(found / "out", "b") and [path.name for path in found.iterdir()] == ["out"]
    assert number > 5 and made(found / "out", "b")["skipped"]


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    else:
        seen = path.stat()
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))  # as a failing disk would leave it


@pytest.mark.parametrize("how", ["missing", "empty", "flipped"])
@pytest.mark.parametrize("name", [*WORK["a"], "manifest.json"])
def test_a_damaged_result_is_refused_and_made_again(tmp_path, name, how):
    made(tmp_path / "out", "a")
    damage(tmp_path / "out" / name, how)
    if (name, how) == ("manifest.json", "missing"):  # then it is the user's own folder
        assert stages.verified_manifest(tmp_path / "out") is None
        with pytest.raises(UserError, match=r"out holds \.fingerprint and 3 more"):
            made(tmp_path / "out", "a")
        return
    with pytest.raises(UserError, match=rf"out/{name}.*wrote it,? again"):
        stages.verified_manifest(tmp_path / "out")
    assert not made(tmp_path / "out", "a")["skipped"] and whole(tmp_path / "out", "a")
    assert made(tmp_path / "out", "a")["skipped"] and stages.verified_manifest(tmp_path / "out")


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"stage": "try"}', "[" * 3000, "\x00\xff", '{"a": 1e999}'])
def test_a_manifest_of_anything_ends_in_no_traceback(tmp_path, text):
    made(tmp_path / "out", "a")
    (tmp_path / "out" / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"manifest\.json: this manifest is damaged"):
        stages.verified_manifest(tmp_path / "out")
    made(tmp_path / "out", "a")
    assert whole(tmp_path / "out", "a")


def test_what_is_whole_of_a_damaged_result_is_not_made_again(tmp_path):
    made_again = []

    def work(out: Path) -> dict:
        for name in ("one", "two"):
            if not (out / name).is_file():
                (out / name).write_text(name)
                made_again.append(name)
        return {}

    stages.stage("try", tmp_path / "out", {}, work)
    damage(tmp_path / "out" / "two", "flipped")
    stages.stage("try", tmp_path / "out", {}, work)
    assert made_again == ["one", "two", "two"] and (tmp_path / "out" / "two").read_text() == "two"


def test_a_large_file_is_compared_by_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "LARGE", 1000)
    stages.stage("try", tmp_path / "out", {}, lambda out: {"b": (out / "large").write_bytes(os.urandom(2_000_000))})
    assert stages.verified_manifest(tmp_path / "out")
    with (tmp_path / "out" / "large").open("r+b") as file:
        file.seek(1_000_000)
        file.write(bytes(20_000))  # a block that was lost
    with pytest.raises(UserError, match="out/large: this file was altered"):
        stages.verified_manifest(tmp_path / "out")


RIVALS = """
import json, os, random, sys
from pathlib import Path
from retrieval_distill.runtime import lock
from retrieval_distill.errors import UserError
from tests.runtime.test_stage_faults import made, whole

folder, wait, number = Path(sys.argv[1]), sys.argv[2] == "wait", int(sys.argv[3])
draw, said, os.fsync = random.Random(number), [], lambda handle: None
sys.stdin.readline()
for turn in range(40):
    option = draw.choice("ab")
    try:
        with lock.waiting(wait):
            made(folder, option)
        said.append("done")
    except UserError as error:
        said.append("refused" if "is writing there; wait for it, or stop it" in str(error) else str(error))
print(json.dumps(said))
"""


@pytest.mark.parametrize("wait", ["wait", "refuse"])
def test_rivals_in_one_folder(tmp_path, wait):
    """Four processes with other options each: every one succeeds, or is told who works there."""
    rivals = [programs.Program("-c", RIVALS, tmp_path / "out", wait, number) for number in range(4)]
    for rival in rivals:
        with rival.stdin:
            rival.stdin.write("go\n")
    answers = [rival.communicate() for rival in rivals]
    assert [rival.returncode for rival in rivals] == [0] * 4, answers
    said = [one for out, _ in answers for one in json.loads(out)]
    assert set(said) <= ({"done"} if wait == "wait" else {"done", "refused"}) and "done" in said
    assert whole(tmp_path / "out", "a") or whole(tmp_path / "out", "b")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


HOLDER = """
import sys, time
from retrieval_distill.runtime.lock import exclusive
with exclusive(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder ``out`` until it is told to let go."""
    other = programs.Program("-c", HOLDER, tmp_path / "out")
    assert other.stdout.readline() == "held\n"
    yield other
    other.send_signal(signal.SIGKILL)
    other.wait()


def test_the_command_line_waits_when_it_is_told_to(tmp_path, holder, monkeypatch):
    source = ROOT / "data" / "sample"
    asked = ("prepare", source, "--out", tmp_path / "out", "--cache", tmp_path / "cache")
    said = command(*asked, code=2)
    assert f"out: process {holder.pid} on " in said and "--wait" in said
    monkeypatch.setattr(lock.logger, "info", lambda *_: holder.communicate("\n"))  # it lets go once we wait
    assert "corpus.jsonl" in command(*asked, "--wait")
    assert holder.returncode == 0


def test_a_cache_is_waited_for_without_being_told_to(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(lock.logger, "info", lambda *_: holder.communicate("\n"))
    assert not made(tmp_path / "out", "a", cache=True)["skipped"]


def test_a_file_that_is_no_lock_is_left_alone(tmp_path):
    (tmp_path / ".out.lock").write_text("the key to my diary")
    with pytest.raises(UserError, match=r"\.out\.lock: this name is needed for a lock"):
        made(tmp_path / "out", "a")
    assert (tmp_path / ".out.lock").read_text() == "the key to my diary"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        OSError("4096 requested and 512 written"),  # NumPy
        RuntimeError("[enforce fail at inline_container.cc:862] . PytorchStreamWriter failed writing file data/0"),
        Exception("I/O error: No space left on device (os error 28)"),  # safetensors
    ],
)
def test_a_full_disk_is_said_whatever_the_stage_does(tmp_path, error):
    made(tmp_path / "out", "a")

    def work(out: Path) -> dict:
        raise error

    with pytest.raises(UserError, match=r"out: the disk is full.*free some disk space and run the same command again"):
        stages.stage("try", tmp_path / "out", {}, work)
    assert whole(tmp_path / "out", "a")


def test_an_error_about_another_file_is_not_taken_for_one_of_the_stages(tmp_path):
    (tmp_path / "elsewhere").mkdir()

    def work(out: Path) -> dict:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "elsewhere" / "secret"))

    with pytest.raises(PermissionError):
        stages.stage("try", tmp_path / "out", {}, work)


@pytest.mark.parametrize(
    "verb",
    [
        ("prepare", "{data}", "--out", "{disk}/out"),
        ("convert", "{data}", "{disk}/out", "--to", "parquet"),
        ("convert", "{data}", "{disk}/out", "--to", "ms-marco"),
        ("generate", "--dataset", "{data}", "--ways", "titles", "--out", "{disk}/out"),
    ],
)
def test_a_disk_that_is_full(small_disk, tmp_path, verb):
    rows = (json.dumps({"_id": f"d{i}", "title": f"t{i}", "text": os.urandom(400).hex()}) for i in range(300))
    (tmp_path / "docs.jsonl").write_text("\n".join(rows))
    named = {"data": tmp_path / "docs.jsonl", "disk": small_disk}
    said = command(*(word.format(**named) for word in verb), "--cache", tmp_path / "cache", code=2)
    assert "out: the disk is full" in said and "free some disk space" in said
    assert not (small_disk / "out").exists()


def test_a_full_disk_takes_no_report(small_disk):
    with pytest.raises(UserError, match=r"r\.json: the disk is full"):
        stages.write_json(small_disk / "r.json", "x" * 100_000)
    assert list(small_disk.iterdir()) == []


def test_what_killed_processes_left_is_swept(tmp_path):
    """An unfinished file of a process that is gone; that of one at work, and a stranger's of such a name, stay."""
    made(tmp_path / "out", "a")
    (tmp_path / "out.partial").mkdir()
    manifests.write_mark(tmp_path / "out.partial", stages.fingerprint({"stage": "try", "option": "b"}), "try")
    gone = [".tmp-4190000@{}-0badcafe.json", ".tmp-4190000-0badcafe", ".manifest.json.4190000"]
    for name in gone:
        (tmp_path / "out.partial" / name.format(files.HOST)).write_text("half")
    made(tmp_path / "out", "b")
    assert whole(tmp_path / "out", "b")
    stays = {f".tmp-{os.getpid()}@{files.HOST}-0badcafe", ".tmp-4190000-mine"}
    (tmp_path / "mine").mkdir()
    for name in (f".tmp-4190000@{files.HOST}-0badcafe.json", *stays):
        (tmp_path / "mine" / name).write_text("half")
    stages.write_json(tmp_path / "mine" / "report.json", {})
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"report.json", *stays}


def test_trash_and_a_replaced_result_are_swept_on_opening(tmp_path):
    made(tmp_path / "out", "a")
    shutil.copytree(tmp_path / "out", tmp_path / f".out.trash-4190000@{files.HOST}-0badcafe")
    shutil.copytree(tmp_path / "out", tmp_path / "out.partial")  # exchanged, and not yet removed
    made(tmp_path / "new", "b")
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "new").rename(tmp_path / "out")
    (tmp_path / ".out.trash-not-ours").mkdir()
    os.utime(tmp_path / "out" / "manifest.json")
    assert made(tmp_path / "out", "b")["skipped"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.trash-not-ours", "out"]


def test_a_finished_attempt_that_was_not_named_yet_is_kept(tmp_path):
    """Work that another command's result in the folder does not replace: asked for again, it is there."""
    made(tmp_path / "out", "a")
    made(tmp_path / "other", "b")
    (tmp_path / "other").rename(tmp_path / "out.partial")
    assert made(tmp_path / "out", "a")["skipped"]

    def never(out: Path) -> dict:
        raise AssertionError("its work is done")

    stages.stage("try", tmp_path / "out", {"option": "b"}, never)
    assert whole(tmp_path / "out", "b") and [path.name for path in tmp_path.iterdir()] == ["out"]
