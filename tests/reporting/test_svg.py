"""Known data, known coordinates: plots draw what they are given, where it belongs."""

from __future__ import annotations

import itertools
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_distill.reporting import page
from retrieval_distill.reporting.plots import charts, lines_of_trials, svg
from retrieval_distill.reporting.plots.charts import Point
from retrieval_distill.reporting.plots.lines_of_trials import Axis
from retrieval_distill.reporting.plots.svg import Scale
from retrieval_distill.reporting.plots.tradeoff_chart import Mark, tradeoff

SVG = "{http://www.w3.org/2000/svg}"


def drawn(picture: str) -> ElementTree.Element:
    return ElementTree.fromstring(picture)


def texts(picture: str) -> list[str]:
    return [text.text for text in drawn(picture).iter(f"{SVG}text")]


def paths(picture: str, class_: str) -> list[list[tuple[float, float]]]:
    """Corners of the paths of a class."""
    found = [path.get("d") for path in drawn(picture).iter(f"{SVG}path") if class_ in path.get("class").split()]
    return [[tuple(map(float, point.split())) for point in d.strip("MZ").split("L")] for d in found]


def test_scales_put_values_in_place():
    assert Scale(0, 10, 100, 200)(2.5) == 125
    assert Scale(0, 10, 200, 100)(2.5) == 175
    assert Scale(1, 100, 0, 200, log=True)(10) == pytest.approx(100)


def test_ticks_are_round():
    assert Scale(0, 10, 0, 1).ticks(5) == [0, 2, 4, 6, 8, 10]
    assert Scale(-0.3, 0.3, 0, 1).ticks(4) == [-0.2, 0, 0.2]
    assert Scale(0.48, 0.63, 0, 1).ticks(4) == [0.5, 0.55, 0.6]
    assert Scale(1.5, 30, 0, 1, log=True).ticks() == [2, 5, 10, 20]
    assert Scale(1, 100, 0, 1, log=True).ticks() == pytest.approx([1, 3, 10, 30, 100])


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(3, 8))
def test_ticks_lie_within_the_scale_at_equal_steps(low, span, count):
    ticks = Scale(low, low + span, 0, 1).ticks(count)
    assert 1 <= len(ticks) <= count + 1
    slack = 1e-6 * max(abs(low), span)
    assert all(low - slack <= tick <= low + span + slack for tick in ticks)
    assert np.ptp(np.diff(ticks)) <= 1e-9 * max(abs(low), span) if len(ticks) > 1 else True


def test_what_is_drawn_is_escaped_and_spoken():
    picture = svg.image("a <b> & c", 'says "x"', 10, 20, [svg.text(0, 0, "<script>")])
    root = drawn(picture)
    assert root.get("viewBox") == "0 0 10 20" and root.get("role") == "img"
    spoken = {element.get("id"): element.text for element in root if element.get("id")}
    assert [spoken[id_] for id_ in root.get("aria-labelledby").split()] == ["a <b> & c", 'says "x"']
    assert texts(picture) == ["<script>"] and "<script>" not in picture


def test_bars_are_as_long_as_their_values():
    picture = charts.bars("t", [("one", 10.0), ("two", 5.0), ("three", 0.0)], lambda value: f"{value:g} s")
    widths = [float(rect.get("width")) for rect in drawn(picture).iter(f"{SVG}rect")]
    left = 8 + 7 * len("three")
    assert widths == [charts.WIDTH - 86 - left, (charts.WIDTH - 86 - left) / 2, 1]
    assert texts(picture) == ["one", "10 s", "two", "5 s", "three", "0 s"]


def test_the_frontier_is_what_nothing_beats():
    a, b, c, d = (Point(n, x, y, y, y) for n, x, y in [("a", 10, 0.5), ("b", 20, 0.4), ("c", 30, 0.7), ("d", 30, 0.6)])
    assert charts.frontier([d, c, b, a]) == [a, c]


def test_points_stand_at_their_values_and_what_has_no_cost_is_a_line():
    points = [Point("a", 10, 0.5, 0.4, 0.6, True), Point("b", 100, 0.7, 0.6, 0.8), Point("c", None, 0.6, 0.6, 0.6)]
    picture = charts.scatter("t", points, "ms", "quality", lambda value: f"{value:g} ms")
    x, y = Scale(10 / 1.5, 150, 44, 388, log=True), Scale(0.38, 0.82, 246, 30)
    circles = [(float(c.get("cx")), float(c.get("cy"))) for c in drawn(picture).iter(f"{SVG}circle")]
    assert circles == [pytest.approx(at, abs=0.01) for at in [(x(10), y(0.5)), (x(100), y(0.7))]]
    whiskers = [line for line in drawn(picture).iter(f"{SVG}line") if "whisker" in line.get("class")]
    assert [float(whiskers[0].get(key)) for key in ("y1", "y2")] == pytest.approx([y(0.4), y(0.6)], abs=0.01)
    [reference] = [line for line in drawn(picture).iter(f"{SVG}line") if line.get("class") == "reference"]
    assert float(reference.get("y1")) == pytest.approx(138)  # 0.6 is the middle
    assert "a: 0.500 (0.400 to 0.600), 10 ms" in drawn(picture).find(f"{SVG}desc").text
    assert "c, cost not measured" in texts(picture)


@given(st.lists(st.tuples(st.sampled_from([5.0, 6.0, 20.0]), st.floats(0.4, 0.6)), min_size=2, max_size=8))
def test_names_cover_neither_each_other_nor_a_point(values):
    points = [
        Point(f"system-{i}", x, y, y - 0.02, y + 0.02, i == 1, x * 0.9, x * 1.1) for i, (x, y) in enumerate(values)
    ]
    root = drawn(charts.scatter("t", points, "ms", "quality", lambda value: f"{value:g} ms"))
    boxes = []
    for text in root.iter(f"{SVG}text"):
        if text.text.startswith("system-"):
            width, x, y = 6 * len(text.text), float(text.get("x")), float(text.get("y"))
            left = x - width if text.get("text-anchor") == "end" else x
            boxes.append((left, y - 10, left + width, y + 2))
            assert left >= 0 and left + width <= charts.WIDTH
    assert len(boxes) == len(points)
    for (a, b, c, d), (e, f, g, h) in itertools.combinations(boxes, 2):
        assert c <= e or g <= a or d <= f or h <= b


def test_points_of_equal_cost_stand_side_by_side():
    points = [Point(name, 10.0, y, y, y) for name, y in (("a", 0.4), ("b", 0.5), ("c", 0.6))] + [
        Point("d", 20, 1, 1, 1)
    ]
    circles = [float(c.get("cx")) for c in drawn(charts.scatter("t", points, "", "", str)).iter(f"{SVG}circle")]
    x = Scale(10 / 1.5, 30, 44, 388, log=True)
    assert circles == pytest.approx([x(10) - charts.BESIDE, x(10), x(10) + charts.BESIDE, x(20)], abs=0.01)


def test_a_cost_has_an_interval_too():
    picture = charts.scatter("t", [Point("a", 10.0, 0.5, 0.4, 0.6, False, 5.0, 20.0)], "ms", "", str)
    across = [line for line in drawn(picture).iter(f"{SVG}line") if "whisker" in line.get("class")][1]
    x = Scale(5 / 1.5, 20 * 1.5, 44, 388, log=True)
    assert [float(across.get(key)) for key in ("x1", "x2")] == pytest.approx([x(5), x(20)], abs=0.01)


def test_a_curve_passes_through_its_points_with_its_interval_around():
    picture = charts.lines("loss", [(5, 3.0), (10, 1.0)], [(5, 2.0, 4.0), (10, 0.0, 2.0)], "step")
    x, y = Scale(0, 10, 48, 270), Scale(-0.2, 4.2, 118, 32)
    [curve], [band] = paths(picture, "curve"), paths(picture, "band")
    assert curve == [pytest.approx(at, abs=0.01) for at in [(x(5), y(3)), (x(10), y(1))]]
    assert band == [pytest.approx((x(a), y(b)), abs=0.01) for a, b in [(5, 2), (10, 0), (10, 2), (5, 4)]]
    assert texts(picture)[:2] == ["loss", "1"]


def test_histogram_heights_are_shares_of_their_own_kind():
    counts = {"few": np.array([1, 3]), "many": np.array([300, 100])}
    picture = charts.histogram("t", np.array([0.0, 1.0, 2.0]), counts, "score")
    x, y = Scale(0, 2, 44, 388), Scale(0, 0.7875, 236, 40)
    expected = [[(x(0), y(0)), (x(0), y(a)), (x(1), y(a)), (x(1), y(b)), (x(2), y(b)), (x(2), y(0))]
                for a, b in [(0.25, 0.75), (0.75, 0.25)]]  # fmt: skip
    found = paths(picture, "area")
    assert np.asarray(found) == pytest.approx(np.asarray(expected), abs=0.01)


def test_a_waterfall_falls_from_the_largest_win_to_the_largest_loss():
    picture = charts.waterfall("t", [0.0, -0.5, 1.0, 0.5], "ours", "theirs", "difference")
    assert paths(picture, "win") == [[(44, 138), (44, 30), (130, 30), (130, 84), (216, 84), (216, 138)]]
    assert paths(picture, "loss") == [[(302, 138), (302, 192), (388, 192), (388, 138)]]
    assert {"2 won by ours", "1 won by theirs", "4 queries, 1 equal"} <= set(texts(picture))


def test_thousands_of_queries_stay_a_small_picture():
    values = np.random.default_rng(0).normal(size=50_000)
    picture = charts.waterfall("t", values.tolist(), "ours", "theirs", "difference")
    assert len(picture) < 60_000
    assert f"{(values > 0).sum()} won by ours" in texts(picture)


def test_axes_that_are_not_linear_say_so():
    marks = [Mark("flat", 1.0, 4.0, True), Mark("ivf", 0.9, 0.5, True)]
    for picture in (
        tradeoff("t", marks, "ms per query", str, 0.95, None),
        page.pareto([Point("a", 1.0, 0.5, 0.4, 0.6)], [], "nDCG@10")[0][1],
    ):
        assert any("(logarithmic)" in text for text in texts(picture))
    assert "recall against exact search, logarithmic in what is missed" in texts(
        tradeoff("t", marks, "", str, 0.9, None)
    )


def test_a_trial_is_a_line_through_all_its_settings():
    axes = [
        Axis("rate", [1e-5, 1e-4, 1e-3], log=True),
        Axis("mining", [1.0, 0.0, 1.0], names=["bm25-hard", "hybrid"]),
        Axis("nDCG@10", [0.2, 0.3, 0.4]),
    ]
    picture = lines_of_trials.parallel("trials", axes, chosen=1)
    top, bottom = lines_of_trials.TOP, lines_of_trials.BOTTOM
    (chosen,) = paths(picture, "curve")
    middle = (top + bottom) / 2
    assert [y for _, y in chosen] == pytest.approx([middle, bottom, middle])
    others = paths(picture, "trial")
    assert [[y for _, y in line] for line in others] == [[bottom, top, bottom], [top, top, top]]
    assert [[x for x, _ in line] for line in others] == [[x for x, _ in chosen]] * 2
    assert {"rate", "mining", "nDCG@10", "bm25-hard", "hybrid", "0.2", "0.4"} <= set(texts(picture))


def test_a_setting_that_all_trials_share_lies_in_the_middle_of_its_axis():
    picture = lines_of_trials.parallel("trials", [Axis("layers", [6, 6]), Axis("nDCG@10", [0.2, 0.3])], chosen=None)
    middle = (lines_of_trials.TOP + lines_of_trials.BOTTOM) / 2
    assert {line[0][1] for line in paths(picture, "trial")} == {middle}


def test_a_trial_that_ended_early_has_a_line_that_stops():
    picture = lines_of_trials.curves("training", [[(0.25, 0.1), (0.5, 0.2), (1.0, 0.3)], [(0.25, 0.05)]], 0, "nDCG@10")
    (chosen,), (other,) = paths(picture, "curve"), paths(picture, "better")
    assert len(chosen) == 3
    assert len(other) == 1
    assert other[0][0] == chosen[0][0]
    assert other[0][1] > chosen[0][1] > chosen[1][1] > chosen[2][1]
