"""Survival and cumulative incidence of one sample.

Kaplan-Meier curves as they are shown are fitted by lifelines; the counts below
them and the Aalen-Johansen estimate are made here, exact with ties. Nothing in
this module knows what a strategy or a mechanism is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["FittedCurve", "Incidence", "estimate_cumulative_incidence", "fit_kaplan_meier"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MOST_POINTS = 1000
"""Points kept of a curve that is written to a file."""


@dataclass(frozen=True, slots=True)
class FittedCurve:
    """A Kaplan-Meier fit with its band and the counts behind it."""

    time: FloatArray
    """Distinct times, from 0, months."""

    survival: FloatArray
    lower: FloatArray
    upper: FloatArray

    ordered: FloatArray
    """Every follow-up time, sorted."""

    ordered_event: FloatArray
    """Sorted times of the events alone."""

    median: tuple[float, float, float]
    """Estimate, lower and upper limit; ``inf`` where not reached."""

    def at(self, when: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Survival, lower and upper limit at `when`, from the step before."""
        row = np.searchsorted(self.time, when, side="right") - 1
        return self.survival[row], self.lower[row], self.upper[row]

    def table(self, ticks: FloatArray) -> pd.DataFrame:
        """The curve as rows, at most `MOST_POINTS`, with a row at 0 and at every tick.

        Columns are time, survival, lower, upper, at_risk, events, censored.
        The counts follow the KMunicate convention: events and censored are
        cumulative, at risk is who is still followed after `time`, and the
        three add up to the number of patients.
        """
        last = ticks[-1] if len(ticks) else self.ordered[-1]
        inner = self.time[self.time <= last]
        room = MOST_POINTS - len(ticks) - 1
        if len(inner) > room:
            inner = inner[np.unique(np.linspace(0, len(inner) - 1, room).astype(np.intp))]
        when = np.unique(np.concatenate([[0.0], inner, ticks]))
        survival, lower, upper = self.at(when)
        events = np.searchsorted(self.ordered_event, when, side="right")
        gone = np.searchsorted(self.ordered, when, side="right")
        return pd.DataFrame(
            {
                "time": when,
                "survival": survival,
                "lower": lower,
                "upper": upper,
                "at_risk": len(self.ordered) - gone,
                "events": events,
                "censored": gone - events,
            }
        )


def fit_kaplan_meier(time: FloatArray, event: BoolArray) -> FittedCurve:
    """Kaplan-Meier estimate by lifelines, with pointwise 95 % limits (log-log).

    Parameters
    ----------
    time : ndarray, shape (N,)
        Follow-up, months.
    event : ndarray of bool, shape (N,)
        Whether it ended with the event.

    Returns
    -------
    FittedCurve

    Raises
    ------
    ValueError
        If there is nobody to fit.

    Examples
    --------
    >>> curve = fit_kaplan_meier(np.array([1.0, 2.0, 2.0, 3.0]), np.array([1, 1, 0, 0], dtype=bool))
    >>> curve.survival.round(6).tolist()
    [1.0, 0.75, 0.5, 0.5]
    """
    if len(time) == 0:
        raise ValueError("no patient to estimate a curve from")
    from lifelines import KaplanMeierFitter

    fit: Any = KaplanMeierFitter().fit(time, event)
    band = fit.confidence_interval_survival_function_.to_numpy(dtype=np.float64)
    survival = fit.survival_function_.to_numpy(dtype=np.float64)[:, 0]
    points = fit.survival_function_.index.to_numpy(dtype=np.float64)
    # Where the estimate is 1 or 0 the log-log limits are undefined; the estimate stands for them.
    lower, upper = (np.where(np.isnan(edge), survival, edge) for edge in (band[:, 0], band[:, 1]))
    return FittedCurve(
        time=points,
        survival=survival,
        lower=lower,
        upper=upper,
        ordered=np.sort(time),
        ordered_event=np.sort(time[event]),
        median=tuple(_first_at_half(points, curve) for curve in (survival, lower, upper)),  # type: ignore[arg-type]
    )


def _first_at_half(time: FloatArray, curve: FloatArray) -> float:
    """First time at which a falling curve is at or below one half."""
    below = np.flatnonzero(curve <= 0.5)
    return float(time[below[0]]) if below.size else float("inf")


@dataclass(frozen=True, slots=True)
class Incidence:
    """Cumulative incidence of competing causes."""

    time: FloatArray
    """Distinct event times, (J,)."""

    incidence: FloatArray
    """Of each cause, (C, J)."""

    standard_error: FloatArray
    """Of the same, (C, J)."""

    def at(self, when: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Incidence and standard error at `when`, each (C, len(when)), 0 before the first event."""
        row = np.searchsorted(self.time, when, side="right")
        padded = [np.pad(x, ((0, 0), (1, 0))) for x in (self.incidence, self.standard_error)]
        return padded[0][:, row], padded[1][:, row]


def estimate_cumulative_incidence(
    time: FloatArray, cause: NDArray[np.integer[Any]], causes: Sequence[object] | int
) -> Incidence:
    """Aalen-Johansen estimate of the cumulative incidence of each cause, exact with ties.

    Parameters
    ----------
    time : ndarray, shape (N,)
        Follow-up, months.
    cause : ndarray of int, shape (N,)
        Index of the cause that ended it, -1 where censored. Those censored at
        a time are at risk of the events at that time.
    causes : sequence or int
        The causes, or how many there are.

    Returns
    -------
    Incidence
        At the distinct event times.

    References
    ----------
    .. [1] Marubini & Valsecchi (1995), Analysing Survival Data from Clinical Trials and
       Observational Studies, equation 10.12, for the variance (delta method).

    Examples
    --------
    >>> estimate = estimate_cumulative_incidence(
    ...     np.array([1.0, 1.0, 2.0, 3.0]), np.array([0, 1, 0, -1]), 2
    ... )
    >>> estimate.incidence.tolist()
    [[0.25, 0.5], [0.25, 0.25]]
    """
    count = causes if isinstance(causes, int) else len(causes)
    if len(time) == 0:
        raise ValueError("no patient to estimate an incidence from")
    happened = cause >= 0
    point, position = np.unique(time[happened], return_inverse=True)
    size = len(point)
    events = np.bincount(cause[happened] * size + position, minlength=count * size)
    by_cause = events.reshape(count, size).astype(np.float64)
    at_risk = len(time) - np.searchsorted(np.sort(time), point, side="left").astype(np.float64)
    every = by_cause.sum(axis=0)
    after = np.cumprod(1.0 - every / at_risk)
    before = np.concatenate([[1.0], after[:-1]]) if size else after
    incidence = np.cumsum(before * by_cause / at_risk, axis=1)
    return Incidence(
        point, incidence, np.sqrt(_incidence_variance(incidence, by_cause, every, at_risk, before))
    )


def _incidence_variance(
    incidence: FloatArray,
    by_cause: FloatArray,
    every: FloatArray,
    at_risk: FloatArray,
    before: FloatArray,
) -> FloatArray:
    """Variance of each incidence, sums over the past written out as cumulative sums."""
    left = at_risk - every
    spread = np.divide(every, at_risk * left, out=np.zeros_like(every), where=left > 0.0)
    joint = before * by_cause / at_risk**2
    own = before**2 * by_cause * (at_risk - by_cause) / at_risk**3
    total = np.cumsum(spread)
    first = np.cumsum(incidence * spread, axis=1)
    second = np.cumsum(incidence**2 * spread, axis=1)
    survival_part = incidence**2 * total - 2.0 * incidence * first + second
    cross = incidence * np.cumsum(joint, axis=1) - np.cumsum(incidence * joint, axis=1)
    variance = survival_part + np.cumsum(own, axis=1) - 2.0 * cross
    return np.asarray(np.maximum(variance, 0.0))
