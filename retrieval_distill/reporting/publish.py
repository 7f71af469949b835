"""Writing reports: a run's page, its Markdown twin and its student's model card; several runs on one page.

Knows which files a report is; must not know what is in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retrieval_distill.data.dataset import Dataset
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import visible
from retrieval_distill.reporting.card import card
from retrieval_distill.reporting.comparison import compare_runs, names_of
from retrieval_distill.reporting.findings import collect
from retrieval_distill.reporting.markdown import markdown
from retrieval_distill.reporting.page import page
from retrieval_distill.reporting.run_folder import RunFolder
from retrieval_distill.runtime.files import write_text
from retrieval_distill.runtime.stages import attach


def report(
    folders: str | Path | Sequence[str | Path], out: str | Path | None = None, dataset: Dataset | None = None
) -> Path:
    """Write the page of one run, or one page that compares several.

    Args:
        folders: Folder of a run, finished or not, such as ``runs/demo``; or of several finished ones.
        out: HTML file to write; ``None``: ``report.html`` in the folder of the one run, ``comparison.html`` in the
            working folder for several.
        dataset: The one run's dataset where it is at hand; ``None``: it is read when it is needed.

    Returns:
        The HTML file. A single run's Markdown twin stands beside it under the same name, and its student, once it is
        measured, gets its model card.

    Raises:
        UserError: A folder holds no run, a run to compare is not finished, or ``out`` is no ``.html`` file.
    """
    paths = [Path(folder) for folder in ([folders] if isinstance(folders, str | Path) else folders)]
    runs = [RunFolder.open(path, dataset if len(paths) == 1 else None) for path in paths]
    target = Path(out or (paths[0] / "report.html" if len(paths) == 1 else "comparison.html"))
    if target.suffix != ".html":
        raise UserError(f"{target}: a report is an HTML file; name it {target.with_suffix('.html')}")
    if len(runs) > 1:
        return write_text(target, visible(compare_runs(dict(zip(names_of(paths), runs, strict=True)))))
    findings = collect(runs[0])
    write_text(target.with_suffix(".md"), visible(markdown(findings)))
    if (findings.rows or runs[0].unmeasured) and (paths[0] / "student").is_dir():
        attach(paths[0] / "student", "README.md", visible(card(runs[0], findings)))
    return write_text(target, visible(page(findings)))
