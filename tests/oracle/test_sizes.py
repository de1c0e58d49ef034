"""Sizes that other programs and formulas give for a power, solved by simulation.

Formulas and programs are approximations, of which each test says how far off they may be;
beyond that the answer must agree within three of its errors. A companion shows that the size
of another design, or of another test, is refused.
"""

import functools

import numpy as np
import pytest
from scipy import stats
from sizes import asked

from sim.size import conductor, solve_size

LOG2 = np.log(2.0)


@functools.cache
def solved(*overrides):
    question = asked(*overrides)
    with conductor(question) as conduct:
        return solve_size(question, conduct)


def agrees(found, printed, slack=0.0, error=0.0):
    """Whether a size is as printed, to a relative slack and three errors of both."""
    ours = (found.upper - found.lower) / 3.92
    return abs(found.crossing - printed) < slack * printed + 3.0 * np.hypot(ours, error * printed)


def of_power(slack, power=0.9, alpha=0.025):
    """What a departure of power is as a share of the size, where z grows with its root."""
    needed = stats.norm.isf(alpha) - stats.norm.isf(power)
    return slack / (stats.norm.pdf(stats.norm.isf(power)) * 0.5 * needed)


# ---------------------------------------------------------------- events, proportional hazards

# Schoenfeld's formula: 4 (1.96 + z)^2 / (log hazard ratio)^2 events of 1:1 arms. It takes the arm
# of an event to have the variance it has without an effect, 1/4; with one it is at least 1/4 over
# cosh^2(half the log ratio), smaller by a quarter of the squared log ratio: as much may it be off.
SCHOENFELD = {
    (0.6, 0.9): 161.0685919, (0.7, 0.9): 330.3779140, (0.75, 0.9): 507.8443354,
    (0.7, 0.8): 246.7871045,
}  # fmt: skip


def events_for(ratio, power):
    about = int(1.5 * SCHOENFELD[ratio, power])
    return solved(
        "scenario=delayed_effect", f"agents.delayed.hazard_ratio.escape={ratio}",
        "agents.delayed.onset=0", "trial.dropout=0", f"trial.n_patients={about + about % 2}",
        f"trial.cuts.final.events={about // 2}", "size.vary=trial.cuts.final.events",
        f"target_power={power}", "size.width=0.04",
    )  # fmt: skip


@pytest.mark.parametrize(("ratio", "power"), SCHOENFELD)
def test_events_that_a_logrank_test_needs(ratio, power):
    found, slack = events_for(ratio, power), 0.25 * np.log(ratio) ** 2
    assert agrees(found, SCHOENFELD[ratio, power], slack)
    for other in SCHOENFELD.keys() - {(ratio, power)}:
        assert not agrees(found, SCHOENFELD[other], slack)


# ---------------------------------------------------------------- patients, fixed duration

# rpact 4.3.0: control median 12; accrual of 12 months and 24 more, 5 % lost a year, hazard ratio
# 0.65, power 0.9; accrual of 24 months and 12 more, 0.7, 0.8. By Schoenfeld's formula.
RPACT = {
    (0.65, 0.9, 12, -np.log(0.95) / 12.0): 318.5447,
    (0.7, 0.8, 24, 0.0): 369.57414,
}


def proportional(ratio, power, accrual, dropout, date=36):
    return solved(
        "scenario=delayed_effect", f"population.acquired.scale={12 / LOG2}",
        f"agents.delayed.hazard_ratio.escape={ratio}", "agents.delayed.onset=0",
        f"trial.accrual.duration={accrual}", f"trial.dropout={dropout}",
        f"trial.cuts.final={{endpoint: pfs, events: null, date: {date}}}",
        f"target_power={power}", "size.width=0.04",
    )  # fmt: skip


@pytest.mark.parametrize("design", RPACT)
def test_patients_in_a_trial_of_fixed_duration(design):
    slack = 0.25 * np.log(design[0]) ** 2
    assert agrees(proportional(*design), RPACT[design], slack)
    assert not agrees(proportional(*design, date=28), RPACT[design], slack)


# ---------------------------------------------------------------- patients, delayed effect

# 18 months of accrual, read at month 36; control median 12, hazard ratio 1 for four months, then
# 0.6; loss 0.001. Patients for a power of 0.9 by gsDesign2 1.1.5, by varying the rate of accrual.
DELAYED = {
    "logrank": 463.08,
    "fleming_harrington(0,0.5)": 355.57,
    "fleming_harrington(0,1)": 351.82,
    "modestly_weighted(8)": 399.45,
    "maxcombo(0,0;0,0.5;0.5,0.5)": 385.12,
    "rmst_difference(24)": 793.04,
    "milestone_difference(24)": 455.24,
}
APPROXIMATE = of_power(0.015)
"""Powers of gsDesign2 and lrstat differ by a point among themselves."""


def delayed(method, power=0.9, width=0.05):
    return solved(
        "scenario=delayed_effect", f"population.acquired.scale={12 / LOG2}",
        "trial.n_patients=360", "trial.accrual.duration=18", "trial.dropout=0.001",
        "trial.cuts.final={endpoint: pfs, events: null, date: 36}",
        f"trial.comparisons=['{method}']", f"target_power={power}", f"size.width={width}",
    )  # fmt: skip


@pytest.mark.parametrize("method", DELAYED)
def test_patients_for_a_delayed_effect(method):
    assert agrees(delayed(method), DELAYED[method], APPROXIMATE)
    far = [n for n in DELAYED.values() if abs(np.log(n / DELAYED[method])) > 0.2]
    assert far
    for other in far:
        assert not agrees(delayed(method), other, APPROXIMATE)


# lrstat 0.2.15 simulated 20,000 trials of 360 patients: the power that it saw asks for 360.
SIMULATED = {"logrank": 0.81205, "fleming_harrington(0,1)": 0.89255}


@pytest.mark.parametrize(("method", "power"), SIMULATED.items())
def test_patients_for_a_power_that_another_program_simulated(method, power):
    error = of_power(np.sqrt(power * (1.0 - power) / 20_000), power)
    found = delayed(method, power, width=0.02)
    assert agrees(found, 360.0, error=error)
    assert not agrees(found, 380.0, error=error)
    # The two tests of the same trials do not need as many patients for the same power.
    (other,) = SIMULATED.keys() - {method}
    assert not agrees(delayed(other, power, width=0.02), 360.0, error=error)
