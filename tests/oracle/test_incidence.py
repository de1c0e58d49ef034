"""Aalen-Johansen against a plain second implementation, lifelines, and its own identities."""

import numpy as np
import pytest
from lifelines import AalenJohansenFitter

from analysis.survival import estimate_cumulative_incidence, fit_kaplan_meier


def by_hand(time, cause, count):
    """Cumulative incidence by a loop over times, from the definition."""
    survival, incidence, rows = 1.0, np.zeros(count), []
    for t in np.unique(time[cause >= 0]):
        at_risk = np.sum(time >= t)
        events = np.array([np.sum((time == t) & (cause == c)) for c in range(count)])
        incidence = incidence + survival * events / at_risk
        survival *= 1.0 - events.sum() / at_risk
        rows.append(incidence)
    return np.array(rows).T


def sample(seed, grid, n=300):
    rng = np.random.default_rng(seed)
    time = rng.exponential(10.0, n)
    if grid:
        time = np.ceil(time / grid) * grid
    return time, rng.integers(-1, 3, n)


@pytest.mark.parametrize("grid", [0.0, 0.5, 4.0], ids=["no ties", "some ties", "mostly ties"])
def test_equals_the_definition_with_any_ties(grid):
    time, cause = sample(20240601, grid)
    estimate = estimate_cumulative_incidence(time, cause, 3)
    np.testing.assert_allclose(estimate.incidence, by_hand(time, cause, 3), rtol=1e-12)


@pytest.mark.parametrize("grid", [0.0, 4.0])
def test_causes_and_survival_add_up_to_one(grid):
    time, cause = sample(3, grid)
    estimate = estimate_cumulative_incidence(time, cause, 3)
    survival, _, _ = fit_kaplan_meier(time, cause >= 0).at(estimate.time)
    np.testing.assert_allclose(estimate.incidence.sum(axis=0) + survival, 1.0, rtol=1e-12)


def test_agrees_with_lifelines_where_it_is_exact():
    # lifelines jitters ties at random, so it is an oracle only without them.
    time, cause = sample(5, 0.0)
    ours = estimate_cumulative_incidence(time, cause, 3)
    for c in range(3):
        theirs = AalenJohansenFitter(calculate_variance=True).fit(
            time, cause + 1, event_of_interest=c + 1
        )
        when = ours.time
        value = theirs.cumulative_density_.iloc[:, 0]
        row = np.searchsorted(value.index.to_numpy(), when, side="right") - 1
        np.testing.assert_allclose(ours.incidence[c], value.to_numpy()[row], rtol=1e-9)
        variance = theirs.variance_.to_numpy().ravel()[row]
        # The last point has nobody left: lifelines divides by zero there.
        keep = np.isfinite(variance) & (np.arange(len(when)) < len(when) - 1)
        np.testing.assert_allclose(ours.standard_error[c][keep] ** 2, variance[keep], rtol=1e-6)


def test_standard_error_covers_the_truth():
    # Two exponentials, 0.06 and 0.04, censored by a third: F1(10) = 0.6 (1 - exp(-1)).
    truth = 0.6 * (1.0 - np.exp(-1.0))
    covered, replicates = 0, 2000
    for k in range(replicates):
        rng = np.random.default_rng([7, k])
        first, second, censor = rng.exponential([1 / 0.06, 1 / 0.04, 30.0], (200, 3)).T
        time = np.minimum(np.minimum(first, second), censor)
        cause = np.where(censor <= time, -1, np.where(first < second, 0, 1))
        value, error = estimate_cumulative_incidence(time, cause, 2).at(np.array([10.0]))
        covered += abs(value[0, 0] - truth) < 1.96 * error[0, 0]
    # Binomial error of the coverage is 0.005; finite samples of 200 cover slightly less.
    assert abs(covered / replicates - 0.95) < 0.02


def test_one_cause_is_greenwood():
    time, cause = sample(11, 0.5)
    cause = np.where(cause >= 0, 0, -1)
    estimate = estimate_cumulative_incidence(time, cause, 1)
    n = np.array([np.sum(time >= t) for t in estimate.time])
    d = np.array([np.sum((time == t) & (cause == 0)) for t in estimate.time])
    keep = n > d
    survival = np.cumprod(1.0 - d / n)
    greenwood = survival[keep] ** 2 * np.cumsum(d[keep] / (n[keep] * (n[keep] - d[keep])))
    np.testing.assert_allclose(estimate.standard_error[0][keep] ** 2, greenwood, rtol=1e-9)


def test_nobody_is_refused():
    with pytest.raises(ValueError, match="no patient"):
        estimate_cumulative_incidence(np.array([]), np.array([], dtype=int), 1)
