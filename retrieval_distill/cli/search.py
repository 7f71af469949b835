"""The command ``search``: one query, a prompt, or a file of queries.

Knows options; must not know any maths. Heavy imports happen inside commands, so that ``--help`` is instant.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from retrieval_distill.cli.options import (
    TEACHERS,
    DtypeOption,
    check_index,
    check_teachers,
    save,
    say,
)
from retrieval_distill.cli.reading import reads
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import visible

app = typer.Typer()

PROMPT_DEPTH, FILE_DEPTH = 5, 100


@app.command()
@partial(reads, without=("queries", "qrels"))
def search(
    folder: Annotated[
        str | None, typer.Argument(help="Folder of a finished run, such as runs/demo; with --index, the query.")
    ] = None,
    query: Annotated[str | None, typer.Argument(help="What to look for; without it, a prompt.")] = None,
    depth: Annotated[
        int | None, typer.Option("--depth", min=1, help="Documents per query: 5, or 100 for a file of queries.")
    ] = None,
    index: Annotated[Path | None, typer.Option("--index", help="An index, in place of a run's folder.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="The bi-encoder that embedded its documents.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="The documents' texts.")] = None,
    queries: Annotated[
        str | None, typer.Option("--queries", help="Answer a table of queries (id, text), or a split of the dataset.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run of --queries: .parquet, else TREC.")] = None,
    fusion: Annotated[
        str | None,
        typer.Option(
            "--hybrid",
            help="Fuse with BM25: none, tuned, or weights such as score:0.7; by default what a run's dev split finds "
            "better.",
        ),
    ] = None,
    tune: Annotated[
        str | None, typer.Option("--tune", help="Tune the weights of --hybrid on this judged split, and keep them.")
    ] = None,
    rerank: Annotated[str | None, typer.Option("--rerank", help=f"Reorder what was found. {TEACHERS}")] = None,
    rerank_depth: Annotated[int, typer.Option("--rerank-depth", min=1, help="Documents that --rerank reads.")] = 30,
    where: Annotated[
        str | None, typer.Option("--where", help="Find only these documents: a condition of SQL over their columns.")
    ] = None,
    metadata: Annotated[Path | None, typer.Option("--metadata", help="Table for --where; default: the corpus.")] = None,
    dtype: DtypeOption = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON per query.")] = False,
    *,
    options: Any,
    cache: Path,
) -> None:
    """Search a run's corpus with its student, or any index with the model it was built with.

    A run's student is fused with BM25 where the run's dev queries find that better, which is found out once.

    Example: retrieval-distill search runs/demo "split a path into root and extension"

    Example: retrieval-distill search runs/demo

    Example: retrieval-distill search runs/demo --hybrid none "split a path into root and extension"

    Example: retrieval-distill search runs/demo "read a file line by line" --rerank starter

    Example: retrieval-distill search --index index --model student --dataset docs.jsonl --where "year >= 2020" "sepsis"

    Example: retrieval-distill search runs/demo --queries test --out test.trec
    """
    if sys.stderr.isatty():
        typer.echo(visible(f"opening {folder if index is None else index} ..."), err=True)
    place, query = _place(folder, query, index, model, dataset, cache, options)
    check_teachers([rerank] if rerank else [], 512, "auto", None)
    from retrieval_distill.cli import prompt  # imports much

    searcher = _searcher(place, dtype, fusion, tune, rerank, rerank_depth, where, metadata)
    if queries is not None or out is not None:
        _batch(searcher, queries, out, depth or FILE_DEPTH, options)
    elif query is not None:
        prompt.once(searcher, query, depth or PROMPT_DEPTH, as_json)
    elif tune is None:
        prompt.loop(searcher, depth or PROMPT_DEPTH, as_json)


def _place(
    folder: str | None, query: str | None, index: Path | None, model: str | None, dataset: str | None, cache: Path,
    options: Any,
) -> tuple[Any, str | None]:  # fmt: skip
    """Where the parts are; with ``--index`` there is no folder, so the first argument is the query."""
    from retrieval_distill import models
    from retrieval_distill.search.location import Place

    if index is None:
        if folder is None:
            raise UserError("name the folder of a run, or an index with --index, --model and --dataset")
        return Place.of_run(Path(folder)), query
    if model is None or dataset is None:
        raise UserError("--index needs --model (which embedded its documents) and --dataset (their texts)")
    if folder is not None and query is not None:
        raise UserError(f"{folder}: with --index there is no folder of a run; put the query in quotes")
    check_index(index)
    models.resolve(model)
    return Place.of_parts(index, model, dataset, cache, options), folder


def _searcher(
    place: Any, dtype: str, fusion: str | None, tune: str | None, rerank: str | None, rerank_depth: int,
    where: str | None, metadata: Path | None,
) -> Any:  # fmt: skip
    """What the options ask for; what only some need is imported there, for imports take most of the time."""
    from dataclasses import replace

    from retrieval_distill.retrieval import hybrid
    from retrieval_distill.search import assembly

    searcher = assembly.opened(place, dtype)
    if tune is not None:
        say(hybrid.table(assembly.tune(searcher, place, tune)))
    searcher = assembly.fused(searcher, place, fusion)
    if rerank is not None:
        from retrieval_distill import api

        teacher = api.load_teacher(rerank)
        searcher = replace(searcher, teacher=teacher, store=place.beside / "scores", rerank_depth=rerank_depth)
    if where is not None:
        from retrieval_distill.search import filters

        table = metadata or filters.table_of(place.source, place.cache)
        names = filters.ID_NAMES if metadata else place.id_names
        searcher = replace(searcher, allowed=filters.allowed(where, table, place.dataset, names))
    return searcher


def _batch(searcher: Any, queries: str | None, out: Path | None, depth: int, options: Any) -> None:
    from retrieval_distill.search import assembly

    if queries is None or out is None:
        raise UserError("--queries and --out belong together: a table of queries, or a split, and the run to write")
    save(searcher.documents(assembly.queries(searcher.dataset, queries, options), depth), out)
