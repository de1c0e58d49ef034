"""What a sweep will take, by the costs of some of its cells: arithmetic, and no measuring.

Costs of cells that were not measured are predicted by least squares on the
swept values; that of the whole is their sum. Its standard error comes from the
differences between cells that the prediction leaves, and holds as long as the
machine is as it was.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Estimate", "Jobs", "Prediction", "best_jobs", "makespan", "predict", "spoken_bytes",
    "spoken_time", "spread_order",
]  # fmt: skip

FloatArray = NDArray[np.float64]

IMPROVES = 0.9
"""Of the squared error in cells left out, at most, with a swept value that is taken up."""

CELLS_PER_COEFFICIENT = 3
"""Measured cells, at least; with fewer the error of a prediction looks smaller than it is."""

JOBS_PER_WORKER = 4
"""Jobs for each worker of a scheduler, where they are long enough: nodes are not equally fast."""

WASTE = 0.01
"""Overhead of a job, at most, where its length is free; and time that makes no difference."""

TRIED = 60
"""Numbers of jobs that are compared."""

EXACT_SCHEDULE = 50_000
"""Pieces of work whose places are worked out one by one; more hardly leave a worker idle."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its standard error; the error is NaN where it is not known."""

    value: float
    error: float

    @property
    def relative(self) -> float:
        """The error as a share of the value."""
        return self.error / self.value if self.value else math.nan

    def times(self, factor: float) -> Estimate:
        """The same in other units."""
        return Estimate(self.value * factor, self.error * factor)

    def plus(self, other: Estimate) -> Estimate:
        """The sum, where the errors are independent."""
        return Estimate(self.value + other.value, math.hypot(self.error, other.error))


# ---------------------------------------------------------------- cells that were not measured


@dataclass(frozen=True, slots=True)
class Prediction:
    """A quantity of every cell, (N,), and its sum."""

    values: FloatArray
    """As measured, where it was."""

    fitted: FloatArray
    """As predicted, also where it was measured."""

    total: Estimate
    n_coefficients: int = 0


def predict(
    axes: Sequence[FloatArray],
    scale: FloatArray,
    at: Sequence[int],
    measured: Sequence[float],
    *,
    spent: int = 0,
) -> Prediction:
    """Predict a quantity of every cell from some that were measured.

    What is regressed is the quantity divided by `scale`. An axis is taken up
    if it makes the prediction of cells that are left out clearly better, and if
    there are `CELLS_PER_COEFFICIENT` measured cells for each coefficient.

    Parameters
    ----------
    axes : sequence of (N, k) arrays
        What a swept value contributes: the number itself, or its levels.
    scale : (N,) array
        To which the quantity is proportional if nothing else is known.
    at, measured : sequences
        Cells, which may come repeatedly, and what was measured.
    spent : int
        Coefficients that were already fitted to the same cells, for `scale`.
    """
    cells, which, counts = np.unique(np.asarray(at), return_inverse=True, return_counts=True)
    ratio = np.asarray(measured, dtype=np.float64) / scale[at]
    mean = np.bincount(which, weights=ratio) / counts
    chosen = _chosen([axis[cells] for axis in axes], mean)
    design = np.hstack([np.ones((len(scale), 1)), *(axes[i] for i in chosen)])
    inside = design[cells]
    weights = np.linalg.pinv(inside)
    fitted = np.clip(design @ (weights @ mean), 0.5 * mean.min(), 2.0 * mean.max())
    total, n_coefficients = scale * fitted, inside.shape[1]
    values = total.copy()
    values[cells] = scale[cells] * mean
    left = mean - inside @ (weights @ mean)
    free = len(cells) - n_coefficients - max(spent - 1, 0)
    if free < 1:
        return Prediction(values, total, Estimate(float(values.sum()), math.nan), n_coefficients)
    between = float(left @ left) / free
    # Of cells measured more than once, what differs is the clock alone.
    repeats = len(ratio) - len(cells)
    noise = float(((ratio - mean[which]) ** 2).sum()) / repeats if repeats else between
    lever = (scale @ design) @ weights
    unknown = 1.0 - len(cells) / len(scale)
    variance = unknown * between * float(lever @ lever)
    variance += (1.0 - unknown) * noise * float((scale[cells] ** 2 / counts).sum())
    known = Estimate(float(values.sum()), math.sqrt(variance))
    return Prediction(values, total, known, n_coefficients)


def _chosen(axes: Sequence[FloatArray], mean: FloatArray) -> list[int]:
    """Which axes help to predict the cells that were measured."""
    chosen: list[int] = []
    design = np.ones((len(mean), 1))
    error = _left_out(design, mean)
    while len(chosen) < len(axes):
        remaining = [i for i in range(len(axes)) if i not in chosen]
        errors = [_left_out(np.hstack([design, axes[i]]), mean) for i in remaining]
        best = int(np.argmin(errors))
        if not errors[best] < IMPROVES * error:
            break
        error = errors[best]
        chosen.append(remaining[best])
        design = np.hstack([design, axes[chosen[-1]]])
    return chosen


def _left_out(design: FloatArray, values: FloatArray) -> float:
    """Sum of squared errors in predicting each value from the others."""
    if (
        len(values) < CELLS_PER_COEFFICIENT * design.shape[1]
        or np.linalg.matrix_rank(design) < design.shape[1]
    ):
        return math.inf
    hat = design @ np.linalg.pinv(design)
    own = np.diag(hat)
    if own.max() > 1.0 - 1e-9:
        return math.inf
    return float((((values - hat @ values) / (1.0 - own)) ** 2).sum())


def spread_order(n: int) -> list[int]:
    """The numbers below `n` so that any first few of them lie far apart.

    Examples
    --------
    >>> spread_order(8)
    [7, 4, 1, 6, 3, 0, 5, 2]
    """
    # Steps of a golden section, in whole numbers; one without a common divisor meets every number.
    step = max(round(n * (math.sqrt(5.0) - 1.0) / 2.0), 1)
    while math.gcd(step, n) > 1:
        step += 1
    return [(n - 1 + i * step) % n for i in range(n)]


# ---------------------------------------------------------------- workers and jobs


def makespan(seconds: Sequence[float] | FloatArray, n_workers: int) -> float:
    """Time until all is done, each worker taking the next piece when it is free.

    Examples
    --------
    >>> makespan([3.0, 1.0, 1.0, 1.0], 2)
    3.0
    """
    if len(seconds) == 0:
        return 0.0
    if n_workers >= len(seconds):
        return float(np.max(seconds))
    if n_workers == 1:
        return float(np.sum(seconds))
    if len(seconds) > EXACT_SCHEDULE:
        return float(np.sum(seconds)) / n_workers + float(np.mean(seconds)) / 2.0
    free = [0.0] * n_workers
    for own in seconds:
        heapq.heapreplace(free, free[0] + float(own))
    return max(free)


@dataclass(frozen=True, slots=True)
class Jobs:
    """A sweep as jobs of a scheduler, each a shard."""

    n_jobs: int
    n_cells: int
    """Cells of the largest."""

    seconds: float
    """Of work in a job, mean."""

    longest: float
    """Of work in the longest."""

    wall: float
    """Until the last has ended, with overhead."""

    overhead: float
    """Share of the workers' time that is not work on cells."""


def _jobs(seconds: FloatArray, n_jobs: int, n_workers: int, per_job: float) -> Jobs:
    # As `Definition.shard`: neighbouring cells go to different jobs.
    shard = np.arange(len(seconds)) % n_jobs
    work = np.bincount(shard, weights=seconds).astype(np.float64)
    total = float(work.sum())
    return Jobs(
        n_jobs, -(-len(seconds) // n_jobs), total / n_jobs, float(work.max()),
        makespan(work + per_job, n_workers), n_jobs * per_job / (n_jobs * per_job + total),
    )  # fmt: skip


def best_jobs(
    seconds: FloatArray,
    n_workers: int,
    per_job: float,
    *,
    least: float | None = None,
    max_jobs: int = 1001,
) -> Jobs:
    """Into how many jobs a sweep is best cut.

    Jobs are as many as `JOBS_PER_WORKER` for each worker, or as are long
    enough. Of numbers between that and half of it the largest is taken with
    which everything is ready about as early as with any: where the number of jobs
    and the length of an axis have a divisor in common, all large cells can
    come into one job.

    Parameters
    ----------
    seconds : (N,) array
        Of work on each cell.
    n_workers : int
        Jobs that run at the same time.
    per_job : float
        Seconds that a job takes beside its cells.
    least : float, optional
        Seconds of work in a job, at least; if not given, so much that
        overhead is less than `WASTE`.
    max_jobs : int
        Most that are allowed.
    """
    least = per_job / WASTE if least is None else least
    long_enough = int(seconds.sum() / least) if least > 0.0 else len(seconds)
    most = max(min(len(seconds), max_jobs, long_enough, JOBS_PER_WORKER * n_workers), 1)
    fewest = max(most // 2, min(most, n_workers), 1)
    tried = np.unique(np.linspace(fewest, most, TRIED).round().astype(int))
    found = [_jobs(seconds, int(n), n_workers, per_job) for n in tried[::-1]]
    first = min(jobs.wall for jobs in found)
    return next(jobs for jobs in found if jobs.wall <= (1.0 + WASTE) * first)


# ---------------------------------------------------------------- in words


def spoken_time(seconds: float) -> str:
    """A duration in words, to two digits.

    Examples
    --------
    >>> spoken_time(0.42), spoken_time(3.2), spoken_time(75), spoken_time(5000)
    ('0.4 s', '3.2 s', '75 s', '83 min')
    >>> spoken_time(400000)
    '4.6 days'
    """
    for limit, factor, unit in ((100, 1, "s"), (6000, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            value = seconds / factor
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"


def spoken_bytes(n: float) -> str:
    """A size in words, to two or three digits.

    Examples
    --------
    >>> spoken_bytes(812), spoken_bytes(3.21e6), spoken_bytes(4.5e9)
    ('0.8 kB', '3.2 MB', '4.5 GB')
    """
    for limit, factor, unit in ((1e6, 1e3, "kB"), (1e9, 1e6, "MB"), (1e12, 1e9, "GB")):
        if n < limit:
            value = n / factor
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
    return f"{n / 1e12:.1f} TB"
