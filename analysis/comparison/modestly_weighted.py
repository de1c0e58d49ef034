"""Modestly weighted log-rank tests, in both published variants.

References
----------
.. [1] Magirr & Burman (2019), Statistics in Medicine 38:3782-3790,
   https://doi.org/10.1002/sim.8186.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.result import Comparison
from analysis.comparison.risk import Sample, Table
from analysis.comparison.score import weighted

__all__ = ["VARIANTS", "modestly_weighted"]

FloatArray = NDArray[np.float64]

VARIANTS = ("events", "survival")
"""How the weight is capped at a time, see `modestly_weighted`."""


def modestly_weighted(
    sample: Sample,
    *,
    t_star: float | None = None,
    w_max: float | None = None,
    variant: str = "events",
) -> Comparison:
    """Modestly weighted test: weight ``1 / S(t-)``, S pooled, capped.

    Two definitions of the cap at a time t* are in use and give slightly
    different statistics. Variant `events` caps at the largest ``1 / S(t-)``
    over event times up to t* (as in R's simtrial); variant `survival` caps at
    ``1 / S(t*)`` (as in nphRCT). With `w_max` they are the same.

    Parameters
    ----------
    sample : Sample
        Two arms in R replicates.
    t_star : float, optional
        Months until which the weight rises.
    w_max : float, optional
        Largest weight, instead of a time.
    variant : str, default "events"
        One of `VARIANTS`.

    Returns
    -------
    Comparison
        `estimate` is the weighted sum of expected minus observed events. The
        variant is part of the method's name.

    Raises
    ------
    ValueError
        Unless exactly one of `t_star` and `w_max` is given, with a known variant.
    """
    if (t_star is None) == (w_max is None):
        raise ValueError("modestly_weighted needs t_star or w_max, and not both")
    if variant not in VARIANTS:
        raise ValueError(f"variant must be events or survival, got '{variant}'")
    if w_max is not None:
        name, most = f"modestly_weighted(w_max={w_max:g})", w_max
        return weighted(name, sample, lambda table: np.minimum(1.0 / table.survival, most))
    assert t_star is not None
    name, until = f"modestly_weighted(t_star={t_star:g},{variant})", t_star
    return weighted(name, sample, lambda table: _capped(table, until, variant))


def _capped(table: Table, t_star: float, variant: str) -> FloatArray:
    # S(t-) is above 0 wherever somebody is at risk.
    inverse = 1.0 / table.survival
    reached = inverse
    if variant == "survival":
        # Where all die at t* there is no cap, and nobody left to weigh.
        left = np.maximum(table.at_risk - table.events, 1e-300)
        reached = inverse * (table.at_risk / left)
    early = (table.time <= t_star) & (table.events > 0.0)
    cap = table.sums.most(np.where(early, reached, 1.0))
    return np.minimum(inverse, table.sums.spread(cap))
