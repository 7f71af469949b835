"""A fitted teacher learns, stops in time, survives a kill to the last bit and loads as what was trained."""

from __future__ import annotations

import gc
import json
import random

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder

from retrieval_distill import models
from retrieval_distill.api.teachers import fit_teacher
from retrieval_distill.config.fit_teacher import FitTeacherConfig
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.relevance import with_relevant
from retrieval_distill.data.run import Run
from retrieval_distill.data.training_set import TrainingSet
from retrieval_distill.errors import UserError
from retrieval_distill.runtime.stages import read_manifest
from retrieval_distill.scores.teacher_contract import Pairs
from retrieval_distill.teacher import cross_encoder
from retrieval_distill.teacher.fitting import fit, list_trainer
from retrieval_distill.teacher.fitting import trainable_model as fit_model
from retrieval_distill.teacher.fitting.list_trainer import MEASURE
from retrieval_distill.training.groups import build_groups, schedule
from tests import programs
from tests.conftest import sentence
from tests.teacher.decoders import classifying_decoder

PAIRS = [
    ("path file", "root path file"),
    ("sort", "list " * 30),
    ("graph node", "edge"),
    ("lock queue stack", "heap tree " * 9),
]


@pytest.fixture(scope="module", autouse=True)
def quick_collections():
    """Every stage and training collects garbage; most of the time it would walk the libraries' own objects."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def toy() -> Dataset:
    """Relevant documents hold a word that others lack, besides their query: what a tiny model learns in few steps."""
    rng = random.Random(5)
    relevant = [(f"d{i}", "", f"{sentence(rng, 3)} answer {sentence(rng, rng.randint(2, 12))}") for i in range(72)]
    others = [(f"x{i}", "", sentence(rng, rng.randint(4, 16))) for i in range(48)]
    queries = [(f"q{i}", " ".join(relevant[i][2].split()[:3])) for i in range(72)]
    judged = {
        "train": [(f"q{i}", f"d{i}", 1) for i in range(48)],
        "dev": [(f"q{i}", f"d{i}", 1) for i in range(48, 72)],
    }
    return Dataset.from_records("toy", relevant + others, queries, judged)


def candidates(dataset: Dataset, split: str) -> Run:
    """The relevant document, last, and 7 that are not."""
    rng = random.Random(0)
    others = [doc for doc in dataset.documents if doc.startswith("x")]
    rows = {
        query: {**{doc: rng.random() for doc in rng.sample(others, 7)}, **dict.fromkeys(judged, 0.0)}
        for query, judged in dataset.qrels(split).items()
    }
    return Run.from_dict(rows)


def options(model: str, **changes) -> FitTeacherConfig:
    values = dict(model=model, adapter="none", max_length=32, queries_per_step=8, steps=40, learning_rate=2e-3)
    return FitTeacherConfig(**{**values, "evaluate_every": 20, "bf16": False, **changes})


def fitted(dataset: Dataset, config: FitTeacherConfig, folder, dev: bool = True) -> dict:
    asked = learnt(dataset, "dev") if dev else None
    return fit.fit_teacher(config, learnt(dataset, "train"), asked, folder)


def learnt(dataset: Dataset, split: str) -> TrainingSet:
    return TrainingSet(candidates(dataset, split), dataset.qrels(split), dataset.queries, dataset.documents)


def log(folder) -> dict:
    return json.loads((folder / "fit_log.json").read_text())


@pytest.mark.parametrize("loss", ["listwise", "binary", "lambda"])
def test_every_loss_learns(toy, encoders, tmp_path, loss):
    config = options(encoders["bert"], loss=loss, steps=80 if loss == "binary" else 40)
    manifest = fitted(toy, config, tmp_path / "teacher")
    dev, history = manifest["counts"]["dev"], log(tmp_path / "teacher")["history"]
    losses = [row["loss"] for row in history if row["loss"] is not None]
    assert np.mean(losses[-2:]) < np.mean(losses[:2])
    assert dev["after"]["mean"] > dev["before"]["mean"] + 0.2
    assert dev["queries"] == 24 and dev["difference"]["low"] > 0
    assert [row[MEASURE] for row in history if row[MEASURE] is not None][-1] <= dev["after"]["mean"]
    assert fitted(toy, config, tmp_path / "teacher")["skipped"]


def rescored(folder, dataset: Dataset, run: Run) -> np.ndarray:
    """Scores of a Run's pairs through the toolkit's own loading."""
    teacher = cross_encoder.load(str(folder), max_length=32, dtype="float32")
    frame = run.frame
    queries, documents = (
        dataset.queries.take(frame["query_id"].tolist()),
        dataset.documents.take(frame["doc_id"].tolist()),
    )
    rows = np.stack([np.arange(len(frame))] * 2, axis=1)
    pairs = Pairs(
        frame["query_id"].tolist(), queries, frame["doc_id"].tolist(), documents, rows, np.ones(len(frame), bool)
    )
    found = np.empty(len(frame), np.float32)
    for positions, values in teacher.score(pairs):
        found[positions] = values
    return found


@pytest.mark.parametrize(
    ("kind", "adapter"), [("bert", "lora"), ("roberta", "lora"), ("distilbert", "lora"), ("bert", "none")]
)
def test_the_folder_loads_as_what_was_trained(toy, encoders, tmp_path, monkeypatch, kind, adapter):
    trained = {}
    save = fit_model.save

    def watched(model, config, folder):
        run = candidates(toy, "dev")
        asked = list_trainer.DevEvaluator(run, toy.qrels("dev"), toy.queries, toy.documents, False)
        trained["scores"] = list_trainer.scores(model, asked.pairs)
        save(model, config, folder)

    monkeypatch.setattr(fit_model, "save", watched)
    folder = tmp_path / "teacher"
    rate = 2e-2 if adapter == "lora" else 2e-3  # every weight at once bears less
    fitted(
        toy,
        options(encoders[kind], adapter=adapter, lora_rank=4, steps=12, evaluate_every=12, learning_rate=rate),
        folder,
    )
    tolerance = 2e-5
    np.testing.assert_allclose(rescored(folder, toy, candidates(toy, "dev")), trained["scores"], atol=tolerance)
    assert trained["scores"].std() > 10 * tolerance  # the comparison could have failed
    names = {path.name for path in folder.iterdir()}
    assert {"README.md", "fit_log.json", "manifest.json"} <= names and not {
        "checkpoints",
        "baseline.json",
        "eval",
    } & names
    if adapter == "lora":
        assert "model.safetensors" not in names
        assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == encoders[kind]
    peer = CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    frame = candidates(toy, "dev").frame
    texts = list(
        zip(toy.queries.take(frame["query_id"].tolist()), toy.documents.take(frame["doc_id"].tolist()), strict=True)
    )
    if adapter == "none":  # raw logits by default: the identity is saved with it
        np.testing.assert_allclose(peer.predict(texts), trained["scores"], atol=2e-5)


def test_the_packaged_base_is_named_as_on_every_machine(toy, tmp_path):
    config = FitTeacherConfig(
        steps=2, queries_per_step=2, max_length=32
    )  # its defaults: packaged, lora, bf16 if native
    manifest = fitted(toy, config, tmp_path / "teacher", dev=False)
    settings = json.loads((tmp_path / "teacher" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == models.PACKAGED and settings["r"] == 32
    assert {name.rsplit(".", 1)[-1] for name in settings["target_modules"]} == {"query", "key", "value", "dense"}
    assert set(settings["modules_to_save"]) == {"classifier", "pooler"}
    assert manifest["counts"]["parameters_trained"] < 5_000_000
    assert np.isfinite(rescored(tmp_path / "teacher", toy, candidates(toy, "dev").top(1))).all()


def test_the_listwise_loss_is_softmax_cross_entropy(toy, cross_encoders):
    config = options(cross_encoders["bert"])
    model = fit_model.build(config).eval()
    groups = build_groups(candidates(toy, "train"), toy.qrels("train"))
    draws = schedule(groups, 1, 8, 5, seed=0)
    collator = list_trainer.ListCollator(
        model.preprocess, groups=groups, draws=draws, queries=toy.queries, documents=toy.documents
    )
    batch = collator([{"draw": i} for i in range(8)])
    loss = list_trainer.LOSSES["listwise"](model)([batch["query"], batch["documents"]], batch["label"])
    peer = CrossEncoder(cross_encoders["bert"], activation_fn=torch.nn.Identity(), device="cpu", max_length=32,
                        model_kwargs={"dtype": torch.float32})  # fmt: skip
    by_hand = []
    for query, documents, draw in zip(batch["query"], batch["documents"], draws, strict=True):
        scores = np.array([float(peer.predict([(query, document)])[0]) for document in documents])
        group = groups[draw.group]
        relevant = [group.grades[candidate] for candidate in draw.candidates].index(1)
        by_hand.append(np.log(np.exp(scores).sum()) - scores[relevant])
    assert np.std(by_hand) > 0.1
    assert loss.item() == pytest.approx(np.mean(by_hand), abs=1e-5)


def test_passes_by_length_change_neither_scores_nor_gradients(cross_encoders, monkeypatch):
    model = fit_model.build(options(cross_encoders["bert"], max_length=64)).eval()
    gradients = []
    for budget, kind in ((60, fit_model.PairsByLength.forward), (60, CrossEncoder.forward)):
        monkeypatch.setitem(fit_model.TOKENS_PER_FORWARD, "cpu", budget)
        model.zero_grad()
        scores = kind(model, model.preprocess(PAIRS))["scores"]
        (scores.view(-1) * torch.arange(4.0)).sum().backward()
        gradients.append((scores.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    (ours, our_gradients), (theirs, their_gradients) = gradients
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert ours.std() > 1e-2
    for a, b in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_training_stops_early_and_keeps_the_best(toy, encoders, tmp_path, monkeypatch):
    planned = iter([0.5, 0.4, 0.6, 0.3, 0.2, 0.1])  # before training, then every 2 steps; 0.6 is step 4
    asked, weights, saved = [], {}, {}

    def values(self, model):
        asked.append(next(planned, 0.6))
        weights.setdefault(asked[-1], {name: weight.clone() for name, weight in model.state_dict().items()})
        return np.full(24, asked[-1])

    def save(model, config, folder):
        if not saved:
            saved.update(model.state_dict())
            raise KeyboardInterrupt
        saved.update(model.state_dict())

    monkeypatch.setattr(list_trainer.DevEvaluator, "values", values)
    monkeypatch.setattr(fit_model, "save", save)
    config = options(encoders["bert"], evaluate_every=2, patience=3, steps=40)
    with pytest.raises(KeyboardInterrupt):
        fitted(toy, config, tmp_path / "teacher")
    assert asked == [0.5, 0.4, 0.6, 0.3, 0.2, 0.1, 0.6]  # the last: the weights that are kept
    for _ in range(2):  # what was about to be saved, and what is after starting again: no step more
        assert all(torch.equal(saved[name], weight) for name, weight in weights[0.6].items())
        assert not all(torch.equal(saved[name], weight) for name, weight in weights[0.1].items())
        counts = fitted(toy, config, tmp_path / "teacher")["counts"]
        assert counts["steps"] == 10 and counts["best_step"] == 4
        assert len(asked) == 8


def test_a_teacher_that_got_worse_is_noticed(caplog):
    with caplog.at_level("WARNING", "retrieval_distill"):
        verdict = fit._verdict(np.array([0.9, 0.8]), np.array([0.2, 0.1]), "mine")
    assert "WORSE" in caplog.text and verdict["difference"]["mean"] == pytest.approx(-0.7)


DRIVER = """
import gc, os, signal, sys
from retrieval_distill.training import checkpoints, distillation
from retrieval_distill.data.formats import beir
from retrieval_distill.api.teachers import fit_teacher
from retrieval_distill.teacher.fitting import fit
from retrieval_distill.config.fit_teacher import FitTeacherConfig

def die_at(owner, name, calls, before):
    real, count = getattr(owner, name), 0
    def dying(*args, **kwargs):
        nonlocal count
        count += 1
        if count == calls and before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        if count == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, dying)

data, out, options = sys.argv[1:]
gc.freeze()
whens = {
    "step": (checkpoints.Advance, "on_step_end", 5, False),
    "torn": (distillation.MarkComplete, "on_save", 2, True),  # the second checkpoint's files are there, its mark is not
    "trained": (fit.fit_model, "save", 1, True),
}
for when, how in whens.items():
    if (child := os.fork()) == 0:  # forked before anything is computed: one import of the libraries for all
        die_at(*how)
        fit_teacher(beir.load(data), config=FitTeacherConfig.model_validate_json(options), out=out + "/" + when)
        os._exit(0)
    print(when, os.waitpid(child, 0)[1], flush=True)
"""


def test_a_killed_fit_ends_with_the_same_weights(dataset, dataset_folder, cross_encoders, tmp_path):
    config = options(cross_encoders["bert"], adapter="lora", steps=7, evaluate_every=2, dropout=0.1, patience=None)
    whole, name = tmp_path / "whole", "adapter_model.safetensors"
    fit_teacher(dataset, config=config, out=whole)
    assert read_manifest(whole)["counts"]["steps"] == 7
    killed = programs.run("-c", DRIVER, dataset_folder, tmp_path, config.model_dump_json())
    assert killed.stdout.split() == ["step", "9", "torn", "9", "trained", "9"], killed.stderr  # 9 is SIGKILL
    left = {when: {path.name for path in (tmp_path / f"{when}.partial" / "checkpoints").glob("checkpoint-*")}
            for when in ("step", "torn", "trained")}  # fmt: skip
    assert left["step"] == left["torn"] == {"checkpoint-2", "checkpoint-4"}
    for when in left:
        fit_teacher(dataset, config=config, out=tmp_path / when)
        same = (tmp_path / when / name).read_bytes() == (whole / name).read_bytes()
        assert same, when  # pytest would compare two such files for minutes
        assert log(tmp_path / when)["dev"] == log(whole)["dev"]


def test_candidates_are_fresh_every_epoch_and_fixed_by_the_seed(toy):
    groups = build_groups(candidates(toy, "train"), toy.qrels("train"))
    steps = 2 * len(groups) // 8
    first, again, other = (schedule(groups, steps, 8, 4, seed) for seed in (1, 1, 2))
    assert first == again != other
    epochs = [{draw.group: draw.candidates for draw in part} for part in (first[: len(groups)], first[len(groups) :])]
    assert epochs[0].keys() == epochs[1].keys()
    assert sum(epochs[0][group] != epochs[1][group] for group in epochs[0]) > len(groups) / 2
    for draw in first:
        assert [groups[draw.group].grades[candidate] for candidate in draw.candidates].count(1) == 1


def test_fit_teacher_finds_its_candidates(dataset, encoders, tmp_path):
    config = options(encoders["distilbert"], steps=2, dev_depth=5, dev_queries=4, evaluate_every=1)
    teacher, bi_encoder = tmp_path / "teacher", encoders["distilbert"]
    fit_teacher(dataset, config=config, out=teacher, bi_encoder=bi_encoder)
    manifest = read_manifest(teacher)
    assert manifest["counts"]["groups"] == 24 and manifest["counts"]["dev"]["queries"] == 4
    assert not (tmp_path / "teacher-candidates" / "embeddings").exists()
    written = (teacher / "manifest.json").stat().st_mtime_ns
    assert fit_teacher(dataset, config=config, out=teacher, bi_encoder=bi_encoder).fingerprint
    assert (teacher / "manifest.json").stat().st_mtime_ns == written
    fit_teacher(dataset, config=config, out=tmp_path / "last", dev="none")
    without = read_manifest(tmp_path / "last")
    assert without["counts"]["dev"] is None and without["counts"]["best_step"] == 2


def test_going_on_from_an_adapter(toy, encoders, tmp_path):
    fitted(toy, options(encoders["bert"], adapter="lora", steps=20), tmp_path / "first")
    first = log(tmp_path / "first")["dev"]
    with pytest.raises(UserError, match="itself an adapter"):
        fitted(toy, options(str(tmp_path / "first"), adapter="lora"), tmp_path / "no")
    second = fitted(toy, options(str(tmp_path / "first"), steps=2), tmp_path / "second")["counts"]["dev"]
    assert second["before"]["mean"] == pytest.approx(first["after"]["mean"], abs=1e-6)
    assert (tmp_path / "second" / "model.safetensors").is_file()


def test_without_judgements_it_says_what_is_needed(toy, encoders, tmp_path):
    bare = Dataset("bare", toy.documents, toy.queries, {"train": {"q1": {"d1": 0}}})
    with pytest.raises(UserError, match=r"needs judged training queries.*'train' of dataset 'bare' has none"):
        fit_teacher(bare, config=options(encoders["bert"]), out=tmp_path / "teacher")
    with pytest.raises(UserError, match="no split 'train', it has: none"):
        fit_teacher(
            Dataset("bare", toy.documents, toy.queries), config=options(encoders["bert"]), out=tmp_path / "teacher"
        )
    with pytest.raises(UserError, match="needs judged training queries"):
        nothing = TrainingSet(candidates(toy, "train"), {}, toy.queries, toy.documents)
        fit.fit_teacher(options(encoders["bert"]), nothing, None, tmp_path)
    with pytest.raises(UserError, match="1 document id that the dataset does not have: 'gone'"):
        run = with_relevant(candidates(toy, "train"), {"q1": {"gone": 1}})
        lacking = TrainingSet(run, {"q1": {"gone": 1}}, toy.queries, toy.documents)
        fit.fit_teacher(options(encoders["bert"]), lacking, None, tmp_path)


def test_a_decoder_without_a_padding_token_is_fitted_in_batches(toy, tmp_path):
    config = options(classifying_decoder(tmp_path / "decoder"), steps=2, evaluate_every=2)
    fitted(toy, config, tmp_path / "teacher", dev=False)
    teacher = cross_encoder.load(str(tmp_path / "teacher"), 32, "float32")
    texts = [query for query, _ in PAIRS], [document for _, document in PAIRS]
    rows = np.array([[i, i] for i in range(4)])
    pairs = Pairs(list("abcd"), texts[0], list("wxyz"), texts[1], rows, np.ones(4, bool))
    scored = {int(row): score for rows, scores in teacher.score(pairs) for row, score in zip(rows, scores, strict=True)}
    assert sorted(scored) == [0, 1, 2, 3] and np.isfinite(list(scored.values())).all()
