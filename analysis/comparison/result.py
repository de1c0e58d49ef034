"""The one shape in which every comparison gives its result."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Comparison", "ratio", "upper_tail"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison of two arms in R replicates.

    Positive `z` favours the experimental arm; `p_value` is one-sided, the
    chance of a z at least as large where there is no difference.
    """

    method: str
    """Name, with the numbers that define it: ``fleming_harrington(0,0.5)``."""

    estimate: FloatArray
    """(R,), in the units of the method."""

    standard_error: FloatArray
    """(R,), of the estimate; ``inf`` where there is none."""

    z: FloatArray
    """(R,), 0 where nothing can be said."""

    p_value: FloatArray
    """(R,)."""


def upper_tail(z: FloatArray) -> FloatArray:
    """One-sided p-value of a standard normal statistic."""
    from scipy.special import ndtr

    return np.asarray(ndtr(-z))


def ratio(estimate: FloatArray, error: FloatArray) -> FloatArray:
    """Estimate over standard error, 0 where either is missing or infinite or the error is 0.

    Examples
    --------
    >>> ratio(np.array([1.0, 1.0, np.inf]), np.array([0.5, 0.0, np.inf])).tolist()
    [2.0, 0.0, 0.0]
    """
    good = (error > 0.0) & np.isfinite(error) & np.isfinite(estimate)
    return np.divide(estimate, error, out=np.zeros_like(estimate), where=good)
