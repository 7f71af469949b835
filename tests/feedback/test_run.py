"""A run that learns from feedback beside the rest, and from nothing that people did not say."""

from __future__ import annotations

import pandas as pd
import pytest

from retrieval_distill import pipeline
from retrieval_distill.config import parse_recipe
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.feedback.log import FeedbackLog
from retrieval_distill.pipeline import rounds
from retrieval_distill.pipeline.data import open_job
from retrieval_distill.reporting.run_folder import RunFolder

ROUNDING = 1e-4
"""Scores of pairs in other batches differ by less in float32; their standard deviation is about 1."""

WORDS = "path file root extension split"


@pytest.fixture
def log(tmp_path):
    """One query of its own with a click, skipped documents and a judgement; one of the test split's."""
    with FeedbackLog.open(tmp_path / "feedback.db") as opened:
        search = opened.record_search(query=WORDS, system="start", shown=["d40", "d41", "d42", "d43"])
        opened.record_click(search_id=search, doc_id="d42")
        opened.record_judgement(search_id=search, doc_id="d43", grade=-1)
        yield opened


def recipe(tiny_recipe, log, **feedback):
    teacher = {**tiny_recipe["teacher"], "gate": "off", "dtype": "float32"}
    return parse_recipe({**tiny_recipe, "teacher": teacher, "feedback": {"log": str(log.path), **feedback}})


def lists(job) -> tuple[Run, Run]:
    """Candidates and scores of a run's first stages."""
    pipeline.embed_start(job)
    turn = next(iter(rounds(job)))
    for act in pipeline.teaching(turn)[:2]:
        act.do()
    return tuple(Run.load(job.out / name / "run.parquet") for name in ("candidates", "teacher-scores"))


def test_a_run_trains_on_feedback_beside_the_rest(tiny_recipe, log, dataset, tmp_path, caplog):
    log.record_click(search_id=log.record_search(query=dataset.queries["q39"], system="s", shown=["d1"]), doc_id="d1")
    out = tmp_path / "run"
    made = pipeline.run(recipe(tiny_recipe, log), out=out)
    found = RunFolder.open(out).dataset
    train = found.qrels("train")
    (asked,) = set(train) - set(dataset.qrels("train"))
    assert found.queries[asked] == WORDS and train[asked] == {"d40": 0, "d41": 0, "d42": 3, "d43": 0}
    assert {split: found.qrels(split) for split in ("dev", "test")} == {s: dataset.qrels(s) for s in ("dev", "test")}
    trained = Run.load(out / "training-lists" / "run.parquet")
    assert set(trained.query_ids) == set(train) and {"d40", "d41", "d42", "d43"} <= set(trained.as_dict()[asked])
    assert made.details["stages"]["feedback"]["counts"]["queries"] == 1
    assert "queries from feedback" in (out / "report.md").read_text()
    again = pipeline.run(recipe(tiny_recipe, log), out=out)
    assert all(again.details["stages"][name]["skipped"] for name in ("feedback", "retrieve", "score", "distill"))
    log.record_click(search_id=log.record_search(query=WORDS, system="start", shown=["d40"]), doc_id="d40")
    third = open_job(recipe(tiny_recipe, log), out)
    assert not third.manifests["feedback"]["skipped"] and third.told["clicks"].sum() == 2


def test_feedback_raises_scores_by_its_weight_and_adds_as_many_negatives_as_asked(tiny_recipe, log, tmp_path):
    plain, raised = (
        lists(open_job(recipe(tiny_recipe, log, weight=weight, negatives=negatives), tmp_path / f"{weight}"))
        for weight, negatives in ((0.0, 0), (2.0, None))
    )
    (asked,) = set(plain[0].query_ids) - {f"q{n}" for n in range(40)}
    before, after = (set(run.as_dict()[asked]) for run in (plain[0], raised[0]))
    assert after == before | {"d40", "d41", "d43"}
    one, two = (scored.as_dict() for _, scored in (plain, raised))
    gained = {doc: two[asked][doc] - one[asked][doc] for doc in one[asked]}
    step = gained["d42"]
    assert step > 0 and all(abs(gain) < ROUNDING for doc, gain in gained.items() if doc not in ("d42", "d43"))
    everything = pd.Series([score for docs in two.values() for score in docs.values()])
    assert step == pytest.approx(2 * everything.std(), rel=0.2)
    assert all(
        two[query][doc] == pytest.approx(score, abs=ROUNDING)
        for query in one
        if query != asked
        for doc, score in one[query].items()
    )


def test_generated_queries_and_feedback_train_together(tiny_recipe, log, tmp_path):
    both = recipe({**tiny_recipe, "generate": {"ways": {"titles": 1, "sentences": 1}, "min_words": 2}}, log)
    job = open_job(both, tmp_path / "run")
    pipeline.embed_start(job)
    pipeline.generate(job)
    assert job.train_split == "generated"
    texts = [job.dataset.queries[id_] for id_ in job.dataset.qrels("generated")]
    assert WORDS in texts and len(texts) > 20
    _, scored = lists(job)
    assert set(scored.query_ids) == set(job.dataset.qrels("generated"))


def test_a_missing_or_damaged_log_and_several_datasets_are_refused(tiny_recipe, log, tmp_path):
    with pytest.raises(UserError, match=r"none.db: no such feedback log"):
        missing = {**tiny_recipe, "feedback": {"log": str(tmp_path / "none.db")}}
        pipeline.run(parse_recipe(missing), out=tmp_path / "run")
    with pytest.raises(UserError, match="one dataset at a time"):
        parse_recipe({**tiny_recipe, "dataset": {}, "datasets": {"a": tiny_recipe["dataset"]}, "feedback": {}})
    with pytest.raises(UserError, match=r"feedback.etta.*did you mean 'eta'|feedback.etta"):
        parse_recipe({**tiny_recipe, "feedback": {"etta": 1}})
