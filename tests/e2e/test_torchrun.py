"""A whole run by two processes: the same student, and every stage done once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file

from tests import programs

ROOT = Path(__file__).parents[2]


def test_two_processes_run_one_recipe(tiny_recipe, tmp_path):
    training = {**tiny_recipe["training"], "steps": 4, "evaluate_steps": 2, "dev_documents": 30}
    values = {**tiny_recipe, "training": training, "evaluate": {**tiny_recipe["evaluate"], "seeds": 2}}
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(values))
    one = programs.run(
        "-m", "retrieval_distill", "run", recipe, "--out", tmp_path / "one"
    )  # a fresh one, as the others
    assert one.returncode == 0, one.stderr
    report = json.loads((tmp_path / "one" / "report.json").read_text())
    training["queries_per_step"] //= 2  # of each process
    recipe.write_text(yaml.safe_dump(values))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*launcher, "-m", "retrieval_distill", "run", str(recipe), "--out", str(tmp_path / "two")]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    other = json.loads((tmp_path / "two" / "report.json").read_text())
    assert list(other["stages"]) == list(report["stages"])
    assert not any(stage["skipped"] for stage in other["stages"].values())
    assert other["systems"]["student"]["nDCG@10"]["mean"] == report["systems"]["student"]["nDCG@10"]["mean"]
    assert done.stderr.count("finished in") == 1
    for student in ("student", "seeds/8/student"):
        one, two = (load_file(tmp_path / name / student / "model.safetensors") for name in ("one", "two"))
        for name, weight in one.items():
            torch.testing.assert_close(weight, two[name], atol=1e-5, rtol=1e-5)
    logs = [json.loads((tmp_path / name / "student" / "training_log.json").read_text()) for name in ("one", "two")]
    assert [row["eval_nDCG@10"] for row in logs[0]] == [row["eval_nDCG@10"] for row in logs[1]]
