"""Our measures, BEIR's and trec_eval's on real runs, query by query: of a collection made here, and of real ones."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from beir.retrieval.evaluation import EvaluateRetrieval

from retrieval_distill import api
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import beir
from retrieval_distill.evaluation import self_hits
from retrieval_distill.evaluation.measures import evaluate
from tests.conftest import sentence

BEIR = Path(__file__).parents[3] / "shared" / "beir"

NAMES = {
    "nDCG@10": "ndcg_cut_10", "nDCG@100": "ndcg_cut_100", "AP@100": "map_cut_100", "R@100": "recall_100",
    "P@10": "P_10", "Success@5": "success_5", "RR": "recip_rank",
}  # fmt: skip


def made() -> Dataset:
    """120 documents of few words, so that many score alike, and 60 graded queries: some with a word that no document has."""
    rng = random.Random(5)
    documents = [(str(number), "", sentence(rng, rng.randint(3, 30))) for number in range(120)]
    queries = [(str(number), "unheard" if number % 20 == 0 else sentence(rng, 3)) for number in range(60)]
    judged = [(str(query), str(doc), rng.randint(0, 3)) for query in range(60) for doc in rng.sample(range(120), 12)]
    return Dataset.from_records("made", documents, queries, {"test": judged})


def collection(name: str, folder: Path) -> Dataset:
    """A real collection without its empty passages (Cranfield has some) and their judgements, which are no valid dataset."""
    if not (BEIR / name).is_dir():
        pytest.skip(f"needs ../shared/beir/{name}")
    shutil.copytree(BEIR / name, folder / name)
    lines = (BEIR / name / "corpus.jsonl").read_text().splitlines(keepends=True)
    empty = {record["_id"] for record in map(json.loads, lines) if not record["text"].strip()}
    (folder / name / "corpus.jsonl").write_text("".join(line for line in lines if json.loads(line)["_id"] not in empty))
    for path in (folder / name / "qrels").glob("*.tsv"):
        rows = path.read_text().splitlines(keepends=True)
        path.write_text("".join(row for row in rows if row.split("\t")[1] not in empty))
    return beir.load(folder / name)


@pytest.mark.parametrize("name", ["made", "scifact", "medquad", "cranfield"])
def test_equal_on_a_real_run(name, tmp_path):
    dataset = made() if name == "made" else collection(name, tmp_path)
    qrels = dataset.qrels("test")
    found = api.retrieve(dataset.queries("test"), dataset.documents, depth=100)
    run = found.as_dict()
    frame = evaluate(found, qrels, list(NAMES))
    # of all but SciFact, queries and documents are numbered alike, and are different texts
    alike = sum(query in dataset.documents for query in qrels)
    assert (alike > 0) == (name != "scifact")
    assert not self_hits.queries_are_documents(dataset.queries, dataset.documents, qrels)
    theirs = pytrec_eval.RelevanceEvaluator(qrels, set(NAMES.values())).evaluate(run)
    assert set(theirs) == set(run)
    for query, values in theirs.items():
        assert frame.loc[query].to_dict() == pytest.approx({n: values[t] for n, t in NAMES.items()}, abs=1e-12)
    missed = frame.drop(index=list(theirs))
    assert not missed.to_numpy().any()  # judged queries without results count 0
    ndcg, ap, recall, precision = EvaluateRetrieval.evaluate(qrels, run, [10, 100], ignore_identical_ids=False)
    means = frame.sum() / len(theirs)  # BEIR leaves out queries without results
    ours = [means[measure] for measure in ("nDCG@10", "nDCG@100", "AP@100", "R@100", "P@10")]
    beirs = [ndcg["NDCG@10"], ndcg["NDCG@100"], ap["MAP@100"], recall["Recall@100"], precision["P@10"]]
    np.testing.assert_allclose(ours, beirs, atol=6e-6)  # rounded to five decimals
