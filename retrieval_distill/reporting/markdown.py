"""The report as Markdown: the page's twin for a model card, a pull request or a terminal.

Knows findings and templates; must not know plots.
"""

from __future__ import annotations

from retrieval_distill.reporting import systems
from retrieval_distill.reporting.findings import Findings
from retrieval_distill.reporting.templating import render


def markdown(findings: Findings) -> str:
    """The whole report of one run."""
    return render(
        "report.md",
        findings=findings,
        costs=systems.cost_table(findings.rows),
    )
