"""Commands for people's feedback: ``feedback-summary``, ``feedback-to-dataset``.

Knows options; must not know how relevance is estimated. Heavy imports happen inside commands, so that ``--help`` is
instant.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

from retrieval_distill import api
from retrieval_distill.cli import shell
from retrieval_distill.cli.commands import ARGUMENT, command

LEARNT = {"queries": "queries", "relevant": "relevant documents", "negatives": "hard negatives"}

LogFile = Annotated[Path, ARGUMENT]


@command("Measure")
def feedback_summary(log: LogFile) -> None:
    """What people searched, clicked and judged, and which systems they preferred.

    Example: retrieval-distill feedback-summary feedback.db
    """
    shell.say(str(api.feedback_summary(log)))


@command("Prepare data", without=("corpus",))
def feedback_to_dataset(
    log: LogFile,
    source: shell.First,
    out: Path,
    reading: shell.Tables,
    keys: shell.Keys = None,
    **options: Any,
) -> None:
    """Make training queries, judgements and hard negatives of a feedback log, in a new dataset folder.

    Example: retrieval-distill feedback-to-dataset feedback.db data/sample --out with-feedback --set eta=0.8
    """
    from retrieval_distill.config import FeedbackConfig, parse
    from retrieval_distill.data import feedback_queries

    config = parse(FeedbackConfig, {}, "feedback", keys or ())
    made = api.feedback_to_dataset(log, source.load(reading), out=out, config=config, **options)
    counts = made.manifest["counts"]
    shell.say(", ".join(f"{counts[key]:,} {what}" for key, what in LEARNT.items()))
    for reason, case in counts["left_out"].items():
        shell.say(f"left out: {case['count']:,} x {reason}, such as {', '.join(map(repr, case['first'][:3]))}")
    shell.say(f"{out}: corpus.jsonl, queries.jsonl, qrels/, {feedback_queries.FILE}, report.json")
    here = shlex.quote(f"dataset.source={out}")
    shell.say(f"next, train on it: retrieval-distill run own-corpus --out runs/mine --set {here}")
