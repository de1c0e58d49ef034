"""The command as a user meets it: files, figures, help, and one line for what is wrong."""

import json
import resource
import subprocess
import sys
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


def test_a_trial_leaves_its_operating_characteristics(tmp_path):
    done = resistime(
        "scenario=delayed_effect", "n_replicates=200", "n_workers=2", f"hydra.run.dir={tmp_path}"
    )
    assert done.returncode == 0, done.stderr
    operating = pd.read_csv(tmp_path / "operating.csv")
    power = operating[operating["measure"] == "power"].iloc[0]
    assert abs(power["estimate"] - 0.877) < 4.0 * power["mc_error"] + 0.001
    assert len(pd.read_parquet(tmp_path / "comparisons.parquet")) == 200
    record = json.loads((tmp_path / "provenance.json").read_text())
    assert set(record["seconds"]) == {"simulate", "analyse", "total"}
    assert record["replicates_per_second"] > 0
    assert (tmp_path / "operating.png").exists()
    assert "Monte Carlo error" in done.stdout


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
    "analysis.endpoints=[]": "analysis.endpoints must name at least one of pfs, os,",
    "analysis.table_every=1e-9": "analysis.table_every must be at least 0.25 months, got 1e-09",
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
