"""Distil a retriever for a folder of documents, and search with it.

    python docs/examples/distil_your_folder.py data/sample --out runs/mine
    python docs/examples/distil_your_folder.py my-folder --out runs/mine --steps 200   # a real one

A folder of any format that is read will do (docs/reference/formats.md). With judged queries the student is measured
against BM25, the untrained model and the two fused; without, it is trained on queries made of the documents.
"""

import argparse

import retrieval_distill as rd


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="your documents")
    parser.add_argument(
        "--out", default="runs/mine", help="folder of the run; repeat the command to go on after a kill"
    )
    parser.add_argument("--steps", type=int, default=20, help="steps of training: 20 to try, hundreds to use it")
    parser.add_argument("--question", default="how does a database survive a power failure")
    given = parser.parse_args()

    rd.show_progress()
    recipe = rd.load_recipe(
        "own-corpus",
        [
            f"dataset.source={given.folder}",
            "teacher.model=starter",  # small and shipped; a stronger one: docs/get-started/own-teacher.md
            "student.model=packaged:all-MiniLM-L6-v2",
            f"training.steps={given.steps}",
        ],
    )
    report = rd.run(recipe, out=given.out)
    print(report)

    searcher = rd.Searcher.open(given.out)  # the student, alone or fused with BM25: as dev queries found better
    for hit in searcher(given.question, depth=3):
        print(f"{hit.score:.3f}  {hit.id}  {hit.snippet}")


if __name__ == "__main__":
    main()
