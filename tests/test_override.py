"""Values replaced by path: as composing with the override, and one line for what is wrong."""

import pytest

from sim.config import check_change, check_run, read_config
from sim.errors import ScenarioError
from sim.override import rounded, value_at, with_values


@pytest.fixture(scope="module")
def whole(composed):
    return read_config(composed("trial=first_line_phase3"))


@pytest.mark.parametrize(
    ("path", "value", "typed"),
    [
        ("seed", 7, "7"),
        ("trial.n_patients", 300, "300"),
        ("trial.dropout", 1, "1"),
        ("trial.dropout", 0.01, "0.01"),
        ("trial.cuts.final.events", 300, "300"),
        ("trial.cuts.final.date", 40.0, "40.0"),
        ("trial.stratified", False, "false"),
        ("trial.arms", ["anti_pd1", "anti_pd1_ctla4"], "[anti_pd1,anti_pd1_ctla4]"),
        ("trial.accrual", {"duration": 12}, "{duration:12}"),
        ("trial.cuts.final", {"events": 300}, "{events:300}"),
        ("trial.eligibility.strata", ["tps_high"], "[tps_high]"),
        ("agents.anti_ctla4.durability", 0.4, "0.4"),
        ("agents.anti_ctla4.hazard_ratio.regulatory_t_cells", 0.5, "0.5"),
        ("population.strata.tps_high.acquired_shape", 1.2, "1.2"),
        ("population.acquired.scale", 20, "20"),
        ("coupling.spearman", 0.6, "0.6"),
        ("assessment.schedule", [{"every": 6}], "[{every:6}]"),
        ("precision", 0.01, "0.01"),
        ("precision", None, "null"),
    ],
)
def test_it_is_what_composing_with_the_override_gives(whole, composed, path, value, typed):
    assert with_values(whole, {path: value}) == read_config(
        composed("trial=first_line_phase3", f"{path}={typed}")
    )


def test_what_is_not_touched_stays_the_same_object(whole):
    changed = with_values(whole, {"trial.n_patients": 300})
    assert changed.population is whole.population
    assert changed.trial.accrual is whole.trial.accrual
    assert whole.trial.n_patients == 600


def test_a_change_is_checked_as_the_whole_would_be(whole):
    run = check_run(whole)
    for values in (
        {"trial.n_patients": 300},
        {"agents.anti_ctla4.durability": 0.4, "coupling.spearman": 0.6},
        {"seed": 3, "precision": 0.01},
    ):
        changed = with_values(whole, values)
        own, anew = check_change(changed, whole, run), check_run(changed)
        assert own.trial.design.n_patients == anew.trial.design.n_patients
        assert (own.seed, own.precision) == (anew.seed, anew.precision)
        assert own.scenario.coupling.spearman == anew.scenario.coupling.spearman
        assert (
            own.scenario.agent("anti_ctla4").durability
            == anew.scenario.agent("anti_ctla4").durability
        )
        assert (own.scenario is run.scenario) == ("trial.n_patients" in values or "seed" in values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"trial.alpha": 2.0}, "trial.alpha must be between 0 and 1, got 2"),
        ({"agents.anti_ctla4.durability": -1.0}, "agents.anti_ctla4.durability must be between"),
        ({"trial.arms": ["anti_pd1", "nothing"]}, "no strategy named 'nothing'"),
    ],
)
def test_a_change_that_cannot_be_is_refused_as_the_whole_would_be(whole, values, words):
    run = check_run(whole)
    changed = with_values(whole, values)
    for check in (check_run, lambda changed: check_change(changed, whole, run)):
        with pytest.raises(ScenarioError, match=words):
            check(changed)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("trial.n_patint", 3, "trial: no setting named 'n_patint'. Did you mean 'n_patients'?"),
        ("trial.cuts.last.events", 3, "trial.cuts: no setting named 'last'."),
        ("seed.x", 3, "seed.x: seed is a single value"),
        ("trial.cuts.final.date.x", 3, "trial.cuts.final.date.x: trial.cuts.final.date is not"),
        ("trial.n_patients", 3.5, "trial.n_patients must be a whole number, got 3.5"),
        ("trial.n_patients", "many", "trial.n_patients must be a whole number, got 'many'"),
        ("trial.stratified", 1, "trial.stratified must be true or false, got 1"),
        ("trial.dropout", True, "trial.dropout must be a number, got True"),
        ("trial.arms", 3, "trial.arms must be a list or mapping, got 3"),
        ("trial.cuts.final", {"evnts": 3}, "trial.cuts.final: no setting named 'evnts'."),
        ("seed", None, "seed must be given, got null"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(whole, path, value, words):
    with pytest.raises(ScenarioError) as caught:
        with_values(whole, {path: value})
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


def test_values_are_found_by_the_same_paths(whole):
    assert value_at(whole, "trial.cuts.final.events") == 420
    assert value_at(whole, "trial.arms.1") == "anti_pd1_chemotherapy"
    with pytest.raises(ScenarioError, match="no setting named 'evnts'"):
        value_at(whole, "trial.cuts.final.evnts")


def test_a_star_stands_for_every_entry(whole):
    names = [f"agents.anti_ctla4.hazard_ratio.{name}" for name in whole.population.mechanisms]
    path = "agents.anti_ctla4.hazard_ratio.*"
    changed = with_values(whole, {path: 0.5})
    assert changed == with_values(whole, dict.fromkeys(names, 0.5))
    assert value_at(changed, path) == 0.5
    assert value_at(whole, path) is None
    strata = with_values(whole, {"population.strata.*.baseline.priming_deficit": 0.2})
    assert {x.baseline["priming_deficit"] for x in strata.population.strata.values()} == {0.2}
    phases = with_values(whole, {"assessment.schedule.*.every": 4})
    assert [phase.every for phase in phases.assessment.schedule] == [4.0, 4.0]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("trial.*", "no setting named '*'"),
        ("trial.weights.*", "no setting named '*'"),
        ("population.strata.*.prevalance", "Did you mean 'prevalence'"),
        ("coupling.spearman.*", "is a single value"),
    ],
)
def test_a_star_stands_for_nothing_where_there_are_no_entries(whole, path, words):
    for ask in (lambda: with_values(whole, {path: 0.5}), lambda: value_at(whole, path)):
        with pytest.raises(ScenarioError) as raised:
            ask()
        assert words in str(raised.value)
        assert "\n" not in str(raised.value)


def test_numbers_are_rounded_throughout(whole):
    changed = with_values(whole, {"trial.dropout": 0.1 + 0.2, "trial.accrual.rates": [0.1 * 3]})
    assert changed.trial.dropout == 0.3
    assert changed.trial.accrual.rates == [0.3]
    assert rounded(whole) == whole
