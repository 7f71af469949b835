"""A tiny finished run with metadata, and a real server over it on a free port."""

from __future__ import annotations

import json
import shutil

import pytest

from retrieval_distill.config import parse_recipe
from retrieval_distill.data.formats import beir
from retrieval_distill.embedding.embed import embed
from retrieval_distill.index.faiss_index import index
from retrieval_distill.runtime import stages


@pytest.fixture(scope="session")
def finished_run(dataset, encoders, tiny_recipe, tmp_path_factory):
    """What serving needs of a finished run: 60 documents with a year, a source and tags."""
    folder = tmp_path_factory.mktemp("served")
    beir.save(dataset, folder / "data")
    path = folder / "data" / "corpus.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        row |= {"year": 2000 + number % 10, "meta": {"source": "NIH" if number % 2 else "it's ours"}}
        row |= {"tags": ["even" if number % 2 == 0 else "odd", "all"]} | ({"price": number / 4} if number < 30 else {})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = parse_recipe(tiny_recipe | {"dataset": {"source": str(folder / "data")}})
    shutil.copytree(encoders["bert"], folder / "run" / "student")
    embed(encoders["bert"], dataset.documents, folder / "vectors", "float32")
    index(folder / "vectors", folder / "run" / "index-student", "flat")
    stages.write_json(folder / "run" / "recipe.json", recipe.model_dump(mode="json"))
    return folder / "run"
