"""Event times against the hazards that they are drawn from."""

import numpy as np
import pytest
from agreement import FALSE_ALARM, N, p_value
from scipy import stats

from sim.exact import piecewise_hazard, weibull_hazard
from sim.hazard import (
    PiecewiseClock,
    Spell,
    TabledPassage,
    WeibullClock,
    count_passed,
    first_passage,
    spell_passage,
    two_phase_time,
)
from sim.randomness import stream


def exposures(label, count=N):
    return stream(20240601, 0, "acquired_resistance", label).standard_exponential(count)


def spent(point, edges, rates):
    """Integral of each patient's rate up to `point`, one interval after the other."""
    total = np.zeros_like(point)
    with np.errstate(invalid="ignore"):
        for low, high, rate in zip(edges[:-1], edges[1:], rates, strict=True):
            inside = np.clip(point, low, high) - low
            total += np.where(inside > 0.0, rate * inside, 0.0)
    return total


@pytest.mark.parametrize("shuffled", [False, True], ids=["in order", "any order"])
def test_first_passage_spends_the_exposure(shuffled):
    # Random breaks and rates for each patient, some intervals without any hazard.
    rng = np.random.default_rng(20240601)
    breaks = rng.exponential(8.0, size=(6, N))
    breaks[rng.random(breaks.shape) < 0.1] = np.inf
    ordered = np.sort(breaks, axis=0)
    rates = rng.uniform(0.02, 0.3, size=(7, N)) * (rng.random((7, N)) > 0.2)

    def rate(start):
        interval = np.sum(ordered <= start, axis=0)
        return rates[np.minimum(interval, 6), np.arange(N)]

    exposure = exposures("first_passage")
    given = rng.permuted(breaks, axis=0) if shuffled else ordered
    point = first_passage(exposure, given, rate)

    edges = np.concatenate([np.zeros((1, N)), ordered, np.full((1, N), np.inf)])
    reached = np.isfinite(point)
    np.testing.assert_allclose(
        spent(point, edges, rates)[reached], exposure[reached], rtol=1e-9, atol=1e-12
    )
    # Where it is never reached, the whole of the hazard is too little.
    available = spent(np.full(N, 1e9), edges, rates)
    assert np.all(available[~reached] <= exposure[~reached] * (1.0 + 1e-9))
    assert 0.02 < np.mean(~reached) < 0.5


def random_spells(rng, count):
    """Spells with numbers and arrays for edges, some empty, some for ever, some beyond reach."""
    begin = rng.exponential(6.0, size=count)
    begin[rng.random(count) < 0.2] = np.inf
    end = begin + rng.exponential(6.0, size=count) * (rng.random(count) > 0.2)
    shared = rng.exponential(6.0, size=count)
    later = np.where(rng.random(count) < 0.3, np.inf, shared + rng.exponential(9.0, size=count))
    level = rng.uniform(0.0, 0.2, size=count) * (rng.random(count) > 0.2)
    return [
        Spell(0.03, 0.0, 3.0), Spell(0.01, 3.0, 40.0), Spell(level, begin, end),
        Spell(0.05, 0.0, shared), Spell(0.02, shared, later), Spell(0.1, 60.0, 60.0),
    ]  # fmt: skip


def test_spells_are_used_up_as_sorted_breaks_would_be():
    count = 20_000
    spells = random_spells(np.random.default_rng(20240601), count)
    exposure = exposures("spells", count)

    def rate(start):
        return sum(np.where((s.begin <= start) & (start < s.end), s.level, 0.0) for s in spells)

    edges = [np.broadcast_to(t, count) for s in spells for t in (s.begin, s.end)]
    sorted_first = first_passage(exposure, np.stack(edges), rate)
    point = spell_passage(exposure, spells)
    assert np.array_equal(np.isinf(point), np.isinf(sorted_first))
    assert 0.2 < np.mean(np.isinf(point)) < 0.8
    reached = np.isfinite(point)
    np.testing.assert_allclose(point[reached], sorted_first[reached], rtol=1e-9)
    turned = spell_passage(exposure, spells[::-1])
    np.testing.assert_allclose(turned[reached], point[reached], rtol=1e-9)


def test_a_hazard_by_table_is_used_up_as_sorted_breaks_would_be():
    exposure = exposures("table")
    breaks, rates = np.array([1.0, 4.0, 9.0]), np.array([0.3, 0.0, 0.5, 0.05])

    def rate(start):
        return rates[np.searchsorted(breaks, start, side="right")]

    sorted_first = first_passage(exposure, np.tile(breaks[:, None], N), rate)
    np.testing.assert_allclose(
        TabledPassage.of(breaks, rates).point(exposure), sorted_first, rtol=1e-9
    )
    ending = np.array([0.3, 0.0, 0.5, 0.0])
    used_up = exposure >= 0.3 + 2.5
    assert np.array_equal(np.isinf(TabledPassage.of(breaks, ending).point(exposure)), used_up)
    assert used_up.any()


@pytest.mark.parametrize("count", [0, 4, 16, 17, 300])
def test_steps_are_counted_as_a_search_would_find_them(count):
    steps = np.sort(np.repeat(stream(1, 0, "grid").random(count), 2)[:count])
    values = np.concatenate([stream(1, 0, "steps").random(1_000), steps, np.nextafter(steps, 0.0)])
    assert np.array_equal(count_passed(steps, values), np.searchsorted(steps, values, side="right"))


def test_first_passage_is_not_fooled_by_a_shifted_interval():
    # The test of the test: an integral with one break 3 % late does not give the exposure back.
    exposure = exposures("shifted")
    breaks = np.tile([[2.0], [6.0]], N)

    def rate(start):
        return np.where(start < 2.0, 0.05, np.where(start < 6.0, 0.25, 0.10))

    point = first_passage(exposure, breaks, rate)
    right = piecewise_hazard([0.0, 2.0, 6.0], [0.05, 0.25, 0.10])
    wrong = piecewise_hazard([0.0, 2.06, 6.0], [0.05, 0.25, 0.10])
    np.testing.assert_allclose(right.cumulative(point), exposure, rtol=1e-9)
    assert p_value(right.cumulative(point), stats.expon.sf) > FALSE_ALARM
    assert np.max(np.abs(wrong.cumulative(point) - exposure)) > 0.01


@pytest.mark.parametrize(
    ("early", "late", "window"), [(0.05, 0.01, 6.0), (0.0, 0.05, 3.0), (0.3, 0.002, 2.0)]
)
def test_two_phases(early, late, window):
    exposure = exposures("two_phase")
    times = two_phase_time(exposure, early, late, window)
    law = piecewise_hazard([0.0, window], [early, late])
    np.testing.assert_allclose(law.cumulative(times), exposure, rtol=1e-9)
    assert p_value(times, law.survival) > FALSE_ALARM
    other = piecewise_hazard([0.0, window], [1.05 * early, 1.05 * late])
    assert p_value(times, other.survival) < FALSE_ALARM


def test_two_phases_that_end():
    times = two_phase_time(exposures("ending"), early=0.1, late=0.0, window=5.0)
    never = np.isinf(times)
    assert np.all(times[~never] <= 5.0)
    assert stats.binomtest(int(never.sum()), N, np.exp(-0.5)).pvalue > FALSE_ALARM


CLOCKS = {
    "weibull": WeibullClock(np.array([1.08, 1.4]), np.array([14.7, 9.0]), start=0.72),
    "exponential": WeibullClock(np.array([1.0, 1.0]), np.array([10.0, 20.0])),
    "piecewise": PiecewiseClock(
        np.array([0.0, 3.0, 12.0]), np.array([[0.05, 0.12, 0.04], [0.2, 0.0, 0.1]]), start=0.72
    ),
}
LAWS = {
    "weibull": [weibull_hazard(1.08, 14.7, 0.72), weibull_hazard(1.4, 9.0, 0.72)],
    "exponential": [weibull_hazard(1.0, 10.0), weibull_hazard(1.0, 20.0)],
    "piecewise": [
        piecewise_hazard([0.0, 3.0, 12.0], rates, 0.72)
        for rates in ([0.05, 0.12, 0.04], [0.2, 0.0, 0.1])
    ],
}


@pytest.mark.parametrize("kind", CLOCKS)
def test_clocks(kind):
    clock, stratum = CLOCKS[kind], np.arange(N) % 2
    exposure = exposures(kind)
    times = clock.time(exposure, stratum)
    np.testing.assert_allclose(clock.exposure(times, stratum), exposure, rtol=1e-9)
    for b, law in enumerate(LAWS[kind]):
        own = times[stratum == b]
        np.testing.assert_allclose(law.cumulative(own), exposure[stratum == b], rtol=1e-9)
        assert p_value(own, law.survival) > FALSE_ALARM
    assert np.all(clock.exposure(np.full(4, 0.0), stratum[:4]) == 0.0)
    swapped = LAWS[kind][1]
    first = times[stratum == 0]
    assert p_value(first, swapped.survival) < FALSE_ALARM
