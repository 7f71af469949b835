"""Team-draft interleaving and its verdict: fair, as published, and as the binomial distribution says."""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from retrieval_distill import api
from retrieval_distill.feedback.interleaving import (
    interleaving_verdicts,
    preference_verdicts,
    team_draft,
    verdict,
)
from retrieval_distill.feedback.log import FeedbackLog

RANKINGS = st.lists(st.sampled_from("abcdefghij"), unique=True)


@pytest.fixture
def log(tmp_path):
    with FeedbackLog.open(tmp_path / "feedback.db") as opened:
        yield opened


@given(first=RANKINGS, second=RANKINGS, depth=st.integers(0, 12), seed=st.integers(0, 1000))
def test_each_round_each_team_adds_its_best_document(first, second, depth, seed):
    drafted = team_draft(first, second, depth=depth, seed=seed)
    assert drafted == team_draft(first, second, depth=depth, seed=seed)
    assert len(drafted) == min(depth, len({*first, *second})) == len({doc for doc, _ in drafted})
    ranking, chosen, fair = {"first": first, "second": second}, set(), True
    for doc_id, team in drafted:
        left = {name: [doc for doc in docs if doc not in chosen] for name, docs in ranking.items()}
        fair = fair and all(left.values())
        assert (team == "neither") == (not fair)
        assert doc_id == (left[team] if fair else left["first"] or left["second"])[0]
        chosen.add(doc_id)
    teams = [team for _, team in drafted if team != "neither"]
    for start in range(0, len(teams) - 1, 2):
        assert set(teams[start : start + 2]) == {"first", "second"}


def test_who_comes_first_is_drawn_anew_in_each_round():
    rng = np.random.default_rng(0)
    drafts = [[team for _, team in team_draft("abcdef", "ghijkl", depth=6, seed=rng)] for _ in range(800)]
    orders = Counter(tuple(draft[::2]) for draft in drafts)
    assert len(orders) == 8 and min(orders.values()) > 60  # 100 of each are expected


@pytest.mark.parametrize(("wins", "losses", "p"), [(8, 2, 112 / 1024), (10, 0, 2 / 1024), (5, 5, 1.0), (0, 3, 0.25)])
def test_the_sign_test_by_hand(wins, losses, p):
    found = verdict(wins, losses, 7)
    assert found.p == pytest.approx(p)
    assert found.share == wins / (wins + losses)
    low = beta.ppf(0.025, wins, losses + 1) if wins else 0.0
    high = beta.ppf(0.975, wins + 1, losses) if losses else 1.0
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_nothing_decided_is_no_verdict():
    assert astuple(verdict(0, 0, 4))[2:] == (0, 0, 4, None, 0.0, 1.0, 1.0)


def interleaved(log, first: str, second: str, clicks: str, teams: list[str]) -> None:
    shown = [f"{number}" for number in range(len(teams))]
    search = log.record_search(query="q", system=first, against=second, shown=shown, teams=teams)
    for doc_id in clicks:
        log.record_click(search_id=search, doc_id=doc_id)


def test_a_search_is_won_by_the_team_with_more_clicks(log):
    teams = ["first", "second", "second", "first", "neither"]
    interleaved(log, "bm25", "student", "12", teams)
    interleaved(log, "bm25", "student", "12", teams)
    interleaved(log, "bm25", "student", "04", teams)
    interleaved(log, "bm25", "student", "01", teams)
    interleaved(log, "bm25", "student", "4", teams)  # neither's click decides nothing
    interleaved(log, "bm25", "student", "", teams)
    interleaved(log, "student", "bm25", "0", teams)  # the same two systems, the other way round
    interleaved(log, "start", "student", "0", teams)
    log.record_click(search_id=log.record_search(query="q", system="bm25", shown=["a"]), doc_id="a")
    one, two = interleaving_verdicts(log)
    assert astuple(one)[:5] == ("bm25", "student", 1, 3, 2)
    assert astuple(two)[:5] == ("start", "student", 1, 0, 0)


def test_preferences_count_whichever_side_a_system_stood_on(log):
    def shown(system: str) -> str:
        return log.record_search(query="q", system=system, shown=["a", "b"])

    for left, right, preferred in [("x", "y", "left"), ("y", "x", "right"), ("y", "x", "left"), ("x", "y", "tie"), ("x", "x", "left")]:  # fmt: skip
        log.record_preference(left=shown(left), right=shown(right), preferred=preferred)
    assert [astuple(found)[:5] for found in preference_verdicts(log)] == [("x", "y", 2, 1, 1)]


def test_simulated_users_find_the_better_system_and_no_difference_where_there_is_none(log):
    rng = np.random.default_rng(1)
    good, bad = [f"r{n}" for n in range(4)] + [f"n{n}" for n in range(20)], [f"n{n}" for n in range(10)] + ["r0"]
    for first, second, names in ((bad, good, ("bad", "good")), (good, good, ("good", "twin"))):
        for _ in range(300):
            drafted = team_draft(first, second, depth=10, seed=rng)
            search = log.record_search(
                query="q",
                system=names[0],
                against=names[1],
                shown=[d for d, _ in drafted],
                teams=[t for _, t in drafted],
            )
            for rank, (doc_id, _) in enumerate(drafted, 1):
                if rng.random() < (0.7 if doc_id[0] == "r" else 0.1) / rank:
                    log.record_click(search_id=search, doc_id=doc_id)
    against_bad, twins = interleaving_verdicts(log)
    assert against_bad.losses > 2 * against_bad.wins and against_bad.high < 0.4 and against_bad.p < 1e-6
    assert twins.low < 0.5 < twins.high and twins.p > 0.05
    said = str(api.feedback_summary(log))
    assert "interleaved: bad against good" in said and "preferred in" in said
