"""The command ``search``: one query, a prompt, or a file of queries.

Knows options; must not know any maths. Heavy imports happen inside commands, so that ``--help`` is instant.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retrieval_distill.bounds import Count
from retrieval_distill.cli import shell
from retrieval_distill.cli.commands import ARGUMENT, Spelled, command
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import visible

if TYPE_CHECKING:
    from retrieval_distill.config import ReadConfig
    from retrieval_distill.search.location import SearchLocation

PROMPT_DEPTH, FILE_DEPTH = 5, 100


@command("Search and serve", act="search.assembly.with_options")
def search(
    folder: Annotated[str | None, ARGUMENT] = None,
    query: Annotated[str | None, ARGUMENT] = None,
    depth: Count | None = None,
    index: Path | None = None,
    model: str | None = None,
    dataset: str | None = None,
    queries: str | None = None,
    out: Path | None = None,
    tune: str | None = None,
    as_json: Annotated[bool, Spelled("--json")] = False,
    *,
    dtype: Annotated[str, Spelled(act="search.assembly.open_searcher")],
    rerank: str | None,
    reading: shell.Reading,
    cache: shell.Cache,
    **options: Any,
) -> None:
    """Search a run's corpus with its student, or any index with the model it was built with.

    A run's student is fused with BM25 where the run's dev queries find that better, which is found out once.

    Example: retrieval-distill search runs/demo "split a path into root and extension"

    Example: retrieval-distill search runs/demo

    Example: retrieval-distill search runs/demo --hybrid none "split a path into root and extension"

    Example: retrieval-distill search runs/demo "read a file line by line" --rerank starter

    Example: retrieval-distill search --index index --model student --dataset docs.jsonl --where "year >= 2020" "sepsis"

    Example: retrieval-distill search runs/demo --queries test --out test.trec

    Example: retrieval-distill search runs/demo --model student-onnx "split a path into root and extension"

    Options:
        folder: Folder of a finished run, such as runs/demo; with ``--index``, the query.
        query: What to look for; ``None``: a prompt asks.
        depth: Documents per query; ``None``: 5, or 100 for a file of queries.
        index: An index, in place of a run's folder.
        model: The bi-encoder that embedded its documents; with a run, what `export --to` made of its student.
        dataset: The documents' texts.
        queries: Answer a table of queries (id, text), or a split of the dataset.
        out: Run of ``--queries``: .parquet, else TREC.
        tune: Tune the weights of ``--hybrid`` on this judged split, and keep them.
        as_json: A line of JSON per query.
    """
    from retrieval_distill.config import TeacherConfig, parse

    if sys.stderr.isatty():
        typer.echo(visible(f"opening {folder if index is None else index} ..."), err=True)
    if index is not None and query is not None:
        raise UserError(f"{folder}: with --index there is no folder of a run; put the query in quotes")
    read = reading.config()
    place = _location(folder, index, model, dataset, cache, read)
    query = query if index is None else folder
    if rerank is not None:
        shell.checked(parse(TeacherConfig, {"model": rerank}, "teacher"))
    from retrieval_distill.cli import prompt  # both import much, which a mistake need not wait for
    from retrieval_distill.search import assembly

    searcher = assembly.open_searcher(place, dtype)
    if tune is not None:
        shell.say(assembly.tune(searcher, place, tune).table())
    searcher = assembly.with_options(searcher, place, rerank=rerank, **options)
    if queries is not None or out is not None:
        if queries is None or out is None:
            raise UserError("--queries and --out belong together: a table of queries, or a split, and the run to write")
        asked = assembly.queries(searcher.dataset, queries, read)
        shell.save(searcher.documents(asked, depth or FILE_DEPTH), out)
    elif query is not None:
        prompt.once(searcher, query, depth or PROMPT_DEPTH, as_json)
    elif tune is None:
        prompt.loop(searcher, depth or PROMPT_DEPTH, as_json)


def _location(
    folder: str | None, index: Path | None, model: str | None, dataset: str | None, cache: Path, read: ReadConfig
) -> SearchLocation:
    """A run's folder, perhaps with an exported copy of its student, or an index with its model and dataset."""
    from retrieval_distill.search.location import SearchLocation

    if index is None:
        if folder is None:
            raise UserError("name the folder of a run, or an index with --index, --model and --dataset")
        shell.check_models(model)
        return SearchLocation.of_run(Path(folder)).with_model(model)
    if model is None or dataset is None:
        raise UserError("--index needs --model (which embedded its documents) and --dataset (their texts)")
    shell.check_index(index)
    shell.check_models(model)
    return SearchLocation.of_parts(index, model, dataset, cache, read)
