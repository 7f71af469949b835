"""Commands around teachers: ``score``, ``gate``, ``scores``, ``rerank``, ``fit-teacher``.

Knows options; must not know any maths. Heavy imports happen inside commands, so that ``--help`` is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from retrieval_distill.cli.options import (
    DEFAULT_TEACHER,
    TEACHERS,
    CacheOption,
    DatasetArgument,
    DtypeOption,
    EngineOption,
    LengthOption,
    OutFile,
    OutFolder,
    SplitOption,
    StoreOption,
    TeacherOption,
    TeacherSetOption,
    check_teachers,
    load,
    load_runs,
    measures,
    save,
    say,
)
from retrieval_distill.errors import UserError
from retrieval_distill.runtime.files import CACHE

app = typer.Typer()


@app.command()
def score(
    run_file: Annotated[Path, typer.Argument(help="Run whose pairs are scored (TREC or .parquet).")],
    dataset: DatasetArgument,
    out: OutFile,
    store: StoreOption,
    teacher: TeacherOption = DEFAULT_TEACHER,
    max_length: LengthOption = 512,
    dtype: DtypeOption = "auto",
    options: TeacherSetOption = None,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="Folder written by `gate`; raw scores if not given.")
    ] = None,
    engine: EngineOption = "local",
    cache: CacheOption = CACHE,
) -> None:
    """Score every pair of a run with a teacher, resumably; the store keeps raw scores.

    Example: retrieval-distill score bm25.trec --dataset python-docs --teacher starter --store s --out scored.parquet
    """
    from retrieval_distill import api
    from retrieval_distill.data.run import Run
    from retrieval_distill.teacher.calibration.calibration import Calibration

    known = None if calibration is None else Calibration.open(calibration)
    pairs = Run.load(run_file)
    check_teachers([teacher], max_length, dtype, options)
    data = load(dataset, cache)
    teachers, config = _teachers(teacher, max_length, dtype, options)
    scored = api.score(pairs, data, teacher=teachers, store=store, calibration=known, config=config, engine=engine)
    save(scored, out)
    say(f"scored {scored.facts['scored']:,} pairs, found {scored.facts['stored']:,} in {store}")


@app.command()
def gate(
    run_files: Annotated[list[Path], typer.Argument(help="First-stage runs that the teacher would replace.")],
    dataset: DatasetArgument,
    out: OutFolder,
    store: StoreOption,
    teacher: TeacherOption = DEFAULT_TEACHER,
    split: Annotated[str | None, typer.Option("--split", help="Split that judges the runs' queries.")] = "dev",
    measure: Annotated[str, typer.Option("--measure", help="What the teacher is judged by.")] = "nDCG@10",
    max_length: LengthOption = 512,
    dtype: DtypeOption = "auto",
    options: TeacherSetOption = None,
    cache: CacheOption = CACHE,
) -> None:
    """Ask whether a teacher is better than first-stage runs here, before the costly part; and settle its calibration.

    Example: retrieval-distill gate bm25-dev.trec start-dev.trec --dataset python-docs --teacher starter --store s
    --out gate
    """
    from dataclasses import asdict

    from retrieval_distill import api
    from retrieval_distill.runtime import stages

    runs = load_runs(run_files)
    check_teachers([teacher], max_length, dtype, options)
    data = load(dataset, cache)
    teachers, config = _teachers(teacher, max_length, dtype, options)
    found = api.gate(data, teacher=teachers, baselines=runs, store=store, split=split, measure=measure, config=config)

    def write(folder: Path) -> dict[str, Any]:
        found.save(folder)
        return found.facts

    stages.stage("gate", out, {"verdict": found.verdict, "calibration": asdict(found.calibration)}, write)
    say(found.say(teacher))
    say(f"{out}: gate.json, calibration.json (for `score --calibration {out}`)")


def _teachers(name: str, max_length: int | None, dtype: str, options: list[str] | None) -> tuple[list[Any], Any]:
    """The teacher of ``--teacher``, or those of ``--set ensemble=...``, and the section that describes them."""
    from retrieval_distill.config import parse_teacher
    from retrieval_distill.teacher import load

    config = parse_teacher(name, max_length, dtype, options or ())
    return [load.load(member) for member in config.members], config


@app.command()
def rerank(
    run_files: Annotated[list[Path], typer.Argument(help="First-stage runs (TREC or .parquet).")],
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option("--out", help="Run file for one combination; a folder for a benchmark.")],
    store: StoreOption,
    teacher: Annotated[list[str], typer.Option("--teacher", help=TEACHERS + " Repeatable.")] = [DEFAULT_TEACHER],  # noqa: B006
    depth: Annotated[list[int], typer.Option("--depth", min=1, help="Documents per query. Repeatable.")] = [100],  # noqa: B006
    split: SplitOption = "test",
    measure: Annotated[list[str] | None, typer.Option("--measure", help="e.g. nDCG@10. Repeatable.")] = None,
    max_length: LengthOption = 512,
    dtype: DtypeOption = "auto",
    options: TeacherSetOption = None,
    cache: CacheOption = CACHE,
) -> None:
    """Reorder the head of a run with a teacher; or measure many rerankers, runs and depths against each other.

    Example: retrieval-distill rerank bm25.trec --dataset python-docs --teacher starter --store s --out reranked.trec

    Example: retrieval-distill rerank bm25.trec dense.trec --dataset python-docs --teacher starter \
        --teacher bi-encoder:packaged:all-MiniLM-L6-v2 --depth 10 --depth 50 --store s --out benchmark
    """
    from retrieval_distill import api

    runs, names = load_runs(run_files), measures(measure)
    if out.suffix and not len(runs) == len(teacher) == len(depth) == 1:
        raise UserError(f"--out {out}: several runs, teachers or depths give a folder; leave the ending off")
    check_teachers(teacher, max_length, dtype, options)
    data = load(dataset, cache)
    teachers = {name: _teachers(name, max_length, dtype, options)[0][0] for name in teacher}
    if out.suffix:
        (first,), (scorer,) = runs.values(), teachers.values()
        save(api.rerank(first, data, teacher=scorer, store=store, depth=depth[0]), out)
    else:
        _benchmark(runs, teachers, depth, data, split, names, store, out)


def _benchmark(
    runs: dict[str, Any],
    teachers: dict[str, Any],
    depths: list[int],
    data: Any,
    split: str,
    measures: tuple[str, ...],
    store: Path,
    out: Path,
) -> None:
    from retrieval_distill.benchmarks.rerank_benchmark import benchmark
    from retrieval_distill.reporting import rerankers
    from retrieval_distill.runtime.files import write_text
    from retrieval_distill.runtime.stages import write_json

    found = benchmark(runs, teachers, depths, data, split, measures, store, out)
    write_json(out / "report.json", found)
    write_text(out / "report.txt", rerankers.table(found) + "\n")
    say(rerankers.table(found))
    plotted = rerankers.plot(found, out / "quality-against-cost.png")
    say(f"{out}: report.json, report.txt, runs/" + (f", {plotted.name}" if plotted else ""))


@app.command()
def scores(
    store: Annotated[Path, typer.Argument(help="Score store, such as runs/demo/scores.")],
    merge: Annotated[
        list[Path] | None, typer.Option("--merge", help="Take over the scores of this store. Repeatable.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--export", help="Write a teacher's scores: a Run (.parquet, .trec) with --dataset.")
    ] = None,
    take: Annotated[
        Path | None, typer.Option("--import", help="Take over scores from a file (TREC, Parquet, MS MARCO JSONL).")
    ] = None,
    teacher: Annotated[str | None, typer.Option("--teacher", help="Fingerprint, or its beginning.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Whose ids a file has: folder or name.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Hash every shard again; set damaged ones aside.")] = False,
    cache: CacheOption = CACHE,
) -> None:
    """Show a score store: teachers, counts, histograms, spread and warnings; merge, export, import, verify.

    Example: retrieval-distill scores runs/demo/scores

    Example: retrieval-distill scores mine --merge from-another-machine

    Example: retrieval-distill scores mine --export shared.parquet --teacher 3f2a --dataset my-folder
    """
    from retrieval_distill.reporting import scores as table
    from retrieval_distill.scores import exchange
    from retrieval_distill.scores.store import ScoreStore

    if take is None and not store.is_dir():
        raise UserError(f"{store}: no such score store")
    opened = ScoreStore(store)
    for other in merge or ():
        say(f"{other}: {opened.merge(ScoreStore(other))} shards taken over")
    if take is not None:
        data = load(_needed(dataset, "--import", "--dataset, whose ids the file has"), cache)
        mark, counts = exchange.import_scores(opened, take, data.queries, data.documents, {})
        say(f"{take}: " + ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()))
        say(f"teacher {mark}")
    if export is not None:
        mark = opened.find(teacher)
        if dataset is None:
            opened.export(mark, export)
        else:
            data = load(dataset, cache)
            exchange.export_run(opened, mark, data.queries, data.documents, export)
        say(f"{export}: scores of teacher {mark}")
    if verify:
        damaged = [shard for mark in opened.fingerprints() for shard in opened.verify(mark)]
        say(f"{store}: {len(damaged)} damaged shards" + "".join(f"\n  {shard}" for shard in damaged))
    say(table.show(opened))


@app.command("fit-teacher")
def fit_teacher(
    dataset: DatasetArgument,
    out: OutFolder,
    model: Annotated[
        str | None, typer.Option("--model", help="Start: hub id, folder or packaged:all-MiniLM-L6-v2.")
    ] = None,
    train: Annotated[str, typer.Option("--train", help="Split to learn from.")] = "train",
    dev: Annotated[str, typer.Option("--dev", help="Split that tells which weights to keep.")] = "dev",
    bi_encoder: Annotated[
        str | None, typer.Option("--bi-encoder", help="Fused with BM25 to find hard candidates.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="e.g. loss=lambda, adapter=none, steps=500. Repeatable.")
    ] = None,
    cache: CacheOption = CACHE,
) -> None:
    """Fine-tune a cross-encoder on a dataset's judgements: a teacher for a domain that has none.

    Example: retrieval-distill fit-teacher --dataset my-folder --model cross-encoder/ms-marco-MiniLM-L6-v2 --out teacher
    """
    from retrieval_distill import api, models
    from retrieval_distill.config import parse
    from retrieval_distill.config.fit_teacher import FitTeacherConfig
    from retrieval_distill.runtime.stages import read_manifest

    values = {} if model is None else {"model": model}
    config = parse(FitTeacherConfig, values, "fit-teacher", overrides or ())
    for name in filter(None, (config.model, bi_encoder)):
        models.resolve(name)
    api.fit_teacher(load(dataset, cache), out=out, bi_encoder=bi_encoder, train=train, dev=dev, config=config)
    counts = (read_manifest(out) or {})["counts"]
    say(f"{out}: teacher after {counts['steps']} steps" + (_gained(counts["dev"]) if counts["dev"] else ""))


def _gained(dev: dict[str, Any]) -> str:
    before, after = dev["before"], dev["after"]
    return f"; on {dev['queries']} dev queries nDCG@10 {before['mean']:.3f} -> {after['mean']:.3f}"


def _needed(value: str | None, option: str, needs: str) -> str:
    if value is None:
        raise UserError(f"{option} needs {needs}")
    return value
