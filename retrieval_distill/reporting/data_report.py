"""The data report for a person. Knows its fields and the terminal; must not know how they were measured."""

from __future__ import annotations

from retrieval_distill.data.prepare.data_report_file import DataReport, Lengths
from retrieval_distill.formatting import counted
from retrieval_distill.reporting.scores import histogram


def table(report: DataReport) -> str:
    """Counts and lengths before and after, and what was left out and why."""
    before, after = report.before, report.after
    lines = [
        f"{report.dataset}: before -> after",
        f"  {'documents':<22}{before.documents:>12,} -> {after.documents:>12,}",
        f"  {'queries':<22}{before.queries:>12,} -> {after.queries:>12,}",
    ]
    for split, judged in after.splits.items():
        lines.append(
            f"  {split + ' queries':<22}{before.splits[split].queries:>12,} -> {judged.queries:>12,}   "
            f"{counted(judged.pairs, 'judged pair')}, {judged.relevant_per_query:.2f} relevant per query"
        )
    for unit, lengths in after.lengths.items():
        was = before.lengths[unit]
        lines += _lengths(f"documents in {unit}", was.documents, lengths.documents)
        lines += _lengths(f"queries in {unit}", was.queries, lengths.queries)
    for step, cases in report.cases.items():
        lines += [
            f"  {step}: {case.count:,} x {reason}; first {', '.join(case.first)}" for reason, case in cases.items()
        ]
    return "\n".join(lines)


def _lengths(name: str, was: Lengths, found: Lengths) -> list[str]:
    if found.histogram is None:
        return []
    bars = histogram(found.histogram.counts)
    line = f"  {name:<22}[{bars}] median {found.p50:,}, 90 % {found.p90:,}, longest {found.max:,}"
    if found.limit is not None:
        beside = ", what a query of median length leaves" if found.beside else ""
        line += (
            f"; beyond {found.limit:,}{beside}: {was.truncated:.1%} -> {found.truncated:.1%} "
            f"({was.lost:.1%} -> {found.lost:.1%} of all tokens are cut off)"
        )
    return [line]
