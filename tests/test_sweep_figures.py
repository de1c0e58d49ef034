"""Figures of sweeps are read back: what is drawn is what the tables say."""

import itertools
import json
import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection, QuadMesh
from matplotlib.text import Text
from sweeps import LABELS, METHODS, leave_sweep, one_at_a_time, product

import sim
from figures.run import STYLE
from figures.shared import ResultFileError
from figures.sweep import KINDS, draw_kind, draw_sweep
from figures.sweep_choice import Choice, ChoiceError
from figures.sweep_tables import read_sweep
from sim.figures_command import main

N, ONSET = "trial.n_patients", "agents.anti_tigit.onset"
DURABILITY, SCANS, ARMS = "agents.anti_tigit.durability", "assessment", "trial.arms"
SIZES = {N: [100, 200, 300, 400, 500, 600]}
ONSETS = {ONSET: [0.0, 3.0, 6.0]}
NAMES = {
    SCANS: [
        "every_6_weeks", "every_12_weeks", None, "as_in_the_trial_of_first_line_combinations",
    ],
    ARMS: ["[anti_pd1,experimental]", "[anti_pd1,triple]"],
}  # fmt: skip
BASE = {N: 400, ONSET: 3.0, DURABILITY: 0.1, SCANS: "every_6_weeks", "trial.stratified": True}
ALONE = one_at_a_time(
    BASE,
    {N: [300, 500], **ONSETS, DURABILITY: [0.0, 0.4], SCANS: NAMES[SCANS],
     "trial.stratified": [False]},
)  # fmt: skip
EIGHT = (
    "logrank", "fleming_harrington(0,0.5)", "cox", "rmst_difference(24)", "maxcombo",
    "modestly_weighted(12)", "milestone_difference(24)", "stratified_fleming_harrington(0,0.5)",
)  # fmt: skip


def drawn(place, kind, **options):
    """The figure, as it would be saved."""
    with matplotlib.rc_context(fname=STYLE):
        return KINDS[kind](place, read_sweep(place), Choice.of(kind, options))


def table(place, measure="power", cut="final", endpoint="pfs"):
    rows = pd.read_parquet(place / "sweep.parquet")
    return rows[
        (rows["measure"] == measure) & (rows["cut"] == cut) & (rows["endpoint"] == endpoint)
    ]


def lines(ax):
    """Data lines of a panel, without marks across it."""
    return [line for line in ax.lines if line.get_marker() not in ("None", "|", "_")]


def band(collection):
    """Lower and upper edge of a band, from left to right."""
    (path,) = collection.get_paths()
    points = pd.DataFrame(path.vertices, columns=["x", "y"]).groupby("x")["y"]
    return points.min().to_numpy(), points.max().to_numpy()


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def title(figure):
    return figure.texts[0].get_text().replace("\n", " ")


def caption(figure):
    return figure.texts[-1].get_text().replace("\n", " ")


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


# ---------------------------------------------------------------- power


def test_a_line_for_each_method_is_the_table(tmp_path):
    leave_sweep(tmp_path, product(SIZES))
    figure = drawn(tmp_path, "power")
    (ax,) = figure.axes
    for line, band_, method in zip(lines(ax), ax.collections, METHODS, strict=True):
        rows = table(tmp_path)[lambda t, name=method: t["method"] == name]
        np.testing.assert_array_equal(line.get_xdata(), rows[N])
        np.testing.assert_array_equal(line.get_ydata(), rows["estimate"])
        assert isinstance(band_, PolyCollection)
        low, high = band(band_)
        np.testing.assert_allclose(low, rows["estimate"] - 1.96 * rows["mc_error"], atol=1e-12)
        np.testing.assert_allclose(high, rows["estimate"] + 1.96 * rows["mc_error"], atol=1e-12)
    assert legend(figure) == [
        "log-rank",
        "Fleming-Harrington (0,\u00a00.5)",
        "RMST difference, 24 mo",
    ]
    assert title(figure) == "Power: PFS, final cut"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Patients", "Power")
    assert ax.get_ylim() == (0.0, 1.0)
    # The level is marked.
    assert any(set(line.get_ydata()) == {0.025} for line in ax.lines)


def test_the_caption_says_what_was_simulated(tmp_path):
    leave_sweep(tmp_path, product(SIZES), failed=(1,))
    told = caption(drawn(tmp_path, "power"))
    for part in (
        "Resistime 0.1.0: 6\u00a0cells of 1,000\u00a0trials", "seed\u00a03.",
        "All cells share the seed, so neighbouring cells share patients.",
        "Cells that failed and are not shown: 1.",
        "For research and teaching, not for treating patients.",
    ):  # fmt: skip
        assert part in told
    about = json.loads((tmp_path / "sweep.json").read_text())
    about |= {"citations_withdrawn": True, "n_cells": 1}
    (tmp_path / "sweep.json").write_text(json.dumps(about))
    told = caption(drawn(tmp_path, "power"))
    assert "Some cited numbers are replaced by hypotheses. For research" in told
    assert "share patients" not in told


def test_a_line_breaks_where_a_cell_failed_or_has_no_value(tmp_path):
    leave_sweep(tmp_path, product(SIZES), failed=(2,), missing=(0,), nan=((4, "logrank"),))
    (ax,) = drawn(tmp_path, "power").axes
    first, second, _ = (np.asarray(line.get_ydata()) for line in lines(ax))
    assert np.isnan(first).tolist() == [True, False, True, False, True, False]
    # Cells 1, 3 and 5 of log-rank have no neighbour, and bars for want of a band.
    (bar, *_) = [c for c in ax.collections if isinstance(c, LineCollection)]
    rows = table(tmp_path).set_index(["cell", "method"])
    for segment, cell in zip(bar.get_segments(), (1, 3, 5), strict=True):
        estimate, error = rows.loc[(cell, "logrank"), ["estimate", "mc_error"]]
        wanted = [estimate - 1.96 * error, estimate + 1.96 * error]
        np.testing.assert_allclose(segment[:, 1], np.array(wanted, dtype=float), atol=1e-12)
    assert np.isnan(second).tolist() == [True, False, True, False, False, False]
    assert "Cells that have not been made yet: 1." in caption(drawn(tmp_path, "power"))


def test_what_else_varies_has_panels(tmp_path):
    leave_sweep(tmp_path, product({**SIZES, **ONSETS}), arms=("experimental", "triple"))
    figure = drawn(tmp_path, "power", arm="triple")
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        f"Months until anti-TIGIT acts:\u00a0{onset}" for onset in (0, 3, 6)
    ]  # fmt: skip
    rows = table(tmp_path)
    rows = rows[(rows["arm"] == "triple") & (rows["method"] == "logrank")]
    for ax, onset in zip(figure.axes, ONSETS[ONSET], strict=True):
        own = rows[rows[ONSET] == onset]["estimate"]
        np.testing.assert_array_equal(lines(ax)[0].get_ydata(), own)
    assert LABELS["triple"] in title(figure)
    assert len(drawn(tmp_path, "power", method="logrank", by=ONSET).axes) == 2  # of two arms


def test_lines_may_be_for_a_parameter_over_the_events_of_the_cut(tmp_path):
    leave_sweep(tmp_path, product({**SIZES, **ONSETS}))
    figure = drawn(tmp_path, "power", over="events", by="onset", method=["logrank"])
    (ax,) = figure.axes
    events = table(tmp_path, "events")
    for line, onset in zip(lines(ax), ONSETS[ONSET], strict=True):
        np.testing.assert_array_equal(line.get_xdata(), events[events[ONSET] == onset]["estimate"])
    assert legend(figure) == ["0", "3", "6"]
    assert figure.legends[0].get_title().get_text() == "Months until anti-TIGIT acts"
    assert title(figure) == "Power: PFS, final cut, log-rank"
    (ax,) = drawn(tmp_path, "power", over="date", by="onset", method=["logrank"]).axes
    dates = table(tmp_path, "date", endpoint="")
    np.testing.assert_array_equal(lines(ax)[0].get_xdata(), dates[dates[ONSET] == 0]["estimate"])


def test_other_cuts_endpoints_and_measures(tmp_path):
    leave_sweep(tmp_path, product(SIZES))
    figure = drawn(tmp_path, "power", cut="interim", endpoint="os", method="logrank")
    rows = table(tmp_path, "power", "interim", "os")
    np.testing.assert_array_equal(
        lines(figure.axes[0])[0].get_ydata(), rows[rows["method"] == "logrank"]["estimate"]
    )
    assert title(figure) == "Power: OS, interim cut, log-rank"
    figure = drawn(tmp_path, "power", by="cut", endpoint="all", method="logrank")
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["PFS", "OS"]
    assert legend(figure) == ["interim cut", "final cut"]
    figure = drawn(tmp_path, "power", measure="events")
    np.testing.assert_array_equal(
        lines(figure.axes[0])[0].get_ydata(), table(tmp_path, "events")["estimate"]
    )
    assert figure.axes[0].get_ylabel() == "Events at the cut"
    # Months and log hazard ratios share no axis.
    figure = drawn(tmp_path, "power", measure="mean_estimate")
    assert [ax.get_ylabel() for ax in figure.axes] == ["estimate", "estimate", "months"]
    assert figure.axes[0].get_ylim() != figure.axes[2].get_ylim()


def test_one_thing_at_a_time_the_others_are_held_at_their_base(tmp_path):
    leave_sweep(tmp_path, ALONE)
    figure = drawn(tmp_path, "power", over="n_patients", method="logrank")
    (ax,) = figure.axes
    assert lines(ax)[0].get_xdata().tolist() == [300, 400, 500]
    assert "At their base: months until anti-TIGIT acts:\u00a03; durability" in caption(figure)


def test_parameters_that_change_together_share_a_line(tmp_path):
    cells = [{N: n, "trial.cuts.final.events": n // 2} for n in SIZES[N]]
    leave_sweep(tmp_path, cells)
    figure = drawn(tmp_path, "power")
    assert len(figure.axes) == 1
    assert len(lines(figure.axes[0])[0].get_xdata()) == 6
    assert "With patients also changes events at the final cut." in caption(figure)


def test_names_are_rows_with_a_dot_for_each_method(tmp_path):
    leave_sweep(tmp_path, product({SCANS: NAMES[SCANS]}), failed=(1,))
    figure = drawn(tmp_path, "power")
    (ax,) = figure.axes
    assert [label.get_text().replace("\n", " ") for label in ax.get_yticklabels()] == [
        "every 6 weeks", "every 12 weeks", "as in the trial of first line combinations", "none",
    ]  # fmt: skip
    rows = table(tmp_path)
    shown = [line for line in ax.lines if line.get_marker() in "os^"]
    for line, method, shift in zip(shown, METHODS, (-0.32, 0.0, 0.32), strict=True):
        own = rows[rows["method"] == method].set_index(SCANS)["estimate"]
        order = [own.loc["every_6_weeks"], np.nan, own.loc[NAMES[SCANS][3]], own.iloc[1]]
        down = np.argsort(line.get_ydata())
        at = np.asarray(line.get_xdata(), dtype=np.float64)
        np.testing.assert_array_equal(at[down], order)
        np.testing.assert_allclose(np.asarray(line.get_ydata())[down], np.arange(4) + shift)


def test_a_number_that_may_be_missing_is_a_name(tmp_path):
    leave_sweep(tmp_path, product({**SIZES, "trial.cuts.final.events": [300, None, 200]}))
    path = tmp_path / "sweep.parquet"
    cells = pd.read_parquet(path).astype({"trial.cuts.final.events": "Int64"})
    cells.to_parquet(path)
    figure = drawn(tmp_path, "power", over="trial.cuts.final.events", where=["n_patients=300"])
    (ax,) = figure.axes
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["200", "300", "none"]
    assert ax.get_title(loc="left") == "Events at the final cut"
    rows = table(tmp_path)
    rows = rows[(rows["method"] == "logrank") & (rows[N] == 300)]
    assert sorted(lines(ax)[0].get_xdata()) == sorted(rows["estimate"])
    panels = drawn(tmp_path, "power", over=N, method="logrank").axes
    assert len(panels) == 1
    assert len(lines(panels[0])) == 3


def test_one_cell_has_a_row_for_each_method(tmp_path):
    leave_sweep(tmp_path, product({N: [300]}))
    figure = drawn(tmp_path, "power")
    (ax,) = figure.axes
    rows = table(tmp_path)
    np.testing.assert_array_equal(lines(ax)[0].get_xdata(), rows["estimate"])
    assert f"{100 * rows['estimate'].iloc[0]:.1f} %" in texts(figure)


def test_a_cohort_has_medians_by_arm(tmp_path):
    leave_sweep(tmp_path, product(ONSETS), trial=False, cohort=True)
    figure = drawn(tmp_path, "power")
    (ax,) = figure.axes
    rows = table(tmp_path, "median", "")
    for line, arm in zip(lines(ax), ("anti_pd1", "experimental"), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), rows[rows["arm"] == arm]["estimate"])
    assert legend(figure) == ["anti-PD-1", "anti-PD-1 + anti-TIGIT"]
    assert title(figure) == "Median, months: PFS"
    assert "20,000\u00a0patients" in caption(figure)


@pytest.mark.parametrize(
    ("where", "cells"),
    [
        ([f"{N}=300"], [2]),
        (["n_patients=3e2"], [2]),
        (["n_patients=100", "n_patients=600"], [0, 5]),
    ],
)
def test_where_takes_numbers_as_they_are_typed(tmp_path, where, cells):
    leave_sweep(tmp_path, product(SIZES))
    (ax,) = drawn(tmp_path, "power", where=where, method="logrank").axes
    rows = table(tmp_path)
    values = rows[rows["cell"].isin(cells) & (rows["method"] == "logrank")]["estimate"]
    found = [line for line in lines(ax) if len(line.get_xdata()) == len(values)]
    assert any(
        values.tolist() in (list(line.get_xdata()), list(line.get_ydata())) for line in found
    )


def test_where_takes_names_lists_truth_and_null(tmp_path):
    cells = product({**NAMES, "trial.stratified": [True, False]})
    leave_sweep(tmp_path, cells)
    for where, keep in (
        (f"{SCANS}=every_6_weeks", lambda c: c[SCANS] == "every_6_weeks"),
        ("arms=[anti_pd1, triple]", lambda c: c[ARMS] == "[anti_pd1,triple]"),
        ("stratified=false", lambda c: c["trial.stratified"] is False),
        (f"{SCANS}=null", lambda c: c[SCANS] is None),
    ):
        figure = drawn(tmp_path, "power", where=[where], method="logrank", over="stratified")
        shown = sum(len(line.get_xdata()) for ax in figure.axes for line in lines(ax))
        assert shown == sum(map(keep, cells)), where


# ---------------------------------------------------------------- heat map


def mesh(ax):
    return next(item for item in ax.collections if isinstance(item, QuadMesh))


def test_cells_of_a_heat_map_are_the_table(tmp_path):
    leave_sweep(tmp_path, product({**SIZES, **ONSETS}), failed=(4,))
    figure = drawn(tmp_path, "heatmap", method="logrank")
    ax = figure.axes[0]
    rows = table(tmp_path)
    rows = rows[rows["method"] == "logrank"]
    pivot = rows.pivot(index=ONSET, columns=N, values="estimate")
    np.testing.assert_array_equal(mesh(ax).get_array().filled(np.nan), pivot)
    assert np.isnan(pivot.to_numpy()).sum() == 1
    (first,) = rows[(rows[N] == 100) & (rows[ONSET] == 0.0)].itertuples()
    assert f"{100 * first.estimate:.1f}\n({100 * first.mc_error:.1f})" in texts(figure)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Patients", "Months until anti-\nTIGIT acts") or (
        ax.get_ylabel().replace("\n", " ") == "Months until anti-TIGIT acts"
    )
    swapped = drawn(tmp_path, "heatmap", method="logrank", over="onset", by="n_patients").axes[0]
    np.testing.assert_array_equal(mesh(swapped).get_array().filled(np.nan), pivot.T)


def test_contours_of_power_pass_where_it_is_interpolated(tmp_path):
    leave_sweep(tmp_path, product({**SIZES, **ONSETS}))
    figure = drawn(tmp_path, "heatmap", method="logrank")
    ax = figure.axes[0]
    values = np.asarray(mesh(ax).get_array())
    sets = [item for item in ax.collections if type(item).__name__ == "QuadContourSet"]
    assert sorted({float(item.levels[0]) for item in sets}) == [0.8, 0.9]
    for item in sets:
        points = np.concatenate([path.vertices for path in item.get_paths()])
        for x, y in points:
            i, j = int(np.floor(x)), int(np.floor(y))
            a, b = x - i, y - j
            corners = values[j : j + 2, i : i + 2]
            across = corners[:, 0] * (1 - a) + (corners[:, -1] * a if a else 0.0)
            at = across[0] * (1 - b) + (across[-1] * b if b else 0.0)
            assert at == pytest.approx(item.levels[0], abs=1e-9)
    assert legend(figure) == ["80 % power", "90 % power"]


def test_names_have_no_contours_and_many_methods_one_map(tmp_path):
    leave_sweep(tmp_path, product({**SIZES, **NAMES}), methods=EIGHT)
    figure = drawn(tmp_path, "heatmap", where=["arms=[anti_pd1,triple]"])
    assert len(figure.axes) == 2  # the map and its colours
    assert title(figure) == "Power: PFS, final cut, log-rank"
    assert "Other methods are left out." in caption(figure)
    assert not figure.legends
    assert len(drawn(tmp_path, "heatmap", method=["logrank", "cox"], over=N, by=SCANS).axes) == 5


# ---------------------------------------------------------------- sample size


def test_the_sizes_drawn_are_those_of_the_file(tmp_path):
    leave_sweep(tmp_path, product({**SIZES, ONSET: [0.0, 3.0, 6.0, 12.0]}))
    written = draw_kind(tmp_path, "sample_size", Choice(target=0.9))
    assert [path.name for path in written] == [
        "sweep_sample_size.png", "sweep_sample_size.svg", "required.csv",
    ]  # fmt: skip
    needed = pd.read_csv(tmp_path / "required.csv")
    assert set(needed["position"]) == {"inside", "above"}
    figure = drawn(tmp_path, "sample_size")
    (ax,) = figure.axes
    shown = [line for line in lines(ax) if line.get_linestyle() != "None"]
    beyond = [line for line in lines(ax) if line.get_linestyle() == "None"]
    for line, method in zip(shown, METHODS, strict=True):
        rows = needed[needed["method"] == method].sort_values(ONSET)
        np.testing.assert_array_equal(line.get_xdata(), rows[ONSET])
        np.testing.assert_allclose(line.get_ydata(), rows["required"], rtol=1e-12)
    above = needed[needed["position"] == "above"]
    assert sum(len(line.get_xdata()) for line in beyond) == len(above) > 0
    assert {float(y) for line in beyond for y in line.get_ydata()} == {600.0}
    assert title(figure) == "Patients needed for 90 % power: PFS, final cut"


def test_sizes_over_two_parameters_are_a_map(tmp_path):
    leave_sweep(tmp_path, product({**SIZES, **ONSETS, DURABILITY: [0.0, 0.2, 0.4]}))
    figure = drawn(tmp_path, "sample_size", method="logrank", target="0.8", output="eighty")
    needed = pd.read_csv(tmp_path / "eighty.csv")
    pivot = needed.pivot(index=DURABILITY, columns=ONSET, values="required")
    values = mesh(figure.axes[0]).get_array().filled(np.nan)
    np.testing.assert_allclose(values, pivot, rtol=1e-12)
    first = needed[(needed[ONSET] == 0.0) & (needed[DURABILITY] == 0.0)].iloc[0]
    wanted = [f"{np.ceil(first[name]):,.0f}" for name in ("required", "lower", "upper")]
    assert "{}\n({} to {})".format(*wanted) in texts(figure)
    assert any(label.endswith(" patients") for label in legend(figure))


def test_sizes_without_another_number_are_rows(tmp_path):
    leave_sweep(tmp_path, product({**SIZES, SCANS: NAMES[SCANS]}))
    figure = drawn(tmp_path, "sample_size", target=0.8)
    needed = pd.read_csv(tmp_path / "required.csv")
    (ax,) = figure.axes
    assert len(ax.get_yticklabels()) == len(needed) == 12
    np.testing.assert_allclose(sorted(ax.lines[0].get_xdata()), sorted(needed["required"]))


# ---------------------------------------------------------------- paired, tornado, curves


def bars(ax, colour):
    """Ends of the error bars of a colour, (K, 2) for each artist."""
    same = matplotlib.colors.same_color
    found = [c for c in ax.collections if same(c.get_color()[0], colour)]
    return [np.array(item.get_segments()) for item in found]


def test_paired_differences_have_both_errors(tmp_path):
    leave_sweep(tmp_path, product(SIZES))
    figure = drawn(tmp_path, "paired")
    rows = pd.read_parquet(tmp_path / "sweep_paired.parquet")
    rows = rows[(rows["cut"] == "final") & (rows["endpoint"] == "pfs")]
    assert len(figure.axes) == 2
    for ax, method in zip(figure.axes, METHODS[1:], strict=True):
        own = rows[rows["method"] == method]
        (line,) = lines(ax)
        np.testing.assert_allclose(line.get_ydata(), own["difference"], rtol=1e-12)
        for colour, error in (("#0072B2", "mc_error"), ("#D0D0D0", "mc_error_unpaired")):
            (ends,) = bars(ax, colour)
            half = (ends[:, 1, 1] - ends[:, 0, 1]) / 2.0
            np.testing.assert_allclose(half, 1.96 * own[error], rtol=1e-9)
    assert title(figure) == "Difference of power from log-rank: PFS, final cut"
    leave_sweep(tmp_path, product({SCANS: NAMES[SCANS]}))
    (ax, _) = drawn(tmp_path, "paired").axes
    assert len(ax.get_yticklabels()) == 4


def test_a_tornado_has_the_widest_bar_first(tmp_path):
    leave_sweep(tmp_path, ALONE)
    figure = drawn(tmp_path, "tornado")
    (ax,) = figure.axes
    rows = table(tmp_path)
    rows = rows[rows["method"] == "logrank"].set_index("cell")
    lengths = [bar.get_width() for bar in ax.patches]
    assert lengths == sorted(lengths, reverse=True)
    assert len(lengths) == 5
    base = rows["estimate"][0]
    assert ax.lines[0].get_xdata()[0] == base
    own = rows[(rows.drop(columns=[ONSET])[[N, DURABILITY, SCANS, "trial.stratified"]] == [
        BASE[N], BASE[DURABILITY], BASE[SCANS], BASE["trial.stratified"]]).all(axis=1)]  # fmt: skip
    at = [label.get_text() for label in ax.get_yticklabels()].index("Months until anti-TIGIT acts")
    assert ax.patches[at].get_x() == own["estimate"].min()
    assert lengths[at] == pytest.approx(np.ptp(own["estimate"]), rel=1e-12)
    assert "One parameter changed at a time, from a base (dashed) of" in caption(figure)
    assert title(figure) == "Power and what it depends on: PFS, final cut, log-rank"


def test_a_tornado_of_a_product_averages(tmp_path):
    leave_sweep(tmp_path, product({N: [200, 400], **ONSETS}))
    figure = drawn(tmp_path, "tornado", method=["logrank", "rmst_difference(24)"])
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "log-rank",
        "RMST difference, 24 mo",
    ]
    rows = table(tmp_path)
    means = rows[rows["method"] == "logrank"].groupby(N)["estimate"].mean()
    ax = figure.axes[0]
    at = [label.get_text() for label in ax.get_yticklabels()].index("Patients")
    assert ax.patches[at].get_width() == pytest.approx(means[400] - means[200], rel=1e-12)
    assert "averaged over those of the others" in caption(figure)


def test_curves_are_those_of_the_table(tmp_path):
    leave_sweep(tmp_path, product({**ONSETS, SCANS: ["often", "seldom"]}), cohort=True, trial=False)
    figure = drawn(tmp_path, "curves", endpoint="os")
    curves = pd.read_parquet(tmp_path / "sweep_curves.parquet")
    curves = curves[curves["endpoint"] == "os"]
    assert len(figure.axes) == 6
    for cell, ax in enumerate(figure.axes):
        for arm in ("anti_pd1", "experimental"):
            own = curves[(curves["cell"] == cell) & (curves["arm"] == arm)]
            parts = [line for line in ax.lines if line.get_label() == LABELS[arm]]
            survival = np.concatenate([np.asarray(line.get_ydata()) for line in parts])
            # The pale part begins where the other ends.
            assert set(own["survival"]) == set(survival)
            assert str(own.set_index("time").loc[12.0, "at_risk"]) in [
                text.get_text() for text in ax.texts
            ]
    assert figure.axes[1].get_title(loc="left").split("\n")[-1] == "Scans:\u00a0seldom"
    assert legend(figure) == ["anti-PD-1", "anti-PD-1 + anti-TIGIT"]


def test_counts_that_the_table_lacks_are_left_out(tmp_path):
    leave_sweep(tmp_path, product(ONSETS), cohort=True, trial=False)
    path = tmp_path / "sweep_curves.parquet"
    curves = pd.read_parquet(path)
    curves[curves["time"] != 12.0].to_parquet(path)
    figure = drawn(tmp_path, "curves")
    assert not any(ax.texts for ax in figure.axes)
    assert "Numbers at risk are left out" in caption(figure)


# ---------------------------------------------------------------- pages

SHAPES = {
    "a line": (product(SIZES), {"methods": ("logrank",)}),
    "eight lines": (product({**SIZES, **ONSETS}), {"methods": EIGHT, "failed": (3,)}),
    "two arms": (product({**SIZES, ONSET: [0.0, 6.0]}), {"arms": ("experimental", "triple")}),
    "names": (product(NAMES), {}),
    "one at a time": (ALONE, {}),
    "one cell": (product({N: [300]}), {}),
    "cohort": (product({**ONSETS, SCANS: NAMES[SCANS]}), {"cohort": True, "trial": False,
                                                          "arms": ("experimental", "triple")}),
    "many values": (product({N: list(range(50, 1050, 50)), DURABILITY: [0.0, 0.1, 0.2, 0.3]}), {}),
    "three": (product({**SIZES, **ONSETS, DURABILITY: [0.0, 0.2, 0.4]}),
              {"methods": ("logrank", "cox")}),
    "no value": (product({**SIZES, **ONSETS}), {"nan": tuple((k, "logrank") for k in range(17))}),
}  # fmt: skip


def beyond_the_axes(figure):
    """Labels of ticks that lie outside the limits of their axis and are not drawn."""
    return {
        label
        for ax in figure.axes
        for axis in (ax.xaxis, ax.yaxis)
        for tick in axis.get_major_ticks()
        for label in (tick.label1, tick.label2)
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_stands_outside_the_page_or_on_other_text(tmp_path, shape):
    cells, more = SHAPES[shape]
    leave_sweep(tmp_path, cells, **more)
    count = 0
    for kind in KINDS:
        try:
            figure = drawn(tmp_path, kind)
        except ChoiceError:
            continue
        count += 1
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        box, (width, height) = figure.get_tightbbox(renderer), figure.get_size_inches()
        assert box.x0 >= 0.0, kind
        assert box.y0 >= 0.0, kind
        assert box.x1 <= width, kind
        assert box.y1 <= height, kind
        hidden = beyond_the_axes(figure)
        boxes = [
            (text.get_text(), text.get_window_extent(renderer))
            for text in figure.findobj(Text)
            if text.get_text().strip() and text.get_visible() and text not in hidden
        ]
        for (one, a), (two, b) in itertools.combinations(boxes, 2):
            over_x = min(a.x1, b.x1) - max(a.x0, b.x0)
            over_y = min(a.y1, b.y1) - max(a.y0, b.y0)
            # A box is larger than its ink by the room that descenders take.
            assert over_x < 1.0 or over_y < 4.0, f"{kind}: {one!r} on {two!r}"
    assert count >= 1


def test_a_sweep_draws_what_it_lists(tmp_path):
    figures = [
        {"kind": "power", "options": {"method": "logrank"}},
        {"kind": "power", "options": {"endpoint": ["os"], "cut": "interim"}},
        {"kind": "sample_size", "options": {"target": 0.8, "output": "eighty"}},
    ]
    leave_sweep(tmp_path, product({**SIZES, **ONSETS}), figures=figures)
    names = [path.name for path in draw_sweep(tmp_path)]
    stems = ["sweep_power", "sweep_power_2", "eighty"]
    assert names == [f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")] + ["eighty.csv"]
    assert "OS, interim cut" in (tmp_path / "sweep_power_2.svg").read_text(encoding="utf-8")


def test_a_sweep_that_lists_nothing_draws_what_fits(tmp_path):
    leave_sweep(tmp_path, product({**SIZES, **ONSETS}))
    stems = {path.stem for path in draw_sweep(tmp_path)}
    assert stems == {
        "sweep_power", "sweep_heatmap", "sweep_sample_size", "sweep_paired", "sweep_tornado",
        "required",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ([{"kind": "powr"}], "KIND: no kind of figure 'powr'. Did you mean 'power'? There is: "),
        (
            [{"kind": "power", "options": {"methd": "cox"}}],
            "figure power: no option 'methd'. Did you mean 'method'? There is: measure, ",
        ),
        (
            [{"kind": "sample_size", "options": {"target": "much"}}],
            "figure sample_size: target must be a number, got 'much'",
        ),
        ([{"kind": "power", "options": {"method": "cox"}}], "--method: no method 'cox'. There is"),
    ],
)
def test_of_a_list_what_cannot_be_drawn_is_told_and_the_rest_is_drawn(tmp_path, figures, message):
    leave_sweep(
        tmp_path,
        product(SIZES),
        figures=[*figures, {"kind": "power", "options": {"output": "mine"}}],
    )
    told = []
    names = {path.name for path in draw_sweep(tmp_path, told.append)}
    assert message in told[0]
    assert len(told) == 1
    assert names == {"mine.png", "mine.svg"}
    # Where nothing that is listed fits, what fits is drawn.
    leave_sweep(tmp_path, product(SIZES), figures=figures)
    assert "sweep_power.png" in {path.name for path in draw_sweep(tmp_path)}


# ---------------------------------------------------------------- what is refused

REFUSED = {
    "kind": (["powr"], "KIND: no kind of figure 'powr'. Did you mean 'power'? There is: power, "
             "heatmap, sample_size, paired, tornado, curves."),
    "cut": (["power", "--cut", "fnal"],
            "--cut: no cut 'fnal'. Did you mean 'final'? There is: interim, final."),
    "endpoint": (["power", "--endpoint", "pfss"],
                 "--endpoint: no endpoint 'pfss'. Did you mean 'pfs'? There is: pfs, os."),
    "measure": (["power", "--measure", "evnts"],
                "--measure: no measure 'evnts'. Did you mean 'events'? There is: date, events, "
                "power, mean_estimate."),
    "parameter": (["power", "--over", "onsets"],
                  "--over: no swept parameter 'onsets'. There is: trial.n_patients, "
                  "agents.anti_tigit.onset, events, date."),
    "value": (["power", "--where", "onset=17"],
              "--where: agents.anti_tigit.onset is never '17' in these cells. It is: 0, 3, 6."),
    "equals": (["power", "--where", "onset"], "--where: write PARAM=VALUE, got 'onset'."),
    "twice": (["power", "--over", "onset", "--by", "onset"],
              "--by: agents.anti_tigit.onset is on the horizontal axis already."),
    "heat map": (["heatmap", "--where", "onset=3"],
                 "a heat map needs two parameters that vary; here is only trial.n_patients. Try "
                 "the kind power."),
    "target": (["sample_size", "--target", "90"], "--target must lie between 0 and 1, got 90."),
    "size": (["sample_size", "--where", "n_patients=100"],
             "no size was swept: sample_size needs two or more values of trial.n_patients or of "
             "the events, date or follow_up of a cut. Swept: trial.n_patients, "
             "agents.anti_tigit.onset."),
    "curves": (["curves"], "no sweep_curves.parquet: a sweep of cohorts has it, or one with "
               "sweep.cohort=true."),
    "against": (["paired", "--against", "cox"], "--against: no method 'cox'. There is: logrank."),
    "panels": (["power", "--cut", "all", "--endpoint", "all"],
               "12 panels are too many to read (at most 9); narrow with --where "
               "agents.anti_tigit.onset=VALUE or --cut NAME or --endpoint NAME."),
    "output": (["power", "--output", "a/b"],
               "--output: give a name without folder and suffix, got 'a/b'."),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_drawn_ends_with_one_line_and_status_2(tmp_path, capsys, arguments, message):
    leave_sweep(tmp_path, product({**SIZES, **ONSETS}))
    with pytest.raises(SystemExit) as stop:
        main([arguments[0], str(tmp_path), *arguments[1:]])
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert (captured.out, captured.err) == ("", f"resistime-figures: {message}\n")


def test_too_many_lines_or_cells_name_what_narrows_them(tmp_path):
    leave_sweep(tmp_path, product({**SIZES, ONSET: [float(k) for k in range(9)]}),
                methods=("logrank",), cohort=True)  # fmt: skip
    with pytest.raises(ChoiceError, match=r"9 lines are .* narrow with --where agents"):
        drawn(tmp_path, "power", by="onset", over=N)
    with pytest.raises(ChoiceError, match=r"54 cells are too many .*at most 12.*--where trial"):
        drawn(tmp_path, "curves")


def test_a_heat_map_of_what_was_not_swept_together_is_refused(tmp_path):
    leave_sweep(tmp_path, ALONE)
    with pytest.raises(ChoiceError, match=r"of 9 combinations of .* were swept, too few"):
        drawn(tmp_path, "heatmap", over=N, by=DURABILITY)


def test_a_sweep_that_failed_says_why(tmp_path):
    leave_sweep(tmp_path, product({N: [1, 2]}), failed=(0, 1))
    with pytest.raises(ChoiceError) as error:
        drawn(tmp_path, "power")
    assert str(error.value) == (
        "nothing to draw: no cell is done; the first failed because: trial.n_patients: too few"
    )


def spoil_json(place):
    (place / "sweep.json").write_text("{")


def lose_entry(place):
    about = json.loads((place / "sweep.json").read_text())
    del about["seed"]
    (place / "sweep.json").write_text(json.dumps(about))


def lose_column(place):
    path = place / "sweep.parquet"
    pd.read_parquet(path).drop(columns=["mc_error"]).to_parquet(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda place: (place / "sweep.json").unlink(), "is not the folder of a sweep"),
        (spoil_json, "sweep.json: cannot be read: Expecting property name"),
        (lose_entry, "sweep.json: no entry 'seed'"),
        (lambda place: (place / "sweep.parquet").unlink(), "sweep.parquet: no such file, or no"),
        (lambda place: (place / "sweep.parquet").write_text("x"), "sweep.parquet: cannot be read"),
        (lose_column, "sweep.parquet: no column mc_error"),
    ],
)
def test_files_that_cannot_be_drawn_from(tmp_path, spoil, message):
    leave_sweep(tmp_path, product(SIZES))
    spoil(tmp_path)
    with pytest.raises(ResultFileError) as error:
        drawn(tmp_path, "power")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_cannot_be_written_to(tmp_path, capsys):
    leave_sweep(tmp_path, product(SIZES))
    (tmp_path / "sweep_power.png").mkdir()
    with pytest.raises(SystemExit) as stop:
        main(["power", str(tmp_path)])
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith(f"resistime-figures: cannot write '{tmp_path}/sweep_power.png': ")
    assert told.count("\n") == 1


def test_the_installed_command_draws_and_says_what(tmp_path):
    leave_sweep(tmp_path, product(SIZES))
    root = Path(sim.__file__).parents[1]
    entry = tomllib.loads((root / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = entry["resistime-figures"].partition(":")
    assert getattr(import_module(module), function) is main
    done = subprocess.run(
        [sys.executable, "-m", module, "power", str(tmp_path), "--output", "mine"],
        capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [str(tmp_path / "mine.png"), str(tmp_path / "mine.svg")]


def test_help_teaches_with_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for part in (*KINDS, "examples:", "--where onset=6", "For research and teaching".lower()):
        assert part in text.replace("for research", "for research")


def test_the_same_tables_give_the_same_bytes(tmp_path):
    leave_sweep(tmp_path, product({**SIZES, **ONSETS}))
    for kind in ("power", "heatmap", "tornado"):
        first = [path.read_bytes() for path in draw_kind(tmp_path, kind, Choice())]
        assert first == [path.read_bytes() for path in draw_kind(tmp_path, kind, Choice())]
