"""Every other transfer against one text, one layer, one token at a time; mappings; gradients; mixes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from transformers import AutoModelForMaskedLM

from retrieval_distill.compress.attention_maps import AttentionMaps
from retrieval_distill.compress.embedding import Embedding
from retrieval_distill.compress.hidden_states import HiddenStates
from retrieval_distill.compress.logits import Logits
from retrieval_distill.compress.mappings import MAPPINGS, earth_mover
from retrieval_distill.compress.transfer import EncoderShape, ModelPair
from retrieval_distill.compress.transfer_mix import Transfers
from retrieval_distill.errors import UserError
from tests.conftest import tiny_config

LENGTHS = (4, 2, 3)
TEMPERATURE = 0.2  # the tiny heads' distributions are nearly flat
MASK = torch.arange(4) < torch.tensor(LENGTHS)[:, None]
SAME = ModelPair(EncoderShape(2, 6, 2, 6), EncoderShape(4, 6, 2, 6))
WIDER = ModelPair(EncoderShape(2, 4, 2, 4), EncoderShape(4, 6, 2, 6))


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def states(asks, width: int, seed: int) -> dict:
    return {ask: random(3, 4, width, seed=seed + place) for place, ask in enumerate(sorted(asks))}


def bound(transfer, pair: ModelPair):
    transfer.bind(pair)
    return transfer.double()


def mean_over_texts(value) -> float:
    """The mean over texts of the mean over their tokens of ``value(text, token)``."""
    return float(np.mean([np.mean([value(b, t) for t in range(length)]) for b, length in enumerate(LENGTHS)]))


@pytest.mark.parametrize(
    ("mapping", "layers"), [("first", (0, 1)), ("last", (2, 3)), ("uniform", (0, 3)), ("skip", (1, 3))]
)
@pytest.mark.parametrize("distance", ["mse", "cosine"])
def test_hidden_states(mapping, layers, distance):
    transfer = bound(HiddenStates(mapping, distance), SAME)
    student, teacher = states(transfer.student_keys, 6, 0), states(transfer.teacher_keys, 6, 50)
    pairs = [*((("hidden", own), ("hidden", other)) for own, other in enumerate(layers)), (("embeddings", 0),) * 2]

    def apart(a, b) -> float:
        a, b = a.numpy(), b.numpy()
        if distance == "mse":
            return ((a - b) ** 2).mean()
        return 1 - a @ b / math.sqrt(a @ a * (b @ b))

    wanted = np.mean([mean_over_texts(lambda b, t: apart(student[x][b, t], teacher[y][b, t])) for x, y in pairs])  # noqa: B023
    assert float(transfer(student, teacher, MASK)) == pytest.approx(wanted)


def test_hidden_states_of_another_width_go_through_a_projection():
    transfer = bound(HiddenStates(embeddings=False), WIDER)
    student, teacher = states(transfer.student_keys, 4, 0), states(transfer.teacher_keys, 6, 50)
    weight = transfer.projection.weight
    torch.testing.assert_close(weight.T @ weight, torch.eye(4).double(), atol=1e-6, rtol=0)
    transfer(student, teacher, MASK).backward()
    assert weight.grad.abs().max() > 0
    bare = bound(HiddenStates(embeddings=False), SAME)
    projected = {ask: state @ weight.detach().T for ask, state in student.items()}
    assert float(transfer(student, teacher, MASK)) == pytest.approx(float(bare(projected, teacher, MASK)))


def test_a_narrowed_student_starts_from_its_own_directions():
    basis = random(6, 4, seed=3).float()
    transfer = HiddenStates()
    transfer.bind(ModelPair(WIDER.student, WIDER.teacher, basis=basis))
    assert torch.equal(transfer.projection.weight, basis)


def test_a_layer_that_was_passed_over_does_not_count():
    transfer = bound(HiddenStates("skip", embeddings=False), SAME)
    student, teacher = states(transfer.student_keys, 6, 0), states(transfer.teacher_keys, 6, 50)
    del student["hidden", 0]
    wanted = mean_over_texts(
        lambda b, t: float((student["hidden", 1][b, t] - teacher["hidden", 3][b, t]).square().mean())
    )
    assert float(transfer(student, teacher, MASK)) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("mapping", "found"), [("first", (0, 1, 2)), ("last", (9, 10, 11)), ("uniform", (0, 6, 11)), ("skip", (3, 7, 11))]
)
def test_mappings_of_three_to_twelve(mapping, found):
    assert MAPPINGS[mapping](12, 3) == found


@pytest.mark.parametrize("seed", range(5))
def test_the_earth_mover_among_as_many_layers_is_the_best_assignment(seed):
    distances = np.random.default_rng(seed).random((5, 5))
    shares = earth_mover(distances)
    assert (shares * distances).sum() == pytest.approx(distances[linear_sum_assignment(distances)].sum() / 5)


def test_the_earth_mover_shares_out_all_of_every_layer():
    shares = earth_mover(np.random.default_rng(0).random((3, 7)))
    np.testing.assert_allclose(shares.sum(axis=1), np.full(3, 1 / 3))
    np.testing.assert_allclose(shares.sum(axis=0), np.full(7, 1 / 7))
    assert (shares >= 0).all()


def test_many_to_many_hidden_states():
    transfer = bound(HiddenStates("earth_mover", embeddings=False), SAME)
    student, teacher = states(transfer.student_keys, 6, 0), states(transfer.teacher_keys, 6, 50)
    distances = np.array(
        [
            [
                mean_over_texts(
                    lambda b, t: float((student["hidden", i][b, t] - teacher["hidden", j][b, t]).square().mean())  # noqa: B023
                )
                for j in range(4)
            ]
            for i in range(2)
        ]
    )
    # two layers to four in equal parts: the cheapest choice of two teacher layers for the first one
    cheapest = min(
        distances[0, [a, b]].sum() + distances[1, [c for c in range(4) if c not in (a, b)]].sum()
        for a in range(4)
        for b in range(a)
    )
    assert float(transfer(student, teacher, MASK)) == pytest.approx(cheapest / 4)


def test_attention_maps():
    transfer = bound(AttentionMaps(teacher_layer=1), SAME)
    maps = [random(3, 2, 4, 4, seed=seed).masked_fill(~MASK[:, None, None], -math.inf).softmax(-1) for seed in (0, 1)]
    student, teacher = {transfer.student_keys[0]: maps[0]}, {transfer.teacher_keys[0]: maps[1]}
    assert (transfer.student_keys, transfer.teacher_keys) == ((("attention", 1),), (("attention", 1),))

    def divergence(b: int, t: int) -> float:
        rows = [(maps[1][b, h, t, : LENGTHS[b]], maps[0][b, h, t, : LENGTHS[b]]) for h in range(2)]
        return np.mean([sum(p * math.log(p / q) for p, q in zip(*row, strict=True)) for row in rows])

    assert float(transfer(student, teacher, MASK)) == pytest.approx(mean_over_texts(divergence))


def test_attention_maps_of_unlike_heads():
    with pytest.raises(UserError, match="student has 3 attention heads, the teacher 2; use relations instead"):
        AttentionMaps().bind(ModelPair(EncoderShape(2, 6, 3, 6), SAME.teacher))


@pytest.mark.parametrize("distance", ["cosine", "mse"])
def test_embedding(distance):
    transfer = bound(Embedding(distance), SAME)
    student, teacher = ({("vector", 0): random(3, 6, seed=seed)} for seed in (0, 1))
    pairs = list(zip(student["vector", 0].numpy(), teacher["vector", 0].numpy(), strict=True))
    of_one = {
        "cosine": lambda a, b: 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b),
        "mse": lambda a, b: ((a - b) ** 2).mean(),
    }[distance]
    assert float(transfer(student, teacher, MASK)) == pytest.approx(np.mean([of_one(a, b) for a, b in pairs]))


@pytest.mark.parametrize(
    "make",
    [HiddenStates, lambda: HiddenStates("skip", "cosine"), lambda: HiddenStates("earth_mover"), Embedding, AttentionMaps],
)  # fmt: skip
def test_gradients(make):
    transfer = bound(make(), SAME)
    shapes = {"attention": (3, 2, 4, 4), "vector": (3, 6)}
    student, teacher = (
        {
            ask: random(*shapes.get(ask[0], (3, 4, 6)), seed=seed + place)
            for place, ask in enumerate(sorted(asks))
        }
        for asks, seed in ((transfer.student_keys, 0), (transfer.teacher_keys, 50))
    )  # fmt: skip
    if isinstance(transfer, AttentionMaps):
        student, teacher = ({ask: maps.softmax(-1) for ask, maps in seen.items()} for seen in (student, teacher))
    asks = sorted(student)
    inputs = [student[ask].clone().requires_grad_() for ask in asks]
    assert torch.autograd.gradcheck(lambda *x: transfer(dict(zip(asks, x, strict=True)), teacher, MASK), inputs)


@pytest.fixture(scope="session")
def masked_models(tokenizers_by_kind, tmp_path_factory):
    folders = {}
    for kind in ("bert", "distilbert", "roberta", "modernbert"):
        torch.manual_seed(4)
        folders[kind] = str(tmp_path_factory.mktemp(f"masked-{kind}"))
        AutoModelForMaskedLM.from_config(tiny_config(kind, tokenizers_by_kind[kind])).save_pretrained(folders[kind])
        tokenizers_by_kind[kind].save_pretrained(folders[kind])
    return folders


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "modernbert"])
@pytest.mark.parametrize("block", [1, 1 << 24])
def test_logits_are_those_of_the_whole_model(masked_models, kind, block, monkeypatch):
    """The teacher's own logits for its tokens; for the student's, what the same head says of its last states."""
    from retrieval_distill.compress import logits

    monkeypatch.setattr(logits, "BLOCK", block)
    folder = masked_models[kind]
    whole = AutoModelForMaskedLM.from_pretrained(folder).eval()
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 1, 1], [11, 12, 13, 1]])
    with torch.no_grad():
        last = whole.base_model(input_ids=ids, attention_mask=MASK.long()).last_hidden_state
        wanted = whole(input_ids=ids, attention_mask=MASK.long()).logits.double().numpy() / TEMPERATURE
    transfer = Logits(TEMPERATURE)
    transfer.bind(ModelPair(EncoderShape(2, 32, 4, 32), EncoderShape(4, 32, 4, 32), folder))
    noise = random(3, 4, 32, seed=0).float()
    student = (last + 0.5 * noise).requires_grad_()
    value = transfer({("tokens", 0): student}, {("tokens", 0): last}, MASK)
    moved = logits.language_head(folder)(inputs_embeds=student.detach()).logits.double().numpy() / TEMPERATURE

    def divergence(b: int, t: int) -> float:
        p, q = (np.exp(x[b, t]) / np.exp(x[b, t]).sum() for x in (wanted, moved))
        return TEMPERATURE**2 * float((p * np.log(p / q)).sum())

    assert float(value) == pytest.approx(mean_over_texts(divergence), rel=1e-3)
    value.backward()
    assert (student.grad[~MASK] == 0).all() and (student.grad[MASK].abs().sum(dim=-1) > 0).all()


def test_a_teacher_without_a_head(encoders):
    with pytest.raises(UserError, match=r"without a masked-language-model head \(BertModel\); use the transfer embedd"):
        Logits().bind(ModelPair(SAME.student, SAME.teacher, encoders["bert"]))


def test_a_mix_is_a_weighted_sum():
    parts = {"hidden_states": {"weight": 0.5, "mapping": "last"}, "embedding": [0.0, 2.0]}
    mix = Transfers(parts, SAME).double()
    student, teacher = states(mix.student_keys, 6, 0), states(mix.teacher_keys, 6, 50)
    for seen in (student, teacher):
        seen["vector", 0] = seen["vector", 0][:, 0]
    for progress, weight in ((0.0, 0.0), (0.25, 0.5), (1.0, 2.0)):
        total, components = mix(student, teacher, MASK, progress)
        assert float(total) == pytest.approx(
            0.5 * float(components["hidden_states"]) + weight * float(components["embedding"])
        )
    assert float(components["embedding"]) == pytest.approx(float(Embedding()(student, teacher, MASK)))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"relation": 1.0}, "transfer 'relation' is unknown; did you mean 'relations'"),
        ({"hidden_states": {"maping": "last"}}, r"compress.transfers.hidden_states: option 'maping' .*'mapping'"),
        ({"hidden_states": {"mapping": "middle"}}, r"compress.transfers.hidden_states.mapping: .*\(got 'middle'\)"),
        ({"logits": {"temperature": 0}}, r"compress.transfers.logits.temperature: .*greater than 0"),
        ({"embedding": 0.0}, "at least one transfer needs a weight above 0"),
        ({"embedding": {"until": 0.5}}, "none is active from 0.5 of the training on"),
    ],
)
def test_mixes_that_cannot_be(parts, message):
    with pytest.raises(UserError, match=message):
        Transfers(parts, SAME)
