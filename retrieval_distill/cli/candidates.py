"""Commands that find candidates and choose among them: ``retrieve``, ``mine``, ``filter-negatives``.

Knows options; must not know any maths. Heavy imports happen inside commands, so that ``--help`` is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from retrieval_distill import api
from retrieval_distill.cli import shell
from retrieval_distill.cli.commands import Spelled, command
from retrieval_distill.errors import UserError


@command("Find candidates")
def retrieve(
    source: shell.Source, out: shell.OutFile, split: shell.Split = "test", *,
    index: Path | None, model: str | None, language: str, **options: Any,
) -> None:  # fmt: skip
    """First-stage retrieval: BM25, or BM25 fused with a bi-encoder.

    Example: retrieval-distill retrieve --dataset python-docs --out bm25.trec

    Example: retrieval-distill retrieve --dataset my-folder --language german --stemmer german --out bm25.trec
    """
    from retrieval_distill.config import RetrieveConfig, parse

    if (model is None) != (index is None):
        raise UserError("--model and --index belong together: give both, or neither for BM25 alone")
    parse(RetrieveConfig, {"language": language}, "retrieve")
    if index is not None:
        shell.check_index(index)
        shell.check_models(model)
    data = source.load()
    queries = data.queries(split)
    shell.check_ids(out, queries, data.documents)
    shell.save(api.retrieve(queries, data, index=index, model=model, language=language, **options), out)


@command("Find candidates", without=("start",))
def mine(
    source: shell.Source,
    out: shell.OutFile,
    retriever: shell.Repeated = None,
    indexes: Annotated[shell.Repeated, Spelled("--index", "RETRIEVER=FOLDER")] = None,
    keys: shell.Keys = None,
    vectors: Path | None = None,
    *,
    split: str,
    **options: Any,
) -> None:
    """Find the documents that a teacher should score for every training query, with the relevant ones.

    Example: retrieval-distill mine --dataset python-docs --retriever bm25 --retriever packaged:all-MiniLM-L6-v2
    --set 'draw={top: 0.5, 10-50: 0.5}' --out candidates.parquet

    Options:
        retriever: ``bm25``, or a bi-encoder; ``None``: ``bm25``.
        vectors: Folder that keeps the vectors of retrievers without an index; ``None``: ``OUT-vectors``.
    """
    from retrieval_distill.config import MiningConfig, parse
    from retrieval_distill.config.mining import LEXICAL, START
    from retrieval_distill.mining import mining_report

    config = parse(MiningConfig, {"retrievers": retriever or ["bm25"]}, "mine", keys or ())
    folders = shell.pairs("--index", indexes)
    shell.check_models(*(model for model in config.retrievers if model not in (LEXICAL, START)))
    data = source.load()
    shell.check_ids(out, data.queries(split), data.documents)
    kept = vectors or out.with_name(f"{out.stem}-vectors")
    found = api.mine(data, split=split, indexes=folders, vectors=kept, config=config, **options)
    shell.say(mining_report.lists_table(found.report))
    shell.say(
        mining_report.pairs_line(len(found.query_ids), len(found), found.report["relevant_left_out"], "--relevant")
    )
    shell.save(found, out)


@command("Teach")
def filter_negatives(
    scored: shell.ScoredFile,
    source: shell.Source,
    out: shell.OutFile,
    keys: Annotated[list[str], shell.SET],
    *,
    split: str,
) -> None:
    """Take what looks like false negatives out of a scored run; relevant documents stay.

    Example: retrieval-distill filter-negatives scored.parquet --dataset python-docs --set share_of_positive=0.95
    --out lists.parquet
    """
    from retrieval_distill.config import FilterConfig, parse
    from retrieval_distill.data import generated
    from retrieval_distill.data.run import Run

    config = parse(FilterConfig, {}, "filter-negatives", keys)
    run, data = Run.load(scored), source.load()
    found = api.filter_negatives(run, data, split=split, config=config)
    from retrieval_distill.mining import mining_report  # imports much

    removed = found.facts["removed"]
    shell.say(
        mining_report.scores_line(mining_report.of_scores(run, generated.training_view(data, split).qrels(split)))
    )
    shell.say("removed: " + ", ".join(f"{count:,} by {rule}" for rule, count in removed.items() if rule != "all"))
    shell.save(found, out)
