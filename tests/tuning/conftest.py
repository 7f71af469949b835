"""Databases in which several processes search together."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request, tmp_path) -> str:
    """A file; and a server, where ``RETRIEVAL_DISTILL_POSTGRESQL`` names one, such as postgresql://me@localhost/test."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shared.db'}"
    if not (server := os.environ.get("RETRIEVAL_DISTILL_POSTGRESQL")):
        pytest.skip("RETRIEVAL_DISTILL_POSTGRESQL names no database")
    return server
