"""The container's steps, as far as they can be taken without a container engine: files, packages, the command, its health."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from retrieval_distill.feedback.log import FeedbackLog

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def steps() -> list[tuple[str, str]]:
    """(instruction, rest) of the Dockerfile, in order."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name.upper(), rest) for name, rest in (line.split(maxsplit=1) for line in lines)]


def stages() -> list[list[tuple[str, str]]]:
    """The steps of each stage, each from its FROM on."""
    found: list[list[tuple[str, str]]] = []
    for step in steps():
        found += [[]] if step[0] == "FROM" else []
        found[-1].append(step)
    return found


def said(stage: list[tuple[str, str]], instruction: str) -> list[str]:
    return [rest for name, rest in stage if name == instruction]


def environment(stage: list[tuple[str, str]]) -> dict[str, str]:
    pairs = [word.partition("=") for rest in said(stage, "ENV") for word in shlex.split(rest)]
    return {name: value for name, _, value in pairs}


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """What the first stage copies, without what .dockerignore leaves out."""
    folder = tmp_path_factory.mktemp("image")
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    kept = {line[1:] for line in patterns if line.startswith("!")}
    dropped = [line.removeprefix("**/") for line in patterns if line.startswith("**/")]
    for rest in said(stages()[0], "COPY"):
        *sources, target = rest.split()
        for source in sources:
            assert source in kept, f"{source}: .dockerignore leaves it out"
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, folder / target, ignore=shutil.ignore_patterns(*dropped))
            else:
                shutil.copy(ROOT / source, folder / target)
    return folder


def test_what_is_copied_is_all_that_the_package_is_made_of(copied):
    for name in (PROJECT["readme"], *PROJECT["license-files"]):
        assert (copied / name).is_file()
    tracked = subprocess.run(["git", "ls-files", "retrieval_distill"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a checkout of git")
    assert all((copied / name).is_file() for name in tracked.stdout.splitlines())
    assert not list(copied.rglob("__pycache__"))


def test_what_is_installed_exists():
    """Extras and the pinned torch; no step of the second stage fetches anything."""
    build, final = stages()
    installs = [rest for rest in said(build, "RUN") if rest.startswith("pip install")]
    assert [re.search(r"--constraint (\S+)", line)[1] for line in installs] == ["constraints.txt"] * 2
    assert re.search(r"^torch==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M)
    extras = set(re.search(r"\.\[(.+?)\]", installs[-1])[1].split(","))
    assert "serve" in extras <= set(PROJECT["optional-dependencies"])
    assert not any(re.search("pip|apt|curl|wget", rest) for rest in said(final, "RUN"))
    assert environment(final)["HF_HUB_OFFLINE"] == "1"


def test_both_stages_have_the_python_of_the_environment_that_is_copied():
    build, final = stages()
    assert build[0][1].split()[0] == final[0][1] and fnmatch(final[0][1], "python:3.*-slim")
    version = re.search(r"python:([\d.]+)", final[0][1])[1]
    assert tuple(map(int, version.split("."))) >= tuple(map(int, re.findall(r"\d+", PROJECT["requires-python"])))
    assert "--from=build /opt/venv /opt/venv" in said(final, "COPY")
    assert "python -m venv /opt/venv" in said(build, "RUN")


def test_it_does_not_run_as_root():
    final = stages()[-1]
    (user,) = said(final, "USER")
    assert re.search(rf"useradd .*--uid [1-9]\d+ {user}\b", said(final, "RUN")[0])
    names = [name for name, _ in final]
    assert names.index("USER") < names.index("CMD")


def test_compose_and_the_image_agree():
    final, service = (
        stages()[-1],
        yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["serve"],
    )
    (port,), (volume,) = service["ports"], service["volumes"]
    assert port.startswith("127.0.0.1:") and port.endswith(f":{said(final, 'EXPOSE')[0]}")
    assert volume.endswith(":/srv/run") and said(final, "VOLUME") == ["/srv/run"] and said(final, "WORKDIR") == ["/srv"]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert environment(final)["HOME"] in service["tmpfs"]


def test_the_command_answers_is_healthy_and_stops(copied, finished_run, tmp_path):
    """Entry point, command and health check of the image, on a port that is free here."""
    final = stages()[-1]
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])

    def here(rest: str) -> list[str]:
        return [word.replace(said(final, "EXPOSE")[0], port) for word in json.loads(rest)]

    entry, command = json.loads(said(final, "ENTRYPOINT")[0]), here(said(final, "CMD")[0])
    assert entry == [next(iter(PROJECT["scripts"]))]
    shutil.copytree(finished_run, tmp_path / "run")
    given = {name: value for name, value in environment(final).items() if name not in ("PATH", "HOME")}
    variables = {**os.environ, **given, "HOME": str(tmp_path), "PYTHONPATH": str(copied)}
    health = here(re.search(r"CMD (\[.*\])", said(final, "HEALTHCHECK")[0])[1])
    assert health[0] == "python"
    server = subprocess.Popen(
        [sys.executable, "-m", "retrieval_distill", *command],
        cwd=tmp_path,
        env=variables,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        end = time.monotonic() + 300
        while subprocess.run([sys.executable, *health[1:]], capture_output=True).returncode:
            assert server.poll() is None and time.monotonic() < end, server.stderr.read()
            time.sleep(0.2)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
            assert b'<form id="form" role="search"' in page.read()
        body = json.dumps({"query": "split a path"}).encode()
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/search", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked) as answer:
            assert len(json.load(answer)["hits"]) == 10
    finally:
        server.send_signal(getattr(signal, said(final, "STOPSIGNAL")[0]))
        said_last = server.communicate(timeout=300)[1]
    assert server.returncode == 0, said_last
    assert subprocess.run([sys.executable, *health[1:]], capture_output=True).returncode
    with FeedbackLog.open(tmp_path / "run" / "feedback.db", create=False) as log:
        assert log.summary().queries == 1
