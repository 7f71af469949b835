"""The encoders of BERT's family in NumPy: one question to its vector without PyTorch, whose import takes seconds.

What is kept of a model is taken from the loaded one, and used only where it gave the same vectors. Knows weights by
name; must not know indexes, or where questions come from.

Source: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", NAACL 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval_distill.runtime import stages

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SETTINGS, TOKENIZER = "settings.json", "tokenizer.json"

CLOSE = 1e-5
"""The most that a number of a vector may differ by, as a share of the vector's length."""

_BERT = {
    "layer": "encoder.layer.{}.", "query": "attention.self.query", "key": "attention.self.key",
    "value": "attention.self.value", "mixed": "attention.output.dense", "norm": "attention.output.LayerNorm",
    "wide": "intermediate.dense", "narrow": "output.dense", "last": "output.LayerNorm",
}  # fmt: skip
_DISTILBERT = {
    "layer": "transformer.layer.{}.", "query": "attention.q_lin", "key": "attention.k_lin", "value": "attention.v_lin",
    "mixed": "attention.out_lin", "norm": "sa_layer_norm", "wide": "ffn.lin1", "narrow": "ffn.lin2",
    "last": "output_layer_norm",
}  # fmt: skip
NAMES = {"bert": _BERT, "roberta": _BERT, "xlm-roberta": _BERT, "camembert": _BERT, "distilbert": _DISTILBERT}
"""Type of a model -> names of a layer's weights."""


@dataclass(frozen=True, eq=False)
class LightEncoder:
    """A query encoder: ``encoder(text)`` is the text's vector, float32 [dimensions].

    Args:
        settings: As :func:`write` keeps them.
        tokenizer: Cuts texts as the model does.
        weights: By name, float32; those of linear layers as [inputs, outputs], which a few rows are multiplied with
            a third faster.
    """

    settings: dict[str, Any]
    tokenizer: Any
    weights: dict[str, np.ndarray]

    @classmethod
    def open(cls, kept: Path, model: Path) -> LightEncoder:
        """What :func:`write` kept of a model, with the weights in the model's own folder.

        Raises:
            OSError: The model's weights are not in one file of tensors.
        """
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        weights = {
            name: np.ascontiguousarray(weight.T) if weight.ndim == 2 and "embeddings" not in name else weight
            for name, weight in load_file(model / "model.safetensors").items()
        }
        return cls(stages.read_json(kept / SETTINGS), Tokenizer.from_file(str(kept / TOKENIZER)), weights)

    def __call__(self, text: str) -> np.ndarray:
        """The vector of one text."""
        made = self.settings
        names, ids = NAMES[made["type"]], self.tokenizer.encode(made["prompt"] + text).ids
        places = np.arange(len(ids)) + made["first_position"]
        x = self._weight("embeddings.word_embeddings")[ids] + self._weight("embeddings.position_embeddings")[places]
        if made["token_types"]:
            x = x + self._weight("embeddings.token_type_embeddings")[0]
        x = self._normal(x, "embeddings.LayerNorm")
        for layer in range(made["layers"]):
            x = self._layer(x, {role: names["layer"].format(layer) + name for role, name in names.items()})
        vector = x[0] if made["pooling"] == "cls" else x.mean(axis=0)
        return vector / max(float(np.linalg.norm(vector)), 1e-12) if made["normalised"] else vector

    def _layer(self, x: np.ndarray, names: dict[str, str]) -> np.ndarray:
        from scipy.special import erf

        query, key, value = (
            self._linear(x, names[role]).reshape(len(x), self.settings["heads"], -1).transpose(1, 0, 2)
            for role in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / np.float32(np.sqrt(query.shape[-1]))
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (shares / shares.sum(axis=-1, keepdims=True) @ value).transpose(1, 0, 2).reshape(x.shape)
        x = self._normal(x + self._linear(mixed, names["mixed"]), names["norm"])
        wide = self._linear(x, names["wide"])
        gelu = wide * (1 + erf(wide / np.float32(np.sqrt(2)))) / 2
        return self._normal(x + self._linear(gelu, names["narrow"]), names["last"])

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self._weight(name) + self._weight(name, "bias")

    def _normal(self, x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(self.settings["epsilon"]))
        return centred / spread * self._weight(name) + self._weight(name, "bias")

    def _weight(self, name: str, part: str = "weight") -> np.ndarray:
        return self.weights[f"{name}.{part}"]


def write(model: SentenceTransformer, folder: Path, out: Path, texts: Sequence[str]) -> dict[str, Any]:
    """Keep what a light encoder needs of a model, if it gives the model's own vectors.

    Args:
        model: A bi-encoder; one that computes in other numbers than float32 has no light encoder.
        folder: The model's own.
        out: Where the settings and the tokenizer go.
        texts: Compared on these.

    Returns:
        ``usable``, and ``difference``, the largest (``None``: it is no model of this kind).
    """
    from retrieval_distill.student import encoder

    try:
        _write(model, out)
        light = LightEncoder.open(out, folder)
        found = np.stack([light(text) for text in texts])
    except (AttributeError, ImportError, KeyError, OSError, TypeError, ValueError, IndexError):
        return {"usable": False, "difference": None}  # whatever is missing, it is another kind of model
    own = encoder.encode(model, texts, "query")
    if own.shape != found.shape:
        return {"usable": False, "difference": None}
    difference = float((np.abs(found - own) / np.linalg.norm(own, axis=1, keepdims=True)).max())
    return {"usable": difference <= CLOSE, "difference": difference}


def _write(model: SentenceTransformer, out: Path) -> None:
    """Settings and tokenizer of a model's query encoder.

    Raises:
        KeyError: It is of no kind known here.
    """
    import torch
    from tokenizers import Tokenizer

    from retrieval_distill.student import encoder, routes

    first, pooling, *rest = routes.path(model, "query")
    config, modules = first.config, [type(module).__name__ for module in rest]
    activation = getattr(config, "hidden_act", None) or getattr(config, "activation", None)
    known = (
        model.dtype == torch.float32
        and config.model_type in NAMES
        and activation == "gelu"
        and pooling.pooling_mode in ("cls", "mean")
    )
    if not known or modules not in ([], ["Normalize"]) or not encoder.is_plain(model):
        raise KeyError(config.model_type)
    tokenizer = Tokenizer.from_str(first.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.enable_truncation(first.max_seq_length)
    tokenizer.save(str(out / TOKENIZER))
    counts_from_padding = NAMES[config.model_type] is _BERT and config.model_type != "bert"
    settings = {
        "type": config.model_type,
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "epsilon": getattr(config, "layer_norm_eps", 1e-12),
        "token_types": NAMES[config.model_type] is _BERT,
        "first_position": config.pad_token_id + 1 if counts_from_padding else 0,
        "pooling": pooling.pooling_mode,
        "normalised": modules == ["Normalize"],
        "prompt": model.prompts.get("query") or "",
    }
    stages.write_json(out / SETTINGS, settings)
