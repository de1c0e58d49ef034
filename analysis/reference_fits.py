"""Standard survival distributions fitted to one endpoint of one arm, and how well a curve fits.

The distributions that calibrated models are held against: Weibull, log-normal,
log-logistic, piecewise exponential and a Weibull mixture cure model, fitted by
lifelines to exact times or, where progression is seen at scans, to the intervals
between them. Whatever model a curve comes from, `binned_log_likelihood` puts it
on one footing: its likelihood of the bin in which each patient's event was seen.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim.scenario import DAYS_PER_MONTH

__all__ = [
    "Goodness",
    "ReferenceFit",
    "binned_log_likelihood",
    "censoring_bounds",
    "fit_references",
    "goodness",
    "piecewise_hazard",
    "scan_edges",
]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
SurvivalFunction = Callable[[FloatArray], FloatArray]

WEEKS_PER_MONTH = DAYS_PER_MONTH / 7.0
BREAKPOINTS = (3.0, 6.0, 12.0, 24.0)
"""Months at which the hazard of the piecewise exponential may change."""

FEWEST_EVENTS = 5
"""In each piece; a breakpoint that leaves fewer on a side is left out."""

HALF_DAY = 0.5 / DAYS_PER_MONTH
"""What stands for a time of 0, at which densities have no value."""

AT_RISK = 0.1
"""Share of the patients that is followed at the horizon of `goodness`."""

FINE = 4096
"""Points of the grid of `goodness`, beside the steps of the estimate."""

TINY = 1e-300
_Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class ReferenceFit:
    """One distribution, fitted to one endpoint."""

    name: str
    parameters: Mapping[str, float]
    """By name; scales in months, hazards per month. Empty if not converged."""

    log_likelihood: float
    """Of densities for exact times, of bins for intervals. NaN if not converged."""

    aic: float
    bic: float
    """With the number of patients."""

    converged: bool
    interval_censored: bool
    time: FloatArray
    """Months, as asked for."""

    survival: FloatArray
    """Of the same; NaN if not converged."""

    hazard: FloatArray
    """Per month, of the same."""

    note: str = ""
    """What there was to say of the fit: why it failed, or a parameter at its bound."""

    def survival_at(self, when: FloatArray) -> FloatArray:
        """Survival at any months; 0 at ``inf`` but for the cured."""
        return _survival(self.name, self.parameters, np.asarray(when, dtype=np.float64))


@dataclass(frozen=True, slots=True)
class Goodness:
    """How far a survival function is from the Kaplan-Meier estimate."""

    horizon: float
    """Months up to which they were compared."""

    area: float
    """Integral of the absolute difference, months."""

    mean_difference: float
    """The same, divided by the horizon."""

    largest_difference: float
    """Kolmogorov's distance."""


def scan_edges(weeks: Sequence[float]) -> FloatArray:
    """Edges of the bins in which progression is seen, one bin for each scan.

    Parameters
    ----------
    weeks : sequence of float
        Scheduled scans, rising, baseline left out.

    Returns
    -------
    ndarray, shape (len(weeks) + 1,)
        Months: 0, the middle between each two scans, and after the last scan half the
        interval before it. A scan that is done early or late by less than half an
        interval stays in its bin.

    Raises
    ------
    ValueError
        If the weeks do not rise from above 0.

    Examples
    --------
    >>> (scan_edges([6.0, 12.0, 21.0]) * WEEKS_PER_MONTH).round(9).tolist()
    [0.0, 9.0, 16.5, 25.5]
    """
    scans = np.asarray(weeks, dtype=np.float64)
    gaps = np.diff(scans, prepend=0.0)
    if scans.size == 0 or not np.all(gaps > 0.0):
        raise ValueError(f"weeks of scans must rise from above 0, got {list(weeks)}")
    last = scans[-1] + gaps[-1] / 2.0
    inner = (scans[1:] + scans[:-1]) / 2.0
    return np.concatenate([[0.0], inner, [last]]) / WEEKS_PER_MONTH


def censoring_bounds(
    time: FloatArray, event: BoolArray, edges: FloatArray, scans: FloatArray | None = None
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Bins in which each patient's event may lie, as indices of edges.

    An event in (e_j, e_j+1] lies there; one at time 0 lies in the first bin. A
    censored patient is free up to an edge. Without `scans` this is the last edge not
    after the time of censoring. With them, one who was censored at or after the
    scan of a bin was free at this scan, hence for the bin, and is free up to its end.

    Parameters
    ----------
    time : ndarray, shape (N,)
        Follow-up, months.
    event : ndarray of bool, shape (N,)
        Whether it ended with the event.
    edges : ndarray, shape (J + 1,)
        Rising from 0, months.
    scans : ndarray, shape (J,), optional
        Month of the scan within each bin.

    Returns
    -------
    lower, upper : ndarray of int, shape (N,)
        Edge up to which the patient was free, and edge by which the event had
        happened; J + 1, beyond the last edge, if censored.

    Raises
    ------
    ValueError
        If an event lies beyond the last edge, or edges and scans do not fit together.
    """
    if edges[0] != 0.0 or not np.all(np.diff(edges) > 0.0):
        raise ValueError("edges must rise from 0")
    if np.any(time[event] > edges[-1]):
        raise ValueError(f"an event at {time[event].max():g} is beyond the last edge {edges[-1]:g}")
    bins = np.clip(np.searchsorted(edges, time, side="left"), 1, len(edges) - 1)
    free = np.searchsorted(edges, time, side="right") - 1
    if scans is not None:
        if len(scans) != len(edges) - 1 or np.any((scans <= edges[:-1]) | (scans > edges[1:])):
            raise ValueError("each bin must hold one scan")
        free = np.maximum(free, np.searchsorted(scans, time, side="right"))
    return np.where(event, bins - 1, free), np.where(event, bins, len(edges))


def binned_log_likelihood(
    time: FloatArray,
    event: BoolArray,
    edges: FloatArray,
    survival_at_edges: FloatArray,
    scans: FloatArray | None = None,
) -> float:
    """Log-likelihood of the bins in which events were seen.

    An event in (e_j, e_j+1] contributes log(S_j - S_j+1), a censored patient log S
    at the edge up to which it was known to be free, see `censoring_bounds`.

    Parameters
    ----------
    time, event, edges, scans
        As of `censoring_bounds`.
    survival_at_edges : ndarray, shape (J + 1,)
        Of the model, not rising. It may start below 1.

    Returns
    -------
    float
        ``-inf`` if an event lies where the model has none.

    Examples
    --------
    >>> edges, survival = np.array([0.0, 1.0, 2.0]), np.array([1.0, 0.5, 0.25])
    >>> time, event = np.array([0.5, 1.5]), np.array([True, False])
    >>> float(np.exp(binned_log_likelihood(time, event, edges, survival)))
    0.25
    """
    lower, upper = censoring_bounds(time, event, edges, scans)
    padded = np.append(survival_at_edges, 0.0)
    chance = padded[lower] - padded[upper]
    if np.any(chance <= 0.0):
        return float("-inf")
    return float(np.sum(np.log(chance)))


def goodness(
    time: FloatArray,
    event: BoolArray,
    survival_function: SurvivalFunction,
    horizon: float | None = None,
) -> Goodness:
    """Hold a survival function against the Kaplan-Meier estimate.

    Parameters
    ----------
    time : ndarray, shape (N,)
        Follow-up, months.
    event : ndarray of bool, shape (N,)
        Whether it ended with the event.
    survival_function : callable
        Survival at an array of months. It may have steps; such of its own are met to
        within a grid step, 1/4096 of the horizon.
    horizon : float, optional
        Months up to which they are compared; by default the last time at which
        a tenth of the patients are still at risk.

    Returns
    -------
    Goodness

    Examples
    --------
    >>> found = goodness(np.array([1.0, 2.0]), np.array([True, True]), np.ones_like, 2.0)
    >>> found.area, found.largest_difference
    (0.5, 1.0)
    """
    if horizon is None:
        horizon = float(np.sort(time)[len(time) - int(np.ceil(AT_RISK * len(time)))])
    steps, after = _kaplan_meier(time, event)
    grid = np.unique(np.concatenate([steps[steps <= horizon], np.linspace(0.0, horizon, FINE + 1)]))
    model = np.asarray(survival_function(grid), dtype=np.float64)
    # Between neighbours the estimate is that of the left one.
    height = np.concatenate([[1.0], after])[np.searchsorted(steps, grid, side="right")]
    begin, end = np.abs(model[:-1] - height[:-1]), np.abs(model[1:] - height[:-1])
    area = float(np.sum(np.diff(grid) * (begin + end) / 2.0))
    largest = max(float(begin.max()), float(end.max()), float(abs(model[-1] - height[-1])))
    return Goodness(horizon, area, area / horizon, largest)


def _kaplan_meier(time: FloatArray, event: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Event times and the estimate just after each."""
    when, events = np.unique(time[event], return_counts=True)
    at_risk = len(time) - np.searchsorted(np.sort(time), when, side="left")
    return when, np.cumprod(1.0 - events / at_risk, dtype=np.float64)


def piecewise_hazard(time: FloatArray, event: BoolArray, edges: FloatArray) -> pd.DataFrame:
    """Events over time at risk in each piece, with 95 % limits on the log scale.

    Parameters
    ----------
    time, event
        As of `goodness`.
    edges : ndarray, shape (J + 1,)
        Rising from 0, months.

    Returns
    -------
    DataFrame
        start, end, hazard, lower, upper (per month), events; pieces without an event left out.
    """
    rows = []
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        inside = (time > start) | (start == 0.0)
        events = int(np.count_nonzero(event & inside & (time <= end)))
        exposure = float(np.sum(np.clip(time, start, end) - start))
        if events and exposure > 0.0:
            hazard, spread = events / exposure, float(np.exp(_Z_95 / np.sqrt(events)))
            rows.append((start, end, hazard, hazard / spread, hazard * spread, events))
    return pd.DataFrame(rows, columns=["start", "end", "hazard", "lower", "upper", "events"])


def fit_references(
    time: FloatArray,
    event: BoolArray,
    grid: FloatArray,
    weeks: Sequence[float] | None = None,
    breakpoints: Sequence[float] = BREAKPOINTS,
) -> tuple[ReferenceFit, ...]:
    """Fit every reference distribution to one endpoint.

    Parameters
    ----------
    time : ndarray, shape (N,)
        Follow-up, months. A time of 0 counts as half a day where times are exact.
    event : ndarray of bool, shape (N,)
        Whether it ended with the event.
    grid : ndarray, shape (G,)
        Months at which survival and hazard are returned.
    weeks : sequence of float, optional
        Scheduled scans, which must reach beyond the last event. If given, the
        fit is to intervals between scans; if not, to exact times.
    breakpoints : sequence of float
        Of the piecewise exponential, months. Those that leave a piece with fewer than
        5 events are left out.

    Returns
    -------
    tuple of ReferenceFit
        Weibull, log-normal, log-logistic, piecewise exponential, Weibull mixture cure.
        A fit that did not converge is there, and says so.

    Notes
    -----
    Of intervals, lifelines maximises the same likelihood as `binned_log_likelihood`, and
    what is returned is that of the latter. Maxima are sought from the starting points
    of lifelines alone.
    """
    inner = _supported(time[event], breakpoints)
    bounds = None
    if weeks is not None:
        edges, scans = scan_edges(weeks), np.asarray(weeks, dtype=np.float64) / WEEKS_PER_MONTH
        bounds = (edges, scans, *censoring_bounds(time, event, edges, scans))
    return tuple(_fit(name, time, event, grid, inner, bounds) for name in _PARAMETERS)


def _supported(events: FloatArray, breakpoints: Sequence[float]) -> list[float]:
    """Breakpoints with enough events on either side."""
    kept: list[float] = []
    for point in sorted(breakpoints):
        before = np.count_nonzero(events <= point) - np.count_nonzero(
            events <= (kept[-1] if kept else -1.0)
        )
        if before >= FEWEST_EVENTS and np.count_nonzero(events > point) >= FEWEST_EVENTS:
            kept.append(float(point))
    return kept


_PARAMETERS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "Weibull": (("lambda_", "scale"), ("rho_", "shape")),
    "log-normal": (("mu_", "log_median"), ("sigma_", "log_sd")),
    "log-logistic": (("alpha_", "median"), ("beta_", "shape")),
    "piecewise exponential": (),
    "Weibull mixture cure": (
        ("cured_fraction_", "cured"),
        ("lambda_", "scale"),
        ("rho_", "shape"),
    ),
}
"""Names of the parameters in lifelines and here."""


def _fitter(name: str, inner: Sequence[float]) -> Any:
    import lifelines

    if name == "Weibull mixture cure":
        return lifelines.MixtureCureFitter(base_fitter=lifelines.WeibullFitter())
    if name == "piecewise exponential":
        # Without a breakpoint it is the exponential, which lifelines makes by another name.
        if not inner:
            return lifelines.ExponentialFitter()
        return lifelines.PiecewiseExponentialFitter(breakpoints=list(inner))
    return {
        "Weibull": lifelines.WeibullFitter,
        "log-normal": lifelines.LogNormalFitter,
        "log-logistic": lifelines.LogLogisticFitter,
    }[name]()


def _fit(
    name: str,
    time: FloatArray,
    event: BoolArray,
    grid: FloatArray,
    inner: Sequence[float],
    bounds: tuple[FloatArray, FloatArray, NDArray[np.intp], NDArray[np.intp]] | None,
) -> ReferenceFit:
    from lifelines.exceptions import ConvergenceError

    fitter = _fitter(name, inner)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            if bounds is None:
                fitter.fit(np.maximum(time, HALF_DAY), event)
            else:
                edges, _, lower, upper = bounds
                padded = np.append(edges, np.inf)
                fitter.fit_interval_censoring(padded[lower], padded[upper])
    except (ConvergenceError, ArithmeticError, np.linalg.LinAlgError, ValueError) as error:
        return _not_converged(name, grid, bounds is not None, str(error))
    parameters = _parameters(name, fitter, inner)
    if bounds is None:
        likelihood = float(fitter.log_likelihood_)
    else:
        edges, scans, _, _ = bounds
        likelihood = binned_log_likelihood(
            time, event, edges, _survival(name, parameters, edges), scans
        )
    if not np.isfinite(likelihood):
        return _not_converged(name, grid, bounds is not None, "the likelihood is not finite")
    count = len(inner) + 1 if name == "piecewise exponential" else len(parameters)
    return ReferenceFit(
        name=name,
        parameters=parameters,
        log_likelihood=likelihood,
        aic=2.0 * count - 2.0 * likelihood,
        bic=float(np.log(len(time))) * count - 2.0 * likelihood,
        converged=True,
        interval_censored=bounds is not None,
        time=grid,
        survival=_survival(name, parameters, grid),
        hazard=_hazard(name, parameters, grid),
        note=_first_sentence(str(said[0].message)) if said else "",
    )


def _not_converged(name: str, grid: FloatArray, interval: bool, why: str) -> ReferenceFit:
    nothing = np.full(len(grid), np.nan)
    return ReferenceFit(
        name, {}, np.nan, np.nan, np.nan, False, interval, grid, nothing, nothing,
        _first_sentence(why),
    )  # fmt: skip


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).partition(". ")[0].rstrip(".")


def _parameters(name: str, fitter: Any, inner: Sequence[float]) -> dict[str, float]:
    if name != "piecewise exponential":
        return {ours: float(getattr(fitter, theirs)) for theirs, ours in _PARAMETERS[name]}
    starts = [0.0, *inner]
    # lifelines has the mean time of each piece, not its rate.
    means = [fitter.lambda_] if not inner else fitter._fitted_parameters_
    return {
        f"hazard_from_{start:g}": 1.0 / float(mean)
        for start, mean in zip(starts, means, strict=True)
    }


def _pieces(parameters: Mapping[str, float]) -> tuple[FloatArray, FloatArray]:
    starts = np.array([float(key.removeprefix("hazard_from_")) for key in parameters])
    return starts, np.array(list(parameters.values()))


def _survival(name: str, parameters: Mapping[str, float], when: FloatArray) -> FloatArray:
    """Survival of each distribution, from its parameters."""
    if not parameters:
        return np.full(len(when), np.nan)
    if name == "piecewise exponential":
        starts, rates = _pieces(parameters)
        ends = np.append(starts[1:], np.inf)
        spent = np.clip(when[:, None], starts, ends) - starts
        return np.exp(-(spent @ rates))
    if name == "log-normal":
        from scipy.special import log_ndtr

        with np.errstate(divide="ignore"):
            z = (np.log(when) - parameters["log_median"]) / parameters["log_sd"]
        return np.exp(log_ndtr(-z))
    if name == "log-logistic":
        return 1.0 / (1.0 + (when / parameters["median"]) ** parameters["shape"])
    cured = parameters.get("cured", 0.0)
    uncured = np.exp(-((when / parameters["scale"]) ** parameters["shape"]))
    return cured + (1.0 - cured) * uncured


def _hazard(name: str, parameters: Mapping[str, float], when: FloatArray) -> FloatArray:
    """Hazard per month of each distribution; ``inf`` or 0 at time 0 is what it is."""
    if name == "piecewise exponential":
        starts, rates = _pieces(parameters)
        return rates[np.searchsorted(starts, when, side="right") - 1]
    survival = np.maximum(_survival(name, parameters, when), TINY)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(_density(name, parameters, when) / survival)


def _density(name: str, parameters: Mapping[str, float], when: FloatArray) -> FloatArray:
    if name == "log-normal":
        sd = parameters["log_sd"]
        z = (np.log(when) - parameters["log_median"]) / sd
        density = np.exp(-0.5 * z**2) / (np.sqrt(2.0 * np.pi) * sd * when)
        return np.where(when > 0.0, density, 0.0)
    if name == "log-logistic":
        shape, median = parameters["shape"], parameters["median"]
        odds = (when / median) ** shape
        return (shape / median) * (when / median) ** (shape - 1.0) / (1.0 + odds) ** 2
    shape, scale = parameters["shape"], parameters["scale"]
    rate = (shape / scale) * (when / scale) ** (shape - 1.0)
    uncured = np.exp(-((when / scale) ** shape))
    return (1.0 - parameters.get("cured", 0.0)) * rate * uncured
