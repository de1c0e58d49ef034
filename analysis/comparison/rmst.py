"""Restricted mean survival time: difference and ratio, with Greenwood variances.

References
----------
.. [1] Royston & Parmar (2013), BMC Medical Research Methodology 13:152,
   https://doi.org/10.1186/1471-2288-13-152.
.. [2] Uno et al. (2014), Journal of Clinical Oncology 32:2380-2385,
   https://doi.org/10.1200/JCO.2014.55.2208.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.result import Comparison, ratio, upper_tail
from analysis.comparison.risk import Arm, Sample
from analysis.comparison.scan import left_behind, neighbours

__all__ = ["restricted_mean", "rmst_difference", "rmst_ratio", "time_lost_ratio"]

FloatArray = NDArray[np.float64]


def restricted_mean(arm: Arm, tau: float) -> tuple[FloatArray, FloatArray]:
    """Area under an arm's Kaplan-Meier curve up to `tau`, and its variance, each (R,).

    The area is nan where the arm has no patient. The variance is
    ``sum over events of (area from there to tau)**2 d / (n (n - d))``; an event that leaves
    nobody at risk has no area behind it and adds nothing.

    Raises
    ------
    ValueError
        If `tau` is not above 0.
    """
    if not tau > 0.0:
        raise ValueError(f"tau must be above 0, got {tau:g}")
    edge = np.minimum(arm.time, tau)
    # Between tied events there is no width, so that only the last step of a time counts.
    area = neighbours(np.subtract, edge)
    np.subtract(tau, edge[:, -1], out=area[:, -1])
    area *= arm.survival
    behind = left_behind(area, tau)
    mean = np.where(arm.empty, np.nan, arm.first(edge) + arm.first(behind))
    behind *= behind
    behind *= arm.greenwood
    return mean, arm.total(behind)


def rmst_difference(sample: Sample, tau: float) -> Comparison:
    """Difference of restricted means, experimental minus control, months.

    Parameters
    ----------
    sample : Sample
        Two arms in R replicates.
    tau : float
        End of the restriction, months. Beyond the last follow-up of an arm
        the curve is carried on at its last value.

    Raises
    ------
    ValueError
        If `tau` is not above 0.
    """
    (zero, var_zero), (one, var_one) = (restricted_mean(arm, tau) for arm in sample.arms)
    error = np.sqrt(var_one + var_zero)
    z = ratio(one - zero, error)
    return Comparison(f"rmst_difference({tau:g})", one - zero, error, z, upper_tail(z))


def rmst_ratio(sample: Sample, tau: float) -> Comparison:
    """Log of the ratio of restricted means, experimental to control, by the delta method."""
    (zero, var_zero), (one, var_one) = (restricted_mean(arm, tau) for arm in sample.arms)
    return _log_ratio(f"rmst_ratio({tau:g})", one, var_one, zero, var_zero, better=1.0)


def time_lost_ratio(sample: Sample, tau: float) -> Comparison:
    """Log of the ratio of months lost up to `tau`, below 0 where the experimental arm loses less.

    Where an arm loses nothing the estimate is infinite or nan and z is 0.
    """
    (zero, var_zero), (one, var_one) = (restricted_mean(arm, tau) for arm in sample.arms)
    return _log_ratio(
        f"time_lost_ratio({tau:g})", tau - one, var_one, tau - zero, var_zero, better=-1.0
    )


def _log_ratio(
    method: str,
    one: FloatArray,
    var_one: FloatArray,
    zero: FloatArray,
    var_zero: FloatArray,
    better: float,
) -> Comparison:
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = np.log(one) - np.log(zero)
        error = np.sqrt(var_one / one**2 + var_zero / zero**2)
    z = ratio(better * estimate, error)
    return Comparison(method, estimate, error, z, upper_tail(z))
