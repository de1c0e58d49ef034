"""Free numbers of a configuration: scales, paths, and the share of primary resistance."""

import numpy as np
import pytest

from sim import simulate_cohort
from sim.config import check_run, read_config
from sim.errors import ScenarioError
from sim.exact import primary_share
from sim.override import value_at
from sim.parameter import Parameter, Template

PATHS = {
    "course.tumour_death_hazard": ("log", 0.041),
    "population.acquired.scale": ("log", 9.3),
    "course.background.hazard.1": ("log", 0.0042),
    "population.strata.all.durable_responding": ("logit", 0.37),
    "agents.calibration_chemotherapy.activity.refractory": ("logit", 0.22),
    "agents.calibration_chemotherapy.activity.background_hazard.0": ("log", 0.03),
}
PRIMARY = "population.strata.all.primary"


@pytest.fixture(scope="module")
def whole(composed):
    return read_config(composed("scenario=calibration"))


def template(whole, *paths):
    scales = {path: scale for path, (scale, _) in PATHS.items()} | {PRIMARY: "logit"}
    return Template(whole, tuple(Parameter(p, p, scales[p], 0.5, 1.0) for p in paths))


@pytest.mark.parametrize("scale", ["log", "logit"])
def test_scales_go_there_and_back(scale):
    p = Parameter("x", "a.b", scale, 0.5, 1.0)
    for value in (1e-4, 0.2, 0.5, 0.97):
        assert p.value(p.free(value)) == pytest.approx(value, rel=1e-12)
    x, step = 0.3, 1e-5
    slope = (p.value(x + step) - p.value(x - step)) / (2.0 * step)
    assert p.slope(x) == pytest.approx(slope, rel=1e-8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": "linear"}, "scale of x must be log or logit, got 'linear'"),
        ({"sd": 0.0}, "sd of x must be greater than 0, got 0"),
        ({"sd": float("nan")}, "sd of x must be greater than 0, got nan"),
        ({"mean": 0.0}, "mean of x must be between 0 and 1, got 0"),
        ({"mean": 1.0}, "mean of x must be between 0 and 1, got 1"),
        ({"scale": "log", "mean": -2.0}, "mean of x must be between 0 and inf, got -2"),
    ],
)
def test_what_is_no_parameter_is_refused(change, message):
    given = {"name": "x", "path": "a.b", "scale": "logit", "mean": 0.5, "sd": 1.0} | change
    with pytest.raises(ScenarioError) as told:
        Parameter(**given)
    assert str(told.value) == message


def test_values_are_put_where_the_paths_say(whole):
    t = template(whole, *PATHS)
    values = [value for _, value in PATHS.values()]
    changed = t.config(values)
    for path, (_, value) in PATHS.items():
        assert value_at(changed, path) == value
        assert value_at(whole, path) != value
    # Nothing else has moved.
    back = Template(changed, t.parameters).config([value_at(whole, path) for path in PATHS])
    assert back == whole


def test_the_start_is_what_the_configuration_holds(whole):
    t = template(whole, *PATHS, PRIMARY)
    for parameter, x in zip(t.parameters, t.start(), strict=True):
        assert parameter.value(x) == pytest.approx(t.present(parameter), rel=1e-12)
        if parameter.path != PRIMARY:
            assert t.present(parameter) == pytest.approx(value_at(whole, parameter.path))


def test_what_is_at_the_end_of_a_scale_is_kept_off_it(composed):
    whole = read_config(composed("scenario=calibration", "population.strata.all.responding=1.0"))
    p = Parameter("r", "population.strata.all.responding", "logit", 0.5, 1.0)
    t = Template(whole, (p,))
    assert t.present(p) == 1.0 - 1e-4
    assert np.isfinite(t.start()).all()


@pytest.mark.parametrize("undone", [0.0, 0.4])
@pytest.mark.parametrize("share", [0.02, 0.35, 0.8])
def test_the_primary_share_is_reached(composed, share, undone):
    """With loadings, and under a backbone that undoes a mechanism itself."""
    whole = read_config(
        composed(
            "scenario=calibration", f"agents.calibration_ici.reversal.priming_deficit={undone}"
        )
    )
    t = template(whole, PRIMARY)
    population = t.scenario([share]).population
    undoes = [undone if name == "priming_deficit" else 0.0 for name in population.mechanisms]
    reached = primary_share(population.prevalence[0], population.loading, undoes)
    # Round-off of the search, 1e-8 of the logarithm of the power.
    assert reached == pytest.approx(share, abs=1e-6)
    # The chance to have none of a mechanism is raised to one power for all.
    before = check_run(whole).scenario.population.prevalence[0]
    powers = np.log1p(-population.prevalence[0]) / np.log1p(-before)
    assert powers == pytest.approx(np.full(len(powers), powers[0]), rel=1e-9)


def test_the_primary_share_is_what_is_simulated(composed):
    t = template(read_config(composed("scenario=calibration")), PRIMARY)
    scenario = t.scenario([0.42])
    cohort = simulate_cohort(scenario, n_patients=40_000, seed=3, follow_up=24.0)
    seen = cohort.primary[0, scenario.strategies.index(scenario.strategies[0])].mean()
    # Chance: five standard errors are 0.012.
    assert abs(seen - 0.42) < 5.0 * np.sqrt(0.42 * 0.58 / 40_000)
    assert abs(seen - 0.45) > 5.0 * np.sqrt(0.42 * 0.58 / 40_000)


def test_unknown_paths_and_values_that_are_not_allowed_are_refused(whole):
    with pytest.raises(ScenarioError, match="course"):
        Template(whole, (Parameter("x", "course.nothing", "log", 0.5, 1.0),)).config([0.5])
    with pytest.raises(ScenarioError, match="durable_responding"):
        template(whole, "population.strata.all.durable_responding").scenario([1.5])
