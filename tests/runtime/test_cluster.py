"""A cluster that loses a node on the way gives the bytes of one machine; without Ray there is nothing to test."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from retrieval_distill.data.run import Run
from retrieval_distill.embedding import embed as embedding
from retrieval_distill.embedding import workers
from retrieval_distill.embedding.embed import embed
from retrieval_distill.errors import UserError
from retrieval_distill.scores.store import ScoreStore
from retrieval_distill.teacher import cluster_teacher, cross_encoder, scoring
from retrieval_distill.teacher.bi_encoder import BiEncoderTeacher


def test_ray_is_an_extra():
    code = "import sys; sys.modules['ray'] = None; from retrieval_distill.runtime import cluster; cluster.connect()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'retrieval-distill[ray]'" in done.stderr


@pytest.fixture(scope="module")
def cluster():
    """A head that does no work and one node of one core; a node that is lost is noticed at once."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 200, "health_check_failure_threshold": 3}
    quick["worker_niceness"] = 0  # by default Ray's workers give way to every other test: an import takes minutes
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        memory = {"object_store_memory": 100 << 20}
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": quick, **memory}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        cluster.add_node(num_cpus=1, **memory)
        ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
        ray.shutdown()
        cluster.shutdown()


class LostOnTheWay:
    """One more node, which is lost, with its processes, while it works on a call.

    Args:
        module, there: The function that is called on nodes; each call leaves a mark that it was begun or ended.
        keeper, keep: What is called here for every result; at its third call the node is lost.
    """

    def __init__(self, cluster, patch, marks, module, there, keeper, keep):
        self._cluster, self._marks, self.kept = cluster, marks, 0
        self._node = cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
        marks.mkdir()
        patch.setattr(module, there, marked(getattr(module, there), str(marks)))
        real = getattr(keeper, keep)

        def kept(*arguments, **options):
            self.kept += 1
            if self.kept == 3:
                self._lose()
            return real(*arguments, **options)

        patch.setattr(keeper, keep, kept)

    def calls(self, state: str) -> list[Path]:
        """Marks of calls on the node that were begun, or ended."""
        return list(self._marks.glob(f"{self._node.node_id}-*.{state}"))

    def _lose(self):
        patience = time.monotonic() + 300
        while not self.calls("begun"):
            assert time.monotonic() < patience, "the node was never given a call"
            time.sleep(0.01)
        [busy] = self.calls("begun")
        self._cluster.remove_node(self._node, allow_graceful=False)
        os.kill(int(busy.read_text()), signal.SIGKILL)


def marked(real, marks):
    """A function that says in a folder on which node it is being called, and takes its time."""

    def there(*arguments):
        import ray

        mark = Path(marks) / f"{ray.get_runtime_context().get_node_id()}-{secrets.token_hex(4)}.tmp"
        mark.write_text(str(os.getpid()))
        mark = mark.rename(mark.with_suffix(".begun"))
        time.sleep(0.2)
        result = real(*arguments)
        mark.rename(mark.with_suffix(".ended"))
        return result

    return there


def test_embedding_with_a_node_lost(cluster, encoders, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "SHARD", 4)
    embed(encoders["bert"], dataset.documents, tmp_path / "here", "float32")
    lost = LostOnTheWay(cluster, monkeypatch, tmp_path / "marks", workers, "_encode_on_node", workers.shards, "write")
    embed(encoders["bert"], dataset.documents, tmp_path / "there", "float32", engine="ray")
    assert lost.calls("begun")  # and never ended: that shard was made elsewhere
    assert lost.kept == 15  # every shard was committed once
    here, there = (sorted(path.name for path in (tmp_path / name).glob("vectors-*")) for name in ("here", "there"))
    assert here == there  # names are checksums of bytes
    assert (tmp_path / "here" / "ids.parquet").read_bytes() == (tmp_path / "there" / "ids.parquet").read_bytes()


def test_scoring_with_a_node_lost(cluster, cross_encoders, dataset, tmp_path, monkeypatch):
    asked = Run.from_columns(
        np.repeat(dataset.queries.ids, len(dataset.documents)),
        np.tile(dataset.documents.ids, len(dataset.queries)),
        np.zeros(len(dataset.queries) * len(dataset.documents)),
    )
    teacher = cross_encoder.load(cross_encoders["bert"], 48, "float32")
    here, _ = scoring.score(asked, dataset.queries, dataset.documents, teacher, ScoreStore(tmp_path / "here"))
    spread = cluster_teacher.on_cluster(teacher)
    lost = LostOnTheWay(
        cluster, monkeypatch, tmp_path / "marks", cluster_teacher, "_forward_remote", spread, "_forward"
    )
    there, counts = scoring.score(asked, dataset.queries, dataset.documents, spread, ScoreStore(tmp_path / "there"))
    assert lost.calls("begun")
    assert counts == {"pairs": len(asked), "scored": len(asked), "stored": 0}
    assert there.frame.equals(here.frame)
    [stored] = ScoreStore(tmp_path / "there").teachers()
    assert stored["pairs"] == len(asked)


def test_what_a_cluster_cannot_do(encoders, monkeypatch, dataset, tmp_path):
    with pytest.raises(UserError, match="works only with a single cross-encoder"):
        cluster_teacher.on_cluster(BiEncoderTeacher.__new__(BiEncoderTeacher))
    with pytest.raises(UserError, match="engine 'rey' is unknown; did you mean 'ray'"):
        embed(encoders["bert"], dataset.documents, tmp_path / "v", engine="rey")


def test_no_cluster_answers(encoders, dataset, monkeypatch, tmp_path):
    pytest.importorskip("ray").shutdown()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match="no Ray cluster answers"):
        embed(encoders["bert"], dataset.documents, tmp_path / "v", engine="ray")
