"""The data report for a person. Knows its fields and the terminal; must not know how they were measured."""

from __future__ import annotations

from typing import Any

from retrieval_distill.reporting.scores import histogram

CASES = ("left_out_as_bad_input", "dropped", "duplicates", "leakage")
"""Where the report has what was left out, merged, kept or removed, and why."""


def table(report: dict[str, Any]) -> str:
    """What there was before and is now, how long it is, and what was left out and why."""
    before, after = report["before"], report["after"]
    lines = [f"{report['dataset']}: before -> after"]
    lines += [f"  {what:<22}{before[what]:>12,} -> {after[what]:>12,}" for what in ("documents", "queries")]
    for split, judged in after["splits"].items():
        was = before["splits"][split]
        lines.append(
            f"  {split + ' queries':<22}{was['queries']:>12,} -> {judged['queries']:>12,}   "
            f"{judged['pairs']:,} judged pairs, {judged['relevant_per_query']:.2f} relevant per query"
        )
    for name, of in after["lengths"].items():
        was = before["lengths"][name]
        lines += [_lengths(f"{what} in {name}", was[what], found) for what, found in of.items() if found["texts"]]
    for what in CASES:
        lines += _cases(what.replace("_", " "), report[what])
    return "\n".join(lines)


def _lengths(name: str, was: dict[str, Any], found: dict[str, Any]) -> str:
    bars = histogram(found["histogram"]["counts"])
    line = f"  {name:<22}[{bars}] median {found['p50']:,}, 90 % {found['p90']:,}, longest {found['max']:,}"
    if "limit" in found:
        beside = ", what a query of median length leaves" if found["beside"] else ""
        line += (
            f"; beyond {found['limit']:,}{beside}: {was['truncated']:.1%} -> {found['truncated']:.1%} "
            f"({was['lost']:.1%} -> {found['lost']:.1%} of all tokens are cut off)"
        )
    return line


def _cases(heading: str, cases: dict[str, Any]) -> list[str]:
    return [
        f"  {heading}: {case['count']:,} x {reason}; first {', '.join(case['first'])}" for reason, case in cases.items()
    ]
