"""``api:NAME``: models on servers by name, as a recipe's section ``endpoints`` declares them.

Where no recipe is at hand, the environment variable ``RETRIEVAL_DISTILL_ENDPOINTS`` names a YAML file of the same form.
Knows names and options; must not know requests, or what a model is used for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval_distill.config import load_values, parse
from retrieval_distill.config.endpoint import ASKING, APIConfig
from retrieval_distill.errors import UserError, nearest
from retrieval_distill.runtime import stages

if TYPE_CHECKING:
    from retrieval_distill.llm.client import Endpoint
    from retrieval_distill.llm.embeddings import Embedder
    from retrieval_distill.llm.ledger import Ledger
    from retrieval_distill.llm.reranking import Reranker

PREFIX = "api:"

FOLDER = "answers"
"""Of what endpoints answered, in the folder of a run."""

VARIABLE = "RETRIEVAL_DISTILL_ENDPOINTS"
"""Environment variable that names a YAML file: NAME -> the keys of a recipe's ``endpoints.NAME``."""

ANSWERS = {"model", "speaks", "max_characters", "query_prefix", "document_prefix", "query_fields", "document_fields",
           "rerank_fields"}  # fmt: skip
"""Options that change an answer; a server may move, and cost what it likes."""


@dataclass(frozen=True)
class Declared:
    """A model on a server: how it is asked, and where its answers are kept."""

    name: str
    options: APIConfig
    answers: Path | None
    """Folder of the answers that are paid for; ``None``: only finished work keeps them."""

    @property
    def endpoint(self) -> Endpoint:
        """The server.

        Raises:
            UserError: An option cannot work.
        """
        from retrieval_distill.llm import client

        if self.options.endpoint is None:
            raise UserError(
                f"endpoints.{self.name}.endpoint is missing: the base URL, such as http://localhost:8080/v1"
            )
        asking = self.options.model_dump(include=ASKING)
        if asking["price_in"] is not None or asking["price_out"] is not None:
            asking |= {price: asking[price] or 0.0 for price in ("price_in", "price_out")}
        return client.endpoint(self.options.model or self.name, self.options.endpoint, **asking)

    @property
    def fingerprint(self) -> str:
        """Of all that changes an answer."""
        options = {**self.options.model_dump(include=ANSWERS), "model": self.options.model or self.name}
        return stages.fingerprint({"kind": "api", **options})

    @property
    def ledger(self) -> Ledger:
        """Where answers are kept."""
        from retrieval_distill.llm.ledger import Ledger

        return Ledger(None if self.answers is None else self.answers / f"{self.name}.sqlite")


_declared: dict[str, Declared] = {}


def declare(endpoints: Mapping[str, APIConfig], answers: Path | None = None) -> None:
    """Let ``api:NAME`` stand for these models from now on.

    Args:
        endpoints: Options by NAME.
        answers: Folder that keeps what the endpoints answered, so that nothing is paid for twice; ``None``: the
            folder that a model with the same options has already, or none.
    """
    for name, options in endpoints.items():
        known = _declared.get(name)
        if answers is None and known is not None and known.options == options:
            continue
        _declared[name] = Declared(name, options, answers)


def is_one(name: str) -> bool:
    """Whether a model's name is that of one on a server."""
    return name.startswith(PREFIX)


def find(name: str) -> Declared:
    """The model that ``api:NAME`` stands for.

    Raises:
        UserError: It was not declared.
    """
    wanted = name.removeprefix(PREFIX)
    if wanted not in _declared and (path := os.environ.get(VARIABLE)):
        values = load_values(Path(path))
        declare({key: parse(APIConfig, value or {}, f"{path}: {key}") for key, value in values.items()})
    if wanted not in _declared:
        others = nearest(wanted, _declared) if _declared else ""
        raise UserError(
            f"model {name!r}: the recipe has no endpoints.{wanted}{others}; declare it there, or in the YAML file that "
            f"{VARIABLE} names"
        )
    return _declared[wanted]


def embedder(name: str) -> Embedder:
    """The model as one that embeds.

    Raises:
        UserError: As :func:`find`.
    """
    from retrieval_distill.llm.embeddings import Embedder

    found = find(name)
    return Embedder(found.endpoint, found.options, found.fingerprint, found.ledger)


def reranker(name: str) -> Reranker:
    """The model as one that reranks.

    Raises:
        UserError: As :func:`find`.
    """
    from retrieval_distill.llm.reranking import Reranker

    found = find(name)
    return Reranker(found.endpoint, found.options, found.fingerprint, found.ledger)
