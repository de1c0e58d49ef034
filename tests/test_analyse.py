"""The command ``resistime-analyse``: what it computes, what it prints, what it refuses."""

import json
import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sim
from analysis.analyse import AnalysisError, compare, read_trial
from sim.analyse_command import main

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(sim.__file__).parents[1])}
COLUMNS = ["--time", "months", "--event", "died", "--arm", "arm"]


def table(n=60, seed=3):
    rng = np.random.default_rng(seed)
    arm = np.repeat(["chemotherapy", "placebo"], n // 2)
    time = np.ceil(rng.exponential(np.where(arm == "placebo", 8.0, 16.0)) * 2.0) / 2.0
    return pd.DataFrame(
        {
            "months": time,
            "died": (rng.random(n) < 0.8).astype(int),
            "arm": arm,
            "centre": np.tile(["north", "south", "east"], n // 3),
        }
    )


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A folder of its own, where the default figure may be left."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "trial.csv"
    table().to_csv(path, index=False)
    return path


def read(path, **change):
    return read_trial(path, **{"time": "months", "event": "died", "arm": "arm"} | change)


def test_gbsg2_through_a_file(tmp_path):
    # Values as in tests/oracle/test_fixed_data.py, from R.
    from lifelines.datasets import load_gbsg2

    path, out = tmp_path / "gbsg2.csv", tmp_path / "out.json"
    load_gbsg2().to_csv(path, index=False)
    columns = ["--time", "time", "--event", "cens", "--arm", "horTh", "--stratum", "tgrade"]
    main([str(path), *columns, "--tau", "1825", "--milestone", "1095", "--json", str(out)])
    report = json.loads(out.read_text())
    rows = {row["method"]: row for row in report["comparisons"]}
    assert report["control"] == "no"
    assert [arm["patients"] for arm in report["arms"]] == [440, 246]
    assert [arm["median"] for arm in report["arms"]] == [1528.0, 2018.0]
    assert rows["logrank"]["z"] ** 2 == pytest.approx(8.564780854, rel=1e-6)
    assert rows["fleming_harrington(0,0.5)"]["z"] == pytest.approx(2.560345788, rel=1e-6)
    assert rows["cox"]["hazard_ratio"] == pytest.approx(0.694884327, rel=1e-6)
    assert rows["cox"]["lower_95"] == pytest.approx(0.5438440546, rel=1e-6)
    assert rows["maxcombo(0,0;0,1;1,0;1,1)"]["p_value_one_sided"] == pytest.approx(
        0.003183486, abs=2e-5
    )
    assert rows["rmst_difference(1825)"]["difference"] == pytest.approx(149.3039856784, rel=1e-6)
    assert rows["milestone_difference(1095)"]["z"] == pytest.approx(2.596893936, rel=1e-6)
    assert rows["stratified_logrank"]["z"] ** 2 == pytest.approx(7.395796538, rel=1e-6)
    assert rows["stratified_cox"]["hazard_ratio"] == pytest.approx(0.7119674684, rel=1e-6)


def test_default_comparisons_and_defaults_that_are_said(file, capsys):
    main([str(file), *COLUMNS])
    out = capsys.readouterr().out
    names = [line[:26].strip() for line in out.splitlines()[5:14]]
    assert names == [
        "Log-rank",
        "Fleming-Harrington (0, 0.5",
        "Fleming-Harrington (0, 1)",
        "Fleming-Harrington (1, 0)",
        "Fleming-Harrington (1, 1)",
        "MaxCombo",
        "Cox regression",
        "Restricted mean",
        "",
    ]
    data = table()
    shared = min(data.groupby("arm")["months"].max())
    assert out.splitlines()[14:] == [
        "Positive z favours 'chemotherapy'.",
        "Control is 'placebo', by its name; --control chooses the other.",
        f"Restricted means end at {shared:g}, the smaller of the arms' largest follow-ups.",
        "Kaplan-Meier curves: km_trial.png",
    ]
    left = sorted(p.name for p in file.parent.iterdir())
    assert left == ["km_trial.png", "trial.csv"], "nothing else is left"


def test_control_can_be_chosen_and_turns_the_sign(file):
    ours, theirs = (compare(read(file, control=c)) for c in ("placebo", "chemotherapy"))
    for one, other in zip(ours.findings, theirs.findings, strict=True):
        if one.name != "MaxCombo":
            assert one.result.z[0] == pytest.approx(-other.result.z[0], abs=1e-12)


def test_without_a_name_control_is_the_first_in_order(tmp_path):
    path = tmp_path / "t.csv"
    table().replace({"chemotherapy": "10", "placebo": "9"}).to_csv(path, index=False)
    data = read(path)
    assert (data.control, data.experimental) == ("9", "10")
    assert data.notes == (
        "Control is '9', the first in sorted order; --control chooses the other.",
    )


def test_time_zero_is_kept_and_said(tmp_path):
    path = tmp_path / "t.csv"
    changed = table()
    changed.loc[[0, 40], "months"] = 0
    changed.to_csv(path, index=False)
    report = compare(read(path))
    assert "2 patients with time 0: kept, at risk at time 0 and no longer." in report.notes
    assert sum(arm.patients for arm in report.arms) == 60


def test_a_late_tau_an_arm_without_events_and_a_lonely_stratum_are_said(tmp_path):
    path = tmp_path / "t.csv"
    changed = table()
    changed.loc[changed["arm"] == "placebo", "died"] = 0
    changed["centre"] = np.where(changed["arm"] == "placebo", "north", "south")
    changed.loc[0, "centre"] = "north"
    changed.to_csv(path, index=False)
    report = compare(read(path, stratum="centre"), tau=500.0)
    notes = " ".join(report.notes)
    assert "--tau 500 is beyond the last follow-up of an arm" in notes
    assert "Arm 'placebo' has no event: the hazard ratio is not finite." in notes
    assert "1 stratum has one arm alone and adds nothing to what is stratified." in notes
    hazard = next(f for f in report.findings if f.name == "Cox regression")
    assert np.isinf(hazard.result.estimate[0])
    rows = {row["method"]: row for row in report.as_mapping()["comparisons"]}
    assert rows["cox"]["estimate"] is None
    json.dumps(report.as_mapping(), allow_nan=False)


def write(path, change):
    changed = table().astype(object)
    change(changed)
    changed.to_csv(path, index=False)


def put(column, rows, value):
    def change(frame):
        frame.loc[rows, column] = value

    return change


REFUSALS = {
    "missing time": (
        put("months", [2, 5], None),
        "--time: column 'months' is missing in rows 3, 6. Fill the values in or leave these rows "
        "out.",
    ),
    "missing arm": (
        put("arm", [0], ""),
        "--arm: column 'arm' is missing in row 1. Fill the values in or leave these rows out.",
    ),
    "negative": (
        put("months", [9], -2.5),
        "--time: column 'months' is negative in row 10. Follow-up counts from randomisation: "
        "correct these rows or leave them out.",
    ),
    "text for a time": (
        put("months", [1], "6 mo"),
        "--time: column 'months' is not a number in row 2: '6 mo'.",
    ),
    "infinite": (
        put("months", [1], "inf"),
        "--time: column 'months' is not a number in row 2: 'inf'.",
    ),
    "a third event code": (
        put("died", [0, 1, 2, 3, 4, 5, 6], 3),
        "--event: column 'died' must be 1 (event) or 0 (censored), got '3' in rows 1, 2, 3, 4, 5 "
        "and 2 more.",
    ),
    "events as 1 and 2": (
        lambda frame: frame.__setitem__("died", [1, 2] * 30),
        "--event: column 'died' must be 1 (event) or 0 (censored), got '2' in rows 2, 4, 6, 8, 10 "
        "and 25 more. If 2 is the event and 1 censored, subtract 1.",
    ),
    "no event": (
        put("died", slice(None), 0),
        "--event: column 'died' holds no event (1) in 60 patients; there is nothing to compare. "
        "Is 1 the code of an event?",
    ),
    "one arm": (
        put("arm", slice(None), "placebo"),
        "--arm: column 'arm' holds 'placebo' alone; a comparison needs two arms.",
    ),
    "three arms": (
        put("arm", [0], "both"),
        "--arm: column 'arm' holds 3 arms (both, chemotherapy, placebo); keep the rows of two of "
        "them in the file.",
    ),
}


@pytest.mark.parametrize(("change", "message"), REFUSALS.values(), ids=REFUSALS)
def test_bad_data_are_refused_in_one_line(tmp_path, change, message):
    path = tmp_path / "t.csv"
    write(path, change)
    with pytest.raises(AnalysisError) as error:
        read(path)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--time", "month", *COLUMNS[2:]],
            "--time: no column 'month'. Did you mean 'months'? Columns: months, died, arm, centre.",
        ),
        (
            [*COLUMNS, "--stratum", "CENTRE"],
            "--stratum: no column 'CENTRE'. Did you mean 'centre'? Columns: months, died, arm, "
            "centre.",
        ),
        (
            [*COLUMNS, "--control", "plcebo"],
            "--control: no arm 'plcebo'. The arms are chemotherapy and placebo.",
        ),
        ([*COLUMNS, "--tau", "0"], "--tau must be above 0, got 0."),
        ([*COLUMNS, "--milestone=-3"], "--milestone must be above 0, got -3."),
        (
            [*COLUMNS, "--figure", "km.docx"],
            "--figure: 'km.docx' must end in .png, .svg or .pdf, which chooses the format.",
        ),
        ([*COLUMNS, "--json", "."], "--json: '.' is a folder; give the name of a file in it."),
        (
            [*COLUMNS, "--json", "./trial.csv"],
            "--json: './trial.csv' holds the data; give another name.",
        ),
        (
            [*COLUMNS, "--figure", "km.png", "--no-figure"],
            "--figure: leave it out, or --no-figure.",
        ),
        (
            [*COLUMNS, "--json", "nowhere/out.json"],
            "--json: no folder 'nowhere' to write 'nowhere/out.json' in.",
        ),
    ],
)
def test_bad_arguments_end_with_one_line_and_status_2(file, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main([str(file), *arguments])
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert (captured.out, captured.err) == ("", f"resistime-analyse: {message}\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file. Give the path of a CSV file."),
        ("", "is empty. The first row must name the columns."),
        ("months,died,arm\n", "has column names and no patients."),
    ],
)
def test_files_that_cannot_be_read(tmp_path, content, message):
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(AnalysisError) as error:
        read(path)
    assert str(error.value).endswith(message)


def test_the_installed_command_runs_and_fails_politely(file, tmp_path):
    script = Path(sim.__file__).parents[1] / "pyproject.toml"
    entry = tomllib.loads(script.read_text())["project"]["scripts"]["resistime-analyse"]
    module, _, function = entry.partition(":")
    assert getattr(import_module(module), function) is main

    command = [sys.executable, "-m", module]
    good = subprocess.run(
        [*command, str(file), *COLUMNS, "--json", str(tmp_path / "o.json")],
        capture_output=True, text=True, timeout=120, env=ENVIRONMENT,
    )  # fmt: skip
    assert (good.returncode, good.stderr) == (0, "")
    assert "Log-rank" in good.stdout
    assert json.loads((tmp_path / "o.json").read_text())["experimental"] == "chemotherapy"
    bad = subprocess.run(
        [*command, "nothing.csv", *COLUMNS],
        capture_output=True,
        text=True,
        timeout=120,
        env=ENVIRONMENT,
    )
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr == (
        "resistime-analyse: 'nothing.csv': no such file. Give the path of a CSV file.\n"
    )


def test_help_says_what_is_computed(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for part in ("one row for each patient", "Positive z favours", "--stratum", "example:"):
        assert part in text


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_figure_is_drawn_where_asked(file, suffix, capsys):
    picture = file.with_name(f"km.{suffix}")
    main([str(file), *COLUMNS, "--figure", str(picture)])
    head = picture.read_bytes()[:200]
    assert head.startswith(b"\x89PNG") or b"<?xml" in head
    assert capsys.readouterr().err == ""


def test_the_figure_is_drawn_in_this_folder_unless_it_is_not_wanted(file, capsys):
    main([str(file), *COLUMNS, "--no-figure"])
    assert not Path("km_trial.png").exists()
    assert "Kaplan-Meier" not in capsys.readouterr().out
    main([str(file), *COLUMNS])
    assert Path("km_trial.png").stat().st_size > 10_000
    assert "Kaplan-Meier curves: km_trial.png" in capsys.readouterr().out
