"""Narrower encoders: exact where nothing is lost, the nearest of their rank where something is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrieval_distill.compress.captures import Captures
from retrieval_distill.compress.families import family_of
from retrieval_distill.compress.narrow import directions, low_rank, narrow
from retrieval_distill.errors import UserError
from retrieval_distill.student import encoder, layers

ROWS = [np.array(row, np.int32) for row in ([0, 7, 8, 9, 10, 2], [0, 11, 12, 2])]


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_low_rank_is_the_nearest(rank):
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((9, 5), (5, 7)))
    slim = low_rank(left, right, rank)
    assert [tuple(part.shape) for part in slim] == [(9, rank), (rank, 7)]
    lost = torch.linalg.svdvals(left @ right)[rank:].square().sum().sqrt()  # Eckart and Young
    torch.testing.assert_close((left @ right - slim[0] @ slim[1]).norm(), lost)


def test_directions_keep_the_most_and_have_no_mean():
    embeddings = torch.randn(50, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 3
    basis, kept = directions(embeddings, 6)
    torch.testing.assert_close(basis.sum(dim=1), torch.zeros(12).double())
    torch.testing.assert_close(torch.linalg.svdvals(basis), torch.tensor([1.0, 1, 1, 1, 1, 0]).double())
    centred = embeddings - embeddings.mean(dim=1, keepdim=True)
    energies = torch.linalg.svdvals(centred).square()
    assert kept**2 == pytest.approx(float(energies[:5].sum() / energies.sum()))


def spare(model) -> torch.Tensor:
    """Make an encoder that uses 15 directions of 32, 4 of the 8 coordinates of each head, and half of its neurons.

    Returns the projection onto what it uses.
    """
    backbone = model[0].auto_model
    family = family_of(backbone)
    generator = torch.Generator().manual_seed(5)
    vectors = torch.randn(32, 15, generator=generator)
    vectors = torch.linalg.qr(vectors - vectors.mean(dim=0))[0]
    onto = vectors @ vectors.T
    with torch.no_grad():
        for name, weight in backbone.named_parameters():
            if name.lower().endswith("norm.weight"):
                weight.fill_(1.0)
            elif (name.endswith("bias") and "norm" not in name.lower()) or (
                weight.ndim == 2 and "relative" not in name
            ):
                weight.copy_(torch.randn(weight.shape, generator=generator) / 3)
        for module in backbone.modules():
            if isinstance(module, torch.nn.Embedding) and module.weight.shape[1] == 32:
                module.weight.copy_(module.weight @ onto)
        for layer in layers.stack(model)[1]:
            for name in family.projections:
                linear = layer.get_submodule(name)
                unused = torch.arange(32) % 8 >= 4
                linear.weight[unused], linear.bias[unused] = 0.0, 0.0
            reads, writes = (layer.get_submodule(name) for name in family.feed)
            reads.weight[::2], reads.bias[::2] = 0.0, 0.0
            writes.weight[:, ::2] = 0.0
            for linear in (layer.get_submodule(family.output), writes):
                linear.weight.copy_(onto @ linear.weight)
                linear.bias.copy_(onto @ linear.bias)
    return onto


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "mpnet"])
def test_nothing_is_lost_where_nothing_is_used(every_encoder, name):
    model = encoder.load(every_encoder[name])
    spare(model)
    with torch.no_grad():
        whole = Captures(model, [("tokens", 0)])(ROWS)["tokens", 0]
        basis = narrow(model, 16)
        slim = Captures(model, [("tokens", 0)])(ROWS)["tokens", 0]
    real = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    assert model[0].auto_model.config.hidden_size == 16
    assert model.get_embedding_dimension() == 16
    torch.testing.assert_close(slim[real], (whole @ basis)[real], atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(slim[real].norm(dim=-1), whole[real].norm(dim=-1), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(("width", "message"), [(18, "multiple of the 4 attention heads .*such as 16"), (32, "below")])
def test_widths_that_do_not_suit(every_encoder, width, message):
    with pytest.raises(UserError, match=f"compress.width={width}: give a .*{message}"):
        narrow(encoder.load(every_encoder["bert"]), width)


def test_gates_are_not_cut_down(every_encoder):
    with pytest.raises(UserError, match=r"a modernbert has gated neurons.*set only compress\.layers"):
        narrow(encoder.load(every_encoder["modernbert"]), 16)
