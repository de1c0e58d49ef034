"""Median survival: difference between the arms.

References
----------
.. [1] Collett (2015), Modelling Survival Data in Medical Research, 3rd edition, section 2.4,
   for the standard error of a quantile.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.result import Comparison, ratio, upper_tail
from analysis.comparison.risk import Arm, Sample

__all__ = ["median_difference", "median_survival"]

FloatArray = NDArray[np.float64]

SPAN = 0.05
"""The density at the median is read between the survivals 0.5 + SPAN and 0.5 - SPAN."""

_EPSILON = 1e-12  # an estimate of exactly one half may be computed a little above it


def median_survival(arm: Arm) -> tuple[FloatArray, FloatArray]:
    """Median of one arm and its standard error, each (R,).

    The median is the first time at which the Kaplan-Meier estimate is one half
    or less, ``inf`` where it does not get there. Its standard error is
    Greenwood's at the median over the density there, which is the slope of the
    estimate between the last event at which it is 0.55 or more and the first at which
    it is 0.45 or less (Collett), or its last where it does not get that low.
    """
    after = _at_ends_of_ticks(arm)
    lowest = np.minimum(np.maximum(after.min(axis=1, initial=1.0), 0.5 - SPAN), 0.5)
    at, low = _first_below(after, 0.5), _first_below(after, lowest[:, None])
    time = np.concatenate([arm.time, np.full((len(after), 1), np.inf)], axis=1)
    value = np.concatenate([after, np.zeros((len(after), 1))], axis=1)
    median, end = _pick(time, at), _pick(time, low)
    # The lowest survival that is still 0.55 or more, and the event at which it got there.
    high = np.where(after >= 0.5 + SPAN - _EPSILON, after, np.inf)
    top = np.minimum(high.min(axis=1, initial=1.0), 1.0)
    start = np.where(top < 1.0, _pick(time, _first_below(after, top[:, None])), 0.0)
    column = np.arange(after.shape[1])
    spread = arm.total(arm.greenwood * (column <= at[:, None]))
    reached = np.isfinite(end)
    drop = top - _pick(value, low)
    width = np.where(reached, end, 0.0) - start
    slope = np.divide(width, drop, out=np.zeros_like(width), where=drop > 0.0)
    error = np.where(reached, _pick(value, at) * np.sqrt(spread) * slope, np.inf)
    return median, error


def _at_ends_of_ticks(arm: Arm) -> FloatArray:
    """Survival where time moves on, ``inf`` between the events of one time, (R, n)."""
    tied = arm.tick[:, 1:] == arm.tick[:, :-1]
    if not tied.any():
        return arm.survival
    after = arm.survival.copy()
    after[:, :-1][tied] = np.inf
    return after


def _first_below(after: FloatArray, level: float | FloatArray) -> NDArray[np.intp]:
    """First column with survival at or below a level, or the number of columns."""
    below = after <= level + _EPSILON
    return np.where(below.any(axis=1), below.argmax(axis=1), after.shape[1])


def _pick(values: FloatArray, column: NDArray[np.intp]) -> FloatArray:
    return np.take_along_axis(values, column[:, None], axis=1)[:, 0]


def median_difference(sample: Sample) -> Comparison:
    """Difference of medians, experimental minus control, months.

    Parameters
    ----------
    sample : Sample
        Two arms in R replicates.

    Returns
    -------
    Comparison
        Where a median is not reached the estimate is infinite (nan if neither
        is), the standard error infinite and z 0.
    """
    (zero, se_zero), (one, se_one) = (median_survival(arm) for arm in sample.arms)
    with np.errstate(invalid="ignore"):
        estimate = one - zero
    error = np.hypot(se_one, se_zero)
    z = ratio(estimate, error)
    return Comparison("median_difference", estimate, error, z, upper_tail(z))
