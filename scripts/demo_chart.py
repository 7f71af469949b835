"""The README's picture: quality against latency of every system of a finished run, as its report draws it.

python scripts/demo_chart.py runs/demo --out docs/demo.svg
"""

from __future__ import annotations

import argparse
from pathlib import Path

from retrieval_distill.reporting import findings, page
from retrieval_distill.reporting.report_file import RunReport

STYLE = Path(page.__file__).parent / "templates" / "style.css"


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, default=Path("docs/demo.svg"))
    arguments = parser.parse_args()
    report = RunReport.read(arguments.run)
    if report is None:
        parser.error(f"{arguments.run}: no finished run there")
    ((_, plot, _),) = page.pareto(findings.latency(report), [], report.headline)
    opening, rest = str(plot).split(">", 1)
    style = f"<style>{STYLE.read_text(encoding='utf-8')} svg {{ font-family: sans-serif; }}</style>"
    arguments.out.write_text(f"{opening}>{style}{rest}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
