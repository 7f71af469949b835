"""Train a student with an objective of your own beside one of the toolkit's, and see on which it learns more.

python docs/examples/objective_of_your_own.py data/sample --out runs/objectives
"""

import argparse
from pathlib import Path

import torch

import retrieval_distill as rd
from retrieval_distill.objectives import OBJECTIVES, CandidateLists, Objective

MODEL = "packaged:all-MiniLM-L6-v2"


class PairwiseHinge(Objective):
    """The student keeps a margin wherever the teacher prefers one document to another by more than ``least``."""

    def __init__(self, margin: float = 1.0, least: float = 0.5) -> None:
        self.margin, self.least = margin, least

    def __call__(self, lists: CandidateLists) -> torch.Tensor:
        real = lists.mask[:, :, None] & lists.mask[:, None, :]  # lists are padded: pairs of real documents only
        preferred = real & (lists.teacher[:, :, None] - lists.teacher[:, None, :] > self.least)
        short = torch.relu(self.margin - (lists.student[:, :, None] - lists.student[:, None, :]))
        return torch.where(preferred, short, 0.0).sum() / preferred.sum().clamp(min=1)


OBJECTIVES["pairwise_hinge"] = PairwiseHinge


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="documents with judged queries")
    parser.add_argument("--out", type=Path, default=Path("runs/objectives"))
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()

    rd.show_progress()
    data = rd.load_dataset(given.folder)
    pool = rd.mine(data, retrievers=["bm25"], depth=10)
    teacher = rd.load_teacher("starter", max_length=128)
    scored = rd.score(pool, data, teacher=teacher, store=given.out / "scores")  # once, for both students

    runs = {"start": rd.search(data.queries("test"), index(data, MODEL, given.out / "start"), model=MODEL)}
    for name, objectives in (("own", {"pairwise_hinge": {"margin": 2.0}}), ("kl", {"listwise_kl": 1.0})):
        student = rd.distill(
            scored, data, recipe="demo", objectives=objectives, out=given.out / name,
            training={"steps": given.steps, "queries_per_step": 8},
        )  # fmt: skip
        vectors = index(data, student, given.out / f"{name}-vectors")
        runs[name] = rd.search(data.queries("test"), vectors, model=student)
    print(rd.evaluate(runs, data.qrels("test"), measures=["nDCG@10", "R@100"]))


def index(data: rd.Dataset, model: "str | rd.Student", out: Path) -> rd.Index:
    """The documents as this model embeds them."""
    return rd.index(rd.embed(data.documents, model, out=out))


if __name__ == "__main__":
    main()
