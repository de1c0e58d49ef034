"""Closed forms and quadrature: the laws that simulated cohorts must follow.

Nothing here draws a random number. Each function computes a probability, a
mean or a survival curve of the model, or of a special case of it, by a closed
form where there is one and by quadrature where there is not. The formulas are
written out anew and share no code with the simulator, so that the two can
disagree; of `sim` only the types that hold numbers are used.

Conventions
-----------
Time is in months since randomisation, hazards are events per patient-month. A
survival function is the chance of no event *up to and including* a time, so it
is right-continuous where it jumps. Quadrature is accurate to about 1e-9 unless
a function says otherwise.

SciPy takes a while to load, so it is imported by the functions that use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.hazard import Clock, PiecewiseClock, WeibullClock
from sim.scenario import Activity, Agent, Dose, Scenario, Strategy, ToxicityHazard

__all__ = [
    "Hazard",
    "PiecewiseTrial",
    "activity_survival",
    "additive_survival",
    "average_os_hazard_ratio",
    "bivariate_normal_cdf",
    "constant_hazard",
    "event_weighted_hazard_ratio",
    "expected_events",
    "expected_progression_free",
    "expected_resistance_free",
    "first_cause_incidence",
    "highest_single_agent_survival",
    "hypoexponential_survival",
    "illness_death_correlation",
    "illness_death_os_survival",
    "independent_action_survival",
    "mixture_survival",
    "os_hazard",
    "os_quantile",
    "os_survival",
    "pearson_of_spearman",
    "pfs_os_correlation",
    "pfs_os_kendall",
    "pfs_survival",
    "piecewise_hazard",
    "primary_share",
    "scan_delayed_survival",
    "stop_multiplier",
    "synergy_survival",
    "weibull_hazard",
]

FloatArray = NDArray[np.float64]


# ---------------------------------------------------------------- hazards


@dataclass(frozen=True, slots=True)
class Hazard:
    """A hazard by its cumulative form and the inverse of that."""

    cumulative: Callable[[ArrayLike], FloatArray]
    """Cumulative hazard at times in months, dimensionless, in the shape of its argument."""

    inverse: Callable[[ArrayLike], FloatArray]
    """Months at which the cumulative hazard reaches a value, ``inf`` where it never does."""

    breaks: tuple[float, ...] = ()
    """Months at which the hazard jumps: where quadrature must not step across."""

    def survival(self, time: ArrayLike) -> FloatArray:
        """Chance of no event up to `time`, in its shape."""
        return np.exp(-self.cumulative(time))


def constant_hazard(rate: float) -> Hazard:
    """A hazard that never changes.

    Parameters
    ----------
    rate : float
        Events per month, at least 0.

    Returns
    -------
    Hazard

    Examples
    --------
    >>> import numpy as np
    >>> float(constant_hazard(np.log(2) / 10).survival(10.0).round(12))
    0.5
    """
    return piecewise_hazard([0.0], [rate])


def weibull_hazard(shape: float, scale: float, start: float = 0.0) -> Hazard:
    """Cumulative hazard ``((t - start) / scale) ** shape``, nil before `start`.

    Parameters
    ----------
    shape, scale : float
        Weibull shape, and scale in months.
    start : float, default 0
        Months before which nothing happens.

    Returns
    -------
    Hazard

    Examples
    --------
    >>> weibull_hazard(1.5, 10.0, start=2.0).cumulative([1.0, 12.0]).tolist()
    [0.0, 1.0]
    """

    def cumulative(time: ArrayLike) -> FloatArray:
        return (np.maximum(np.asarray(time, dtype=np.float64) - start, 0.0) / scale) ** shape

    def inverse(value: ArrayLike) -> FloatArray:
        return start + scale * np.asarray(value, dtype=np.float64) ** (1.0 / shape)

    return Hazard(cumulative, inverse, (start,) if start > 0.0 else ())


def piecewise_hazard(starts: ArrayLike, rates: ArrayLike, start: float = 0.0) -> Hazard:
    """A hazard that is constant in intervals; the last interval never ends.

    Parameters
    ----------
    starts : array_like, shape (J,)
        Starts of the intervals, months since `start`, increasing from 0.
    rates : array_like, shape (J,)
        Events per month in each interval.
    start : float, default 0
        Months before which nothing happens.

    Returns
    -------
    Hazard

    Examples
    --------
    A hazard of 0.1 for three months, then 0.06.

    >>> delayed = piecewise_hazard([0.0, 3.0], [0.1, 0.06])
    >>> delayed.cumulative([3.0, 8.0]).round(12).tolist()
    [0.3, 0.6]
    >>> delayed.inverse([0.6]).round(12).tolist()
    [8.0]
    """
    edges = np.asarray(starts, dtype=np.float64)
    level = np.asarray(rates, dtype=np.float64)
    knots = np.concatenate([[0.0], np.cumsum(level[:-1] * np.diff(edges))])
    ends = np.append(edges[1:], np.inf)

    def cumulative(time: ArrayLike) -> FloatArray:
        since = np.maximum(np.asarray(time, dtype=np.float64) - start, 0.0)[..., None]
        spent = np.minimum(since, ends) - edges
        with np.errstate(invalid="ignore"):
            parts = np.where((spent > 0.0) & (level > 0.0), level * spent, 0.0)
        return np.asarray(parts.sum(axis=-1))

    def inverse(value: ArrayLike) -> FloatArray:
        total = np.asarray(value, dtype=np.float64)
        # The first interval in which the value is reached, so a gap without hazard is not entered.
        reached = total[..., None] <= np.append(knots[1:], np.inf if level[-1] > 0.0 else knots[-1])
        interval = np.argmax(reached, axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            months = edges[interval] + (total - knots[interval]) / level[interval]
        months = np.where(total == knots[interval], edges[interval], months)
        return start + np.where(np.any(reached, axis=-1), months, np.inf)

    inner = tuple(float(edge + start) for edge in edges if edge + start > 0.0)
    return Hazard(cumulative, inverse, inner)


def stop_multiplier(months_on_drug: ArrayLike, effect: float, decay: float) -> FloatArray:
    """Factor on the acquired hazard after the backbone was stopped.

    Parameters
    ----------
    months_on_drug : array_like
        Months on drug when it stopped.
    effect : float
        Log of the factor after stopping at once.
    decay : float
        Months on drug over which that log falls by a factor e.

    Returns
    -------
    ndarray
        Dimensionless, in the shape of `months_on_drug`.

    Examples
    --------
    >>> stop_multiplier([12.0, 24.0], effect=1.19, decay=16.8).round(2).tolist()
    [1.79, 1.33]
    """
    return np.exp(effect * np.exp(-np.asarray(months_on_drug, dtype=np.float64) / decay))


# ---------------------------------------------------------------- mixtures and competing causes


def mixture_survival(shares: ArrayLike, survivals: ArrayLike) -> FloatArray:
    """Survival of a population made of classes.

    Parameters
    ----------
    shares : array_like, shape (C,)
        Share of each class, adding up to 1.
    survivals : array_like, shape (C, ...)
        Survival of each class. A class that never has the event has survival 1.

    Returns
    -------
    ndarray, shape (...)

    Examples
    --------
    A cured share of 0.3 beside an exponential with median 8.

    >>> mixture_survival([0.3, 0.7], [[1.0, 1.0], [0.5, 0.25]]).round(12).tolist()
    [0.65, 0.475]
    """
    weights = np.asarray(shares, dtype=np.float64)
    if abs(float(weights.sum()) - 1.0) > 1e-9:
        raise ValueError(f"shares must add up to 1, got {weights.sum():g}")
    return np.asarray(np.tensordot(weights, np.asarray(survivals, dtype=np.float64), axes=1))


def first_cause_incidence(
    time: ArrayLike, hazard: Hazard, shares: ArrayLike, ratios: ArrayLike | None = None
) -> FloatArray:
    """Chance that each of several competing mechanisms has come first by `time`.

    Mechanism k has the hazard ``shares[k] * ratios[k] * h(t)``, so which comes
    first is independent of when.

    Parameters
    ----------
    time : array_like, shape (...)
        Months; ``inf`` gives the final shares of the causes.
    hazard : Hazard
        The common hazard h.
    shares, ratios : array_like, shape (K,)
        Share of the hazard, and ratio on it (1 where left out).

    Returns
    -------
    ndarray, shape (K, ...)

    Examples
    --------
    >>> common = weibull_hazard(1.4, 12.0)
    >>> final = first_cause_incidence(np.inf, common, [0.5, 0.3, 0.2], [0.4, 1.0, 1.0])
    >>> final.round(4).tolist()
    [0.2857, 0.4286, 0.2857]
    """
    weights = np.asarray(shares, dtype=np.float64)
    if ratios is not None:
        weights = weights * np.asarray(ratios, dtype=np.float64)
    total = float(weights.sum())
    happened = -np.expm1(-total * hazard.cumulative(time))
    return np.multiply.outer(weights / total, happened)


def hypoexponential_survival(time: ArrayLike, rates: Sequence[float]) -> FloatArray:
    """Survival of a sum of independent exponential times with different rates.

    Parameters
    ----------
    time : array_like
        Months.
    rates : sequence of float
        Rate of each term, per month, all different.

    Returns
    -------
    ndarray
        In the shape of `time`.

    Examples
    --------
    >>> hypoexponential_survival([0.0, 5.0], [0.1]).round(6).tolist()
    [1.0, 0.606531]
    """
    if len(set(rates)) != len(rates):
        raise ValueError(f"rates must all differ, got {list(rates)}")
    t = np.asarray(time, dtype=np.float64)
    total = np.zeros_like(t)
    for rate in rates:
        others = [other / (other - rate) for other in rates if other != rate]
        total = total + np.prod(others) * np.exp(-rate * t)
    return np.asarray(total)


# ---------------------------------------------------------------- illness and death


def pfs_survival(time: ArrayLike, h01: float, h02: float) -> FloatArray:
    """Progression-free survival of the illness-death model with constant hazards.

    Parameters
    ----------
    time : array_like
        Months.
    h01, h02 : float
        Hazards of progression, and of death without it.

    Returns
    -------
    ndarray
        In the shape of `time`.
    """
    return np.exp(-(h01 + h02) * np.asarray(time, dtype=np.float64))


def os_survival(time: ArrayLike, h01: float, h02: float, h12: float) -> FloatArray:
    """Overall survival of the illness-death model with constant hazards.

    Parameters
    ----------
    time : array_like
        Months.
    h01, h02, h12 : float
        Hazards of progression, of death without it, and of death after it.
        ``h12 = h01 + h02`` is no exception: the formula is written without a
        division by their difference.

    Returns
    -------
    ndarray
        In the shape of `time`.

    References
    ----------
    .. [1] Meller, Beyersmann & Rufibach (2019), Statistics in Medicine
       38:4270-4289, https://doi.org/10.1002/sim.8295.

    Examples
    --------
    >>> os_survival([0.5, 1.0, 3.0], 0.7, 0.5, 0.8).round(4).tolist()
    [0.7615, 0.5604, 0.1383]
    >>> float(os_survival(1.0, 0.3, 0.2, 0.5).round(6))
    0.78849
    """
    t = np.asarray(time, dtype=np.float64)
    return pfs_survival(t, h01, h02) + _progressed_alive(t, h01, h02, h12)


def _progressed_alive(t: FloatArray, h01: float, h02: float, h12: float) -> FloatArray:
    """``h01`` times the convolution of the two exponentials, without cancellation."""
    slow, gap = min(h01 + h02, h12), abs(h01 + h02 - h12)
    x = gap * t
    with np.errstate(invalid="ignore", divide="ignore"):
        averaged = np.where(x > 0.0, -np.expm1(-x) / x, 1.0)
    return np.asarray(h01 * t * np.exp(-slow * t) * averaged)


def os_hazard(time: ArrayLike, h01: float, h02: float, h12: float) -> FloatArray:
    """Hazard of death in the illness-death model with constant hazards.

    Parameters
    ----------
    time, h01, h02, h12
        As for `os_survival`.

    Returns
    -------
    ndarray
        Deaths per month among those alive, in the shape of `time`.

    Examples
    --------
    >>> os_hazard([1.0, 2.0, 3.0], 0.2, 1.1, 0.8).round(7).tolist()
    [1.0381919, 0.9777975, 0.9253826]
    """
    t = np.asarray(time, dtype=np.float64)
    well, ill = pfs_survival(t, h01, h02), _progressed_alive(t, h01, h02, h12)
    return np.asarray((h02 * well + h12 * ill) / (well + ill))


def os_quantile(level: ArrayLike, h01: float, h02: float, h12: float) -> FloatArray:
    """Time at which overall survival falls to `level`, constant hazards.

    Parameters
    ----------
    level : array_like
        Survival, in (0, 1]: 0.5 gives the median.
    h01, h02, h12
        As for `os_survival`; death must be certain in the end.

    Returns
    -------
    ndarray
        Months, in the shape of `level`.

    Examples
    --------
    >>> float(os_quantile(0.5, 0.2, 0.5, 2.1).round(6))
    1.144541
    """
    from scipy.optimize import brentq

    def one(value: float) -> float:
        upper = 1.0
        while float(os_survival(upper, h01, h02, h12)) > value:
            upper *= 2.0
            if upper > 1e12:
                raise ValueError(f"overall survival never falls to {value:g}")
        found = brentq(lambda t: float(os_survival(t, h01, h02, h12)) - value, 0.0, upper)
        return float(found)

    return np.vectorize(one, otypes=[np.float64])(level)


def pfs_os_correlation(h01: float, h02: float, h12: float) -> float:
    """Pearson correlation of PFS and OS times, illness-death model with constant hazards.

    PFS is exponential, and the time from progression to death is independent
    of it, so their covariance is the variance of PFS.

    Parameters
    ----------
    h01, h02, h12
        As for `os_survival`.

    Returns
    -------
    float

    References
    ----------
    .. [1] Meller, Beyersmann & Rufibach (2019), Statistics in Medicine
       38:4270-4289, https://doi.org/10.1002/sim.8295.

    Examples
    --------
    >>> round(pfs_os_correlation(0.3, 0.28, 0.5), 10)
    0.7015169166
    """
    total = h01 + h02
    progressed = h01 / total
    after = progressed * (2.0 - progressed) / h12**2
    return float((1.0 / total) / np.sqrt(1.0 / total**2 + after))


def pfs_os_kendall(h01: float, h02: float, h12: float) -> float:
    """Kendall's rank correlation of PFS and OS times, illness-death model with constant hazards.

    Of two patients, let the second progress or die later, by a time W, which is
    exponential with rate H = h01 + h02 because PFS is. They are discordant where
    the first then lives on for more than W longer than the second does. With
    p = h01 / H the chance that somebody progresses before death, a difference
    in residual life above w has the chance ``p (1 - p / 2) exp(-h12 w)``,
    whence ``tau = 1 - p (2 - p) H / (H + h12)``.

    Parameters
    ----------
    h01, h02, h12
        As for `os_survival`.

    Returns
    -------
    float

    Examples
    --------
    Where nobody progresses the two times are one.

    >>> pfs_os_kendall(0.0, 0.3, 0.5)
    1.0
    >>> round(pfs_os_kendall(0.11, 0.03, 0.10), 6)
    0.443452
    """
    total = h01 + h02
    progressed = h01 / total
    return 1.0 - progressed * (2.0 - progressed) * total / (total + h12)


def average_os_hazard_ratio(
    control: tuple[float, float, float],
    experimental: tuple[float, float, float],
    power: float = 0.5,
    upper: float = np.inf,
) -> float:
    """Average hazard ratio of death of two illness-death models with constant hazards.

    The mean of the experimental hazard over that of the control hazard, both
    weighted by the product of the two survival functions to a power.

    Parameters
    ----------
    control, experimental : tuple of float
        Hazards (h01, h02, h12) of each arm.
    power : float, default 0.5
        Power of the weight: above 0.5 earlier times count more.
    upper : float, default infinite
        Month at which averaging ends.

    Returns
    -------
    float

    References
    ----------
    .. [1] Kalbfleisch & Prentice (1981), Biometrika 68:105-112, on average
       hazard ratios.

    Examples
    --------
    >>> round(average_os_hazard_ratio((0.1, 0.4, 0.3), (0.06, 0.3, 0.3), upper=100.0), 7)
    0.8038991
    """
    from scipy.integrate import quad

    def weighted(arm: tuple[float, float, float]) -> float:
        def integrand(t: float) -> float:
            weight = (os_survival(t, *control) * os_survival(t, *experimental)) ** power
            return float(os_hazard(t, *arm) * weight)

        # Beyond 60 mean times nothing is left, and the ratio of two zeros is no hazard.
        last = min(upper, 60.0 / (power * min(min(control[1:]), min(experimental[1:]))))
        return float(quad(integrand, 0.0, last, epsabs=0.0, epsrel=1e-11, limit=500)[0])

    return weighted(experimental) / weighted(control)


def illness_death_os_survival(
    time: ArrayLike, onset: Hazard, before: Hazard, after: Hazard
) -> FloatArray:
    """Overall survival of an illness-death model with any hazards.

    The hazard of death after progression runs on the clock since
    randomisation: after progression at u it is that of `after` from u on.

    Parameters
    ----------
    time : array_like
        Months.
    onset, before, after : Hazard
        Of progression, of death without it, and of death after it.

    Returns
    -------
    ndarray
        In the shape of `time`.

    Examples
    --------
    >>> three = [constant_hazard(h) for h in (0.7, 0.5, 0.8)]
    >>> illness_death_os_survival([0.5, 1.0, 3.0], *three).round(4).tolist()
    [0.7615, 0.5604, 0.1383]
    """

    def one(t: float) -> float:
        u, weight = _onset_nodes(t, onset, before, after)
        alive = np.exp(-before.cumulative(u) - (after.cumulative(t) - after.cumulative(u)))
        both = float(onset.cumulative(t) + before.cumulative(t))
        return float(np.exp(-both) + np.sum(weight * alive))

    return np.vectorize(one, otypes=[np.float64])(time)


def _onset_nodes(
    last: float, onset: Hazard, before: Hazard, after: Hazard
) -> tuple[FloatArray, FloatArray]:
    """Nodes u in [0, last] and weights with which sums are integrals against onset alone.

    The axis is the cumulative hazard of onset, on which a hazard that is
    infinite at 0 is not, and the first panel is graded, because powers of the
    time are not smooth there.
    """
    breaks = sorted({b for h in (onset, before, after) for b in h.breaks if 0.0 < b < last})
    edges = onset.cumulative(np.array([0.0, *breaks, last]))
    nodes: list[FloatArray] = []
    weights: list[FloatArray] = []
    for low, high in pairwise(edges):
        if high > low:
            x, w = _panels(float(low), float(high), 8, graded=not nodes)
            nodes.append(x)
            weights.append(w)
    if not nodes:
        return np.empty(0), np.empty(0)
    value, weight = np.concatenate(nodes), np.concatenate(weights)
    return np.minimum(onset.inverse(value), last), weight * np.exp(-value)


def _panels(
    low: float, high: float, count: int, *, graded: bool = False, order: int = 20
) -> tuple[FloatArray, FloatArray]:
    """Gauss-Legendre nodes and weights on `count` equal panels of an interval."""
    x, w = np.polynomial.legendre.leggauss(order)
    x, w = (x + 1.0) / 2.0, w / 2.0
    edges = np.linspace(low, high, count + 1)
    width = np.diff(edges)[:, None]
    nodes, weights = edges[:-1, None] + width * x, width * w
    if graded:
        nodes[0], weights[0] = edges[0] + width[0] * x**4, width[0] * 4.0 * x**3 * w
    return nodes.ravel(), weights.ravel()


def illness_death_correlation(onset: Hazard, before: Hazard, after: Hazard) -> float:
    """Pearson correlation of PFS and OS times of an illness-death model with any hazards.

    Parameters
    ----------
    onset, before, after : Hazard
        As for `illness_death_os_survival`; events must be certain in the end.

    Returns
    -------
    float
        Accurate to about 1e-7.

    Examples
    --------
    >>> three = [constant_hazard(h) for h in (0.3, 0.28, 0.5)]
    >>> round(illness_death_correlation(*three), 7)
    0.7015169
    """
    from scipy.optimize import brentq

    def to_pfs(t: float) -> float:
        return float(onset.cumulative(t) + before.cumulative(t)) - 45.0

    upper = 1.0
    while to_pfs(upper) < 0.0:
        upper *= 2.0
    last = float(brentq(to_pfs, 0.0, upper))
    t, step = _time_nodes(0.0, last, (*onset.breaks, *before.breaks))
    free = np.exp(-onset.cumulative(t) - before.cumulative(t))
    mean_pfs, square_pfs = float(np.sum(step * free)), float(np.sum(step * 2.0 * t * free))
    u, weight = _onset_nodes(last, onset, before, after)
    weight = weight * np.exp(-before.cumulative(u))
    first, second = _residual_moments(u, after)
    mean_os = mean_pfs + float(np.sum(weight * first))
    square_os = square_pfs + float(np.sum(weight * (2.0 * u * first + second)))
    product = square_pfs + float(np.sum(weight * u * first))
    spread = (square_pfs - mean_pfs**2) * (square_os - mean_os**2)
    return float((product - mean_pfs * mean_os) / np.sqrt(spread))


def _time_nodes(low: float, high: float, breaks: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    inside = sorted({b for b in breaks if low < b < high})
    edges = [low, *inside, high]
    parts = [_panels(a, b, 24, graded=a == low) for a, b in pairwise(edges)]
    return np.concatenate([x for x, _ in parts]), np.concatenate([w for _, w in parts])


def _residual_moments(time: FloatArray, hazard: Hazard) -> tuple[FloatArray, FloatArray]:
    """Mean and mean square of what is left at each of some times, (M,) each.

    On the axis of the cumulative hazard what is left is a unit exponential;
    panels end where a break of the hazard falls on that axis.
    """
    first, second = np.empty_like(time), np.empty_like(time)
    for i, (t, spent) in enumerate(zip(time, hazard.cumulative(time), strict=True)):
        breaks = [float(hazard.cumulative(b) - spent) for b in hazard.breaks if b > t]
        v, w = _time_nodes(0.0, 45.0, breaks)
        left = hazard.inverse(spent + v) - t
        first[i] = np.sum(w * np.exp(-v) * left)
        second[i] = np.sum(w * np.exp(-v) * left**2)
    return first, second


def scan_delayed_survival(
    time: ArrayLike, scans: ArrayLike, h01: float, h02: float, h12: float
) -> FloatArray:
    """Observed progression-free survival when progression is seen at the next scan only.

    A patient is free of an observed event at t if nothing had happened at the
    last scan before t and the patient is alive at t. Deaths are known when
    they happen.

    Parameters
    ----------
    time : array_like
        Months.
    scans : array_like, shape (V,)
        Months of the scans, increasing. Nothing is seen after the last.
    h01, h02, h12 : float
        As for `os_survival`.

    Returns
    -------
    ndarray
        In the shape of `time`; at a scan, after it.

    Examples
    --------
    >>> grid = 2.0 * np.arange(1, 50)
    >>> scan_delayed_survival([1.0, 2.0, 3.999, 4.0], grid, 0.11, 0.03, 0.10).round(6).tolist()
    [0.966926, 0.755784, 0.702069, 0.571209]
    """
    t = np.asarray(time, dtype=np.float64)
    grid = np.concatenate([[0.0], np.asarray(scans, dtype=np.float64)])
    last = grid[np.searchsorted(grid, t, side="right") - 1]
    return pfs_survival(last, h01, h02) * os_survival(t - last, h01, h02, h12)


# ---------------------------------------------------------------- two benefits in one patient


def pearson_of_spearman(spearman: float) -> float:
    """Correlation of the Gaussian copula that has a given rank correlation.

    Examples
    --------
    >>> round(pearson_of_spearman(0.3), 6)
    0.312869
    """
    if abs(spearman) == 1.0:
        return float(spearman)  # the sine misses it by a rounding error
    return float(2.0 * np.sin(np.pi * spearman / 6.0))


def bivariate_normal_cdf(x: ArrayLike, y: ArrayLike, correlation: float) -> FloatArray:
    """Chance that two standard normal variables are both below x and y.

    Parameters
    ----------
    x, y : array_like
        Limits, which broadcast; infinite ones are allowed.
    correlation : float
        In [-1, 1].

    Returns
    -------
    ndarray
        In the joint shape. Accurate to 1e-12 for correlations up to 0.9 in
        size, and to 1e-6 nearer to 1; exact at -1, 0 and 1.

    References
    ----------
    .. [1] Drezner & Wesolowsky (1990), Journal of Statistical Computation and
       Simulation 35:101-107: an integral over the correlation.

    Examples
    --------
    At the origin it is a quarter plus the arcsine over two pi.

    >>> float(bivariate_normal_cdf(0.0, 0.0, 0.5).round(12))
    0.333333333333
    """
    from scipy.special import ndtr

    h, k = np.broadcast_arrays(
        np.clip(np.asarray(x, dtype=np.float64), -38.0, 38.0),
        np.clip(np.asarray(y, dtype=np.float64), -38.0, 38.0),
    )
    if correlation == 1.0:
        return np.asarray(np.minimum(ndtr(h), ndtr(k)))
    if correlation == -1.0:
        return np.asarray(np.maximum(ndtr(h) + ndtr(k) - 1.0, 0.0))
    angle, weight = _panels(0.0, float(np.arcsin(correlation)), 4)
    h, k = h[..., None], k[..., None]
    top = h * h + k * k - 2.0 * h * k * np.sin(angle)
    joint = np.sum(weight * np.exp(-top / (2.0 * np.cos(angle) ** 2)), axis=-1)
    value = ndtr(h[..., 0]) * ndtr(k[..., 0]) + joint / (2.0 * np.pi)
    return np.asarray(np.clip(value, 0.0, 1.0))


def independent_action_survival(
    first: ArrayLike, second: ArrayLike, spearman: float = 0.0
) -> FloatArray:
    """Survival of the later of two times joined by a Gaussian copula.

    Parameters
    ----------
    first, second : array_like
        Survival of each time at the same moments.
    spearman : float, default 0
        Rank correlation of the two.

    Returns
    -------
    ndarray
        ``1 - Phi2(z(1 - S_A), z(1 - S_B); r)`` in the joint shape.

    References
    ----------
    .. [1] Palmer & Sorger (2017), Cell 171:1678-1691.

    Examples
    --------
    Exponentials with medians of 4 and 6 months, after 6, 12 and 24.

    >>> t = np.array([6.0, 12.0, 24.0])
    >>> independent_action_survival(2.0 ** (-t / 4), 2.0 ** (-t / 6)).round(5).tolist()
    [0.67678, 0.34375, 0.07715]
    """
    from scipy.special import ndtri

    low, high = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    r = pearson_of_spearman(spearman)
    return 1.0 - bivariate_normal_cdf(ndtri(1.0 - low), ndtri(1.0 - high), r)


def highest_single_agent_survival(first: ArrayLike, second: ArrayLike) -> FloatArray:
    """Survival where the two benefits are ranked alike in all patients: the larger of the two.

    Examples
    --------
    >>> highest_single_agent_survival([0.5, 0.1], [0.4, 0.2]).tolist()
    [0.5, 0.2]
    """
    return np.maximum(np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64))


def synergy_survival(
    first: ArrayLike, second: ArrayLike, psi: float, spearman: float = 0.0
) -> FloatArray:
    """Survival of the later of two times after both hazards were multiplied by psi.

    Parameters
    ----------
    first, second : array_like
        Survival of each time without synergy.
    psi : float
        Factor on both hazards; below 1 the combination is better than
        independent action.
    spearman : float, default 0
        Rank correlation of the two.

    Returns
    -------
    ndarray

    Examples
    --------
    >>> float(synergy_survival(0.25, 0.25, psi=0.5))
    0.75
    """
    return independent_action_survival(
        np.asarray(first, dtype=np.float64) ** psi,
        np.asarray(second, dtype=np.float64) ** psi,
        spearman,
    )


def additive_survival(
    time: ArrayLike, first: Hazard, second: Hazard, first_scan: float, spearman: float = 0.0
) -> FloatArray:
    """Survival of ``max(A, B, A + B - first scan)``, A and B joined by a Gaussian copula.

    Given A, the joint time is past t unless B is at most t, and at most
    ``t + first_scan - A`` where A is past the first scan; the chance of that
    is integrated over A.

    Parameters
    ----------
    time : array_like
        Months.
    first, second : Hazard
        Of A and of B, without atoms.
    first_scan : float
        Months: the benefit that adds nothing, because everybody has it.
    spearman : float, default 0
        Rank correlation of the two, between -1 and 1 exclusive.

    Returns
    -------
    ndarray
        In the shape of `time`.

    References
    ----------
    .. [1] Hwangbo et al. (2023), Nature Cancer, on additivity of approved
       combinations.

    Examples
    --------
    >>> a, b = (constant_hazard(np.log(2) / median) for median in (4, 6))
    >>> additive_survival([6.0, 12.0, 24.0], a, b, first_scan=2.0).round(5).tolist()
    [0.71881, 0.43092, 0.12931]
    """
    from scipy.special import ndtr, ndtri

    r = pearson_of_spearman(spearman)
    if abs(r) >= 1.0:
        raise ValueError(f"spearman must be between -1 and 1 exclusive, got {spearman:g}")

    def score(hazard: Hazard, t: ArrayLike) -> FloatArray:
        below = -np.expm1(-hazard.cumulative(t))
        above = hazard.survival(t)
        # The tail that is small keeps its digits.
        return np.where(below < 0.5, ndtri(below), -ndtri(above))

    def one(t: float) -> float:
        if t <= 0.0:
            return 1.0
        edges = [-38.0, float(score(first, min(first_scan, t))), float(score(first, t))]
        failed = 0.0
        for low, high in pairwise(edges):
            low = max(low, -9.0)
            if high <= low:
                continue
            z, w = _panels(low, high, 4)
            density = np.exp(-(z**2) / 2.0) / np.sqrt(2.0 * np.pi)
            a = first.inverse(-np.log(ndtr(-z)))
            limit = np.minimum(t, t + first_scan - a)
            inner = (score(second, limit) - r * z) / np.sqrt(1.0 - r**2)
            failed += float(np.sum(w * density * ndtr(inner)))
        return 1.0 - failed

    return np.vectorize(one, otypes=[np.float64])(time)


def activity_survival(time: ArrayLike, activity: Activity) -> FloatArray:
    """Chance that an agent's own benefit has not been lost: refractory, controlled, responding.

    The coupling to the benefit of an ICI moves no patient in or out of this
    law, so it holds in every strategy that gives the agent without psi.

    Parameters
    ----------
    time : array_like
        Months.
    activity : Activity
        Of the agent.

    Returns
    -------
    ndarray
        In the shape of `time`; at 0 it is one minus the refractory share.

    Examples
    --------
    >>> import numpy as np
    >>> plain = Activity(0.2, 1.0, 1.0, 10.0, 0.0, 1.0, 0.0, 0.0, 0.0, np.zeros(1))
    >>> activity_survival([0.0, 10.0], plain).round(6).tolist()
    [0.8, 0.294304]
    """
    own = weibull_hazard(activity.shape, activity.scale, activity.start)
    # Exposure is what the simulator divides, so a ratio acts on the cumulative hazard.
    total = own.cumulative(time)
    free = activity.responding * _with_frailty(total, activity.frailty_sd) + (
        1.0 - activity.responding
    ) * _with_frailty(activity.controlled_ratio * total, activity.frailty_sd)
    return (1.0 - activity.refractory) * free


def _with_frailty(total: FloatArray, sd: float) -> FloatArray:
    """Mean of ``exp(-f H)`` over a log-normal frailty f with median 1."""
    if sd == 0.0:
        return np.exp(-total)
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    weights = weights / weights.sum()
    return np.exp(-np.multiply.outer(total, np.exp(sd * nodes))) @ weights


# ---------------------------------------------------------------- trials


@dataclass(frozen=True, slots=True)
class PiecewiseTrial:
    """A trial of two arms in which all rates are constant in intervals."""

    accrual_starts: Sequence[float]
    """Starts of the intervals of accrual, months since the trial began, increasing from 0."""

    accrual_rates: Sequence[float]
    """Patients per month, both arms together; the last is 0 where accrual ends."""

    hazard_starts: Sequence[float]
    """Starts of the intervals of the hazards, months since entry, increasing from 0, (J,)."""

    control_hazard: Sequence[float]
    """Events per month under control, (J,)."""

    hazard_ratio: Sequence[float]
    """Of the experimental arm against control, (J,)."""

    dropout: float = 0.0
    """Hazard of loss to follow-up, per month."""

    experimental_share: float = 0.5
    """Share of the patients who are allocated to the experimental arm."""

    def __post_init__(self) -> None:
        for name in ("accrual_starts", "hazard_starts"):
            starts = getattr(self, name)
            if starts[0] != 0.0 or any(b <= a for a, b in pairwise(starts)):
                raise ValueError(f"{name} must increase from 0, got {list(starts)}")
        for name, starts in (
            ("accrual_rates", self.accrual_starts),
            ("control_hazard", self.hazard_starts),
            ("hazard_ratio", self.hazard_starts),
        ):
            values = getattr(self, name)
            if len(values) != len(starts) or min(values) < 0.0:
                raise ValueError(
                    f"{name} must hold {len(starts)} numbers of at least 0, got {list(values)}"
                )


def expected_events(trial: PiecewiseTrial, date: float) -> FloatArray:
    """Events expected by a date, in each arm and interval of the hazards.

    Of those who entered at least t months before the date, the arm's hazard
    takes its share of whoever is still at risk after t months. The number who
    entered is linear in t and the share at risk exponential between the starts
    of intervals, so each piece is integrated in closed form.

    Parameters
    ----------
    trial : PiecewiseTrial
        J intervals of the hazards.
    date : float
        Months since the trial began.

    Returns
    -------
    ndarray, shape (2, J)
        Control, then the experimental arm.

    Examples
    --------
    500 patients within a year, median 15 months, and a hazard ratio that falls to
    0.6 at month 4.

    >>> hazard = [np.log(2.0) / 15.0] * 2
    >>> trial = PiecewiseTrial([0, 12], [500 / 12, 0], [0, 4], hazard, [1.0, 0.6], 0.001)
    >>> round(float(expected_events(trial, 24.0).sum()), 4)
    246.2834
    """
    entered = piecewise_hazard(trial.accrual_starts, trial.accrual_rates).cumulative
    inner = {date - start for start in trial.accrual_starts}
    edges = sorted(edge for edge in inner | {0.0, *trial.hazard_starts} if 0.0 <= edge <= date)
    if not edges:
        return np.zeros((2, len(trial.hazard_starts)))
    low, high = np.array(edges[:-1]), np.array(edges[1:])
    width = high - low
    interval = np.searchsorted(trial.hazard_starts, low, side="right") - 1
    enrolled = np.asarray(entered(date - low))
    falling = (enrolled - entered(date - high)) / width
    rates = np.asarray(trial.control_hazard, dtype=np.float64)
    shares = (1.0 - trial.experimental_share, trial.experimental_share)
    events = np.zeros((2, len(rates)))
    for arm, ratio in enumerate((np.ones_like(rates), np.asarray(trial.hazard_ratio))):
        hazard = (rates * ratio)[interval]
        leaving = hazard + trial.dropout
        at_risk = piecewise_hazard(trial.hazard_starts, rates * ratio + trial.dropout).survival(low)
        # Integrals of exp(-k x) and x exp(-k x) over a piece; where nothing happens k is any.
        k = np.where(hazard > 0.0, leaving, 1.0)
        constant = -np.expm1(-k * width) / k
        linear = (constant - width * np.exp(-k * width)) / k
        pieces = shares[arm] * hazard * at_risk * (enrolled * constant - falling * linear)
        np.add.at(events[arm], interval, pieces)
    return events


def event_weighted_hazard_ratio(trial: PiecewiseTrial, date: float) -> float:
    """Average hazard ratio by expected events: what calculators of power call AHR.

    The geometric mean of the hazard ratios of the intervals, weighted with the
    events expected in each by the date, both arms together. A Cox regression
    on the data of that date estimates nearly this. It is another quantity than
    the average hazard ratio of Kalbfleisch and Prentice, which depends on no
    date and no dropout.

    Parameters
    ----------
    trial : PiecewiseTrial
        All hazard ratios above 0.
    date : float
        Months since the trial began.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If no event is expected by the date.

    References
    ----------
    .. [1] gsDesign2, functions ahr and gs_info_ahr, https://merck.github.io/gsDesign2/.

    Examples
    --------
    >>> hazard = [np.log(2.0) / 15.0] * 2
    >>> trial = PiecewiseTrial([0, 12], [500 / 12, 0], [0, 4], hazard, [1.0, 0.6], 0.001)
    >>> round(event_weighted_hazard_ratio(trial, 24.0), 7)
    0.7145184
    """
    events = expected_events(trial, date).sum(axis=0)
    total = float(events.sum())
    if not total > 0.0:
        raise ValueError(f"no event is expected by month {date:g}")
    return float(np.exp(np.sum(events * np.log(trial.hazard_ratio)) / total))


# ---------------------------------------------------------------- the general model


def primary_share(prevalence: ArrayLike, loading: ArrayLike, undone: ArrayLike) -> float:
    """Share of patients with some mechanism at baseline that nothing undoes.

    Given the factor of the copula, mechanisms are independent; the mean over
    the factor is taken by adaptive quadrature.

    Parameters
    ----------
    prevalence, loading, undone : array_like, shape (K,)
        Prevalence of each mechanism, its loading on the factor, and the
        chance that it is undone where present.

    Returns
    -------
    float

    Examples
    --------
    Without loadings the mechanisms miss independently.

    >>> round(primary_share([0.1, 0.2], [0.0, 0.0], [0.0, 0.5]), 12)
    0.19
    """
    from scipy.integrate import quad
    from scipy.special import ndtr, ndtri

    cut = ndtri(np.asarray(prevalence, dtype=np.float64))
    load = np.asarray(loading, dtype=np.float64)
    left = 1.0 - np.asarray(undone, dtype=np.float64)

    def spared(factor: float) -> float:
        present = ndtr((cut - load * factor) / np.sqrt(1.0 - load**2))
        density = np.exp(-(factor**2) / 2.0) / np.sqrt(2.0 * np.pi)
        return float(np.prod(1.0 - present * left) * density)

    steps = [c / x for c, x in zip(cut, load, strict=True) if x != 0.0 and abs(c / x) < 12.0]
    edges = [-12.0, *sorted({float(step) for step in steps}), 12.0]
    parts = [
        quad(spared, a, b, epsabs=1e-12, epsrel=1e-12, limit=200)[0] for a, b in pairwise(edges)
    ]
    return 1.0 - float(sum(parts))


def expected_resistance_free(scenario: Scenario, strategy: str, time: ArrayLike) -> FloatArray:
    """Chance of no resistance up to a time under a strategy of ICI and partners.

    A mixture over strata, depth, durability, frailty (Gauss-Hermite) and the
    time at which toxicity stops the backbone (Gauss-Legendre). Partners may
    reverse mechanisms, change hazards in their windows, and add to response
    and durability.

    Parameters
    ----------
    scenario : Scenario
        Any.
    strategy : str
        Name of a strategy with one ICI. Other agents must have no activity
        and no toxicity of their own, the rule must be independent action, and
        no dose may wait for progression or a test.
    time : array_like
        Months.

    Returns
    -------
    ndarray
        In the shape of `time`; at 0 it is one minus the share of primary
        resistance. Accurate to about 2e-5, by the grid of stopping times.

    Raises
    ------
    ValueError
        If the strategy is not of that kind.
    """
    plan = _plan(scenario, strategy)
    t = np.asarray(time, dtype=np.float64)
    total = np.zeros(t.shape)
    for stop, weight in _stops(plan, float(t.max(initial=0.0))):
        for primary, prevalence, free in _by_stratum(scenario, plan, t, stop):
            total = total + weight * (1.0 - primary) * prevalence * free
    return total


def expected_progression_free(scenario: Scenario, strategy: str, time: ArrayLike) -> FloatArray:
    """Chance to be alive without progression, as if tumours were watched continuously.

    Adds to `expected_resistance_free` the log-normal lag from resistance to
    progression, death from other causes, and fatal toxicity of the backbone.

    Parameters
    ----------
    scenario, strategy, time
        As for `expected_resistance_free`; besides, no agent may slow regrowth,
        because the clock of tumour death would then start before progression.

    Returns
    -------
    ndarray
        In the shape of `time`. Accurate to about 2e-5.

    Raises
    ------
    ValueError
        If the strategy is not of that kind.
    """
    from scipy.special import ndtr

    plan, course = _plan(scenario, strategy), scenario.course
    if any(agent.growth_ratio != 1.0 for _, agent in (plan.backbone, *plan.partners)):
        raise ValueError(f"strategies.{strategy}: an agent slows regrowth")
    t = np.atleast_1d(np.asarray(time, dtype=np.float64))
    sd = float(np.hypot(course.lag_sd, course.growth_sd))
    if sd == 0.0 or course.primary_lag == 0.0 or course.acquired_lag == 0.0:
        raise ValueError("course: the lag must be above 0 and vary between patients")
    z, w = _panels(-8.0, 8.0, 60, order=8)
    w = w * np.exp(-(z**2) / 2.0) / np.sqrt(2.0 * np.pi)
    lag = course.acquired_lag * np.exp(sd * z)
    since = t[:, None] - lag
    fine = np.linspace(0.0, max(float(t.max()), 1e-9), 2001)
    late_primary = np.where(
        t > 0.0, ndtr(-np.log(np.maximum(t, 1e-300) / course.primary_lag) / sd), 1.0
    )
    background = piecewise_hazard(course.background_starts, course.background_hazard)
    dose, agent = plan.backbone
    total = np.zeros(t.shape)
    for stop, weight in _stops(plan, float(t.max())):
        living = background.survival(t) * np.exp(
            -_toxic(agent.fatal, np.minimum(t, stop) - dose.start)
        )
        for primary, prevalence, free in _by_stratum(scenario, plan, fine, stop):
            curve = np.interp(since.ravel(), fine, free).reshape(since.shape)
            benefiting = np.where(since < 0.0, 1.0, curve) @ w
            mixed = primary * late_primary + (1.0 - primary) * benefiting
            total = total + weight * prevalence * living * mixed
    return total.reshape(np.shape(time))


@dataclass(frozen=True, slots=True)
class _Plan:
    """A strategy of the kind that `expected_resistance_free` can compute."""

    backbone: tuple[Dose, Agent]
    partners: tuple[tuple[Dose, Agent], ...]
    primary: tuple[float, ...]
    """Share of primary resistance in each stratum."""


def _plan(scenario: Scenario, name: str) -> _Plan:
    strategy: Strategy = next(s for s in scenario.strategies if s.name == name)
    pairs = [(dose, scenario.agent(dose.agent)) for dose in strategy.doses]
    backbones = [pair for pair in pairs if pair[1].checkpoint_inhibitor]
    partners = [pair for pair in pairs if not pair[1].checkpoint_inhibitor]
    wrong = {
        "it must give one checkpoint inhibitor": len(backbones) != 1,
        "its rule must be independent_action": strategy.rule != "independent_action",
        "a dose waits for progression or for a test": any(
            dose.at_progression or dose.matched for dose, _ in pairs
        ),
        "an agent has activity of its own": any(a.activity is not None for _, a in pairs),
        "a partner has toxicity": any(
            not (a.discontinuation.absent and a.fatal.absent) for _, a in partners
        ),
    }
    for reason, applies in wrong.items():
        if applies:
            raise ValueError(f"strategies.{name}: no exact law, {reason}")
    early = [agent.reversal for dose, agent in pairs if dose.start == 0.0]
    undone = 1.0 - np.prod([1.0 - chance for chance in early], axis=0)
    population = scenario.population
    primary = [primary_share(row, population.loading, undone) for row in population.prevalence]
    return _Plan(backbones[0], tuple(partners), tuple(primary))


def _toxic(hazard: ToxicityHazard, months: ArrayLike) -> FloatArray:
    """Cumulative hazard of a toxicity after some months on the agent."""
    since = np.maximum(np.asarray(months, dtype=np.float64), 0.0)
    early = np.minimum(since, hazard.window)
    return hazard.early * early + hazard.late * (since - early)


def _stops(plan: _Plan, horizon: float) -> Iterator[tuple[float, float]]:
    """Times at which the backbone stops, with their weights: toxic ones, then the planned one."""
    dose, agent = plan.backbone
    hazard, planned = agent.discontinuation, dose.stop
    if hazard.absent:
        yield planned, 1.0
        return
    # A stop after the horizon changes nothing before it.
    end = min(planned, max(horizon, dose.start) + 1e-9)
    change = min(dose.start + hazard.window, end)
    for low, high, rate in ((dose.start, change, hazard.early), (change, end, hazard.late)):
        if high <= low:
            continue
        s, w = _panels(low, high, max(1, round(high - low)), order=3)
        for stop, weight in zip(s, w * rate * np.exp(-_toxic(hazard, s - dose.start)), strict=True):
            yield float(stop), float(weight)
    yield end, float(np.exp(-_toxic(hazard, end - dose.start)))


def _by_stratum(
    scenario: Scenario, plan: _Plan, time: FloatArray, stop: float
) -> Iterator[tuple[float, float, FloatArray]]:
    """For each stratum: primary share, prevalence, and S(t) of those not primary-resistant."""
    population = scenario.population
    agents = [agent for _, agent in (plan.backbone, *plan.partners)]
    unresponsive = float(np.prod([1.0 - a.response for a in agents]))
    fading = float(np.prod([1.0 - a.durability for a in agents]))
    for b in range(len(population.strata)):
        responding = 1.0 - (1.0 - population.responding[b]) * unresponsive
        long_r = 1.0 - (1.0 - population.durable_responding[b]) * fading
        long_c = 1.0 - (1.0 - population.durable_controlled[b]) * fading
        durable = responding * long_r + (1.0 - responding) * long_c
        ordinary = _windowed(scenario, plan, b, _clock(population.acquired, b), time, stop)
        start = population.acquired.start
        slow = piecewise_hazard([0.0], [population.durable_hazard], start)
        lasting = _windowed(scenario, plan, b, slow, time, stop)
        sd = population.frailty_sd
        free = (
            durable * _with_frailty(lasting, sd)
            + responding * (1.0 - long_r) * _with_frailty(ordinary, sd)
            + (1.0 - responding)
            * (1.0 - long_c)
            * _with_frailty(population.controlled_ratio * ordinary, sd)
        )
        yield plan.primary[b], float(population.stratum_prevalence[b]), free


def _clock(clock: Clock, stratum: int) -> Hazard:
    if isinstance(clock, WeibullClock):
        return weibull_hazard(float(clock.shape[stratum]), float(clock.scale[stratum]), clock.start)
    if isinstance(clock, PiecewiseClock):
        return piecewise_hazard(clock.starts, clock.rates[stratum], clock.start)
    raise ValueError(f"no exact law for a {type(clock).__name__}")


def _windowed(
    scenario: Scenario, plan: _Plan, stratum: int, hazard: Hazard, time: FloatArray, stop: float
) -> FloatArray:
    """Cumulative hazard of all mechanisms with the partners' windows and the effect of stopping."""
    course, shares = scenario.course, scenario.population.acquired_share[stratum]
    start = plan.backbone[0].start
    windows = [(*plan.backbone, stop), *((dose, agent, dose.stop) for dose, agent in plan.partners)]
    cuts = {0.0, np.inf, stop}
    for dose, agent, end in windows:
        cuts |= {dose.start + agent.onset, end}
    edges = sorted(cuts)
    factor = float(stop_multiplier(stop - start, course.stop_effect, course.stop_decay))
    total = np.zeros(time.shape)
    for low, high in pairwise(edges):
        ratio = np.ones_like(shares)
        for dose, agent, end in windows:
            if dose.start + agent.onset <= low < end:
                ratio = ratio * agent.hazard_ratio
        level = float(np.sum(shares * ratio)) * (factor if low >= stop else 1.0)
        passed = hazard.cumulative(np.minimum(time, high)) - hazard.cumulative(
            np.minimum(time, low)
        )
        total = total + level * passed
    return total
