"""What a result depends on most, one thing at a time and averaged over the others."""

import itertools

import numpy as np
import pandas as pd
from sweeps import one_at_a_time, product

from analysis.sensitivity import base_values, is_one_at_a_time, sensitivity_table

PATHS = ["n", "onset", "scans"]
BASE = {"n": 300, "onset": 2.0, "scans": "often"}
AXES = {"n": [200, 300], "onset": [0.0, 2.0, np.nan], "scans": ["often", "seldom"]}


def table(cells, value):
    rows = [{"cell": k, **cell, "estimate": value(cell), "mc_error": 0.01 * (k + 1)}
            for k, cell in enumerate(cells)]  # fmt: skip
    return pd.DataFrame(rows)


def additive(cell):
    onset = 9.0 if np.isnan(cell["onset"]) else cell["onset"]
    return 0.001 * cell["n"] - 0.03 * onset + 0.05 * (cell["scans"] == "often")


def test_one_at_a_time_is_told_from_a_product():
    alone = table(one_at_a_time(BASE, AXES), additive)
    assert is_one_at_a_time(alone, PATHS)
    assert base_values(alone, PATHS) == (300, 2.0, "often")
    assert not is_one_at_a_time(table(product(AXES), additive), PATHS)
    assert not is_one_at_a_time(table(product({**AXES, "n": [1], "scans": ["x"]}), additive), PATHS)


def test_one_at_a_time_the_others_are_at_their_base():
    cells = table(one_at_a_time(BASE, AXES), additive)
    found = sensitivity_table(cells, PATHS, base_values(cells, PATHS))
    assert list(dict.fromkeys(found["parameter"])) == ["onset", "n", "scans"]
    by = {(row.parameter, row.value): row for row in found.itertuples()}
    assert by["n", 200].estimate == additive({**BASE, "n": 200})
    assert by["onset", None].estimate == additive({**BASE, "onset": np.nan})
    assert by["scans", "seldom"].mc_error == cells["mc_error"].iloc[-1]
    assert [key for key, row in by.items() if row.is_base] == [
        ("onset", 2.0), ("n", 300), ("scans", "often"),
    ]  # fmt: skip


def test_of_a_product_the_others_are_averaged_over():
    cells = table(product(AXES), additive)
    found = sensitivity_table(cells, PATHS, None).set_index(["parameter", "value"])
    others = [{**BASE, "onset": o, "scans": s}
              for o, s in itertools.product(AXES["onset"], AXES["scans"])]  # fmt: skip
    wanted = np.mean([additive({**other, "n": 200}) for other in others])
    assert found.loc[("n", 200), "estimate"] == wanted
    assert found.loc[("n", 200), "n_cells"] == 6
    # Errors that go together add up: the mean of the errors, not less.
    own = cells[cells["n"] == 200]["mc_error"]
    assert np.isclose(found.loc[("n", 200), "mc_error"], own.mean(), rtol=1e-12)
    assert not found["is_base"].any()


def test_a_missing_cell_leaves_its_combination_out_of_every_value():
    cells = table(product(AXES), additive)
    gone = (cells["n"] == 200) & (cells["onset"] == 0.0) & (cells["scans"] == "often")
    cells.loc[gone, "estimate"] = np.nan
    found = sensitivity_table(cells, PATHS, None).set_index(["parameter", "value"])
    assert found.loc[("n", 200), "n_cells"] == found.loc[("n", 300), "n_cells"] == 5
    # The effect is additive, so that what n does is the same in what is left.
    difference = found.loc[("n", 300), "estimate"] - found.loc[("n", 200), "estimate"]
    assert np.isclose(difference, 0.1, rtol=1e-12)


def test_a_parameter_of_one_value_is_no_bar():
    cells = table(product({**AXES, "scans": ["often"]}), additive)
    assert set(sensitivity_table(cells, PATHS, None)["parameter"]) == {"n", "onset"}
