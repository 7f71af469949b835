"""An index by intent: the front is a front, the cheapest that does is chosen, and what is said of it is so."""

from __future__ import annotations

import json
import signal
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_distill import api
from retrieval_distill.config import IntentConfig, parse_recipe
from retrieval_distill.embedding.embed import comparable
from retrieval_distill.errors import UserError
from retrieval_distill.index import build, trials, tune
from retrieval_distill.index.faiss_index import Index
from retrieval_distill.index.index_tuning_file import IndexTuning
from retrieval_distill.index.kinds import KINDS
from retrieval_distill.index.operating_points import Point, choose, front, shortfalls
from retrieval_distill.reporting import tradeoff
from tests import programs
from tests.index.stored import clustered, store


def point(recall, milliseconds, memory):
    return Point("flat", None, 0, recall, milliseconds, milliseconds, memory)


levels = st.sampled_from([1, 2, 3, 4])
some_points = st.lists(st.builds(point, levels.map(lambda n: n / 4), levels, levels), min_size=1, max_size=12)


@given(some_points)
def test_the_front_is_what_nothing_beats(points):
    kept = front(points)
    assert kept
    for p in points:
        better = [
            q for q in points
            if q.recall >= p.recall and q.milliseconds <= p.milliseconds and q.memory <= p.memory
            and (q.recall, q.milliseconds, q.memory) != (p.recall, p.milliseconds, p.memory)
        ]  # fmt: skip
        assert (p in kept) == (not better)


@given(some_points, st.sampled_from([0.25, 0.5, 1.0]), st.none() | levels, st.none() | levels)
def test_the_choice_is_the_cheapest_that_does(points, recall, memory, latency):
    intent = IntentConfig(recall=recall, memory=memory, latency_ms=latency)
    fit = [
        p for p in points
        if p.recall >= recall and (memory is None or p.memory <= memory)
        and (latency is None or p.milliseconds <= latency)
    ]  # fmt: skip
    chosen = choose(points, intent)
    assert (not shortfalls(chosen, intent)) == bool(fit)
    if fit:
        assert chosen in fit and chosen.memory * chosen.milliseconds == min(p.memory * p.milliseconds for p in fit)


def test_of_those_that_miss_the_nearest_is_chosen():
    fast, small = point(0.99, 1, 4000), point(0.99, 6, 1000)
    assert choose([fast, small], IntentConfig(recall=0.9, memory=2000, latency_ms=5)) == small  # 1.2x, not 2x over
    assert choose([fast, small], IntentConfig(recall=0.9, memory=2000, latency_ms=1)) == fast  # 2x, not 6x over
    assert shortfalls(small, IntentConfig(recall=0.9, memory=2000, latency_ms=5)).keys() == {"latency"}
    close, far = point(0.94, 9, 9), point(0.90, 1, 1)
    assert choose([close, far], IntentConfig(recall=0.95)) == close


DOCUMENTS = clustered(3000)
HELD_OUT = clustered(60, seed=5)

HELD = tune.HeldOutQueries("these", lambda: HELD_OUT)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """An index tuned on held-out queries, and its report."""
    folder = tmp_path_factory.mktemp("tuned")
    store(folder / "vectors", DOCUMENTS)
    intent = IntentConfig(recall=0.9, memory=700_000, queries=60)
    tune.auto(folder / "vectors", folder / "index", intent, queries=HELD)
    return folder, json.loads((folder / "index" / "tuning.json").read_text())


def recall_of(opened, queries):
    products = comparable(queries, "cosine") @ comparable(DOCUMENTS, "cosine").T
    best = np.argsort(-products, axis=1)[:, :10]
    _, rows = opened.best_rows(queries, 10)
    return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows, best, strict=True)])


def test_the_kept_index_is_what_the_report_says(tuned):
    folder, report = tuned
    opened, chosen = Index.open(folder / "index"), report["chosen"]
    assert report["met"] and chosen["recall"] >= 0.9 and chosen["memory"] <= 700_000
    assert opened.manifest["counts"]["bytes"] == chosen["memory"]
    assert opened.manifest["counts"]["kind"] == chosen["kind"]
    assert (opened.setting.setting, opened.setting.rescore) == (chosen["setting"], chosen["rescore"])
    assert recall_of(opened, HELD_OUT[0::2]) == pytest.approx(chosen["recall"], abs=0.01)
    assert recall_of(opened, HELD_OUT[1::2]) == pytest.approx(report["fresh"]["recall"]["mean"], abs=0.01)
    assert report["queries"] == {"chosen_by": 30, "measured_by": 30, "source": "held-out queries"}
    assert {path.name for path in (folder / "index").iterdir()} - {".fingerprint"} == {
        "index.faiss", "ids.parquet", "manifest.json", "tuning.json",
        *(["vectors.npy"] if chosen["rescore"] else []),
    }  # fmt: skip
    opened.verify()


def test_every_kind_was_tried_at_all_it_could_need(tuned):
    _, report = tuned
    points = report["points"]
    assert {p["kind"] for p in points} == set(KINDS) and not report["skipped"]
    for kind in ("hnsw", "ivf"):
        recalls = [p["recall"] for p in points if p["kind"] == kind]
        assert recalls[-1] >= trials.SUFFICIENT_RECALL or len(recalls) == len(KINDS[kind].settings)
        assert recalls[-1] == max(recalls)
    assert [p["recall"] for p in points if p["kind"] == "flat"] == [1.0]
    assert any(p["rescore"] for p in points if p["kind"] == "binary")


def test_the_same_intent_is_not_tried_again_and_another_is(tuned):
    folder, _ = tuned
    same = IntentConfig(recall=0.9, memory=700_000, queries=60)
    unread = tune.HeldOutQueries("these", lambda: pytest.fail("the queries were embedded again"))
    assert tune.auto(folder / "vectors", folder / "index", same, queries=unread)["skipped"]
    other = IntentConfig(recall=1.0, queries=20)
    assert not tune.auto(folder / "vectors", folder / "other", other, queries=HELD)["skipped"]
    assert json.loads((folder / "other" / "tuning.json").read_text())["chosen"]["recall"] == 1.0


def test_an_intent_that_nothing_meets_is_said(tuned, caplog):
    folder, _ = tuned
    intent = IntentConfig(recall=0.99, memory=1000, queries=20)
    with caplog.at_level("WARNING"):
        tune.auto(folder / "vectors", folder / "impossible", intent)
    assert "nothing tried meets the intent" in caplog.text and "memory" in caplog.text
    report = json.loads((folder / "impossible" / "tuning.json").read_text())
    assert not report["met"] and "memory" in report["missed"]
    assert "hnsw" in report["skipped"] and "more than twice the budget" in report["skipped"]["hnsw"]
    assert "Nothing that was tried gives" in tradeoff.table(IndexTuning.read(folder / "impossible"))
    assert Index.open(folder / "impossible").documents == 3000


def test_time_is_kept(tuned):
    """Without time for more, the kind that is built quickest is still there."""
    folder, _ = tuned
    tune.auto(folder / "vectors", folder / "hasty", IntentConfig(minutes=1e-9, queries=20))
    report = json.loads((folder / "hasty" / "tuning.json").read_text())
    assert len({p["kind"] for p in report["points"]}) == 1 and len(report["skipped"]) == len(KINDS) - 1
    assert all("are left" in reason for reason in report["skipped"].values())


def test_equal_documents_are_as_good_as_each_other(tmp_path):
    """Of 300 documents thirty times the same, any thirty are the best: every kind's recall is 1 in the end."""
    few = clustered(10)
    store(tmp_path / "vectors", np.repeat(few, 30, axis=0))
    tune.auto(
        tmp_path / "vectors",
        tmp_path / "index",
        IntentConfig(queries=20),
        queries=tune.HeldOutQueries("few", lambda: few),
    )
    report = json.loads((tmp_path / "index" / "tuning.json").read_text())
    assert max(p["recall"] for p in report["points"] if p["kind"] == "sq8") == 1.0
    assert [p["recall"] for p in report["points"] if p["kind"] == "flat"] == [1.0]


def test_synthetic_queries_are_as_far_from_a_document_as_asked(tmp_path):
    unit = comparable(clustered(500), "cosine")
    store(tmp_path / "vectors", unit)
    made = tune.synthetic_queries(tune.PreparedVectors(tune.Embeddings.open(tmp_path / "vectors")), 200)
    nearest = (comparable(made, "cosine") @ unit.T).max(axis=1)
    assert made.shape == (200, 32) and 0.55 < np.median(nearest) < 0.95
    np.testing.assert_array_equal(
        made, tune.synthetic_queries(tune.PreparedVectors(tune.Embeddings.open(tmp_path / "vectors")), 200)
    )


KILLED = """
import os, signal, sys
from retrieval_distill.config import IntentConfig, parse_recipe
from retrieval_distill.index import build, trials, tune
real, count = build.write, 0
def dying(*arguments):
    global count
    count += 1
    if count == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    print(arguments[1], flush=True)
    return real(*arguments)
build.write = dying
tune.auto(sys.argv[1], sys.argv[2], IntentConfig(queries=20))
"""


def test_a_killed_search_for_an_index_keeps_what_it_had_built(tuned, tmp_path, monkeypatch):
    folder, _ = tuned
    killed = programs.run("-c", KILLED, folder / "vectors", tmp_path / "index")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    built, real = [], build.write
    monkeypatch.setattr(build, "write", lambda out, name, *rest: built.append(name) or real(out, name, *rest))
    tune.auto(folder / "vectors", tmp_path / "index", IntentConfig(queries=20))
    before = killed.stdout.split()
    assert len(before) == 3 and {*before, *built} == set(KINDS) and len(built) == len(KINDS) - 3
    Index.open(tmp_path / "index").verify()


def test_the_page_says_what_the_report_says(tuned):
    folder, report = tuned
    typed = IndexTuning.read(folder / "index")
    page = tradeoff.page(typed)
    assert page.count("<svg") == 2 and tradeoff.verdict(typed).split(":")[0] in page.replace("&#39;", "'")
    marks = page.count('class="mark kind-') - 2 * len({p["kind"] for p in report["points"]})  # those of the legends
    assert marks == 2 * len(report["points"]) and page.count('class="ring"') == 2
    rows = [line for line in tradeoff.table(typed).splitlines() if "*" in line]
    assert len(rows) <= 1  # the chosen one, if it is on the front
    assert sum(p["front"] for p in report["points"]) == page.count('<th scope="row">')


def test_the_verb_asks_for_queries_of_the_model_that_embedded(tuned, encoders, dataset):
    folder, _ = tuned
    with pytest.raises(UserError, match="was not built with"):
        api.index(folder / "vectors", out=folder / "x", kind="auto", model=encoders["bert"], queries=dataset.queries)


def test_a_recipe_states_an_intent():
    recipe = parse_recipe({"name": "mine", "index": {"kind": "auto", "intent": {"recall": 0.99, "memory": "200MB"}}})
    assert recipe.index.intent.memory == 200_000_000 and recipe.index.intent.latency_ms is None
    with pytest.raises(UserError, match=r"index\.intent\.recall"):
        parse_recipe({"name": "mine", "index": {"intent": {"recall": 1.5}}})


def test_building_time_is_told_from_a_small_index(monkeypatch):
    """Training takes a second and adding two: by hand, for a million, 156,000 of them trained on."""
    some = clustered(4096)
    expected = {"flat": 2 * 1e6 / 4096, "ivf": (156_000 / 4096) ** 2 + 2 * (1e6 / 4096) ** 1.5}
    for kind, seconds in expected.items():
        clock = iter([0.0, 1.0, 3.0])
        monkeypatch.setattr(trials, "time", SimpleNamespace(monotonic=lambda: next(clock)))  # noqa: B023
        assert trials.estimate_build_seconds(KINDS[kind], some, 1_000_000) == pytest.approx(seconds)
