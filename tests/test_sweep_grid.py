"""The cells of a sweep: which there are, in which order, and what cannot be one."""

import pytest

from sim.errors import ScenarioError
from sim.schema import SweepConfig
from sim.sweep.grid import folder_name, read_grid, written


def cells(options=lambda group: [], **parts):
    return [dict(cell) for cell in read_grid(SweepConfig(**parts), options).cells]


def test_a_grid_is_every_combination_and_the_last_varies_fastest():
    found = cells(grid={"a.x": [1, 2], "b": ["u", "v", "w"]})
    assert [tuple(cell.values()) for cell in found] == [
        (1, "u"), (1, "v"), (1, "w"), (2, "u"), (2, "v"), (2, "w"),
    ]  # fmt: skip


def test_a_zip_takes_values_in_step():
    assert cells(zip={"a": [1, 2], "b": [3, 4]}) == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]


def test_each_changes_one_thing_at_a_time_after_a_cell_without_any_change():
    assert cells(each={"a": [1, 2], "b": [3]}) == [{}, {"a": 1}, {"a": 2}, {"b": 3}]


def test_parts_multiply():
    found = cells(grid={"a": [1, 2]}, zip={"b": [1, 2], "c": [3, 4]}, cells=[{"d": 5}, {"e": 6}])
    assert len(found) == 8
    assert found[0] == {"a": 1, "b": 1, "c": 3, "d": 5}
    assert found[-1] == {"a": 2, "b": 2, "c": 4, "e": 6}


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ("200,400", [200, 400]),
        ("range(1,4)", [1, 2, 3]),
        ("range(0,0.6,0.1)", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        ("choice(a,b)", ["a", "b"]),
        ("[a,b],[c]", [["a", "b"], ["c"]]),
        ("null,0.5", [None, 0.5]),
        ("'logrank','cox'", ["logrank", "cox"]),
        ("alone", ["alone"]),
        (7, [7]),
        ([True, False], [True, False]),
    ],
)
def test_values_are_read_as_hydra_reads_a_sweep(given, values):
    assert [cell["a"] for cell in cells(grid={"a": given})] == values


def test_values_of_a_range_are_the_ones_that_are_meant():
    # In floating point the fourth would be 0.30000000000000004.
    assert cells(grid={"a": "range(0,0.4,0.1)"})[3] == {"a": 0.3}


def test_glob_takes_the_files_of_a_group():
    def options(group):
        assert group == "assessment"
        return ["continuous", "keynote024", "keynote189"]

    found = cells(options, grid={"assessment": "glob(keynote*)"})
    assert found == [{"assessment": "keynote024"}, {"assessment": "keynote189"}]


def test_a_path_may_be_written_as_mappings_in_mappings():
    assert cells(grid={"trial": {"accrual": {"duration": [6, 12]}}}) == [
        {"trial.accrual.duration": 6},
        {"trial.accrual.duration": 12},
    ]


def test_a_csv_file_has_a_cell_in_each_row(tmp_path):
    path = tmp_path / "cells.csv"
    path.write_text("trial.n_patients, trial.dropout,assessment\n300,0.01,continuous\n\n400,,\n")
    assert cells(csv=str(path)) == [
        {"trial.n_patients": 300, "trial.dropout": 0.01, "assessment": "continuous"},
        {"trial.n_patients": 400},
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1\n", "sweep.csv: row 2 of '{path}' must have 2 fields, got 1"),
        ("a\n", "sweep.csv: '{path}' must have a line of paths and at least one more"),
        ("a,a\n1,2\n", "sweep.csv: '{path}' needs a name of its own for every column"),
        ("n_replicates\n1\n", "sweep.csv: column n_replicates cannot be swept"),
        ('a\n"1,2"\n', "sweep.csv: row 2, a must be a single value, got '1,2'"),
    ],
)
def test_what_is_wrong_with_a_csv_file_is_said_with_its_row(tmp_path, text, words):
    path = tmp_path / "cells.csv"
    path.write_text(text)
    with pytest.raises(ScenarioError) as caught:
        cells(csv=str(path))
    assert str(caught.value).startswith(words.format(path=path))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({}, "sweep: nothing is swept"),
        ({"grid": {"a": []}}, "sweep.grid.a must hold at least one value, got []"),
        ({"grid": {"a": "range(3,1)"}}, "sweep.grid.a must hold at least one value"),
        ({"grid": {"a": "range(3,"}}, "sweep.grid.a cannot be read, got 'range(3,'"),
        ({"grid": {"a": [0.3, 0.1 + 0.2]}}, "sweep.grid.a must not hold a value twice, got 0.3"),
        ({"grid": {"n_replicates": [1, 2]}}, "sweep.grid.n_replicates cannot be swept: it is the"),
        ({"grid": {"hydra.run.dir": ["a"]}}, "sweep.grid.hydra.run.dir cannot be swept"),
        ({"grid": [1, 2]}, "sweep.grid must be a mapping of path to values, as in sweep.grid={"),
        ({"zip": {"a": [1], "b": [1, 2]}}, "sweep.zip must hold lists of one length, got a 1, b 2"),
        ({"cells": [3]}, "sweep.cells[0] must be a mapping of path to value, got 3"),
        ({"grid": {"a": [1]}, "zip": {"a": [1]}}, "sweep: a is swept twice"),
        ({"csv": "/no/such/file"}, "sweep.csv: cannot read '/no/such/file': No such file"),
        (
            {"grid": {name: list(range(1000)) for name in "abc"}},
            "sweep must have at most 1000000 cells, got 1000000000",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(parts, words):
    with pytest.raises(ScenarioError) as caught:
        cells(**parts)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


def test_a_folder_is_named_by_the_sweep_or_by_what_it_sweeps():
    assert folder_name({}) == ""
    assert folder_name({"name": "late"}) == "sweeps/late"
    one = folder_name({"grid": {"trial.n_patients": [1, 2]}})
    assert one.startswith("sweeps/n_patients-")
    assert one == folder_name({"grid": {"trial.n_patients": [1, 2]}, "zip": None})
    assert one != folder_name({"grid": {"trial.n_patients": [1, 3]}})


def test_values_are_written_as_they_would_be_typed():
    for value, text in (([1, "a"], "[1,a]"), ({"x": None}, "{x:null}"), (0.5, "0.5")):
        assert written(value) == text
