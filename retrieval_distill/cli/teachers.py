"""Commands around teachers: ``gate``, ``score``, ``rerank``, ``scores``, ``fit-teacher``.

Knows options; must not know any maths. Heavy imports happen inside commands, so that ``--help`` is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from retrieval_distill import api
from retrieval_distill.cli import shell
from retrieval_distill.cli.commands import ARGUMENT, Spelled, command
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted


@command("Teach")
def gate(
    run_files: shell.RunFiles,
    source: shell.Source,
    out: Path,
    teaching: shell.Teaching,
    teacher: Annotated[str, shell.TEACHER],
    **options: Any,
) -> None:
    """Ask whether a teacher is better than first-stage runs here, before the costly part; and settle its calibration.

    Example: retrieval-distill gate bm25-dev.trec start-dev.trec --dataset python-docs --teacher starter --store s
    --out gate

    Options:
        out: Folder to write.
    """
    from dataclasses import asdict

    from retrieval_distill.runtime import stages

    runs, config = shell.runs(run_files), teaching.config(teacher)
    data = source.load()
    teachers = shell.teachers(config, data)
    found = api.gate(data, teacher=teachers, baselines=runs, config=config, **options)

    def write(folder: Path) -> dict[str, Any]:
        found.save(folder)
        return found.facts

    stages.stage("gate", out, {"verdict": found.verdict, "calibration": asdict(found.calibration)}, write)
    shell.say(found.summary(teacher))
    shell.say(f"{out}: gate.json, calibration.json (for `score --calibration {out}`)")


@command("Teach")
def score(
    run_file: Annotated[Path, ARGUMENT],
    source: shell.Source,
    out: shell.OutFile,
    store: Path,
    teaching: shell.Teaching,
    teacher: Annotated[str, shell.TEACHER],
    calibration: Path | None = None,
    **options: Any,
) -> None:
    """Score every pair of a run with a teacher, resumably; the store keeps raw scores.

    Example: retrieval-distill score bm25.trec --dataset python-docs --teacher starter --store s --out scored.parquet

    Options:
        run_file: Run whose pairs are scored (.parquet, else TREC format).
        calibration: Folder written by `gate`; ``None``: as the keys of ``--set`` say, raw scores by default.
    """
    from retrieval_distill.data.run import Run
    from retrieval_distill.teacher.calibration.calibration import Calibration

    known = None if calibration is None else Calibration.open(calibration)
    pairs, config = Run.load(run_file), teaching.config(teacher)
    data = source.load()
    teachers = shell.teachers(config, data)
    scored = api.score(pairs, data, teacher=teachers, store=store, calibration=known, config=config, **options)
    shell.save(scored, out)
    shell.say(f"scored {counted(scored.facts['scored'], 'pair')}, found {scored.facts['stored']:,} in {store}")


@command("Search and serve")
def rerank(
    run_files: shell.RunFiles,
    source: shell.Source,
    out: Path,
    store: Path,
    teaching: shell.Teaching,
    measures: shell.Measures,
    teacher: Annotated[list[str], shell.TEACHER],
    depth: list[int],
    split: shell.Split = "test",
) -> None:
    """Reorder the head of a run with a teacher; or measure many rerankers, runs and depths against each other.

    Example: retrieval-distill rerank bm25.trec --dataset python-docs --teacher starter --store s --out reranked.trec

    Example: retrieval-distill rerank bm25.trec dense.trec --dataset python-docs --teacher starter \
        --teacher bi-encoder:packaged:all-MiniLM-L6-v2 --depth 10 --depth 50 --store s --out benchmark

    Options:
        out: Run file for one combination; a folder for a benchmark.
    """
    runs, names = shell.runs(run_files), shell.checked_measures(measures)
    if out.suffix and not len(runs) == len(teacher) == len(depth) == 1:
        raise UserError(f"--out {out}: several runs, teachers or depths give a folder; leave the ending off")
    configs = {name: teaching.config(name) for name in teacher}
    data = source.load()
    teachers = {name: shell.teachers(config, data)[0] for name, config in configs.items()}
    if out.suffix:
        ((run,), (scorer,)) = runs.values(), teachers.values()
        shell.save(api.rerank(run, data, teacher=scorer, store=store, depth=depth[0]), out)
        return
    from retrieval_distill.benchmarks.rerank_benchmark import benchmark
    from retrieval_distill.reporting import rerankers

    found = benchmark(runs, teachers, depth, data, split, names, store, out)
    files = rerankers.write(found, out)
    shell.say(rerankers.table(found))
    shell.say(f"{out}: {', '.join(files)}")


@command("Teach", act="load_dataset")
def scores(
    store: Annotated[Path, ARGUMENT],
    merge: list[Path] | None = None,
    export: Path | None = None,
    take: Annotated[Path | None, Spelled("--import")] = None,
    teacher: str | None = None,
    dataset: str | None = None,
    verify: bool = False,
    *,
    cache: Path,
) -> None:
    """Show a score store: teachers, counts, histograms, spread and warnings; merge, export, import, verify.

    Example: retrieval-distill scores runs/demo/scores

    Example: retrieval-distill scores mine --merge from-another-machine

    Example: retrieval-distill scores mine --export shared.parquet --teacher 3f2a --dataset my-folder

    Options:
        store: Score store, such as runs/demo/scores.
        merge: Take over the scores of this store.
        export: Write a teacher's scores: a Run (.parquet, .trec) with ``--dataset``.
        take: Take over scores from a file (TREC, Parquet, MS MARCO JSONL).
        teacher: Fingerprint, or its beginning.
        dataset: Whose ids a file has: folder or name.
        verify: Hash every shard again; set damaged ones aside.
    """
    from retrieval_distill.reporting import scores as table
    from retrieval_distill.scores import exchange
    from retrieval_distill.scores.store import ScoreStore

    if take is None and not store.is_dir():
        raise UserError(f"{store}: no such score store")
    if take is not None and dataset is None:
        raise UserError("--import needs --dataset, whose ids the file has")
    opened = ScoreStore(store)
    for other in merge or ():
        shell.say(f"{other}: {counted(opened.merge(ScoreStore(other)), 'shard')} taken over")
    data: Any = shell.Source(dataset=dataset, cache=cache).load() if dataset and (take or export) else None
    if take is not None:
        mark, counts = exchange.import_scores(opened, take, data.queries, data.documents, {})
        shell.say(f"{take}: " + ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()))
        shell.say(f"teacher {mark}")
    if export is not None:
        mark = opened.find(teacher)
        if data is None:
            opened.export(mark, export)
        else:
            exchange.export_run(opened, mark, data.queries, data.documents, export)
        shell.say(f"{export}: scores of teacher {mark}")
    if verify:
        damaged = [shard for mark in opened.fingerprints() for shard in opened.verify(mark)]
        shell.say(f"{store}: {counted(len(damaged), 'damaged shard')}" + "".join(f"\n  {shard}" for shard in damaged))
    shell.say(table.show(opened))


@command("Teach")
def fit_teacher(
    source: shell.Source,
    out: Path,
    model: Annotated[str | None, Spelled(act="config.fit_teacher.FitTeacherConfig")] = None,
    keys: shell.Keys = None,
    *,
    bi_encoder: str | None,
    **options: Any,
) -> None:
    """Fine-tune a cross-encoder on a dataset's judgements: a teacher for a domain that has none.

    Example: retrieval-distill fit-teacher --dataset my-folder --model cross-encoder/ms-marco-MiniLM-L6-v2 --out teacher
    """
    from retrieval_distill.config import parse
    from retrieval_distill.config.fit_teacher import FitTeacherConfig
    from retrieval_distill.runtime.stages import read_manifest

    config = parse(FitTeacherConfig, {"model": model} if model else {}, "fit-teacher", keys or ())
    shell.check_models(config.model, bi_encoder)
    api.fit_teacher(source.load(), out=out, bi_encoder=bi_encoder, config=config, **options)
    counts = (read_manifest(out) or {})["counts"]
    gained = ""
    if dev := counts["dev"]:
        before, after = dev["before"]["mean"], dev["after"]["mean"]
        gained = f"; on {counted(dev['queries'], 'dev query')} nDCG@10 {before:.3f} -> {after:.3f}"
    shell.say(f"{out}: teacher after {counted(counts['steps'], 'step')}{gained}")
