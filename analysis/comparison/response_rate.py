"""Objective response rate: difference between the arms.

References
----------
.. [1] Newcombe (1998), Statistics in Medicine 17:873-890,
   https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I, compares
   methods for a difference of proportions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.comparison.result import Comparison, ratio, upper_tail

__all__ = ["response_rate_difference", "response_rate_of_patients"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def response_rate_difference(
    responders_1: ArrayLike, patients_1: ArrayLike, responders_0: ArrayLike, patients_0: ArrayLike
) -> Comparison:
    """Difference of response rates, experimental minus control, from counts.

    Parameters
    ----------
    responders_1, patients_1 : array_like, shape (R,)
        Responders and patients of the experimental arm.
    responders_0, patients_0 : array_like, shape (R,)
        Those of control.

    Returns
    -------
    Comparison
        `standard_error` is that of the difference, ``sqrt(p1 q1 / n1 + p0 q0 / n0)``.
        `z` is that of the test that there is none, with the pooled rate in its
        variance: z**2 is Pearson's chi-square without correction. It is 0, and
        the estimate nan, where an arm has no patient.

    Raises
    ------
    ValueError
        If there are more responders than patients, or fewer than none.

    Examples
    --------
    >>> result = response_rate_difference([45], [100], [30], [100])
    >>> float(result.estimate[0].round(6)), float(result.z[0].round(4))
    (0.15, 2.1909)
    """
    x1, n1, x0, n0 = (
        np.atleast_1d(np.asarray(x, dtype=np.float64))
        for x in (responders_1, patients_1, responders_0, patients_0)
    )
    if np.any((x1 < 0) | (x1 > n1) | (x0 < 0) | (x0 > n0)):
        raise ValueError("responders must be between 0 and the number of patients of their arm")
    with np.errstate(divide="ignore", invalid="ignore"):
        p1, p0, pooled = x1 / n1, x0 / n0, (x1 + x0) / (n1 + n0)
        error = np.sqrt(p1 * (1.0 - p1) / n1 + p0 * (1.0 - p0) / n0)
        null = np.sqrt(pooled * (1.0 - pooled) * (1.0 / n1 + 1.0 / n0))
    z = ratio(p1 - p0, null)
    error = np.where(np.isnan(error), np.inf, error)
    return Comparison("response_rate_difference", p1 - p0, error, z, upper_tail(z))


def response_rate_of_patients(
    response: BoolArray, arm: BoolArray, evaluable: BoolArray | None = None
) -> Comparison:
    """The same from patients, (R, N): who responded, who is in the experimental arm, who counts.

    Examples
    --------
    >>> response = np.array([[True, False, True, False]])
    >>> arm = np.array([[True, True, True, False]])
    >>> float(response_rate_of_patients(response, arm).estimate[0].round(4))
    0.6667
    """
    counts = np.ones_like(arm) if evaluable is None else evaluable
    groups = [counts & arm, counts & ~arm]
    numbers = [np.count_nonzero(x, axis=1) for who in groups for x in (who & response, who)]
    return response_rate_difference(*numbers)
