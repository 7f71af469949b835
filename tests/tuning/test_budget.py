"""What a search may cost, and what it can tell: how a budget is read, which trials are not beaten, whether dev is enough."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from retrieval_distill.config import TuneConfig, configured
from retrieval_distill.config.tune import Budget
from retrieval_distill.errors import UserError
from retrieval_distill.reporting.tuning_file import Trial
from retrieval_distill.tuning import finals, search


@pytest.mark.parametrize(
    ("written", "amount", "unit"),
    [
        ("30 trials", 30, "trials"), ("1 trial", 1, "trials"), ("7trials", 7, "trials"), ("2h", 7200, "seconds"),
        ("1.5 h", 5400, "seconds"), (" 90 min ", 5400, "seconds"), ("1e9 tokens", 1e9, "tokens"),
        ("2.5E+6 tokens", 2.5e6, "tokens"), ("1000000 tokens", 1e6, "tokens"),
    ],
)  # fmt: skip
def test_a_budget_is_read_as_it_is_written(written, amount, unit):
    assert Budget.of(TuneConfig(budget=written).budget) == Budget(amount, unit)


@pytest.mark.parametrize(
    "written", ["soon", "1.5 trials", "30", "tokens", "1e9", "-1 h", "2 hours", "30 trials 2 h", ""]
)
def test_what_is_no_budget_is_refused(written):
    with pytest.raises(UserError, match="budget"):
        configured(TuneConfig, TuneConfig(), {"budget": written}, "tune")


def trial(number: int, value: float, cost: float) -> Trial:
    return Trial(number, {}, "complete", value, {}, {"cost": cost, "seconds": 2.0, "tokens": 10})


def test_all_trials_that_began_count_and_what_they_cost():
    trials = [trial(0, 0.5, 1.0), Trial(1, {}, "running", None, {}, {})]
    assert search.spent(trials) == {"trials": 2, "tokens": 10, "seconds": 2}


points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=30)


@given(points)
def test_the_front_is_what_a_walk_from_the_cheapest_finds(points):
    found = search.front([trial(i, value / 6, cost) for i, (value, cost) in enumerate(points)], "cost")
    best, expected = -1, set()
    for cost in sorted({cost for _, cost in points}):  # dearer ones have to be better than all that are cheaper
        highest = max(value for value, at in points if at == cost)
        if highest > best:
            expected |= {i for i, point in enumerate(points) if point == (highest, cost)}
            best = highest
    assert {trial.number for trial in found} == expected


def told(values, left_out: int = 0) -> tuple[str, str]:
    """What is said of dev queries with these values, and how loudly."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = logging.getLogger("retrieval_distill")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        finals.foretell(np.asarray(values, float), "nDCG@10", left_out)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    [record] = records
    return record.levelname, record.getMessage()


VALUES = np.clip(np.random.default_rng(1).normal(0.6, 0.35, 400), 0, 1)


def test_the_difference_that_is_foretold_is_found_four_times_in_five():
    level, said = told(VALUES)
    assert level == "INFO"
    difference = float(re.search(r"about ([\d.]+) in nDCG@10", said)[1])
    rng, spread, alike = np.random.default_rng(2), VALUES.std(ddof=1), finals.ALIKE
    drawn = rng.multivariate_normal(
        [0, difference], spread**2 * np.array([[1, alike], [alike, 1]]), (2000, len(VALUES))
    )
    found = ttest_rel(drawn[..., 0], drawn[..., 1], axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.04)


def test_too_few_dev_queries_are_said_with_how_many_it_takes():
    level, said = told(VALUES[:25], left_out=375)
    assert level == "WARNING"
    assert said.startswith("dev is too small to tell trials apart: 25 dev queries can show a difference of about ")
    assert "tune.dev_queries leaves out 375" in said
    enough = int(re.search(r"for 0\.050 it takes about (\d+)", said)[1])
    assert told(np.resize(VALUES[:25], round(0.8 * enough)))[0] == "WARNING"
    assert told(np.resize(VALUES[:25], round(1.2 * enough)))[0] == "INFO"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.4], "1 dev query can show no difference"),
        ([1.0] * 50, "reach the best nDCG@10 on every dev query: none can be better"),
        ([1.0] * 39 + [0.0], "no settings can gain more than 0.025"),
    ],
)
def test_dev_that_can_show_nothing_is_warned_of(values, said):
    level, message = told(values)
    assert level == "WARNING"
    assert said in message
