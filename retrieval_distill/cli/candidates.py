"""Commands for training candidates: ``mine``, ``filter-negatives``.

Knows options; must not know any maths. Heavy imports happen inside commands, so that ``--help`` is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrieval_distill.cli.options import (
    CacheOption,
    DatasetArgument,
    DepthOption,
    DtypeOption,
    OutFile,
    SplitOption,
    check_ids,
    load,
    pairs,
    save,
    say,
)
from retrieval_distill.runtime.files import CACHE

app = typer.Typer()


@app.command()
def mine(
    dataset: DatasetArgument,
    out: OutFile,
    retriever: Annotated[
        list[str] | None, typer.Option("--retriever", help="bm25, or a bi-encoder. Repeatable; bm25 if not given.")
    ] = None,
    split: SplitOption = "train",
    depth: DepthOption = 30,
    keep: Annotated[int, typer.Option("--keep", min=1, help="Candidates per query.")] = 12,
    relevant: Annotated[int, typer.Option("--relevant", min=1, help="Relevant documents per query at most.")] = 8,
    index: Annotated[
        list[str] | None,
        typer.Option("--index", help="RETRIEVER=FOLDER, its index; searched exactly without one. Repeatable."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="A key of a recipe's section mining, e.g. preset=hybrid-banded. Repeatable."),
    ] = None,
    vectors: Annotated[
        Path | None, typer.Option("--vectors", help="Folder that keeps vectors; OUT-vectors if not given.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of every draw.")] = 7,
    dtype: DtypeOption = "auto",
    cache: CacheOption = CACHE,
) -> None:
    """Find the documents that a teacher should score for every training query, with the relevant ones.

    Example: retrieval-distill mine --dataset python-docs --retriever bm25 --retriever packaged:all-MiniLM-L6-v2
    --set 'draw={top: 0.5, 10-50: 0.5}' --out candidates.parquet
    """
    from retrieval_distill import api, models
    from retrieval_distill.config import MiningConfig, parse
    from retrieval_distill.config.mining import LEXICAL, START
    from retrieval_distill.mining import mining_report

    kept = vectors or out.with_name(f"{out.stem}-vectors")
    config = parse(MiningConfig, {"retrievers": list(retriever or ["bm25"])}, "mine", overrides or ())
    indexes = {name: Path(folder) for name, folder in pairs("--index", index or []).items()}
    for model in config.retrievers:
        if model not in (LEXICAL, START):
            models.resolve(model)
    data = load(dataset, cache)
    check_ids(out, data.queries(split), data.documents)
    found = api.mine(
        data, split=split, depth=depth, keep=keep, relevant=relevant, indexes=indexes,
        vectors=kept, seed=seed, dtype=dtype, config=config,
    )  # fmt: skip
    say(mining_report.lists_table(found.report))
    say(mining_report.pairs_line(len(found.query_ids), len(found), found.report["relevant_left_out"], "--relevant"))
    save(found, out)


@app.command("filter-negatives")
def filter_negatives(
    scored: Annotated[Path, typer.Argument(help="Run of teacher scores, written by `score`.")],
    dataset: DatasetArgument,
    out: OutFile,
    rules: Annotated[
        list[str],
        typer.Option("--set", help="lowest, highest, margin, share_of_positive or share_of_best=NUMBER. Repeatable."),
    ],
    split: SplitOption = "train",
    cache: CacheOption = CACHE,
) -> None:
    """Take what looks like false negatives out of a scored run; relevant documents stay.

    Example: retrieval-distill filter-negatives scored.parquet --dataset python-docs --set share_of_positive=0.95
    --out lists.parquet
    """
    from retrieval_distill import api
    from retrieval_distill.config import FilterConfig, parse
    from retrieval_distill.data import generated
    from retrieval_distill.data.run import Run

    config = parse(FilterConfig, {}, "filter-negatives", rules)
    run, data = Run.load(scored), load(dataset, cache)
    found = api.filter_negatives(run, data, split=split, config=config)
    from retrieval_distill.mining import mining_report  # imports much

    removed = found.facts["removed"]
    say(mining_report.scores_line(mining_report.of_scores(run, generated.as_trained(data, split).qrels(split))))
    say("removed: " + ", ".join(f"{count:,} by {rule}" for rule, count in removed.items() if rule != "all"))
    save(found, out)
