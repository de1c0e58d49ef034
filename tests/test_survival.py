"""Kaplan-Meier fits as shown: values, counts and thinning."""

import numpy as np
import pytest
from lifelines import KaplanMeierFitter

from analysis.survival import MOST_POINTS, fit_kaplan_meier


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(1)
    return rng.exponential(12.0, 5000), rng.random(5000) < 0.7


def test_counts_add_up_to_the_number_of_patients(sample):
    table = fit_kaplan_meier(*sample).table(np.arange(0.0, 61.0, 12.0))
    total = table["at_risk"] + table["events"] + table["censored"]
    assert (total == 5000).all()


def test_a_thinned_curve_has_a_row_at_every_tick_with_exact_values(sample):
    time, event = sample
    ticks = np.arange(0.0, 61.0, 12.0)
    table = fit_kaplan_meier(time, event).table(ticks)
    assert len(table) <= MOST_POINTS
    rows = table.set_index("time").loc[ticks]
    whole = KaplanMeierFitter().fit(time, event)
    np.testing.assert_allclose(rows["survival"], whole.predict(ticks), rtol=1e-12)
    assert rows["at_risk"].tolist() == [int(np.sum(time > t)) for t in ticks]
    assert rows["events"].tolist() == [int(np.sum((time <= t) & event)) for t in ticks]


def test_median_and_its_limits_are_those_of_the_curve(sample):
    curve = fit_kaplan_meier(*sample)
    median, lower, upper = curve.median
    assert lower < median < upper
    assert median == KaplanMeierFitter().fit(*sample).median_survival_time_


def test_a_median_that_is_not_reached_is_infinite():
    curve = fit_kaplan_meier(np.array([1.0, 5.0, 5.0, 5.0]), np.array([True, False, False, False]))
    assert curve.median[0] == np.inf


def test_nobody_is_refused():
    with pytest.raises(ValueError, match="no patient"):
        fit_kaplan_meier(np.array([]), np.array([], dtype=bool))
