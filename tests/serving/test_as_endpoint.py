"""What is measured through our own server is what is measured without it."""

from __future__ import annotations

import pandas as pd
import pytest

from retrieval_distill import api, endpoints
from retrieval_distill.config import parse
from retrieval_distill.config.endpoint import APIConfig
from retrieval_distill.data.dataset_loader import load


@pytest.mark.parametrize(("speaks", "path"), [("v1", "/v1"), ("tei", "")])
def test_the_student_through_serve_is_the_student(served, finished_run, tmp_path, speaks, path):
    options = {"endpoint": f"{served.url}{path}", "model": "student", "speaks": speaks}
    endpoints.declare({f"own-{speaks}": parse(APIConfig, options, "own")})
    data, runs = load(str(finished_run.parent / "data"), tmp_path), []
    for number, model in enumerate((f"api:own-{speaks}", finished_run / "student")):
        vectors, index = tmp_path / f"vectors{number}", tmp_path / f"index{number}"
        api.embed(data, model, out=vectors, dtype="float32")
        api.index(vectors, out=index)
        runs.append(api.search(data.queries("test"), index, model=model, depth=20, dtype="float32"))
    through, directly = runs
    # text-embeddings-inference answers with vectors of length 1, which rounds them once more
    exact = {"check_exact": True} if speaks == "v1" else {"rtol": 0, "atol": 2e-6}
    pd.testing.assert_frame_equal(through.frame, directly.frame, **exact)
