"""Forecasts of hazard ratios: nothing later is looked at, and scores are what they say."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from analysis.backtest import (
    METHODS,
    backtest,
    compare_baselines,
    nearest_forecasts,
    score_forecasts,
)
from analysis.effect_pooling import Prior, fit_pool, predict_effect
from analysis.effect_table import known_before, read_effects

COARSE = Prior(steps=4, agent_share=(0.5,))


@pytest.fixture(scope="module")
def table():
    return read_effects()


@pytest.fixture(scope="module")
def forecasts(table):
    return backtest(table, COARSE)


def only(forecasts, cutoff, trial, endpoint, agent=None):
    own = forecasts[
        (forecasts["cutoff"] == cutoff)
        & (forecasts["trial"] == trial)
        & (forecasts["endpoint"] == endpoint)
    ]
    own = own if agent is None else own[own["agent"] == agent]
    assert len(own) == 1
    return own.iloc[0]


class TestWhatIsKnown:
    def test_forecasts_begin_with_five_earlier_contrasts(self, table, forecasts):
        first = forecasts["cutoff"].min()
        assert len(known_before(table, first)) >= 5
        assert len(known_before(table, first - 1)) < 5
        known = [len(known_before(table, year)) for year in forecasts["cutoff"]]
        assert (forecasts["n_pooled"] == known).all()

    def test_nothing_later_moves_a_forecast(self, table, forecasts):
        """Whatever is published from the cut-off on is replaced by nonsense."""
        changed = table.copy()
        later = changed["year"] >= 2023
        changed.loc[later, "log_hazard_ratio"] += np.where(np.arange(later.sum()) % 2, 0.7, -0.9)
        # Standard errors stay: the interval for an estimate holds its error.
        again = backtest(changed, COARSE)
        told = [f"{name}{end}" for name in METHODS for end in ("", "_lower", "_upper", "_trial")]
        before = forecasts["cutoff"] <= 2023
        pd.testing.assert_frame_equal(
            forecasts.loc[before, told], again.loc[before, told], rtol=1e-12
        )
        # And the check can fail: later forecasts do move.
        assert not np.allclose(forecasts.loc[~before, "pooled"], again.loc[~before, "pooled"])

    def test_a_trial_takes_no_part_in_predicting_itself(self, table, forecasts):
        for cutoff, own in forecasts.groupby("cutoff"):
            known = known_before(table, cutoff)
            assert not set(own["trial"]) & set(known["trial"])

    def test_every_phase_3_contrast_is_forecast_once_before_its_first_report(
        self, table, forecasts
    ):
        near = nearest_forecasts(forecasts)
        wanted = table[
            table["pooled"]
            & (table["phase"] == 3)
            & (table["first_reported"] >= forecasts["cutoff"].min())
        ]
        keys = ["trial", "agent", "stratum", "endpoint"]
        assert sorted(near[keys].itertuples(index=False)) == sorted(
            wanted[keys].itertuples(index=False)
        )
        assert not {"CITYSCAPE", "COAST", "POPLAR"} & set(forecasts["trial"])

    def test_the_forecast_is_that_of_the_pool(self, table, forecasts):
        row = only(forecasts, 2025, "LEAP-006", "os")
        pool = fit_pool(known_before(table, 2025), COARSE)
        effect = predict_effect(
            pool, "vegfr_tki_added", endpoint="os", agent="lenvatinib + pembrolizumab"
        ).observed_with(row["standard_error"])
        low, middle, high = effect.quantile([0.1, 0.5, 0.9])
        found = row[["pooled_lower", "pooled", "pooled_upper"]].to_numpy(dtype=float)
        np.testing.assert_allclose(found, [low, middle, high], rtol=1e-12)  # round-off
        assert row["pooled_log_score"] == pytest.approx(np.log(effect.density(row["observed"])))
        assert row["pooled_covered"] == (low <= row["observed"] <= high)


class TestBaselines:
    def test_the_nearest_is_of_the_family_then_the_line_then_the_stratum_then_recent(
        self, forecasts
    ):
        same_family = only(forecasts, 2025, "LEAP-006", "os")
        assert same_family["nearest_trial"] == "LEAP-007"
        assert same_family["nearest"] == pytest.approx(np.log(1.10))
        # No family member yet; first line comes before the stratum.
        other = only(forecasts, 2018, "KEYNOTE-407", "os")
        assert other["nearest_trial"] == "CheckMate 026"
        # Two of the family: that of the same stratum, though KEYNOTE-042's number is as recent.
        high = only(forecasts, 2019, "KEYNOTE-042", "pfs")
        assert high["nearest_trial"] == "KEYNOTE-024"
        after_ici = only(forecasts, 2024, "CONTACT-01", "os")
        assert after_ici["nearest_trial"] == "LEAP-008", "more recent than S1800A"

    def test_what_is_copied_is_the_estimate_with_its_own_interval(self, table, forecasts):
        row = only(forecasts, 2025, "LEAP-006", "os")
        source = table[(table["trial"] == "LEAP-007") & (table["endpoint"] == "os")].iloc[0]
        wide = norm.ppf(0.9) * source["standard_error"]
        assert row["nearest_upper"] - row["nearest"] == pytest.approx(wide)
        score = norm.logpdf(row["observed"], source["log_hazard_ratio"], source["standard_error"])
        assert row["nearest_log_score"] == pytest.approx(score)
        both = norm.ppf(0.9) * np.hypot(source["standard_error"], row["standard_error"])
        assert row["nearest_both_upper"] - row["nearest_both"] == pytest.approx(both)

    def test_the_mean_of_all_earlier_knows_no_strategies(self, table, forecasts):
        row = only(forecasts, 2018, "KEYNOTE-189", "os")
        values = np.log([1.02, 0.73])  # CheckMate 026 and OAK
        assert row["earlier"] == pytest.approx(values.mean())
        wide = norm.ppf(0.9) * np.std(values, ddof=1) * np.sqrt(1.5)
        assert row["earlier_upper"] - row["earlier"] == pytest.approx(wide)
        assert not row["family_known"]
        assert only(forecasts, 2025, "LEAP-006", "os")["family_known"]

    def test_a_phase_2_is_used_where_there_is_one_and_not_else(self, forecasts):
        paired = forecasts[forecasts["phase2"].notna()]
        assert set(paired["trial"]) == {"LEAP-008", "CONTACT-01"}
        assert set(paired["phase2_trial"]) == {"Lung-MAP S1800A"}
        assert set(paired["endpoint"]) == {"os"}, "S1800A gives no interval for PFS"
        assert paired["phase2"].to_numpy() == pytest.approx(np.log(0.69))
        lonely = forecasts[forecasts["phase2"].isna()]
        assert lonely[["phase2_covered", "phase2_error", "phase2_log_score"]].isna().all(axis=None)


def made_up():
    """Three contrasts of two trials, with errors that can be followed by hand."""
    rows = pd.DataFrame({"trial": ["a", "a", "b"], "cutoff": 2020, "first_reported": 2020})
    scores = {
        "pooled": ([True, True, False], [0.1, 0.2, 0.6], [1.0, 0.5, -1.0]),
        "nearest": ([False, True, False], [0.3, 0.1, 0.8], [0.0, 1.0, -4.0]),
        "nearest_both": ([True, True, False], [0.3, 0.1, 0.8], [0.2, 0.8, -2.0]),
        "earlier": ([True, True, True], [0.2, 0.2, 0.2], [0.1, 0.1, 0.1]),
        "phase2": ([True, np.nan, np.nan], [0.4, np.nan, np.nan], [0.1, np.nan, np.nan]),
    }
    for name, (covered, error, score) in scores.items():
        rows[name] = error
        rows[f"{name}_covered"], rows[f"{name}_error"] = covered, error
        rows[f"{name}_log_score"] = score
    return rows


class TestScores:
    def test_coverage_has_wilsons_interval(self, forecasts):
        row = score_forecasts(made_up()).set_index("method").loc["pooled"]
        assert (row["n"], row["trials"], row["covered"]) == (3, 2, 2)
        assert row["coverage"] == pytest.approx(2 / 3)

        def distance(p):
            """Where the score test of a share p has its critical value."""
            return (2 / 3 - p) ** 2 - norm.ppf(0.975) ** 2 * p * (1 - p) / 3

        assert row["coverage_lower"] == pytest.approx(brentq(distance, 0.01, 2 / 3))
        assert row["coverage_upper"] == pytest.approx(brentq(distance, 2 / 3, 0.999))

    def test_means_have_errors_by_trial(self):
        row = score_forecasts(made_up()).set_index("method").loc["pooled"]
        assert row["error"] == pytest.approx(0.3)
        # Trial a is -0.2 - 0.1 off the mean in sum, b 0.3: sqrt(2 / 1 (0.09 + 0.09)) / 3.
        assert row["error_se"] == pytest.approx(0.2)

    def test_baselines_are_compared_contrast_by_contrast(self):
        rows = compare_baselines(made_up()).set_index("baseline")
        # Differences -0.2, 0.1, -0.2: mean -0.1; sums about it by trial 0.1 and -0.1.
        assert rows.loc["nearest", "error"] == pytest.approx(-0.1)
        assert rows.loc["nearest", "error_se"] == pytest.approx(np.sqrt(2 * 0.02) / 3)
        assert rows.loc["nearest", "closer"] == 2
        assert rows.loc["nearest", "log_score"] == pytest.approx((1.0 - 0.5 + 3.0) / 3)
        assert (rows.loc["phase2", "n"], rows.loc["phase2", "trials"]) == (1, 1)
        assert np.isnan(rows.loc["phase2", "error_se"])

    def test_a_method_without_forecasts_has_no_score(self):
        rows = made_up()
        for end in ("", "_covered", "_error", "_log_score"):
            rows[f"phase2{end}"] = np.nan
        scored = score_forecasts(rows).set_index("method").loc["phase2"]
        assert scored["n"] == 0
        assert scored[["coverage", "error", "log_score"]].isna().all()


PRIOR = Prior(os_scale=(1.0,), agent_share=(0.5,))


def simulated(rng):
    """Contrasts drawn from the model and its prior: 18 of one year and 4 of the next."""
    family = [("pd1_v_docetaxel", "ctla4_pd1_v_chemotherapy")[i % 2] for i in range(22)]
    w, tau = np.abs(rng.standard_normal(2)) * (PRIOR.family, PRIOR.trial)
    error = rng.uniform(0.08, 0.2, 22)
    families = dict(zip(family[:2], rng.normal(0.0, w, 2), strict=True))
    true = rng.normal(0.0, PRIOR.mean) + np.array([families[name] for name in family])
    true = true + rng.normal(0.0, tau, 22)
    names = [f"t{i}" for i in range(22)]
    year = np.repeat([2000, 2001], [18, 4])
    return pd.DataFrame(
        {
            "trial": names, "agent": names, "family": family, "year": year, "first_reported": year,
            "kind": "first_ici", "control": "c", "line": "first", "stratum": "any",
            "population": "", "endpoint": "pfs", "phase": 3, "pooled": True,
            "log_hazard_ratio": true + rng.normal(0.0, error), "standard_error": error,
        }
    )  # fmt: skip


@pytest.mark.long
def test_intervals_hold_what_the_model_draws_and_copied_ones_do_not():
    """150 made-up histories, 600 forecasts; those of a history go together.

    The error of coverage is taken over histories: a tenth too much or too little would be noticed.
    Copying an estimate leaves out that trials differ, and is caught.
    """
    rng = np.random.default_rng(7)
    made = [backtest(simulated(rng), PRIOR) for _ in range(150)]
    assert {len(rows) for rows in made} == {4}
    for method, right in (("pooled", True), ("nearest_both", False)):
        shares = np.array([rows[f"{method}_covered"].astype(float).mean() for rows in made])
        error = np.std(shares, ddof=1) / np.sqrt(len(shares))
        assert 3.5 * error < 0.1
        assert (abs(shares.mean() - 0.8) < 3.5 * error) == right, (method, shares.mean(), error)
