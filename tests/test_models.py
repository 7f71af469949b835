"""Where models come from."""

from __future__ import annotations

import fnmatch

import huggingface_hub
import pytest

from retrieval_distill import models


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
