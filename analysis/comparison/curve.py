"""Curves of one arm of every replicate, read at chosen times.

Kaplan-Meier, Nelson-Aalen, the number at risk and Aalen-Johansen, exact with
ties, over (R, N) at once. Here an array of times is one arm, or one sample:
nothing is compared.

References
----------
.. [1] Aalen & Johansen (1978), Scandinavian Journal of Statistics 5:141-150.
.. [2] Marubini & Valsecchi (1995), Analysing Survival Data from Clinical Trials and
   Observational Studies, equation 10.12, for the variance of an incidence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["aalen_johansen", "kaplan_meier", "nelson_aalen", "number_at_risk"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IndexArray = NDArray[np.intp]


def number_at_risk(time: FloatArray, at: ArrayLike) -> NDArray[np.intp]:
    """Patients with follow-up of at least each time: at risk just before its events.

    Parameters
    ----------
    time : ndarray, shape (R, N)
        Follow-up, months; nan for a patient who is not in the sample.
    at : array_like, shape (T,)
        Months.

    Returns
    -------
    ndarray of int, shape (R, T)

    Examples
    --------
    >>> number_at_risk(np.array([[1.0, 2.0, 2.0, 5.0]]), [0.0, 2.0, 3.0]).tolist()
    [[4, 3, 1]]
    """
    return np.stack([np.count_nonzero(time >= t, axis=1) for t in _grid(at)], axis=1)


def kaplan_meier(
    time: FloatArray, event: BoolArray, at: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Kaplan-Meier survival and its standard error (Greenwood) just after each time.

    Parameters
    ----------
    time : ndarray, shape (R, N)
        Follow-up, months; nan for a patient who is not in the sample.
    event : ndarray of bool, shape (R, N)
        Whether it ended with the event.
    at : array_like, shape (T,)
        Months.

    Returns
    -------
    survival, standard_error : ndarray, shape (R, T)
        Beyond the last follow-up the estimate is carried on.

    Examples
    --------
    >>> time = np.array([[1.0, 2.0, 2.0, 3.0]])
    >>> event = np.array([[True, True, False, False]])
    >>> survival, error = kaplan_meier(time, event, [0.5, 2.0])
    >>> survival.tolist(), error.round(6).tolist()
    ([[1.0, 0.5]], [[0.0, 0.25]])
    """
    ordered = _Ordered(time, event.astype(np.intp) - 1, 1)
    left = ordered.at_risk - ordered.all_events
    spread = np.divide(
        ordered.all_events, ordered.at_risk * left, out=np.zeros_like(left), where=left > 0.0
    )
    survival = ordered.read(ordered.after, at, 1.0)
    return survival, survival * np.sqrt(ordered.read(np.cumsum(spread, axis=-1), at, 0.0))


def nelson_aalen(
    time: FloatArray, event: BoolArray, at: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Nelson-Aalen cumulative hazard and its standard error just after each time.

    Tied events count as ``d / n``, with variance ``d / n**2``. Arguments and
    shapes are those of `kaplan_meier`.

    Examples
    --------
    >>> time = np.array([[1.0, 1.0, 2.0, 4.0]])
    >>> hazard, error = nelson_aalen(time, np.array([[True, True, True, False]]), [1.0, 3.0])
    >>> hazard.tolist(), (error**2).round(6).tolist()
    ([[0.5, 1.0]], [[0.125, 0.375]])
    """
    ordered = _Ordered(time, event.astype(np.intp) - 1, 1)
    safe = np.maximum(ordered.at_risk, 1.0)
    hazard = np.cumsum(ordered.all_events / safe, axis=-1)
    variance = np.cumsum(ordered.all_events / safe**2, axis=-1)
    return ordered.read(hazard, at, 0.0), np.sqrt(ordered.read(variance, at, 0.0))


def aalen_johansen(
    time: FloatArray, cause: NDArray[np.integer[Any]], n_causes: int, at: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Cumulative incidence of each of competing causes, and its standard error.

    Parameters
    ----------
    time : ndarray, shape (R, N)
        Follow-up, months; nan for a patient who is not in the sample.
    cause : ndarray of int, shape (R, N)
        Index of the cause that ended it, -1 where censored.
    n_causes : int
        How many causes there are.
    at : array_like, shape (T,)
        Months.

    Returns
    -------
    incidence, standard_error : ndarray, shape (R, n_causes, T)

    Examples
    --------
    >>> incidence, _ = aalen_johansen(
    ...     np.array([[1.0, 1.0, 2.0, 3.0]]), np.array([[0, 1, 0, -1]]), 2, [1.0, 2.0]
    ... )
    >>> incidence.tolist()
    [[[0.25, 0.5], [0.25, 0.25]]]
    """
    ordered = _Ordered(time, cause.astype(np.intp), n_causes)
    n = np.maximum(ordered.at_risk, 1.0)[:, None, :]
    events, every = ordered.events, ordered.all_events[:, None, :]
    before = ordered.before[:, None, :]
    incidence = np.cumsum(before * events / n, axis=-1)
    # Sums over the past of (I(t) - I(s))**2 and of I(t) - I(s), multiplied out.
    left = n - every
    spread = np.divide(every, n * left, out=np.zeros_like(left), where=left > 0.0)
    joint = before * events / n**2
    own = np.cumsum(before**2 * events * (n - events) / n**3, axis=-1)
    total, once, twice = (np.cumsum(spread * x, axis=-1) for x in (1.0, incidence, incidence**2))
    cross = incidence * np.cumsum(joint, axis=-1) - np.cumsum(incidence * joint, axis=-1)
    variance = incidence**2 * total - 2.0 * incidence * once + twice + own - 2.0 * cross
    return (
        ordered.read(incidence, at, 0.0),
        np.sqrt(np.maximum(ordered.read(variance, at, 0.0), 0.0)),
    )


def _grid(at: ArrayLike) -> FloatArray:
    return np.atleast_1d(np.asarray(at, dtype=np.float64))


class _Ordered:
    """Times in order; the first column of each distinct time carries all that happened then."""

    def __init__(self, time: FloatArray, cause: IndexArray, n_causes: int) -> None:
        rows, columns = time.shape
        order = np.argsort(time, axis=1)
        # Those who are not in the sample sort last.
        self.time = np.take_along_axis(time, order, axis=1)
        member = ~np.isnan(self.time)
        cause = np.take_along_axis(cause, order, axis=1)
        starts = np.ones((rows, columns), dtype=bool)
        starts[:, 1:] = self.time[:, 1:] != self.time[:, :-1]
        self.at_risk = (np.count_nonzero(member, axis=1)[:, None] - np.arange(columns)) * (
            member * 1.0
        )
        lead = np.maximum.accumulate(np.where(starts, np.arange(columns), 0), axis=1)
        self.events = np.zeros((rows, n_causes, columns))
        row, column = np.nonzero(member & (cause >= 0))
        np.add.at(self.events, (row, cause[row, column], lead[row, column]), 1.0)
        self.all_events = self.events.sum(axis=1)
        factor = 1.0 - self.all_events / np.maximum(self.at_risk, 1.0)
        self.after = np.cumprod(factor, axis=1)
        self.before = np.ones_like(self.after)
        self.before[:, 1:] = self.after[:, :-1]

    def read(self, values: FloatArray, at: ArrayLike, start: float) -> FloatArray:
        """Values just after each time, `start` before the first column: (R, ..., T)."""
        passed = np.stack([np.count_nonzero(self.time <= t, axis=1) for t in _grid(at)], axis=-1)
        padded = np.concatenate([np.full((*values.shape[:-1], 1), start), values], axis=-1)
        shape = (len(passed), *(1,) * (values.ndim - 2), passed.shape[-1])
        where = np.broadcast_to(passed.reshape(shape), (*values.shape[:-1], passed.shape[-1]))
        return np.take_along_axis(padded, where, axis=-1)
