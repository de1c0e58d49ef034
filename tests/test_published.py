"""Published results against simulated ones: each measure counted again, and slips refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.published import compare_targets, score_arms, simulated_result
from sim import simulate_cohort
from sim.assessment import PR
from sim.command import register_schema
from sim.config import check_run, read_config
from sim.errors import ScenarioError
from sim.schema import RunConfig, TargetConfig
from sim.sweep.definition import composed
from sim.target import check_targets, read_measure, target_name

ARM, CONTROL = "pembrolizumab_chemotherapy_keynote189", "chemotherapy_keynote189"
STOP = 24.15
"""35 cycles of 3 weeks, months."""


@pytest.fixture(scope="module")
def run(load):
    return load("scenario=KEYNOTE189")


@pytest.fixture(scope="module")
def cohort(run):
    return simulate_cohort(run.scenario, n_patients=3000, seed=5, follow_up=run.follow_up)


def target(measure, value=0.5, strategy=ARM, **more):
    given = {"n": 100, "tolerance": 0.03, "source": "garassino2023", "checked": "verified"}
    return TargetConfig(strategy=strategy, measure=measure, value=value, **(given | more))


def result(run, cohort, measure, **more):
    return simulated_result(target(measure, **more), cohort, run.scenario, run.published)[0]


def product_limit(time, event):
    """Kaplan-Meier by its definition: survival just after each time, in order."""
    order = np.argsort(time, kind="stable")
    time, event = time[order], event[order]
    moments = np.unique(time[event])
    at_risk = np.array([np.sum(time >= moment) for moment in moments])
    events = np.array([np.sum((time == moment) & event) for moment in moments])
    return moments, np.cumprod(1.0 - events / at_risk)


def rate(time, event, month):
    moments, survival = product_limit(time, event)
    return float(np.append(1.0, survival)[np.searchsorted(moments, month, side="right")])


def median(time, event):
    moments, survival = product_limit(time, event)
    return float(moments[survival <= 0.5][0])


def cox_of_lifelines(first, second, end=np.inf):
    """Hazard ratio of the second sample against the first, by lifelines."""
    from lifelines import CoxPHFitter

    time = np.concatenate([first[0], second[0]])
    event = np.concatenate([first[1], second[1]]) & (time <= end)
    table = pd.DataFrame(
        {
            "time": np.minimum(time, end),
            "event": event,
            "arm": np.repeat([0.0, 1.0], [len(first[0]), len(second[0])]),
        }
    )
    fitted = CoxPHFitter().fit(table, "time", "event", fit_options={"precision": 1e-10})
    return float(fitted.hazard_ratios_["arm"])


def seen(cohort, s, endpoint, member=slice(None)):
    observed = cohort.observed
    time, event = (getattr(observed, f"{endpoint}_{what}")[0, s] for what in ("time", "event"))
    return time[member], event[member]


@pytest.mark.parametrize("endpoint", ["pfs", "os"])
def test_a_hazard_ratio_is_that_of_cox_over_the_follow_up(run, cohort, endpoint):
    arms = [seen(cohort, s, endpoint) for s in (1, 0)]
    interval = {"interval": [0.4, 0.6]}
    short = result(run, cohort, f"hr_{endpoint}", follow_up=9.0, **interval)
    usual = result(run, cohort, f"hr_{endpoint}", **interval)
    # Round-off: two programs that iterate to their own ends.
    assert short == pytest.approx(cox_of_lifelines(*arms, 9.0), rel=1e-6)
    assert usual == pytest.approx(cox_of_lifelines(*arms, 60.0), rel=1e-6)
    # Hazards are not proportional here, so that follow-up left out would be seen.
    assert abs(np.log(short / usual)) > 0.03


def test_a_hazard_ratio_turns_over_with_its_arms(run, cohort):
    given = {"interval": [0.4, 0.6]}
    ratio = result(run, cohort, "hr_os", **given)
    turned = result(run, cohort, "hr_os", strategy=CONTROL, against=ARM, **given)
    assert ratio * turned == pytest.approx(1.0, rel=1e-6)
    assert ratio < 0.9


@pytest.mark.parametrize("b", [0, 1, 2])
def test_results_of_a_stratum_are_of_its_patients(run, cohort, b):
    name = run.scenario.population.strata[b]
    member = cohort.stratum[0] == b
    orr = result(run, cohort, "orr", stratum=name)
    assert orr == np.mean(cohort.observed.best_response[0, 0][member] <= PR)
    arms = [seen(cohort, s, "os", member) for s in (1, 0)]
    ratio = result(run, cohort, "hr_os", stratum=name, interval=[0.4, 0.6])
    assert ratio == pytest.approx(cox_of_lifelines(*arms, 60.0), rel=1e-6)
    expected = median(*seen(cohort, 0, "pfs", member))
    assert result(run, cohort, "median_pfs", stratum=name) == expected
    # Everybody's would be another number.
    assert abs(orr - result(run, cohort, "orr")) > 0.01


def test_rates_and_medians_are_those_of_the_product_limit(run, cohort):
    assert result(run, cohort, "rate_os_24") == pytest.approx(
        rate(*seen(cohort, 0, "os"), 24.0), abs=1e-12
    )
    assert result(run, cohort, "median_os") == median(*seen(cohort, 0, "os"))


def test_completers_are_those_whose_last_dose_is_at_the_planned_stop(run, cohort):
    completed = cohort.observed.last_dose[0, 0] > STOP - 1e-5
    assert 0.1 < completed.mean() < 0.3
    assert result(run, cohort, "completed") == completed.mean()
    response = np.mean(cohort.observed.best_response[0, 0][completed] <= PR)
    assert result(run, cohort, "orr_completed") == response
    time, event = seen(cohort, 0, "os", completed)
    assert result(run, cohort, "survival_after_completion_36") == pytest.approx(
        rate(time - STOP, event, 36.0), abs=1e-9
    )
    # From randomisation, or of everybody, it would be something else.
    assert abs(rate(time, event, 36.0) - rate(time - STOP, event, 36.0)) > 0.05


def test_second_progression_comes_after_the_first_and_counts_deaths(run, cohort):
    time = np.minimum(cohort.second_progression_time[0, 0], cohort.observed.os_time[0, 0])
    second = cohort.second_progression_time[0, 0] <= cohort.observed.os_time[0, 0]
    event = second | cohort.observed.os_event[0, 0]
    assert result(run, cohort, "median_pfs2") == median(time, event)
    assert median(*seen(cohort, 0, "pfs")) < median(time, event) < median(*seen(cohort, 0, "os"))
    assert np.all(cohort.second_progression_time[0, 0] >= cohort.detection_time[0, 0])
    untreated = cohort.next_line[0, 0] == cohort.next_lines.index("untreated")
    assert np.all(np.isinf(cohort.second_progression_time[0, 0][untreated]))


def test_survival_after_progression_is_by_what_followed(run, cohort):
    found = {}
    for line in ("untreated", "switch"):
        start = cohort.observed.progression_time[0, 0]
        time, event = seen(cohort, 0, "os")
        member = cohort.next_line[0, 0] == cohort.next_lines.index(line)
        member &= start < time
        found[line] = result(run, cohort, f"median_post_progression_{line}")
        # To the tick in which times are counted.
        expected = median((time - start)[member], event[member])
        assert found[line] == pytest.approx(expected, abs=1e-6)
    assert found["untreated"] < found["switch"]


def test_z_is_the_distance_in_errors_and_of_ratios_that_of_logarithms(run, cohort):
    chosen = [
        target("orr", 0.4, tolerance=0.03, n=100),
        target("orr", 0.4, tolerance=0.03, n=100, checked="memory"),
        target("median_os", 20.0, tolerance=2.0, n=100),
        target("hr_os", 0.6, tolerance=0.05, interval=[0.5, 0.72]),
    ]
    table = compare_targets(chosen, cohort, run.scenario, run.published)
    errors = [np.sqrt(0.24 / 100)] * 2
    errors += [20.0 / np.log(2.0) / 10.0, np.log(0.72 / 0.5) / (2.0 * 1.959964)]
    np.testing.assert_allclose(table["standard_error"], errors, rtol=1e-12)
    np.testing.assert_allclose(table["tolerance"], [0.03, 0.09, 2.0, 0.05])
    distance = table["simulated"] - table["published"]
    distance[3] = np.log(table["simulated"][3] / 0.6)
    whole = np.sqrt(table[["standard_error", "tolerance", "mc_error"]].pow(2).sum(axis=1))
    np.testing.assert_allclose(table["z"], distance / whole, rtol=1e-12)
    assert (table["mc_error"] > 0.0).all()


def test_a_score_counts_misfits_of_what_was_read():
    table = pd.DataFrame(
        {
            "strategy": ["a", "a", "a", "b"],
            "z": [3.0, -4.0, 12.0, 0.5],
            "checked": ["verified", "derived", "memory", "memory"],
        }
    )
    first, second = score_arms(table)
    assert (first.strategy, first.n_read, first.n_beyond) == ("a", 2, 1)
    assert first.rms == pytest.approx(13.0 / np.sqrt(3.0))
    assert first.rms_read == pytest.approx(5.0 / np.sqrt(2.0))
    assert (second.rms, second.n_read, second.n_beyond) == (0.5, 0, 0)


# ---------------------------------------------------------------- what cannot be true


def check(*targets, follow_up=72.0, control=CONTROL):
    check_targets(
        targets,
        strategies={ARM: STOP, CONTROL: np.inf},
        strata=("tps_high", "tps_low"),
        next_lines=("untreated", "switch"),
        control=control,
        follow_up=follow_up,
    )


HR = {"interval": [0.4, 0.6]}
SLIPS = {
    "targets[0].value must be between 0 and 1 for orr, got 48.3": target("orr", 48.3),
    "targets[0].value must be between 0 and 1 for rate_os_12, got 69.2": target("rate_os_12", 69.2),
    "targets[0].value must be between 0 and 1 for completed, got 14": target("completed", 14.0),
    "targets[0].value must be greater than 0 for median_os, got 0": target("median_os", 0.0),
    "targets[0].source must name a key of references.bib, got ''": target("orr", source=""),
    "targets[0].checked must be one of verified, memory, derived, got 'yes'": target(
        "orr", checked="yes"
    ),
    "targets[0].stratum: no stratum named 'tps_hihg'. Did you mean 'tps_high'? "
    "Known: tps_high, tps_low.": target("orr", stratum="tps_hihg"),
    "targets[0].interval must be given for hr_os (or standard_error, of its logarithm), got []": (
        target("hr_os")
    ),
    "targets[0].interval must be two limits with 0.5 between them, got [0.6, 0.4]": target(
        "hr_os", interval=[0.6, 0.4]
    ),
    "targets[0].interval must be given for hazard ratios only, got [0.4, 0.6] with 'orr'": target(
        "orr", **HR
    ),
    f"targets[0].against must be another arm than strategy, got '{CONTROL}'": target(
        "hr_os", strategy=CONTROL, **HR
    ),
    f"targets[0].measure: completed has no meaning where no stop of an ICI is planned, "
    f"got strategy '{CONTROL}'": target("completed", strategy=CONTROL),
    "targets[0].measure must lie within cohort.follow_up (72 months), "
    "got 'survival_after_completion_60'": target("survival_after_completion_60"),
    "targets[0].measure must lie within cohort.follow_up (72 months), got 'rate_os_84'": target(
        "rate_os_84"
    ),
    "targets[0].measure: no next line named 'swich'. Did you mean 'switch'? "
    "Known: switch, untreated.": target("median_post_progression_swich", 5.0),
}


@pytest.mark.parametrize("message", SLIPS)
def test_a_target_that_cannot_be_what_it_says_is_refused(message):
    with pytest.raises(ScenarioError) as caught:
        check(SLIPS[message])
    assert str(caught.value) == message


CONTRADICTIONS = {
    "rate_os_24 must be at most rate_os_12, got 0.5 and 0.4": (
        ("rate_os_12", 0.4), ("rate_os_24", 0.5)),
    "rate_pfs_12 must be at most rate_os_12, got 0.5 and 0.4": (
        ("rate_os_12", 0.4), ("rate_pfs_12", 0.5)),
    "rate_pfs_24 must be at most rate_os_12, got 0.5 and 0.4": (
        ("rate_os_12", 0.4), ("rate_pfs_24", 0.5)),
    "median_pfs must be at most median_os, got 9 and 8": (("median_os", 8.0), ("median_pfs", 9.0)),
    "median_pfs2 must be at most median_os, got 9 and 8": (
        ("median_os", 8.0), ("median_pfs2", 9.0)),
    "rate_os_12 must be at least 0.5 where median_os is 22, got 0.492": (
        ("median_os", 22.0), ("rate_os_12", 0.492)),
    "rate_os_24 must be at most 0.5 where median_os is 22, got 0.515": (
        ("rate_os_24", 0.515), ("median_os", 22.0)),
    "orr and bor_pd must be at most 1 together, got 0.6 and 0.5": (
        ("orr", 0.6), ("bor_pd", 0.5)),
}  # fmt: skip


@pytest.mark.parametrize("message", CONTRADICTIONS)
def test_results_that_contradict_each_other_are_refused(message):
    pair = [target(measure, value) for measure, value in CONTRADICTIONS[message]]
    with pytest.raises(ScenarioError) as caught:
        check(*pair)
    assert str(caught.value) == f"targets[1].value contradicts targets[0]: {message}"
    # Of other patients, or of the other arm, both can be true.
    check(pair[0], replace(pair[1], stratum="tps_high"))
    check(pair[0], replace(pair[1], strategy=CONTROL))


def test_a_result_is_given_once_for_the_same_patients():
    with pytest.raises(ScenarioError, match=r"targets\[1\].measure must be given once"):
        check(target("orr", 0.4), target("orr", 0.5))
    check(target("orr", 0.4), target("orr", 0.5, stratum="tps_high"))


def test_results_that_agree_are_not_refused():
    check(
        target("rate_os_12", 0.692), target("rate_os_24", 0.457), target("median_os", 22.0),
        target("rate_pfs_12", 0.39), target("median_pfs", 9.0), target("hr_os", 0.5, **HR),
        target("rate_os_22", 0.51), target("orr", 0.48), target("bor_pd", 0.09),
    )  # fmt: skip
    with pytest.raises(ScenarioError, match="against must name the other arm"):
        check(target("hr_os", 0.5, **HR), control="")


def test_names_of_measures_are_read_whole():
    for text in ("orr_12", "rate_os", "rate_os_x", "rate_os_-1", "rate_orr_12", "hr_orr", "median_",
                 "survival_after_completion", "os", "pfs_12", ""):  # fmt: skip
        assert read_measure(text) is None, text
    assert target_name(target("orr", stratum="tps_low")) == f"{ARM}.orr.tps_low"


def test_the_gate_refuses_what_is_wrong_about_a_published_trial(alter):
    with pytest.raises(ScenarioError, match=r"^published.control: no strategy named 'chemo'"):
        alter(("scenario=KEYNOTE189",), "published.control=chemo")
    with pytest.raises(ScenarioError, match=r"^published.misfits: no target named 'orr'"):
        alter(("scenario=KEYNOTE189",), "+published.misfits.orr=low")
    with pytest.raises(ScenarioError, match=r"^targets\[0\].value must be between 0 and 1"):
        alter(
            ("scenario=KEYNOTE189",),
            f"targets=[{{strategy: {ARM}, measure: orr, value: 48.3, n: 410, tolerance: 0.03, "
            "source: garassino2023}]",
        )
    with pytest.raises(ScenarioError, match="source must be given: it has no default"):
        alter(
            ("scenario=KEYNOTE189",),
            f"targets=[{{strategy: {ARM}, measure: orr, value: 0.48, n: 410, tolerance: 0.03}}]",
        )


def test_a_published_trial_whose_numbers_lack_a_source_is_refused():
    register_schema(RunConfig)
    whole = read_config(composed(["scenario=OAK"]))
    assert check_run(whole).published is not None
    sources = {k: v for k, v in whole.population.sources.items() if k != "durable_hazard"}
    bare = replace(whole, population=replace(whole.population, sources=sources))
    with pytest.raises(ScenarioError, match=r"^population\.durable_hazard = 0\.005 has no source"):
        check_run(bare)
    # Only published trials must: a scenario of one's own may be tried without.
    assert check_run(replace(bare, published=None, targets=[])).claims
