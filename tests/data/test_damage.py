"""Caches and prepared datasets that were altered are never used in silence: made again, or refused by name."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import pytest

from retrieval_distill import api, models
from retrieval_distill.data import dataset_loader
from retrieval_distill.data.formats import beir
from retrieval_distill.data.formats import texts as texts_format
from retrieval_distill.errors import UserError
from retrieval_distill.retrieval.bm25 import BM25


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def as_it_was(path: Path, seen: os.stat_result) -> None:
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


@pytest.fixture
def mapped(monkeypatch):
    """Every source counts as large: its texts are kept in the cache."""
    monkeypatch.setattr(texts_format, "MAPPED_FROM_BYTES", 0)


def files_of(cache: Path) -> list[str]:
    return sorted(path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file())


def test_any_altered_file_of_a_texts_cache_is_made_again(mapped, dataset, dataset_folder, tmp_path):
    cache = tmp_path / "cache"
    expected = dataset_loader.load(dataset_folder, cache).documents
    for name in files_of(cache):
        for damage in (flip, lambda path: path.write_bytes(b""), Path.unlink):
            damage(cache / name)
            again = dataset_loader.load(dataset_folder, cache)
            assert again.documents.fingerprint == expected.fingerprint == dataset.documents.fingerprint, name
            assert list(again.documents.records()) == list(dataset.documents.records())


def test_a_source_that_changed_within_the_same_size_and_time_is_read_again(mapped, dataset_folder, tmp_path):
    shutil.copytree(dataset_folder, tmp_path / "data")
    corpus = tmp_path / "data" / "corpus.jsonl"
    before = dataset_loader.load(str(tmp_path / "data"), tmp_path / "cache").documents
    seen = corpus.stat()
    corpus.write_bytes(corpus.read_bytes().replace(b"title path", b"title htap"))
    as_it_was(corpus, seen)
    after = dataset_loader.load(str(tmp_path / "data"), tmp_path / "cache").documents
    assert before.record("d0")[0] == "title path" and after.record("d0")[0] == "title htap"


def test_a_document_and_an_archive_that_changed_so_are_read_again(mapped, tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.txt").write_text("A path to the root.")
    archive = tmp_path / "docs.tar"
    for text in ("A path to the root.", "A root to the path."):
        seen = (docs / "a.txt").stat(), archive.stat() if archive.exists() else None
        (docs / "a.txt").write_text(text)
        as_it_was(docs / "a.txt", seen[0])
        with tarfile.open(archive, "w") as out:
            out.add(docs / "a.txt", "a.txt")
        if seen[1]:
            as_it_was(archive, seen[1])
        for source in (docs, archive):
            found = dataset_loader.load(str(source), tmp_path / "cache").documents
            assert text in found.take()[0]


def test_any_altered_file_of_a_bm25_index_is_made_again(dataset, tmp_path):
    queries = dataset.queries("test")
    expected = BM25(dataset.documents).search(queries, 5)
    BM25.cached(tmp_path / "bm25", dataset.documents)
    for name in [name for name in files_of(tmp_path / "bm25") if name != "manifest.json"]:
        flip(tmp_path / "bm25" / name)
        found = BM25.cached(tmp_path / "bm25", dataset.documents).search(queries, 5)
        assert found.pairs == expected.pairs, name


@pytest.mark.parametrize("make", ["prepare", "convert"])
def test_a_prepared_dataset_that_was_altered_is_refused(dataset, tmp_path, make):
    folder = tmp_path / "made"
    if make == "prepare":
        api.prepare(dataset, out=folder)
    else:
        api.convert(dataset, out=folder, to="beir")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n")
    with pytest.raises(UserError, match=r"test\.tsv: this file was altered.*remove manifest\.json from the folder"):
        dataset_loader.load(str(folder), tmp_path / "cache")
    (folder / "manifest.json").unlink()
    assert dataset_loader.load(str(folder), tmp_path / "cache").qrels["test"] == {}


def test_an_embedded_dataset_that_was_altered_is_made_again(dataset, tmp_path, monkeypatch):
    def built(folder: Path) -> dict:
        beir.save(dataset, folder)
        return {}

    monkeypatch.setattr(dataset_loader, "_build_python_docs", built)
    dataset_loader.load("python-docs", tmp_path)
    (tmp_path / "python-docs" / "qrels" / "test.tsv").write_text("")
    assert dataset_loader.load("python-docs", tmp_path).qrels == dataset.qrels


def test_a_models_altered_weights_are_refused(encoders, tmp_path):
    from retrieval_distill.runtime import stages

    def copied(out: Path) -> dict:
        shutil.copytree(encoders["bert"], out, dirs_exist_ok=True)
        return {}

    student = str(tmp_path / "student")
    stages.stage("distill", student, {}, copied)
    models.resolve(student)
    (tmp_path / "student" / "README.md").write_text("A card may be edited.")
    models.resolve(student)
    flip(tmp_path / "student" / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors: this file was altered \(its checksum does not match\)"):
        models.resolve(student)
