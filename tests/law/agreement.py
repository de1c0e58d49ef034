"""Cohorts of composed configurations, and how a sample is compared with an exact law.

A fixed seed makes each test deterministic, so FALSE_ALARM is not a flake rate: it is the chance
that an unlucky seed had to be replaced when the test was written. It is kept tiny so that nobody
is tempted to shop for seeds. With 200,000 patients a survival function that is wrong by 0.006
somewhere is refused, which a hazard that is 3 % off is.
"""

from functools import cache, lru_cache

import numpy as np
from hydra import compose, initialize_config_module
from scipy import stats

from sim import simulate_cohort
from sim.command import register_schema
from sim.config import read_run

SEED = 20240601
N = 200_000
FALSE_ALARM = 1e-6
CHANCE = float(stats.norm.isf(FALSE_ALARM / 2.0))


@cache
def run(*overrides):
    """A run from the overrides that a user would type."""
    register_schema()
    with initialize_config_module("configs", version_base="1.3"):
        return read_run(compose("run", overrides=list(overrides)))


@lru_cache(maxsize=6)  # 20 to 120 MB each
def cohort(*overrides):
    """The cohort of a run: N patients, one seed for every test."""
    composed = run(*overrides)
    return simulate_cohort(composed.scenario, n_patients=N, seed=SEED, follow_up=composed.follow_up)


def p_value(times, survival, before=None):
    """Kolmogorov-Smirnov p-value of times against a survival function.

    Where the function jumps, `before` is its limit from the left: a time is then
    spread over the jump by a uniform draw, which makes the law continuous.
    """
    after = survival(times)
    if before is not None:
        spread = np.random.default_rng(SEED).random(len(times))
        after = after + spread * (before(times) - after)
    # In large samples the asymptotic p-value is the exact one, and quick where a law is refused.
    return stats.kstest(1.0 - after, "uniform", method="asymp").pvalue


def p_value_with_atom(times, survival):
    """The same with an atom at 0: the smaller of its p-value and that of the later times."""
    at_start = times == 0.0
    free = float(survival(0.0))
    share = stats.binomtest(int(at_start.sum()), len(times), 1.0 - free).pvalue
    return min(share, p_value(times[~at_start], lambda t: survival(t) / free))


def tabulated(survival, last, count=400):
    """A survival function that is slow to compute, from a table that is denser early."""
    grid = last * np.linspace(0.0, 1.0, count) ** 2
    values = survival(grid)
    return lambda t: np.interp(t, grid, values)
