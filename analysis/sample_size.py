"""The sample size a trial needs, read off a sweep over sizes.

In large trials the z of a test is next to normal with a mean that grows with
the square root of the number of events, so that

    probit(power) = a + b sqrt(size),

exactly so in Schoenfeld's formula, where a is minus the critical value and
b = |log hazard ratio| / 2 under equal allocation. The line is fitted to the
shares of simulated trials that reject by maximum likelihood, which weighs each
size by its Monte Carlo error and can use a share of 0 or 1. Where the line
meets the target is the size that is needed; it is interpolated, and never
extrapolated beyond the sizes simulated.

Cells of a sweep share their seed, so that trials of neighbouring sizes share
patients and their errors go together, by how much the tables do not say. The
interval given holds however they do.

References
----------
.. [1] Schoenfeld (1981), Biometrika 68:316-319, https://doi.org/10.1093/biomet/68.1.316.
.. [2] Finney (1971), Probit Analysis, 3rd edition, chapters 3 and 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["Required", "required_size", "required_table"]

FloatArray = NDArray[np.float64]

NORMAL_975 = 1.959963984540054
NEAREST = 4
"""Sizes that are used where one line does not fit them all."""

MISFIT = 0.01
"""A line that fits worse than this share of true lines is not used for all sizes."""

FEWEST = 5.0
"""Least variance of the number of rejecting trials for a size to count in the test of fit."""

_STEPS, _STEEPEST = 60, 30.0


@dataclass(frozen=True, slots=True)
class Required:
    """The size at which a test reaches a power."""

    size: float
    """NaN unless `position` is "inside"."""

    lower: float
    upper: float
    """Ends of the 95 % interval, by the delta method on the square root of the size."""

    standard_error: float
    position: str
    """Of the size needed among those simulated: "inside", "below" (the smallest is more than
    enough), "above" (the largest is too small), or "unresolved", where power falls with size or
    says too little to put a line through."""

    n_sizes: int
    """Sizes that the line was put through."""

    misfit: float
    """Chance of so bad a fit of the line to these sizes, were it true; NaN where fewer than
    three of them can tell."""


def required_size(
    size: FloatArray, power: FloatArray, n_replicates: NDArray[np.int64], target: float
) -> Required:
    """The size at which power reaches a target.

    Parameters
    ----------
    size : ndarray, shape (K,)
        Patients, events or months. At least two different ones.
    power : ndarray, shape (K,)
        Share of trials of each size that reject.
    n_replicates : ndarray of int, shape (K,)
        Trials of each size.
    target : float
        Power that is wanted, between 0 and 1.

    Returns
    -------
    Required

    Raises
    ------
    ValueError
        If there are fewer than two sizes, or the target is not between 0 and 1.

    Examples
    --------
    Schoenfeld's power at a hazard ratio of 0.7 and a one-sided level of 0.025:

    >>> from scipy.special import ndtr
    >>> events = np.array([100.0, 200.0, 300.0, 400.0])
    >>> power = ndtr(-np.log(0.7) * np.sqrt(events) / 2.0 - 1.959963984540054)
    >>> round(required_size(events, power, np.full(4, 10_000), 0.9).size, 1)
    330.4
    """
    if not 0.0 < target < 1.0:
        raise ValueError(f"target must lie between 0 and 1, got {target:g}")
    order = np.argsort(size)
    size, power, trials = size[order], power[order], n_replicates[order].astype(np.float64)
    if size[0] == size[-1]:
        raise ValueError("at least two sizes are needed")
    line = _fit(size, power, trials)
    if line is not None and line.misfit < MISFIT:
        near = _around(size, line.meets(target))
        line = _fit(size[near], power[near], trials[near])
        if line is not None and line.misfit < MISFIT:
            # No line at all: between two neighbours, if power passes the target there alone.
            passed = np.flatnonzero(np.diff(power >= target))
            if len(passed) != 1 or power[passed[0]] >= target:
                side = _outside(power, target)
                return _nowhere(side or "unresolved", line.n_sizes, line.misfit)
            pair = slice(int(passed[0]), int(passed[0]) + 2)
            line = _fit(size[pair], power[pair], trials[pair])
    if line is None:
        return _nowhere(_outside(power, target) or "unresolved", len(size), np.nan)
    if line.slope <= 0.0:
        # Where power is flat all sizes may be on one side. Where it falls, as it can when more
        # patients bring the same events sooner, no larger trial is known to help.
        falls = line.slope < -NORMAL_975 * line.slope_error
        side = _outside(power, target)
        known = side and not (falls and side == "above")
        return _nowhere(side if known else "unresolved", line.n_sizes, line.misfit)
    root = line.meets(target)
    if not np.sqrt(size[0]) <= root <= np.sqrt(size[-1]):
        side = "below" if root < np.sqrt(size[0]) else "above"
        return _nowhere(side, line.n_sizes, line.misfit)
    error = line.error(root) / line.slope
    low, high = max(root - NORMAL_975 * error, 0.0), root + NORMAL_975 * error
    return Required(
        float(root**2), float(low**2), float(high**2), float(2.0 * root * error), "inside",
        line.n_sizes, line.misfit,
    )  # fmt: skip


def _outside(power: FloatArray, target: float) -> str:
    """On which side of the target all powers are, if they are all on one."""
    return "above" if (power < target).all() else "below" if (power > target).all() else ""


def _nowhere(position: str, n_sizes: int, misfit: float) -> Required:
    return Required(np.nan, np.nan, np.nan, np.nan, position, n_sizes, misfit)


def _around(size: FloatArray, root: float) -> slice:
    """The sizes nearest to where the line meets the target, as many on both sides if there are."""
    at = int(np.searchsorted(np.sqrt(size), root))
    first = min(max(at - NEAREST // 2, 0), max(len(size) - NEAREST, 0))
    return slice(first, first + NEAREST)


@dataclass(frozen=True, slots=True)
class _Line:
    """probit(power) = intercept + slope * root."""

    intercept: float
    slope: float
    influence: FloatArray
    """What a change of each size's power adds to intercept and slope, in its own Monte Carlo
    errors, (2, K)."""

    misfit: float

    @property
    def n_sizes(self) -> int:
        return self.influence.shape[1]

    @property
    def slope_error(self) -> float:
        """Largest standard error of the slope, as `error`."""
        return float(np.sum(np.abs(self.influence[1])))

    def meets(self, target: float) -> float:
        """Square root of the size at which the line reaches a power."""
        from scipy.special import ndtri

        return float((ndtri(target) - self.intercept) / self.slope) if self.slope else np.inf

    def error(self, root: float) -> float:
        """Largest standard error of the height of the line, over all ways errors go together.

        Independent errors would add as squares; those of trials with the same
        patients may add as they are.
        """
        return float(np.sum(np.abs(self.influence[0] + root * self.influence[1])))


def _fit(size: FloatArray, power: FloatArray, trials: FloatArray) -> _Line | None:
    """The most likely line, by Fisher's scoring; None where the likelihood has no highest point.

    That is so where every share is 0 or 1 and sizes with 1 follow those with 0.
    """
    from scipy.special import gammaincc, ndtr, ndtri

    root = np.sqrt(size)
    design = np.stack([np.ones_like(root), root])
    near = ndtri((power * trials + 0.5) / (trials + 1.0))
    slope, intercept = np.polyfit(root, near, 1)
    found = np.array([intercept, slope])
    for _ in range(_STEPS):
        at = np.clip(found @ design, -_STEEPEST, _STEEPEST)
        density = np.exp(-0.5 * at**2) / np.sqrt(2.0 * np.pi)
        share, spread = ndtr(at), ndtr(at) * ndtr(-at)
        weight = trials * density**2 / spread
        information = (design * weight) @ design.T
        score = design @ (trials * density * (power - share) / spread)
        if np.linalg.cond(information) > 1e14:
            return None
        step = np.linalg.solve(information, score)
        found = found + step
        if np.max(np.abs(step) / (1.0 + np.abs(found))) < 1e-12:
            break
    else:
        return None
    influence = np.linalg.solve(information, design * np.sqrt(weight))
    told = trials * spread >= FEWEST
    left = float(np.sum((trials * (power - share) ** 2 / spread)[told]))
    free = int(np.count_nonzero(told)) - 2
    misfit = float(gammaincc(free / 2.0, left / 2.0)) if free > 0 else np.nan
    return _Line(float(found[0]), float(found[1]), influence, misfit)


def required_table(rows: pd.DataFrame, size: str, by: Sequence[str], target: float) -> pd.DataFrame:
    """The size needed in each combination of other things.

    Parameters
    ----------
    rows : DataFrame
        Power: column `size`, the columns `by`, estimate, n_replicates. Rows without a finite
        estimate or size are left out.
    size : str
        Column of the size.
    by : sequence of str
        Columns that tell the combinations apart; null is a value like others.
    target : float
        Power that is wanted.

    Returns
    -------
    DataFrame
        The columns `by`, then size (its name), target, required, lower, upper, standard_error,
        position, smallest, largest, n_sizes, misfit: see `Required`. In the order in which
        combinations come. Those with one size only are "unresolved".

    Raises
    ------
    ValueError
        If the target is not between 0 and 1.
    """
    known = rows[np.isfinite(rows["estimate"]) & rows[size].notna()]
    # A column of nothing but one value, so that there is always something to group by.
    groups = known.assign(_all=0).groupby(["_all", *by], sort=False, dropna=False)
    out = []
    for key, own in groups:
        sizes = own[size].to_numpy(dtype=np.float64)
        if len(np.unique(sizes)) < 2:
            found = _nowhere("unresolved", 1, np.nan)
        else:
            found = required_size(
                sizes,
                own["estimate"].to_numpy(dtype=np.float64),
                own["n_replicates"].to_numpy(dtype=np.int64),
                target,
            )
        out.append(
            (
                *key[1:], size, target, found.size, found.lower, found.upper,
                found.standard_error, found.position, sizes.min(), sizes.max(), found.n_sizes,
                found.misfit,
            )
        )  # fmt: skip
    names = [
        *by, "size", "target", "required", "lower", "upper", "standard_error", "position",
        "smallest", "largest", "n_sizes", "misfit",
    ]  # fmt: skip
    return pd.DataFrame(out, columns=names)
