"""Folders of models that are damaged or hostile: refused with folder and file, and no code of theirs is run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from retrieval_distill import models
from retrieval_distill.config.fit_teacher import FitTeacherConfig
from retrieval_distill.errors import UserError
from retrieval_distill.student import encoder
from retrieval_distill.teacher import cross_encoder
from retrieval_distill.teacher.fitting import trainable_model
from tests.model_folders import saved_adapter, saved_student, set_to


@pytest.fixture
def saved(encoders, tmp_path) -> Path:
    return saved_student(encoders["bert"], tmp_path / "saved")


@pytest.fixture
def adapter(encoders, tmp_path) -> Path:
    return saved_adapter(encoders["bert"], tmp_path / "adapter")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGES = {
    "weights cut": (lambda f: cut(f / "model.safetensors"), "model.safetensors is damaged"),
    "weights gone": (
        lambda f: (f / "model.safetensors").unlink(),
        "no file named model.safetensors",
    ),
    "settings cut": (lambda f: cut(f / "config.json"), "config.json is not JSON"),
    "settings a list": (lambda f: (f / "config.json").write_text("[]"), "config.json is not a JSON object"),
    "settings nested": (lambda f: (f / "config.json").write_text("[" * 100_000), "config.json is not JSON"),
    "settings wrong": (lambda f: set_to(f / "config.json", hidden_size="many"), "hidden_size"),
    "family unknown": (lambda f: set_to(f / "config.json", model_type="nope"), "model type `nope`"),
    "activation unknown": (lambda f: set_to(f / "config.json", hidden_act="nope"), "KeyError 'nope'"),
    "tokenizer cut": (lambda f: cut(f / "tokenizer.json"), "tokenizer.json is not JSON"),
    "tokenizer gone": (
        lambda f: [(f / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json")],
        "has no tokenizer: its files, such as tokenizer.json, are missing",
    ),
}
MODULES = {
    "modules cut": (lambda f: cut(f / "modules.json"), "modules.json is not JSON"),
    "no modules": (lambda f: (f / "modules.json").write_text("[]"), "empty modules list"),
    "outside": (
        lambda f: (f / "modules.json").write_text(
            json.dumps([{"idx": 0, "name": "0", "path": "../x", "type": "sentence_transformers.models.Transformer"}])
        ),
        "Invalid model path",
    ),
    "dense cut": (
        lambda f: cut(f / "2_Dense" / "model.safetensors"),
        "2_Dense/model.safetensors is damaged",
    ),
    "dense lacks": (
        lambda f: save_file({"linear.bias": torch.zeros(16)}, f / "2_Dense" / "model.safetensors"),
        'Missing key.* in state_dict: "linear.weight"',
    ),
    "dense wide": (
        lambda f: (
            set_to(f / "2_Dense" / "config.json", in_features=8),
            save_file(
                {"linear.bias": torch.zeros(16), "linear.weight": torch.zeros(16, 8)},
                f / "2_Dense" / "model.safetensors",
            ),
        ),
        "cannot embed a text",
    ),
    "pooling": (lambda f: set_to(f / "1_Pooling" / "config.json", pooling_mode="nope"), "Invalid pooling mode"),
}


@pytest.mark.parametrize("damage", [*DAMAGES, *MODULES])
def test_a_damaged_student_is_refused_with_folder_and_file(saved, damage):
    act, message = (DAMAGES | MODULES)[damage]
    act(saved)
    with pytest.raises(UserError, match=message) as refused:
        encoder.load(str(saved))
    assert str(saved) in str(refused.value)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("role", ["teacher", "fitted"])
def test_a_damaged_teacher_is_refused_with_folder_and_file(cross_encoders, tmp_path, damage, role):
    shutil.copytree(cross_encoders["bert"], folder := tmp_path / "model")
    act, message = DAMAGES[damage]
    act(folder)
    with pytest.raises(UserError, match=message) as refused:
        if role == "teacher":
            cross_encoder.load(str(folder))
        else:
            trainable_model.build(FitTeacherConfig(model=str(folder)))
    assert str(folder) in str(refused.value)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_adapter_is_refused_with_its_file(adapter, content):
    (adapter / "adapter_config.json").write_text(content)
    for act in (models.fingerprint, cross_encoder.load):
        with pytest.raises(UserError, match=r"adapter_config\.json: this file "):
            act(str(adapter))


class Payload:
    """Unpickled, it leaves a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def pickled(folder: Path, ran: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"embeddings": Payload(ran)}))


def pickled_and_trusted(folder: Path, ran: Path) -> None:
    pickled(folder, ran)
    set_to(folder / "sentence_bert_config.json", model_args={"weights_only": False, "trust_remote_code": True})


def own_code(folder: Path, ran: Path) -> None:
    (folder / "own.py").write_text(f"import os\nos.mkdir({str(ran)!r})\nclass Own: pass\n")
    own = {"AutoConfig": "own.Own", "AutoModel": "own.Own", "AutoModelForSequenceClassification": "own.Own"}
    set_to(folder / "config.json", auto_map=own, model_type="own")


def own_tokenizer(folder: Path, ran: Path) -> None:
    (folder / "own.py").write_text(f"import os\nos.mkdir({str(ran)!r})\nclass Own: pass\n")
    set_to(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]}, tokenizer_class="Own")


def foreign_module(folder: Path, ran: Path) -> None:
    (folder / "own.py").write_text(f"import os\nos.mkdir({str(ran)!r})\nclass Own: pass\n")
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "own.Own"}]))


def system_module(folder: Path, ran: Path) -> None:
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "os.system"}]))


def hub_kernel(folder: Path, ran: Path) -> None:
    set_to(folder / "config.json", attn_implementation="somebody/kernel")


def hub_kernel_of_module(folder: Path, ran: Path) -> None:
    set_to(folder / "sentence_bert_config.json", model_args={"attn_implementation": "somebody/kernel"})


HOSTILE = {
    pickled: "pytorch_model.bin is not a file of plain weights",
    pickled_and_trusted: "pytorch_model.bin is not a file of plain weights",
    own_code: "its own code, which is never run",
    own_tokenizer: None,  # its tokenizer.json is read without it
    foreign_module: "its own code, which is never run",
    system_module: "its own code, which is never run",
    hub_kernel: "asks for attention code from a hub, which is never run",
    hub_kernel_of_module: "asks for attention code from a hub, which is never run",
}


@pytest.mark.parametrize("attack", HOSTILE, ids=lambda attack: attack.__name__)
def test_a_hostile_model_runs_no_code(saved, cross_encoders, tmp_path, monkeypatch, attack):
    ran = tmp_path / "ran"
    shutil.copytree(cross_encoders["bert"], other := tmp_path / "cross-encoder")
    attack(saved, ran)
    folders = {saved: encoder.load}
    if attack in (pickled, own_code, own_tokenizer, hub_kernel):
        attack(other, ran)
        folders[other] = cross_encoder.load
    for folder, load in folders.items():
        monkeypatch.chdir(folder)
        if HOSTILE[attack] is None:
            load(str(folder))
        else:
            with pytest.raises(UserError, match=HOSTILE[attack]):
                load(str(folder))
        assert not ran.exists()
