"""Reads a folder of text, Markdown, HTML and PDF files, one document each.

A document's id is its path within the folder. Knows folders; must not know how text is extracted from a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import extract, tables
from retrieval_distill.data.formats.names import further
from retrieval_distill.data.formats.reading import Format, Reading, Row, RowError, Table
from retrieval_distill.errors import UserError
from retrieval_distill.runtime.files import sample_checksum


def recognises(source: str) -> bool:
    """Whether a folder contains any file from which text can be extracted."""
    return Path(source).is_dir() and any(path.suffix.lower() in extract.EXTRACTORS for path in _files(Path(source)))


def read(source: str, reading: Reading) -> Dataset:
    """The folder's documents, with the queries and judgements that the options name.

    Other files are left out and counted.

    Raises:
        UserError: An extractor is not installed, or a file has no text and bad rows are refused.
    """
    folder = Path(source)
    files = [(path, path.stat()) for path in _files(folder)]
    for path, _ in files:
        if path.suffix.lower() not in extract.EXTRACTORS:
            reading.bad.add("file of no known kind", str(path))
    size = sum(seen.st_size for _, seen in files)
    key = {
        "files": [
            (str(path.resolve()), seen.st_size, seen.st_mtime_ns, sample_checksum(path, 4)) for path, seen in files
        ]
    }
    return tables.dataset(folder.name, Table(source, size, key, lambda r: _rows(folder, r)), None, {}, reading)


def _rows(folder: Path, reading: Reading) -> Iterator[Row]:
    for path in _files(folder):
        extractor = extract.EXTRACTORS.get(path.suffix.lower())
        if extractor is None:
            continue
        try:
            page = extractor(path, reading.options.encoding)
        except RowError as defect:
            reading.bad.row(str(path), defect.reason, defect.detail)
        except OSError as error:
            reading.bad.row(str(path), "file that cannot be read", f"this file cannot be read ({error.strerror})")
        else:
            row = {"id": path.relative_to(folder).as_posix(), "title": page.title, "text": page.text}
            for name, value in page.about.items():
                row[further(name, row)] = value
            yield str(path), row


def _files(folder: Path) -> list[Path]:
    """All files except hidden ones, sorted; links are followed, but every folder is read only once.

    Raises:
        UserError: A folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: this folder cannot be read ({error.strerror})")

    found, seen, due = list[Path](), set[Path](), [folder]
    for start in due:  # grows by linked folders
        for name, folders, files in os.walk(start, onerror=refuse):
            place = Path(name)
            real = place.resolve()
            if real in seen or real in folder.resolve().parents:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            due += [path for path in map(place.joinpath, folders) if path.is_symlink()]
            found += [place / name for name in files if not name.startswith(".")]
    return sorted(path for path in found if path.is_file())


DOCUMENTS = Format("files", recognises, read)
