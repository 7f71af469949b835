"""The modules that a text goes through, in models with one encoder or with separate ones for queries and documents.

Separate encoders are in the library's ``Router``. Knows modules; must not know texts, recipes or training.
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
    """Whether queries and documents have separate encoders."""
    return isinstance(model[0], Router)


def path(model: SentenceTransformer, kind: Kind) -> list[Any]:
    """The modules that texts of this kind go through, in order; the first one tokenises them."""
    modules: list[Any] = list(model)
    first, *rest = modules
    return [*first.sub_modules[kind], *rest] if is_routed(model) else modules


def encoders(model: SentenceTransformer) -> list[Any]:
    """The first module of every path, without repetition."""
    first: Any = model[0]
    return list(dict.fromkeys(way[0] for way in first.sub_modules.values())) if is_routed(model) else [first]


def serves_both(model: SentenceTransformer) -> bool:
    """Whether a text's kind alone determines its path; a Router may also choose by modality or task."""
    first = model[0]
    return not isinstance(first, Router) or (set(KINDS) <= set(first.sub_modules) and not first.route_mappings)


def combine(query: SentenceTransformer, document: SentenceTransformer) -> SentenceTransformer:
    """Combine two models: ``encode_query`` uses the first, ``encode_document`` the second.

    Their final normalisation becomes a common one; each encoder keeps its prompt, and the similarity is that of
    ``document``.

    Raises:
        UserError: Their dimensions differ.
    """
    lengths = query.get_embedding_dimension(), document.get_embedding_dimension()
    if lengths[0] != lengths[1]:
        raise UserError(
            f"student.query_model gives vectors of {lengths[0]} dimensions, student.model of {lengths[1]}; "
            f"make them equal with student.dimensions={lengths[0]}"
        )
    router = Router.for_query_document(_without_normalize(query), _without_normalize(document))
    end = [Normalize()] if isinstance(document[-1], Normalize) else []
    return SentenceTransformer(
        modules=[router, *end],
        device=str(document.device),
        prompts={"query": query.prompts.get("query") or "", "document": document.prompts.get("document") or ""},
        similarity_fn_name=document.similarity_fn_name,
    ).eval()


def freeze(model: SentenceTransformer, kind: Kind) -> None:
    """Exclude the encoder of one kind from training.

    Raises:
        UserError: Both kinds share an encoder.
    """
    first = model[0]
    if not isinstance(first, Router):
        raise UserError("student.freeze_documents needs student.separate=true or a student.query_model")
    first.sub_modules[kind].requires_grad_(False)


def _without_normalize(modules: Iterable[nn.Module]) -> list[Any]:
    kept = list(modules)
    return kept[:-1] if isinstance(kept[-1], Normalize) else kept
