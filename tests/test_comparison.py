"""The contract of every comparison: shapes, signs, kernels, batches and limits."""

import numpy as np
import pytest

from analysis.comparison.average_hazard_ratio import average_hazard_ratio
from analysis.comparison.cox import cox, stratified_cox
from analysis.comparison.early_zero import early_zero
from analysis.comparison.fleming_harrington import (
    fleming_harrington,
    stratified_fleming_harrington,
)
from analysis.comparison.logrank import logrank, stratified_logrank
from analysis.comparison.maxcombo import DEFAULT_WEIGHTS, maxcombo, normal_exceedance
from analysis.comparison.median import median_difference, median_survival
from analysis.comparison.milestone import milestone_difference
from analysis.comparison.modestly_weighted import modestly_weighted
from analysis.comparison.response_rate import response_rate_difference, response_rate_of_patients
from analysis.comparison.risk import DenseTable, RaggedTable, Sample, pack, rank_ticks
from analysis.comparison.rmst import rmst_difference, rmst_ratio, time_lost_ratio

MONTHS = 2.0**-20

COMPARISONS = {
    "logrank": logrank,
    "fh 0,0.5": lambda s: fleming_harrington(s, 0.0, 0.5),
    "fh 1,1": lambda s: fleming_harrington(s, 1.0, 1.0),
    "modestly weighted, events": lambda s: modestly_weighted(s, t_star=6.0),
    "modestly weighted, survival": lambda s: modestly_weighted(s, t_star=6.0, variant="survival"),
    "modestly weighted, w_max": lambda s: modestly_weighted(s, w_max=2.0),
    "early zero": lambda s: early_zero(s, 4.0),
    "maxcombo": maxcombo,
    "cox": cox,
    "average hazard ratio": lambda s: average_hazard_ratio(s, 20.0),
    "rmst difference": lambda s: rmst_difference(s, 24.0),
    "rmst ratio": lambda s: rmst_ratio(s, 24.0),
    "time lost": lambda s: time_lost_ratio(s, 24.0),
    "milestone": lambda s: milestone_difference(s, 12.0),
    "milestone, log-log": lambda s: milestone_difference(s, 12.0, "log-log"),
    "median": median_difference,
    "stratified logrank": lambda s: stratified_logrank([s, s]),
    "stratified fh": lambda s: stratified_fleming_harrington([s, s], 0.0, 1.0),
    "stratified cox": lambda s: stratified_cox([s, s]),
}
FIELDS = ("estimate", "standard_error", "z", "p_value")

every = pytest.mark.parametrize("compare", COMPARISONS.values(), ids=COMPARISONS)


def draw(replicates=7, n=120, *, grid=0, seed=1, effect=1.6):
    """Ticks, events and arms of trials of unequal arms; `grid` in months."""
    rng = np.random.default_rng(seed)
    shape = (replicates, n)
    arm = rng.random(shape) < 0.5
    time = rng.exponential(np.where(arm, 10.0 * effect, 10.0))
    censored = rng.uniform(8.0, 40.0, shape)
    months = np.minimum(time, censored)
    if grid:
        months = np.ceil(months / grid) * grid
    tick = np.maximum(np.rint(months / MONTHS), 1).astype(np.uint32)
    return tick, time <= censored, arm


def sample(*drawn):
    return Sample.of(pack(*drawn), MONTHS)


def rows_of(result, rows):
    return [getattr(result, field)[rows] for field in FIELDS]


@every
@pytest.mark.parametrize("grid", [0, 2], ids=["untied", "tied"])
def test_has_one_shape_and_a_one_sided_p(compare, grid):
    result = compare(sample(*draw(grid=grid)))
    assert isinstance(result.method, str)
    for field in FIELDS:
        assert getattr(result, field).shape == (7,), field
        assert getattr(result, field).dtype == np.float64
    assert np.all((result.p_value >= 0.0) & (result.p_value <= 1.0))
    order = np.argsort(result.z)
    if compare is not maxcombo:
        assert np.all(np.diff(result.p_value[order]) <= 0.0)


@every
def test_positive_z_favours_the_experimental_arm(compare):
    tick, event, arm = draw(40, 400, effect=2.5)
    assert np.median(compare(sample(tick, event, arm)).z) > 2.0
    worse = compare(sample(tick, event, ~arm))
    assert np.median(worse.z) < -1.0


@every
def test_exchanging_the_arms_changes_the_sign_alone(compare):
    if compare is maxcombo:
        pytest.skip("the largest statistic is one-sided")
    drawn = draw(grid=2)
    one, other = compare(sample(*drawn)), compare(sample(drawn[0], drawn[1], ~drawn[2]))
    np.testing.assert_allclose(one.z, -other.z, rtol=1e-9, atol=1e-12)


@every
@pytest.mark.parametrize("n", [120, 9000], ids=["short rows", "long rows"])
def test_a_replicate_alone_equals_itself_in_a_batch(compare, n):
    # Bytes, with a replicate that ties beside one that does not, and arms of unequal size.
    tick, event, arm = draw(5, n)
    # Distinct ticks over some 22 months, whatever their number.
    tick = (np.argsort(np.argsort(tick, axis=1), axis=1) + 1).astype(np.uint32)
    tick *= np.uint32(22 * 2**20 // n)
    tick[2] = np.maximum(tick[2] >> 20 << 20, 1)
    arm[3, : n // 4] = True
    whole = compare(sample(tick, event, arm))
    assert sample(tick, event, arm).tied.tolist() == [False, False, True, False, False]
    for row in range(5):
        alone = compare(sample(*(x[row : row + 1] for x in (tick, event, arm))))
        for ours, theirs in zip(rows_of(alone, [0]), rows_of(whole, [row]), strict=True):
            assert ours.tobytes() == theirs.tobytes()


@every
@pytest.mark.parametrize("grid", [0, 2], ids=["untied", "tied"])
def test_patients_who_are_not_in_the_sample_do_not_count(compare, grid):
    drawn = draw(grid=grid)
    shape = (7, 30)
    more = (
        np.zeros(shape, np.uint32),
        np.zeros(shape, bool),
        np.random.default_rng(2).random(shape) < 0.3,
    )
    padded = sample(*(np.concatenate([x, y], axis=1) for x, y in zip(drawn, more, strict=True)))
    ours, theirs = compare(padded), compare(sample(*drawn))
    for field in FIELDS:
        np.testing.assert_allclose(getattr(ours, field), getattr(theirs, field), rtol=1e-10)


TABLE_COMPARISONS = [
    name for name in COMPARISONS if "rmst" not in name and "milestone" not in name
    and name not in ("median", "time lost")
]  # fmt: skip


@pytest.mark.parametrize("name", TABLE_COMPARISONS)
def test_the_two_kernels_agree_where_nothing_ties(name, monkeypatch):
    drawn = draw()
    dense = sample(*drawn)
    assert [type(table) for _, table in dense.tables] == [DenseTable]
    expected = COMPARISONS[name](dense)
    monkeypatch.setattr(Sample, "tied", np.ones(7, dtype=bool))
    ragged = sample(*drawn)
    assert [type(table) for _, table in ragged.tables] == [RaggedTable]
    got = COMPARISONS[name](ragged)
    for field in FIELDS:
        np.testing.assert_allclose(getattr(got, field), getattr(expected, field), rtol=1e-10)


def test_the_dense_kernel_would_be_wrong_with_ties():
    # The test above can tell: with ties the dense kernel gives another answer.
    tied = sample(*draw(grid=4))
    dense = DenseTable(tied)
    careless = dense.sums.total(dense.expected) - dense.events_in_1
    assert np.all(np.abs(careless - logrank(tied).estimate) > 1e-3)


def test_order_of_patients_does_not_matter():
    tick, event, arm = draw(grid=2)
    order = np.random.default_rng(3).permutation(tick.shape[1])
    ours = logrank(sample(tick[:, order], event[:, order], arm[:, order]))
    assert ours.z.tobytes() == logrank(sample(tick, event, arm)).z.tobytes()


def test_ranks_and_ticks_give_the_same():
    tick, event, arm = draw()
    ranks, months = rank_ticks(tick * MONTHS)
    ranked = Sample.of(pack(ranks, event, arm), months)
    for compare in (logrank, cox, lambda s: rmst_difference(s, 20.0)):
        ours, theirs = compare(ranked), compare(sample(tick, event, arm))
        assert ours.z.tobytes() == theirs.z.tobytes()


def test_maxcombo_is_between_its_smallest_p_and_bonferroni():
    drawn = sample(*draw(100, 150, effect=1.2))
    result = maxcombo(drawn)
    parts = np.stack([fleming_harrington(drawn, *w).p_value for w in DEFAULT_WEIGHTS])
    smallest = parts.min(axis=0)
    assert np.all(result.p_value >= smallest * (1.0 - 1e-12))
    assert np.all(result.p_value <= np.minimum(len(parts) * smallest, 1.0) * (1.0 + 1e-12))


def test_maxcombo_of_one_test_twice_is_that_test():
    drawn = sample(*draw())
    twice = maxcombo(drawn, [(0, 1), (0, 1)])
    np.testing.assert_allclose(twice.p_value, fleming_harrington(drawn, 0, 1).p_value, rtol=1e-9)


def test_a_tail_is_exact_to_a_part_of_itself():
    # Independent: 1 - Phi(c)**3, also where that is 1e-9.
    bound = np.array([2.0, 4.0, 6.0])
    from scipy.special import ndtr

    tail = ndtr(-bound)
    expected = 3 * tail - 3 * tail**2 + tail**3
    got = normal_exceedance(bound, np.broadcast_to(np.eye(3), (3, 3, 3)))
    np.testing.assert_allclose(got, expected, rtol=1e-3)


def tiny(events, arms):
    """One replicate, patients with events or not at times 1, 2, ..."""
    n = len(events)
    tick = np.arange(1, n + 1, dtype=np.uint32)[None]
    return Sample.of(pack(tick, np.array([events], dtype=bool), np.array([arms], dtype=bool)), 1.0)


@pytest.mark.parametrize(
    ("arms", "events", "estimate"),
    [
        ([0, 1, 0, 1], [1, 0, 1, 0], -np.inf),
        ([1, 0, 1, 0], [1, 0, 1, 0], np.inf),
        ([0, 0, 1, 1], [0, 0, 1, 1], np.nan),
        ([0, 1, 0, 1], [0, 0, 0, 0], np.nan),
    ],
    ids=["no event in the experimental arm", "none in control", "never both at risk", "no event"],
)
def test_cox_without_a_maximum(arms, events, estimate):
    result = cox(tiny(events, arms))
    np.testing.assert_equal(result.estimate[0], estimate)
    assert (result.standard_error[0], result.z[0], result.p_value[0]) == (np.inf, 0.0, 0.5)


@every
def test_nothing_is_said_of_a_sample_without_events(compare):
    result = compare(tiny([0, 0, 0, 0], [0, 1, 0, 1]))
    assert result.z[0] == 0.0


def test_an_unreached_median_says_nothing():
    result = median_difference(tiny([1, 0, 0, 1, 0, 0], [0, 1, 0, 1, 0, 1]))
    assert result.z[0] == 0.0
    assert np.isinf(result.standard_error[0])


def test_responses_of_patients_are_those_of_their_counts():
    rng = np.random.default_rng(4)
    response, arm, seen = (rng.random((5, 80)) < p for p in (0.4, 0.5, 0.9))
    ours = response_rate_of_patients(response, arm, seen)
    one, zero = arm & seen, ~arm & seen
    theirs = response_rate_difference(
        (response & one).sum(axis=1), one.sum(axis=1), (response & zero).sum(axis=1),
        zero.sum(axis=1),
    )  # fmt: skip
    assert ours.z.tobytes() == theirs.z.tobytes()
    assert response_rate_difference([5], [5], [0], [0]).z[0] == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: fleming_harrington(s, -1, 0), "rho and gamma must be at least 0, got -1 and 0"),
        (lambda s: modestly_weighted(s), "modestly_weighted needs t_star or w_max, and not both"),
        (
            lambda s: modestly_weighted(s, t_star=1.0, variant="x"),
            "variant must be events or survival, got 'x'",
        ),
        (lambda s: rmst_difference(s, 0.0), "tau must be above 0, got 0"),
        (lambda s: average_hazard_ratio(s, -1.0), "tau must be above 0, got -1"),
        (lambda s: milestone_difference(s, 1.0, "log"), "scale must be identity or log-log"),
        (lambda s: maxcombo(s, []), "maxcombo needs at least one pair of rho and gamma"),
        (lambda s: stratified_cox([]), "stratified_cox needs one sample for each stratum"),
        (lambda s: stratified_logrank([]), "stratified_logrank needs one sample for each stratum"),
        (lambda s: response_rate_difference([2], [1], [0], [1]), "responders must be between 0"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        call(tiny([1, 1], [0, 1]))


def test_an_event_at_tick_zero_is_refused():
    sample = Sample.of(
        pack(np.zeros((1, 2), np.uint32), np.ones((1, 2), bool), np.ones((1, 2), bool)), 1.0
    )
    for compare in (logrank, median_difference):
        with pytest.raises(ValueError, match="an event at tick 0"):
            compare(sample)


def test_a_median_that_one_visit_carries_past_has_the_error_of_the_visit():
    # Ten patients: four events at month 1 (survival 0.6), three at month 2 (0.3), three go on.
    tick = np.array([[1] * 4 + [2] * 3 + [3] * 3 + [5] * 4], dtype=np.uint32)
    event = np.array([[True] * 7 + [False] * 3 + [True, True, False, False]])
    arm = np.array([[False] * 10 + [True] * 4])
    median, error = median_survival(Sample.of(pack(tick, event, arm), 1.0).arms[0])
    # Collett: S at the median times the root of Greenwood's sum, over the density there.
    density = (0.6 - 0.3) / (2.0 - 1.0)
    greenwood = 4.0 / (10.0 * 6.0) + 3.0 / (6.0 * 3.0)
    assert median[0] == 2.0
    assert error[0] == pytest.approx(0.3 * np.sqrt(greenwood) / density, rel=1e-12)
