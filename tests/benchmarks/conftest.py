"""Timings as they are: these tests are about them."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def brief_timings():
    """None here."""
