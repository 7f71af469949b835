"""A trimmed vocabulary: the corpus gets the vectors it had, new texts can still be cut, and the library loads it."""

from __future__ import annotations

import json
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from retrieval_distill.config import StudentConfig
from retrieval_distill.data.dataset import Texts
from retrieval_distill.errors import UserError
from retrieval_distill.student import build, encoder, tokenizer_json
from tests.conftest import WORDS, sentence, word_pieces
from tests.student.conftest import config_of, save

PART = WORDS[:20]
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def trained(kind: str) -> Tokenizer:
    """A bare tokenizer over all words, every letter a token."""
    rng = random.Random(0)
    texts = [sentence(rng, 12) for _ in range(300)]
    if kind == "WordPiece":
        pieces = {token: number for number, token in enumerate([*MARKS, *word_pieces()])}
        tokenizer = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return tokenizer
    if kind == "BPE":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=450, initial_alphabet=alphabet)
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        marks = ["<s>", "<pad>", "</s>", "<unk>"]
        trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=marks, unk_token="<unk>")
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


TRAINED = {kind: trained(kind) for kind in tokenizer_json.KINDS}


@pytest.fixture(scope="module")
def students(tokenizers_by_kind, gpt2_tokenizer, tmp_path_factory) -> dict[str, str]:
    """Plain models under the tokenizer classes that their families come with, and under a bare one."""
    from transformers import BertTokenizer, RobertaTokenizer, XLMRobertaConfig, XLMRobertaTokenizer

    piece, unigram = (json.loads(TRAINED[kind].to_str())["model"] for kind in ("WordPiece", "Unigram"))
    bytes_ = json.loads(gpt2_tokenizer.backend_tokenizer.to_str())["model"]
    marks = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    shifted = {token: id_ + len(marks) for token, id_ in bytes_["vocab"].items()}
    bert = BertTokenizer(vocab=piece["vocab"])
    roberta = RobertaTokenizer(
        vocab={**{mark: id_ for id_, mark in enumerate(marks)}, **shifted}, merges=[tuple(m) for m in bytes_["merges"]]
    )
    xlm = XLMRobertaTokenizer(vocab=[*map(tuple, unigram["vocab"]), ("<mask>", 0.0)])
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    xlm_config = XLMRobertaConfig(vocab_size=len(xlm), pad_token_id=1, max_position_embeddings=66, **sizes)
    pairs = {
        "bert": (config_of("bert", bert), bert),
        "roberta": (config_of("roberta", roberta), roberta),
        "gpt2": (config_of("gpt2", gpt2_tokenizer), gpt2_tokenizer),
        "xlm-roberta": (xlm_config, xlm),
        "mpnet": (config_of("mpnet", tokenizers_by_kind["roberta"]), tokenizers_by_kind["roberta"]),
    }
    return {name: save(*pair, tmp_path_factory.mktemp(name)) for name, pair in pairs.items()}


@pytest.fixture(scope="module")
def texts() -> dict[str, Texts]:
    """Texts of some of the words, many longer than a model's limit."""
    rng = random.Random(1)
    records = [("", " ".join(rng.choice(PART) for _ in range(rng.randint(1, 40)))) for _ in range(60)]
    documents = Texts.from_records((str(row), *record) for row, record in enumerate(records))
    return {"query": Texts.from_records([("q", "", "tree node"), ("e", "", "")]), "document": documents}


NEW = ["zone clock date module package", "Zyx-42 graph!"]


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "xlm-roberta", "mpnet"])
def test_the_corpus_keeps_its_vectors(students, texts, name, tmp_path):
    config = {"model": students[name], "max_length": 24, "query_prompt": "mean sample "}
    whole = build.build(StudentConfig(**config))
    student = build.build(StudentConfig(**config, vocabulary="corpus"), texts)
    student.save_pretrained(str(tmp_path))
    loaded = SentenceTransformer(str(tmp_path), device="cpu")
    rows = loaded[0].auto_model.get_input_embeddings().num_embeddings
    assert rows == loaded[0].auto_model.config.vocab_size == len(loaded.tokenizer)
    assert rows < whole[0].auto_model.get_input_embeddings().num_embeddings - 20
    for kind, of_kind in texts.items():
        expected = encoder.encode(whole, of_kind.take(), kind)
        for found in (student, loaded):
            np.testing.assert_allclose(encoder.encode(found, of_kind.take(), kind), expected, atol=1e-6)
    np.testing.assert_allclose(loaded.encode_document(texts["document"].take()), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "xlm-roberta"])
def test_new_texts_can_be_cut(students, texts, name):
    """By a student of the corpus alone, as by the whole one: an unknown mark only where that one has one."""
    whole = build.build(StudentConfig(model=students[name]))
    student = build.build(StudentConfig(model=students[name], vocabulary="corpus"), texts)
    for text in NEW:
        old, new = (model.tokenizer(text)["input_ids"] for model in (whole, student))
        unknown = [(model.tokenizer.unk_token_id, ids) for model, ids in ((whole, old), (student, new))]
        assert [ids.count(mark) for mark, ids in unknown][0] == [ids.count(mark) for mark, ids in unknown][1]
        assert len(new) >= len(old)
        assert student.tokenizer.decode(new) == whole.tokenizer.decode(old)
    assert len(new) > len(whole.tokenizer("node tree")["input_ids"])


@pytest.mark.parametrize("wanted", [5, 15])
def test_only_the_most_frequent(students, texts, wanted):
    student = build.build(StudentConfig(model=students["bert"], vocabulary=wanted), texts)
    kept = set(student.tokenizer.get_vocab())
    counts = Counter(
        token for part in texts.values() for text in part.take() for token in TRAINED["WordPiece"].encode(text).tokens
    )
    letters = {token for token in TRAINED["WordPiece"].get_vocab() if len(token.removeprefix("##")) == 1}
    assert letters | set(MARKS) <= kept <= letters | set(MARKS) | set(counts)
    assert wanted <= len(kept & set(counts)) < len(counts)
    assert len(kept - letters - set(MARKS)) <= wanted
    rarest = min(counts[token] for token in kept - letters - set(MARKS))
    assert rarest >= max(counts[token] for token in set(counts) - kept)


def test_padding_keeps_the_id_that_positions_count_from(texts, tmp_path):
    """CamemBERT's vocabularies begin with a token that nothing uses."""
    from transformers import PreTrainedTokenizerFast

    model = json.loads(TRAINED["BPE"].to_str())["model"]
    firsts = ["<s>NOTUSED", "<pad>", "</s>", "<unk>"]
    vocab = {token: id_ for id_, token in enumerate([*firsts, *model["vocab"]])}
    bare = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(merge) for merge in model["merges"]]))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.add_special_tokens(firsts[1:])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    config = config_of("roberta", tokenizer)
    config.bos_token_id = 2
    folder = save(config, tokenizer, tmp_path)
    whole = build.build(StudentConfig(model=folder, max_length=24))
    student = build.build(StudentConfig(model=folder, max_length=24, vocabulary="corpus"), texts)
    assert student.tokenizer.pad_token_id == student[0].auto_model.config.pad_token_id == 1
    words = [text for text in texts["document"].take() if text]
    np.testing.assert_allclose(student.encode(words), whole.encode(words), atol=1e-6)


def test_tokens_without_letters_cannot_be_cut_down(texts, tmp_path):
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({**{mark: id_ for id_, mark in enumerate(MARKS)}, "node": 5}, "[UNK]"))
    named = dict(unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **named)
    folder = save(config_of("bert", tokenizer), tokenizer, tmp_path)
    with pytest.raises(UserError, match="cannot trim a WordLevel tokenizer"):
        build.build(StudentConfig(model=folder, vocabulary="corpus"), texts)


def test_a_vocabulary_needs_texts(students):
    with pytest.raises(UserError, match="needs a dataset's texts"):
        build.build(StudentConfig(model=students["bert"], vocabulary="corpus"))


LETTERS = sorted({letter for word in WORDS for letter in word})


@pytest.mark.parametrize("kind", tokenizer_json.KINDS)
@settings(max_examples=60)
@given(corpus=st.lists(st.one_of(st.sampled_from(WORDS), st.text(LETTERS, min_size=1, max_size=12)), max_size=8))
def test_any_text_is_cut_as_before(kind, corpus):
    """Whatever a corpus holds, the tokenizer of its tokens cuts it into these, alone and word by word."""
    whole = TRAINED[kind]
    texts = [" ".join(corpus), *corpus]
    used = {id_ for text in texts for id_ in whole.encode(text).ids}
    rules = json.loads(whole.to_str())
    kept = tokenizer_json.required_ids(rules, used)
    slim = Tokenizer.from_str(
        json.dumps(tokenizer_json.restrict(rules, {old: new for new, old in enumerate(sorted(kept))}))
    )
    assert slim.get_vocab_size() == len(kept) < whole.get_vocab_size()
    for text in texts:
        assert slim.encode(text).tokens == whole.encode(text).tokens
