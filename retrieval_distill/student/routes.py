"""Which modules a text goes through: one way for all, or queries and documents each through an encoder of their own.

Two encoders stand in the library's ``Router``. Knows modules; must not know texts, recipes or training.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Router
from torch import nn

from retrieval_distill.errors import UserError

Kind = Literal["query", "document"]

KINDS: tuple[Kind, ...] = get_args(Kind)


def is_routed(model: SentenceTransformer) -> bool:
    """Whether queries and documents have encoders of their own."""
    return isinstance(model[0], Router)


def path(model: SentenceTransformer, kind: Kind) -> list[Any]:
    """The modules that texts of this kind go through, in order; the first one cuts them into tokens."""
    modules: list[Any] = list(model)
    first, *rest = modules
    return [*first.sub_modules[kind], *rest] if is_routed(model) else modules


def encoders(model: SentenceTransformer) -> list[Any]:
    """The first module of every path, each once."""
    first: Any = model[0]
    return list(dict.fromkeys(way[0] for way in first.sub_modules.values())) if is_routed(model) else [first]


def serves_both(model: SentenceTransformer) -> bool:
    """Whether a text's kind alone tells its way; a Router may also choose by modality or by tasks of its own."""
    first = model[0]
    return not isinstance(first, Router) or (set(KINDS) <= set(first.sub_modules) and not first.route_mappings)


def combine(query: SentenceTransformer, document: SentenceTransformer) -> SentenceTransformer:
    """One model of two: ``encode_query`` asks the first, ``encode_document`` the second.

    A normalisation at their ends becomes one behind both; prompts are each encoder's own, the similarity is that of
    ``document``.

    Raises:
        UserError: Their vectors differ in length.
    """
    lengths = query.get_embedding_dimension(), document.get_embedding_dimension()
    if lengths[0] != lengths[1]:
        raise UserError(
            f"student.query_model gives vectors of {lengths[0]} dimensions, student.model of {lengths[1]}; "
            f"bring both to one length with student.dimensions={lengths[0]}"
        )
    router = Router.for_query_document(_without_end(query), _without_end(document))
    end = [Normalize()] if isinstance(document[-1], Normalize) else []
    return SentenceTransformer(
        modules=[router, *end],
        device=str(document.device),
        prompts={"query": query.prompts.get("query") or "", "document": document.prompts.get("document") or ""},
        similarity_fn_name=document.similarity_fn_name,
    ).eval()


def freeze(model: SentenceTransformer, kind: Kind) -> None:
    """Leave the encoder of one kind as it is in training.

    Raises:
        UserError: Both kinds share one.
    """
    first = model[0]
    if not isinstance(first, Router):
        raise UserError("student.freeze_documents needs student.separate=true or a student.query_model")
    first.sub_modules[kind].requires_grad_(False)


def _without_end(modules: Iterable[nn.Module]) -> list[Any]:
    kept = list(modules)
    return kept[:-1] if isinstance(kept[-1], Normalize) else kept
