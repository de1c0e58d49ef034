"""Comparisons by the names that configurations use, on one evidence."""

import numpy as np
import pytest

from analysis.comparison.by_name import COMPARISONS, Evidence, find_comparison
from analysis.comparison.cox import stratified_cox
from analysis.comparison.fleming_harrington import stratified_fleming_harrington
from analysis.comparison.logrank import stratified_logrank
from analysis.comparison.maxcombo import maxcombo
from analysis.comparison.milestone import milestone_difference
from analysis.comparison.modestly_weighted import modestly_weighted
from analysis.comparison.risk import Sample, pack
from sim.errors import ScenarioError

TICK = 2.0**-20
NAMES = {
    "average_hazard_ratio(12)": "average_hazard_ratio(12,0.5)",
    "cox": "cox",
    "early_zero(4)": "early_zero(4)",
    "fleming_harrington(0, 0.5)": "fleming_harrington(0,0.5)",
    "logrank": "logrank",
    "maxcombo(0,0;0,0.5)": "maxcombo(0,0;0,0.5)",
    "median_difference": "median_difference",
    "milestone_difference(12,log-log)": "milestone_difference(12,log-log)",
    "modestly_weighted(6)": "modestly_weighted(t_star=6,events)",
    "modestly_weighted(t_star=6,survival)": "modestly_weighted(t_star=6,survival)",
    "modestly_weighted(w_max=2)": "modestly_weighted(w_max=2)",
    "rmst_difference(12)": "rmst_difference(12)",
    "rmst_ratio(12)": "rmst_ratio(12)",
    "stratified_cox": "stratified_cox",
    "stratified_fleming_harrington(0,1)": "stratified_fleming_harrington(0,1)",
    "stratified_logrank": "stratified_logrank",
    "time_lost_ratio(12)": "time_lost_ratio(12)",
}
"""What may be typed, and the method that it is."""


@pytest.fixture(scope="module")
def evidence():
    rng = np.random.default_rng(3)
    shape = (5, 90)
    stratum = rng.integers(0, 3, shape)
    arm = rng.random(shape) < 0.5
    months = np.ceil(rng.exponential(8.0 + 4.0 * stratum + 3.0 * arm))
    tick = (months / TICK).astype(np.uint32)
    event = rng.random(shape) < 0.7
    out = rng.random(shape) < 0.1
    return Evidence(np.where(out, np.uint32(0), tick), event & ~out, arm, stratum, TICK)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_finds_its_comparison(evidence, name):
    result = find_comparison("here", name)(evidence)
    assert result.method == NAMES[name]
    assert result.z.shape == (5,)


def test_every_comparison_has_a_name_here():
    assert {name.partition("(")[0] for name in NAMES} == set(COMPARISONS)


@pytest.mark.parametrize(
    ("name", "direct"),
    [
        ("maxcombo(0,0;0,0.5)", lambda s: maxcombo(s, ((0.0, 0.0), (0.0, 0.5)))),
        ("milestone_difference(12,log-log)", lambda s: milestone_difference(s, 12.0, "log-log")),
        ("modestly_weighted(w_max=2)", lambda s: modestly_weighted(s, w_max=2.0)),
        (
            "modestly_weighted(6,survival)",
            lambda s: modestly_weighted(s, t_star=6.0, variant="survival"),
        ),
    ],
)
def test_the_numbers_of_a_name_reach_the_comparison(evidence, name, direct):
    named = find_comparison("here", name)(evidence)
    whole = direct(evidence.sample)
    assert named.z.tobytes() == whole.z.tobytes()
    assert named.p_value.tobytes() == whole.p_value.tobytes()


@pytest.mark.parametrize(
    ("name", "direct"),
    [
        ("stratified_logrank", stratified_logrank),
        ("stratified_cox", stratified_cox),
        (
            "stratified_fleming_harrington(0,1)",
            lambda samples: stratified_fleming_harrington(samples, 0.0, 1.0),
        ),
    ],
)
def test_strata_are_those_of_each_patient(evidence, name, direct):
    named = find_comparison("here", name)(evidence)
    for r in range(5):
        # One replicate at a time, each stratum without the patients of the others.
        samples = []
        for b in range(3):
            who = (evidence.stratum[r] == b) & (evidence.tick[r] > 0)
            parts = (evidence.tick[r, who], evidence.event[r, who], evidence.arm[r, who])
            samples.append(Sample.of(pack(*(part[None] for part in parts)), TICK))
        alone = direct(samples)
        assert alone.z[0] == pytest.approx(named.z[r], rel=1e-12)
        assert alone.estimate[0] == pytest.approx(named.estimate[r], rel=1e-12)
    pooled = find_comparison("here", name.removeprefix("stratified_"))(evidence)
    assert np.all(np.abs(pooled.z - named.z) > 1e-6), "strata would change nothing"


@pytest.mark.parametrize(
    "name", ["rmst_difference(-1)", "rmst_difference(1,2)", "rmst_difference(x)", "cox(1)", "cox("]
)
def test_other_numbers_are_refused(name):
    with pytest.raises(ScenarioError, match=r"^trial.comparisons\[0\]"):
        find_comparison("trial.comparisons[0]", name)
