"""A run whose teacher, baseline and retriever answer on a server: killed, continued, and no answer paid for twice."""

from __future__ import annotations

import json
import signal
import time

import pytest
import yaml

from retrieval_distill import endpoints, pipeline
from retrieval_distill.config import parse
from retrieval_distill.config.endpoint import APIConfig
from retrieval_distill.data.formats import beir
from retrieval_distill.llm import priced
from tests import programs
from tests.llm.conftest import served  # noqa: F401

KEY = "sk-secret-0123456789"


def texts_of(served, requests):  # noqa: F811
    return [text for _, body, _ in requests for text in served.texts_of(body)]


def kept_in(out, options):
    """Keys of the answers that a killed run kept, by endpoint."""
    found = {}
    for name, of in options.items():
        declared = endpoints.Declared(name, parse(APIConfig, of, name), out / "answers")
        rows = declared.ledger._rows("SELECT key FROM answers WHERE key IS NOT NULL AND key NOT", [""])
        found[name] = declared.fingerprint, {key for (key,) in rows}
    return found


def is_kept(text, kept):
    """Whether the answer about a text, or about a query with a document, was kept."""
    if isinstance(text, tuple):
        mark, keys = kept["judge"]
        return priced.key(mark, *text) in keys
    mark, keys = kept["vec"]
    return any(priced.key(mark, kind, text) in keys for kind in ("query", "document"))


def test_killed_and_continued_it_pays_for_no_answer_twice(served, tiny_recipe, tmp_path, monkeypatch):  # noqa: F811
    options = {"endpoint": served.v1, "concurrency": 2, "batch": 10, "key_variable": "MY_KEY"}
    recipe = {
        **tiny_recipe,
        "endpoints": {
            "judge": {**options, "price_requests": 2.0},
            "vec": {**options, "price_in": 0.5, "query_prefix": "query: "},
        },
        "teacher": {"model": "api:judge", "gate_queries": 10},
        "mining": {"retrievers": ["bm25", "start", "api:vec"]},
        "evaluate": {**tiny_recipe["evaluate"], "baselines": ["api:vec"], "rerankers": ["bm25"]},
    }
    monkeypatch.setenv("MY_KEY", KEY)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    out = tmp_path / "run"
    command = ["-m", "retrieval_distill", "run", tmp_path / "tiny.yaml", "--out", out]
    seen, said = 0, ""
    for more in (4, 12):  # documents are embedded; the gate asks the teacher
        served.seconds = 0.05
        process = programs.Program(*command)
        while len(served.requests) < seen + more and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        said += "".join(process.communicate())
        assert process.returncode == -signal.SIGKILL
        kept = kept_in(out, recipe["endpoints"])
        asked = set(texts_of(served, served.requests))
        lost = {text for text in asked if not is_kept(text, kept)}
        assert len(asked) > len(lost) and len(lost) <= 2 * 10  # what was under way: two requests of ten texts
        seen = len(served.requests)
        before = asked - lost
    served.seconds = 0.0
    done = programs.run(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    later = texts_of(served, served.requests[seen:])
    assert len(later) == len(set(later)) and not before & set(later)
    total = len(served.requests)
    pipeline.run(tmp_path / "tiny.yaml", out=out)  # a finished run asks nothing
    assert len(served.requests) == total
    report = json.loads((out / "report.json").read_text())
    data = beir.load(tiny_recipe["dataset"]["source"])
    queries, row = len(data.qrels["test"]), report["systems"]["vec"]
    assert row["nDCG@10"]["low"] <= row["nDCG@10"]["mean"] <= row["nDCG@10"]["high"] and row["nDCG@10"]["mean"] > 0.5
    assert 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p95"] and row["timed_as"] == "requests"
    assert row["cost_per_thousand_queries"] == pytest.approx(1000 * 7 * 0.5 / 1e6)  # seven tokens, the server says
    teacher = report["systems"]["teacher"]
    assert teacher["cost_per_thousand_queries"] == pytest.approx(2.0)  # one request reads the ten documents of a query
    assert 0 < teacher["latency_ms"]["p50"] <= teacher["latency_ms"]["p95"] and queries == 10
    assert report["systems"]["rerank-bm25"]["latency_ms"]["p50"] > 0
    assert report["distillation"]["best_untrained"]["system"] not in ("teacher", "rerank-bm25")
    page = (out / "report.html").read_text()
    assert "cost of 1,000 queries" in page and "requests of this run to the endpoint" in page
    said += done.stdout + done.stderr
    assert "asking judge at" in said and "asking vec at" in said and "cost about" in said
    assert KEY not in said
    assert not [path for path in out.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert {authorization for _, _, authorization in served.requests} == {f"Bearer {KEY}"}
