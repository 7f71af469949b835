"""Tiny real models, tokenizers and a data set, built once per session; nothing is downloaded."""

from __future__ import annotations

import gc
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from hypothesis import settings

from retrieval_distill.benchmarks import speed
from retrieval_distill.runtime.progress import show_progress
from tests import programs

programs.leave_disks_alone()

# a busy machine may take any time over an example; CI tells whether a change broke something, and searches for nothing new
settings.register_profile("tests", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("tests")

WORDS = [
    "path",
    "file",
    "root",
    "extension",
    "split",
    "join",
    "read",
    "write",
    "open",
    "close",
    "array",
    "matrix",
    "sort",
    "search",
    "index",
    "graph",
    "node",
    "edge",
    "tree",
    "list",
    "count",
    "sum",
    "mean",
    "random",
    "sample",
    "string",
    "format",
    "parse",
    "token",
    "encode",
    "decode",
    "hash",
    "byte",
    "buffer",
    "socket",
    "thread",
    "lock",
    "queue",
    "stack",
    "heap",
    "cache",
    "error",
    "value",
    "type",
    "class",
    "object",
    "method",
    "module",
    "package",
    "import",
    "test",
    "date",
    "time",
    "zone",
    "clock",
]


def sentence(rng: random.Random, length: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(length))


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers():
    """One more than there are cores: a third of their time, tests wait for servers, kills and programs that start."""
    return (yield) + ("PYTEST_XDIST_AUTO_NUM_WORKERS" not in os.environ)


LONGEST = (
    "tests/e2e/", "tests/tuning/", "tests/runtime/test_cluster", "tests/data/formats/", "tests/test_", "tests/training/",
)  # fmt: skip
"""Where tests are that train, search for settings, start clusters, or try many files."""


def pytest_collection_modifyitems(items):
    """The longest first: a file that begins last would end alone, while other processes have nothing left to do."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


def pytest_collection_finish():
    """Leave out of every later garbage collection what the tests import: each stage begins with one."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish():
    """Let extension modules find their objects collected at the end."""
    gc.unfreeze()


@contextmanager
def timed_briefly() -> Iterator[pytest.MonkeyPatch]:
    """Within, a run times its systems in one turn, not in six, and overwrites no caches."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in programs.BRIEF.items():
            patch.setattr(speed, name, value)
        yield patch


@pytest.fixture(scope="module", autouse=True)
def brief_timings():
    """How fast a tiny model is means nothing; the tests of what times it have all turns."""
    with timed_briefly():
        yield


@pytest.fixture(autouse=True)
def silence():
    """A test that turns progress on turns it on for itself."""
    yield
    show_progress(False)


@pytest.fixture(autouse=True)
def own_seed():
    """What a test draws without a seed of its own does not depend on the tests before it."""
    torch.manual_seed(0)


def word_pieces() -> list[str]:
    """195 pieces: letters, words, beginnings and ends of words. A trainer would break its ties anew in each process."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    parts = [part for word in WORDS for part in (word[:2], "##" + word[2:], "##" + word[-2:])]
    return list(dict.fromkeys([*letters, *("##" + letter for letter in letters), *WORDS, *parts]))[:195]


@pytest.fixture(scope="session")
def tokenizers_by_kind(tmp_path_factory):
    """Trained tokenizers: WordPiece with BERT's pairs, byte-level BPE with RoBERTa's and with ModernBERT's."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    rng = random.Random(0)
    texts = [sentence(rng, 12) for _ in range(300)]
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = {token: number for number, token in enumerate([*specials, *word_pieces()])}
    word_piece = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    word_piece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    word_piece.post_processor = processors.BertProcessing(
        ("[SEP]", word_piece.token_to_id("[SEP]")), ("[CLS]", word_piece.token_to_id("[CLS]"))
    )
    byte_level = Tokenizer(models.BPE(unk_token="<unk>"))
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    byte_level.train_from_iterator(texts, trainer)
    byte_level.post_processor = processors.RobertaProcessing(
        ("</s>", byte_level.token_to_id("</s>")), ("<s>", byte_level.token_to_id("<s>")), add_prefix_space=False
    )
    modern = Tokenizer.from_str(byte_level.to_str())
    modern.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>",
        special_tokens=[(token, modern.token_to_id(token)) for token in ("<s>", "</s>")],
    )  # fmt: skip
    bert = dict(unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
    roberta = dict(
        unk_token="<unk>", pad_token="<pad>", cls_token="<s>", sep_token="</s>", mask_token="<mask>",
        bos_token="<s>", eos_token="</s>",
    )  # fmt: skip
    return {
        "bert": PreTrainedTokenizerFast(
            tokenizer_object=word_piece, model_max_length=64,
            model_input_names=["input_ids", "token_type_ids", "attention_mask"], **bert,
        ),
        "distilbert": PreTrainedTokenizerFast(
            tokenizer_object=word_piece, model_max_length=64, model_input_names=["input_ids", "attention_mask"], **bert
        ),
        "roberta": PreTrainedTokenizerFast(
            tokenizer_object=byte_level, model_max_length=64, model_input_names=["input_ids", "attention_mask"], **roberta
        ),
        "modernbert": PreTrainedTokenizerFast(
            tokenizer_object=modern, model_max_length=64, model_input_names=["input_ids", "attention_mask"], **roberta
        ),
    }  # fmt: skip


def tiny_config(kind: str, tokenizer, num_labels: int = 1):
    from transformers import BertConfig, DistilBertConfig, ModernBertConfig, RobertaConfig

    shared = dict(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, num_labels=num_labels)
    if kind == "bert":
        return BertConfig(hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=64,
                          max_position_embeddings=64, **shared)  # fmt: skip
    if kind == "distilbert":
        return DistilBertConfig(dim=32, n_layers=4, n_heads=4, hidden_dim=64, max_position_embeddings=64, **shared)
    if kind == "modernbert":
        return ModernBertConfig(hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=64,
                                max_position_embeddings=64, local_attention=16, bos_token_id=0, cls_token_id=0,
                                eos_token_id=2, sep_token_id=2, **shared)  # fmt: skip
    return RobertaConfig(hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=64,
                         max_position_embeddings=66, **shared)  # fmt: skip


@pytest.fixture(scope="session")
def encoders(tokenizers_by_kind, tmp_path_factory) -> dict[str, str]:
    """Folders of tiny plain encoders by kind."""
    from transformers import AutoModel

    folders = {}
    for kind, tokenizer in tokenizers_by_kind.items():
        torch.manual_seed(1)
        folder = tmp_path_factory.mktemp(f"encoder-{kind}")
        AutoModel.from_config(tiny_config(kind, tokenizer)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        folders[kind] = str(folder)
    return folders


@pytest.fixture(scope="session")
def cross_encoders(tokenizers_by_kind, tmp_path_factory) -> dict[str, str]:
    """Folders of tiny cross-encoders by kind, whose scores have mean 0 and standard deviation 1: no rounding reorders them."""
    from transformers import AutoModelForSequenceClassification

    rng, folders = random.Random(4), {}
    pairs = [(sentence(rng, 4), sentence(rng, rng.randint(8, 40))) for _ in range(50)]
    for kind, tokenizer in tokenizers_by_kind.items():
        torch.manual_seed(2)
        config = tiny_config(kind, tokenizer)
        config.initializer_range = 0.2  # at the usual 0.02 every pair scores alike, and bfloat16 hides the rest
        model = AutoModelForSequenceClassification.from_config(config).eval()
        texts = tokenizer(*zip(*pairs, strict=True), padding=True, truncation=True, max_length=48, return_tensors="pt")
        with torch.no_grad():
            logits = model(**texts).logits
            *_, weight, bias = model.parameters()  # of the last layer
            weight.div_(logits.std())
            bias.sub_(logits.mean()).div_(logits.std())
        folder = tmp_path_factory.mktemp(f"cross-{kind}")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        folders[kind] = str(folder)
    return folders


@pytest.fixture(scope="session")
def dataset():
    """60 documents and 40 queries; a query is part of its relevant document."""
    from retrieval_distill.data.dataset import Dataset

    rng = random.Random(3)
    documents = [(f"d{i}", f"title {WORDS[i % len(WORDS)]}", sentence(rng, rng.randint(8, 40))) for i in range(60)]
    queries, judged = [], {"train": [], "dev": [], "test": []}
    for i in range(40):
        words = documents[i][2].split()
        at = rng.randrange(len(words) - 4)
        queries.append((f"q{i}", " ".join(words[at : at + 4])))
        judged["train" if i < 24 else "dev" if i < 30 else "test"].append((f"q{i}", f"d{i}", 1))
    return Dataset.from_records("tiny", documents, queries, judged)


@pytest.fixture(scope="session")
def dataset_folder(dataset, tmp_path_factory) -> str:
    """The tiny data set in BEIR layout."""
    from retrieval_distill.data.formats import beir

    folder = tmp_path_factory.mktemp("data") / "tiny"
    beir.save(dataset, folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_recipe(dataset_folder, encoders, cross_encoders) -> dict:
    """A whole recipe over the tiny data set, as plain values; a run takes a few seconds."""
    return {
        "name": "tiny",
        "dataset": {"source": dataset_folder},
        "retrieve": {"depth": 10, "keep": 6},
        "teacher": {"model": cross_encoders["bert"], "max_length": 48, "gate_queries": 10},
        "student": {"model": encoders["distilbert"], "max_length": 48},
        "objectives": {"margin_mse": 0.05, "listwise_kl": 1.0, "in_batch": 0.5},
        "training": {"steps": 12, "queries_per_step": 8, "candidates": 4, "save_steps": 2, "bf16": False},
        "evaluate": {"rerank_depth": 10, "depth": 20},
    }


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KB of its own, which only root can mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
