"""Operating characteristics: what is streamed equals plain NumPy over all replicates."""

import numpy as np
import pandas as pd
import pytest

from analysis.moments import NOTHING, Moments
from analysis.operating import (
    Accuracy,
    Tally,
    Truth,
    accuracy_of,
    estimate_table,
    operating_table,
    summarise,
)
from analysis.paired import CoRejections, Rejections, paired_power, paired_table, read_rejections
from analysis.replicates import (
    CHUNK,
    ComparisonWriter,
    CutResults,
    MethodResults,
    chunks_of,
    comparison_keys,
    read_runs,
)
from sim.assessment import TICK

N = 2 * CHUNK + 2345
ALPHA = 0.025
TRUTH = Truth(-0.35, 0.002)
ROUND_OFF = 1e-12


def method(rng, shared, holes):
    estimate = -0.3 + 0.1 * (0.6 * shared + 0.8 * rng.normal(size=N))
    error = rng.normal(0.1, 0.004, N)
    p_value = np.clip(0.05 + 0.04 * shared + 0.02 * rng.normal(size=N), 0.0, 1.0)
    if holes:
        estimate[::97], error[5::89] = np.inf, np.inf
    return MethodResults(estimate, error, -10.0 * estimate, p_value)


@pytest.fixture(scope="module")
def cuts():
    rng = np.random.default_rng(7)
    shared = rng.normal(size=N)

    def cut(month):
        return CutResults(
            date=np.round((month + rng.gamma(4.0, 1.0, N)) / TICK) * TICK,
            target_reached=rng.random(N) < 0.9,
            enrolled=rng.integers(280, 300, N).astype(float),
            events={name: rng.integers(100, 200, N).astype(float) for name in ("pfs", "os")},
            methods={
                (arm, endpoint, name): method(rng, shared, name == "cox")
                for arm in ("a", "b") for endpoint in ("pfs", "os") for name in ("logrank", "cox")
            },
        )  # fmt: skip

    return {"interim": cut(12.0), "final": cut(30.0)}


@pytest.fixture(scope="module")
def table(cuts):
    truths = {key: TRUTH for key in comparison_keys(cuts) if key[3] == "cox"}
    whole = summarise(cuts, ALPHA, truths)
    return whole.set_index(["cut", "arm", "endpoint", "method", "measure"]).sort_index()


# ---------------------------------------------------------------- moments


def test_merged_moments_are_those_of_the_whole():
    rng = np.random.default_rng(1)
    values = 1e6 + rng.normal(size=10_000)
    merged = NOTHING
    for part in np.split(values, [1, 7, 7, 5000, 9999]):
        merged = merged.merge(Moments.of(part))
    assert merged.n == len(values)
    assert merged.mean == pytest.approx(np.mean(values), rel=1e-15)
    assert merged.variance == pytest.approx(np.var(values, ddof=1), rel=1e-9)
    # A sum of squares, from which the square of the mean is taken, has lost it.
    naive = np.mean(values**2) - np.mean(values) ** 2
    assert abs(naive - np.var(values)) > 1e-6


def test_moments_of_one_value_have_no_variance():
    assert np.isnan(Moments.of(np.array([3.0])).variance)
    assert np.isnan(NOTHING.error)


# ---------------------------------------------------------------- measures


def test_measures_of_a_cut_are_those_of_all_its_replicates(cuts, table):
    for name, results in cuts.items():
        row = table.loc[(name, "", "", "")]
        date = results.date
        assert row.loc["date", "estimate"] == pytest.approx(date.mean(), rel=ROUND_OFF)
        error = date.std(ddof=1) / np.sqrt(N)
        assert row.loc["date", "mc_error"] == pytest.approx(error, rel=ROUND_OFF)
        assert row.loc["date_standard_deviation", "estimate"] == pytest.approx(date.std(ddof=1))
        for level in (10, 50, 90):
            assert row.loc[f"date_quantile_{level}", "estimate"] == np.quantile(date, level / 100)
        assert row.loc["target_reached", "estimate"] == np.mean(results.target_reached)
        assert row.loc["enrolled", "estimate"] == pytest.approx(results.enrolled.mean())
        events = table.loc[(name, "", "os", "", "events")]
        assert events["estimate"] == pytest.approx(results.events["os"].mean(), rel=ROUND_OFF)
        assert events["mc_error"] == pytest.approx(
            results.events["os"].std(ddof=1) / np.sqrt(N), rel=1e-10
        )


def test_errors_of_spread_and_quantiles_are_those_of_resampling(cuts, table):
    rng = np.random.default_rng(3)
    date = cuts["interim"].date
    drawn = [rng.choice(date, N) for _ in range(300)]
    row = table.loc[("interim", "", "", "")]["mc_error"]
    # Chance: 300 resamples know a standard deviation to 4 %; a wrong formula is off by more.
    assert row["date_standard_deviation"] == pytest.approx(
        np.std([x.std(ddof=1) for x in drawn]), rel=0.2
    )
    assert row["date_quantile_90"] == pytest.approx(
        np.std([np.quantile(x, 0.9) for x in drawn]), rel=0.25
    )


@pytest.mark.parametrize("arm", ["a", "b"])
def test_measures_of_a_method_are_those_of_morris_white_and_crowther(cuts, table, arm):
    found = cuts["final"].methods[arm, "os", "cox"]
    row = table.loc[("final", arm, "os", "cox")]
    good = np.isfinite(found.estimate) & np.isfinite(found.standard_error)
    x, se = found.estimate[good], found.standard_error[good]
    n = len(x)
    assert 0 < n < N
    power = np.mean(found.p_value <= ALPHA)
    emp, mod = x.std(ddof=1), np.sqrt(np.mean(se**2))
    bias = x.mean() - TRUTH.value
    mse = np.mean((x - TRUTH.value) ** 2)
    cover = np.mean(np.abs(x - TRUTH.value) <= 1.959963984540054 * se)
    own = np.mean(np.abs(x - x.mean()) <= 1.959963984540054 * se)
    expected = {
        "power": (power, np.sqrt(power * (1 - power) / N)),
        "mean_estimate": (x.mean(), emp / np.sqrt(n)),
        "empirical_standard_error": (emp, emp / np.sqrt(2 * (n - 1))),
        "mean_standard_error": (mod, np.sqrt(np.var(se**2, ddof=1) / (4 * n * mod**2))),
        "relative_error": (
            mod / emp - 1,
            mod / emp * np.sqrt(np.var(se**2, ddof=1) / (4 * n * mod**4) + 1 / (2 * (n - 1))),
        ),
        "estimand": (TRUTH.value, TRUTH.error),
        "bias": (bias, np.hypot(emp / np.sqrt(n), TRUTH.error)),
        "mean_squared_error": (
            mse,
            np.hypot(
                np.sqrt(np.sum(((x - TRUTH.value) ** 2 - mse) ** 2) / (n * (n - 1))),
                2 * bias * TRUTH.error,
            ),
        ),
        "bias_eliminated_coverage": (own, np.sqrt(own * (1 - own) / n)),
        "not_estimable": (1 - n / N, np.sqrt(n / N * (1 - n / N) / N)),
    }
    for measure, (estimate, error) in expected.items():
        assert row.loc[measure, "estimate"] == pytest.approx(estimate, rel=1e-10), measure
        assert row.loc[measure, "mc_error"] == pytest.approx(error, rel=1e-8), measure
    assert row.loc["coverage", "estimate"] == cover
    assert row.loc["coverage", "mc_error"] >= np.sqrt(cover * (1 - cover) / n)
    assert (row["n_replicates"] == N).all()


def test_an_uncertain_true_value_makes_coverage_uncertain():
    rng = np.random.default_rng(2)
    x = rng.normal(0.0, 0.1, 4000)
    results = MethodResults(x, np.full(4000, 0.1), x, np.full(4000, 0.5))
    cut = CutResults(
        np.ones(4000), np.ones(4000, dtype=bool), x, {}, {("a", "pfs", "cox"): results}
    )

    def error(truth):
        rows = summarise({"c": cut}, ALPHA, {("c", "a", "pfs", "cox"): truth})
        return rows.set_index("measure").loc["coverage", "mc_error"]

    # Where bias is 0.1, coverage changes by phi(0.96) - phi(2.96) for a standard error of bias.
    slope = (0.2516 - 0.0050) / 0.1
    assert error(Truth(0.1, 0.01)) == pytest.approx(
        np.hypot(error(Truth(0.1, 0.0)), 0.01 * slope), rel=0.1
    )


def test_without_a_true_value_there_is_no_bias(table):
    measures = set(table.loc[("final", "a", "os", "logrank")].index)
    assert measures.isdisjoint({"bias", "coverage", "estimand", "mean_squared_error"})
    assert {"power", "mean_estimate", "not_estimable"} <= measures


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_true_value_that_is_not_finite_is_none(cuts, value):
    key = ("final", "a", "os", "cox")
    rows = summarise(cuts, ALPHA, {key: Truth(value, 0.1)})
    assert "bias" not in set(rows["measure"])


def test_one_replicate_is_told_without_errors(cuts):
    rows = summarise({"c": cuts["final"].part(slice(1, 2))}, ALPHA).set_index("measure")
    assert rows.loc["date", "estimate"] == cuts["final"].date[1]
    assert np.isnan(rows.loc["date", "mc_error"])


def test_the_distribution_of_estimates_holds_every_usable_one(cuts):
    tally = Tally(ALPHA)
    for chunk in chunks_of(cuts):
        tally.add(chunk)
    key = ("final", "a", "pfs", "cox")
    accuracy = accuracy_of(Accuracy(tally, {key: TRUTH}), chunks_of(cuts))
    bins = estimate_table(accuracy)
    found = cuts["final"].methods[key[1:]]
    x = found.estimate[np.isfinite(found.estimate) & np.isfinite(found.standard_error)]
    edges = np.append(bins["lower"], bins["upper"].iloc[-1])
    clipped = np.clip(x, edges[0], np.nextafter(edges[-1], -np.inf))
    assert bins["replicates"].sum() == len(x)
    # Bins are closed above here and below in NumPy: nothing lies on an edge.
    np.testing.assert_array_equal(bins["replicates"], np.histogram(clipped, edges)[0])


# ---------------------------------------------------------------- pairs


def together_of(cuts, other=None):
    together = CoRejections(comparison_keys(cuts), ALPHA, other)
    for i, chunk in enumerate(chunks_of(cuts)):
        together.add(i * CHUNK, chunk)
    return together


def test_paired_differences_are_those_of_all_replicates(cuts):
    table = paired_table(together_of(cuts))
    rejected = {
        key: (cuts[key[0]].methods[key[1:]].p_value <= ALPHA).astype(float)
        for key in comparison_keys(cuts)
    }
    facets = ["cut", "arm", "endpoint", "method"]
    for row in table.to_dict(orient="records"):
        one = tuple(row[name] for name in facets)
        other = tuple(row["other"] if name == row["versus"] else row[name] for name in facets)
        difference = rejected[one] - rejected[other]
        assert row["difference"] == pytest.approx(difference.mean(), abs=1e-15)
        error = difference.std(ddof=1) / np.sqrt(N)
        assert row["mc_error"] == pytest.approx(error, rel=1e-10)
        shares = [rejected[key].mean() for key in (one, other)]
        unpaired = np.sqrt(sum(p * (1 - p) for p in shares) / N)
        assert row["mc_error_unpaired"] == pytest.approx(unpaired, rel=1e-10)
        assert row["disagree"] == np.mean(rejected[one] != rejected[other])
        assert row["mc_error"] < row["mc_error_unpaired"]
    # Each of 16 comparisons has one partner for each of the four things with two values.
    assert table["versus"].value_counts().to_dict() == dict.fromkeys(facets, 8)


def test_a_pair_is_told_as_the_function_tells_it(cuts):
    methods = cuts["final"].methods
    difference, error = paired_power(
        methods["a", "pfs", "cox"], methods["a", "pfs", "logrank"], ALPHA
    )
    rows = paired_table(together_of(cuts))
    row = rows[
        (rows["versus"] == "method") & (rows["cut"] == "final") & (rows["arm"] == "a")
        & (rows["endpoint"] == "pfs")
    ].iloc[0]  # fmt: skip
    assert (row["difference"], row["mc_error"]) == (difference, error)


@pytest.mark.parametrize("n_other", [N, N + 4000, CHUNK + 1234, 40])
def test_designs_are_paired_over_their_common_replicates(cuts, n_other):
    rng = np.random.default_rng(4)
    key = ("final", "b", "pfs", "cox")
    theirs = rng.random(n_other) < 0.3
    other = Rejections("other", n_other, {key: np.packbits(theirs), ("x",) * 4: theirs})
    rows = paired_table(together_of(cuts, other))
    (row,) = rows[rows["versus"] == "design"].to_dict(orient="records")
    n = min(N, n_other)
    ours = cuts["final"].methods[key[1:]].p_value[:n] <= ALPHA
    assert row["n_replicates"] == n
    assert row["difference"] == pytest.approx(ours.mean() - theirs[:n].mean(), abs=1e-15)
    assert row["disagree"] == np.mean(ours != theirs[:n])


# ---------------------------------------------------------------- the file


@pytest.fixture(scope="module")
def written(cuts, tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "comparisons.parquet"
    with ComparisonWriter(path, comparison_keys(cuts)) as writer:
        for i, chunk in enumerate(chunks_of(cuts)):
            writer.write(i * CHUNK, chunk)
    return path


def test_what_is_written_is_read_again(cuts, written):
    table = pd.read_parquet(written)
    assert list(table.columns) == [
        "cut", "arm", "endpoint", "method", "replicate", "estimate", "standard_error", "z",
        "p_value", "date", "events", "target_reached",
    ]  # fmt: skip
    assert len(table) == N * len(comparison_keys(cuts))
    for (cut, *key), rows in table.groupby(["cut", "arm", "endpoint", "method"]):
        found = cuts[cut].methods[tuple(key)]
        np.testing.assert_array_equal(rows["replicate"], np.arange(N))
        for part in ("estimate", "standard_error", "z", "p_value"):
            assert rows[part].to_numpy().tobytes() == getattr(found, part).tobytes()
        np.testing.assert_array_equal(rows["date"], cuts[cut].date)
        np.testing.assert_array_equal(rows["events"], cuts[cut].events[key[1]])
        np.testing.assert_array_equal(rows["target_reached"], cuts[cut].target_reached)


def test_a_second_pass_over_the_file_is_one_over_the_arrays(cuts, written):
    tally, truths = Tally(ALPHA), dict.fromkeys(comparison_keys(cuts), TRUTH)
    for chunk in chunks_of(cuts):
        tally.add(chunk)
    accuracy = Accuracy(tally, truths)
    for key, (estimate, error) in read_runs(written, ("estimate", "standard_error")):
        accuracy.add(key, estimate, error)
    streamed = operating_table(tally, accuracy)
    assert streamed.to_csv() == summarise(cuts, ALPHA, truths).to_csv()


def test_a_file_in_another_order_has_the_same_rejections(cuts, written, tmp_path):
    ours = read_rejections(written, "ours", N, ALPHA)
    table = pd.read_parquet(written).sample(frac=1.0, random_state=1)
    table.to_parquet(tmp_path / "shuffled.parquet", index=False)
    theirs = read_rejections(tmp_path / "shuffled.parquet", "theirs", N, ALPHA)
    assert ours.rejected.keys() == theirs.rejected.keys() == set(comparison_keys(cuts))
    for key, packed in ours.rejected.items():
        np.testing.assert_array_equal(packed, theirs.rejected[key])
        rejected = cuts[key[0]].methods[key[1:]].p_value <= ALPHA
        np.testing.assert_array_equal(np.unpackbits(packed, count=N), rejected)


def test_a_file_that_lacks_something_is_refused(written, tmp_path):
    with pytest.raises(ValueError, match="12345 replicates of interim, a, pfs, logrank, not 20000"):
        read_rejections(written, "ours", 20_000, ALPHA)
    with pytest.raises(ValueError, match="a replicate beyond 12000"):
        read_rejections(written, "ours", 12_000, ALPHA)
    pd.DataFrame({"cut": ["a"]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="no column arm, endpoint, method, p_value, replicate"):
        read_rejections(tmp_path / "other.parquet", "other", 1, ALPHA)
