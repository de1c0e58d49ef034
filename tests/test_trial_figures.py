"""Figures of trials are read back: what is drawn is what the files say."""

import json

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from analysis.operating import Accuracy, Tally, Truth, accuracy_of, estimate_table, operating_table
from analysis.paired import CoRejections, paired_table
from analysis.replicates import CutResults, MethodResults, comparison_keys
from figures.run import STYLE, _figures, draw_run
from figures.shared import read_about

ARMS = {"one": "anti-PD-1", "two": "anti-PD-1, anti-TIGIT added at 6 months"}
PAIRED = {"paired_method", "paired_endpoint", "paired_arm", "paired_cut"}
METHODS = ("logrank", "fleming_harrington(0,0.5)", "cox", "rmst_difference(24)")


def leave_trial(place, cuts=("interim", "final"), arms=("one", "two"), endpoints=("pfs", "os")):
    rng = np.random.default_rng(5)

    def method(centre):
        estimate = rng.normal(centre, 0.1, 600)
        p_value = rng.random(600) ** 3
        return MethodResults(estimate, np.full(600, 0.1), estimate / 0.1, p_value)

    def cut():
        return CutResults(
            rng.normal(30.0, 1.0, 600), np.ones(600, dtype=bool), np.full(600, 300.0),
            {name: np.full(600, 200.0) for name in endpoints},
            {
                (arm, endpoint, name): method(-0.3)
                for arm in arms for endpoint in endpoints for name in METHODS
            },
        )  # fmt: skip

    results = {name: cut() for name in cuts}
    tally, together = Tally(0.025), CoRejections(comparison_keys(results), 0.025)
    tally.add(results)
    together.add(0, results)
    truths = {
        key: Truth(-0.3, 0.001)
        for key in comparison_keys(results)
        if key[3] in ("cox", "rmst_difference(24)")
    }
    accuracy = accuracy_of(Accuracy(tally, truths), [results])
    operating_table(tally, accuracy).to_csv(place / "operating.csv", index=False)
    paired_table(together).to_csv(place / "paired.csv", index=False)
    estimate_table(accuracy).to_csv(place / "estimates.csv", index=False)
    about = {
        "seed": 3, "n_patients": 300, "version": "0.1.0", "follow_up": 60.0, "table_every": 12.0,
        "description": "A trial", "n_replicates": 600, "alpha": 0.025,
        "strategies": [{"name": k, "label": v, "family": ""} for k, v in ARMS.items()],
    }  # fmt: skip
    (place / "provenance.json").write_text(json.dumps(about))
    return place


@pytest.fixture
def place(tmp_path):
    return leave_trial(tmp_path)


def read(place, name):
    return pd.read_csv(place / name, float_precision="round_trip")


def drawn(place):
    with matplotlib.rc_context(fname=STYLE):
        return dict(_figures(place, read_about(place)))


def dots(ax):
    return next(line.get_xdata() for line in ax.lines if line.get_marker() == "o")


def test_a_trial_has_its_figures(place):
    stems = {path.stem for path in draw_run(place)}
    assert stems == {"operating", "accuracy", "estimates", *PAIRED}
    svg = (place / "paired_cut.svg").read_text(encoding="utf-8")
    assert "600\u00a0trials" in svg
    assert "seed\u00a03" in svg


def test_only_what_was_written_is_drawn(place):
    (place / "paired.csv").unlink()
    (place / "estimates.csv").unlink()
    assert set(drawn(place)) == {"operating", "accuracy"}
    table = read(place, "operating.csv")
    table[table["measure"] != "coverage"].to_csv(place / "operating.csv", index=False)
    assert set(drawn(place)) == {"operating"}


def test_dots_of_accuracy_are_bias_and_coverage(place):
    table = read(place, "operating.csv")
    axes = drawn(place)["accuracy"].axes
    for k, (cut, measure) in enumerate(
        (cut, measure)
        for cut in ("interim", "final")
        for measure in ("standardised_bias", "coverage")
    ):
        rows = table[(table["cut"] == cut) & (table["measure"] == measure)]
        np.testing.assert_array_equal(dots(axes[k]), rows["estimate"])
        low, high = axes[k].get_xlim()
        assert low < (rows["estimate"] - 1.96 * rows["mc_error"]).min()
        assert high > (rows["estimate"] + 1.96 * rows["mc_error"]).max()


def test_dots_of_paired_differences_are_those_against_the_first(place):
    table = read(place, "paired.csv")
    figures = drawn(place)
    against = {"method": "logrank", "endpoint": "pfs", "arm": "one", "cut": "interim"}
    titles = {}
    for versus, first in against.items():
        (ax,) = figures[f"paired_{versus}"].axes
        titles[versus] = ax.get_title(loc="left")
        rows = table[(table["versus"] == versus) & (table["other"] == first)]
        np.testing.assert_array_equal(dots(ax), rows["difference"])
        assert len(ax.get_yticklabels()) == len(rows)
    assert titles["method"] == "Method, against log-rank"
    assert titles["arm"] == "Arm, against anti-PD-1"


def test_histograms_hold_every_trial_and_mark_the_true_value(place):
    axes = drawn(place)["estimates"].axes
    bins = read(place, "estimates.csv")
    groups = bins.groupby(["cut", "arm", "endpoint", "method"], sort=False)
    assert len(axes) == len(groups) == 16
    for ax, (_, rows) in zip(axes, groups, strict=True):
        tops = [path.vertices[:, 1].max() for path in ax.collections[0].get_paths()]
        assert tops == rows["replicates"].tolist()
        assert sum(tops) == 600
        assert [line.get_xdata()[0] for line in ax.lines][1] == -0.3


@pytest.mark.parametrize("arms", [("one", "two"), ("two",)])
def test_nothing_stands_outside_the_page(tmp_path, arms):
    leave_trial(tmp_path, arms=arms)
    for stem, figure in drawn(tmp_path).items():
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        box, (width, height) = figure.get_tightbbox(renderer), figure.get_size_inches()
        assert box.x0 >= 0.0, stem
        assert box.y0 >= 0.0, stem
        assert box.x1 <= width, stem
        assert box.y1 <= height, stem


def test_one_comparison_at_one_cut_is_drawn(tmp_path):
    leave_trial(tmp_path, cuts=("final",), arms=("one",), endpoints=("pfs",))
    assert set(drawn(tmp_path)) == {"operating", "accuracy", "estimates", "paired_method"}
