"""``index`` as a program of its own: killed, run twice at once, on a disk that fills up, and given damaged vectors."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from retrieval_distill.errors import UserError
from retrieval_distill.index.index import Index
from retrieval_distill.runtime import stages
from retrieval_distill.runtime.files import checksum as sha256
from tests.commands import command, program
from tests.index.stored import clustered, store
from tests.programs import Program

VECTORS = clustered(12_000, 48)

ONE_THREAD = """
import faiss
from retrieval_distill.cli import main
faiss.omp_set_num_threads(1)  # several would add up in any order
main()
"""

BUILD = ["--kind", "ivf-pq", "--rescore", "4"]

KILLS = 2
"""Before there is an index, and as many while one is there."""


@pytest.fixture(scope="module")
def vectors(tmp_path_factory) -> Path:
    return store(tmp_path_factory.mktemp("large") / "vectors", VECTORS)


def begun(out: Path, vectors: Path, *options: str) -> Program:
    """The program, as soon as it builds in a folder of its own."""
    process = Program("-c", ONE_THREAD, "index", vectors, "--out", out, *options)
    partial = out.with_name(f"{out.name}.partial")
    while not (partial / ".fingerprint").is_file():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    return process


def files_of(folder: Path) -> dict[str, str]:
    """Hashes of an index's files, as they are now."""
    Index.open(folder).verify()
    return {name: sha256(folder / name) for name in stages.read_manifest(folder)["counts"]["files"]}


def test_kills_at_random_moments_leave_the_old_index_or_the_new_one(vectors, tmp_path):
    """While the first is built there is none; then the one there stays, until the new one is whole."""
    reference, start = tmp_path / "reference", time.monotonic()
    begun(reference, vectors, *BUILD).wait()
    seconds, whole = stages.read_manifest(reference)["seconds"], files_of(reference)
    assert set(whole) == {"index.faiss", "ids.parquet", "vectors.npy"} and time.monotonic() - start > seconds
    out, rng, interrupted = tmp_path / "index", random.Random(3), 0
    for number in range(2 * KILLS):
        if number == KILLS:
            command("index", vectors, "--out", out, "--kind", "sq8")
            old = files_of(out)
        process = begun(out, vectors, *BUILD)
        time.sleep(rng.uniform(0.1, 0.8) * seconds)
        process.send_signal(signal.SIGKILL)
        interrupted += process.wait() == -signal.SIGKILL
        if number < KILLS:
            with pytest.raises(UserError, match="no index there"):
                Index.open(out)
        else:
            assert files_of(out) == old
    assert interrupted == 2 * KILLS
    assert begun(out, vectors, *BUILD).wait() == 0
    assert files_of(out) == whole
    assert not out.with_name("index.partial").exists()


def test_of_two_builders_in_one_folder_the_second_is_refused(vectors, tmp_path):
    first = begun(tmp_path / "index", vectors, *BUILD)
    first.send_signal(signal.SIGSTOP)
    for options in (["--kind", "flat"], ["--kind", "auto"]):
        said = command("index", vectors, "--out", tmp_path / "index", *options, code=2)
        assert f"index: process {first.pid} on " in said and "is writing there; wait for it, or stop it" in said
    first.send_signal(signal.SIGCONT)
    assert first.wait() == 0
    assert Index.open(tmp_path / "index").manifest["counts"]["kind"] == "ivf-pq"
    files_of(tmp_path / "index")


SMALL_DISK = """
mount -t tmpfs -o size=3m tmpfs "$1" && cp -r "$2" "$1/index" && disk="$1" || exit 99
shift 2
"$@"; code=$?
sha256sum "$disk"/index/index.faiss "$disk"/index/ids.parquet | cut -c1-64
exit $code
"""

SPACE = ["unshare", "--user", "--map-root-user", "--mount"]


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*SPACE, "true"], capture_output=True).returncode != 0,
    reason="needs a file system of its own, which this system does not give to users",
)
@pytest.mark.parametrize("kind", ["hnsw", "auto"])
def test_a_disk_that_fills_up_leaves_the_index_that_was_there(vectors, tmp_path, kind):
    """3 MB hold the old index (0.7 MB) and a part of what is written; how much room there is was asked before."""
    (tmp_path / "disk").mkdir()
    command("index", vectors, "--out", tmp_path / "old", "--kind", "sq8")
    full = "import shutil, sys; shutil.disk_usage = lambda f: type('', (), {'free': 1e9}); " \
           "from retrieval_distill.cli import main; main()"  # fmt: skip
    asked = [sys.executable, "-c", full, "index", vectors, "--out", tmp_path / "disk" / "index", "--kind", kind]
    done = subprocess.run(
        [*SPACE, "bash", "-c", SMALL_DISK, "-", tmp_path / "disk", tmp_path / "old", *asked],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "free some disk space" in done.stderr
    assert done.stdout.split() == [sha256(tmp_path / "old" / name) for name in ("index.faiss", "ids.parquet")]


@pytest.mark.parametrize("fault", ["missing", "altered", "nan", "nothing", "dimensions"])
def test_vectors_that_are_not_as_they_should_be(tmp_path, fault):
    some = clustered(1500)
    some[1100, 3] = np.nan if fault == "nan" else some[1100, 3]
    folder = store(tmp_path / "vectors", some)
    shard = sorted(folder.glob("vectors-*"))[1]
    if fault == "missing":
        shard.unlink()
    elif fault == "altered":
        data = bytearray(shard.read_bytes())
        data[-7] ^= 1
        shard.write_bytes(data)
    message = {
        "missing": f"{shard.name}: this shard is missing",
        "altered": f"{shard.name}: this shard was altered (its checksum does not match)",
        "nan": "the vector of row 1100 holds NaN or infinity",
        "nothing": "no embeddings there; make them with: retrieval-distill embed",
        "dimensions": "index dimensions 99: the vectors have 32",
    }
    asked = tmp_path / "elsewhere" if fault == "nothing" else folder
    options = ["--dimensions", "99"] if fault == "dimensions" else []
    assert message[fault] in command("index", asked, "--out", tmp_path / "index", *options, code=2)
    assert not (tmp_path / "index").exists()


def test_a_user_sees_the_message_alone(tmp_path):
    assert program("index", tmp_path, "--out", tmp_path / "x", code=2).startswith("error: ")
