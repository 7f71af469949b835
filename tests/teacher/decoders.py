"""Tiny causal language models as rerankers: without padding, or with a chat template as Qwen3-Reranker has one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

ASKED = ["Judge", "whether", "Document", "Query", "Instruct", "Answer", ":", "Given", "search", "query", "passages"]


def yes_or_no_decoder(folder: Path) -> str:
    """A causal language model that answers yes or no, as decoder-style rerankers do."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer, sizes = _without_padding()
    torch.manual_seed(5)
    model = LlamaForCausalLM(LlamaConfig(**sizes))
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def classifying_decoder(folder: Path) -> str:
    """A causal language model with a classification head on its last token."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    tokenizer, sizes = _without_padding()
    torch.manual_seed(6)
    model = LlamaForSequenceClassification(LlamaConfig(num_labels=1, **sizes))
    with torch.no_grad():
        model.score.weight.mul_(20)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"

TEMPLATE = (
    "<s> Judge whether the Document meets the requirements of the Query "
    "Instruct : {% for m in messages if m.role == 'system' %}{{ m.content }}{% endfor %} "
    "Query : {{ (messages | selectattr('role', 'eq', 'query') | first).content }} "
    "Document : {{ (messages | selectattr('role', 'eq', 'document') | first).content }} </s> Answer :"
)


def chatting_decoder(folder: Path, kind: str = "qwen3", **settings) -> str:
    """A reranker that is asked in a chat: heads share keys, the prompt is an instruction, yes and no are the answers."""
    from sentence_transformers import CrossEncoder
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer, sizes = _without_padding(ASKED)
    tokenizer.pad_token = "<unk>"
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(7)
    config = AutoConfig.for_model(
        kind, num_key_value_heads=2, head_dim=8, initializer_range=0.2, pad_token_id=0, **{**sizes, **settings}
    )
    made = folder / "language-model"
    AutoModelForCausalLM.from_config(config).save_pretrained(made)
    tokenizer.save_pretrained(made)
    model = CrossEncoder(str(made), prompts={"web": INSTRUCTION}, default_prompt_name="web", device="cpu")
    model.save_pretrained(str(folder / "reranker"))
    return str(folder / "reranker")


def _without_padding(asked: Sequence[str] = ()):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from tests.conftest import WORDS

    vocabulary = {
        word: i for i, word in enumerate(["<unk>", "<s>", "</s>", "yes", "no", *dict.fromkeys([*asked, *WORDS])])
    }
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", model_max_length=64
    )
    sizes = dict(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=128, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return tokenizer, sizes
