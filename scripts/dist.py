"""A release: wheel and sdist built twice and compared, their metadata checked, the wheel tried alone in a new environment.

    python scripts/dist.py              # everything; the files are in dist/
    python scripts/dist.py --no-trial   # without the new environment, which takes minutes

The same commit gives the same bytes: files carry the commit's time. The trial installs nothing but the wheel with its extra
``demo`` and runs a recipe of two steps on the sample corpus from another folder.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD, DIST = ROOT / "build", ROOT / "dist"
FEW = [
    "teacher.model=starter", "student.model=packaged:all-MiniLM-L6-v2", "training.steps=2", "training.queries_per_step=4",
    "training.max_length=64",
]  # fmt: skip


def said(*words: str | Path) -> str:
    """What a program prints."""
    return subprocess.run([*map(str, words)], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def do(*words: str | Path, cwd: Path = ROOT, **environment: str) -> None:
    """Run a program, or end."""
    subprocess.run([*map(str, words)], cwd=cwd, check=True, env={**os.environ, **environment})


def environment(name: str) -> Path:
    """The folder of programs of a fresh environment."""
    folder = BUILD / name
    do(sys.executable, "-m", "venv", "--clear", folder)
    return folder / ("Scripts" if os.name == "nt" else "bin")


def build(tools: Path, out: Path) -> dict[str, str]:
    """Name -> SHA-256 of what was built."""
    shutil.rmtree(out, ignore_errors=True)
    do(tools / "python", "-m", "build", "--outdir", out, SOURCE_DATE_EPOCH=said("git", "log", "-1", "--format=%ct"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.iterdir())}


def check_contents(wheel: Path) -> None:
    """Every file of the package that is under version control is in the wheel, and nothing else but its metadata."""
    tracked = set(said("git", "ls-files", "retrieval_distill").splitlines())
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    if tracked != held:
        sys.exit(f"{wheel.name}: missing {sorted(tracked - held)}, not under version control {sorted(held - tracked)}")


def check_version(wheel: Path) -> None:
    """A tag on this commit, the citation and the wheel name one version."""
    version = wheel.name.split("-")[1]
    cited = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M)[1]
    tags = [tag for tag in said("git", "tag", "--points-at", "HEAD").splitlines() if tag.startswith("v")]
    if cited != version or any(tag != f"v{version}" for tag in tags):
        sys.exit(f"version {version} in pyproject.toml, {cited} in CITATION.cff, tags {tags}: make them agree")


def try_alone(wheel: Path) -> None:
    """Install the wheel alone, run a recipe of two steps elsewhere, and search what came of it."""
    programs = environment("trial")
    pip = [programs / "python", "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt"]
    do(*pip, "torch")
    do(*pip, f"{wheel}[demo]")
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        shutil.copytree(ROOT / "data" / "sample", here / "sample")
        settings = [part for value in FEW for part in ("--set", value)]
        command = programs / "retrieval-distill"
        alone = {"cwd": here, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"}
        do(command, "run", "own-corpus", "--out", "run", "--set", "dataset.source=sample", *settings, **alone)
        do(command, "search", "run", "how does a database survive a power failure", "--depth", "1", **alone)


def main() -> None:
    """Build, compare, check, try."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-trial", action="store_true", help="do not try the wheel in a new environment")
    arguments = parser.parse_args()
    tools = environment("tools")
    do(tools / "python", "-m", "pip", "install", "--quiet", "build", "twine")
    first, second = build(tools, BUILD / "again"), build(tools, DIST)
    if first != second:
        sys.exit(f"two builds differ: {first} and {second}")
    (wheel,) = DIST.glob("*.whl")
    do(tools / "python", "-m", "twine", "check", "--strict", *DIST.iterdir())
    check_contents(wheel)
    check_version(wheel)
    if not arguments.no_trial:
        try_alone(wheel)
    print("\n".join(["", *(f"{digest}  dist/{name}" for name, digest in second.items())]))


if __name__ == "__main__":
    main()
