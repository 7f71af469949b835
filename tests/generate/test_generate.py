"""``generate`` as a verb, a command and a stage: from a bare corpus to a dataset and to a student."""

from __future__ import annotations

import json
import signal
from dataclasses import replace

import pandas as pd
import pytest

from retrieval_distill import api, pipeline
from retrieval_distill.api import teachers
from retrieval_distill.api.teachers import fit_teacher
from retrieval_distill.config import load_recipe, parse_recipe
from retrieval_distill.data import generated
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.dataset_loader import load
from retrieval_distill.data.formats import beir
from retrieval_distill.data.mixture import join_datasets
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.pipeline.checks import check
from retrieval_distill.pipeline.data import open_job
from retrieval_distill.pipeline.rounds import Round
from retrieval_distill.reporting.publish import report
from retrieval_distill.teacher.fitting import fit
from tests import programs
from tests.commands import command

WAYS = {"titles": 1, "sentences": 2}


@pytest.fixture(scope="module")
def bare(corpus, tmp_path_factory) -> str:
    """A folder that holds a corpus and nothing else."""
    folder = tmp_path_factory.mktemp("bare") / "corpus"
    beir.save(corpus, folder)
    (folder / "queries.jsonl").unlink()
    (folder / "qrels").rmdir()
    return str(folder)


def test_a_bare_corpus_loads(bare, corpus, tmp_path):
    found = load(bare, tmp_path)
    assert found.documents.fingerprint == corpus.documents.fingerprint
    assert (len(found.queries), found.qrels) == (0, {})


def test_the_command_writes_a_dataset_that_loads(bare, corpus, tmp_path):
    out = tmp_path / "out"
    asked = ("generate", "--dataset", bare, "--ways", "titles,sentences=2", "--out", out, "--cache", tmp_path)
    said = command(*asked, "--set", "keep=0.5")
    found = load(str(out), tmp_path)
    marks = found.generated.to_pandas()
    assert marks["way"].value_counts().to_dict() == {"sentences": 80, "titles": 40}
    assert "titles: 40 made, 40 kept" in said and "120 queries of 40 documents" in said
    assert found.documents.fingerprint == corpus.documents.fingerprint
    assert set(found.qrels) == {"generated"}
    for query_id, way, doc_id, title, text in marks.itertuples(index=False):
        query, (whole_title, whole) = found.queries[query_id], corpus.documents.record(doc_id)
        assert found.qrels["generated"][query_id] == {doc_id: 1}
        assert query == whole_title if way == "titles" else query in whole
        if isinstance(text, str):
            assert query not in f"{title} {text}" and (text in whole or way == "sentences")
    assert 0.2 < marks["text"].isna().mean() < 0.8  # about half were asked to stay
    assert "already" in command("generate", "--dataset", out, "--out", tmp_path / "again", code=2)


def test_only_a_full_set_of_options_is_taken(bare, corpus, tmp_path):
    with pytest.raises(UserError, match="need a teacher"):
        api.generate(corpus, out=tmp_path / "x", ways=WAYS, round_trip={"teacher": 1})
    with pytest.raises(UserError, match=r"ways.*title"):
        api.generate(corpus, out=tmp_path / "x", ways={"title": 1})
    with pytest.raises(UserError, match=r"no query is left; dropped: 40 x titles: query of fewer.*; the way sentences"):
        api.generate(corpus, out=tmp_path / "x", ways={"titles": 1}, min_words=40)
    assert "generate.llm.endpoint" in command("generate", "--dataset", bare, "--ways", "llm", "--out", tmp_path / "y", code=2)  # fmt: skip


def test_a_way_that_finds_nothing_says_what_it_looks_for(tmp_path):
    (tmp_path / "notes").mkdir()
    for number in range(3):
        (tmp_path / "notes" / f"{number}.txt").write_text(f"Note {number} has no title. It has two sentences.\n")
    said = command("generate", "--dataset", tmp_path / "notes", "--ways", "titles,headings", "--out", tmp_path / "out",
                   "--cache", tmp_path / "cache", code=2)  # fmt: skip
    assert "3 x titles: document without a title" in said and "3 x headings: document without headings" in said
    assert "the way sentences makes queries" in said
    made = ("generate", "--dataset", tmp_path / "notes", "--ways", "sentences", "--out", tmp_path / "out")
    assert "3 queries of 3 documents" in command(*made, "--cache", tmp_path / "cache")


def test_several_datasets_are_refused(gpl, bare, tmp_path):
    sources = {name: {"source": bare, "train": None, "dev": None, "test": None} for name in ("one", "two")}
    with pytest.raises(UserError, match="for one dataset"):
        pipeline.run(parse_recipe({**gpl, "dataset": {}, "datasets": sources}), out=tmp_path / "run")


def test_the_same_seed_gives_the_same_queries(corpus, t5, tmp_path):
    options = {"ways": {"sentences": 1, "seq2seq": 2}, "seq2seq": {"model": t5, "query_length": 8}, "min_words": 1}
    made = {}
    for name, seed in (("one", 7), ("other", 7), ("third", 8)):
        api.generate(corpus, out=tmp_path / name, seed=seed, **options)
        made[name] = (tmp_path / name / "queries.jsonl").read_text()
    assert made["one"] == made["other"] != made["third"]


DRIVER = """
import os, signal, sys
from retrieval_distill import api
from retrieval_distill.data.formats import beir
from retrieval_distill.generate import blocks, seq2seq

seq2seq.TOKENS_PER_BATCH["cpu"] = 400
blocks.SECONDS_PER_COMMIT, blocks.BLOCK = 0, 16
real, count = blocks._write, 0
def dying(*args):
    global count
    real(*args)
    count += 1
    if count == 5:
        os.kill(os.getpid(), signal.SIGKILL)
blocks._write = dying
api.generate(beir.load(sys.argv[1]), out=sys.argv[2], ways={"seq2seq": 2, "titles": 0.2}, min_words=1,
               seq2seq={"model": sys.argv[3], "query_length": 8, "dtype": "float32"})
"""


def test_killed_and_started_again_it_ends_the_same(bare, corpus, t5, tmp_path, monkeypatch):
    from retrieval_distill.generate import blocks, seq2seq

    killed = programs.run("-c", DRIVER, bare, tmp_path / "killed", t5)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = list((tmp_path / "killed.partial" / "parts").glob("*.parquet"))
    assert len(left) == 5 and all(path.name.startswith("seq2seq") for path in left)
    monkeypatch.setitem(seq2seq.TOKENS_PER_BATCH, "cpu", 400)
    monkeypatch.setattr(blocks, "BLOCK", 16)
    written = []
    real = seq2seq.Seq2Seq._write
    monkeypatch.setattr(seq2seq.Seq2Seq, "_write", lambda *given: written.extend(given[3]) or real(*given))
    options = {"ways": {"seq2seq": 2, "titles": 0.2}, "min_words": 1,
               "seq2seq": {"model": t5, "query_length": 8, "dtype": "float32"}}  # fmt: skip
    api.generate(corpus, out=tmp_path / "killed", **options)
    resumed = len(written)
    api.generate(corpus, out=tmp_path / "whole", **options)
    assert 0 < resumed < len(written) - resumed == 40
    for name in ("queries.jsonl", "report.json"):
        assert (tmp_path / "killed" / name).read_text() == (tmp_path / "whole" / name).read_text()
    one, other = (pd.read_parquet(tmp_path / name / "generated.parquet") for name in ("killed", "whole"))
    pd.testing.assert_frame_equal(one, other)


@pytest.fixture(scope="module")
def gpl(tiny_recipe, bare) -> dict:
    """The shipped recipe with tiny models, and ways that need none."""
    values = load_recipe("gpl").model_dump(mode="json")
    tiny = {name: tiny_recipe[name] for name in ("teacher", "student", "training", "retrieve", "evaluate")}
    tiny["teacher"] = {**tiny["teacher"], "gate": "off"}
    tiny["training"] = {**tiny["training"], "steps": 3, "save_steps": 3}
    return {**values, **tiny, "dataset": {"source": bare}, "generate": {"ways": WAYS, "keep": 0.2}}


@pytest.fixture(scope="module")
def finished(gpl, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "gpl"
    return out, pipeline.run(parse_recipe(gpl), out=out).details


def test_a_bare_corpus_ends_with_a_student_and_says_that_nothing_was_measured(finished, gpl):
    out, told = finished
    assert "Nothing could be measured: dataset 'corpus' has no judged split 'test'" in told["unmeasured"]
    assert (out / "student" / "model.safetensors").is_file() and (out / "index-student").is_dir()
    for name in ("report.txt", "report.html", "report.md"):
        assert "Nothing could be measured" in (out / name).read_text()
    assert "not finished" not in (out / "report.html").read_text()
    assert "40. " in command("search", out, "path file root", "--depth", 40)
    again = report(out).read_text()  # from its folder alone
    assert "Nothing could be measured" in again and "queries generated" in again
    before = (out / "student" / "model.safetensors").read_bytes()
    pipeline.run(parse_recipe(gpl), out=out)
    assert (out / "student" / "model.safetensors").read_bytes() == before


def test_training_reads_the_documents_without_their_queries(finished, corpus):
    out, _ = finished
    made = pd.read_parquet(out / "generated" / "generated.parquet").set_index("query_id")
    scored = Run.load(out / "teacher-scores" / "run.parquet")
    taken_out = made["text"].notna()
    assert 0.6 < taken_out.mean() < 0.95
    by_query = scored.frame.groupby("query_id")["doc_id"].agg(set)
    for query_id, row in made.iterrows():
        candidates, copy = by_query[query_id], f"{query_id}:document"
        own, other = (copy, row["doc_id"]) if taken_out[query_id] else (row["doc_id"], copy)
        assert own in candidates and other not in candidates


def test_test_queries_are_measured_and_only_what_leads_back_is_trained_on(gpl, corpus, finished, tmp_path):
    queries = [(f"t{i}", " ".join(corpus.documents.record(f"d{i}")[1].split()[:4])) for i in range(8)]
    judged = {"test": [(f"t{i}", f"d{i}", 1) for i in range(8)]}
    beir.save(Dataset.from_records("judged", list(corpus.documents.records()), queries, judged), tmp_path / "judged")
    out = tmp_path / "run"
    config = {**gpl["generate"], "round_trip": {"teacher": 2, "candidates": 4, "retrieval": 10}}
    told = pipeline.run(
        parse_recipe({**gpl, "dataset": {"source": str(tmp_path / "judged")}, "generate": config}), out=out
    ).details
    assert told["systems"]["student"].keys() >= {"nDCG@10"}
    assert "`generated`" in (out / "student" / "README.md").read_text()
    dropped = json.loads((out / "generated" / "report.json").read_text())["dropped"]
    assert any("the teacher ranks below 2" in reason for reason in dropped)
    kept = set(pd.read_parquet(out / "generated" / "generated.parquet")["query_id"])
    every = set(pd.read_parquet(finished[0] / "generated" / "generated.parquet")["query_id"])
    assert kept < every and len(kept) + sum(case["count"] for case in dropped.values()) == len(every)
    assert told["dataset"]["queries"] == {"test": 8, generated.SPLIT: len(kept)}


def test_the_commands_one_by_one_do_not_show_the_student_its_query_either(bare, t5, tmp_path, tiny_recipe):
    """retrieve, score and a training table of a generated folder: the document is scored, and written, without it."""
    out, run, scored = (tmp_path / name for name in ("made", "found.parquet", "scored.parquet"))
    api.generate(load(bare, tmp_path), out=out, ways={"sentences": 1}, keep=0)
    data = f"--dataset {out} --cache {tmp_path}".split()
    command("retrieve", *data, "--split", "generated", "--depth", 5, "--out", run)
    teacher = tiny_recipe["teacher"]["model"]
    command("score", run, *data, "--teacher", teacher, "--store", tmp_path / "store", "--out", scored)
    found = load(str(out), tmp_path)
    own = {f"{query}:document" for query in found.generated["query_id"].to_pylist()}
    copied = own & set(Run.load(scored).frame["doc_id"])
    assert copied
    command("filter-negatives", scored, *data, "--split", "generated", "--set", "highest=-99", "--out", tmp_path / "f.parquet")  # fmt: skip
    assert copied <= set(Run.load(tmp_path / "f.parquet").frame["doc_id"])  # relevant: they stay
    table = tmp_path / "table.parquet"
    command("convert", out, table, "--to", "sentence-transformers", "--scores", scored, "--split", "generated",
            "--negatives", 2, "--cache", tmp_path)  # fmt: skip
    rows = pd.read_parquet(table)
    assert len(rows) > 10
    for row in rows.itertuples():
        assert row.query not in row.positive and all(row.query not in text for text in (row.negative_1, row.negative_2))


def test_a_teacher_is_not_fitted_on_its_query_either(corpus, tmp_path, monkeypatch):
    api.generate(corpus, out=tmp_path / "made", ways={"sentences": 1}, keep=0)
    given = {}
    monkeypatch.setattr(fit, "fit_teacher", lambda _, learnt, *rest: given.update(learnt.__dict__))
    monkeypatch.setattr(teachers, "load_teacher", lambda folder: None)
    fit_teacher(load(str(tmp_path / "made"), tmp_path), out=tmp_path / "teacher", train="generated")
    for query, docs, _ in given["scored"]:
        relevant = [doc for doc in docs if given["qrels"][query].get(doc)]
        assert relevant == [f"{query}:document"] and relevant[0] in given["documents"]


def test_joined_datasets_keep_what_is_known_of_their_queries(bare, corpus, tmp_path):
    api.generate(corpus, out=tmp_path / "made", ways={"sentences": 1}, keep=0.5)
    made, other = load(str(tmp_path / "made"), tmp_path), Dataset.from_records("o", [("d0", "", "x")], [("q", "x")], {"train": [("q", "d0", 1)]})  # fmt: skip
    asked = replace(made, qrels={"train": made.qrels("generated")})
    both = join_datasets({"a": asked, "b": other})
    alone = generated.training_view(made, "generated")
    seen = generated.training_view(both, "train")
    taken_out = [f"{query}:document" for query in made.queries if f"{query}:document" in alone.documents]
    assert 5 < len(taken_out) < 35
    for copy in taken_out:
        assert seen.documents[f"a/{copy}"] == alone.documents[copy]
    assert seen.qrels("train")["b/q"] == {"b/d0": 1}
    assert seen.sources == both.sources
    first = made.queries.ids[0]
    assert seen.qrels("train")[f"a/{first}"] == {f"a/{doc}": grade for doc, grade in alone.qrels("generated")[first].items()}  # fmt: skip
    assert (
        generated.training_view(replace(both, qrels={"train": {"b/q": {"b/d0": 1}}}), "train").documents
        is both.documents
    )


def test_a_generated_dataset_is_not_prepared(corpus, tmp_path):
    api.generate(corpus, out=tmp_path / "made", ways={"titles": 1})
    with pytest.raises(UserError, match="prepare the dataset they were generated from"):
        api.prepare(load(str(tmp_path / "made"), tmp_path), out=tmp_path / "clean")


def test_a_generated_folder_is_scored_as_the_stage_is(gpl, corpus, finished, tmp_path):
    """The command's folder and the stage are the same data: what trains the student is the same."""
    api.generate(corpus, out=tmp_path / "made", ways=WAYS, keep=0.2)
    values = {**gpl, "dataset": {"source": str(tmp_path / "made"), "train": "generated", "test": "generated"}}
    job = open_job(parse_recipe({**values, "generate": None}), tmp_path / "run")
    check(job)
    pipeline.embed_start(job)
    for stage in (pipeline.retrieve, pipeline.score):
        stage(Round(job, 1))
    one, other = (Run.load(folder / "teacher-scores" / "run.parquet") for folder in (finished[0], tmp_path / "run"))
    pd.testing.assert_frame_equal(one.frame, other.frame)
    assert any(":document" in doc for _, doc in other.pairs)
