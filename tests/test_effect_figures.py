"""Figures of pooled effects and forecasts are read back: what is drawn is what tables say."""

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from analysis.backtest import backtest, nearest_forecasts
from analysis.effect_pooling import Prior, family_effects, fit_pool, pooled_effects
from analysis.effect_table import FAMILIES, known_before, read_effects
from figures.effects import backtest_page, effects_page, place_forecasts
from figures.run import STYLE

PRIOR = Prior(steps=3, agent_share=(0.5,))


@pytest.fixture(scope="module")
def table():
    return read_effects()


@pytest.fixture(scope="module")
def forecasts(table):
    return nearest_forecasts(backtest(table, PRIOR))


def drawn(make, *arguments):
    with matplotlib.rc_context(fname=STYLE):
        figure = make(*arguments)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return figure


def marks(ax, mark):
    """Places of single marks of a kind."""
    found = [line.get_xydata() for line in ax.lines if line.get_marker() == mark]
    return np.concatenate(found) if found else np.empty((0, 2))


def texts_inside(figure):
    box = figure.bbox
    renderer = figure.canvas.get_renderer()
    everyone = [text for ax in figure.axes for text in ax.texts] + figure.texts
    extents = [text.get_window_extent(renderer) for text in everyone if text.get_text()]
    return all(e.x0 >= box.x0 - 1 and e.x1 <= box.x1 + 1 for e in extents)


def test_every_pooled_contrast_is_drawn_as_published_and_pooled(table):
    pool = fit_pool(known_before(table, 2100), PRIOR)
    rows, families = pooled_effects(pool), family_effects(pool, 0.8)
    figure = drawn(effects_page, rows, families, FAMILIES)
    assert texts_inside(figure)
    for ax, endpoint in zip(figure.axes, ("pfs", "os"), strict=True):
        own, means = rows[rows["endpoint"] == endpoint], families[families["endpoint"] == endpoint]
        for mark, values in (
            ("s", own["log_hazard_ratio"]), ("o", own["shrunken"]), ("D", means["mean"]),
        ):  # fmt: skip
            places = marks(ax, mark)
            np.testing.assert_allclose(np.sort(places[:, 0]), np.sort(np.exp(values)))
            assert len({y for _, y in places}) == len(places), "a line for each"
        assert ax.get_xlim()[0] < np.exp(own["estimate_lower"]).min()
        bars = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches)
        ends = zip(np.exp(means["new_lower"]), np.exp(means["new_upper"]), strict=True)
        np.testing.assert_allclose(bars, sorted(ends))


def test_hits_and_misses_are_told_apart(forecasts):
    figure = drawn(backtest_page, forecasts)
    assert texts_inside(figure)
    (ax,) = figure.axes
    heights, years, _ = place_forecasts(forecasts)
    assert list(years) == sorted(set(forecasts["cutoff"]))
    inside = forecasts["pooled_covered"].to_numpy(dtype=bool)
    assert 0 < inside.sum() < len(inside)
    y = np.array(heights)
    for mark, chosen, column in (
        ("o", inside, "observed"), ("X", ~inside, "observed"), ("|", y > 0, "pooled"),
        ("^", y > 0, "nearest"), ("d", forecasts["phase2"].notna().to_numpy(), "phase2"),
    ):  # fmt: skip
        wanted = np.column_stack([np.exp(forecasts[column][chosen]), y[chosen]])
        np.testing.assert_allclose(marks(ax, mark), wanted)
