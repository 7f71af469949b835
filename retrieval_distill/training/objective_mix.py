"""The recipe's objectives and views, checked against what its training can give them.

Knows the recipe; must not know models or data.
"""

from __future__ import annotations

from retrieval_distill.config import Recipe
from retrieval_distill.objectives import Mix
from retrieval_distill.objectives.views import FULL, View, parse_views


def objective_mix(recipe: Recipe) -> tuple[Mix, list[View]]:
    """The recipe's mix of objectives and its views.

    Raises:
        UserError: An objective or view is unknown, or one needs what the recipe does not give.
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
    return mix, views
