"""Verbs of people's feedback: ``feedback_summary``, ``feedback_to_dataset``.

Knows logs, datasets and where results are kept; must not know how relevance is estimated, or training.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval_distill.config import FeedbackConfig, configured
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.runtime import stages

if TYPE_CHECKING:
    import pandas as pd

    from retrieval_distill.feedback.log import FeedbackLog
    from retrieval_distill.feedback.summary import FeedbackSummary

VERSION = 1
"""Increased whenever the same log and options give other training data."""


def feedback_summary(log: FeedbackLog | str | Path) -> FeedbackSummary:
    """What a feedback log holds, and which systems people preferred.

    Args:
        log: The log, as ``serve`` writes it; in Python also a ``FeedbackLog``.

    Returns:
        Counts, clicks by rank, and the verdicts of interleaved searches and of systems shown side by side. Damaged rows
        are left out, counted and named.

    Raises:
        UserError: There is no such log.
    """
    from retrieval_distill.feedback.log import FeedbackLog
    from retrieval_distill.feedback.summary import FeedbackSummary

    if isinstance(log, FeedbackLog):
        return FeedbackSummary.of(log.read("skip"))
    with FeedbackLog.open(log, create=False) as opened:
        return FeedbackSummary.of(opened.read("skip"))


def feedback_to_dataset(
    log: FeedbackLog | str | Path,
    dataset: Dataset,
    *,
    out: str | Path,
    split: str = "train",
    corpus: bool = True,
    config: FeedbackConfig | None = None,
    **options: Any,
) -> Dataset:
    """Add what people searched, clicked and judged to a dataset's training split; ``load_dataset(out)`` loads it too.

    Clicks are corrected for position bias, judgements override them, and queries of the dataset's other splits, such as
    ``test``, are left out. ``feedback.parquet`` has a row for each document shown for a query.

    Args:
        log: The log, as ``serve`` writes it; in Python also a ``FeedbackLog``.
        dataset: The corpus that was searched, its queries and judgements, which stay.
        out: Where the result and its ``report.json`` go; a finished one is kept while the log is the same.
        split: The training split; it need not exist.
        corpus: Write the whole dataset (BEIR layout); ``False``: the feedback alone.
        config: The recipe's section ``feedback``.
        options: Its keys by name, such as ``eta=0.8`` or ``swaps=True``; ``log`` and ``weight`` are not used here.

    Raises:
        UserError: There is no such log, a row is damaged, an option is unknown, or nothing is left to learn from.
    """
    import pandas as pd

    from retrieval_distill.data import feedback_queries
    from retrieval_distill.data.formats import beir
    from retrieval_distill.feedback.log import FeedbackLog
    from retrieval_distill.feedback.training_data import training_data

    chosen = configured(FeedbackConfig, config, options, "feedback")
    if isinstance(log, FeedbackLog):
        feedback = log.read(chosen.on_bad, chosen.rows)
    else:
        with FeedbackLog.open(log, create=False) as opened:
            feedback = opened.read(chosen.on_bad, chosen.rows)

    def work(folder: Path) -> dict[str, Any]:
        made = training_data(feedback, dataset, split, chosen)
        if corpus:
            beir.save(feedback_queries.add_feedback(dataset, made.told, split), folder)
        made.told.to_parquet(folder / feedback_queries.FILE, index=False)
        stages.write_json(folder / "report.json", made.counts)
        return made.counts

    inputs = {
        "log": feedback.fingerprint,
        "documents": dataset.documents.fingerprint,
        "parents": None if dataset.parents is None else stages.fingerprint(dataset.parents.to_pylist()),
        "known": [dataset.queries.fingerprint, stages.fingerprint(dataset.qrels)],
        "split": split,
        "corpus": corpus,
        "feedback": chosen.model_dump(exclude={"log", "rows", "weight", "negatives"}),
        "version": VERSION,
    }
    manifest = stages.stage("feedback", out, inputs, work)
    if corpus:
        return beir.load(out).replace(manifest=manifest)
    told: pd.DataFrame = pd.read_parquet(Path(out) / feedback_queries.FILE)
    return feedback_queries.add_feedback(dataset, told, split).replace(manifest=manifest)
