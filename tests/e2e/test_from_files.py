"""A newcomer's way: a folder of text files, queries made from them, a student; and what is said on the way."""

from __future__ import annotations

import json
import random
import re
import shlex

import pytest

from retrieval_distill import api, pipeline
from retrieval_distill.config import parse_recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import beir
from retrieval_distill.errors import UserError
from retrieval_distill.pipeline.checks import check
from retrieval_distill.pipeline.data import open_job
from tests.commands import command, program
from tests.conftest import sentence

TINY = ("training.epochs=1", "training.bf16=false", "training.queries_per_step=8", "training.candidates=3",
        "student.max_length=32", "teacher.max_length=48", "teacher.gate_queries=10", "retrieve.depth=6",
        "retrieve.keep=4")  # fmt: skip


def options(*values: str) -> list[str]:
    return [part for value in values for part in ("--set", value)]


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Text files, and what ``generate`` made of them and said."""
    folder, rng = tmp_path_factory.mktemp("new comer"), random.Random(3)
    (folder / "notes").mkdir()
    for number in range(16):
        text = ". ".join(sentence(rng, 6).capitalize() for _ in range(5))
        (folder / "notes" / f"note-{number}.txt").write_text(f"About {sentence(rng, 3)} {number}\n\n{text}.\n")
    said = command("generate", "--dataset", folder / "notes", "--ways", "sentences=2", "--out", folder / "made",
                   "--cache", folder / "cache")  # fmt: skip
    return folder, said


@pytest.fixture(scope="module")
def trained(generated, encoders, cross_encoders):
    """A run of what ``generate`` proposes, with tiny models, and what it said."""
    folder, said = generated
    next_ = shlex.split(re.search(r"next, train on them: retrieval-distill (run gpl .*)", said)[1])
    next_[next_.index("--out") + 1] = str(folder / "run")
    models = options(f"teacher.model={cross_encoders['bert']}", f"student.model={encoders['distilbert']}")
    return folder / "run", program(*next_, *models, *options(*TINY))


def test_generated_queries_are_trained_on_without_a_word_of_the_user(trained):
    out, said = trained
    assert (out / "student" / "model.safetensors").is_file()
    assert "Nothing could be measured: dataset 'made' has no judged split 'test'" in said
    assert "Next: judge some 50 queries and name their split as dataset.test." in said
    assert f"try it: retrieval-distill search {shlex.quote(str(out))} 'a question'" in said
    assert json.loads((out / "recipe.json").read_text())["dataset"]["train"] == "generated"
    assert "1. " in command("search", out, "path file root", "--depth", 3)
    assert "Nothing could be measured" in (out / "report.txt").read_text()
    assert "not finished" not in (out / "report.html").read_text()


def test_each_stage_is_numbered(trained):
    _, said = trained
    numbers = re.findall(r"stage (\d+) of (\d+): ", said)
    assert numbers == [(str(number), str(len(numbers))) for number in range(1, len(numbers) + 1)]
    assert len(numbers) == 6  # the recipe gpl asks no dev queries, neither of the gate nor how to fuse
    for before, after in (("making the student of", "measuring the student's agreement with its teacher before training"),
                          ("training the student: ", "measuring the student's agreement with its teacher after training"),
                          ("the teacher scores ", "scoring pairs with the teacher")):  # fmt: skip
        assert -1 < said.index(before) < said.index(after)


def test_the_numbers_count_what_a_recipe_asks_for(tiny_recipe, encoders, tmp_path):
    """Rounds, dev queries, retrievers, baselines and a compression are stages, a gate that is off is none."""
    values = {
        **tiny_recipe, "mining": {"rounds": 2, "retrievers": ["bm25", encoders["bert"]]},
        "teacher": {**tiny_recipe["teacher"], "gate": "off"}, "compress": {"layers": "first:2", "steps": 1},
        "training": {**tiny_recipe["training"], "evaluate_steps": 4}, "evaluate": {"baselines": [encoders["roberta"]]},
    }  # fmt: skip
    job = open_job(parse_recipe(values), tmp_path)
    before, after = ([act.what for act in acts] for acts in (pipeline.learning(job), pipeline.measuring(job)))
    assert len(before) == 4 + 4 + 5 and len(after) == 4
    assert [what for what in before if "round 2 of 2" in what] == before[-4:]
    assert before[-5] == "vectors and index of the student so far"


def test_judged_queries_beside_generated_ones_are_measured(generated, tiny_recipe, tmp_path):
    folder, _ = generated
    made = beir.load(folder / "made")
    documents = list(made.documents.records())
    queries = [(f"asked-{number}", text[:40]) for number, (_, _, text) in enumerate(documents[:6])]
    judged = {"test": [(f"asked-{number}", documents[number][0], 1) for number in range(6)]}
    beir.save(Dataset.from_records("judged", documents, queries, judged), tmp_path / "judged")
    api.generate(beir.load(tmp_path / "judged"), out=tmp_path / "both", ways={"sentences": 1})
    training = {**tiny_recipe["training"], "steps": 2}
    values = {**tiny_recipe, "dataset": {"source": str(tmp_path / "both")}, "training": training}
    told = pipeline.run(parse_recipe(values), out=tmp_path / "run").details
    assert told["systems"]["student"].keys() >= {"nDCG@10"}
    assert told["recipe"]["dataset"]["train"] == "generated"


def test_a_run_without_a_test_split_is_asked_for_by_null(tiny_recipe, dataset, tmp_path):
    without = Dataset.from_records(
        "without", dataset.documents.records(), [(id_, text) for id_, _, text in dataset.queries.records()],
        {"train": [(query, doc, grade) for query, docs in dataset.qrels("train").items() for doc, grade in docs.items()]},
    )  # fmt: skip
    beir.save(without, tmp_path / "without")
    values = {**tiny_recipe, "dataset": {"source": str(tmp_path / "without")}}
    values["training"] = {**tiny_recipe["training"], "steps": 2}
    with pytest.raises(
        UserError, match=r"has no split .test.; it has: train; to train without measuring: dataset\.test=null"
    ):
        pipeline.run(parse_recipe(values), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    values["dataset"]["test"] = None
    told = pipeline.run(parse_recipe(values), out=tmp_path / "run").details
    assert told["unmeasured"].startswith("Nothing could be measured: dataset.test is null, so nobody knows")
    assert "not finished" not in (tmp_path / "run" / "report.html").read_text()
    values["dataset"]["train"] = "trian"
    with pytest.raises(UserError, match="no split 'trian'"):
        pipeline.run(parse_recipe(values), out=tmp_path / "other")


def test_of_several_datasets_one_trains_on_generated_queries(generated, tiny_recipe, dataset_folder, tmp_path):
    sources = {"made": {"source": str(generated[0] / "made"), "test": None}, "tiny": {"source": dataset_folder}}
    values = {key: value for key, value in tiny_recipe.items() if key != "dataset"}
    job = open_job(parse_recipe({**values, "datasets": sources}), tmp_path / "run")
    check(job)
    assert {query.partition("/")[0] for query in job.training_queries} == {"made", "tiny"}
    assert job.measurable
