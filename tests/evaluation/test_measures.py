import math

import numpy as np
import pytest
import pytrec_eval
from beir.retrieval.evaluation import EvaluateRetrieval
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation import self_hits
from retrieval_distill.evaluation.measures import DEFAULT_MEASURES, evaluate, parse_measures


def values(scores, qrels, measures=DEFAULT_MEASURES):
    """Values of the one query that is judged."""
    frame = evaluate(Run.from_dict(scores), qrels, measures)
    assert len(frame) == 1
    return frame.iloc[0].to_dict()


def ranking(*docs):
    return {doc: float(-rank) for rank, doc in enumerate(docs)}


def random_case(seed, queries=40, documents=150, depth=100, levels=50):
    """Graded judgements and a run with many ties."""
    rng = np.random.default_rng(seed)
    docs = [f"d{i}" for i in range(documents)]
    qrels = {
        f"q{i}": {str(doc): int(rng.integers(0, 4)) for doc in rng.choice(docs, 30, replace=False)}
        for i in range(queries)
    }
    run = {
        query: {str(doc): float(rng.integers(levels)) for doc in rng.choice(docs, depth, replace=False)}
        for query in qrels
    }
    return run, qrels


def test_by_hand():
    """Grades 1, unjudged, 3, judged 0 retrieved; a document of grade 2 missed."""
    got = values({"q": ranking("a", "x", "b", "z")}, {"q": {"b": 3, "a": 1, "c": 2, "z": 0}})
    dcg = 1 / math.log2(2) + 3 / math.log2(4)
    ideal = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    assert got == pytest.approx(
        {"nDCG@10": dcg / ideal, "RR@10": 1.0, "R@100": 2 / 3, "AP@100": (1 / 1 + 2 / 3) / 3, "Success@5": 1.0}
    )


def test_cut_offs_by_hand():
    docs = [f"d{i:02}" for i in range(20)]
    run, qrels = {"q": ranking(*docs)}, {"q": {"d09": 1, "d15": 1}}
    names = ["RR", "RR@9", "RR@10", "RR@11", "Success@9", "Success@10", "R@15", "R@16", "AP@10", "nDCG@9", "P@10"]
    expected = [0.1, 0, 0.1, 0.1, 0, 1, 0.5, 1, 0.05, 0, 0.1]
    assert values(run, qrels, names) == pytest.approx(dict(zip(names, expected, strict=True)))


@pytest.mark.parametrize("rank", range(1, 60))
def test_reciprocal_rank_is_kept_at_its_own_cut_off(rank):
    run = {"q": ranking(*(f"d{i}" for i in range(60)))}
    got = values(run, {"q": {f"d{rank - 1}": 1}}, [f"RR@{rank}", f"RR@{rank - 1 or 1}"])
    assert got[f"RR@{rank}"] == 1 / rank
    assert rank == 1 or got[f"RR@{rank - 1}"] == 0


def test_ties_by_falling_document_id():
    run = {"q": {"a": 1.0, "b": 1.0, "c": 1.0}}
    got = values(run, {"q": {"a": 1}}, ["RR@2", "RR@3", "nDCG@2", "nDCG@3", "Success@2"])
    assert got == pytest.approx({"RR@2": 0, "RR@3": 1 / 3, "nDCG@2": 0, "nDCG@3": 1 / math.log2(4), "Success@2": 0})
    first = values({"q": ranking(*Run.from_dict(run).frame["doc_id"])}, {"q": {"a": 1}})
    assert first == values(run, {"q": {"a": 1}})  # the Run's own order is the order evaluated


@pytest.mark.parametrize("seed", range(3))
def test_equals_pytrec_eval(seed):
    run, qrels = random_case(seed)
    frame = evaluate(Run.from_dict(run), qrels, [*DEFAULT_MEASURES, "P(rel=2)@5", "RR(rel=3)"])
    names = {"nDCG@10": "ndcg_cut_10", "R@100": "recall_100", "AP@100": "map_cut_100", "Success@5": "success_5"}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {*names.values(), "recip_rank"}).evaluate(run)
    strict = pytrec_eval.RelevanceEvaluator(qrels, {"P_5"}, relevance_level=2).evaluate(run)
    stricter = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}, relevance_level=3).evaluate(run)
    assert frame.index.tolist() == list(qrels)
    for query in qrels:
        row = frame.loc[query]
        assert {ours: row[ours] for ours in names} == {ours: theirs[query][name] for ours, name in names.items()}
        rank = round(1 / theirs[query]["recip_rank"])
        assert row["RR@10"] == (1 / rank if rank <= 10 else 0)
        assert row["P(rel=2)@5"] == strict[query]["P_5"]
        assert row["RR(rel=3)"] == stricter[query]["recip_rank"]


def test_equals_beir():
    run, qrels = random_case(7)
    for query, docs in run.items():
        docs[query] = 99.0  # every query finds itself first
        qrels[query]["unseen"] = 1
    queries = Texts.from_records((query, "", f"text of {query}") for query in run)
    found = self_hits.drop_self_hits(Run.from_dict(run), queries, queries, qrels)
    frame = evaluate(found, qrels, ["nDCG@10", "nDCG@100", "AP@10", "AP@100", "R@10", "R@100", "P@10"])
    ndcg, ap, recall, precision = EvaluateRetrieval.evaluate(qrels, {q: dict(d) for q, d in run.items()}, [10, 100])
    theirs = [*ndcg.values(), *ap.values(), *recall.values(), precision["P@10"]]
    assert frame.mean().tolist() == pytest.approx(theirs, abs=6e-6)  # BEIR rounds to five decimals


grades = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 3), min_size=1)
scores = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(-3, 3).map(float))


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from("uvw"), scores), st.dictionaries(st.sampled_from("uvw"), grades, min_size=1))
def test_agrees_with_plain_python(run, qrels):
    frame = evaluate(Run.from_dict(run), qrels, ["nDCG@3", "RR@3", "R@3", "AP@3", "Success@3"])
    for query, judged in qrels.items():
        docs = sorted(run.get(query, {}), key=lambda doc: (run[query][doc], doc), reverse=True)[:3]
        gains = [judged.get(doc, 0) for doc in docs]
        relevant = sum(grade > 0 for grade in judged.values())
        ideal = sum(g / math.log2(i + 2) for i, g in enumerate(sorted(judged.values(), reverse=True)[:3]))
        dcg = sum(g / math.log2(i + 2) for i, g in enumerate(gains))
        hits = [i for i, gain in enumerate(gains) if gain]
        precisions = sum((n + 1) / (i + 1) for n, i in enumerate(hits))
        expected = [
            dcg / ideal if ideal else 0,
            1 / (hits[0] + 1) if hits else 0,
            len(hits) / relevant if relevant else 0,
            precisions / relevant if relevant else 0,
            1 if hits else 0,
        ]
        assert frame.loc[query].tolist() == pytest.approx(expected)


def test_a_document_of_the_querys_id_is_a_document_like_any_other():
    """Ids alone tell nothing: queries and documents may both be numbered from 1."""
    run, judged = {"1": ranking("1", "a"), "2": ranking("1", "a")}, {"1": {"a": 1}, "2": {"a": 1}}
    theirs = pytrec_eval.RelevanceEvaluator(judged, {"recip_rank"}).evaluate(run)
    ours = evaluate(Run.from_dict(run), judged, ["RR@10"])["RR@10"].to_dict()
    assert ours == {"1": 0.5, "2": 0.5} == {query: found["recip_rank"] for query, found in theirs.items()}


def test_rows_are_the_judged_queries_in_order():
    run = Run.from_dict({"unjudged": ranking("a"), "found": ranking("a")})
    qrels = {"z-missed": {"a": 1}, "empty": {}, "found": {"a": 1}, "a-nothing-relevant": {"a": 0}}
    frame = evaluate(run, qrels)
    assert frame.index.name == "query_id"
    assert frame.index.tolist() == ["z-missed", "found", "a-nothing-relevant"]
    assert tuple(frame.columns) == DEFAULT_MEASURES
    assert frame.sum(axis=1).tolist() == [0, 5, 0]


def test_empty_run_counts_zero():
    frame = evaluate(Run.from_dict({}), {"p": {"a": 1}, "q": {"b": 2}})
    assert frame.to_numpy().tolist() == [[0.0] * 5] * 2
    assert set(frame.dtypes) == {np.dtype(float)}


def test_columns_keep_the_names_given():
    frame = evaluate(Run.from_dict({"q": ranking("x", "a")}), {"q": {"a": 1}}, ["MAP@10", "AP@10", "MRR@10", "RR@1"])
    assert frame.iloc[0].to_dict() == {"MAP@10": 0.5, "AP@10": 0.5, "MRR@10": 0.5, "RR@1": 0}


def test_measures_do_not_disturb_each_other():
    """ir_measures computes plain nDCG with the gains of an nDCG before it, and puts 0 for the latter."""
    run, qrels = random_case(1, queries=5)
    names = ["nDCG(gains={1:7})@10", "nDCG@10", "P(rel=2)@5", "nDCG(judged_only=True)@10", *DEFAULT_MEASURES]
    together = evaluate(Run.from_dict(run), qrels, names)
    for name in names:
        assert together[name].tolist() == evaluate(Run.from_dict(run), qrels, [name])[name].tolist()
    assert together["nDCG@10"].tolist() != together["nDCG(gains={1:7})@10"].tolist()


def test_single_precision_ties_as_in_trec_eval():
    assert values({"q": {"a": 1 + 1e-12, "b": 1.0}}, {"q": {"a": 1}}, ["RR@1"]) == {"RR@1": 0}
    assert values({"q": {"a": 1 + 1e-6, "b": 1.0}}, {"q": {"a": 1}}, ["RR@1"]) == {"RR@1": 1}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ndcg@10", "did you mean 'nDCG@10'?"),
        ("Ndcg(dcg='log2')@10", "did you mean \"nDCG(dcg='log2')@10\"?"),
        ("mrr@10", "did you mean 'MRR@10'?"),
        ("Sucess@5", "did you mean 'Success@5'?"),
        ("recall", "did you mean 'Recall'"),
        ("zzz", "choose one of: AP, "),
        ("", "choose one of: AP, "),
        ("ERR@10", "unknown measure 'ERR@10'"),
        ("nDCG@0", "1 or more"),
        ("RR@0", "1 or more"),
        ("nDCG@True", "1 or more"),
        ("nDCG@-1", "write it as"),
        ("nDCG@1.5", "write it as"),
        ("nDCG@", "write it as"),
        ("R", "write it as"),
        ("nDCG(depth=3)@10", "write it as"),
        ("nDCG@10; P@5", "write it as"),
        ("nDCG(dcg='exp-log2')@10", "does not compute nDCG with these parameters"),
    ],
)
def test_measures_that_are_refused(name, hint):
    with pytest.raises(UserError) as error:
        parse_measures(["nDCG@10", name])
    assert repr(name) in str(error.value)
    assert hint in str(error.value)


def test_parsed_measures_print_as_written():
    names = [*DEFAULT_MEASURES, "P(rel=2)@5", "Rprec", "IPrec@0.1"]
    assert [str(measure) for measure in parse_measures(names)] == names


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (Run.from_dict({"q": {"a": 1.0, "b": math.nan}}), "query 'q', document 'b' has the score NaN"),
        (Run.from_columns(["q", "q"], ["a", "a"], [2.0, 1.0]), "query 'q', document 'a' appears twice"),
    ],
)
def test_unclear_runs_are_refused(run, message):
    with pytest.raises(UserError, match=message):
        evaluate(run, {"q": {"a": 1}})


@pytest.mark.parametrize("qrels", [{}, {"q": {}}])
def test_nothing_judged_is_refused(qrels):
    with pytest.raises(UserError, match="no judged query"):
        evaluate(Run.from_dict({"q": {"a": 1.0}}), qrels)
