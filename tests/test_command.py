"""The command as a user meets it: files, figures, help, and one line for what is wrong."""

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

SMALL = ("cohort.n_patients=300", "strategy=[anti_pd1,chemotherapy]")
TABLES = {
    "curves.csv", "summary.csv", "contrasts.csv", "incidence.csv", "occupancy.csv",
    "resistance.csv",
}  # fmt: skip


def resistime(*arguments, **options):
    command = [sys.executable, "-m", "sim", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    done = resistime(*SMALL, f"hydra.run.dir={place}")
    assert done.returncode == 0, done.stderr
    return place, done


def test_it_leaves_its_tables_figures_and_provenance(finished):
    place, _ = finished
    names = {path.name for path in place.iterdir()}
    assert TABLES | {"provenance.json", ".hydra"} <= names
    kept = {path.name for path in (place / ".hydra").iterdir()}
    assert kept == {"config.yaml", "overrides.yaml", "hydra.yaml"}
    for figure in ("km_pfs", "km_os", "incidence", "occupancy", "definitions"):
        assert (place / f"{figure}.png").stat().st_size > 10_000
        assert (place / f"{figure}.svg").stat().st_size > 5_000
    assert not [name for name in names if name.startswith(".partial")]


def test_it_is_quiet_where_the_output_is_no_terminal(finished):
    _, done = finished
    assert done.stderr == ""
    assert "\r" not in done.stdout
    assert "not for treating patients" in done.stdout


def test_provenance_says_whose_every_number_is(finished):
    place, _ = finished
    record = json.loads((place / "provenance.json").read_text())
    assert record["claim_counts"]["without source"] == 0
    assert record["claim_counts"]["override"] == 0
    assert record["seed"] == 1
    assert record["software"]["numpy"]
    used = {claim["source"] for claim in record["claims"]} - {"assumption", "calibrated"}
    assert used == set(record["citations"])


def test_the_same_command_gives_the_same_tables(finished, tmp_path):
    place, _ = finished
    again = resistime(*SMALL, f"hydra.run.dir={tmp_path}", "analysis.figures=false")
    assert again.returncode == 0
    for name in TABLES:
        assert (tmp_path / name).read_bytes() == (place / name).read_bytes()


def test_a_replaced_number_loses_its_citation(tmp_path):
    done = resistime(
        *SMALL,
        f"hydra.run.dir={tmp_path}",
        "analysis.figures=false",
        "population.acquired.scale=20",
    )
    record = json.loads((tmp_path / "provenance.json").read_text())
    claim = next(c for c in record["claims"] if c["path"] == "population.acquired.scale")
    assert claim["source"] == "override"
    assert "Citations of replaced numbers are withdrawn" in done.stdout


def test_keynote024_stands_beside_its_published_arms(tmp_path):
    done = resistime("scenario=KEYNOTE024", "cohort.n_patients=2000", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    targets = pd.read_csv(tmp_path / "targets.csv")
    assert {"orr", "median_pfs", "median_os", "rate_os_60"} <= set(targets["measure"])
    published = pd.read_csv(tmp_path / "published.csv")
    assert set(published["arm"]) == set(targets["strategy"])
    assert (tmp_path / "targets.png").exists()


def test_patients_are_written_when_asked_for(tmp_path):
    options = ("analysis.patients=true", "analysis.figures=false")
    done = resistime(*SMALL, f"hydra.run.dir={tmp_path}", *options)
    assert done.returncode == 0, done.stderr
    assert len(pd.read_parquet(tmp_path / "patients.parquet")) == 600


TRIAL = (
    "scenario=delayed_effect", "n_replicates=200", "estimand_patients=50000",
    "trial.comparisons=[logrank,'rmst_difference(24)']",
)  # fmt: skip
TRIAL_FILES = {
    "operating.csv", "comparisons.parquet", "paired.csv", "estimates.csv", "provenance.json",
    ".hydra",
}  # fmt: skip
FIGURES = {"operating", "accuracy", "estimates", "paired_method"}


@pytest.fixture(scope="module")
def conducted(tmp_path_factory):
    place = tmp_path_factory.mktemp("trial")
    done = resistime(*TRIAL, "n_workers=2", f"hydra.run.dir={place}")
    assert done.returncode == 0, done.stderr
    return place, done


def test_a_trial_leaves_its_operating_characteristics(conducted):
    place, done = conducted
    assert done.stderr == ""
    names = {path.name for path in place.iterdir()}
    assert names == TRIAL_FILES | {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    operating = pd.read_csv(place / "operating.csv")
    power = operating[operating["measure"] == "power"].iloc[0]
    assert abs(power["estimate"] - 0.877) < 4.0 * power["mc_error"] + 0.001
    assert len(pd.read_parquet(place / "comparisons.parquet")) == 400
    record = json.loads((place / "provenance.json").read_text())
    assert set(record["seconds"]) == {"simulate", "analyse", "total"}
    assert record["replicates_per_second"] > 0
    assert record["n_replicates"] == 200
    errors = operating.loc[operating["measure"] == "power", "mc_error"]
    assert record["largest_mc_error_of_power"] == pytest.approx(errors.max())
    assert "Monte Carlo error" in done.stdout
    assert "true value" in done.stdout


def test_a_trial_is_the_same_with_one_worker(conducted, tmp_path):
    place, _ = conducted
    done = resistime(*TRIAL, f"hydra.run.dir={tmp_path}", "analysis.figures=false")
    assert done.returncode == 0, done.stderr
    for name in ("operating.csv", "comparisons.parquet", "paired.csv", "estimates.csv"):
        assert (tmp_path / name).read_bytes() == (place / name).read_bytes()


def test_a_precision_is_reached_and_told(tmp_path):
    place = f"hydra.run.dir={tmp_path}"
    done = resistime(*TRIAL, "precision=0.02", place, "analysis.figures=false")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "provenance.json").read_text())
    assert record["n_replicates"] > 200
    assert record["largest_mc_error_of_power"] <= 0.02
    assert record["precision"] == {"asked": 0.02, "reached": True, "max_replicates": 1_000_000}
    assert f"{record['n_replicates']} simulated trials" in done.stdout
    assert "Precision 0.02 asked for" in done.stdout
    few = ("precision=0.01", "max_replicates=250", "estimand_patients=0", "analysis.figures=false")
    done = resistime(*(x for x in TRIAL if "estimand" not in x), *few, place)
    assert "reached: max_replicates is 250" in done.stdout
    record = json.loads((tmp_path / "provenance.json").read_text())
    assert (record["n_replicates"], record["precision"]["reached"]) == (250, False)
    # Without a cohort there are no true values, and what an earlier run left of them is gone.
    assert not (tmp_path / "estimates.csv").exists()
    assert "bias" not in set(pd.read_csv(tmp_path / "operating.csv")["measure"])


def test_designs_are_paired(conducted, tmp_path):
    place, _ = conducted
    smaller = ("trial.n_patients=400", "trial.cuts.final.events=280", "n_replicates=150")
    arguments = [x for x in TRIAL if not x.startswith("n_replicates")]
    done = resistime(*arguments, *smaller, f"paired_with={place}", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    rows = pd.read_csv(tmp_path / "paired.csv").query("versus == 'design'")
    assert rows["method"].tolist() == ["logrank", "rmst_difference(24)"]
    columns = ["method", "replicate", "p_value"]
    ours, theirs = (
        pd.read_parquet(folder / "comparisons.parquet", columns=columns).query("replicate < 150")
        for folder in (tmp_path, place)
    )
    for row in rows.to_dict(orient="records"):
        p, q = (
            table[table["method"] == row["method"]].sort_values("replicate")["p_value"].to_numpy()
            for table in (ours, theirs)
        )
        difference = (p <= 0.025) * 1.0 - (q <= 0.025)
        assert row["n_replicates"] == 150
        assert row["difference"] == pytest.approx(difference.mean(), abs=1e-12)
        assert row["mc_error"] == pytest.approx(difference.std(ddof=1) / 150**0.5)
    # The same patients, and many of the same events: pairing tells more than it costs.
    assert (rows["mc_error"] < rows["mc_error_unpaired"]).all()
    assert (tmp_path / "paired_design.png").exists()


BAD_TRIAL = {
    "paired_with=/nowhere": "paired_with: no provenance.json of a run in '/nowhere': No such file or directory",
    "paired_with={cohort}": "paired_with must be the folder of a trial run, got '",
    "paired_with={trial} seed=2": "paired_with: seed must be the same in both, got 2 here and 1 in '",
    "paired_with={trial} trial.alpha=0.05": "paired_with: trial.alpha must be the same in both, got 0.05 here and 0.025 in '",
    "paired_with={trial} trial.comparisons=[cox]": "paired_with: no comparison of '",
    "precision=0.01 max_replicates=100": "max_replicates must be at least n_replicates (200), got 100",
    "precision=-1": "precision must be finite and greater than 0, got -1",
    "estimand_patients=-1": "estimand_patients must be finite and at least 0, got -1",
}  # fmt: skip


@pytest.mark.parametrize("arguments", BAD_TRIAL)
def test_what_is_wrong_with_a_trial_is_one_line(arguments, finished, conducted, tmp_path):
    written = arguments.format(cohort=finished[0], trial=conducted[0]).split()
    done = resistime(*TRIAL, *written, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"resistime: {BAD_TRIAL[arguments]}"), line
    assert not (tmp_path / "comparisons.parquet").exists()


def test_a_file_of_comparisons_that_is_broken_is_one_line(conducted, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "provenance.json").write_bytes((conducted[0] / "provenance.json").read_bytes())
    (other / "comparisons.parquet").write_bytes(b"PAR1 nothing")
    done = resistime(*TRIAL, f"paired_with={other}", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"resistime: paired_with: cannot read '{other}/comparisons.parquet': ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_trial_leaves_no_half_file_and_no_process(number, tmp_path):
    command = [sys.executable, "-m", "sim", "scenario=delayed_effect", "n_replicates=10000000"]
    process = subprocess.Popen(
        [*command, "n_workers=2", f"hydra.run.dir={tmp_path}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("no list of child processes here")
    deadline = time.monotonic() + 60.0
    while not list(tmp_path.glob(".partial-*")) or not children.read_text():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    time.sleep(0.5)
    workers = children.read_text().split()
    assert workers
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in told
    deadline = time.monotonic() + 10.0
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert [path.name for path in tmp_path.iterdir()] == [".hydra"]


def test_help_reads_like_a_page_and_cfg_runs_nothing(tmp_path):
    page = resistime("--help", cwd=tmp_path)
    assert page.returncode == 0
    assert "not for treating patients" in page.stdout
    assert "KEYNOTE024" in page.stdout
    dry = resistime("--cfg", "job", cwd=tmp_path)
    assert "stk11_keap1_loss" in dry.stdout
    assert list(tmp_path.iterdir()) == []


BAD = {
    "population.acquired.scale=-3": "population.acquired.scale must be finite and greater than 0, got -3",
    "population.acquired.scale=abc": "population.acquired.scale must be a number, got 'abc'",
    "population.acquired.scael=3": "population.acquired.scael: no such setting. Did you mean 'scale'?",
    "population.strata.tps_high.responding=1.2": "population.strata.tps_high.responding must be between 0 and 1, got 1.2",
    "population.strata.tps_high.responding=null": "population.strata.tps_high.responding must be given, got null",
    "scenario=KEYNOTE042X": "scenario: no option named 'KEYNOTE042X'.",
    "population=nobody": "population: no option named 'nobody'.",
    "strategy=[anti_pd2]": "strategy: no option named 'anti_pd2'. Did you mean 'anti_pd1'?",
    "cohort.n_patients=1e4": "cohort.n_patients must be a whole number, got '10000.0'",
    "cohort.n_patients": "cannot read 'cohort.n_patients': write path=value",
    "strategies.anti_pd1.rule=magic": "strategies.anti_pd1.rule: no combination rule named 'magic'.",
    "assessment.schedule=[{every: 6, until: 4}]": "assessment.schedule[0].until must be inf, as the last phase never ends, got 4",
    "~strategies.anti_pd1.doses.anti_pd1": "strategies.anti_pd1.doses: an arm needs at least one agent",
    "+strategies.anti_pd1.doses.anti_vegf.stop=24": "strategies.anti_pd1.doses.anti_vegf: an entry of this kind cannot be added on the command line",
    "+cohort.n_patient=9": "cohort: no setting named 'n_patient'. Did you mean 'n_patients'?",
    "+agents.anti_ctla4.durabilty=0.9": "agents.anti_ctla4: no setting named 'durabilty'. Did you mean 'durability'?",
    "+foo=1": "configuration: no setting named 'foo'.",
    "=3": "cannot read '=3': write path=value",
    "trial=null": "trial=null: leave trial out instead; without one there is none",
    "analysis.endpoints=[]": "analysis.endpoints must name at least one of pfs, os,",
    "analysis.table_every=1e-9": "analysis.table_every must be at least 0.25 months, got 1e-09",
    "precision=0.01": "precision must not be given without a trial: choose one, trial=...",
    "paired_with=x": "paired_with must not be given without a trial: choose one, trial=...",
    "cohort.follow_up=1e9": "cohort.follow_up must be at most 1000 months, got 1e+09",
    "strategies.anti_pd1.doses.anti_pd1.start=6": "strategies.anti_pd1.doses.anti_pd1.start must be 0 for a checkpoint inhibitor, got 6",
    "strategies.chemotherapy.doses.platinum_doublet.at_progression=true": "strategies.chemotherapy.doses.platinum_doublet.at_progression must be false for an agent with activity, got true",
    "hydra.run.dir=/dev/null/x": "hydra.run.dir: cannot write '/dev/null/x': Not a directory",
}  # fmt: skip


@pytest.mark.parametrize("argument", BAD)
def test_bad_input_is_one_line_and_status_2(argument, tmp_path):
    arguments = [*SMALL, f"hydra.run.dir={tmp_path / 'out'}", argument]
    if "=" in argument:
        key = argument.partition("=")[0]
        arguments = [a for a in arguments if not a.startswith(f"{key}=") or a == argument]
    done = resistime(*arguments)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"resistime: {BAD[argument]}"), lines[0]
    assert done.stdout == ""
    assert not (tmp_path / "out" / "curves.csv").exists()


def test_mistakes_in_a_users_own_file_are_one_line(tmp_path):
    folder = tmp_path / "my" / "strategy"
    folder.mkdir(parents=True)
    files = {
        "broken": ("# @package strategies.broken\nlabel: x\ndoses:\n  anti_pd1: {stop: 24.0\n", "line 5"),
        "typo": ("# @package strategies.typo\nlabel: x\nfamily: y\ndose:\n  anti_pd1: {}\n", "no setting named 'dose'"),
        "bare": ("label: x\nfamily: y\ndoses:\n  anti_pd1: {}\n", "'# @package ...' missing"),
    }  # fmt: skip
    for name, (text, told) in files.items():
        (folder / f"{name}.yaml").write_text(text)
        done = resistime(f"--config-dir={tmp_path / 'my'}", f"strategy=[{name}]", cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert told in done.stderr
    missing = resistime(f"--config-dir={tmp_path / 'my'}", "strategy=[bear]", cwd=tmp_path)
    assert "Did you mean 'bare'?" in missing.stderr


def test_a_disk_that_fills_leaves_no_half_written_file(tmp_path):
    def little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = resistime(*SMALL, f"hydra.run.dir={tmp_path}", preexec_fn=little_room)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "cannot write" in done.stderr
    # The configuration is larger than the limit: it is not there, rather than there in part.
    assert not (tmp_path / ".hydra" / "config.yaml").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".partial")]
    assert not (tmp_path / "curves.csv").exists()


def test_the_readme_shows_python_that_runs():
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    block = text.split("```python\n")[1].split("```")[0]
    names: dict = {}
    exec(block, names)
    assert names["cohort"].resistance_time.shape == (1, 2, 20_000)


def test_a_run_that_is_refused_leaves_no_file(tmp_path):
    done = resistime("cohort.n_patients=0", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []
