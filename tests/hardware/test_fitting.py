"""Work that runs out of memory goes on in smaller parts, for good; every other error is raised."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retrieval_distill.errors import UserError
from retrieval_distill.hardware.fitting import Fitting
from retrieval_distill.student import encoder
from tests.conftest import WORDS


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 400), st.integers(12, 200))
def test_every_row_once_in_order_and_never_more_than_fits(rows, longest, tokens, memory):
    tried, fitting = [], Fitting(tokens, "testing", "take less")

    def work(part):
        tried.append(len(part))
        if len(part) * longest > memory:
            raise torch.OutOfMemoryError("no memory left")
        return part

    batch = np.arange(rows)[::-1]
    assert np.concatenate(fitting(work, batch, longest)).tolist() == batch.tolist()
    tried.clear()
    fitting(work, batch, longest)
    assert max(tried) * longest <= memory  # what was learnt is kept


def test_what_does_not_fit_at_all():
    def work(part):
        raise torch.OutOfMemoryError("no memory left")

    with pytest.raises(UserError, match="no memory for 9 tokens at once; take less"):
        Fitting(90, "testing", "take less")(work, np.arange(10), 9)


def test_other_errors_are_raised():
    def work(part):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        Fitting(90, "testing", "take less")(work, np.arange(10), 9)


def test_embedding_goes_on_with_less(encoders, monkeypatch, caplog):
    model = encoder.load(encoders["bert"])
    texts = [" ".join(WORDS[i % 30 : i % 30 + 3 + i % 20]) for i in range(300)]
    expected, real, sizes = encoder.encode(model, texts, "document"), encoder.forward, []

    def small_device(model, rows, *args, **options):
        if len(rows) * max(map(len, rows)) > 100:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(rows))
        return real(model, rows, *args, **options)

    monkeypatch.setattr(encoder, "forward", small_device)
    np.testing.assert_allclose(encoder.encode(model, texts, "document"), expected, atol=1e-5)
    assert max(sizes) > 1 and "out of memory: embedding goes on with" in caplog.text
