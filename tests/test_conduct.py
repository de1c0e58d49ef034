"""Conducted trials: power against other programs, sizes, and the same bytes however they are spread."""

import numpy as np
import pytest
from hydra import compose, initialize_config_module

from analysis.operating import CutResults, MethodResults, paired_power, summarise
from sim.command import register_schema
from sim.conduct import conduct_trials
from sim.config import read_run
from sim.errors import ScenarioError

# Method triangulation of the oracles, simulated there with 20,000 trials (error 0.0028):
# 20 patients a month for 18 months, study of 36 months, control median 12, hazard ratio 1 for
# 4 months and then 0.6, dropout 0.001.
TRIANGULATION = (
    "scenario=delayed_effect",
    f"population.acquired.scale={12.0 / np.log(2.0)}",
    "trial.n_patients=360",
    "trial.accrual.duration=18",
    "trial.dropout=0.001",
    "trial.cuts.final={endpoint: pfs, events: null, date: 36}",
)


def plan(*overrides):
    register_schema()
    with initialize_config_module("configs", version_base="1.3"):
        return read_run(compose("run", overrides=list(overrides))).trial


def table(done, alpha=0.025):
    return summarise(done.cuts, alpha).set_index(["cut", "arm", "endpoint", "method", "measure"])


@pytest.fixture(scope="module")
def triangulated():
    names = "[logrank,'fleming_harrington(0,1)','fleming_harrington(0,0.5)','rmst_difference(24)']"
    return conduct_trials(plan(*TRIANGULATION, f"trial.comparisons={names}"), 5000)


def power(done, method):
    row = table(done).loc[("final", "experimental", "pfs", method, "power")]
    return row["estimate"], row["mc_error"]


@pytest.mark.parametrize(
    ("method", "theirs"), [("logrank", 0.81205), ("fleming_harrington(0,1)", 0.89255)]
)
def test_power_agrees_with_another_simulator(triangulated, method, theirs):
    ours, error = power(triangulated, method)
    # Chance: within three errors of the difference of two simulations.
    assert abs(ours - theirs) < 3.0 * np.hypot(error, 0.0028)


@pytest.mark.parametrize(
    ("method", "analytic"),
    [("fleming_harrington(0,0.5)", 0.8950368), ("rmst_difference(24)", 0.5886355)],
)
def test_power_agrees_with_analytic_approximations(triangulated, method, analytic):
    ours, error = power(triangulated, method)
    assert abs(ours - analytic) < 0.015 + 3.0 * error


def test_expected_events_agree_with_the_closed_form(triangulated):
    row = table(triangulated).loc[("final", "", "pfs", "", "events")]
    assert abs(row["estimate"] - 252.42999) < 3.5 * row["mc_error"]
    assert abs(row["estimate"] * 1.01 - 252.42999) > 3.5 * row["mc_error"]


def test_without_an_effect_the_size_is_alpha():
    null = plan(
        *TRIANGULATION, "agents.delayed.hazard_ratio.escape=1.0",
        "trial.comparisons=[logrank,'fleming_harrington(0,0.5)',cox,maxcombo]",
    )  # fmt: skip
    sizes = table(conduct_trials(null, 4000)).xs("power", level="measure")
    # Chance: 3.5 Monte Carlo errors (0.0025 at 0.025), which notices a size of 0.035.
    assert np.all(np.abs(sizes["estimate"] - 0.025) < 3.5 * 0.0025)


def test_workers_and_more_replicates_change_no_byte():
    trial = plan("scenario=delayed_effect")
    one = conduct_trials(trial, 400)
    two = conduct_trials(trial, 400, n_workers=2)
    few = conduct_trials(trial, 130)
    key = ("experimental", "pfs", "logrank")
    for part in ("estimate", "standard_error", "z", "p_value"):
        whole = getattr(one.cuts["final"].methods[key], part)
        assert whole.tobytes() == getattr(two.cuts["final"].methods[key], part).tobytes()
        assert whole[:130].tobytes() == getattr(few.cuts["final"].methods[key], part).tobytes()


def test_arms_are_compared_with_the_control_alone():
    both = "trial.arms=[anti_pd1,anti_pd1_chemotherapy,anti_pd1_ctla4]"
    three = conduct_trials(
        plan("trial=first_line_phase3", both, "trial.comparisons=[logrank]", "trial.block_size=6"),
        100,
    )
    methods = three.cuts["final"].methods
    assert {arm for arm, _, _ in methods} == {"anti_pd1_chemotherapy", "anti_pd1_ctla4"}
    gain = methods["anti_pd1_chemotherapy", "os", "logrank"].z.mean()
    assert gain > methods["anti_pd1_ctla4", "os", "logrank"].z.mean() > 0.0


def test_performance_measures_carry_their_monte_carlo_errors():
    rng = np.random.default_rng(1)
    estimate, error = rng.normal(0.3, 0.1, 2000), rng.normal(0.1, 0.005, 2000)
    p_value = rng.random(2000)
    results = CutResults(
        date=np.full(2000, 30.0),
        target_reached=np.ones(2000, dtype=bool),
        enrolled=np.full(2000, 300.0),
        events={"pfs": np.full(2000, 200.0)},
        methods={("a", "pfs", "x"): MethodResults(estimate, error, estimate / error, p_value)},
    )
    rows = summarise({"final": results}, 0.1).set_index(["method", "measure"])
    row = rows.loc[("x", "power")]
    assert row["estimate"] == np.mean(p_value <= 0.1)
    assert row["mc_error"] == pytest.approx(np.sqrt(row["estimate"] * (1 - row["estimate"]) / 2000))
    row = rows.loc[("x", "empirical_standard_error")]
    assert row["mc_error"] == pytest.approx(row["estimate"] / np.sqrt(2 * 1999))
    row = rows.loc[("x", "mean_standard_error")]
    assert row["estimate"] == pytest.approx(np.sqrt(np.mean(error**2)))
    # The delta method against the spread of the measure over resamples.
    resampled = [np.sqrt(np.mean(rng.choice(error, 2000) ** 2)) for _ in range(400)]
    assert row["mc_error"] == pytest.approx(np.std(resampled), rel=0.2)


def test_paired_power_has_the_error_of_a_paired_difference():
    rng = np.random.default_rng(2)
    shared = rng.normal(size=4000)
    p = [np.clip(0.5 + 0.3 * (shared + 0.2 * rng.normal(size=4000)), 0, 1) for _ in range(2)]
    one, two = (MethodResults(x, x, x, x) for x in p)
    difference, error = paired_power(one, two, 0.3)
    assert difference == pytest.approx(np.mean(p[0] <= 0.3) - np.mean(p[1] <= 0.3))
    unpaired = np.sqrt(2 * 0.25 * 0.75 / 4000)
    assert error < 0.6 * unpaired


BAD = {
    "trial.arms=[control,nobody]": "trial.arms: no strategy named 'nobody'.",
    "trial.comparisons=[logrnk]": "trial.comparisons[0]: no comparison named 'logrnk'. Did you mean 'logrank'?",
    "trial.comparisons=['rmst_difference']": "trial.comparisons[0]: rmst_difference takes a number of months in brackets, got 'rmst_difference'",
    "trial.comparisons=['logrank(1)']": "trial.comparisons[0]: logrank takes nothing in brackets, got 'logrank(1)'",
    "trial.comparisons=['modestly_weighted(6,early)']": "trial.comparisons[0]: modestly_weighted takes a number of months (and events or survival if not events), or w_max=NUMBER in brackets",
    "trial.comparisons=['maxcombo(0,0;1)']": "trial.comparisons[0]: maxcombo takes nothing or pairs of rho and gamma",
    "trial.endpoints=[pfs3]": "trial.endpoints[0] must be one of pfs, os, orr, duration_of_response, durable_clinical_benefit, acquired_resistance, pfs2, got 'pfs3'",
    "trial.cuts.final.endpoint=orr": "trial.cuts.final.endpoint must be one of pfs, os, pfs2, got 'orr'",
    "+trial.cuts.final.stratum_events.high=3": "trial.cuts.final.stratum_events: no stratum named 'high'.",
    "trial.cuts.final.also=[{endpoint: os}]": "trial.cuts.final.also[0].events, date or follow_up must be given",
    "trial.eligibility.strata=[high]": "trial.eligibility.strata[0]: no stratum named 'high'.",
    "trial.eligibility.positive=[vegf]": "trial.eligibility.positive[0]: no mechanism named 'vegf'.",
    "trial.eligibility.sensitivity=2": "trial.eligibility.sensitivity must be between 0 and 1, got 2",
    "trial.accrual.of_screened=true": "trial.accrual.of_screened must be false where a duration is given",
    "trial.cuts.final.events=null": "trial.cuts.final.events, date or follow_up must be given",
    "trial.cuts.final.events=0": "trial.cuts.final.events must be at least 1, got 0",
    "trial.block_size=3": "trial.block_size must be a multiple",
    "trial.accrual.duration=0": "trial.accrual.duration or rates must be given",
    "trial.n_patients=0": "trial.n_patients must be finite and greater than 0, got 0",
    "trial.weights=[1]": "trial.weights must hold one number for each of 2 different arms, got 1",
    "trial.alpha=2": "trial.alpha must be between 0 and 1, got 2",
}  # fmt: skip


@pytest.mark.parametrize("override", BAD)
def test_a_bad_design_is_named_by_its_path(override):
    with pytest.raises(ScenarioError) as error:
        conduct_trials(plan("scenario=delayed_effect", override), 1)
    assert str(error.value).startswith(BAD[override])
    assert "\n" not in str(error.value)
