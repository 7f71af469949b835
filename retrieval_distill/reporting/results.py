"""What an evaluation found, as an object: one row per system, each value with its doubt, shown as a table with letters.

Knows measured values; must not know how they were measured, or models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from retrieval_distill.errors import UserError
from retrieval_distill.evaluation import compare
from retrieval_distill.evaluation.compare import Measured
from retrieval_distill.reporting.letters import CORRECTED, TEST, beaten, marks
from retrieval_distill.reporting.plain import plain
from retrieval_distill.reporting.report_file import RunReport


@dataclass(frozen=True, eq=False)
class Report(Mapping[str, Mapping[str, Measured]]):
    """Measured systems by name; ``report["student"]["nDCG@10"].interval``. Printed, it is a table with letters.

    Args:
        reached: System -> measure -> its mean, interval and comparisons.
        measures: The measures in order; the first one is the headline.
        details: All of a run's ``report.json`` as plain values, costs and stages too; empty for an evaluation.
        folder: The run's folder; ``None`` for an evaluation.

    Example:
        >>> import retrieval_distill as rd
        >>> good, bad = rd.Run.from_dict({"q": {"a": 2.0, "b": 1.0}}), rd.Run.from_dict({"q": {"a": 1.0, "b": 2.0}})
        >>> report = rd.evaluate({"good": good, "bad": bad}, {"q": {"a": 1}}, measures=["RR@10"])
        >>> report["good"]["RR@10"].mean, report["bad"]["RR@10"].mean
        (1.0, 0.5)
    """

    reached: Mapping[str, Mapping[str, Measured]]
    measures: tuple[str, ...]
    details: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    @classmethod
    def of_values(cls, values: pd.DataFrame) -> Report:
        """From values by query, as :func:`retrieval_distill.evaluation.compare.per_query` gives them."""
        measures = tuple(name for name in values.columns if name not in ("system", "query_id"))
        return cls(compare.summarise(values), measures)

    @classmethod
    def open(cls, folder: str | Path) -> Report:
        """The report of a finished run.

        Raises:
            UserError: The folder holds no finished run, or its report is damaged.
        """
        if (report := RunReport.read(Path(folder))) is None:
            raise UserError(
                f"{folder}: no finished run there; make one with: retrieval-distill run RECIPE --out {folder}"
            )
        return cls.of_run(report, Path(folder))

    @classmethod
    def of_run(cls, report: RunReport, folder: Path) -> Report:
        """From a run's report."""
        reached = {name: system.measures for name, system in report.systems.items()}
        return cls(reached, tuple(report.measures), report.plain(), folder)

    @property
    def systems(self) -> dict[str, dict[str, Any]]:
        """The same as plain values, as JSON has them; of a run, with every system's costs."""
        plain = {name: {measure: asdict(value) for measure, value in of.items()} for name, of in self.reached.items()}
        return self.details.get("systems", plain)

    def __getitem__(self, system: str) -> dict[str, Measured]:
        found = self.reached[system]
        return {name: found[name] for name in self.measures}

    def __iter__(self) -> Iterator[str]:
        return iter(self.reached)

    def __len__(self) -> int:
        return len(self.reached)

    def to_pandas(self) -> pd.DataFrame:
        """A row per system, and per measure the columns ``NAME``, ``NAME low``, ``NAME high`` and ``NAME beats``.

        ``beats`` names the systems that are lower, significantly so.
        """
        rows = {
            system: {
                column: value
                for name in self.measures
                for column, value in {
                    name: found[name].mean,
                    f"{name} low": found[name].low,
                    f"{name} high": found[name].high,
                    f"{name} beats": ", ".join(beaten(system, self._values(name))),
                }.items()
            }
            for system, found in self.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("system")

    def to_csv(self, path: str | Path | None = None) -> str:
        """The same as CSV, written to ``path`` if one is given."""
        text = self.to_pandas().to_csv()
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def to_latex(self, caption: str | None = None) -> str:
        """A table for a paper (package ``booktabs``): means, superscript letters for significant wins, and a legend."""
        letters = marks(self.reached)
        lines = [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{ll{'r' * len(self.measures)}}}", r"\toprule"]
        lines += [" & ".join(["", "System", *map(_latex, self.measures)]) + r" \\", r"\midrule"]
        for system, found in self.items():
            cells = []
            for name in self.measures:
                wins = ",".join(letters[other] for other in beaten(system, self._values(name)))
                cells.append(f"{found[name].mean:.3f}" + (rf"$^{{{wins}}}$" if wins else ""))
            lines.append(" & ".join([letters[system], _latex(system), *cells]) + r" \\")
        told = f"{caption} " if caption else ""
        lines += [r"\bottomrule", r"\end{tabular}"]
        lines += [rf"\caption{{{told}Superscripts: better than that system ({_latex(TEST)}).}}", r"\end{table}"]
        return "\n".join(lines) + "\n"

    def __str__(self) -> str:
        if not self.reached:
            return str(self.details.get("unmeasured", "nothing was measured"))
        return "\n".join([self.grid(), *self._differences()])

    def grid(self) -> str:
        """A row per system, with letters for significant wins."""
        from rich.table import Table

        letters = marks(self.reached)
        grid = Table("", "system", caption=f"letters: better than that system ({TEST})", caption_justify="left")
        for name in self.measures:
            grid.add_column(f"{name} (95 %)")
        for system, found in self.items():
            cells = [
                " ".join([str(found[name]), ",".join(letters[other] for other in beaten(system, self._values(name)))])
                for name in self.measures
            ]
            grid.add_row(letters[system], system, *(cell.rstrip() for cell in cells))
        return plain(max(110, 40 + 34 * len(self.measures)), grid)

    def difference(self, a: str, b: str) -> str:
        """What one system has on another in the headline measure, with its interval and p."""
        headline = self.measures[0]
        found = self.reached[a][headline]
        won, p = found.difference_vs[b], found.p_holm_vs[b]
        interval = f"{won.low:+.3f} to {won.high:+.3f}"
        uncorrected = f"{found.p_vs[b]:.4f} uncorrected"
        return f"{headline}: {a} less {b} is {won.mean:+.3f} ({interval}), p = {p:.4f} ({uncorrected})"

    def _values(self, measure: str) -> dict[str, Measured]:
        """System -> what it reached in a measure."""
        return {name: found[measure] for name, found in self.reached.items()}

    def _differences(self) -> list[str]:
        """A line per pair of systems; none for a report that is older than differences."""
        known = self._values(self.measures[0])
        lines = [self.difference(a, b) for a, b in combinations(known, 2) if b in known[a].difference_vs]
        return [*lines, CORRECTED] if lines else []

    def __repr__(self) -> str:
        return f"Report({', '.join(self.reached) or 'nothing measured'}; {', '.join(self.measures)})"

    def _repr_html_(self) -> str:
        return self.to_pandas().to_html(float_format="{:.3f}".format)


def _latex(text: str) -> str:
    said = {letter: rf"\{letter}" for letter in "&%$#_{}"} | {"<": "$<$", ">": "$>$", "\\": r"\textbackslash{}"}
    return "".join(said.get(letter, letter) for letter in text)
