"""True values: closed forms where there are any, and that they are not what they should not be."""

import numpy as np
import pytest
from scipy.integrate import quad

from analysis.operating import Truth, summarise
from sim.conduct import conduct_trials
from sim.estimand import FIRST_BLOCK, estimate_truths
from sim.exact import piecewise_hazard
from sim.randomness import BLOCK

RATE = np.log(2.0) / 10.0
METHODS = (
    "['rmst_difference(24)','rmst_ratio(24)','milestone_difference(12)',median_difference,cox,"
    "logrank]"
)
DATES = {"final": 32.5}


@pytest.fixture(scope="module")
def plan(load):
    def of(*overrides):
        return load("scenario=delayed_effect", f"trial.comparisons={METHODS}", *overrides).trial

    return of


@pytest.fixture(scope="module")
def delayed(plan):
    return estimate_truths(plan(), DATES, 200_000)


def exact(onset):
    """True values of a hazard ratio of 0.6 from `onset` on."""
    control = piecewise_hazard([0.0], [RATE])
    arm = piecewise_hazard([0.0, onset], [RATE, 0.6 * RATE])
    areas = [
        quad(lambda t, h=h: float(h.survival(t)), 0.0, 24.0, points=[onset])[0]
        for h in (control, arm)
    ]
    medians = [float(h.inverse(np.log(2.0))) for h in (control, arm)]
    return {
        "rmst_difference(24)": areas[1] - areas[0],
        "rmst_ratio(24)": np.log(areas[1] / areas[0]),
        "milestone_difference(12)": float(arm.survival(12.0) - control.survival(12.0)),
        "median_difference": medians[1] - medians[0],
    }


@pytest.mark.parametrize("method", exact(4.0))
def test_true_values_of_the_population_have_closed_forms(delayed, method):
    truth = delayed["final", "experimental", "pfs", method]
    # Chance: within four of its own errors, which tells an onset of 4 months from one of 5.
    assert abs(truth.value - exact(4.0)[method]) < 4.0 * truth.error
    assert abs(truth.value - exact(5.0)[method]) > 4.0 * truth.error


def test_proportional_hazards_are_estimated_as_they_are(plan, delayed):
    key = ("final", "experimental", "pfs", "cox")
    truth = estimate_truths(plan("agents.delayed.onset=0"), DATES, 200_000)[key]
    assert abs(truth.value - np.log(0.6)) < 4.0 * truth.error
    assert abs(delayed[key].value - np.log(0.6)) > 10.0 * truth.error


def test_a_score_has_no_true_value(delayed):
    assert not [key for key in delayed if key[3] == "logrank"]


def test_nobody_is_lost_where_the_population_is_meant(plan, delayed):
    lost = estimate_truths(plan("trial.dropout=0.05"), {"final": 20.0}, 200_000)
    for key, truth in delayed.items():
        if key[3] == "cox":
            # Less is seen of the time in which the arms differ.
            assert abs(lost[key].value) < abs(truth.value) - 4.0 * np.hypot(
                lost[key].error, truth.error
            )
        else:
            assert lost[key] == truth


def test_the_same_patients_are_in_both_arms(plan):
    null = estimate_truths(plan("agents.delayed.hazard_ratio.escape=1.0"), DATES, 50_000)
    # Their entries and losses are the same too, so that nothing is left to chance.
    assert set(null.values()) == {Truth(0.0, 0.0)}


def test_the_error_is_the_spread_over_seeds(plan):
    found = [estimate_truths(plan(f"seed={seed}"), DATES, 25_000) for seed in range(100, 124)]
    for method in ("rmst_difference(24)", "cox"):
        truths = [item["final", "experimental", "pfs", method] for item in found]
        spread = np.std([truth.value for truth in truths], ddof=1)
        told = np.mean([truth.error for truth in truths])
        # Chance: 24 seeds know a standard deviation to 15 %; unpaired arms would be 60 % off.
        assert 0.6 < told / spread < 1.6


def test_no_replicate_uses_the_blocks_of_the_cohort():
    assert FIRST_BLOCK * BLOCK > 10**11


def test_estimates_are_unbiased_and_their_intervals_cover(plan):
    trial = plan()
    done = conduct_trials(trial, 4000)
    dates = {"final": float(done.cuts["final"].date.mean())}
    truths = estimate_truths(trial, dates, 200_000)

    def measures(truths, method):
        rows = summarise(done.cuts, trial.alpha, truths)
        return rows[rows["method"] == method].set_index("measure")

    for method in ("rmst_difference(24)", "milestone_difference(12)", "cox"):
        rows = measures(truths, method)
        bias, coverage = rows.loc["bias"], rows.loc["coverage"]
        # Chance: 3.5 Monte Carlo errors of 4,000 trials: 0.06 standard errors, and 1.2 points.
        assert abs(bias["estimate"]) < 3.5 * bias["mc_error"]
        assert abs(coverage["estimate"] - 0.95) < 3.5 * coverage["mc_error"]
        # A true value that is a third of a standard error off is noticed in both.
        spread = rows.loc["empirical_standard_error", "estimate"]
        wrong = {k: Truth(t.value + spread / 3.0, t.error) for k, t in truths.items()}
        rows = measures(wrong, method)
        bias, coverage = rows.loc["bias"], rows.loc["coverage"]
        assert abs(bias["estimate"]) > 3.5 * bias["mc_error"]
        assert abs(coverage["estimate"] - 0.95) > 3.0 * np.sqrt(0.95 * 0.05 / 4000)


def test_every_arm_and_cut_has_its_own(load):
    trial = load(
        "trial=first_line_phase3", "trial.arms=[anti_pd1,anti_pd1_chemotherapy,anti_pd1_ctla4]",
        "trial.block_size=6", "trial.comparisons=[cox,'rmst_difference(24)']",
    ).trial  # fmt: skip
    truths = estimate_truths(trial, {"interim": 21.0, "final": 55.0}, 20_000)
    assert len(truths) == 2 * 2 * 2 * 2
    for arm in ("anti_pd1_chemotherapy", "anti_pd1_ctla4"):
        for endpoint in ("pfs", "os"):
            key = (arm, endpoint, "rmst_difference(24)")
            assert truths["interim", *key] == truths["final", *key]
            key = (arm, endpoint, "cox")
            assert truths["interim", *key] != truths["final", *key]
