"""A cluster that loses a node on the way gives the bytes of one machine; without Ray there is nothing to test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from retrieval_distill.errors import UserError
from retrieval_distill.indexing import embed as embedding
from retrieval_distill.indexing.embed import embed
from retrieval_distill.retrieval.run import Run
from retrieval_distill.teacher import cross_encoder, scoring
from retrieval_distill.teacher.bi_encoder import BiEncoderTeacher
from retrieval_distill.teacher.on_cluster import on_cluster
from retrieval_distill.teacher.store import ScoreStore


def test_ray_is_an_extra():
    code = "import sys; sys.modules['ray'] = None; from retrieval_distill import cluster; cluster.connect()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'retrieval-distill[ray]'" in done.stderr


@pytest.fixture
def nodes(monkeypatch):
    """A cluster of two nodes of one core each, besides a head that does no work; nodes can be killed."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    small = {"object_store_memory": 100 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    workers = [cluster.add_node(num_cpus=1, object_store_memory=100 << 20) for _ in range(2)]
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster, workers
    ray.shutdown()
    cluster.shutdown()


class KilledOnTheWay:
    """Kills a node when the work is a third done."""

    def __init__(self, nodes, monkeypatch, module, name, after):
        cluster, workers = nodes
        real, self.calls = getattr(module, name), 0

        def counted(*arguments, **options):
            self.calls += 1
            if self.calls == after:
                cluster.remove_node(workers[0], allow_graceful=False)
            return real(*arguments, **options)

        monkeypatch.setattr(module, name, counted)


def test_embedding_with_a_node_killed(nodes, encoders, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "SHARD", 4)
    embed(encoders["bert"], dataset.documents, tmp_path / "here", "float32")
    killed = KilledOnTheWay(nodes, monkeypatch, embedding.shards, "write", after=5)
    embed(encoders["bert"], dataset.documents, tmp_path / "there", "float32", engine="ray")
    assert killed.calls == 15  # every shard was committed once
    here, there = (sorted(path.name for path in (tmp_path / name).glob("vectors-*")) for name in ("here", "there"))
    assert here == there  # names are checksums of bytes
    assert (tmp_path / "here" / "ids.parquet").read_bytes() == (tmp_path / "there" / "ids.parquet").read_bytes()


def test_scoring_with_a_node_killed(nodes, cross_encoders, dataset, tmp_path, monkeypatch):
    asked = Run.from_columns(
        np.repeat(dataset.queries.ids, len(dataset.documents)),
        np.tile(dataset.documents.ids, len(dataset.queries)),
        np.zeros(len(dataset.queries) * len(dataset.documents)),
    )
    teacher = cross_encoder.load(cross_encoders["bert"], 48, "float32")
    here, _ = scoring.score(asked, dataset.queries, dataset.documents, teacher, ScoreStore(tmp_path / "here"))
    spread = on_cluster(teacher)
    killed = KilledOnTheWay(nodes, monkeypatch, spread, "_forward", after=6)
    there, counts = scoring.score(asked, dataset.queries, dataset.documents, spread, ScoreStore(tmp_path / "there"))
    assert counts == {"pairs": len(asked), "scored": len(asked), "stored": 0}
    assert killed.calls > 6
    assert there.frame.equals(here.frame)
    [stored] = ScoreStore(tmp_path / "there").teachers()
    assert stored["pairs"] == len(asked)


def test_what_a_cluster_cannot_do(encoders, monkeypatch, dataset, tmp_path):
    with pytest.raises(UserError, match="scores with one cross-encoder"):
        on_cluster(BiEncoderTeacher.__new__(BiEncoderTeacher))
    with pytest.raises(UserError, match="engine 'rey' is unknown; did you mean 'ray'"):
        embed(encoders["bert"], dataset.documents, tmp_path / "v", engine="rey")
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match="no Ray cluster answers"):
        embed(encoders["bert"], dataset.documents, tmp_path / "v", engine="ray")
