"""The tests on every Python that is here, and once with the lowest versions that ``pyproject.toml`` admits.

    python scripts/matrix.py                        # 3.11, 3.12, 3.13 where installed, then lowest
    python scripts/matrix.py --only lowest --quick  # one of them; a few fast tests in place of all

Each has an environment of its own under ``build/matrix``. PyTorch is taken from the index of CPU builds alone
(``TORCH_INDEX`` names another), for the default build is gigabytes large; where there is none for a Python, the commands that
need no PyTorch are tried and the line says so.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
TORCH_INDEX = os.environ.get("TORCH_INDEX", "https://download.pytorch.org/whl/cpu")
NEED_TORCH = ("torch", "accelerate", "peft", "sentence-transformers", "beir", "retrieval-distill")
QUICK = [
    "tests/config",
    "tests/objectives",
    "tests/data/test_run.py",
    "tests/evaluation/test_measures.py",
    "tests/test_package.py",
]
WITHOUT_TORCH = [
    ["retrieve", "--dataset", "data/sample", "--out", "{out}/bm25.trec"],
    ["evaluate", "{out}/bm25.trec", "--dataset", "data/sample"],
    ["convert", "data/sample", "{out}/sample", "--to", "parquet"],
]


def lowest(python: Path) -> tuple[Path, str]:
    """A constraints file with the lowest version of every direct dependency that goes with the others; torch's of them."""
    if not install(python, "uv"):
        raise SystemExit("matrix: uv, which finds the lowest versions, could not be installed")
    found = ROOT / "build" / "matrix" / "lowest.txt"
    resolve = [python, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--extra", "test"]
    subprocess.run([*resolve, "--resolution", "lowest-direct", "pyproject.toml", "-o", found], cwd=ROOT, check=True)
    versions = dict(line.split("==") for line in found.read_text(encoding="utf-8").split())
    for name, bound in bounds().items():
        got = versions.get(name.lower())
        if got and not re.fullmatch(rf"{re.escape(bound)}(\.0)*", got):
            print(f"matrix: pyproject.toml admits {name} {bound}; the lowest that goes with the others is {got}")
    torch = versions.pop("torch")
    found.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()), encoding="utf-8")
    return found, torch


def bounds() -> dict[str, str]:
    """Every direct dependency, extras included: name -> the lowest version admitted."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    found = [re.match(r"([\w.-]+)(?:\[[^\]]*\])?[>=]=([\w.]+)", line) for line in lines]
    return {match[1]: match[2] for match in found if match}


def interpreter(version: str) -> str | None:
    """A Python of this version that starts: on the path, or one of pyenv's."""
    own = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python{version}")
    for candidate in [shutil.which(f"python{version}"), *map(str, sorted(own, reverse=True))]:
        if candidate and subprocess.run([candidate, "-V"], capture_output=True).returncode == 0:
            return candidate
    return None


def environment(name: str, python: str) -> Path:
    """The Python of a fresh environment."""
    folder = ROOT / "build" / "matrix" / name
    subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


def install(python: Path, *arguments: str) -> bool:
    """Whether pip could install it."""
    return subprocess.run([python, "-m", "pip", "install", "--quiet", *arguments], cwd=ROOT).returncode == 0


def torch(python: Path, version: str) -> bool:
    """Whether a CPU build is installed now."""
    only = ["--no-deps", "--only-binary", ":all:", "--index-url", TORCH_INDEX, "--retries", "0", "--timeout", "20"]
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", *only, f"torch=={version}"], capture_output=True)
    return done.returncode == 0


def attempt(name: str, python: str, quick: bool) -> str:
    """Install and test; what came of it, in a word or two."""
    bin_ = environment(name, python)
    pinned = re.search(r"^torch==(.*)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M)[1]
    constraints, wanted = ROOT / "constraints.txt", [pinned]
    if name == "lowest":
        constraints, least = lowest(bin_)
        wanted = [least, pinned]
    got = next((version for version in wanted if torch(bin_, version)), None)
    if got is None:
        return without_torch(bin_)
    # pip would search for minutes among so many pins
    installer = ["uv", "pip", "install", "--python", bin_] if name == "lowest" else ["pip", "install"]
    here = ["--quiet", "-c", constraints, "-e", ".[test]"]
    if subprocess.run([bin_, "-m", *installer, *here], cwd=ROOT).returncode:
        return "FAILED to install"
    tests = (
        [*QUICK, "-p", "no:randomly"]
        if quick
        else ["tests", "-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder"]
    )
    done = subprocess.run(
        [bin_, "-m", "pytest", "-q", *tests],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    return ("passed" if done.returncode == 0 else "FAILED") + f", torch {got}" + (", a few tests" if quick else "")


def without_torch(python: Path) -> str:
    """Try what needs no PyTorch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    light = [line for line in project["dependencies"] if not line.startswith(NEED_TORCH)]
    if not (install(python, "-c", "constraints.txt", *light, "hatchling") and install(python, "--no-deps", "-e", ".")):
        return "FAILED to install, without torch"
    out = ROOT / "build" / "matrix" / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for line in WITHOUT_TORCH:
        words = [word.format(out=out) for word in line]
        if subprocess.run([python, "-m", "retrieval_distill", *words], cwd=ROOT, stdout=subprocess.DEVNULL).returncode:
            return f"FAILED at {words[0]}, without torch"
    return "commands without torch work; no CPU build of torch for this Python was to be had"


def main() -> int:
    """Go through the matrix."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*PYTHONS, "lowest"], help="one of them")
    parser.add_argument("--quick", action="store_true", help="a few fast tests in place of all")
    arguments = parser.parse_args()
    rows = []
    for name in [arguments.only] if arguments.only else [*PYTHONS, "lowest"]:
        python = interpreter(PYTHONS[0] if name == "lowest" else name)
        rows.append((name, attempt(name, python, arguments.quick) if python else "not installed here"))
        print(*rows[-1], sep=": ", flush=True)
    print("\n".join(["", *(f"{name:8} {came}" for name, came in rows)]))
    return int(any("FAILED" in came for _, came in rows))


if __name__ == "__main__":
    sys.exit(main())
