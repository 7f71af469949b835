"""The recipe: the one source of YAML keys, ``--set`` options, defaults and their documentation; a module a section.

Knows names, types and bounds; must not know how a stage does its work.
"""

from retrieval_distill.config.compress import CompressConfig
from retrieval_distill.config.dataset import DatasetConfig, ReadConfig, SourceConfig, UnpackConfig
from retrieval_distill.config.evaluation import EvaluateConfig
from retrieval_distill.config.feedback import FeedbackConfig
from retrieval_distill.config.generate import GenerateConfig
from retrieval_distill.config.indexing import EmbedConfig, IndexConfig, IntentConfig
from retrieval_distill.config.mining import PRESETS, FilterConfig, MiningConfig
from retrieval_distill.config.optimiser import OptimiserConfig
from retrieval_distill.config.prepare import PrepareConfig
from retrieval_distill.config.recipe import Recipe
from retrieval_distill.config.recipe_loader import (
    configured,
    load_recipe,
    load_values,
    parse,
    parse_recipe,
    parse_teacher,
    shipped,
)
from retrieval_distill.config.retrieval import BM25Config, RetrieveConfig
from retrieval_distill.config.section import Section
from retrieval_distill.config.student import LoRAConfig, StudentConfig
from retrieval_distill.config.teacher import NO_LIMIT, EmbeddingTeacherConfig, LLMConfig, MemberConfig, TeacherConfig
from retrieval_distill.config.training import TrainingConfig
from retrieval_distill.config.tune import TuneConfig

__all__ = [
    "NO_LIMIT",
    "PRESETS",
    "BM25Config",
    "CompressConfig",
    "DatasetConfig",
    "EmbedConfig",
    "EmbeddingTeacherConfig",
    "EvaluateConfig",
    "FeedbackConfig",
    "FilterConfig",
    "GenerateConfig",
    "IndexConfig",
    "IntentConfig",
    "LLMConfig",
    "LoRAConfig",
    "MemberConfig",
    "MiningConfig",
    "OptimiserConfig",
    "PrepareConfig",
    "ReadConfig",
    "Recipe",
    "RetrieveConfig",
    "Section",
    "SourceConfig",
    "StudentConfig",
    "TeacherConfig",
    "TrainingConfig",
    "TuneConfig",
    "UnpackConfig",
    "configured",
    "load_recipe",
    "load_values",
    "parse",
    "parse_recipe",
    "parse_teacher",
    "shipped",
]
