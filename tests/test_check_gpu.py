"""The check of GPUs runs on a CPU too, and what fails in it is a row and not its end."""

from __future__ import annotations

import json

from tests import programs

ACTS = (
    "score/classifier/22M/float32",
    "score/unpadded/150M",
    "score/ens",
    "score/out",
    "embed/minilm/float32",
    "search",
    "faiss",
    "train/more",
)


def test_a_smoke_run(tmp_path):
    """Of every kind of check but trainings in processes of their own, which have tests of their own."""
    asked = ["scripts/check_gpu.py", "--quick", "--json", tmp_path / "table.json", "--only", *ACTS]
    done = programs.run(*asked, cwd=programs.ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "table.json").read_text())
    assert not told["failures"] and "instructions" in told["environment"]
    rows = {row["name"]: row for row in told["comparisons"]}
    assert len(rows) == len(ACTS) and set(rows) == {name for name in rows if name.startswith(ACTS)}
    for name, row in rows.items():
        if row["left_out"] is None:
            assert row["max_abs_difference"] <= row["tolerance"], name
            assert name in done.stdout
    assert rows["embed/minilm/float32"]["unit"] == "passages/s" and rows["embed/minilm/float32"]["ours"] > 0
    assert rows["score/classifier/22M/float32"]["ratio"] > 0
    assert rows["score/unpadded/150M/bfloat16"]["peer"] == "padded batches on the same device"
