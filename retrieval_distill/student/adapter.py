"""LoRA: trains small matrices next to a student's frozen weights, and merges them in the end.

Knows transformers and peft; must not know data or training.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, arXiv:2106.09685.
"""

from __future__ import annotations

from sentence_transformers import SentenceTransformer

from retrieval_distill.config import LoRAConfig
from retrieval_distill.errors import UserError
from retrieval_distill.student import routes


def add(model: SentenceTransformer, config: LoRAConfig) -> None:
    """Add adapters to the linear layers of every transformer of a model, in place, and freeze its other weights.

    A new adapter changes nothing: its second matrix is zero. Modules after the transformer stay trainable.

    Raises:
        UserError: The model has no layers named in ``config.targets``.
    """
    from peft import LoraConfig, get_peft_model

    targets = config.targets if isinstance(config.targets, str) else list(config.targets)
    for transformer in routes.encoders(model):
        lora = LoraConfig(r=config.rank, lora_alpha=config.alpha, lora_dropout=0.0, target_modules=targets)
        try:
            transformer.model = get_peft_model(transformer.model, lora)
        except ValueError as error:
            raise UserError(f"student.lora.targets={config.targets}: {error}") from None


def merge(model: SentenceTransformer) -> None:
    """Merge adapters into the weights and remove them, in place. A model without adapters is unchanged."""
    from peft import PeftModel

    for transformer in routes.encoders(model):
        if isinstance(transformer.model, PeftModel):
            transformer.model = transformer.model.merge_and_unload()
