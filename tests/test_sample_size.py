"""The size a trial needs, read off simulated powers, against closed forms and other fits."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

from analysis.sample_size import _fit, required_size, required_table

SIZES = np.array([100.0, 150.0, 220.0, 300.0, 400.0, 520.0])
CRITICAL = norm.ppf(0.975)


def schoenfeld(events, hazard_ratio, alpha=0.025):
    """Power of the log-rank test under 1:1 allocation."""
    return norm.cdf(-np.log(hazard_ratio) * np.sqrt(events) / 2.0 - norm.ppf(1.0 - alpha))


def trials(n, like=SIZES):
    return np.full(len(like), n)


@pytest.mark.parametrize("hazard_ratio", [0.6, 0.7, 0.75])
@pytest.mark.parametrize("alpha", [0.025, 0.005])
@pytest.mark.parametrize("target", [0.5, 0.8, 0.9])
def test_schoenfeld_is_inverted(hazard_ratio, alpha, target):
    events = np.array([20.0, 80.0, 200.0, 500.0, 900.0])
    found = required_size(
        events, schoenfeld(events, hazard_ratio, alpha), trials(1000, events), target
    )
    wanted = 4.0 * (norm.ppf(1.0 - alpha) + norm.ppf(target)) ** 2 / np.log(hazard_ratio) ** 2
    assert found.position == "inside"
    assert found.size == pytest.approx(wanted, rel=1e-9)
    assert (found.n_sizes, found.misfit) == (5, pytest.approx(1.0))


def test_the_number_of_a_textbook():
    # 331 events for a hazard ratio of 0.7, 90 % power and a two-sided level of 0.05: the formula
    # of Schoenfeld (1981) rounded up, 4 (1.960 + 1.282)^2 / 0.3567^2 = 330.4.
    found = required_size(SIZES, schoenfeld(SIZES, 0.7), trials(10_000), 0.9)
    assert np.ceil(found.size) == 331.0


def test_the_line_is_the_most_likely_one():
    rng = np.random.default_rng(11)
    size = np.array([50.0, 120.0, 300.0, 700.0, 1200.0])
    power = rng.binomial(200, schoenfeld(size, 0.72)) / 200
    assert power[-1] == 1.0, "a share of 1 is used too"

    def surprise(line):
        at = line[0] + line[1] * np.sqrt(size)
        return -np.sum(200 * (power * norm.logcdf(at) + (1.0 - power) * norm.logsf(at)))

    other = minimize(surprise, [-1.0, 0.1], method="Nelder-Mead",
                     options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 4000})  # fmt: skip
    line = _fit(size, power, np.full(5, 200.0))
    # The other search stops at about the square root of machine precision.
    np.testing.assert_allclose([line.intercept, line.slope], other.x, rtol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
def test_the_interval_holds_whether_or_not_cells_share_patients(shared):
    """z of a trial of n patients is drift * sqrt(n) + W(n) / sqrt(n), W shared by the sizes."""
    rng = np.random.default_rng(5)
    runs, replicates, drift = 400, 300, 0.17
    truth = ((CRITICAL + norm.ppf(0.9)) / drift) ** 2
    held = narrow = 0
    for _ in range(runs):
        if shared:
            steps = rng.standard_normal((replicates, len(SIZES)))
            walk = np.cumsum(steps * np.sqrt(np.diff(SIZES, prepend=0.0)), axis=1)
            noise = walk / np.sqrt(SIZES)
        else:
            noise = rng.standard_normal((replicates, len(SIZES)))
        power = (drift * np.sqrt(SIZES) + noise >= CRITICAL).mean(axis=0)
        found = required_size(SIZES, power, trials(replicates), 0.9)
        assert found.position == "inside"
        held += found.lower <= truth <= found.upper
        # The interval of someone who takes the cells for independent.
        line = _fit(SIZES, power, np.full(len(SIZES), float(replicates)))
        root = line.meets(0.9)
        parts = line.influence[0] + root * line.influence[1]
        error = np.sqrt(np.sum(parts**2)) / line.slope
        narrow += abs(root - np.sqrt(truth)) <= CRITICAL * error
    # 400 runs: a coverage below 0.92 would be noticed (0.95 less three errors of 0.011).
    assert held / runs >= 0.92
    if shared:
        assert narrow / runs < 0.92
    else:
        assert 0.92 < narrow / runs < 0.98


def test_sizes_beyond_those_simulated_are_not_made_up():
    power = schoenfeld(SIZES, 0.7)
    above = required_size(SIZES, power, trials(1000), 0.99)
    below = required_size(SIZES, power, trials(1000), 0.2)
    assert (above.position, below.position) == ("above", "below")
    assert np.isnan([above.size, above.lower, below.size, below.upper]).all()


def test_power_that_does_not_rise_tells_a_side_only():
    flat = np.array([0.026, 0.025, 0.024, 0.025, 0.024, 0.023])
    assert required_size(SIZES, flat, trials(1000), 0.9).position == "above"
    assert required_size(SIZES, 0.95 + flat, trials(1000), 0.9).position == "below"
    assert required_size(SIZES, flat, trials(1000), 0.0245).position == "unresolved"


def test_power_that_falls_with_size_is_not_said_to_need_more():
    # More patients bring the same events sooner, and a late effect is seen in fewer of them.
    falls = np.array([0.8, 0.75, 0.7, 0.65, 0.6, 0.5])
    assert required_size(SIZES, falls, trials(1000), 0.9).position == "unresolved"
    assert required_size(SIZES, falls, trials(1000), 0.6).position == "unresolved"
    assert required_size(SIZES, falls, trials(1000), 0.4).position == "below"


def test_shares_of_none_and_all_say_between_which_sizes_and_not_where():
    step = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    assert required_size(SIZES, step, trials(100), 0.9).position == "unresolved"
    assert required_size(SIZES, 0.0 * step, trials(100), 0.9).position == "above"
    assert required_size(SIZES, 0.0 * step + 1.0, trials(100), 0.9).position == "below"


def test_where_no_line_fits_all_sizes_the_nearest_are_used():
    # The effect sets in late: power rises slowly with the first 400 patients, then fast.
    size = np.arange(100.0, 1001.0, 100.0)
    root = np.sqrt(size)
    z = np.where(root < 20.0, 0.02 * root, 0.4 + 0.5 * (root - 20.0))
    truth = (20.0 + (CRITICAL + norm.ppf(0.9) - 0.4) / 0.5) ** 2
    assert size[-3] > truth > size[2]
    found = required_size(size, norm.cdf(z - CRITICAL), trials(20_000, size), 0.9)
    assert found.n_sizes == 4
    assert found.lower < truth < found.upper
    whole = _fit(size, norm.cdf(z - CRITICAL), np.full(10, 20_000.0))
    assert whole.misfit < 1e-6
    assert abs(whole.meets(0.9) ** 2 - truth) > 4.0 * abs(found.size - truth)


@pytest.mark.parametrize(
    ("size", "target", "message"),
    [
        ([100.0, 100.0], 0.9, "at least two sizes"),
        ([100.0, 200.0], 1.0, "target must lie between 0 and 1, got 1"),
    ],
)
def test_what_cannot_be_asked(size, target, message):
    with pytest.raises(ValueError, match=message):
        required_size(np.array(size), np.array([0.5, 0.9]), np.array([10, 10]), target)


def test_the_table_has_a_row_for_each_combination():
    rows = pd.DataFrame(
        [
            {"n": n, "onset": onset, "method": method, "n_replicates": 1000,
             "estimate": schoenfeld(np.array(n), ratio)}
            for onset, method, ratio in [
                (6.0, "logrank", 0.7), (np.nan, "logrank", 0.65), (6.0, "cox", 0.75),
            ]
            for n in (100.0, 300.0, 600.0)
        ]
        + [{"n": 100.0, "onset": 3.0, "method": "cox", "n_replicates": 1000, "estimate": 0.5},
           {"n": np.nan, "onset": 6.0, "method": "cox", "n_replicates": 1000, "estimate": 0.5},
           {"n": 900.0, "onset": 6.0, "method": "cox", "n_replicates": 1000, "estimate": np.nan}]
    ).astype({"n_replicates": "Int64"})  # fmt: skip
    table = required_table(rows, "n", ["onset", "method"], 0.8)
    assert list(table["method"]) == ["logrank", "logrank", "cox", "cox"]
    assert table["onset"].isna().tolist() == [False, True, False, False]
    wanted = [4.0 * (CRITICAL + norm.ppf(0.8)) ** 2 / np.log(r) ** 2 for r in (0.7, 0.65, 0.75)]
    np.testing.assert_allclose(table["required"][:3], wanted, rtol=1e-9)
    assert table["position"].tolist() == ["inside"] * 3 + ["unresolved"]
    assert (table["smallest"][2], table["largest"][2], table["size"][0]) == (100.0, 600.0, "n")
    whole = required_table(rows[rows["method"] == "cox"], "n", [], 0.8)
    assert len(whole) == 1
