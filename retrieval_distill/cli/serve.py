"""The command ``serve``: search and embeddings over HTTP.

Knows options; must not know any maths. Heavy imports happen inside commands, so that ``--help`` is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from retrieval_distill.cli import shell
from retrieval_distill.cli.commands import ARGUMENT, Spelled, command
from retrieval_distill.errors import UserError


@command("Search and serve", act="search.assembly.with_options")
def serve(
    folder: Annotated[Path, ARGUMENT],
    host: str = "127.0.0.1",
    port: int = 8080,
    model: str | None = None,
    dataset: str | None = None,
    *,
    dtype: Annotated[str, Spelled(act="search.assembly.open_searcher")],
    reading: shell.Reading,
    cache: shell.Cache,
) -> None:
    """Serve search and embeddings over HTTP, with a page to search from.

    Example: retrieval-distill serve runs/demo

    Example: retrieval-distill serve index --model student --dataset docs.jsonl

    Options:
        folder: Folder of a finished run, or of an index, which needs ``--model`` and ``--dataset``.
        host: Address to listen at; this machine alone by default.
        port: Port to listen at.
        model: The bi-encoder that embedded the documents of an index.
        dataset: The documents' texts of an index.
    """
    from retrieval_distill.search.location import SearchLocation

    if (model is None) != (dataset is None):
        raise UserError("an index needs --model (which embedded its documents) and --dataset (their texts)")
    if model is None or dataset is None:
        place = SearchLocation.of_run(folder)
    else:
        shell.check_index(folder)
        shell.check_models(model)
        place = SearchLocation.of_parts(folder, model, dataset, cache, reading.config())
    try:
        from retrieval_distill.serving import app, engine, server, service
    except ImportError as error:
        raise UserError("serve needs more packages: pip install 'retrieval-distill[serve]'") from error

    opened = service.Service(engine.Engine.open(place, dtype))
    server.run(app.create_app(opened), host, port)
