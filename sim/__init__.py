"""Simulation of resistance to immune checkpoint inhibitors under combination strategies.

``simulate_cohort(scenario, n_patients=..., seed=...)`` is the product; the
types that make a scenario are in `sim.scenario`, and `sim.config` reads one
from configuration files.
"""

from sim.cohort import Cohort, simulate_cohort
from sim.scenario import Scenario

__all__ = ["Cohort", "Scenario", "simulate_cohort"]
