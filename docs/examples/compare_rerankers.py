"""Compare rerankers over one first stage, and write the table of a paper: means, intervals, letters for what beats what.

python docs/examples/compare_rerankers.py data/sample --reranker starter \
        --reranker bi-encoder:packaged:all-MiniLM-L6-v2 --out runs/rerankers
"""

import argparse
from pathlib import Path

import retrieval_distill as rd


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="documents with judged queries")
    parser.add_argument("--reranker", action="append", required=True, help="any teacher; repeat it")
    parser.add_argument("--depth", type=int, default=20, help="documents of BM25 that each reads")
    parser.add_argument("--out", type=Path, default=Path("runs/rerankers"))
    given = parser.parse_args()

    rd.show_progress()
    data = rd.load_dataset(given.folder)
    bm25 = rd.retrieve(data.queries("test"), data, depth=given.depth)
    runs = {"bm25": bm25}
    for name in given.reranker:
        teacher = rd.load_teacher(name, max_length=256)
        runs[name] = rd.rerank(bm25, data, teacher=teacher, store=given.out / "scores", depth=given.depth)
    report = rd.evaluate(runs, data.qrels("test"), measures=["nDCG@10", "RR@10"])
    print(report)
    (given.out / "table.tex").write_text(report.to_latex(caption=f"Rerankers of BM25's first {given.depth} documents."))
    print(f"the table for LaTeX: {given.out / 'table.tex'}")


if __name__ == "__main__":
    main()
