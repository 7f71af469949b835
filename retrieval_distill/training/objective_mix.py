"""The recipe's objectives and views, checked against what its training can give them.

Knows the recipe; must not know models or data.
"""

from __future__ import annotations

from retrieval_distill.config import Recipe
from retrieval_distill.errors import UserError
from retrieval_distill.objectives import OBJECTIVES, Mix
from retrieval_distill.objectives.views import FULL, View, parse_views


def objective_mix(recipe: Recipe) -> tuple[Mix, list[View]]:
    """The recipe's mix of objectives and its views.

    Raises:
        UserError: An objective or view is unknown, one needs what the recipe does not give, or none can use a memory.
    """
    mix, views = Mix(recipe.objectives), parse_views(recipe.views)
    has_whole = any(view.name == FULL for view in views)
    mix.check_needs(
        {
            "teacher_vectors": "" if recipe.embedding_teacher.model else "embedding_teacher.model to be set",
            "vectors": "" if has_whole else "the view full",
            "whole": "" if any(view.name != FULL for view in views) else "a view besides full, such as views.128=0.5",
        }
    )
    if recipe.training.memory and not any(part.objective.compares_documents for part in mix.parts.values()):
        able = ", ".join(name for name, kind in OBJECTIVES.items() if kind.compares_documents)
        raise UserError(f"training.memory is of no use to {', '.join(mix.parts)}; leave it out, or add one of {able}")
    return mix, views
