"""The command ``serve``: search and embeddings over HTTP.

Knows options; must not know any maths. Heavy imports happen inside commands, so that ``--help`` is instant.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from retrieval_distill.cli import shell
from retrieval_distill.cli.commands import ARGUMENT, Spelled, command
from retrieval_distill.errors import UserError


@command("Search and serve", act="search.assembly.with_options")
def serve(
    folder: Annotated[Path, ARGUMENT],
    model: str | None = None,
    dataset: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
    token_file: Path | None = None,
    teacher: str | None = None,
    start: bool = False,
    feedback: Path | None = None,
    mcp: bool = False,
    stdio: bool = False,
    *,
    dtype: Annotated[str, Spelled(act="search.assembly.open_searcher")],
    reading: shell.Reading,
    cache: shell.Cache,
) -> None:
    """Serve search, embeddings and reranking over HTTP, and a page to search from.

    A new student or index in the folder is served as soon as it is complete; no request is lost.

    Example: retrieval-distill serve runs/demo

    Example: retrieval-distill serve runs/demo --teacher starter --start --feedback runs/demo/feedback.db

    Example: retrieval-distill serve runs/demo --model student-onnx

    Example: retrieval-distill serve index --model student --dataset docs.jsonl --port 9000 --mcp

    Options:
        folder: Folder of a finished run, or of an index, which needs ``--model`` and ``--dataset``.
        model: The bi-encoder that embedded the documents of an index; with a run, an export of its student.
        dataset: The documents' texts of an index.
        host: Address to listen at; by default this machine alone can reach it.
        port: Port to listen at; 0: a free one.
        token_file: File of a token that clients must send (``Authorization: Bearer``); if not given, the environment
            variable RETRIEVAL_DISTILL_TOKEN; if there is neither, anyone who reaches the address may ask.
        teacher: Cross-encoder (hub id, folder, starter) or other teacher that reranks.
        start: Serve a run's start model too, for comparison.
        feedback: File that keeps searches, clicks and judgements; if not given, none are kept.
        mcp: Offer search to agents as an MCP tool, under /mcp.
        stdio: Offer it over standard input and output instead; nothing is served over HTTP.
    """
    from retrieval_distill.search.location import SearchLocation

    if dataset is not None:
        shell.check_index(folder)
        if model is None:
            raise UserError("an index needs --model (which embedded its documents) beside --dataset (their texts)")
    shell.check_models(model)
    read = reading.config()

    def place() -> SearchLocation:
        if model is None or dataset is None:
            return SearchLocation.of_run(folder).with_model(model)
        return SearchLocation.of_parts(folder, model, dataset, cache, read)

    place()
    try:
        from retrieval_distill.serving import running
    except ImportError as error:
        raise UserError(f"serve needs more packages ({error.name}): pip install 'retrieval-distill[serve]'") from error
    opening = partial(running.open_service, place, dtype=dtype, teacher=teacher, start=start, feedback=feedback)
    if stdio:
        running.over_stdio(opening())
    else:
        running.over_http(opening, host, port, token_file, mcp=mcp, say=shell.say)
