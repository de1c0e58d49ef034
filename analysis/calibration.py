"""The resistance model fitted to the survival of one arm, and to what is published beside it.

Progression is seen at scans, so its likelihood is that of intervals: the chance
of an event between two moments midway between scans, which the day of a scan
cannot cross. Deaths are counted by the month. Published rates and medians enter
as standardised differences. What the data cannot say is left to stated priors,
and `profile_parameters` says which numbers those are.

Curves come from `sim.expected`; nothing here draws or simulates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from analysis.least_squares import Block, Fit, Priors, fit, profile
from sim.expected import ExpectedArm, cox_hazard_ratio, expected_arm, median_of, scan_times
from sim.parameter import Parameter
from sim.scenario import DAYS_PER_MONTH, Assessment, Scenario

__all__ = [
    "Calibration",
    "Profile",
    "PublishedValue",
    "SurvivalRows",
    "calibrate",
    "calibration_rows",
    "expected_curve",
    "expected_value",
    "profile_parameters",
    "survival_rows",
    "value_residual",
]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

FEW_POINTS = 128
"""Lattice points with which a fit goes most of the way."""

POINTS = 512
"""Lattice points in a class of patients while fitting."""

STEP = 0.1
"""Of the differences that stand for derivatives, on the scales: wide, because what the lattice
misses of a curve changes as a scale moves its points past scans. With 256 points and 0.02, time
scales were found too near the prior and their standard errors were half of what they should be."""

MONTHLY = np.concatenate(
    [np.arange(0.0, 12.0), np.arange(12.0, 36.0, 2.0), np.arange(36.0, 150.0, 4.0)]
)
"""Edges by which deaths are counted."""

IDENTIFIED = 3.84
"""Rise of the deviance beyond which a value is excluded: the 95 % point of chi-square, 1 df."""


@dataclass(frozen=True, slots=True)
class SurvivalRows:
    """Events among those at risk by interval, for one endpoint of one arm."""

    endpoint: str
    """`pfs` or `os`."""

    edges: FloatArray
    """Months, (J + 1,), from 0."""

    at_risk: FloatArray
    """Patients followed through the interval or with the event in it, (J,)."""

    events: FloatArray
    """(J,)."""

    def log_likelihood(self, survival: FloatArray) -> float:
        """Log likelihood of a survival curve at the edges, (J + 1,)."""
        hit = _chance(survival)
        return float(
            np.sum(_times_log(self.events, hit) + _times_log(self.at_risk - self.events, 1.0 - hit))
        )

    def residuals(self, survival: FloatArray) -> FloatArray:
        """Signed roots of the deviance of each interval, (J,)."""
        hit = np.clip(_chance(survival), 1e-9, 1.0 - 1e-9)
        missed = self.at_risk - self.events
        with np.errstate(divide="ignore", invalid="ignore"):
            up = np.where(
                self.events > 0, self.events * np.log(self.events / (self.at_risk * hit)), 0.0
            )
            down = np.where(missed > 0, missed * np.log(missed / (self.at_risk * (1.0 - hit))), 0.0)
        size = np.sqrt(np.maximum(2.0 * (up + down), 0.0))
        return np.asarray(np.sign(self.events - self.at_risk * hit) * size)


def _chance(survival: FloatArray) -> FloatArray:
    """Chance of the event in each interval for those who enter it."""
    return np.asarray(1.0 - survival[1:] / np.maximum(survival[:-1], 1e-300))


def _times_log(count: FloatArray, chance: FloatArray) -> FloatArray:
    """``count * log(chance)``, nil where the count is."""
    safe = np.where(count > 0, np.maximum(chance, 1e-300), 1.0)
    return np.asarray(count * np.log(safe))


def survival_rows(
    endpoint: str,
    time: FloatArray,
    event: BoolArray,
    edges: FloatArray,
    known: FloatArray | None = None,
) -> SurvivalRows:
    """Count events and patients at risk by interval.

    Parameters
    ----------
    endpoint : str
        `pfs` or `os`.
    time : ndarray, shape (N,)
        Months.
    event : ndarray of bool, shape (N,)
    edges : ndarray, shape (J + 1,)
        Months from 0; an event lies in the interval that it ends or is inside.
    known : ndarray, shape (J,), optional
        Moment in each interval from which a censored patient is known to have
        been free of the event throughout: the scan. The middle if left out.

    Returns
    -------
    SurvivalRows
        Intervals with anybody at risk.

    Examples
    --------
    An event in the first interval, one in the second, and one patient censored
    early in the second, who counts in the first only.

    >>> rows = survival_rows("os", np.array([0.5, 1.5, 1.1]), np.array([True, True, False]),
    ...                      np.array([0.0, 1.0, 2.0]))
    >>> rows.at_risk.tolist(), rows.events.tolist()
    ([3.0, 1.0], [1.0, 1.0])
    """
    last = max(float(time.max()), float(edges[1]))
    edges = edges[: int(np.searchsorted(edges, last)) + 1]
    middle = (edges[:-1] + edges[1:]) / 2.0 if known is None else known[: len(edges) - 1]
    place = np.clip(np.searchsorted(edges, time, side="left") - 1, 0, len(edges) - 2)
    # A censored patient counts in the interval only if known to be free to its end.
    through = np.where(event | (time >= middle[place] - 1e-9), place, place - 1)
    entered = np.bincount(through[through >= 0], minlength=len(edges) - 1)
    at_risk = np.cumsum(entered[::-1])[::-1].astype(np.float64)
    events = np.bincount(place[event], minlength=len(edges) - 1).astype(np.float64)
    used = int(np.flatnonzero(at_risk > 0).max()) + 1
    return SurvivalRows(endpoint, edges[: used + 1], at_risk[:used], events[:used])


def calibration_rows(
    curves: Mapping[str, tuple[FloatArray, BoolArray]], assessment: Assessment
) -> list[SurvivalRows]:
    """Counts of each endpoint: progression between moments midway between scans, deaths by month.

    Parameters
    ----------
    curves : mapping
        `pfs`, `os` or both, to times in months and whether they ended with the event.
    assessment : Assessment
        How progression was watched for; continuous watching counts it by month too.
    """
    found = []
    for endpoint, (time, event) in curves.items():
        edges, known = MONTHLY, None
        if endpoint == "pfs" and not assessment.continuous:
            scans = scan_times(assessment)
            inner = (scans[1:] + scans[:-1]) / 2.0
            edges = np.concatenate([[0.0, scans[0] / 2.0], inner])
            # A scan that is done some days early tells of the interval too.
            early = 2.0 * assessment.jitter_sd / DAYS_PER_MONTH
            known = np.concatenate([[scans[0] / 4.0], scans[:-1] - early])
        found.append(survival_rows(endpoint, time, event, edges, known))
    return found


# ---------------------------------------------------------------- published numbers


@dataclass(frozen=True, slots=True)
class PublishedValue:
    """A published result of an arm."""

    measure: str
    """As in a scenario's targets."""

    value: float
    standard_error: float
    """Sampling error and tolerance together; of the logarithm for a hazard ratio."""


def expected_value(arm: ExpectedArm, measure: str, control: ExpectedArm | None = None) -> float:
    """What a measure is expected to be.

    Parameters
    ----------
    arm : ExpectedArm
    measure : str
        `orr`, `bor_pd`, `completed`, `survival_after_completion_<months>`,
        `median_<endpoint>`, `rate_<endpoint>_<months>` or `hr_<endpoint>` with
        endpoint `pfs`, `os` or `duration_of_response`.
    control : ExpectedArm, optional
        For hazard ratios.

    Raises
    ------
    ValueError
        If there is no such measure.
    """
    simple = {
        "orr": "response_rate",
        "bor_pd": "progressive_disease_rate",
        "completed": "completed",
        "orr_completed": "response_rate_of_completers",
    }
    if measure in simple:
        return float(getattr(arm, simple[measure]))
    kind, _, rest = measure.partition("_")
    if measure.startswith("survival_after_completion_"):
        return arm.alive_after_completion(float(measure.rpartition("_")[2]))
    if kind == "rate":
        endpoint, _, month = rest.rpartition("_")
        return float(expected_curve(arm, endpoint, np.array([float(month)]))[0])
    if kind == "median":
        grid = np.arange(0.0, 90.0, 0.1 if rest == "pfs" else 0.25)
        return median_of(grid, expected_curve(arm, rest, grid))
    if kind == "hr" and control is not None:
        grid = HAZARD_RATIO_GRID
        return cox_hazard_ratio(
            expected_curve(control, rest, grid), expected_curve(arm, rest, grid)
        )
    raise ValueError(f"no expected value of '{measure}'")


HAZARD_RATIO_GRID = np.concatenate([np.arange(0.0, 24.0, 0.5), np.arange(24.0, 61.0, 1.5)])
"""Months between which a hazard ratio is taken from two curves: five years."""

CURVES: Mapping[str, Callable[[ExpectedArm, FloatArray], FloatArray]] = {
    "pfs": ExpectedArm.progression_free,
    "os": ExpectedArm.alive,
    "pfs2": ExpectedArm.second_progression_free,
    "duration_of_response": ExpectedArm.duration_of_response,
}


def expected_curve(arm: ExpectedArm, endpoint: str, time: FloatArray) -> FloatArray:
    """Expected curve (`pfs`, `os`, `pfs2` or `duration_of_response`) at some months."""
    if endpoint not in CURVES:
        raise ValueError(f"no expected curve of '{endpoint}'")
    return CURVES[endpoint](arm, time)


def value_residual(
    arm: ExpectedArm, published: PublishedValue, control: ExpectedArm | None = None
) -> float:
    """Expected less published, in standard errors.

    A median enters by the survival there, which is smooth where the median
    jumps from scan to scan: the mean of the curve from a fifth before to a
    fifth after the published median, against a half.
    """
    measure, value = published.measure, published.value
    if measure.startswith("median_"):
        around = value * np.linspace(0.8, 1.2, 7)
        survival = float(np.mean(expected_curve(arm, measure.removeprefix("median_"), around)))
        # A constant hazard with this median falls by log(2) / 2 / median per month there.
        return (survival - 0.5) / (published.standard_error * np.log(2.0) / 2.0 / value)
    found = expected_value(arm, measure, control)
    if measure.startswith("hr_"):
        return float(np.log(found / value) / published.standard_error)
    return (found - value) / published.standard_error


# ---------------------------------------------------------------- one arm


@dataclass(frozen=True)
class Calibration:
    """A fitted arm."""

    parameters: tuple[Parameter, ...]
    rows: tuple[SurvivalRows, ...]
    published: tuple[PublishedValue, ...]
    fit: Fit
    blocks: tuple[Block, ...]
    scenario: Callable[[Sequence[float]], Scenario]
    strategy: str

    @property
    def values(self) -> FloatArray:
        """The estimates, (P,)."""
        return np.array([p.value(x) for p, x in zip(self.parameters, self.fit.x, strict=True)])

    @property
    def standard_errors(self) -> FloatArray:
        """Of the estimates, by the delta method, (P,)."""
        slopes = [p.slope(x) for p, x in zip(self.parameters, self.fit.x, strict=True)]
        return np.asarray(np.sqrt(np.diag(self.fit.covariance)) * np.array(slopes))

    def arm(self, free: FloatArray | None = None, n_points: int = 1024) -> ExpectedArm:
        """The expected record at the estimates, or at other values on the scales."""
        x = self.fit.x if free is None else free
        values = [p.value(v) for p, v in zip(self.parameters, x, strict=True)]
        return expected_arm(self.scenario(values), self.strategy, n_points)


def calibrate(
    scenario: Callable[[Sequence[float]], Scenario],
    strategy: str,
    parameters: Sequence[Parameter],
    rows: Sequence[SurvivalRows],
    published: Sequence[PublishedValue] = (),
) -> Calibration:
    """Fit the parameters of an arm.

    Parameters
    ----------
    scenario : callable
        From the values of the parameters to a scenario.
    strategy : str
        The arm in it.
    parameters : sequence of Parameter
        With their priors; the search begins at the means.
    rows : sequence of SurvivalRows
        One for each endpoint. The endpoints count as independent of each
        other, as digitised curves must; where they are of the same patients,
        standard errors of what both inform are somewhat too small.
    published : sequence of PublishedValue, optional
        Of the same arm.

    Returns
    -------
    Calibration
    """

    def residuals(free: FloatArray, n_points: int) -> FloatArray:
        values = [p.value(x) for p, x in zip(parameters, free, strict=True)]
        arm = expected_arm(scenario(values), strategy, n_points)
        found = [row.residuals(expected_curve(arm, row.endpoint, row.edges)) for row in rows]
        return np.concatenate([*found, [value_residual(arm, one) for one in published]])

    def blocks(n_points: int) -> tuple[Block, ...]:
        return (Block(np.arange(len(parameters)), partial(residuals, n_points=n_points)),)

    means = np.array([p.free(p.mean) for p in parameters])
    priors = Priors.of_each(means, np.array([p.sd for p in parameters]))
    near = fit(blocks(FEW_POINTS), priors, means, tolerance=1e-3, step=STEP)
    found = fit(blocks(POINTS), priors, near.x, step=STEP)
    return Calibration(
        tuple(parameters), tuple(rows), tuple(published), found, blocks(POINTS), scenario, strategy
    )


@dataclass(frozen=True, slots=True)
class Profile:
    """Deviance over one parameter."""

    parameter: Parameter
    values: FloatArray
    """In the unit of the number, (V,)."""

    deviance: FloatArray
    """Above the least, (V,)."""

    @property
    def identified(self) -> bool:
        """Whether the data exclude values on both sides that the prior holds possible."""
        ends = self.deviance[0], self.deviance[-1]
        return bool(min(ends) > IDENTIFIED)


def profile_parameters(calibration: Calibration, n_values: int = 7) -> list[Profile]:
    """Profile the deviance over each parameter, across what its prior holds possible.

    Parameters
    ----------
    calibration : Calibration
    n_values : int, default 7
        For each parameter, from the 2.5 % to the 97.5 % point of its prior, or
        wider where the estimate lies outside; besides, the estimate and a
        standard error to either side of it.

    Returns
    -------
    list of Profile
    """
    found = []
    for i, parameter in enumerate(calibration.parameters):
        centre, half = parameter.free(parameter.mean), 1.96 * parameter.sd
        best = float(calibration.fit.x[i])
        low, high = min(centre - half, best - half), max(centre + half, best + half)
        sd = float(np.sqrt(calibration.fit.covariance[i, i]))
        near = [best + sd * step for step in (-1.0, 0.0, 1.0)]
        grid = np.unique([*np.linspace(low, high, n_values), *near])
        deviance = profile(calibration.blocks, calibration.fit, i, grid)
        values = np.array([parameter.value(x) for x in grid])
        found.append(Profile(parameter, values, deviance - min(0.0, float(deviance.min()))))
    return found
