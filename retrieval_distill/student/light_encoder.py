"""Encoders of BERT's family in NumPy: embeds a single query without PyTorch, whose import takes seconds.

A light encoder is extracted from the loaded model, and used only if it gave the same vectors. Knows names of weights;
must not know indexes, or where queries come from.

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

TOLERANCE = 1e-5
"""Largest difference of a vector's component, relative to the vector's length."""

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
"""Model type -> names of a layer's weights."""


@dataclass(frozen=True, eq=False)
class LightEncoder:
    """A query encoder: ``encoder(text)`` is the text's vector, float32 [dimensions].

    Args:
        settings: As :func:`extract` wrote them.
        tokenizer: The model's tokenizer, with truncation.
        weights: Weights by name, float32; those of linear layers as [inputs, outputs], which makes products with few
            rows a third faster.
    """

    settings: dict[str, Any]
    tokenizer: Any
    weights: dict[str, np.ndarray]

    @classmethod
    def open(cls, folder: Path, model: Path) -> LightEncoder:
        """Open what :func:`extract` wrote, with the weights in the model's own folder.

        Raises:
            OSError: The model's weights are not in one file of tensors.
        """
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        weights = {
            name: np.ascontiguousarray(weight.T) if weight.ndim == 2 and "embeddings" not in name else weight
            for name, weight in load_file(model / "model.safetensors").items()
        }
        return cls(stages.read_json(folder / SETTINGS), Tokenizer.from_file(str(folder / TOKENIZER)), weights)

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


def extract(model: SentenceTransformer, folder: Path, out: Path, texts: Sequence[str]) -> dict[str, Any]:
    """Extract a light encoder from a model, and compare its vectors with the model's.

    Args:
        model: A bi-encoder in float32; others have no light encoder.
        folder: The model's folder.
        out: Where the settings and the tokenizer go.
        texts: The texts to compare vectors of.

    Returns:
        ``usable``, and ``difference``, the largest one (``None``: the model is of another kind).
    """
    from retrieval_distill.student import encoder

    try:
        _write(model, out)
        light = LightEncoder.open(out, folder)
        found = np.stack([light(text) for text in texts])
    except (AttributeError, ImportError, KeyError, OSError, TypeError, ValueError, IndexError):
        return {"usable": False, "difference": None}  # something is missing: another kind of model
    own = encoder.encode(model, texts, "query")
    if own.shape != found.shape:
        return {"usable": False, "difference": None}
    difference = float((np.abs(found - own) / np.linalg.norm(own, axis=1, keepdims=True)).max())
    return {"usable": difference <= TOLERANCE, "difference": difference}


def _write(model: SentenceTransformer, out: Path) -> None:
    """Write the settings and tokenizer of a model's query encoder.

    Raises:
        KeyError: The model is of another kind.
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
