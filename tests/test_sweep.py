"""Sweeps as a whole: nothing is done twice, nothing is lost, and the bytes are always the same."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from sim.errors import OutputError, ScenarioError
from sim.sweep.store import CELLS, environment
from tests.sweeps_run import GRID, SMALL, command, definition, sweep

PLAIN = ("agents.delayed.onset=0,4", "trial.dropout=0,0.01,0.05")
"""The same cells as Hydra sweeps them."""

TABLES = ("sweep.csv", "sweep_paired.csv", "sweep.parquet", "sweep_paired.parquet")


def bytes_of(place):
    return {name: (Path(place) / name).read_bytes() for name in TABLES}


def cell_files(place):
    return sorted((Path(place) / CELLS / environment().name).glob("*.npz"))


def stamps(place):
    return {path.name: path.stat().st_mtime_ns for path in cell_files(place)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted sweep."""
    place = tmp_path_factory.mktemp("whole")
    assert sweep(place, *SMALL, GRID, "n_workers=1") == 0
    return place


@pytest.fixture
def copy(whole, tmp_path):
    place = tmp_path / "copy"
    shutil.copytree(whole, place)
    return place


# ---------------------------------------------------------------- what it leaves


def test_the_table_has_every_cell_with_its_values_and_errors(whole):
    table = pd.read_parquet(whole / "sweep.parquet")
    cells = table.drop_duplicates("cell")
    assert list(table.columns[:4]) == ["cell", "agents.delayed.onset", "trial.dropout", "status"]
    assert cells["agents.delayed.onset"].tolist() == [0, 0, 0, 4, 4, 4]
    assert cells["trial.dropout"].tolist() == [0.0, 0.01, 0.05] * 2
    assert (table["status"] == "done").all()
    assert table["agents.delayed.onset"].dtype == "int64"
    assert table["n_replicates"].tolist() == [200] * len(table)
    power = table[table["measure"] == "power"]
    assert len(power) == 12
    assert (power["mc_error"] > 0).any()
    assert power["mc_error"].notna().all()


def test_a_cell_is_the_run_that_its_values_ask_for(whole, tmp_path):
    done = command(
        *SMALL, "agents.delayed.onset=4", "trial.dropout=0.05", "estimand_patients=0",
        f"hydra.run.dir={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    own = pd.read_csv(tmp_path / "operating.csv", keep_default_na=False)
    table = pd.read_csv(whole / "sweep.csv", keep_default_na=False)
    cell = table[(table["agents.delayed.onset"] == 4) & (table["trial.dropout"] == 0.05)]
    columns = ["cut", "arm", "endpoint", "method", "measure", "estimate", "mc_error"]
    pd.testing.assert_frame_equal(
        cell[columns].reset_index(drop=True), own[columns], check_dtype=False
    )


def test_the_table_says_nothing_of_where_and_when(whole):
    text = (whole / "sweep.csv").read_text()
    for word in (str(whole), os.uname().nodename, time.strftime("%Y-%m-%d"), environment().name):
        assert word not in text


def test_the_record_says_what_was_asked(whole):
    record = json.loads((whole / "sweep.json").read_text())
    assert record["n_cells"] == 6
    assert record["n_failed"] == record["n_missing"] == 0
    assert [axis["path"] for axis in record["axes"]] == ["agents.delayed.onset", "trial.dropout"]
    assert record["axes"][1]["values"] == [0, 0.01, 0.05]
    assert record["reference"] == "control"
    assert "60 patients" in record["design"]
    assert record["citations_withdrawn"] is True
    assert json.loads((whole / "provenance.json").read_text())["seed"] == 1


# ---------------------------------------------------------------- the same bytes, however made


def test_processes_shards_and_hydras_own_sweep_give_the_same_bytes(whole, tmp_path):
    pool, shards, plain = (tmp_path / name for name in ("pool", "shards", "plain"))
    assert sweep(pool, *SMALL, GRID, "n_workers=2") == 0
    assert bytes_of(pool) == bytes_of(whole)

    done = command("-m", *SMALL, GRID, "shard=range(3)", "n_shards=3", f"hydra.sweep.dir={shards}")
    assert done.returncode == 0, done.stderr
    assert bytes_of(shards) == bytes_of(whole)

    done = command("-m", *SMALL, *PLAIN, f"hydra.sweep.dir={plain}")
    assert done.returncode == 0, done.stderr
    assert bytes_of(plain) == bytes_of(whole)
    assert [p.name for p in cell_files(plain)] == [p.name for p in cell_files(whole)]


def test_zip_cells_and_csv_give_the_cells_of_a_grid(whole, tmp_path):
    path = tmp_path / "cells.csv"
    path.write_text("agents.delayed.onset,trial.dropout\n4,0.05\n0,0\n")
    for name, given in (
        ("zip", "sweep.zip={agents.delayed.onset: [4, 0], trial.dropout: [0.05, 0]}"),
        ("csv", f"sweep.csv={path}"),
        ("cells", "sweep.cells=[{agents.delayed.onset: 4, trial.dropout: 0.05}, "
         "{agents.delayed.onset: 0, trial.dropout: 0}]"),
    ):  # fmt: skip
        assert sweep(tmp_path / name, *SMALL, given) == 0
        assert {p.name for p in cell_files(tmp_path / name)} < {p.name for p in cell_files(whole)}
    tables = [(tmp_path / name / "sweep.csv").read_bytes() for name in ("zip", "csv", "cells")]
    assert tables[0] == tables[1] == tables[2]


def test_files_can_be_swept_as_well_as_values(tmp_path):
    small = ("cohort.n_patients=200", "strategy=[anti_pd1,chemotherapy]", "analysis.figures=false")
    grid = "sweep.grid={assessment: [continuous, keynote024], coupling.spearman: [0, 0.6]}"
    assert sweep(tmp_path / "a", *small, grid) == 0
    table = pd.read_parquet(tmp_path / "a" / "sweep.parquet")
    assert table["assessment"].unique().tolist() == ["continuous", "keynote024"]
    assert (tmp_path / "a" / "sweep_curves.parquet").exists()
    plain = ("assessment=continuous,keynote024", "coupling.spearman=0,0.6")
    done = command("-m", *small, *plain, f"hydra.sweep.dir={tmp_path / 'b'}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b" / "sweep.csv").read_bytes() == (
        tmp_path / "a" / "sweep.csv"
    ).read_bytes()


# ---------------------------------------------------------------- nothing done twice


def test_the_same_command_again_makes_nothing(copy, whole):
    before = stamps(copy)
    assert sweep(copy, *SMALL, GRID) == 0
    assert stamps(copy) == before
    assert bytes_of(copy) == bytes_of(whole)


def test_a_wider_sweep_makes_only_what_is_new(copy, capsys):
    before = stamps(copy)
    wider = GRID.replace("[0, 4]", "[0, 2, 4]")
    assert sweep(copy, *SMALL, wider) == 0
    assert "held another sweep: what the two share is kept" in capsys.readouterr().out
    after = stamps(copy)
    assert len(after) == 9
    assert {name: after[name] for name in before} == before
    assert pd.read_parquet(copy / "sweep.parquet")["cell"].nunique() == 9


def test_more_replicates_extend_a_sweep(copy, tmp_path, capsys):
    assert sweep(copy, *SMALL, GRID, "n_replicates=500") == 0
    assert "another sweep" not in capsys.readouterr().out
    assert sweep(tmp_path / "at once", *SMALL, GRID, "n_replicates=500") == 0
    assert bytes_of(copy) == bytes_of(tmp_path / "at once")


def test_fewer_replicates_are_read_off_and_throw_none_away(copy, whole):
    assert sweep(copy, *SMALL, GRID, "n_replicates=500") == 0
    assert sweep(copy, *SMALL, GRID) == 0
    assert bytes_of(copy) == bytes_of(whole)
    sizes = {path.stat().st_size for path in cell_files(copy)}
    assert min(sizes) > 2 * max(path.stat().st_size for path in cell_files(whole))


# ---------------------------------------------------------------- nothing lost


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(whole, tmp_path):
    line = [sys.executable, "-m", "sim", *SMALL, GRID, "n_workers=2", f"hydra.run.dir={tmp_path}"]
    counts = []
    for wanted in (1, 3, 5):
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60.0
        while len(cell_files(tmp_path)) < wanted and time.monotonic() < deadline:
            if process.poll() is not None:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        counts.append(len(cell_files(tmp_path)))
    assert counts[0] >= 1
    assert counts == sorted(counts)
    time.sleep(1.5)  # Its processes notice within a second that it has gone.
    kept = stamps(tmp_path)
    done = command(*SMALL, GRID, "n_workers=2", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert f"{len(kept)} kept" in done.stdout
    assert bytes_of(tmp_path) == bytes_of(whole)
    after = stamps(tmp_path)
    assert {name: after[name] for name in kept} == kept


@pytest.mark.parametrize("how", ["truncated", "flipped", "empty"])
def test_a_damaged_cell_is_named_and_made_again(copy, whole, capsys, how):
    path = cell_files(copy)[2]
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
    path.write_bytes({"truncated": content[:-100], "flipped": content, "empty": b""}[how])
    assert sweep(copy, *SMALL, GRID) == 0
    told = capsys.readouterr().out
    assert f"made again: '{path}' is damaged" in told
    assert "1 cells made, 5 kept" in told
    assert bytes_of(copy) == bytes_of(whole)


def test_two_processes_in_one_folder_do_it_no_harm(whole, tmp_path):
    line = [sys.executable, "-m", "sim", *SMALL, GRID, "n_workers=1", f"hydra.run.dir={tmp_path}"]
    both = [subprocess.Popen(line, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert bytes_of(tmp_path) == bytes_of(whole)
    assert not list(tmp_path.rglob(".partial-*"))


def test_what_another_version_made_is_not_taken_for_this_ones(copy, whole, capsys):
    own = copy / CELLS / environment().name
    other = copy / CELLS / "0123456789ab"
    own.rename(other)
    assert command(copy, module="sim.collect_command").stdout.count("6 cells were made by another")
    assert bytes_of(copy) == bytes_of(whole)
    before = {path.name: path.stat().st_mtime_ns for path in other.iterdir()}
    assert sweep(copy, *SMALL, GRID) == 0
    assert "6 cells made, 0 kept" in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in other.iterdir()} == before


def test_cells_of_two_versions_are_mixed_only_if_asked(copy, whole):
    other = copy / CELLS / "0123456789ab"
    shutil.copytree(copy / CELLS / environment().name, other)
    for path in cell_files(copy)[:2]:
        path.unlink()
    for path in sorted(other.glob("*.npz"))[2:3]:
        path.unlink()
    done = command(copy, module="sim.collect_command")
    assert done.returncode == 1
    assert "1 cells are missing" in done.stdout
    done = command(copy, "--mixed", module="sim.collect_command")
    assert done.returncode == 0
    assert bytes_of(copy) == bytes_of(whole)


# ---------------------------------------------------------------- cells that fail

FAILING = GRID.replace("[0, 0.01, 0.05]", "[0, 0.01]")


@pytest.fixture
def broken(monkeypatch):
    """A program in which cells with dropout fail, once they run."""
    import sim.sweep.cell as module

    conduct = module.conduct_blocks

    def fail(plan, blocks):
        if plan.design.dropout > 0.0:
            raise ZeroDivisionError("a bug")
        return conduct(plan, blocks)

    monkeypatch.setattr(module, "conduct_blocks", fail)
    yield
    monkeypatch.undo()


def test_a_failing_cell_is_recorded_and_stops_no_other(tmp_path, broken, capsys, monkeypatch):
    assert sweep(tmp_path, *SMALL, FAILING, "n_workers=1") == 1
    told = capsys.readouterr().out
    assert "2 cells made, 0 kept, 2 failed" in told
    assert "cell 1 (agents.delayed.onset=0, trial.dropout=0.01): ZeroDivisionError: a bug" in told
    table = pd.read_parquet(tmp_path / "sweep.parquet")
    failed = table[table["status"] == "failed"]
    assert failed["cell"].tolist() == [1, 3]
    assert failed["error"].unique().tolist() == ["ZeroDivisionError: a bug"]
    (record,) = list(tmp_path.rglob("*.failed.json"))[:1]
    assert "Traceback" in json.loads(record.read_text())["traceback"]

    # Collecting does not try again unless it is told to.
    done = command(tmp_path, module="sim.collect_command")
    assert done.returncode == 1
    assert "cell 1" in done.stdout
    monkeypatch.undo()
    done = command(tmp_path, "--retry-failed", module="sim.collect_command")
    assert done.returncode == 0, done.stderr
    assert "2 cells made" in done.stdout
    assert sweep(tmp_path / "well", *SMALL, FAILING) == 0
    assert bytes_of(tmp_path) == bytes_of(tmp_path / "well")


def test_a_cell_that_ends_its_process_fails_alone(tmp_path, monkeypatch, capsys):
    import sim.sweep.cell as module

    conduct = module.conduct_blocks

    def die(plan, blocks):
        if plan.design.dropout == 0.01:
            os._exit(9)
        return conduct(plan, blocks)

    monkeypatch.setattr(module, "conduct_blocks", die)  # The processes are forked.
    assert sweep(tmp_path, *SMALL, GRID, "n_workers=2") == 1
    # A cell that was kept before its neighbour ended their process is found when its turn comes.
    made, kept, failed = re.search(
        r"(\d) cells made, (\d) kept, (\d) failed", capsys.readouterr().out
    ).groups()
    assert (int(made) + int(kept), int(failed)) == (4, 2)
    table = pd.read_parquet(tmp_path / "sweep.parquet")
    assert table.loc[table["status"] == "failed", "cell"].tolist() == [1, 4]
    assert table["error"].str.contains("too little memory").sum() == 2


# ---------------------------------------------------------------- what cannot be done


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sweep.grid={trial.n_patint: [1]}",), "no setting named 'n_patint'. Did you mean"),
        (("sweep.grid={trial.dropout: [0, -1]}",), "cell 1 (trial.dropout=-1): trial.dropout must"),
        (("sweep.grid={trial.dropout: []}",), "sweep.grid.trial.dropout must hold at least one"),
        (("sweep.grid={trial.n_patients: [x]}",), "trial.n_patients must be a whole number"),
        (("sweep.grid={assessment: [nothing]}",), "nothing"),
        ((GRID, "shard=3", "n_shards=2"), "shard must be less than n_shards (2), got 3"),
        ((GRID, "trial.comparisons=[lograk]"), "no comparison named 'lograk'"),
    ],
)
def test_what_can_be_known_before_is_said_before(tmp_path, arguments, words):
    with pytest.raises(ScenarioError) as caught:
        sweep(tmp_path, *SMALL, *arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.npz"))


def test_an_unknown_sweep_is_said_in_one_line_by_the_command():
    done = command("sweep=nothing_of_the_kind")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "nothing_of_the_kind" in done.stderr


def test_a_folder_with_other_things_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(OutputError, match=r"holds files that are not a sweep's.*thesis\.docx"):
        sweep(tmp_path, *SMALL, GRID)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_disk_that_is_too_small_is_refused(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match="has 1e-05 GB left, and the sweep needs about"):
        sweep(tmp_path, *SMALL, GRID)


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self").exists(), reason="needs /proc")
def test_a_folder_that_cannot_be_written_is_said_in_one_line():
    done = command(*SMALL, GRID, "hydra.run.dir=/proc/self/sweep")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "/proc/self/sweep" in done.stderr


def test_a_disk_that_fills_up_stops_the_sweep_and_loses_nothing(tmp_path, monkeypatch):
    from sim.sweep.store import Store

    write, count = Store.write, []

    def full(self, key, content):
        count.append(key)
        if len(count) == 3:
            raise OutputError("hydra.run.dir: cannot write: No space left on device")
        write(self, key, content)

    monkeypatch.setattr(Store, "write", full)
    with pytest.raises(OutputError, match="No space left"):
        sweep(tmp_path, *SMALL, GRID, "n_workers=1")
    assert len(cell_files(tmp_path)) == 2
    monkeypatch.undo()
    assert sweep(tmp_path, *SMALL, GRID) == 0
    assert len(cell_files(tmp_path)) == 6


# ---------------------------------------------------------------- what it says


def test_it_says_before_what_it_is_going_to_do(tmp_path, capsys):
    assert sweep(tmp_path, *SMALL, GRID, "sweep.name=mine", "n_workers=1") == 0
    said = capsys.readouterr().out
    assert "mine: 6 cells (2 x 3)" in said
    assert "  0: agents.delayed.onset=0, trial.dropout=0\n" in said
    # How long is not said where the machine is too busy to measure it in a moment.
    assert re.search(r"200 trials each: (about .* on 1 cores|too slow to be measured)", said)
    assert "neighbouring cells share patients" in said
    assert said.index("200 trials each") < said.index("6 cells made")
    assert "not for treating patients" in said


def test_it_leaves_a_line_a_minute_where_there_is_no_terminal(tmp_path, capsys, monkeypatch):
    import sim.sweep.report as module

    monkeypatch.setattr(module, "LOG_SECONDS", 0.0)
    assert sweep(tmp_path, *SMALL, GRID, "sweep.name=mine", "n_workers=1") == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("mine: 1 of 6 cells, 0 failed, about")
    assert len(lines) == 6


def test_a_precision_is_reached_in_every_cell(tmp_path):
    assert sweep(tmp_path, *SMALL, GRID, "precision=0.02") == 0
    table = pd.read_parquet(tmp_path / "sweep.parquet")
    power = table[table["measure"] == "power"]
    assert (power["mc_error"] <= 0.02).all()
    assert power["n_replicates"].nunique() > 1


def test_bias_and_coverage_come_where_they_are_asked_for(tmp_path):
    cox = ("trial.comparisons=[cox]", "estimand_patients=2000", "sweep.true_values=true")
    assert sweep(tmp_path, *SMALL[:4], *cox, "analysis.figures=false", GRID) == 0
    measures = set(pd.read_parquet(tmp_path / "sweep.parquet")["measure"])
    assert {"bias", "coverage", "estimand"} <= measures


def test_neighbouring_cells_share_patients():
    swept = definition(*SMALL, GRID)
    seeds = {swept.base(values).whole.seed for values in swept.grid.cells}
    assert seeds == {1}


# ---------------------------------------------------------------- found by a reader


def test_jobs_of_another_sweep_in_the_folder_are_not_taken_for_this_ones(tmp_path):
    small = (*SMALL, f"hydra.sweep.dir={tmp_path}")
    assert command("-m", *small, "trial.n_patients=60,62,64").returncode == 0
    assert command("-m", *small, "agents.delayed.onset=0,2").returncode == 0
    table = pd.read_csv(tmp_path / "sweep.csv")
    assert table["agents.delayed.onset"].unique().tolist() == [0, 2]
    assert "trial.n_patients" not in table
    assert len(cell_files(tmp_path)) == 5
    # Nor are they once a loop has been made there.
    assert sweep(tmp_path, *SMALL, GRID) == 0
    assert command(tmp_path, module="sim.collect_command").returncode == 0
    assert pd.read_csv(tmp_path / "sweep.csv")["cell"].nunique() == 6


def test_hydras_own_sweep_refuses_what_is_no_part_of_a_cell(tmp_path):
    done = command("-m", *SMALL, "n_replicates=200,400", f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 2
    assert done.stderr == "resistime: n_replicates cannot be swept: it is the same for all cells\n"


def test_whether_a_cell_is_a_cohort_is_its_own_affair(tmp_path):
    grid = "sweep.grid={scenario: [delayed_effect, constant_hazard]}"
    small = ("n_replicates=200", "cohort.n_patients=300", "analysis.figures=false")
    assert sweep(tmp_path, *small, "scenario=delayed_effect", grid) == 0
    table = pd.read_parquet(tmp_path / "sweep.parquet")
    assert set(table.loc[table["cell"] == 0, "measure"]) > {"power", "date"}
    assert (table.loc[table["cell"] == 1, "method"] == "cohort").all()


def test_a_value_that_a_chosen_file_brings_is_shown_as_it_was(tmp_path):
    swept = definition(
        "scenario=KEYNOTE024", "sweep.each={assessment: [continuous], assessment.jitter_sd: [0.1]}"
    )
    shown = [swept.swept(cell) for cell in swept.grid.cells]
    assert shown == [["default", 4.0], ["continuous", 0.0], ["default", 0.1]]


def test_a_bad_first_job_costs_no_other(tmp_path):
    done = command("-m", *SMALL, "trial.n_patients=0,60", f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 1
    table = pd.read_csv(tmp_path / "sweep.csv").drop_duplicates("cell")
    assert table["status"].tolist() == ["failed", "done"]


def test_a_part_does_not_replace_what_another_process_has_finished(tmp_path):
    from dataclasses import replace

    from sim.sweep.engine import _keep
    from sim.sweep.store import Store

    store = Store(tmp_path).open()
    swept = definition(*SMALL, GRID)
    cell = swept.base({}).cell({})
    from sim.sweep.cell import make_cell

    *_, small = make_cell(cell, swept.asked, None)
    *_, large = make_cell(cell, replace(swept.asked, n_replicates=600), None)
    part = replace(small, complete=False, rows=[], paired=[])
    _keep(store, "a" * 32, large)
    _keep(store, "a" * 32, part)
    assert store.read("a" * 32).rows == large.rows
    _keep(store, "a" * 32, small)
    kept = store.read("a" * 32)
    assert (kept.rows, kept.replicates.shape[1]) == (small.rows, 600)
    _keep(store, "a" * 32, part)
    assert store.read("a" * 32).rows == small.rows


@pytest.mark.parametrize("values", ["shuffle(range(1,5))", "interval(0,1)"])
def test_values_in_an_order_of_chance_are_refused(tmp_path, values):
    with pytest.raises(ScenarioError, match="the same in every process"):
        sweep(tmp_path, *SMALL, f"sweep.grid={{trial.dropout: '{values}'}}")


def test_numbers_beyond_64_bits_are_shown(tmp_path):
    assert sweep(tmp_path, *SMALL, "sweep.grid={seed: [1, 9223372036854775808]}") == 0
    table = pd.read_csv(tmp_path / "sweep.csv")
    assert table["seed"].nunique() == 2


def test_files_of_ones_own_are_found_again(tmp_path):
    (tmp_path / "own" / "assessment").mkdir(parents=True)
    own = tmp_path / "own" / "assessment" / "mine.yaml"
    own.write_text("defaults: [continuous, _self_]\nlabel: mine\n")
    line = (
        *SMALL, "sweep.grid={assessment: [continuous, mine]}", f"hydra.run.dir={tmp_path / 's'}",
        "--config-dir", tmp_path / "own",
    )  # fmt: skip
    done = command(*line)
    assert done.returncode == 0, done.stderr
    before = (tmp_path / "s" / "sweep.csv").read_bytes()
    done = command(tmp_path / "s", module="sim.collect_command")
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "s" / "sweep.csv").read_bytes() == before
