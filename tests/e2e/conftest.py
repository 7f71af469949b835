"""A finished run of the tiny recipe, which the tests of whole runs look at, or copy and go on from."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieval_distill import pipeline
from retrieval_distill.config import parse_recipe
from retrieval_distill.teacher import cross_encoder
from tests.conftest import timed_briefly


@pytest.fixture(scope="session")
def finished(tiny_recipe, tmp_path_factory) -> tuple[Path, dict]:
    """The folder of an uninterrupted run, and its report."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    with timed_briefly() as patch:
        patch.setitem(cross_encoder.TOKENS_PER_BATCH, "cpu", 300)  # many batches, so that a kill falls between two
        return out, pipeline.run(parse_recipe(tiny_recipe), out=out).details
