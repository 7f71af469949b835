"""What contributors and hosts read agrees with the project: workflow, citation, versions, wishes for reports."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

from scripts import licences, matrix

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read(name: str):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_the_workflow_runs_what_is_here():
    jobs = read(".github/workflows/tests.yml")["jobs"]
    assert tuple(jobs["tests"]["strategy"]["matrix"]["python"]) == matrix.PYTHONS
    lines = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in lines:
        if line.startswith("make "):
            assert all(re.search(rf"^{target}:", makefile, re.M) for target in line.split()[1:]), line
        assert all((ROOT / script).is_file() for script in re.findall(r"scripts/\S+", line)), line


def test_every_hook_is_a_local_program():
    (local,) = read(".pre-commit-config.yaml")["repos"]
    assert [hook["entry"].split("/")[0] for hook in local["hooks"]] == [".venv"] * len(local["hooks"])


def test_versions_agree():
    citation = read("CITATION.cff")
    assert citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_templates_ask_for_something():
    for template in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").iterdir()):
        form = read(template.relative_to(ROOT).as_posix())
        assert {"name", "description", "body"} <= set(form) and all(
            field["attributes"]["label"] for field in form["body"]
        )


def test_the_lowest_versions_are_those_of_every_bound():
    """Each dependency that bounds its version from below has that bound; the others have none."""
    least = matrix.bounds()
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    for line in lines:
        name, bound = re.match(r"([\w.-]+)", line)[1], re.search(r">=([\d.]+)", line)
        assert name == PROJECT["name"] or bound is None or least[name] == bound[1]
    assert len(least) > 40


def test_what_an_installation_brings_along_may_be_built_upon(capsys):
    assert licences.main(["demo"]) == 0
    table = capsys.readouterr().out
    required = [re.match(r"[\w-]+", line)[0] for line in PROJECT["dependencies"]]
    assert all(f"| {name} | " in table for name in required)


def test_a_binding_licence_is_found():
    told = ["GPL-3.0-only", "GNU AFFERO (AGPLv3)", "LGPL-2.1", "MIT", "Apache-2.0"]
    assert [bool(licences.BINDING.search(line)) for line in told] == [True, True, False, False, False]
