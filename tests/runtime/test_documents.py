"""Result files: written with their version, read with or without one, refused where they are later or malformed."""

from __future__ import annotations

import json

import pytest

from retrieval_distill.data.prepare.data_report_file import DataReport
from retrieval_distill.errors import UserError
from retrieval_distill.index.index_tuning_file import IndexTuning
from retrieval_distill.reporting.benchmark import BenchmarkReport
from retrieval_distill.reporting.tuning_file import TuningReport
from retrieval_distill.retrieval.hybrid import FusionTuning
from retrieval_distill.runtime.documents import Document, Part

MEAN = {"mean": 0.5, "low": 0.4, "high": 0.6}
SEEDS = {**MEAN, "standard_deviation": 0.01, "seeds": 1, "queries": 9}
OWN = {"name": "own", "settings": {}, **SEEDS, "means": [0.5]}
POINT = {"kind": "flat", "setting": None, "rescore": 0, "recall": 1.0, "milliseconds": 1.0, "slow_milliseconds": 2.0,
         "memory": 400}  # fmt: skip
COUNTS = {"texts": 1, "mean": 3.0, "p50": 3, "p90": 3, "p99": 3, "max": 3, "histogram": {"from": [0], "counts": [1]}}
CONTENTS = {
    "documents": 1,
    "queries": 0,
    "splits": {},
    "lengths": {"words": {"documents": COUNTS, "queries": {"texts": 0}}},
}

OLD = {
    FusionTuning: {"chosen": {"method": "rank", "dense": 0.5}, **MEAN, "alone": 0.4, "gain": MEAN, "measure": "nDCG@10",
                   "queries": 9, "tried": [{"method": "rank", "dense": 0.5, "mean": 0.5}]},
    BenchmarkReport: {
        "measures": ["RR@10"], "average": {}, "environment": {},
        "datasets": {"a": {"docs": 1, "queries": 9, "systems": {"bm25": {"RR@10": {**MEAN, "p_vs": {}, "p_holm_vs": {},
                     "difference_vs": {}}}}, "minimum_detectable": {"RR@10": None}}},
        "tasks": {"sts-mine": {"m": {"measure": "Spearman", **MEAN, "pairs": 12}}},
    },
    IndexTuning: {
        "intent": {"recall": 0.95, "depth": 10, "memory": None, "latency_ms": None, "minutes": 15.0, "queries": 200},
        "documents": 10, "dimensions": 8, "queries": {"chosen_by": 3, "measured_by": 3, "source": "held-out queries"},
        "met": True, "missed": [], "chosen": POINT, "fresh": {"recall": MEAN, "latency_ms": {"p50": 1.0, "p95": 2.0}},
        "points": [{**POINT, "front": True}], "skipped": {}, "hardware": "a CPU", "seconds": 1.0,
    },
    DataReport: {"dataset": "d", "before": CONTENTS, "after": CONTENTS, "left_out_as_bad_input": {},
                 "dropped": {"too short": {"count": 1, "first": ["x"]}}, "duplicates": {}, "leakage": {}, "config": {}},
    TuningReport: {
        "recipe": "r", "measure": "RR@10", "space": {"training.steps": "1..3"}, "sampler": "tpe", "pruning": "none",
        "budget": "1 trials", "seeds": 1, "dev": {"split": "dev", "queries": 9, "documents": 20}, "own": OWN,
        "trials": [{"number": 0, "settings": {"training.steps": 2}, "state": "complete", "value": 0.4,
                    "rungs": {"1": 0.3}, "facts": {"seconds": 1.0}}],
        "importance": {}, "finalists": [OWN], "chosen": OWN, "level": ["own"], "p_holm": {}, "worse": [],
        "detectable": None, "test": None,
    },
}  # fmt: skip
"""Each file as it was written before it had a version."""


@pytest.mark.parametrize("kind", OLD, ids=lambda kind: kind.__name__)
def test_files_of_before_the_version_are_read_and_written_again_with_one(kind, tmp_path):
    (tmp_path / kind.file).write_text(json.dumps(OLD[kind]))
    found = kind.read(tmp_path)
    assert found.version == 1 and found.plain() == OLD[kind]
    found.write(tmp_path, "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == {**OLD[kind], "version": kind.current}
    assert kind.read(tmp_path, "again.json").plain() == {**OLD[kind], "version": kind.current}


class Inner(Part):
    count: int


class Toy(Document):
    file, noun, remedy, current = "toy.json", "toy", "make it again", 3
    inner: Inner


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"version": 4, "inner": {"count": 1}}', "a later version of retrieval-distill wrote this toy; upgrade"),
        ('{"inner": {"count": "x"}}', r"this is no toy \(inner\.count: .*; make it again"),
        ('{"version": "x", "inner": {"count": 1}}', r"this is no toy \(version: "),
        ("[1]", r"this is no toy \(the whole: "),
        ("{", "not JSON .*; make it again"),
    ],
)
def test_what_is_refused(text, message, tmp_path):
    assert Toy.read(tmp_path) is None
    (tmp_path / "toy.json").write_text(text)
    with pytest.raises(UserError, match=message):
        Toy.read(tmp_path)
