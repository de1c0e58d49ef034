"""The command ``resistime-calibrate``: what it refuses, in which words, and what it leaves."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hydra import compose, initialize_config_module

import configs
from analysis.cohort import endpoint_times
from analysis.survival import fit_kaplan_meier
from sim import simulate_cohort
from sim.calibrate_command import main, pdl1_mix
from sim.command import register_schema
from sim.config import read_run
from sim.errors import ScenarioError

SHIPPED = Path(configs.__file__).parent / "reference" / "km_ici_nsclc_kmdata.csv"
PEMBROLIZUMAB = ("--trial", "KEYNOTE024", "--arm", "pembrolizumab", "--pdl1", "high")
SCANS = ("--scans", "keynote024")


def rows(n=60, endpoint="PFS", scale=1.0, event=1):
    """Months from 0.5 to 18, four in five with an event, no two alike."""
    times = np.linspace(0.5, 18.0, n) * scale
    return [
        {
            "arm": "a",
            "endpoint": endpoint,
            "time_months": round(float(t), 3),
            "event": int(i % 5 > 0) * event,
        }
        for i, t in enumerate(times)
    ]


def data(place, content=None, drop=(), **change):
    """A file of survival data; `change` puts values into its third row, row 4 of the file."""
    table = pd.DataFrame(rows() if content is None else content).astype(object)
    for name, value in change.items():
        table.loc[2, name] = value
    path = place / "data.csv"
    table.drop(columns=list(drop)).to_csv(path, index=False)
    return path


def targets(place, *lines):
    path = place / "targets.csv"
    path.write_text("measure,value,n\n" + "".join(f"{line}\n" for line in lines))
    return path


def refused(capsys, place, file, *arguments):
    """What is said of bad input: one line, status 2, and nothing is written."""
    folder = place / "out"
    with pytest.raises(SystemExit) as left:
        main([str(file), "--folder", str(folder), *map(str, arguments)])
    said = capsys.readouterr()
    assert left.value.code == 2
    assert not folder.exists()
    (line,) = said.err.rstrip("\n").split("\n")
    assert said.out == ""
    assert line.startswith("resistime-calibrate: ")
    return line.removeprefix("resistime-calibrate: ")


BAD_DATA = {
    "no column": ({"drop": ("event",)}, "no column event. Columns there: arm, endpoint"),
    "no time": ({"time_months": ""}, "time_months is missing in row 4"),
    "negative": (
        {"time_months": -1.5},
        "time_months in row 4 is '-1.5', must be a number of months, 0 or more and finite.",
    ),
    "words": ({"time_months": "soon"}, "time_months in row 4 is 'soon', must be a number"),
    "event": ({"event": "2"}, "event in row 4 is '2', must be 1 (event) or 0 (censored)."),
    "endpoint": ({"endpoint": "TTP"}, "endpoint in row 4 is 'TTP', must be PFS or OS"),
    "no events": ({"content": rows(event=0)}, "PFS of arm 'a': no event (1) in 60 patients"),
    "few": ({"content": rows(12)}, "12 patients with 9 events cannot be fitted; needs at least 20"),
    "days": ({"content": rows(scale=30.4)}, "time_months looks like days: the longest time is 547"),
    "weeks": ({"content": rows(scale=4.345)}, "time_months looks like weeks or days: "),
    "years": ({"content": rows(scale=1 / 12)}, "time_months looks like years: "),
    "exchanged": (
        {"content": rows() + rows(endpoint="OS", scale=0.4)},
        "PFS outlasts OS",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_DATA)
def test_bad_data_are_refused(capsys, tmp_path, what):
    change, expected = BAD_DATA[what]
    path = data(tmp_path, **change)
    line = refused(capsys, tmp_path, path, *SCANS)
    assert line.startswith(f"{path}: ")
    assert expected in line


BAD_TARGETS = {
    "percentage": (["orr,44.8,154"], "row 2: orr is 44.8, must be a fraction from 0 to 1: write"),
    "percent sign": (["orr,45%,154"], "orr is '45%', must be a number. Write percentages"),
    "beyond": (["orr,0.6,154", "bor_pd,0.5,154"], "orr 0.6 and bor_pd 0.5 add up to 1.1"),
    "twice": (["orr,0.6,154", "orr,0.5,154"], "row 3: orr is given twice."),
    "unknown": (["ttp,0.6,154"], "ttp"),
    "nobody": (["orr,0.6,0"], "n of orr is 0, must be a whole number of patients."),
    "rising": (["rate_pfs_6,0.4,60", "rate_pfs_12,0.5,60"], "rate_pfs_12 0.5 is above rate_pfs_6"),
    "not the curve": (["rate_pfs_12,0.05,600"], "rate_pfs_12 is 0.05, but"),
    "fraction of a month": (["median_duration_of_response,0.2,30"], "must be 1 to 240 months"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_TARGETS)
def test_bad_targets_are_refused(capsys, tmp_path, what):
    lines, expected = BAD_TARGETS[what]
    path = targets(tmp_path, *lines)
    line = refused(capsys, tmp_path, data(tmp_path), *SCANS, "--targets", path)
    assert line.startswith(f"{path}: ")
    assert expected in line


BAD_OPTIONS = {
    "no scans": ((), "--scans must name the trial's scan grid, because progression is seen"),
    "scans": (("--scans", "keynote25"), "--scans: no scan grid named 'keynote25'"),
    "kind": ((*SCANS, "--kind", "vaccine"), "--kind: no kind of arm named 'vaccine'"),
    "line": ((*SCANS, "--line", "third"), "--line: no line named 'third'"),
    "pdl1": ((*SCANS, "--pdl1", "medium"), "--pdl1: no PD-L1 class named 'medium'"),
    "mix": ((*SCANS, "--pdl1", "high=0.3,low=0.3"),
            "--pdl1 must be fractions that add up to 1, got high=0.3,low=0.3"),
    "share": ((*SCANS, "--pdl1", "high=most"), "--pdl1: 'high=most' must be high=SHARE"),
    "crossover": ((*SCANS, "--kind", "platinum", "--crossover", "66"),
                  "--crossover must be a fraction between 0 and 1, got 66"),
    "crossover of an ICI": ((*SCANS, "--crossover", "0.5"),
                            "--crossover is for arms of chemotherapy alone, not for ici"),
    "stop": ((*SCANS, "--stop", "0"), "--stop must be greater than 0 months, got 0"),
    "name": ((*SCANS, "--name", "a b"), "--name must be letters, digits and _, got 'a b'"),
    "arm": ((*SCANS, "--arm", "b"), "no arm named 'b'"),
    "unit": ((*SCANS, "--unit", "decades"), "argument --unit: invalid choice: 'decades'"),
    "number": ((*SCANS, "--stop", "never"), "argument --stop: invalid float value: 'never'"),
    "abbreviated": ((*SCANS, "--cross", "0.5"), "unrecognized arguments: --cross 0.5"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_OPTIONS)
def test_bad_options_are_refused(capsys, tmp_path, what):
    arguments, expected = BAD_OPTIONS[what]
    assert expected in refused(capsys, tmp_path, data(tmp_path), *arguments)


def test_a_file_that_is_not_there_is_named(capsys, tmp_path):
    path = tmp_path / "nothing.csv"
    assert refused(capsys, tmp_path, path, *SCANS).startswith(f"{path}: no such file.")


def test_several_arms_and_none_chosen(capsys, tmp_path):
    line = refused(capsys, tmp_path, SHIPPED, *SCANS)
    assert "trial must be one of: CHECKMATE017, KEYNOTE024." in line


def test_mixes_of_classes():
    assert pdl1_mix("low") == {"low": 1.0}
    assert pdl1_mix("high=0.25,negative=0.75") == {"high": 0.25, "negative": 0.75}
    assert sum(pdl1_mix("all").values()) == pytest.approx(1.0)
    for text in ("high=0.5,high=0.5", "high=-0.5,low=1.5"):
        with pytest.raises(ScenarioError, match="--pdl1"):
            pdl1_mix(text)


# ---------------------------------------------------------------- a good run


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A fit of the digitised arm, with its published responses, and what was printed."""
    place = tmp_path_factory.mktemp("calibrate")
    asked = targets(place, "orr,0.448,154", "bor_pd,0.221,154")
    said = io.StringIO()
    with redirect_stdout(said):
        main(
            [str(SHIPPED), *PEMBROLIZUMAB, *SCANS, "--stop", "24.15", "--targets", str(asked),
             "--folder", str(place / "out"), "--name", "kn"]
        )  # fmt: skip
    return place / "out", said.getvalue()


def test_it_writes_what_it_says_and_nothing_else(done):
    folder, said = done
    (line,) = [x for x in said.splitlines() if x.startswith("written: ")]
    named = {Path(x) for x in line.removeprefix("written: ").split(", ")}
    there = {path for path in folder.iterdir() if path.is_file()}
    assert named == there
    assert {path.suffix for path in there} == {".json", ".csv", ".png", ".svg"}
    groups = {str(p.relative_to(folder / "config")) for p in (folder / "config").rglob("*.yaml")}
    assert groups == {
        "population/kn.yaml", "course/kn.yaml", "assessment/kn.yaml", "agent/kn_ici.yaml",
        "strategy/kn.yaml", "scenario/kn.yaml",
    }  # fmt: skip
    assert f"resistime --config-dir={folder / 'config'} scenario=kn" in said


def test_what_is_printed_is_what_is_written(done):
    folder, said = done
    about = json.loads((folder / "fit.json").read_text())
    printed = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line.strip()}
    for p in about["parameters"]:
        assert float(printed[p["name"]][0]) == pytest.approx(p["estimate"], rel=1e-3)
        assert ("yes" in printed[p["name"]]) == p["identified"]
        assert p["lower"] < p["estimate"] < p["upper"]
    assert about["converged"]
    assert about["trial"] == "KEYNOTE024"
    assert about["file"] == SHIPPED.name
    # Nineteen months tell nothing of what is durable, and responses are there.
    flags = {p["name"]: p["why_not"] for p in about["parameters"]}
    assert flags["durable_responding"] == "needs five years of follow-up"
    assert flags["primary"] == ""
    assert any("follow-up ends at 19 months" in warning for warning in about["warnings"])
    assert not any("without best-response rates" in warning for warning in about["warnings"])


def test_sources_of_fitted_numbers_say_so(done):
    folder, _ = done
    about = json.loads((folder / "fit.json").read_text())
    for p in about["parameters"]:
        group, _, rest = p["path"].partition(".")
        sources = yaml.safe_load((folder / "config" / group / "kn.yaml").read_text())["sources"]
        key = rest.replace(".primary", ".baseline").rstrip(".0123456789")
        assert sources[key]["source"] == "calibrated"
        assert f"{p['estimate']:.4g}" in sources[key]["where"] or "hazard" in rest
        assert SHIPPED.name in sources[key]["where"]
        if "hazard" not in rest:
            assert ("not identified" in sources[key]["where"]) == (not p["identified"])


@pytest.fixture(scope="module")
def simulated(done):
    """The written scenario, composed as ``--config-dir`` has it, and simulated."""
    register_schema()
    with initialize_config_module("configs", version_base="1.3"):
        path = f"hydra.searchpath=[file://{done[0] / 'config'}]"
        run = read_run(compose("run", overrides=[path, "scenario=kn"]))
    return simulate_cohort(run.scenario, n_patients=40_000, seed=9, follow_up=30.0)


@pytest.mark.parametrize("endpoint", ["pfs", "os"])
def test_the_written_scenario_is_the_fitted_curve(done, simulated, endpoint):
    lines = pd.read_csv(done[0] / "fit_curves.csv")
    fitted = lines[(lines["endpoint"] == endpoint) & (lines["model"] == "fit")]
    # Between the scans of every nine weeks.
    months = (np.arange(1, 9) + 0.5) * 63.0 / 30.4375
    ours = np.interp(months, fitted["time"], fitted["survival"])
    assert simulated.strategies == ("kn",)
    seen = fit_kaplan_meier(*endpoint_times(simulated, endpoint, 0)).at(months)[0]
    # Chance of 40,000, five standard errors, and 0.005 of the lattice.
    slack = 5.0 * 0.5 / np.sqrt(40_000) + 0.005
    assert np.abs(ours - seen).max() < slack
    # The other endpoint's curve is not it.
    other = lines[(lines["endpoint"] != endpoint) & (lines["model"] == "fit")]
    assert np.abs(np.interp(months, other["time"], other["survival"]) - seen).max() > slack


def test_the_fit_is_near_the_data(done):
    about = json.loads((done[0] / "fit.json").read_text())
    for name in ("pfs", "os"):
        ours = about["endpoints"][name]["fits"][0]
        assert ours["name"] == "resistance model"
        # Chance: the standard error of a mean difference from the estimate of 154 patients is 0.02.
        assert ours["mean_difference"] < 0.03
