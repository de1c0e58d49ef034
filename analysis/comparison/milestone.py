"""Survival at one time: difference between the arms.

References
----------
.. [1] Klein et al. (2007), Statistics in Medicine 26:4505-4519, https://doi.org/10.1002/sim.2864,
   on the scales.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.result import Comparison, ratio, upper_tail
from analysis.comparison.risk import Arm, Sample

__all__ = ["SCALES", "milestone_difference", "survival_at"]

FloatArray = NDArray[np.float64]

SCALES = ("identity", "log-log")


def survival_at(arm: Arm, month: float) -> tuple[FloatArray, FloatArray]:
    """Kaplan-Meier survival of one arm at `month`, and its Greenwood variance, each (R,).

    Survival is nan in an arm without patients.
    """
    inside = arm.time <= month
    passed = np.count_nonzero(inside, axis=1)
    last = np.maximum(passed - 1, 0)[:, None]
    survival = np.where(passed > 0, np.take_along_axis(arm.survival, last, axis=1)[:, 0], 1.0)
    survival[arm.empty] = np.nan
    return survival, survival**2 * arm.total(arm.greenwood * inside)


def milestone_difference(sample: Sample, month: float, scale: str = "identity") -> Comparison:
    """Difference of survival at `month`, experimental minus control.

    Parameters
    ----------
    sample : Sample
        Two arms in R replicates.
    month : float
        The milestone, months; events at that time have happened. Beyond the
        last follow-up of an arm the curve is carried on.
    scale : str, default "identity"
        `identity`, or `log-log` for the difference of ``log(-log S)``, control
        minus experimental, which keeps its size better in small samples.

    Raises
    ------
    ValueError
        For another scale.
    """
    if scale not in SCALES:
        raise ValueError(f"scale must be identity or log-log, got '{scale}'")
    (zero, var_zero), (one, var_one) = (survival_at(arm, month) for arm in sample.arms)
    name = f"milestone_difference({month:g})"
    if scale == "log-log":
        name = f"milestone_difference({month:g},log-log)"
        (one, var_one), (zero, var_zero) = (_log_log(zero, var_zero), _log_log(one, var_one))
    with np.errstate(invalid="ignore"):
        estimate, error = one - zero, np.sqrt(var_one + var_zero)
    z = ratio(estimate, error)
    return Comparison(name, estimate, error, z, upper_tail(z))


def _log_log(survival: FloatArray, variance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``log(-log S)`` and its variance; infinite, and of no weight, where S is 0 or 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.log(survival)
        return np.log(-log), variance / (survival * log) ** 2
