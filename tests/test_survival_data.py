"""Data that cannot be fitted, or cannot be true, are refused in one line; real data are not."""

from importlib.resources import files

import numpy as np
import pandas as pd
import pytest

from analysis.survival_data import (
    DURATION,
    Target,
    _kaplan_meier,
    _mean,
    _median,
    read_survival_data,
    read_targets,
)
from sim.errors import ScenarioError

SHIPPED = files("configs") / "reference" / "km_ici_nsclc_kmdata.csv"
ARMS = [
    ("CHECKMATE017", "nivolumab"), ("CHECKMATE017", "docetaxel"),
    ("KEYNOTE024", "pembrolizumab"), ("KEYNOTE024", "platinum_chemo"),
]  # fmt: skip
DAYS, WEEKS, YEARS = 30.4375, 30.4375 / 7.0, 1.0 / 12.0


@pytest.fixture
def write(tmp_path):
    def put(table, name="data.csv"):
        path = tmp_path / name
        if isinstance(table, str):
            path.write_text(table)
        else:
            table.to_csv(path, index=False)
        return path

    return put


def shipped(trial, arm):
    table = pd.read_csv(str(SHIPPED))
    return table[(table["trial"] == trial) & (table["arm"] == arm)]


def small():
    """Thirty patients, PFS alone, spread as in a trial."""
    time = np.linspace(0.5, 15.0, 30)
    return pd.DataFrame(
        {"arm": "a", "endpoint": "PFS", "time_months": time, "event": np.arange(30) % 3 != 0}
    ).astype({"event": int, "time_months": object})


def refusal(path, **choice):
    with pytest.raises(ScenarioError) as caught:
        read_survival_data(path, **choice)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("trial", "arm"), ARMS)
def test_real_arms_are_read_as_they_are(trial, arm):
    data = read_survival_data(str(SHIPPED), arm=arm, trial=trial)
    rows = shipped(trial, arm)
    assert (data.arm, data.trial, set(data.endpoints)) == (arm, trial, {"pfs", "os"})
    for name, endpoint in data.endpoints.items():
        mine = rows[rows["endpoint"] == name.upper()]
        assert endpoint.time.tolist() == mine["time_months"].tolist()
        assert endpoint.event.tolist() == (mine["event"] == 1).tolist()


def test_the_counts_are_those_of_the_trials():
    """Patients as randomised: NEJM 2015;373:123 and NEJM 2016;375:1823."""
    counts = [read_survival_data(str(SHIPPED), arm=arm, trial=trial).n for trial, arm in ARMS]
    assert counts == [135, 137, 154, 151]


@pytest.mark.parametrize(("trial", "arm"), ARMS)
@pytest.mark.parametrize(
    ("factor", "unit"), [(DAYS, "days"), (WEEKS, "weeks or days"), (YEARS, "years")]
)
def test_times_that_are_not_months_are_refused(write, trial, arm, factor, unit):
    rows = shipped(trial, arm)
    path = write(rows.assign(time_months=rows["time_months"] * factor))
    assert f"time_months looks like {unit}" in refusal(path)


@pytest.mark.parametrize(
    ("factor", "unit"), [(DAYS, "days"), (WEEKS, "weeks"), (YEARS, "years"), (1.0, "months")]
)
def test_a_unit_that_is_stated_is_converted(write, factor, unit):
    rows = shipped(*ARMS[0])
    path = write(rows.assign(time_months=rows["time_months"] * factor))
    data = read_survival_data(path, unit=unit)
    expected = rows[rows["endpoint"] == "OS"]["time_months"].to_numpy()
    np.testing.assert_allclose(data.endpoints["os"].time, expected, rtol=1e-13)


def test_a_unit_that_is_stated_is_believed(write):
    rows = small().assign(time_months=np.linspace(3.5, 70.0, 30))
    assert "looks like weeks or days: 0 % have an event by 3" in refusal(write(rows))
    assert read_survival_data(write(rows), unit="months").n == 30


def test_os_alone_in_days_or_with_an_impossible_median_is_refused(write):
    rows = shipped(*ARMS[0]).query("endpoint == 'OS'")
    for factor, words in ((DAYS, "looks like days"), (15.0, "looks like")):
        assert words in refusal(write(rows.assign(time_months=rows["time_months"] * factor)))


def test_arms_and_trials_must_be_chosen():
    assert "2 trials and none chosen; trial must be one of: CHECKMATE017, KEYNOTE024." in refusal(
        str(SHIPPED)
    )
    assert "2 arms and none chosen; arm must be one of: pembrolizumab, platinum_chemo." in refusal(
        str(SHIPPED), trial="KEYNOTE024"
    )
    assert "no arm named 'pembrolizumb'. Did you mean 'pembrolizumab'?" in refusal(
        str(SHIPPED), trial="KEYNOTE024", arm="pembrolizumb"
    )
    assert "no trial named 'OAK'" in refusal(str(SHIPPED), trial="OAK")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("time_months", "", "time_months is missing in row 7"),
        ("time_months", "x", "time_months in row 7 is 'x', must be a number of months"),
        ("time_months", "-1", "time_months in row 7 is '-1', must be a number"),
        ("time_months", "inf", "time_months in row 7 is 'inf', must be a number"),
        ("event", "2", "event in row 7 is '2', must be 1 (event) or 0 (censored)"),
        ("event", "0.5", "event in row 7 is '0.5'"),
        ("endpoint", "ORR", "endpoint in row 7 is 'ORR', must be PFS or OS"),
        ("arm", "", "arm is missing in row 7"),
    ],
)
def test_a_bad_value_is_named_with_its_row(write, column, value, words):
    table = small().astype(object)
    table.loc[5, column] = value
    path = write(table)
    said = refusal(path)
    assert said.startswith(f"{path}: ")
    assert words in said
    # Rows are those of the file where blank lines stand between.
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], "", *lines[3:]]) + "\n")
    assert words.replace("row 7", "row 8") in refusal(path)


def test_rows_of_other_arms_may_be_as_they_are(write):
    other = small().assign(arm="b", time_months="unknown")
    path = write(pd.concat([small(), other]))
    assert read_survival_data(path, arm="a").n == 30


def test_files_that_are_no_data(write, tmp_path):
    assert "no such file" in refusal(tmp_path / "none.csv")
    assert "empty" in refusal(write(""))
    assert "no rows" in refusal(write("arm,endpoint,time_months,event\n"))
    assert "no column time_months. Columns there: arm, endpoint, months, event." in refusal(
        write("arm,endpoint,months,event\na,PFS,1,1\n")
    )
    assert "separated by commas" in refusal(write("arm;endpoint;time_months;event\na;PFS;1;1\n"))
    assert "event is 1 - CNSR" in refusal(write("arm,endpoint,time_months,CNSR\na,PFS,1,1\n"))
    coded = small()
    coded["event"] += 1
    assert "If 2 is the event" in refusal(write(coded))


def test_too_little_cannot_be_fitted(write):
    assert "19 patients with 12 events cannot be fitted" in refusal(write(small().head(19)))
    assert "no event (1) in 30 patients" in refusal(write(small().assign(event=0)))
    few = small().assign(event=[1] * 9 + [0] * 21)
    assert "30 patients with 9 events cannot be fitted" in refusal(write(few))
    assert read_survival_data(write(small().assign(event=[1] * 10 + [0] * 20))).n == 30


def test_a_table_pasted_twice_is_refused_and_single_equal_rows_are_not(write):
    assert "every row is there 2 times" in refusal(write(pd.concat([small(), small()])))
    read_survival_data(write(pd.concat([small(), small().head(29)])))


def test_pfs_that_outlasts_os_is_refused(write):
    rows = shipped(*ARMS[2])
    swapped = rows.assign(endpoint=rows["endpoint"].map({"PFS": "OS", "OS": "PFS"}))
    assert "PFS outlasts OS" in refusal(write(swapped), unit="months")


def test_paired_patients_are_held_against_each_other(write):
    pfs = small().assign(pid=[f"p{i}" for i in range(30)])
    os = pfs.assign(endpoint="OS")
    read_survival_data(write(pd.concat([pfs, os])))
    os.loc[4, "time_months"] = 0.1
    assert "PFS in row 6 is longer than OS of the same pid 'p4'" in refusal(
        write(pd.concat([pfs, os]))
    )
    pfs.loc[3, "pid"] = "p2"
    assert "pid 'p2' has one endpoint more than once (rows 4, 5)" in refusal(write(pfs))


def test_the_estimates_used_are_those_of_lifelines():
    from lifelines import KaplanMeierFitter
    from lifelines.utils import restricted_mean_survival_time

    data = read_survival_data(str(SHIPPED), arm="nivolumab", trial="CHECKMATE017").endpoints["pfs"]
    fit = KaplanMeierFitter().fit(data.time, data.event)
    assert _median(data) == fit.median_survival_time_
    survival, error = _kaplan_meier(data, 12.0)
    assert survival == pytest.approx(fit.predict(12.0), rel=1e-12)
    greenwood = data.event[data.time <= 12.0].sum()
    assert greenwood > 50 and 0.03 < error < 0.05  # sqrt(.21 * .79 / 135) = .035, censoring adds
    assert _mean(data, 15.0)[0] == pytest.approx(
        restricted_mean_survival_time(fit, t=15.0), rel=1e-12
    )


def test_the_error_of_the_mean_without_censoring_is_that_of_a_mean():
    from analysis.survival_data import EndpointData

    time = np.array([1.0, 2.0, 4.0, 7.0, 9.0])
    mean, error = _mean(EndpointData(time, np.ones(5, dtype=bool)), 7.0)
    held = np.minimum(time, 7.0)
    assert mean == pytest.approx(held.mean(), rel=1e-12)
    assert error == pytest.approx(held.std() / np.sqrt(5.0), rel=1e-12)


GOOD = "measure,value,n\norr,0.448,154\nbor_pd,0.227,154\nrate_pfs_6,0.62,154\nrate_os_6,0.80,154\n"


def targets_refused(path, data=None):
    with pytest.raises(ScenarioError) as caught:
        read_targets(path, data)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def test_targets_are_read_from_either_kind_of_file(write):
    """KEYNOTE-024: NEJM 2016;375:1823, response 44.8 %, PFS 62 % and OS 80 % at 6 months."""
    from_csv = read_targets(write(GOOD, "t.csv"))
    assert from_csv[0] == Target("orr", 0.448, 154)
    lines = [line.split(",") for line in GOOD.splitlines()[1:]]
    text = "".join(f"- {{measure: {m}, value: {v}, n: {n}}}\n" for m, v, n in lines)
    assert read_targets(write(text, "t.yaml")) == from_csv
    data = read_survival_data(str(SHIPPED), arm="pembrolizumab", trial="KEYNOTE024")
    assert read_targets(write(GOOD, "t.csv"), data) == from_csv


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            "orr,44.8,154",
            "row 2: orr is 44.8, must be a fraction from 0 to 1: write 44.8 % as 0.448",
        ),
        ("orr,-0.1,154", "orr is -0.1, must be a fraction"),
        ("orr,45%,154", "orr is '45%', must be a number. Write percentages as fractions."),
        ("orr,0.4,0", "n of orr is 0, must be a whole number"),
        ("orr,0.4,10.5", "n of orr is 10.5"),
        ("orr,0.4,", "n is missing in row 2"),
        ("orrr,0.4,50", "no target named 'orrr'. Did you mean 'orr'?"),
        ("rate_pfs_x,0.4,50", "no target named 'rate_pfs_x'. Did you mean 'rate_pfs_12'?"),
        ("orr,0.4,50\norr,0.5,50", "row 3: orr is given twice"),
        ("orr,0.6,50\nbor_pd,0.5,50", "add up to 1.1"),
        (f"{DURATION},0.3,50", "must be 1 to 240 months"),
        ("rate_os_6,0.5,50\nrate_os_12,0.6,50", "rate_os_12 0.6 is above rate_os_6 0.5"),
        ("rate_os_6,0.5,50\nrate_pfs_12,0.6,50", "rate_pfs_12 0.6 is above rate_os_6 0.5"),
        ("rate_pfs_6,0.5,50\nrate_os_6,0.4,50", "rate_pfs_6 0.5 is above rate_os_6 0.4"),
    ],
)
def test_targets_that_cannot_be_are_refused(write, lines, words):
    assert words in targets_refused(write(f"measure,value,n\n{lines}\n", "t.csv"))


def test_os_may_stay_above_an_earlier_pfs(write):
    text = "measure,value,n\nrate_pfs_6,0.3,50\nrate_os_12,0.6,50\n"
    assert len(read_targets(write(text, "t.csv"))) == 2


def test_a_rate_that_the_data_contradict_is_refused(write):
    data = read_survival_data(str(SHIPPED), arm="pembrolizumab", trial="KEYNOTE024")
    text = "measure,value,n\nrate_pfs_6,{},154\n"
    said = targets_refused(write(text.format(0.25), "t.csv"), data)
    assert "rate_pfs_6 is 0.25, but" in said and "standard errors" in said
    assert len(read_targets(write(text.format(0.55), "t.csv"), data)) == 1
    beyond = "measure,value,n\nrate_pfs_60,0.9,154\n"
    assert len(read_targets(write(beyond, "t.csv"), data)) == 1


def test_files_of_targets_that_are_none(write, tmp_path):
    assert "no such file" in targets_refused(tmp_path / "none.csv")
    assert "must be a list" in targets_refused(write("orr: 0.4\n", "t.yaml"))
    assert "entry 1: no n" in targets_refused(write("- {measure: orr, value: 0.4}\n", "t.yaml"))
    assert "cannot be read" in targets_refused(write("- [", "t.yaml"))


def test_standard_errors_of_targets():
    assert Target("orr", 0.5, 100).standard_error == pytest.approx(0.05, rel=1e-12)
    assert 0.0 < Target("orr", 0.0, 100).standard_error < 0.01
    assert Target(DURATION, np.log(2.0) * 3.0, 9).standard_error == pytest.approx(1.0, rel=1e-12)
