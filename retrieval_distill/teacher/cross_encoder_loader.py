"""Loads a cross-encoder from its folder; an adapter is merged into the base model that it names.

Knows sentence-transformers and peft; must not know pairs or scores.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, cast

import torch
from sentence_transformers import CrossEncoder

from retrieval_distill import models, weights
from retrieval_distill.errors import UserError


def open_model(folder: Path, device: str, kind: type[Any] = CrossEncoder, fresh_head: bool = False) -> Any:
    """Load a cross-encoder in float32 and check that all its weights are there.

    Args:
        folder: Folder of a cross-encoder or an adapter; with ``fresh_head``, of any encoder.
        device: The device to load it on.
        kind: The class of the result.
        fresh_head: Whether a head of one label may be initialised at random if the folder has none of that size.

    Raises:
        UserError: The folder is damaged, or weights are missing, unused, NaN or infinite.
    """
    base = models.adapter_base(folder)
    source = folder if base is None else models.resolve(base)
    with weights.loading(source) as loaded:
        model = kind(
            str(source),
            num_labels=1 if fresh_head or base is not None else None,
            device=device,
            activation_fn=torch.nn.Identity(),
            model_kwargs={"dtype": torch.float32},
            local_files_only=True,
        )
    supplied = () if base is None else _modules_to_save(folder)

    def fresh(transformer: Any, name: str) -> bool:
        parts = set(name.split("."))
        return bool(parts & set(supplied)) or (fresh_head and is_head(transformer, name))

    _refuse_without_head(folder, loaded, fresh)
    weights.require_whole(source, loaded, lambda *asked: weights.is_unused_pooler(*asked) or fresh(*asked))
    if base is not None:
        _merge(model, folder)
    weights.require_finite(folder, model)
    if model.tokenizer is not None:
        weights.require_vocabulary(source, model.tokenizer)
    return model


def is_head(transformer: Any, name: str) -> bool:
    """Whether a weight belongs to the classification head: outside the encoder, or in its pooler."""
    return not name.startswith(f"{transformer.base_model_prefix}.") or "pooler" in name.split(".")


def _modules_to_save(folder: Path) -> tuple[str, ...]:
    """The modules that an adapter stores in full, such as its classifier."""
    return tuple(models.settings(folder / "adapter_config.json").get("modules_to_save") or ())


def _refuse_without_head(folder: Path, loaded: list[weights.Loaded], fresh: weights.Fresh) -> None:
    for found in loaded:
        lacking = sorted(name for name in found.missing if not fresh(found.model, name))
        if lacking and all(is_head(found.model, name) for name in lacking):
            raise UserError(
                f"model {str(folder)!r} is no cross-encoder: it has no weights for {', '.join(lacking)}; "
                "train it as one with fit-teacher, or use the teacher bi-encoder:NAME"
            )


def _merge(model: CrossEncoder, folder: Path) -> None:
    """Merge an adapter into a model, in place."""
    from peft import PeftModel

    if not any(folder.glob("adapter_model.*")):
        raise UserError(f"model {str(folder)!r}: the adapter's weights are missing (adapter_model.safetensors)")
    with weights.loading(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # missing weights are refused below
        adapted: Any = PeftModel.from_pretrained(cast(Any, model.model), str(folder))
        report = adapted.load_adapter(str(folder), "default")  # a second time, for the report
    if wrong := [*report.missing_keys, *report.unexpected_keys]:
        raise UserError(f"model {str(folder)!r}: the adapter does not fit its base model: {', '.join(wrong[:3])}")
    transformer: Any = adapted.merge_and_unload()
    model[0].model = transformer
