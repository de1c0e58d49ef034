"""How fast a fit is: ``pytest tests/benchmark/test_calibration.py``.

The expected record of an arm of one stratum and of one of three with chemotherapy beside the ICI,
at the points that a fit uses, with both curves read off; and a whole fit of 300 patients with
profiles, of which the goal is 10 seconds.
"""

import numpy as np
import pytest
from hydra import compose, initialize_config_module

from analysis.calibration import (
    POINTS,
    PublishedValue,
    calibrate,
    calibration_rows,
    profile_parameters,
)
from sim import simulate_cohort
from sim.calibrate_command import _parameters, _parser, _start
from sim.command import register_schema
from sim.config import check_run, read_run
from sim.expected import expected_arm
from sim.parameter import Template

EDGES = np.arange(0.0, 36.0)


def scenario(name):
    register_schema()
    with initialize_config_module("configs", version_base="1.3"):
        return read_run(compose("run", overrides=[f"scenario={name}"])).scenario


@pytest.mark.parametrize(
    ("name", "arm"),
    [
        ("KEYNOTE024", "pembrolizumab_keynote024"),
        ("KEYNOTE189", "pembrolizumab_chemotherapy_keynote189"),
    ],
    ids=["one stratum", "three strata, two agents"],
)
def test_expected_arm(benchmark, name, arm):
    given = scenario(name)

    def curves():
        expected = expected_arm(given, arm, POINTS)
        return expected.alive(EDGES), expected.progression_free(EDGES)

    benchmark.pedantic(curves, rounds=20, warmup_rounds=2)


def test_a_whole_fit(benchmark):
    asked = _parser().parse_args(["x.csv", "--scans", "keynote024", "--stop", "24.15"])
    start = _start(asked)
    template = Template(start, _parameters(asked))
    given = check_run(start).scenario
    seen = simulate_cohort(given, n_patients=300, seed=1, follow_up=30.0).observed
    curves = {
        "pfs": (seen.pfs_time[0, 0], seen.pfs_event[0, 0]),
        "os": (seen.os_time[0, 0], seen.os_event[0, 0]),
    }
    rows = calibration_rows(curves, given.assessment)
    published = [PublishedValue("orr", 0.4, 0.03), PublishedValue("bor_pd", 0.3, 0.03)]

    def whole():
        found = calibrate(
            template.scenario, "calibration_ici", template.parameters, rows, published
        )
        return profile_parameters(found)

    benchmark.pedantic(whole, rounds=2)
    assert benchmark.stats.stats.min < 10.0
