"""Pooled hazard ratios: the table, the algebra against plain integrals, selection, success."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import dblquad, quad
from scipy.optimize import brentq
from scipy.stats import multivariate_normal, norm
from test_catalogue import bibliography

import analysis.effect_pooling as pooling
from analysis.effect_pooling import (
    PredictedEffect,
    Prior,
    family_effects,
    fit_pool,
    pooled_effects,
    predict_effect,
    probability_of_success,
    publication_shift,
    publication_table,
)
from analysis.effect_table import FAMILIES, known_before, log_estimate, read_effects
from sim.errors import ScenarioError

SEED = 20
LEVEL = 0.8


def contrast(trial, family="tigit_added", agent="a", endpoint="os", value=-0.2, error=0.1, **more):
    return {
        "trial": trial, "kind": "more_than_ici", "family": family, "agent": agent, "control": "c",
        "stratum": "any", "endpoint": endpoint, "phase": 3, "log_hazard_ratio": value,
        "standard_error": error, **more,
    }  # fmt: skip


def single(w=0.2, tau=0.15, rho=0.4, scale=0.6, share=0.5, mean=0.3, **more):
    """A prior that leaves one point of the grid to count, so that everything is normal."""
    # Of one step the midpoint is half of three scales.
    return Prior(
        mean=mean, family=w / 1.5, trial=tau / 1.5, correlation=(rho, 1e-6), os_scale=(scale,),
        agent_share=(share,), steps=1, **more,
    )  # fmt: skip


def only_one_correlation(prior, rho):
    """Whether rho is on the grid, without which `single` would not be single."""
    return np.isclose((np.arange(5) + 0.5) / 5.0, rho).any()


@pytest.fixture(scope="module")
def table():
    return read_effects()


@pytest.fixture(scope="module")
def pool(table):
    return fit_pool(known_before(table, 2100))


class TestTable:
    def test_every_row_has_a_source_and_says_whether_it_was_checked(self, table):
        assert len(table) > 60
        assert set(table["source"]) <= set(bibliography())
        assert set(table["checked"]) == {"verified", "memory"}
        assert set(table["phase"]) == {2, 3}

    def test_a_number_is_not_older_than_its_trial_nor_younger_than_its_source(self, table):
        assert (table["first_reported"] <= table["year"]).all()
        for row in table.itertuples():
            entry = bibliography()[row.source]
            printed = int(entry.split("year = {")[1][:4])
            assert 0 <= printed - row.year <= 2, row.trial

    def test_events_are_derived_from_the_interval_and_the_allocation(self, table):
        known = table[table["events"].notna()]
        assert (known["events_checked"] == "derived").all()
        share = known["n_experimental"] / (known["n_experimental"] + known["n_control"])
        events = 1.0 / (known["standard_error"] ** 2 * share * (1.0 - share))
        assert (np.abs(events - known["events"]) <= 0.5 + 1e-6).all()
        assert (known["events"] <= known["n_experimental"] + known["n_control"]).all()

    def test_the_level_of_an_interval_counts(self):
        # S1800A printed an 80 % interval: taken for one of 95 % its error would be 1.53 times less.
        error = log_estimate(0.69, 0.51, 0.92, 0.80)[1]
        assert error == pytest.approx(np.log(0.92 / 0.51) / (2.0 * norm.ppf(0.9)))
        assert error / log_estimate(0.69, 0.51, 0.92)[1] == pytest.approx(
            norm.ppf(0.975) / norm.ppf(0.9)
        )

    @pytest.mark.parametrize(
        ("numbers", "message"),
        [
            ((0.5, 0.6, 0.9, 0.95), "inside its interval"),
            ((0.5, 0.4, 0.6, 95.0), "level"),
            ((0.88, 0.5, 0.9, 0.95), "far from the middle"),
        ],
    )
    def test_numbers_that_contradict_themselves_are_refused(self, numbers, message):
        with pytest.raises(ValueError, match=message):
            log_estimate(*numbers)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"family": "nonsense"}, "no family 'nonsense'"),
            ({"endpoint": "orr"}, "no endpoint 'orr'"),
            ({"upper": 0.55}, "far from the middle"),
            ({"lower": None}, "without an interval"),
        ],
    )
    def test_a_table_that_contradicts_itself_is_refused(self, table, tmp_path, change, message):
        own = table.drop(columns=["log_hazard_ratio", "standard_error", "kind"]).head(2)
        own = own.assign(pooled="yes")
        own.to_csv(tmp_path / "fine.csv", index=False)
        assert len(read_effects(tmp_path / "fine.csv")) == 2
        for column, value in change.items():
            own[column] = value
        own.to_csv(tmp_path / "bad.csv", index=False)
        with pytest.raises(ScenarioError, match=message):
            read_effects(tmp_path / "bad.csv")

    def test_a_column_that_lacks_is_named(self, tmp_path):
        (tmp_path / "bad.csv").write_text("trial\na\n")
        with pytest.raises(ScenarioError, match="no column year"):
            read_effects(tmp_path / "bad.csv")
        with pytest.raises(ScenarioError, match="cannot read"):
            read_effects(tmp_path / "none.csv")

    def test_no_patient_is_pooled_twice(self, table):
        known = known_before(table, 2100)
        oak = known[(known["trial"] == "OAK") & (known["endpoint"] == "os")]
        assert list(oak["year"]) == [2021], "of two cuts the later"
        before = known_before(table, 2021)
        assert list(before[(before["trial"] == "OAK") & (before["endpoint"] == "os")]["year"]) == [
            2017
        ]
        strata = known[known["trial"] == "KEYNOTE-042"].groupby("endpoint")["stratum"].agg(set)
        assert strata["os"] == {"high", "low"}
        assert known["standard_error"].notna().all()


class TestAlgebra:
    """With one point on the grid, against formulas written out here."""

    def test_one_estimate_is_shrunken_as_in_a_textbook(self):
        prior = single(w=0.2, tau=0.15, rho=0.5, scale=1.0)
        pool = fit_pool(pd.DataFrame([contrast("t", value=-0.4, error=0.2)]), prior)
        spread = 0.3**2 + 0.2**2 + 0.15**2
        own = pooled_effects(pool).iloc[0]
        assert own["shrunken"] == pytest.approx(-0.4 * spread / (spread + 0.04), abs=1e-9)
        new = predict_effect(pool, "tigit_added")
        shared = 0.3**2 + 0.2**2
        assert new.mean == pytest.approx(-0.4 * shared / (spread + 0.04), abs=1e-9)
        assert new.sd**2 == pytest.approx(spread - shared**2 / (spread + 0.04), abs=1e-9)
        assert new.between_trials == pytest.approx(0.15**2)
        assert new.calibration == pytest.approx(new.sd**2 - 0.15**2)

    def test_a_family_without_a_trial_knows_the_mean_of_its_kind_alone(self):
        prior = single(rho=0.5, scale=1.0)
        pool = fit_pool(pd.DataFrame([contrast("t", value=-0.4, error=0.2)]), prior)
        total = 0.3**2 + 0.2**2 + 0.15**2
        other = predict_effect(pool, "tgfb_added")
        assert other.mean == pytest.approx(-0.4 * 0.09 / (total + 0.04))
        assert other.sd**2 == pytest.approx(total - 0.09**2 / (total + 0.04))
        assert other.between_trials == pytest.approx(0.2**2 + 0.15**2)
        assert predict_effect(pool, "more_than_ici").mean == pytest.approx(other.mean)
        kind = predict_effect(pool, "pd1_v_docetaxel")
        assert (kind.mean, kind.sd**2) == (pytest.approx(0.0), pytest.approx(total))

    @pytest.mark.parametrize("endpoint", ["pfs", "os"])
    def test_the_whole_covariance_is_that_of_the_model_written_out(self, endpoint):
        """Latent variables one by one, their covariance by a matrix of loadings."""
        w, tau, rho, s, g, m = 0.2, 0.15, 0.3, 0.6, 0.75, 0.3
        prior = single(w, tau, rho, s, g, m)
        assert only_one_correlation(prior, rho)
        rows = pd.DataFrame(
            [
                contrast("t1", endpoint="pfs", value=-0.5, error=0.10),
                contrast("t1", endpoint="os", value=-0.2, error=0.15),
                contrast("t1", endpoint="os", value=0.1, error=0.12, agent="b"),
                contrast("t2", endpoint="os", value=-0.3, error=0.2),
                contrast("t3", endpoint="pfs", value=0.2, error=0.1, family="tgfb_added"),
            ]
        )
        pool = fit_pool(rows, prior)
        level_sd = {"m": m, "f": w, "a": tau * g**0.5, "t": tau * (1 - g) ** 0.5}
        new = contrast("new", endpoint=endpoint)
        everyone = [*rows.to_dict(orient="records"), new]

        def keys(row):
            agent = (row["family"], row["agent"])
            return {"m": "m", "f": row["family"], "a": agent, "t": (*agent, row["trial"])}

        true = np.zeros((6, 6))
        for i, j in itertools.product(range(6), repeat=2):
            one, two = everyone[i], everyone[j]
            shared = sum(level_sd[k] ** 2 for k in level_sd if keys(one)[k] == keys(two)[k])
            scales = [1.0 if row["endpoint"] == "pfs" else s for row in (one, two)]
            apart = rho if one["endpoint"] != two["endpoint"] else 1.0
            true[i, j] = shared * np.prod(scales) * apart
        noise = np.diag(rows["standard_error"] ** 2)
        for i, j, r in ((0, 1, 0.5), (1, 2, 0.5), (0, 2, 0.25)):
            noise[i, j] = noise[j, i] = r * np.prod(rows["standard_error"].iloc[[i, j]])
        seen = true[:5, :5] + noise
        gain = true[5, :5] @ np.linalg.inv(seen)
        found = predict_effect(pool, "tigit_added", endpoint=endpoint, agent="a")
        assert found.mean == pytest.approx(gain @ rows["log_hazard_ratio"], abs=1e-10)
        assert found.sd**2 == pytest.approx(true[5, 5] - gain @ true[:5, 5], abs=1e-10)
        scale = 1.0 if endpoint == "pfs" else s
        assert found.between_trials == pytest.approx(scale**2 * tau**2 * (1 - g))

    def test_a_phase_2_given_is_a_phase_2_that_was_in_the_pool(self):
        """Two ways to the same posterior, over the whole grid."""
        others = [contrast("t", agent="b"), contrast("u", family="tgfb_added", value=0.1)]
        phase2 = contrast("p", agent="new", phase=2)
        hr = {"pfs": (0.57, 0.37, 0.88, 0.95), "os": (0.7, 0.5, 0.98, 0.90)}
        own = []
        for endpoint, numbers in hr.items():
            value, error = log_estimate(*numbers)
            row = {"endpoint": endpoint, "log_hazard_ratio": value, "standard_error": error}
            own.append({**phase2, **row})
        prior = Prior(steps=4)
        given = predict_effect(fit_pool(pd.DataFrame(others), prior), "tigit_added", hr, "os")
        pooled = fit_pool(pd.DataFrame([*others, *own]), prior)
        inside = predict_effect(pooled, "tigit_added", endpoint="os", agent="new")
        np.testing.assert_allclose(given.weights, inside.weights, rtol=1e-9)
        np.testing.assert_allclose(given.means, inside.means, atol=1e-12)
        np.testing.assert_allclose(given.variances, inside.variances, rtol=1e-9)
        assert given.between_trials == pytest.approx(inside.between_trials)
        with pytest.raises(ValueError, match="count twice"):
            predict_effect(pooled, "tigit_added", hr, "os", agent="new")

    def test_weights_and_prediction_are_those_of_a_plain_integral(self):
        """w and tau integrated by quadrature rather than on the grid; two trials of a family."""
        prior = Prior(correlation=(0.5, 1e-6), os_scale=(1.0,), agent_share=(0.5,), steps=40)
        rows = pd.DataFrame([contrast("t", value=-0.6), contrast("u", agent="b", value=0.1)])
        found = predict_effect(fit_pool(rows, prior), "tigit_added")

        def joint(tau, w):
            """Density of the estimates times the priors, and the mean of a new effect."""
            shared = prior.mean**2 + w**2
            cov = shared * np.ones((2, 2)) + (tau**2 + 0.01) * np.eye(2)
            density = multivariate_normal.pdf([-0.6, 0.1], cov=cov)
            density *= norm.pdf(w / prior.family) * norm.pdf(tau / prior.trial)
            return density, shared * np.ones(2) @ np.linalg.solve(cov, [-0.6, 0.1])

        ends = (0.0, 3.0 * prior.family, 0.0, 3.0 * prior.trial)
        options = {"epsabs": 1e-7, "epsrel": 1e-6}
        total = dblquad(lambda t, w: joint(t, w)[0], *ends, **options)[0]
        mean = dblquad(lambda t, w: np.prod(joint(t, w)), *ends, **options)[0] / total
        # The midpoint rule on 40 by 40 points errs in the square of a step.
        assert found.mean == pytest.approx(mean, abs=2e-4)

    def test_the_grid_is_fine_enough(self, table, pool):
        rows = known_before(table, 2100)
        finer = fit_pool(rows, Prior(steps=12))
        for family, endpoint in (("tigit_added", "os"), ("pd1_v_docetaxel", "pfs")):
            shares = [0.1, 0.5, 0.9]
            one, two = (
                predict_effect(p, family, endpoint=endpoint).quantile(shares) for p in (pool, finer)
            )
            np.testing.assert_allclose(one, two, atol=0.01)  # 1 % of a hazard ratio

    def test_without_a_trial_the_prior_rules(self, table):
        empty = fit_pool(known_before(table, 1900))
        effect = predict_effect(empty, "tigit_added", endpoint="pfs")
        assert effect.mean == pytest.approx(0.0, abs=1e-12)
        assert effect.sd > 0.3

    def test_trials_at_hand_narrow_what_is_expected_of_the_next(self):
        rows = pd.DataFrame([contrast(str(i), agent=str(i), error=0.08) for i in range(12)])
        few, many = (predict_effect(fit_pool(rows.head(n)), "tigit_added") for n in (1, 12))
        assert many.calibration < 0.2 * few.calibration
        assert many.between_trials < few.between_trials

    def test_contrasts_without_an_error_are_refused(self):
        for error in (0.0, np.nan):
            with pytest.raises(ValueError, match="standard error above 0"):
                fit_pool(pd.DataFrame([contrast("t", error=error)]))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("nonsense",), "no family 'nonsense'"),
            (("tigit_added", None, "orr"), "no endpoint 'orr'"),
            (("tigit_added", {"orr": (0.5, 0.4, 0.625, 0.95)}), "no endpoint 'orr'"),
            (("tigit_added", (0.5, 0.6, 0.9, 0.95)), "inside its interval"),
        ],
    )
    def test_what_is_not_known_is_refused(self, pool, arguments, message):
        with pytest.raises(ValueError, match=message):
            predict_effect(pool, *arguments)
        with pytest.raises(ValueError, match="no trial of 'x'"):
            predict_effect(pool, "tigit_added", agent="x")


class TestTablesOfThePool:
    def test_every_contrast_is_drawn_towards_the_others(self, pool):
        rows = pooled_effects(pool)
        assert len(rows) == len(pool.rows)
        wide = rows["estimate_upper"] - rows["estimate_lower"]
        narrow = rows["shrunken_upper"] - rows["shrunken_lower"]
        assert (narrow < wide).all()
        assert rows["shrunken"].std() < rows["log_hazard_ratio"].std()

    def test_a_new_trial_is_less_sure_than_the_mean_of_its_family(self, pool):
        rows = family_effects(pool)
        assert set(rows["family"]) <= set(FAMILIES)
        assert (rows["new_lower"] < rows["mean_lower"]).all()
        assert (rows["mean_upper"] < rows["new_upper"]).all()

    def test_parameters_are_averages_over_the_grid(self, pool):
        found = pool.parameters.set_index("parameter")
        assert (found["sd"] > 0.0).all()
        assert 0.0 < found.loc["correlation", "mean"] < 1.0


class TestMixture:
    two = PredictedEffect(
        "f", "os", np.array([0.3, 0.7]), np.array([-0.5, 0.1]), np.array([0.01, 0.09]), 0.02, 0.03
    )

    def test_moments_quantiles_and_density_are_those_of_the_mixture(self):
        def density(x):
            return 0.3 * norm.pdf(x, -0.5, 0.1) + 0.7 * norm.pdf(x, 0.1, 0.3)

        assert self.two.density(-0.2) == pytest.approx(density(-0.2))
        mean = quad(lambda x: x * density(x), -3, 3)[0]
        assert self.two.mean == pytest.approx(mean, abs=1e-7)
        spread = quad(lambda x: (x - mean) ** 2 * density(x), -3, 3)[0]
        assert self.two.sd**2 == pytest.approx(spread, abs=1e-7)
        for share in (0.01, 0.3, 0.9):
            wanted = brentq(lambda x, p=share: quad(density, -3, x)[0] - p, -2, 2)
            assert self.two.quantile(share) == pytest.approx(wanted, abs=1e-7)

    def test_an_estimate_has_the_error_of_its_events_besides(self):
        seen = self.two.estimate(100.0, 0.25)
        np.testing.assert_allclose(seen.variances, self.two.variances + 1.0 / (100.0 * 0.25 * 0.75))
        assert seen.sampling == pytest.approx(1.0 / (100.0 * 0.25 * 0.75))
        assert seen.mean == self.two.mean

    def test_success_is_power_averaged_over_the_effect(self):
        events, error = 250.0, 2.0 / np.sqrt(250.0)

        def power(x):
            return norm.cdf(-norm.ppf(0.975) - x / error)

        found = probability_of_success(replace(self.two, phase2=-0.6), events)
        wanted = quad(lambda x: power(x) * self.two.density(x), -3, 3, limit=200)[0]
        assert found.probability == pytest.approx(wanted, abs=1e-7)
        assert found.power_at_phase2 == pytest.approx(power(-0.6))
        assert found.power_at_median == pytest.approx(power(float(self.two.quantile(0.5))))
        parts = found.power_at_phase2 + found.shrinkage + found.uncertainty
        assert parts == pytest.approx(found.probability)

    def test_success_at_a_known_effect_is_schoenfelds_power(self):
        # 331 events for a hazard ratio of 0.7, 90 % power, one-sided 0.025 (Schoenfeld 1981).
        known = PredictedEffect(
            "f", "os", np.ones(1), np.array([np.log(0.7)]), np.array([1e-18]), 0.0, 0.0
        )
        assert probability_of_success(known, 330.3779140).probability == pytest.approx(0.9)
        # At 2:1 371.6751532: gsDesign.
        two_to_one = probability_of_success(known, 371.6751532, allocation=2 / 3)
        assert two_to_one.probability == pytest.approx(0.9)
        assert np.isnan(two_to_one.power_at_phase2)

    def test_more_events_never_make_success_certain_where_harm_is_possible(self):
        many = probability_of_success(self.two, 1e9).probability
        assert many == pytest.approx(float(self.two.cdf(0.0)), abs=1e-3)

    def test_what_makes_no_sense_is_refused(self):
        with pytest.raises(ValueError, match="effect itself"):
            probability_of_success(self.two.estimate(100.0), 100.0)
        with pytest.raises(ValueError, match="alpha"):
            probability_of_success(self.two, 100.0, alpha=1.0)
        with pytest.raises(ValueError, match="events"):
            probability_of_success(self.two, 0.0)
        with pytest.raises(ValueError, match="allocation"):
            self.two.estimate(10.0, 1.0)


TRIALS, ERROR = 3000, 0.22


@pytest.fixture(scope="module")
def drawn(pool):
    """True effects of the phase 3, phase 2 estimates, and 80 % intervals after those."""
    rng = np.random.default_rng(SEED)
    grid = pool._grid
    mean, cov = pooling._posterior(pool, "tigit_added", None)
    at = rng.choice(len(pool.weight), TRIALS * 4, p=pool.weight)
    scale, tau, g = grid.os_scale[at], grid.trial[at], grid.agent_share[at]
    z = rng.standard_normal((4, len(at)))
    agent = mean[at, 1] + np.sqrt(cov[at, 1, 1] + (scale * tau) ** 2 * g) * z[0]
    apart = scale * tau * np.sqrt(1.0 - g)
    phase3, phase2 = agent + apart * z[1], agent + apart * z[2]
    estimate = phase2 + ERROR * z[3]
    chosen = np.flatnonzero(estimate < -norm.ppf(0.9) * ERROR)[:TRIALS]
    # The posterior of every trial is one of few estimates, rounded to a hundredth.
    rounded = np.round(estimate[chosen], 2)
    wide = norm.ppf(0.975) * ERROR
    ends = {
        value: predict_effect(
            pool, "tigit_added", (*np.exp([value, value - wide, value + wide]), 0.95)
        ).quantile([0.1, 0.5, 0.9])
        for value in np.unique(rounded)
    }
    return phase3[chosen], estimate[chosen], np.array([ends[value] for value in rounded])


@pytest.mark.long
class TestSelection:
    """Phase 2 results chosen because they look good, drawn from the fitted model."""

    def mc_error(self, truth):
        return np.sqrt(LEVEL * (1.0 - LEVEL) / len(truth))

    def test_the_raw_estimate_overstates(self, drawn):
        truth, estimate, _ = drawn
        assert len(truth) > 1000
        assert np.mean(estimate - truth) < -0.15  # by 14 % of a hazard ratio and more

    def test_the_posterior_is_calibrated_all_the_same(self, drawn):
        """Within 3.5 Monte Carlo errors, 2.6 points of coverage and a hundredth of the mean."""
        truth, _, ends = drawn
        covered = np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 2]))
        assert abs(covered - LEVEL) < 3.5 * self.mc_error(truth)
        error = truth - ends[:, 1]
        # Median for mean: the posterior is nearly symmetric.
        assert abs(np.mean(error)) < 3.5 * np.std(error) / np.sqrt(len(error)) + 0.005

    def test_the_interval_of_the_raw_estimate_is_not(self, drawn):
        truth, estimate, _ = drawn
        covered = np.mean(np.abs(estimate - truth) <= norm.ppf(0.9) * ERROR)
        assert covered < LEVEL - 10.0 * self.mc_error(truth)


class TestPublication:
    @pytest.mark.parametrize("chance", [1.0, 0.5, 0.1])
    def test_the_shift_is_the_mean_of_what_is_published_under_no_effect(self, chance):
        edge = norm.ppf(0.9)
        weight = [lambda z: norm.pdf(z), lambda z: chance * norm.pdf(z)]
        total = quad(weight[0], edge, 10)[0] + quad(weight[1], -10, edge)[0]
        mean = quad(lambda z: z * weight[0](z), edge, 10)[0]
        mean += quad(lambda z: z * weight[1](z), -10, edge)[0]
        assert publication_shift(chance) == pytest.approx(mean / total, abs=1e-9)

    def test_supposing_selection_makes_families_known_from_phase_2_look_worse(self, table):
        rows = known_before(table, 2100)
        found = publication_table(rows, "tigit_added", "os", 400.0, prior=Prior(steps=4))
        assert list(found["publication"]) == [1.0, 0.5, 0.2, 0.1]
        assert (np.diff(found["hazard_ratio"]) > 0.0).all()
        assert (np.diff(found["success"]) < 0.0).all()

    def test_phase_3_results_are_not_moved(self):
        rows = pd.DataFrame([contrast("t", value=-0.3)])
        one, other = (
            predict_effect(fit_pool(rows, publication=p), "tigit_added") for p in (1.0, 0.1)
        )
        assert one.mean == other.mean

    def test_a_chance_is_needed(self):
        for chance in (0.0, 1.5):
            with pytest.raises(ValueError, match="publication"):
                publication_shift(chance)


@pytest.mark.parametrize(
    "wrong", [{"family": 0.0}, {"agent_share": (1.2,)}, {"sampling": 1.0}, {"os_scale": (-1.0,)}]
)
def test_priors_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        Prior(**wrong)
