"""Search results for a person: names, scores and the sentence that fits best.

Knows a finished run's folder and the terminal; must not know training or evaluation.
"""

from __future__ import annotations

from pathlib import Path

from retrieval_distill import artifacts
from retrieval_distill.config import parse_recipe
from retrieval_distill.data import sources
from retrieval_distill.data.dataset import Texts
from retrieval_distill.errors import UserError
from retrieval_distill.indexing import faiss_index
from retrieval_distill.indexing.faiss_index import Index
from retrieval_distill.reporting.text import snippet
from retrieval_distill.retrieval.pool import best_passages


def show(folder: Path, query: str, depth: int) -> None:
    """Search a finished run with its student and print the best documents, each with a snippet of its best passage.

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
    recipe = parse_recipe(artifacts.read_json(folder / "recipe.json"), str(folder / "recipe.json"))
    dataset = sources.of_run(recipe, folder / "dataset")
    asked, passages = Texts.from_records([("query", "", query)]), dataset.in_passages(depth)
    index = Index.open(folder / "index-student")
    found = faiss_index.search(index, str(folder / "student"), asked, passages, "float32")
    found = best_passages(found, dataset.parents_of(found.frame["doc_id"])).top(depth)
    console = Console(highlight=False)
    for rank, (doc_id, score) in enumerate(zip(found.frame["doc_id"], found.frame["score"], strict=True), 1):
        title, text = dataset.documents.record(doc_id)
        name = title or dataset.parents_of([doc_id])[0]
        console.print(Text.assemble((f"{rank}. ", "dim"), (name, "bold cyan"), (f"  {score:.3f}", "green")))
        console.print(Padding(Text(snippet(text, query)), (0, 0, 0, 3)))
