"""The schedule of a pretraining, and its plots."""

from xml.etree import ElementTree as ET

import pytest

from envfarm.training.curve_plot import Curve, draw_curves
from envfarm.training.schedule import Schedule

WSD = Schedule(peak=1.0, warmup_steps=10, steps=100, decay_share=0.4)


def test_the_rate_warms_up_stays_and_decays() -> None:
    rates = [WSD.learning_rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert set(rates[10:60]) == {1.0}
    assert rates[60] == 1.0
    assert rates[60:] == sorted(rates[60:], reverse=True)
    assert rates[75] == pytest.approx(1 - (15 / 40) ** 0.5 * 0.99)
    assert 0 < rates[-1] < 0.05


def test_mtp_weighs_less_in_the_decay() -> None:
    assert [WSD.mtp_weight(step) for step in (0, 59, 60, 99)] == [0.3, 0.3, 0.1, 0.1]


def test_what_is_before_the_decay_does_not_depend_on_the_end() -> None:
    longer = Schedule(peak=1.0, warmup_steps=10, steps=400, decay_share=0.4)
    assert [WSD.learning_rate(step) for step in range(60)] == [longer.learning_rate(step) for step in range(60)]
    assert [WSD.mtp_weight(step) for step in range(60)] == [longer.mtp_weight(step) for step in range(60)]


def test_a_run_may_end_before_its_warm_up() -> None:
    short = Schedule(peak=1.0, warmup_steps=10, steps=3, decay_share=0.0)
    assert [short.learning_rate(step) for step in range(3)] == pytest.approx([0.1, 0.2, 0.3])


def test_a_plot_is_well_formed_and_has_every_curve() -> None:
    curves = [Curve("a < b", [(float(x), 5.0 - x / 500) for x in range(2000)]), Curve("flat", [(0.0, 1.0), (9.0, 1.0)])]
    drawing = ET.fromstring(draw_curves("Loss & load", "step", curves))  # noqa: S314 -- our own
    lines = [part for part in drawing if part.tag.endswith("polyline")]
    texts = [part.text for part in drawing if part.tag.endswith("text")]
    assert len(lines) == 2
    assert {"a < b", "flat", "Loss & load", "step"} <= set(texts)
    points = [tuple(map(float, point.split(","))) for point in str(lines[0].get("points")).split()]
    assert len(points) <= 600
    assert points[0][1] < points[-1][1], "a loss that falls goes down the page"


def test_nothing_is_drawn_as_an_empty_plot() -> None:
    assert "polyline" not in draw_curves("none", "step", [Curve("empty", [])])
