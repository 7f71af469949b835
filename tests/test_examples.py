"""The examples of the documentation run as a reader would run them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import programs

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "docs" / "examples"
ARGUMENTS = {
    "distil_your_folder": ["--steps", "2"],
    "objective_of_your_own": ["--steps", "2"],
    "compare_rerankers": [
        "--reranker",
        "starter",
        "--reranker",
        "bi-encoder:packaged:all-MiniLM-L6-v2",
        "--depth",
        "5",
    ],
}
TELLS = {
    "distil_your_folder": "hybrid-student",
    "objective_of_your_own": "own",
    "compare_rerankers": "the table for LaTeX",
}


def run(name: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    source = programs.ROOT / "data" / "sample"
    return programs.run(EXAMPLES / f"{name}.py", source, *arguments, "--out", folder / "out", cwd=folder)


def test_every_example_is_run_and_listed():
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    assert scripts == set(ARGUMENTS)
    page = (EXAMPLES / "index.md").read_text(encoding="utf-8")
    assert all(f"[{name}.py]({name}.py)" in page for name in scripts)


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_an_example_runs(name, tmp_path):
    done = run(name, tmp_path, *ARGUMENTS[name])
    assert done.returncode == 0, done.stderr[-2000:]
    assert TELLS[name] in done.stdout
    if name == "compare_rerankers":
        assert r"\toprule" in (tmp_path / "out" / "table.tex").read_text()
