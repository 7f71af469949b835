"""Where models come from."""

from __future__ import annotations

import fnmatch

import huggingface_hub
import pytest

from retrieval_distill import models
from retrieval_distill.errors import UserError


@pytest.mark.parametrize(
    ("files", "fetched"),
    [
        (["config.json", "model.safetensors", "pytorch_model.bin"], ["config.json", "model.safetensors"]),
        (["config.json", "pytorch_model.bin", "tf_model.h5"], ["config.json", "pytorch_model.bin"]),
    ],
)
def test_older_weights_are_fetched_only_where_there_are_no_others(files, fetched, tmp_path, monkeypatch):
    def download(name, allow_patterns, local_files_only=False):
        if local_files_only:
            raise FileNotFoundError(name)
        for file in files:
            if any(fnmatch.fnmatch(file, pattern) for pattern in allow_patterns):
                (tmp_path / file).touch()
        return str(tmp_path)

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda name: files)
    assert sorted(path.name for path in models.resolve("some/model").iterdir()) == fetched


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["a/model", "other", "packaged:all-MiniLM-L6-v2"], ["model", "other", "all-MiniLM-L6-v2"]),
        (["v1/model", "v2/model/", "v3/else"], ["v1-model", "v2-model", "else"]),
        (["/a/v1/model", "/b/v1/model", "model"], ["a-v1-model", "b-v1-model", "model"]),
        (["/x/m", "bi-encoder:/x/m", "llm:gpt 4"], ["x-m", "bi-encoder-x-m", "gpt-4"]),
    ],
)
def test_no_two_models_have_one_name(names, short):
    assert models.by_short_name(names, (), "x") == dict(zip(short, names, strict=True))


@pytest.mark.parametrize("names", [["a/model", "a/model"], ["a/model", "a/model/"], ["b/bm25"]])
def test_a_name_is_given_once(names):
    with pytest.raises(UserError, match=r"^--model: .* like another system"):
        models.by_short_name(names, ["bm25"], "--model")


@pytest.mark.parametrize(
    "setting", ["HF_HUB_OFFLINE=1", "HF_HUB_OFFLINE=true", "HF_HUB_OFFLINE=YES", "TRANSFORMERS_OFFLINE=on"]
)
def test_offline_is_said_as_it_was_set_and_nothing_is_asked(setting, monkeypatch):
    def absent(*args, **options):
        raise FileNotFoundError

    def asked(name):
        pytest.fail("the hub was asked")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv(*setting.split("="))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", absent)
    monkeypatch.setattr(huggingface_hub, "list_repo_files", asked)
    with pytest.raises(UserError, match=f"'nobody/nothing' is not on disk, and {setting} forbids downloading it"):
        models.resolve("nobody/nothing")
