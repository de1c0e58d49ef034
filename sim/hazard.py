"""Hazards, cumulative hazards and their inverses.

Every event time in this package is produced here, by one route: a unit
exponential draw ("exposure") is pushed through the inverse of a cumulative
hazard. Nothing in this module draws random numbers, reads configuration or
knows what a mechanism is; it only turns hazards into times.

Conventions
-----------
Time is in months, hazards are events per patient-month. Intervals are
half-open, ``[start, next_start)``, and the last one never ends. A hazard that
stays at zero yields ``inf``: that patient never has the event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim.errors import ScenarioError

__all__ = [
    "Clock",
    "PiecewiseClock",
    "Spell",
    "TabledPassage",
    "WeibullClock",
    "by_stratum",
    "count_passed",
    "first_passage",
    "spell_passage",
    "two_phase_time",
]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.integer]

NEVER = 1e9
"""Stands in for infinity inside sums and products, where inf times 0 would be no number."""


def by_stratum(values: FloatArray, stratum: IntArray) -> FloatArray:
    """The value of each patient's stratum, (M,), or the one value where strata do not differ."""
    return values[:1] if (values == values[0]).all() else values.take(stratum)


def count_passed(steps: FloatArray, values: FloatArray) -> IntArray:
    """How many increasing steps are at or below each value, (M,).

    What `numpy.searchsorted` finds with ``side="right"``; for a few steps in a
    tenth of its time.
    """
    if len(steps) > 16:
        return np.searchsorted(steps, values, side="right")
    count = np.zeros(values.shape, dtype=np.int8)
    for step in steps:
        count += values >= step
    return count


class Clock(Protocol):
    """A cumulative hazard of each stratum, and its inverse: months to exposure and back."""

    def __hash__(self) -> int:
        """By identity, so that what follows from a clock alone is worked out once."""

    @property
    def start(self) -> float:
        """Months before which nothing happens."""

    def exposure(self, time: FloatArray | float, stratum: IntArray) -> FloatArray:
        """Cumulative hazard at `time` in each patient's stratum, shape (M,)."""

    def time(self, exposure: FloatArray, stratum: IntArray) -> FloatArray:
        """Time at which the cumulative hazard reaches `exposure`, shape (M,)."""


@dataclass(frozen=True, slots=True, eq=False)
class WeibullClock:
    """Cumulative hazard ``((t - start) / scale) ** shape``, nil before `start`."""

    shape: FloatArray
    """Shape in each stratum, (B,)."""

    scale: FloatArray
    """Scale in each stratum, months, (B,)."""

    start: float = 0.0
    """Months before which nothing happens."""

    def __post_init__(self) -> None:
        for name in ("shape", "scale"):
            values = getattr(self, name)
            if np.any(~np.isfinite(values)) or np.any(values <= 0.0):
                raise ScenarioError(f"{name} must be greater than 0, got {values.min():g}")
            values.flags.writeable = False
        if not 0.0 <= self.start < np.inf:
            raise ScenarioError(f"start must be finite and at least 0, got {self.start:g}")

    def exposure(self, time: FloatArray | float, stratum: IntArray) -> FloatArray:
        """See `Clock.exposure`."""
        elapsed = np.maximum(np.asarray(time) - self.start, 0.0)
        return _power(elapsed / by_stratum(self.scale, stratum), self.shape, stratum)

    def time(self, exposure: FloatArray, stratum: IntArray) -> FloatArray:
        """See `Clock.time`."""
        elapsed = by_stratum(self.scale, stratum) * _power(exposure, 1.0 / self.shape, stratum)
        elapsed += self.start
        return elapsed


def _power(base: FloatArray, exponent: FloatArray, stratum: IntArray) -> FloatArray:
    """`base` to the stratum's exponent; exponents of 1 cost nothing and change no bit."""
    if (exponent == 1.0).all():
        return base
    return np.asarray(base ** by_stratum(exponent, stratum))


@dataclass(frozen=True, slots=True, eq=False)
class PiecewiseClock:
    """A hazard that is constant in intervals, by stratum, nil before `start`."""

    starts: FloatArray
    """Starts of the intervals, months since `start`, (J,), the first 0."""

    rates: FloatArray
    """Hazard in each interval, (B, J)."""

    start: float = 0.0
    """Months before which nothing happens."""

    def __post_init__(self) -> None:
        if self.starts.size == 0 or self.starts[0] != 0.0 or np.any(np.diff(self.starts) <= 0.0):
            raise ScenarioError(f"starts must increase from 0, got {self.starts.tolist()}")
        if self.rates.ndim != 2 or self.rates.shape[1] != self.starts.size:
            raise ScenarioError(
                f"rates must hold {self.starts.size} hazards, one for each of starts, "
                f"got {self.rates.shape[-1]}"
            )
        if np.any(~np.isfinite(self.rates)) or np.any(self.rates < 0.0):
            worst = float(np.nanmin(self.rates))
            raise ScenarioError(f"rates must be finite and at least 0, got {worst:g}")
        self.starts.flags.writeable = self.rates.flags.writeable = False

    def _knots(self) -> FloatArray:
        """Cumulative hazard at the start of each interval, shape (B, J)."""
        steps = self.rates[:, :-1] * np.diff(self.starts)
        return np.concatenate([np.zeros((len(self.rates), 1)), np.cumsum(steps, axis=1)], axis=1)

    def exposure(self, time: FloatArray | float, stratum: IntArray) -> FloatArray:
        """See `Clock.exposure`."""
        elapsed = np.maximum(np.asarray(time) - self.start, 0.0)
        elapsed = np.broadcast_to(elapsed, np.shape(stratum))
        interval = np.searchsorted(self.starts, elapsed, side="right") - 1
        passed = self._knots()[stratum, interval]
        return np.asarray(
            passed + self.rates[stratum, interval] * (elapsed - self.starts[interval])
        )

    def time(self, exposure: FloatArray, stratum: IntArray) -> FloatArray:
        """See `Clock.time`."""
        every = self._knots()
        if len(every) == 1:
            return self._invert(exposure, every[0], self.rates[0])
        result = np.empty(np.shape(exposure))
        for b, knots in enumerate(every):
            here = np.flatnonzero(stratum == b)
            result[here] = self._invert(exposure.take(here), knots, self.rates[b])
        return result

    def _invert(self, exposure: FloatArray, knots: FloatArray, rates: FloatArray) -> FloatArray:
        """The same in one stratum."""
        interval = count_passed(knots[1:], exposure)
        with np.errstate(divide="ignore", invalid="ignore"):
            wait = (exposure - knots.take(interval)) / rates.take(interval)
        if not rates.all():
            wait[np.isnan(wait)] = 0.0
        return self.start + (self.starts.take(interval) + wait)


def first_passage(
    exposure: FloatArray,
    breaks: FloatArray,
    rate: Callable[[FloatArray], FloatArray],
) -> FloatArray:
    r"""Point at which a piecewise-constant rate has used up each patient's exposure.

    Solves :math:`\int_0^x r(u)\,du = e` for `x`, where the rate changes only
    at the patient's own breaks. The axis may be time or the operational time
    of a `Clock`.

    Parameters
    ----------
    exposure : ndarray, shape (M,)
        Dimensionless, non-negative.
    breaks : ndarray, shape (J, M)
        Where the rate may change, in any order, ``inf`` for never.
    rate : callable
        Given the left ends of one interval of each patient, shape (M,), the
        rates in those intervals.

    Returns
    -------
    ndarray, shape (M,)
        ``inf`` where the rate runs out first.

    Examples
    --------
    A rate of 0.1 for three months, then none: half an exposure is spent after
    five months' worth, which never comes.

    >>> import numpy as np
    >>> breaks = np.array([[3.0, 3.0]])
    >>> first_passage(np.array([0.2, 0.5]), breaks, lambda start: np.where(start < 3, 0.1, 0.0))
    array([ 2., inf])
    """
    ends = np.sort(np.minimum(breaks, NEVER), axis=0)
    left = exposure
    start = np.zeros_like(exposure)
    point = np.full_like(exposure, np.inf)
    pending = np.ones(exposure.shape, dtype=bool)
    for end in ends:
        speed = rate(start)
        capacity = speed * (end - start)
        here = np.flatnonzero(pending & (left < capacity))
        point[here] = left.take(here) / speed.take(here) + start.take(here)
        pending[here] = False
        left = left - capacity
        start = end
    speed = rate(start)
    here = np.flatnonzero(pending & (speed > 0.0))
    point[here] = left.take(here) / speed.take(here) + start.take(here)
    point[point >= NEVER] = np.inf
    return point


@dataclass(frozen=True, slots=True)
class Spell:
    """A constant hazard from `begin` until `end`, months; each is one number or (M,)."""

    level: FloatArray | float
    begin: FloatArray | float
    end: FloatArray | float


def spell_passage(exposure: FloatArray, spells: Sequence[Spell]) -> FloatArray:
    """Time at which the sum of the spells' hazards has used up each patient's exposure.

    The sum is constant between the edges of spells. Its integral up to an edge
    says whether the edge is passed; the last edge passed begins the interval of
    the event, and the spells that are on there give its rate. So no edge is
    sorted among the others, and the cost is some passes for each pair of an
    edge and a spell.

    Parameters
    ----------
    exposure : ndarray, shape (M,)
        Dimensionless, non-negative.
    spells : sequence of Spell
        In any order, none with an end before its beginning, ``inf`` for never.

    Returns
    -------
    ndarray, shape (M,)
        ``inf`` where the hazards run out first.

    Examples
    --------
    >>> early, later = Spell(0.1, 0.0, np.array([3.0, 3.0])), Spell(0.2, 10.0, np.inf)
    >>> spell_passage(np.array([0.2, 0.5]), [early, later])
    array([ 2., 11.])
    """
    edges = _Edges()
    rows = [(spell.level, edges.add(spell.begin), edges.add(spell.end)) for spell in spells]
    start: FloatArray | float = 0.0
    spent: FloatArray | float = 0.0
    passed: list[BoolArray | bool] = []
    for j, edge in enumerate(edges.times):
        if edges.certain[j] is not None:
            passed.append(edge == 0.0)
            continue
        used: FloatArray | float = 0.0
        for level, begin, end in rows:
            if j != begin:
                used += level * edges.between(begin, end, j)
        here = used <= exposure
        start = _larger(start, np.multiply(edge, here))
        spent = _larger(spent, np.multiply(used, here))
        passed.append(here)
    rate: FloatArray | float = 0.0
    for level, begin, end in rows:
        rate += np.multiply(level, passed[begin] & np.logical_not(passed[end]))
    point: FloatArray = np.subtract(exposure, spent)
    with np.errstate(divide="ignore", invalid="ignore"):
        point /= rate
    point += start
    point[(rate == 0.0) | (point >= NEVER)] = np.inf
    return point


def _larger(most: FloatArray | float, other: FloatArray) -> FloatArray:
    """The larger of what was the largest so far, 0.0 at first, and another that is not below 0."""
    return np.maximum(most, other, out=most) if isinstance(most, np.ndarray) else other


class _Edges:
    """The times at which spells begin or end, each of them once."""

    def __init__(self) -> None:
        self.times: list[FloatArray | float] = []
        self.certain: list[float | None] = []
        """0 or ``inf`` where that is everybody's time, which needs no pass over the patients."""
        self._places: dict[float | int, int] = {}

    def add(self, time: FloatArray | float) -> int:
        """The place of a time: a number is told by its value, an array by being the same one."""
        name = float(time) if np.ndim(time) == 0 else -id(time)
        if name not in self._places:
            self._places[name] = len(self.times)
            self.times.append(np.minimum(time, NEVER))
            self.certain.append(name if name in (0.0, np.inf) else None)
        return self._places[name]

    def between(self, begin: int, end: int, now: int) -> FloatArray | float:
        """Months from one edge until another, as far as they have passed at a third."""
        time = self.times[now]
        until = time
        if now != end and self.certain[end] is None:
            until = np.minimum(time, self.times[end])
        return until if self.certain[begin] == 0.0 else until - np.minimum(time, self.times[begin])


@dataclass(frozen=True, slots=True)
class TabledPassage:
    """The same as `first_passage` where breaks and rates are those of everybody.

    The point is a broken line in the exposure: one slope, then bends where the
    rate changes and steps where it is 0 for a while. A few passes for each, and
    nothing to look up for a patient.

    Examples
    --------
    >>> passage = TabledPassage.of(np.array([3.0]), np.array([0.1, 0.0]))
    >>> passage.point(np.array([0.2, 0.5]))
    array([ 2., inf])
    """

    slope: float
    """Of the line at its start."""

    bends: tuple[tuple[float, float], ...]
    """Exposures from which on the line is steeper, and by how much."""

    steps: tuple[tuple[float, float], ...]
    """Exposures from which on it lies higher, and by how much."""

    most: float
    """Exposure that is never spent; ``inf`` where there is none."""

    @classmethod
    def of(cls, breaks: FloatArray, rates: FloatArray) -> TabledPassage:
        """The passage for rates (J + 1,) before the first break, between them, and after the last.

        Parameters
        ----------
        breaks : ndarray, shape (J,)
            Increasing, finite.
        rates : ndarray, shape (J + 1,)
            At least 0.
        """
        lengths = np.diff(breaks, prepend=0.0)
        spent = np.concatenate([[0.0], np.cumsum(rates[:-1] * lengths)]).tolist()
        moving = [j for j, rate in enumerate(rates) if rate > 0.0]
        slopes = [1.0 / float(rates[j]) for j in moving]
        return cls(
            slopes[0] if slopes else 0.0,
            tuple(
                (spent[j], steep - before)
                for j, before, steep in zip(moving[1:], slopes, slopes[1:], strict=False)
            ),
            tuple((spent[j], float(length)) for j, length in enumerate(lengths) if rates[j] == 0.0),
            spent[-1] if rates[-1] == 0.0 else np.inf,
        )

    def point(self, exposure: FloatArray) -> FloatArray:
        """Where each exposure is spent, (M,); ``inf`` for one that is infinite."""
        if exposure.max(initial=0.0) == np.inf:
            # A mechanism without a share: sums of infinities would be no numbers.
            finite = self.point(np.where(np.isinf(exposure), 0.0, exposure))
            return np.where(np.isinf(exposure), np.inf, finite)
        point = exposure * self.slope
        for spent, bend in self.bends:
            beyond = exposure - spent
            np.maximum(beyond, 0.0, out=beyond)
            beyond *= bend
            point += beyond
        for spent, step in self.steps:
            point += step * (exposure >= spent)
        if self.most < np.inf:
            point[exposure >= self.most] = np.inf
        return point


def two_phase_time(exposure: FloatArray, early: float, late: float, window: float) -> FloatArray:
    """Time at which a hazard of `early` for `window` months, then `late`, is used up.

    Parameters
    ----------
    exposure : ndarray
        Unit exponentials.
    early, late : float
        Hazards per month.
    window : float
        Length of the first phase, months.

    Returns
    -------
    ndarray
        Months since the agent's start, ``inf`` where it never happens.

    Examples
    --------
    >>> two_phase_time(np.array([0.1, 0.5]), early=0.1, late=0.0, window=3.0)
    array([ 1., inf])
    """
    spent = early * window
    with np.errstate(divide="ignore"):
        first = exposure / early if early > 0.0 else np.full_like(exposure, np.inf)
        second = (
            window + (exposure - spent) / late if late > 0.0 else np.full_like(exposure, np.inf)
        )
    return np.where(exposure < spent, first, second)
