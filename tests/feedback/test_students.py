"""The point of it all: students trained on people's clicks search better than before, and the correction matters.

Queries say half of their words otherwise than documents do. The start model, a random encoder, knows equal words alone, so
the relevant document stands anywhere in its lists; people look at the first places, and click on irrelevant documents too.
"""

from __future__ import annotations

import random

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoModel, BertConfig, PreTrainedTokenizerFast

from retrieval_distill import api, pipeline
from retrieval_distill.config import parse_recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import beir
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.feedback.log import FeedbackLog
from retrieval_distill.pipeline import rounds
from retrieval_distill.pipeline.data import open_job
from scripts.simulated_users import Users
from tests.conftest import WORDS

DOCUMENTS = 150
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture
def start(tmp_path) -> str:
    """Folder of a random encoder of one layer that knows every word and its other form as different ones."""
    vocabulary = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    vocabulary.pre_tokenizer = pre_tokenizers.Whitespace()
    text = " ".join([*WORDS, *map(other, WORDS)])
    vocabulary.train_from_iterator([text], trainers.WordLevelTrainer(special_tokens=SPECIALS))
    ends = [(token, vocabulary.token_to_id(token)) for token in ("[SEP]", "[CLS]")]
    vocabulary.post_processor = processors.BertProcessing(*ends)
    names = dict(unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=vocabulary, model_max_length=64, **names)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, pad_token_id=0,
    )  # fmt: skip
    AutoModel.from_config(config).save_pretrained(tmp_path / "start")
    tokenizer.save_pretrained(tmp_path / "start")
    return str(tmp_path / "start")


def other(word: str) -> str:
    """The form in which queries say a word that documents do not."""
    return f"{word}ing"


def library() -> Dataset:
    """Each document's eight words, of which every query says three as they are and three otherwise."""
    rng = random.Random(0)
    documents = [(f"d{n}", "", " ".join(rng.sample(WORDS, 8))) for n in range(DOCUMENTS)]
    queries, judged = [], {"train": [], "test": []}
    for doc_id, _, text in documents:
        for number, split in enumerate(("train", "train", "test")):
            words = [word if at < 3 else other(word) for at, word in enumerate(rng.sample(text.split(), 6))]
            queries.append((f"{doc_id}-{number}", " ".join(words)))
            judged[split].append((f"{doc_id}-{number}", doc_id, 1))
    return Dataset.from_records("library", documents, queries, judged)


def searched(data: Dataset, model: str, split: str, folder):
    api.embed(data.documents, model, out=folder / "vectors", max_length=32)
    api.index(folder / "vectors", out=folder / "index")
    return api.search(data.queries(split), folder / "index", model=model, depth=10)


def reached(data: Dataset, model: str, folder) -> float:
    run = searched(data, model, "test", folder)
    return float(evaluate(run, data.qrels("test"), ["nDCG@10"])["nDCG@10"].mean())


def trained(source, start: str, log, folder, eta: float) -> str:
    recipe = parse_recipe(
        {
            "name": "clicks", "dataset": {"source": str(source), "dev": None}, "teacher": {"model": "bm25", "gate": "off"},
            "feedback": {"log": str(log), "weight": 3.0, "eta": eta}, "retrieve": {"depth": 10, "keep": 6},
            "mining": {"retrievers": ["start"]}, "student": {"model": start, "max_length": 32},
            "objectives": {"in_batch": 1.0},
            "training": {"steps": 80, "queries_per_step": 32, "candidates": 4, "learning_rate": 2e-3, "bf16": False,
                         "agreement_queries": 0, "save_steps": 1000},
        }
    )  # fmt: skip
    job = open_job(recipe, folder)
    pipeline.embed_start(job)
    for turn in rounds(job):
        pipeline.teach(turn)
    return str(job.out / "student")


def test_a_student_of_corrected_clicks_is_better_than_before_and_than_one_of_raw_clicks(start, tmp_path):
    data = library()
    beir.save(data.replace(qrels={"test": data.qrels("test")}), tmp_path / "data")
    shown = searched(data, start, "train", tmp_path / "shown")
    texts = {id_: data.queries[id_] for id_ in shown.query_ids}
    with FeedbackLog.open(tmp_path / "feedback.db") as log:
        Users(eta=1.0, relevant=0.8, noise=0.3, swaps=0.0).search(
            log,
            {texts[id_]: doc_ids for id_, doc_ids, _ in shown},
            {texts[id_]: set(data.qrels("train")[id_]) for id_ in shown.query_ids},
            times=40,
            seed=3,
        )
    before = reached(data, start, tmp_path / "before")
    after = {}
    for name, eta in (("raw", 0.0), ("corrected", 1.0)):
        student = trained(tmp_path / "data", start, tmp_path / "feedback.db", tmp_path / name, eta)
        after[name] = reached(data, student, tmp_path / f"{name}-measured")
    assert after["corrected"] > before + 0.1
    assert after["corrected"] > after["raw"] + 0.03, after
