"""Cross-encoders of several modules, and decoders that are asked in a chat, score as the library does, in our batches."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import CNN, LayerNorm, Pooling
from transformers import AutoModel, MPNetConfig

from retrieval_distill.errors import UserError
from retrieval_distill.teacher import cross_encoder, modernbert, modules
from tests.conftest import tiny_config
from tests.teacher.decoders import INSTRUCTION, chatting_decoder, yes_or_no_decoder
from tests.teacher.test_cross_encoder import PAIRS, scores_of

KINDS = ["bert", "roberta", "mpnet", "modernbert"]
TEXTS = [PAIRS.texts(place) for place in range(len(PAIRS))]


@pytest.fixture(scope="module")
def backbones(tokenizers_by_kind, tmp_path_factory) -> dict[str, str]:
    """Tiny encoders whose pairs differ by more than rounding."""
    folders = {}
    for kind in KINDS:
        tokenizer = tokenizers_by_kind["roberta" if kind == "mpnet" else kind]
        config = tiny_config(kind, tokenizer) if kind != "mpnet" else MPNetConfig(
            vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, hidden_size=32, num_hidden_layers=4,
            num_attention_heads=4, intermediate_size=64, max_position_embeddings=66,
        )  # fmt: skip
        config.initializer_range = 0.2
        torch.manual_seed(3)
        folder = tmp_path_factory.mktemp(f"backbone-{kind}")
        AutoModel.from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        folders[kind] = str(folder)
    return folders


def modular(backbone: str, folder: Path, pooling: str = "cls", labels: int = 1, extra=(), **settings) -> str:
    """Transformer, pooling, Dense, LayerNorm, Dense: as today's small rerankers are."""
    torch.manual_seed(4)
    torch.nn.init.normal_((last := Dense(32, labels, activation_function=torch.nn.Identity(),
                                         module_output_name="scores")).linear.weight)  # fmt: skip
    made = [
        Transformer(backbone, transformer_task="feature-extraction"), *extra, Pooling(32, pooling),
        Dense(32, 32, activation_function=torch.nn.GELU()), LayerNorm(32), last,
    ]  # fmt: skip
    CrossEncoder(modules=made, activation_fn=torch.nn.Identity(), **settings).save_pretrained(str(folder))
    return str(folder)


def by_library(folder: str, max_length: int = 40, **options) -> np.ndarray:
    peer = CrossEncoder(folder, device="cpu", activation_fn=torch.nn.Identity(), model_kwargs={"dtype": torch.float32})
    peer.max_seq_length = max_length
    return peer.predict(TEXTS, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["cls", "mean", "lasttoken"])
def test_scores_equal_the_library(backbones, tmp_path, kind, pooling):
    folder = modular(backbones[kind], tmp_path, pooling)
    teacher = cross_encoder.load(folder, 40, "float32")
    expected = by_library(folder)
    assert teacher.plain and expected.std() > 1e-2
    np.testing.assert_allclose(scores_of(teacher), expected, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_close_and_tells_pairs_apart(backbones, tmp_path, kind):
    folder = modular(backbones[kind], tmp_path)
    found, expected = scores_of(cross_encoder.load(folder, 40, "bfloat16")), by_library(folder)
    assert np.corrcoef(found, expected)[0, 1] > 0.99
    assert len(np.unique(found)) == len(np.unique(expected))


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_int8_is_the_same_teacher_less_exactly(backbones, tmp_path, kind):
    folder = modular(backbones[kind], tmp_path)
    found, expected = scores_of(cross_encoder.load(folder, 40, "int8")), by_library(folder)
    assert np.abs(found - expected).max() > 0 and np.corrcoef(found, expected)[0, 1] > 0.9


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_last_layer_computes_what_is_read(backbones, tmp_path, pooling):
    teacher = cross_encoder.load(modular(backbones["modernbert"], tmp_path, pooling), 40, "float32")
    widths = []
    layer = teacher.model[0].model.layers[-1]
    layer.mlp.register_forward_hook(lambda _, inputs, __: widths.append(inputs[0].shape[1]))
    scores_of(teacher)
    assert (max(widths) == 1) == (pooling == "cls")


@pytest.mark.parametrize("default", ["web", None])
def test_a_prompt_stands_before_the_query_where_the_library_writes_it(backbones, tmp_path, default):
    folder = modular(backbones["bert"], tmp_path, prompts={"web": "sort the "}, default_prompt_name=default)
    teacher = cross_encoder.load(folder, 40, "float32")
    assert teacher.plain
    np.testing.assert_allclose(scores_of(teacher), by_library(folder), atol=2e-5)
    plain = by_library(folder, prompt="")
    assert (np.abs(scores_of(teacher) - plain).max() > 1e-3) == (default == "web")


def test_an_unknown_module_is_the_library_s_and_named_once(backbones, tmp_path, caplog):
    folder = modular(backbones["bert"], tmp_path, extra=[CNN(32, 32, [1])])
    with caplog.at_level("INFO", "retrieval_distill"):
        teacher = cross_encoder.load(folder, 40, "float32")
        found = scores_of(teacher)
        scores_of(teacher)
    assert not teacher.plain and caplog.text.count("has a module CNN") == 1
    assert "32 at a time" in caplog.text
    np.testing.assert_allclose(found, by_library(folder), atol=2e-5)


def test_a_pooling_without_the_prompt_is_the_library_s(backbones, tmp_path, caplog):
    folder = modular(backbones["bert"], tmp_path, "mean", prompts={"web": "sort the "}, default_prompt_name="web")
    settings = json.loads((tmp_path / "1_Pooling" / "config.json").read_text())
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({**settings, "include_prompt": False}))
    with caplog.at_level("INFO", "retrieval_distill"):
        teacher = cross_encoder.load(folder, 40, "float32")
    assert not teacher.plain and "Pooling leaves the prompt out" in caplog.text
    np.testing.assert_allclose(scores_of(teacher), by_library(folder), atol=2e-5)


def test_a_head_of_two_labels_needs_a_choice(backbones, tmp_path):
    folder = modular(backbones["bert"], tmp_path, labels=2)
    with pytest.raises(UserError, match=r"has 2 labels.*teacher\.label=1"):
        cross_encoder.load(folder)
    teacher, logits = cross_encoder.load(folder, 40, "float32", label=1), by_library(folder)
    assert teacher.plain
    np.testing.assert_allclose(scores_of(teacher), logits[:, 1] - logits[:, 0], atol=2e-5)


@pytest.mark.parametrize("lost", ["4_Dense", "4_Dense/config.json", "2_Dense/model.safetensors", "1_Pooling"])
def test_a_missing_module_file_is_named(backbones, tmp_path, lost):
    folder = modular(backbones["bert"], tmp_path)
    gone = tmp_path / lost
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    with pytest.raises(UserError, match="cannot be loaded") as failure:
        cross_encoder.load(folder)
    assert f"{lost if '/' in lost else f'{lost}/config.json'} is missing" in str(failure.value)


def test_nan_in_a_module_is_refused(backbones, tmp_path):
    folder = modular(backbones["bert"], tmp_path)
    weights = load_file(tmp_path / "4_Dense" / "model.safetensors")
    weights["linear.bias"] = torch.full_like(weights["linear.bias"], torch.nan)
    save_file(weights, tmp_path / "4_Dense" / "model.safetensors")
    with pytest.raises(UserError, match=r"NaN or infinite weights: 4\.linear\.bias"):
        cross_encoder.load(folder)


def test_another_head_is_another_teacher(backbones, tmp_path):
    first = cross_encoder.load(modular(backbones["bert"], tmp_path), 40, "float32").fingerprint
    weights = load_file(tmp_path / "4_Dense" / "model.safetensors")
    save_file({name: weight + 1 for name, weight in weights.items()}, tmp_path / "4_Dense" / "model.safetensors")
    assert cross_encoder.load(str(tmp_path), 40, "float32").fingerprint != first


def test_another_chat_template_is_another_teacher(tmp_path):
    folder = chatting_decoder(tmp_path)
    first = cross_encoder.load(folder, 60, "float32").fingerprint
    template = next(Path(folder).rglob("*.jinja"))
    template.write_text(template.read_text().replace("Judge", "Given"))
    assert cross_encoder.load(folder, 60, "float32").fingerprint != first


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("longest", [5, 24, 25, 61])
def test_modernbert_computes_the_same_fast(tokenizers_by_kind, dtype, longest):
    """With windows (of 8 tokens to either side) and without, in batches with padding and without."""
    config = tiny_config("modernbert", tokenizers_by_kind["modernbert"])
    config.initializer_range = 0.2
    model = AutoModel.from_config(config).eval().to(dtype)
    ids = torch.randint(5, len(tokenizers_by_kind["modernbert"]), (4, longest))
    kept = (torch.arange(longest) < torch.tensor([longest, 3, longest // 2 + 1, longest - 1])[:, None]).long()
    for mask in (kept, torch.ones_like(kept), None):
        vars(model).pop("forward", None)
        with torch.inference_mode():
            expected = model(input_ids=ids, attention_mask=mask).last_hidden_state
            modernbert.speed_up(model)
            found = model(input_ids=ids, attention_mask=mask).last_hidden_state
        real = slice(None) if mask is None else mask.bool()
        close = 1e-5 if dtype == torch.float32 else 0.15
        torch.testing.assert_close(found[real], expected[real], atol=close, rtol=close)


def test_modernbert_learns_as_before(backbones):
    model = AutoModel.from_pretrained(backbones["modernbert"], dtype=torch.float32).eval()
    ids = torch.arange(5, 45)[None]
    expected = model(ids).last_hidden_state
    modernbert.speed_up(model)
    found = model(ids).last_hidden_state
    assert torch.equal(found, expected) and found.requires_grad


@pytest.mark.parametrize(
    "kind, settings",
    [
        ("qwen3", {}),
        ("llama", {}),
        ("mistral", {"sliding_window": 16}),
        ("gemma2", {"sliding_window": 16, "query_pre_attn_scalar": 8, "final_logit_softcapping": 5.0}),
    ],
)
def test_a_chatting_decoder_scores_as_the_library(tmp_path, kind, settings):
    folder = chatting_decoder(tmp_path, kind, **settings)
    teacher = cross_encoder.load(folder, 60, "float32")
    expected = by_library(folder, 60, batch_size=1)
    assert teacher.plain and expected.std() > 1e-2
    np.testing.assert_allclose(scores_of(teacher), expected, atol=2e-5)


def test_what_all_pairs_start_with_is_computed_once(tmp_path, monkeypatch):
    monkeypatch.setitem(cross_encoder.TOKENS_PER_BATCH, "cpu", 120)
    teacher = cross_encoder.load(chatting_decoder(tmp_path), 60, "float32")
    rows = [teacher.model.preprocess([pair], prompt=INSTRUCTION)["input_ids"][0].tolist() for pair in TEXTS]
    shared = next(place for place, ids in enumerate(zip(*rows, strict=False)) if len(set(ids)) > 1)
    shapes = []
    decoder = teacher.model[0].model
    decoder.model.embed_tokens.register_forward_hook(lambda _, inputs, __: shapes.append(tuple(inputs[0].shape)))
    for _ in range(2):
        scores_of(teacher)
    assert shared > 10 and shapes[0] == (1, shared)
    assert max(tokens for _, tokens in shapes[1:]) == max(map(len, rows)) - shared
    assert sum(pairs for pairs, _ in shapes[1:]) == 2 * len(rows)
    assert decoder.get_output_embeddings().out_features == 2


def test_a_chatting_decoder_in_bfloat16_tells_pairs_apart(tmp_path):
    folder = chatting_decoder(tmp_path)
    found, expected = scores_of(cross_encoder.load(folder, 60, "bfloat16")), by_library(folder, 60, batch_size=1)
    assert np.corrcoef(found, expected)[0, 1] > 0.98 and len(np.unique(found)) == len(np.unique(expected))


def test_absolute_positions_start_with_the_text(tmp_path):
    """GPT-2's padded pairs start later in the library: ours score as pairs that stand alone."""
    folder = chatting_decoder(tmp_path, "gpt2", n_embd=32, n_layer=2, n_head=4, n_positions=128)
    expected = by_library(folder, 60, batch_size=1)
    np.testing.assert_allclose(scores_of(cross_encoder.load(folder, 60, "float32")), expected, atol=2e-5)


@pytest.mark.parametrize("made", [chatting_decoder, yes_or_no_decoder])
def test_blocks_and_kills_change_no_score(tmp_path, monkeypatch, made):
    monkeypatch.setattr(cross_encoder, "PAIRS_PER_BLOCK", 7)
    monkeypatch.setitem(cross_encoder.TOKENS_PER_BATCH, "cpu", 150)
    teacher = cross_encoder.load(made(tmp_path), 60, "float32")
    batches, found = list(teacher.score(PAIRS)), scores_of(teacher)
    monkeypatch.setattr(cross_encoder, "PAIRS_PER_BLOCK", len(PAIRS))
    np.testing.assert_allclose(scores_of(teacher), found, atol=2e-5)
    monkeypatch.setattr(cross_encoder, "PAIRS_PER_BLOCK", 7)
    done = np.concatenate([places for places, _ in batches[:3]])
    again = list(teacher.score(PAIRS.only(np.setdiff1d(PAIRS.positions, done))))
    assert len(again) == len(batches) - 3
    for (places, scores), (places_again, scores_again) in zip(batches[3:], again, strict=True):
        np.testing.assert_array_equal(places, places_again)
        np.testing.assert_array_equal(scores, scores_again)


def test_a_decoder_whose_cache_is_of_another_kind_is_the_library_s(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(modules.shared_prefix, "scores", lambda model, features: torch.zeros(2, 1))
    folder = chatting_decoder(tmp_path)
    with caplog.at_level("INFO", "retrieval_distill"):
        teacher = cross_encoder.load(folder, 60, "float32")
    assert not teacher.plain and "gives other scores where a prefix is shared" in caplog.text
    np.testing.assert_allclose(scores_of(teacher), by_library(folder, 60), atol=2e-5)
