"""The cross-encoder that ``fit-teacher`` trains: opened from any encoder, given adapters, saved to be loaded anywhere.

Knows model architecture and folders; must not know queries, candidates or judgements.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from torch import Tensor, nn

from retrieval_distill import models, positions, weights
from retrieval_distill.config.fit_teacher import FitTeacherConfig
from retrieval_distill.data.tokens import token_batches
from retrieval_distill.errors import UserError
from retrieval_distill.hardware import devices
from retrieval_distill.runtime import stages
from retrieval_distill.student import decoder
from retrieval_distill.student.build import set_dropout
from retrieval_distill.teacher.cross_encoder_loader import open_model

TOKENS_PER_FORWARD = {"cpu": 4096, "cuda": 65536}
"""Padded tokens of one forward pass, by device type."""

ADAPTER = "adapter_config.json"


class PairsByLength(CrossEncoder):
    """The library's cross-encoder, which splits a batch into forward passes over pairs of similar length.

    Pairs of a step differ much in length, so padding all to the longest would waste most of the work. Scores and
    gradients are those of a single pass.
    """

    def forward(self, input: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """``scores`` of every pair, in the order given."""
        mask = input["attention_mask"]
        batches = token_batches(mask.sum(1).cpu().numpy(), TOKENS_PER_FORWARD.get(mask.device.type, 4096))
        scores = [super(PairsByLength, self).forward(_rows(input, rows), **kwargs)["scores"] for rows in batches]
        back = torch.from_numpy(np.argsort(np.concatenate(batches))).to(mask.device)
        return {**input, "scores": torch.cat(scores)[back]}


def _rows(features: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """Rows of a tokenised batch, without columns that are padding in all of them (left or right)."""
    mask = features["attention_mask"]
    chosen = torch.from_numpy(rows).to(mask.device)
    used = mask[chosen].any(0)
    cut = {}
    for key, value in features.items():
        of_pairs = isinstance(value, Tensor) and value.shape[:1] == mask.shape[:1]
        per_token = of_pairs and value.shape[:2] == mask.shape
        cut[key] = value[chosen][:, used] if per_token else value[chosen] if of_pairs else value
    return cut


def build(config: FitTeacherConfig) -> PairsByLength:
    """A model ready to train, in float32; missing weights of the head are initialised by the seed.

    Raises:
        UserError: There is no such model, or it has no layers to adapt.
    """
    torch.manual_seed(config.seed)
    folder = models.resolve(config.model)
    model = _open(folder, config)
    if config.dropout is not None:
        set_dropout(model, config.dropout)
    if config.adapter == "lora":
        _add_lora(model, config)
    return model


def trained_parameters(model: nn.Module) -> int:
    """Number of parameters that training changes."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def save(model: CrossEncoder, config: FitTeacherConfig, folder: Path) -> None:
    """Save the weights: a full cross-encoder, or an adapter that names its base model as the user did."""
    weights.save(model, folder, create_model_card=False)
    if config.adapter == "lora":
        settings = stages.read_json(folder / ADAPTER)
        start = Path(config.model)
        settings["base_model_name_or_path"] = str(start.resolve()) if start.is_dir() else config.model
        stages.write_json(folder / ADAPTER, settings)


def _open(folder: Path, config: FitTeacherConfig) -> PairsByLength:
    adapter = folder / ADAPTER
    if adapter.is_file() and config.adapter == "lora":
        raise UserError(
            f"model {config.model!r} is itself an adapter: use adapter=none (all weights), or start from its base"
        )
    model = open_model(folder, devices.device(), PairsByLength, fresh_head=True)
    model.requires_grad_(True)
    model.max_seq_length = positions.limit(config.model, model[0], config.max_length, own_too=True)
    positions.settle_limit(config.model, model[0])
    decoder.set_padding(model.tokenizer)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = model.tokenizer.pad_token_id
    model.model_card_data.generate_widget_examples = False
    return model


def _add_lora(model: CrossEncoder, config: FitTeacherConfig) -> None:
    from peft import LoraConfig, TaskType

    backbone: Any = model.model
    layers = _linear_in_layers(backbone)
    if not layers:
        raise UserError(
            f"model {config.model!r}: no linear layers to adapt in a {type(backbone).__name__}; adapter=none"
        )
    model.add_adapter(
        LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=config.lora_rank,
            lora_alpha=2 * config.lora_rank,
            lora_dropout=0.0,
            target_modules=layers,
            modules_to_save=_head(backbone),
        )
    )


def _linear_in_layers(backbone: nn.Module) -> list[str]:
    """Names of the linear modules inside the layers, such as ``attention.self.query``."""
    names = set()
    for name, module in backbone.named_modules():
        parts = name.split(".")
        numbers = [place for place, part in enumerate(parts) if part.isdigit()]
        if isinstance(module, nn.Linear) and numbers and numbers[-1] + 1 < len(parts):
            names.add(".".join(parts[numbers[-1] + 1 :]))
    return sorted(names)


def _head(backbone: Any) -> list[str]:
    """Modules of the head and the pooler, which are small and often new, so they are trained in full."""
    encoder = getattr(backbone, backbone.base_model_prefix)
    weighty = [name for name, module in backbone.named_children() if next(module.parameters(), None) is not None]
    head = [name for name in weighty if getattr(backbone, name) is not encoder]
    return head + (["pooler"] if getattr(encoder, "pooler", None) is not None else [])
