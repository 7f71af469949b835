"""Folders of models as their libraries save them, for tests to damage."""

from __future__ import annotations

import json
from pathlib import Path

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense

from retrieval_distill.config.fit_teacher import FitTeacherConfig
from retrieval_distill.teacher.fitting import trainable_model as fit_model


def saved_student(encoder: str, folder: Path) -> Path:
    """A student of three modules: transformer, pooling, projection."""
    model = SentenceTransformer(encoder, device="cpu")
    model.append(Dense(32, 16))
    model.save_pretrained(str(folder))
    return folder


def saved_adapter(encoder: str, folder: Path) -> Path:
    """A cross-encoder as an adapter of an encoder."""
    config = FitTeacherConfig(model=encoder, adapter="lora")
    fit_model.save(fit_model.build(config), config, folder)
    return folder


def set_to(file: Path, **values) -> None:
    """Change some values of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
