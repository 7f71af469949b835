"""Search results for a person: names, scores and the sentence that fits best.

Knows a finished run's folder and the terminal; must not know training or evaluation.
"""

from __future__ import annotations

from pathlib import Path

from retrieval_distill import artifacts
from retrieval_distill.config import DatasetConfig, parse
from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.load import load
from retrieval_distill.errors import UserError
from retrieval_distill.indexing import faiss_index
from retrieval_distill.indexing.faiss_index import Index
from retrieval_distill.reporting.text import snippet


def show(folder: Path, query: str, depth: int) -> None:
    """Search a finished run with its student and print the best documents.

    Raises:
        UserError: The folder holds no finished run, or the query is empty.
    """
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    if not query.strip():
        raise UserError("the query is empty")
    if not (folder / "recipe.json").is_file() or not (folder / "index-student").is_dir():
        raise UserError(f"{folder}: no finished run there; make one with: retrieval-distill run RECIPE --out {folder}")
    source = parse(DatasetConfig, artifacts.read_json(folder / "recipe.json")["dataset"], str(folder / "recipe.json"))
    dataset = load(source.source, folder / "dataset", source)
    asked = Texts.from_records([("query", "", query)])
    found = faiss_index.search(Index.open(folder / "index-student"), str(folder / "student"), asked, depth, "float32")
    console = Console(highlight=False)
    for rank, (doc_id, score) in enumerate(zip(found.frame["doc_id"], found.frame["score"], strict=True), 1):
        title, text = dataset.documents.record(doc_id)
        console.print(Text.assemble((f"{rank}. ", "dim"), (title or doc_id, "bold cyan"), (f"  {score:.3f}", "green")))
        console.print(Padding(Text(snippet(text, query)), (0, 0, 0, 3)))
