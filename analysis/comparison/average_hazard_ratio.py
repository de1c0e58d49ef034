r"""Average hazard ratio of Kalbfleisch and Prentice.

A hazard ratio that changes over time has no single value, and what a Cox
regression estimates then depends on who was censored when. This average does
not. With survival S1 of the experimental arm, S0 of control and an exponent a,

.. math::
   \theta = \frac{-\int_0^\tau S_0^a \, d S_1^a}{-\int_0^\tau S_1^a \, d S_0^a},

which is the hazard ratio where that is constant. With a = 1 it is the odds
that a patient of the experimental arm has the event before one of control;
with a = 1/2, the default, early and late differences weigh more alike.

It is another quantity than the average of log hazard ratios by expected events
that calculators of power print under the same name.

References
----------
.. [1] Kalbfleisch & Prentice (1981), Biometrika 68:105-112,
   https://doi.org/10.1093/biomet/68.1.105.
.. [2] Schemper, Wakounig & Heinze (2009), Statistics in Medicine 28:2473-2489,
   https://doi.org/10.1002/sim.3623, on this and other averages.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.result import Comparison, ratio, upper_tail
from analysis.comparison.risk import Sample, Table

__all__ = ["average_hazard_ratio"]

FloatArray = NDArray[np.float64]


def average_hazard_ratio(sample: Sample, tau: float, exponent: float = 0.5) -> Comparison:
    """Log of the average hazard ratio of the experimental arm against control.

    Parameters
    ----------
    sample : Sample
        Two arms in R replicates.
    tau : float
        End of the average, months. It must be named, and lie where both arms
        still have patients: at the last of the follow-up the delta method is
        no guide to the error of so small a tail.
    exponent : float, default 0.5
        The `a` above.

    Returns
    -------
    Comparison
        `estimate` is below 0 where the experimental arm does better. Where an
        arm has no event before `tau` it is infinite or nan, and z is 0.

    Raises
    ------
    ValueError
        If `tau` or `exponent` is not above 0.

    Notes
    -----
    Kaplan-Meier estimates are put in the place of S1 and S0; an event of one
    arm at the time of one of the other meets the mean of that curve before and
    after. The variance is by the delta method: a death among n of an arm moves
    its log survival from there on, with Greenwood's variance ``d / (n (n - d))``.
    """
    if not tau > 0.0:
        raise ValueError(f"tau must be above 0, got {tau:g}")
    if not exponent > 0.0:
        raise ValueError(f"exponent must be above 0, got {exponent:g}")

    def measure(table: Table) -> tuple[FloatArray, ...]:
        at_risk_1, events_1 = table.at_risk_1, table.events_1
        at_risk_0, events_0 = table.at_risk - at_risk_1, table.events - events_1
        inside = table.time <= tau
        fields = (at_risk_1, events_1, at_risk_0, events_0)
        return tuple(table.columns(field * inside) for field in fields)

    at_risk_1, events_1, at_risk_0, events_0 = sample.gather(measure)
    one, zero = _Curve(at_risk_1, events_1, exponent), _Curve(at_risk_0, events_0, exponent)
    falls_1 = -0.5 * (zero.before + zero.after) * (one.after - one.before)
    falls_0 = -0.5 * (one.before + one.after) * (zero.after - zero.before)
    sum_1, sum_0 = np.cumsum(falls_1, axis=1), np.cumsum(falls_0, axis=1)
    total_1, total_0 = sum_1[:, -1:], sum_0[:, -1:]
    end = one.after[:, -1:] * zero.after[:, -1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        # Half of a tied fall lies before the death it ties with.
        late_0 = total_0 - sum_0 + 0.5 * (zero.before - zero.after) * one.after
        late_1 = total_1 - sum_1 + 0.5 * (one.before - one.after) * zero.after
        moved_1 = exponent * ((end + late_0) / total_1 + late_0 / total_0)
        moved_0 = exponent * ((end + late_1) / total_0 + late_1 / total_1)
        variance = np.cumsum(moved_1**2 * one.greenwood + moved_0**2 * zero.greenwood, axis=1)
        estimate = (np.log(total_1) - np.log(total_0))[:, 0]
    error = np.where(np.isfinite(estimate), np.sqrt(variance[:, -1]), np.inf)
    z = ratio(-estimate, error)
    name = f"average_hazard_ratio({tau:g},{exponent:g})"
    return Comparison(name, estimate, error, z, upper_tail(z))


class _Curve:
    """Powers of an arm's survival around each column, (R, N)."""

    def __init__(self, at_risk: FloatArray, events: FloatArray, exponent: float) -> None:
        left = at_risk - events
        factor = np.divide(left, at_risk, out=np.ones_like(left), where=at_risk > 0.0)
        survival = np.cumprod(factor, axis=1)
        self.after = survival**exponent
        self.before = np.ones_like(survival)
        self.before[:, 1:] = self.after[:, :-1]
        self.greenwood = np.divide(
            events, at_risk * left, out=np.zeros_like(left), where=(events > 0.0) & (left > 0.0)
        )
