"""Candidate lists from plain numbers, and a stand-in for the library's cross-encoder that scores what it is told."""

from __future__ import annotations

import torch

from retrieval_distill.objectives import CandidateLists, Vectors


def lists(
    student, teacher, labels, mask=None, in_batch=None, in_batch_labels=None, positions=None, dtype=torch.float64
) -> CandidateLists:
    """Candidate lists; where not told otherwise, all are real and are the step's documents, column by column."""
    student, teacher, labels = (torch.as_tensor(values, dtype=dtype) for values in (student, teacher, labels))
    columns = torch.arange(student.shape[1]).expand(student.shape)
    in_batch = student if in_batch is None else torch.as_tensor(in_batch, dtype=dtype)
    return CandidateLists(
        student,
        teacher,
        labels,
        torch.ones_like(student, dtype=torch.bool) if mask is None else torch.as_tensor(mask),
        in_batch,
        labels if in_batch_labels is None else torch.as_tensor(in_batch_labels, dtype=dtype),
        columns if positions is None else torch.as_tensor(positions),
        *beyond_scores(*in_batch.shape, dtype),
    )


def beyond_scores(queries, documents, dtype=torch.float64) -> tuple[Vectors, Vectors, torch.Tensor]:
    """What only some objectives ask for: student's and embedding teacher's vectors, similarities of whole vectors."""
    generator = torch.Generator().manual_seed(queries * 31 + documents)
    shapes = [(queries, 4), (documents, 4)] * 2 + [(queries, documents)]
    values = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    return Vectors(*values[:2]), Vectors(*values[2:4]), values[4]


def ragged(seed, sizes=(5, 3, 4), scale=2.0):
    """Student and teacher scores of lists of these sizes, no two equal, and their mask; padding holds rubbish."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(sizes), max(sizes))
    student, teacher = (scale * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    mask = torch.arange(shape[1]) < torch.tensor(sizes)[:, None]
    return student.masked_fill(~mask, 37.0), teacher.masked_fill(~mask, -41.0), mask


class Parrot(torch.nn.Module):
    """A cross-encoder whose score of a document is the number that the document's text spells."""

    num_labels = 1
    device = torch.device("cpu")

    def preprocess(self, pairs, prompt=None, task=None):
        return {"scores": torch.tensor([float(document) for _, document in pairs], dtype=torch.float64)}

    def forward(self, features):
        return features


def library(loss, student, targets, mask) -> float:
    """The value of a listwise loss of sentence_transformers.cross_encoder."""
    documents = [[repr(s) for s in row[kept].tolist()] for row, kept in zip(student, mask, strict=True)]
    labels = [row[kept] for row, kept in zip(targets, mask, strict=True)]
    return loss([[""] * len(documents), documents], labels).item()
