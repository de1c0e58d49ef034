"""Fixed data sets, from the packages that bundle them, and made ones."""

import numpy as np

from analysis.comparison.risk import Sample, pack, rank_ticks


def sample_of(time, event, arm):
    """One replicate, or several, (R, N)."""
    time, event, arm = (np.atleast_2d(np.asarray(x)) for x in (time, event, arm))
    tick, months = rank_ticks(time.astype(np.float64))
    return Sample.of(pack(tick, event.astype(bool), arm.astype(bool)), months)


def strata_of(time, event, arm, stratum):
    time, event, arm, stratum = (np.asarray(x) for x in (time, event, arm, stratum))
    return [sample_of(*(x[stratum == s] for x in (time, event, arm))) for s in np.unique(stratum)]


def waltons():
    from lifelines.datasets import load_waltons

    table = load_waltons()
    return table["T"].to_numpy(), table["E"].to_numpy(), (table["group"] == "miR-137").to_numpy()


def gbsg2():
    from lifelines.datasets import load_gbsg2

    table = load_gbsg2()
    arm = (table["horTh"] == "yes").to_numpy()
    return table["time"].to_numpy(), table["cens"].to_numpy(), arm, table["tgrade"].to_numpy()


def lung():
    from lifelines.datasets import load_lung

    table = load_lung()
    # Events are coded 0 and 1 there; women are arm 1.
    return table["time"].to_numpy(), table["status"].to_numpy(), (table["sex"] == 2).to_numpy()


def veteran():
    from sksurv.datasets import load_veterans_lung_cancer

    x, y = load_veterans_lung_cancer()
    arm = (x["Treatment"] == "test").to_numpy()
    return y["Survival_in_days"], y["Status"], arm, x["Celltype"].to_numpy()


def uniforms(n, seed):
    """The generator of two_sample.R: x <- 16807 x mod (2**31 - 1)."""
    x, out = seed, []
    for _ in range(n):
        x = 16807 * x % 2147483647
        out.append(x / 2147483647)
    return np.array(out)


def made(grid):
    u = uniforms(480, 20240601)
    time = -10.0 * np.log(u[:120])
    if grid:
        time = np.ceil(time / grid) * grid
    return time, u[120:240] < 0.7, u[240:360] < 0.5, np.floor(3 * u[360:]).astype(int)


def random_trials(grid, seed=20240601, shape=(20, 60)):
    rng = np.random.default_rng(seed)
    time = rng.exponential(10.0, size=shape)
    if grid:
        time = np.ceil(time / grid) * grid
    return time, rng.random(shape) < 0.7, rng.random(shape) < 0.5
