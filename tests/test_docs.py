"""What the documentation says holds: its commands and lines run, its links lead somewhere, its reference is the schema's."""

from __future__ import annotations

import ast
import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import typer
import yaml

from retrieval_distill import FeedbackLog, cli
from retrieval_distill.config import Recipe, load_recipe, parse_recipe
from retrieval_distill.config.fit_teacher import FitTeacherConfig
from retrieval_distill.errors import UserError
from retrieval_distill.models import STARTER_FOLDER
from retrieval_distill.objectives import OBJECTIVES
from retrieval_distill.teacher import teacher_loader
from retrieval_distill.training.objective_mix import objective_mix
from scripts import docs_reference
from scripts.docs_examples import blocks, commands, pages, reference_keys, schema_keys
from tests.commands import command

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = pages()
BESIDE = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "data/README.md", "scripts/benchmarks.md"]
BESIDE += ["skills/retrieval-distill/SKILL.md"]
FILES = {name: (ROOT / name).read_text(encoding="utf-8") for name in BESIDE}


def test_the_reference_has_every_key_and_no_other():
    schema = schema_keys(Recipe) | schema_keys(FitTeacherConfig)
    assert reference_keys(PAGES["reference/recipe.md"]) == schema
    assert len(schema) > 200


def test_every_key_has_a_meaning_and_its_default_can_be_set():
    """Each default of the reference, given by ``--set``, is what holds without it."""
    plain = [key for key in docs_reference.recipe_keys(Recipe) if not re.search(r"NAME|\[\]|^name$", key.path)]
    assert all(key.meaning for key in plain), [key.path for key in plain if not key.meaning]
    for key in plain:
        if key.default:
            assert load_recipe("demo", [f"{key.path}={key.default.strip('`')}"]).name == "demo", key.path


def test_the_reference_has_every_command_and_its_options():
    group = typer.main.get_command(cli.app)
    parts = dict(re.findall(r"^## ([a-z-]+)\n(.*?)(?=^## |\Z)", PAGES["reference/commands.md"], re.S | re.M))
    assert list(parts) == list(group.commands)
    for name, one in group.commands.items():
        options = [option for parameter in one.params for option in parameter.opts if parameter.name != "help"]
        assert all(option.lower() in parts[name].lower() for option in options), name
        assert len(parts[name].strip().splitlines()[0]) > 20


def slugs(text: str) -> set[str]:
    """Anchors of a page's headings."""
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    headings = [
        re.sub(r"[^\w\s-]", "", title).strip().lower() for title in re.findall(r"^#+ (.*)$", without_code, re.M)
    ]
    return {re.sub(r"[-\s]+", "-", title) for title in headings}


def links(text: str) -> list[tuple[str, str]]:
    """Where a page's links lead within the project: (path, anchor)."""
    without_code = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.S | re.M)
    return re.findall(r"\]\((?![a-z]+:)([^)#\s]*)#?([^)\s]*)\)", without_code)


@pytest.mark.parametrize("name", PAGES)
def test_links_of_the_site_lead_somewhere(name):
    for path, anchor in links(PAGES[name]):
        target = ((DOCS / name).parent / path).resolve().relative_to(DOCS).as_posix() if path else name
        file = not target.endswith(".md")
        assert target in PAGES or (file and any((at / target).is_file() for at in (ROOT, DOCS))), (name, path)
        assert not anchor or anchor in slugs(PAGES[target]), (name, path, anchor)


@pytest.mark.parametrize("name", FILES)
def test_links_of_files_lead_somewhere(name):
    for path, anchor in links(FILES[name]):
        target = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        assert target.exists(), (name, path)
        assert not anchor or anchor in slugs(target.read_text(encoding="utf-8")), (name, path, anchor)


@pytest.mark.parametrize("name", [*PAGES, *FILES])
def test_files_that_are_named_are_there(name):
    """Paths of the package, its tests and scripts."""
    named = re.findall(r"`((?:retrieval_distill|tests|scripts|data)/[\w./-]*\w)`", {**PAGES, **FILES}[name])
    assert not [path for path in named if not (ROOT / path).exists()]


def test_every_page_is_in_the_navigation():
    told = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    assert sorted(told) == sorted(PAGES)


@pytest.mark.parametrize("name", [*PAGES, *FILES])
def test_every_command_is_one(name):
    """Commands of shell blocks exist, take these options, and their recipes these keys."""
    group = typer.main.get_command(cli.app)
    for words in commands({**PAGES, **FILES}[name]):
        assert words[0] in ("retrieval-distill", ".venv/bin/retrieval-distill", "make", "pip", "cp"), words
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), words
        if words[0].endswith("retrieval-distill"):
            group.commands[words[1]].make_context(words[1], words[2:])
            if words[1] in ("run", "demo"):
                recipe = "demo" if words[1] == "demo" else words[2].replace("my.yaml", "own-corpus")
                load_recipe(recipe, [value for flag, value in pairwise(words) if flag == "--set"])


@pytest.mark.parametrize("name", [*PAGES, *FILES])
def test_yaml_blocks_are_recipes(name):
    for block in blocks({**PAGES, **FILES}[name], "yaml"):
        recipe = parse_recipe({"name": "page", **yaml.safe_load(block)})
        objective_mix(recipe)


def test_what_the_yaml_blocks_ask_for():
    """As their comments say."""
    served, ensemble = blocks(PAGES["get-started/own-teacher.md"], "yaml")
    (training,) = blocks(PAGES["guides/training.md"], "yaml")
    members = parse_recipe({"name": "page", **yaml.safe_load(ensemble)}).teacher.members
    assert [teacher_loader.split(member.model)[0] for member in members] == ["cross-encoder", "bi-encoder"]
    remote = parse_recipe({"name": "page", **yaml.safe_load(served)})
    named = [remote.teacher.model, *remote.evaluate.baselines]
    assert [name.removeprefix("api:") for name in named] == list(remote.endpoints)
    mix, views = objective_mix(parse_recipe({"name": "page", **yaml.safe_load(training)}))
    assert set(mix.parts) == {"in_batch", "listwise_kl", "margin_mse"}
    assert [view.name for view in views] == ["full", "64", "int8"]


def said_by_the_code() -> str:
    """Every string of the package, one a line, with ``...`` where a value is put in."""
    strings = []
    for path in (ROOT / "retrieval_distill").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
                strings.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                strings.append(node.value)
    return "\n".join(strings)


def test_the_messages_of_the_troubleshooting_page_are_those_of_the_code():
    quoted = re.findall(r"^\| ((?:`[^`]*`(?:, )?)+) \|", PAGES["reference/troubleshooting.md"], re.M)
    code = said_by_the_code()
    parts = [
        part.strip() for cell in quoted for message in re.findall(r"`([^`]*)`", cell) for part in message.split("...")
    ]
    assert len(quoted) > 40
    assert not [part for part in parts if part not in ("", "?") and part not in code]


def test_an_objective_of_ones_own_is_named_in_a_recipe_once_it_is_registered(monkeypatch):
    """As the guide says, and as the message for an unknown objective says where to find it."""
    page = PAGES["guides/extend.md"]
    recipe = parse_recipe({"name": "mine", **yaml.safe_load(re.search(r"```\n# mine.yaml\n(.*?)```", page, re.S)[1])})
    monkeypatch.setitem(OBJECTIVES, "top_one", None)  # whatever becomes of it, it is put back
    del OBJECTIVES["top_one"]
    with pytest.raises(UserError, match=r"registered before, which a script does: docs/guides/extend\.md"):
        objective_mix(recipe)
    block, registers = blocks(page, "python")[0], 'OBJECTIVES["top_one"] = TopOne'
    exec(compile(block[: block.index(registers) + len(registers)], "extend.md", "exec"), {"__name__": "__main__"})
    mix, _ = objective_mix(recipe)
    assert mix.parts["top_one"].objective.temperature == 2.0


GUIDES = [
    ["get-started/own-corpus.md", "guides/publish.md", "reference/run-folder.md"],  # the later ones look at its run
    ["guides/documents.md"],
    ["get-started/own-teacher.md"],
    ["guides/ship.md"],
    ["guides/stages.md"],
    ["guides/feedback.md"],
]


@pytest.mark.parametrize("pages", GUIDES, ids=lambda pages: pages[0])
def test_the_commands_of_the_guides_run(pages, tmp_path, cross_encoders, encoders, tiny_recipe, monkeypatch):
    """Every line, in one folder, on the sample data with tiny models in place of those it names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-folder").symlink_to(ROOT / "data" / "sample")
    (tmp_path / "my-docs").mkdir()
    for number, line in enumerate(FILES["README.md"].split("\n\n")[2:8]):
        (tmp_path / "my-docs" / f"{number}.txt").write_text(f"{line}\n", encoding="utf-8")
    with FeedbackLog.open(tmp_path / "feedback.db") as log:
        search = log.record_search(query="what survives a crash", system="student", shown=["wal", "bloom"], session="a")
        log.record_click(search_id=search, doc_id="wal")
    cross_encoder, student = cross_encoders["bert"], tiny_recipe["student"]["model"]
    tiny = {
        "cross-encoder/ms-marco-MiniLM-L6-v2": cross_encoder,
        "cross-encoder/ettin-reranker-17m-v1": cross_encoder,
        "packaged:all-MiniLM-L6-v2": encoders["bert"],
        "distilbert/distilbert-base-uncased": student,
    }
    few = ["training.steps=2", "training.queries_per_step=4", f"student.model={student}"]
    shorter = {
        ("run", "own-corpus"): [*few, f"teacher.model={cross_encoder}"],
        ("run", "gpl"): [*few, f"teacher.model={cross_encoder}", "generate.ways={titles: 1, sentences: 1}"],
        ("distill",): few,
        ("compress",): ["tokens=500", "tokens_per_step=256", "max_length=32"],
        ("fit-teacher",): ["steps=2", "queries_per_step=2", "max_length=48"],
    }
    for program, *words in (line for page in pages for line in commands(PAGES[page])):
        if program == "cp":
            shutil.copytree(*words[-2:])
            continue
        for name, folder in tiny.items():
            words = [word.replace(name, folder) for word in words]
        words = [cross_encoder if word == "starter" else word for word in words]
        options = shorter.get(tuple(words[:2]), shorter.get(tuple(words[:1]), []))
        command(*words, *(part for option in options for part in ("--set", option)))


PYTHON = [name for name in PAGES if blocks(PAGES[name], "python")]


@pytest.mark.skipif(not STARTER_FOLDER.is_dir(), reason="the starter teacher is not in this checkout")
@pytest.mark.parametrize("name", PYTHON)
def test_python_blocks_run(name, tmp_path, tiny_recipe, monkeypatch):
    """In a folder with the sample data, and a tiny recipe whose search has two settings to try."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data")
    search = {"space": {"training.learning_rate": [1e-4, 2e-4]}, "sampler": "grid", "finalists": 1, "seeds": 1}
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(tiny_recipe | {"tune": search}))
    for block in blocks(PAGES[name], "python"):
        exec(compile(block, name, "exec"), {"__name__": "__main__"})
