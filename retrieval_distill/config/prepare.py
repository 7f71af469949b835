"""How a dataset is cleaned."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from retrieval_distill.config.evaluation import QUESTIONS
from retrieval_distill.config.section import Section


class PrepareConfig(Section):
    """How a dataset is cleaned, segmented and checked."""

    unicode: Literal["NFC", "NFKC", "keep"] = "NFC"
    """``NFC`` writes equal characters alike, ``NFKC`` like ones too (ligatures, full width); ``keep`` leaves them."""
    whitespace: bool = True
    """Whether runs of white space become one space, or one line break where they hold one; control characters go."""
    min_words: int = Field(1, ge=0)
    """Documents of fewer words are dropped."""
    max_words: int | None = Field(None, ge=1)
    """Documents of more words are dropped; ``None``: none."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes; documents in other languages are dropped (extra ``language``). Empty: all stay."""
    language_confidence: float = Field(0.9, ge=0, le=1)
    """Probability from which a document counts as of another language; below it, the document stays."""
    duplicates: Literal["keep", "exact", "report", "near"] = "report"
    """Which copies are merged into the first of them: none, those of equal title and text (``exact``), or ``near`` ones
    too; ``report`` merges equal ones and only counts near ones, which often differ in the one word that matters."""
    near_threshold: float = Field(0.8, gt=0, le=1)
    """Jaccard similarity of two documents' word n-grams from which they are near duplicates."""
    near_words: int = Field(3, ge=1)
    """Words of such an n-gram."""
    leakage: Literal["remove", "remove-all", "report", "off"] = "remove"
    """What to do with what a held-out split holds too, equal or nearly so: ``remove`` removes training queries that are
    asked there and only counts training pairs whose passage is relevant there, as is usual where splits share a corpus;
    ``remove-all`` removes both, ``report`` counts both, ``off`` does not look."""
    query_threshold: float = Field(0.9, gt=0, le=1)
    """Jaccard similarity of two queries' words from which they are near copies."""
    train: str | None = None
    """Split that is kept free of the held-out ones; ``None``: the recipe's, without one ``train``."""
    held_out: tuple[str, ...] | None = None
    """Splits that training must not have seen, one the dataset lacks is passed over; ``None``: the recipe's, without
    one ``dev``, ``test`` and ``questions``."""
    student: str | None = None
    """Model whose tokens are counted, and whose limit passages keep to; ``None``: the recipe's, without one no such
    counts."""
    student_length: int | None = Field(None, ge=8)
    """The student's token limit, special tokens included; ``None``: the recipe's, without one 256."""
    teacher: str | None = None
    """Model whose tokens are counted too; ``None``: the recipe's, if it is a cross-encoder; without one no such
    counts."""
    teacher_length: int | None = Field(None, ge=8)
    """The teacher's token limit, of query and document together; ``None``: the recipe's, without one 512."""
    segment: bool = False
    """Whether documents longer than ``student_length`` are cut into passages at the ends of sentences."""
    overlap: int = Field(1, ge=0)
    """Sentences that a passage repeats from the one before it, as far as they fill at most half of it."""
    judged_passages: Literal["all", "best"] = "all"
    """Which passages of a judged document get its grade: all, or the one that has most of the query's words."""

    def filled(self, known: dict[str, Any]) -> PrepareConfig:
        """With these values for options that are ``None``."""
        return self.model_copy(update={key: value for key, value in known.items() if getattr(self, key) is None})


WITHOUT_RECIPE = {
    "train": "train",
    "held_out": ("dev", "test", QUESTIONS),
    "student_length": 256,
    "teacher_length": 512,
}
"""What options are that are ``None`` and for which no recipe has a value."""
