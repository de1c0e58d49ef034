"""Trials fitted together: toy trials whose joint estimate has a closed form."""

from dataclasses import dataclass

import numpy as np
import pytest

from analysis.pooling import (
    CLASSES,
    HYPERPRIORS,
    SCATTER,
    PooledMeans,
    Tied,
    draw_new_trial,
    estimated_scatter,
    new_trial,
    pool_trials,
    tied_parameters,
)
from sim.parameter import Parameter

MEAN = "acquired_scale/mean"
CENTRE, SPREAD = HYPERPRIORS[MEAN]


@dataclass(frozen=True)
class Toy:
    """A trial with one number, of which one result is normal with a known error."""

    name: str
    tied: tuple
    own: tuple
    seen: tuple
    """Of each number, on its scale."""
    error: float

    @property
    def parameters(self):
        return (*self.tied, *self.own)

    def residuals(self, free):
        return (free - np.array(self.seen)) / self.error


def number(name="scale", means=None):
    """A number of the group "clock"."""
    parameter = Parameter(name, "a.b", "log", float(np.exp(CENTRE)), 0.7)
    return Tied(parameter, "acquired_scale", "clock", {MEAN: 1.0} if means is None else means)


def toys(seen, error=0.1):
    return [Toy(f"trial{i}", (number(),), (), (y,), error) for i, y in enumerate(seen)]


SEEN = (2.2, 2.9, 3.1)


def closed_form(seen, error, scatter):
    """Posterior means of trials and of their mean, by the marginal of the mean."""
    seen = np.array(seen)
    each = 1.0 / (error**2 + scatter**2)
    precision = len(seen) * each + SPREAD**-2.0
    mean = (each * seen.sum() + CENTRE / SPREAD**2) / precision
    toward = scatter**2 / (scatter**2 + error**2)
    return toward * seen + (1.0 - toward) * mean, mean, 1.0 / precision


@pytest.mark.parametrize("error", [0.05, 0.3])
def test_trials_that_share_a_mean_are_the_closed_form(error):
    pool = pool_trials(toys(SEEN, error), rounds=1, tolerance=1e-12)
    own, mean, variance = closed_form(SEEN, error, SCATTER["clock"])
    at = pool.means.index(MEAN)
    assert pool.mean_values[at] == pytest.approx(mean, abs=1e-6)
    assert [pool.of_trial(f"trial{i}")[0] for i in range(3)] == pytest.approx(own, abs=1e-6)
    assert pool.mean_covariance[at, at] == pytest.approx(variance, rel=1e-6)
    # Trials that were not told of each other stay where they were seen.
    assert np.abs(own - SEEN).max() > 0.005


def test_means_that_no_trial_has_keep_their_priors():
    pool = pool_trials(toys(SEEN), rounds=1)
    for j, name in enumerate(pool.means):
        if name != MEAN:
            assert pool.mean_values[j] == pytest.approx(HYPERPRIORS[name][0], abs=1e-9)
            assert pool.mean_covariance[j, j] == pytest.approx(HYPERPRIORS[name][1] ** 2)


def test_a_number_that_no_trial_shares_keeps_its_own_prior():
    alone = number("mine", {})
    far = CENTRE + 1.0
    trials = [Toy("a", (number(),), (alone,), (2.5, far), 0.1), *toys(SEEN)]
    pool = pool_trials(trials, rounds=1, tolerance=1e-12)
    # Normal with sd 0.7 about its mean, seen with error 0.1.
    share = 0.7**2 / (0.7**2 + 0.1**2)
    assert pool.of_trial("a")[1] == pytest.approx(CENTRE + share, abs=1e-6)
    # It tells nothing of the mean.
    _, mean, _ = closed_form((2.5, *SEEN), 0.1, SCATTER["clock"])
    assert pool.mean_values[pool.means.index(MEAN)] == pytest.approx(mean, abs=1e-6)


def test_a_result_of_two_classes_pulls_both_means():
    mixed = {"primary/high": 0.5, "primary/low": 0.5}
    tied = Tied(Parameter("p", "a.b", "logit", 0.4, 1.0), "primary", "share", mixed)
    pool = pool_trials([Toy("a", (tied,), (), (1.0,), 0.01)], rounds=1)
    high, low = (pool.mean_values[pool.means.index(f"primary/{c}")] for c in ("high", "low"))
    assert high > HYPERPRIORS["primary/high"][0]
    # Equal priors' widths and weights: both move by the same.
    moved = high - HYPERPRIORS["primary/high"][0]
    assert low - HYPERPRIORS["primary/low"][0] == pytest.approx(moved, rel=1e-6)
    at = [pool.means.index(f"primary/{c}") for c in ("high", "low")]
    assert pool.mean_covariance[at[0], at[1]] < -0.01


def test_scatter_follows_what_trials_show():
    alike = pool_trials(toys((2.6, 2.61, 2.6, 2.59, 2.6, 2.6, 2.61, 2.6), 0.02), rounds=3)
    apart = pool_trials(toys((1.6, 3.6, 1.8, 3.3, 2.0, 3.2, 1.7, 3.5), 0.02), rounds=3)
    assert alike.scatter["clock"] < SCATTER["clock"] < apart.scatter["clock"]
    # By the moments: eight values with the weight of four more at the start's.
    values = np.array((1.6, 3.6, 1.8, 3.3, 2.0, 3.2, 1.7, 3.5))
    expected = np.sqrt((4.0 * SCATTER["clock"] ** 2 + 8.0 * values.var()) / 12.0)
    assert apart.scatter["clock"] == pytest.approx(expected, rel=0.15)
    # Groups without a number keep their start.
    assert apart.scatter["share"] == SCATTER["share"]
    assert estimated_scatter(apart)["clock"] == pytest.approx(apart.scatter["clock"], rel=0.1)


def test_one_turn_of_the_scatter_is_its_formula():
    pool = pool_trials(toys(SEEN, 0.1), rounds=1, tolerance=1e-12)
    own, mean, variance = closed_form(SEEN, 0.1, SCATTER["clock"])
    s2, e2 = SCATTER["clock"] ** 2, 0.1**2
    # A departure x - m, given the mean, has the variance of shrinkage; the mean adds to it.
    left = s2 * e2 / (s2 + e2) + (s2 / (s2 + e2)) ** 2 * variance
    squares = (own - mean) ** 2 + left
    expected = np.sqrt((4.0 * s2 + squares.sum()) / 7.0)
    assert estimated_scatter(pool)["clock"] == pytest.approx(expected, rel=1e-5)


def test_the_order_of_trials_does_not_matter():
    forth, back = pool_trials(toys(SEEN)), pool_trials(toys(SEEN)[::-1])
    assert forth.mean_values == pytest.approx(back.mean_values, abs=1e-6)
    for i in range(3):
        assert forth.of_trial(f"trial{i}") == pytest.approx(back.of_trial(f"trial{i}"), abs=1e-6)
    with pytest.raises(KeyError):
        forth.of_trial("unknown")


# ---------------------------------------------------------------- what a trial has


def test_numbers_of_a_trial_by_what_it_gives():
    strata = {"tps_high": CLASSES["tps_high"], "tps_low": CLASSES["tps_low"]}
    both = tied_parameters("first", strata, True, {"doublet": "platinum"}, joint=True)
    names = [t.parameter.name for t in both]
    assert len(names) == len(set(names)) == 4 * 2 + 4 + 3 + 9 + 1
    paths = {t.parameter.path for t in both}
    assert "population.strata.tps_high.primary" in paths
    assert "agents.doublet.activity.background_hazard.1" in paths
    plain = tied_parameters("first", strata, True, {}, joint=False)
    assert "joint_response" not in {t.kind for t in plain}
    alone = tied_parameters("first", strata, False, {"doublet": "docetaxel"}, joint=False)
    assert all(t.parameter.path.startswith("agents.doublet") for t in alone)
    assert all(set(t.means.values()) == {1.0} for t in alone)


@pytest.mark.parametrize("line", ["later", "after_ici"])
def test_a_later_line_adds_its_own_mean(line):
    strata = {"all": CLASSES["all"]}
    first, later = (tied_parameters(x, strata, True, {}, joint=False) for x in ("first", line))
    for a, b in zip(first, later, strict=True):
        more = {k: v for k, v in b.means.items() if k not in a.means}
        if a.kind in ("primary", "responding", "durable_responding", "durable_controlled"):
            assert more == {f"{a.kind}/{line}": 1.0}
        elif a.kind in ("tumour_death", "background_early", "background_late"):
            assert more == {f"{a.kind}/later": 1.0}
        else:
            assert not more


def test_shares_of_classes_add_up():
    for mix in CLASSES.values():
        assert sum(mix.values()) == pytest.approx(1.0)


# ---------------------------------------------------------------- a trial to come


@pytest.fixture(scope="module")
def kept():
    return PooledMeans.of(pool_trials(toys(SEEN), rounds=2), "three toys")


def test_a_new_trial_has_the_mean_and_both_variances(kept):
    trial = new_trial(kept, (number(), number("own", {})))
    at = kept.names.index(MEAN)
    assert trial.centre.tolist() == pytest.approx([kept.values[at], CENTRE])
    assert trial.calibration[0, 0] == pytest.approx(kept.covariance[at, at])
    assert trial.between.tolist() == pytest.approx([kept.scatter["clock"] ** 2, 0.0])
    assert trial.alone.tolist() == pytest.approx([0.0, 0.49])
    assert trial.calibration[1].tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="no mean 'x/y'"):
        new_trial(kept, (number("n", {"x/y": 1.0}),))


def test_draws_have_the_variance_that_is_asked_for(kept):
    numbers = (number(), number("own", {}))
    scores = np.random.default_rng(5).standard_normal((20_000, 2))
    trial = new_trial(kept, numbers)
    drawn = draw_new_trial(kept, numbers, scores)
    variance = np.diag(trial.calibration) + trial.between + trial.alone
    # Chance: the relative error of a variance of 20,000 draws is 1 %; five of them.
    assert drawn.var(axis=0) == pytest.approx(variance, rel=0.05)
    off = draw_new_trial(kept, numbers, scores, calibration=False, between=False, alone=False)
    assert off == pytest.approx(np.broadcast_to(trial.centre, off.shape))
    only = draw_new_trial(kept, numbers, scores, between=False, alone=False)
    assert only[:, 0].var() == pytest.approx(trial.calibration[0, 0], rel=0.05)


def test_what_is_kept_can_be_read_again(kept, tmp_path):
    kept.write(tmp_path / "pool.json")
    back = PooledMeans.read(tmp_path / "pool.json")
    assert back.names == kept.names
    assert back.values == pytest.approx(kept.values, rel=1e-8)
    assert back.covariance == pytest.approx(kept.covariance, rel=1e-7, abs=1e-12)
    assert back.trials["trial0"]["scale"] == pytest.approx(kept.trials["trial0"]["scale"], rel=1e-8)
    assert (back.scatter.keys(), back.note) == (kept.scatter.keys(), "three toys")


@pytest.mark.parametrize(
    ("covariance", "message"),
    [([[1.0]], "2 means, covariance of shape"), ([[1.0, 2.0], [2.0, 1.0]], "positive definite")],
)
def test_a_pool_that_is_none_is_refused(tmp_path, covariance, message):
    import json

    kept = {"means": {"a": 0.0, "b": 1.0}, "covariance": covariance, "scatter": {}, "trials": {},
            "note": ""}  # fmt: skip
    (tmp_path / "pool.json").write_text(json.dumps(kept))
    with pytest.raises(ValueError, match=message):
        PooledMeans.read(tmp_path / "pool.json")
