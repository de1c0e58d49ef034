"""The page of a calibration is read back: what is drawn is what the files say."""

import json
from importlib.resources import files

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from analysis.reference_fits import fit_references, piecewise_hazard
from analysis.survival import fit_kaplan_meier
from analysis.survival_data import read_survival_data
from figures.calibration import draw_calibration, write_calibration
from figures.page import PAGE
from figures.run import STYLE
from figures.shared import BLUE, MID_GREY, VERMILLION, ResultFileError

SHIPPED = str(files("configs") / "reference" / "km_ici_nsclc_kmdata.csv")
NAMES = ("primary", "scale", "shape", "durable", "tail")
LABELS = {
    "primary": ("Share with primary resistance", "", True, False),
    "scale": ("Median time to acquired resistance", "months", True, True),
    "shape": ("Shape of acquired resistance", "", True, True),
    "durable": ("Share with durable benefit", "", False, False),
    "tail": ("Hazard of death after progression", "per month", True, True),
}


def leave_fit(place, endpoints=("pfs", "os"), arm="pembrolizumab", parameters=NAMES):
    """Files of a fit of which the model is made up and the data are KEYNOTE-024's."""
    data = read_survival_data(SHIPPED, arm=arm, trial="KEYNOTE024")
    tables = {"fit_data": [], "fit_curves": [], "fit_hazards": []}
    about = {
        "arm": arm, "trial": "KEYNOTE024", "file": "km_ici_nsclc_kmdata.csv", "version": "0.1.0",
        "model": "Resistance model", "endpoints": {}, "parameters": [],
    }  # fmt: skip
    grid = np.linspace(0.25, 18.0, 72)
    for name in endpoints:
        time, event = data.endpoints[name].time, data.endpoints[name].event
        curve = fit_kaplan_meier(time, event)
        rows = curve.table(np.arange(0.0, 19.0, 3.0))
        tables["fit_data"].append(rows.assign(arm=arm, endpoint=name))
        best, second = sorted(fit_references(time, event, grid), key=lambda fit: fit.aic)[:2]
        for model, fit in (("fit", second), (best.name, best)):
            band = 0.05 if model == "fit" else np.nan
            tables["fit_curves"].append(
                pd.DataFrame(
                    {
                        "endpoint": name, "model": model, "time": grid, "survival": fit.survival,
                        "lower": fit.survival - band, "upper": fit.survival + band,
                    }
                )
            )  # fmt: skip
            tables["fit_hazards"].append(
                pd.DataFrame(
                    {
                        "endpoint": name, "model": model, "start": grid, "end": grid,
                        "hazard": fit.hazard, "lower": fit.hazard * (1.0 - 4.0 * band),
                        "upper": fit.hazard * (1.0 + 4.0 * band),
                    }
                )
            )  # fmt: skip
        pieces = piecewise_hazard(time, event, np.array([0.0, 1.5, 3.0, 6.0, 9.0, 12.0, 18.0]))
        tables["fit_hazards"].append(
            pieces.assign(endpoint=name, model="data").drop(columns="events")
        )
        about["endpoints"][name] = {
            "horizon": 18.0, "table_every": 3.0, "aic": second.aic,
            "median": [x if np.isfinite(x) else None for x in curve.median],
            "reference": {"name": best.name, "aic": best.aic},
        }  # fmt: skip
    profiles = []
    for i, name in enumerate(parameters):
        label, unit, identified, log = LABELS[name]
        centre = 0.3 * 4.0**i if log else 0.3
        value = centre * np.exp(np.linspace(-1.0, 1.0, 21)) if log else np.linspace(0.0, 0.6, 21)
        deviance = 3.0 * (20.0 if identified else 0.2) * (np.log(value / centre) ** 2 if log else (
            (value - centre) / 0.3) ** 2)  # fmt: skip
        profiles.append(pd.DataFrame({"parameter": name, "value": value, "deviance": deviance}))
        ends = (0.8 * centre, 1.25 * centre) if identified else (None, None)
        about["parameters"].append(
            {
                "name": name, "label": label, "unit": unit, "estimate": centre, "lower": ends[0],
                "upper": ends[1], "identified": identified, "log": log,
            }
        )  # fmt: skip
    for name, parts in tables.items():
        pd.concat(parts, ignore_index=True).to_csv(place / f"{name}.csv", index=False)
    if profiles:
        pd.concat(profiles).to_csv(place / "fit_profile.csv", index=False)
    (place / "fit.json").write_text(json.dumps(about))
    return place


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return leave_fit(tmp_path_factory.mktemp("fit"))


def drawn(place):
    with matplotlib.rc_context(fname=STYLE):
        return draw_calibration(place)


def read(place, name):
    return pd.read_csv(place / name, float_precision="round_trip")


def labelled(ax, label):
    return next(line for line in ax.lines if line.get_label() == label)


def test_curves_are_those_of_the_files(place):
    axes = drawn(place).axes
    curves, about = read(place, "fit_curves.csv"), json.loads((place / "fit.json").read_text())
    for ax, name in zip(axes[0:4:2], ("pfs", "os"), strict=True):
        reference = about["endpoints"][name]["reference"]["name"]
        for model, colour in (("fit", BLUE), (reference, VERMILLION)):
            rows = curves[(curves["endpoint"] == name) & (curves["model"] == model)]
            line = labelled(ax, model)
            np.testing.assert_array_equal(line.get_ydata(), rows["survival"])
            assert to_hex(line.get_color()).upper() == colour
        told = [text.get_text() for text in ax.get_legend().get_texts()]
        assert told[0] == "data" and told[1].startswith("Resistance model, AIC ")
        assert told[2] == f"{reference}, AIC {about['endpoints'][name]['reference']['aic']:.1f}"


def test_the_counts_below_are_those_of_the_file(place):
    ax = drawn(place).axes[0]
    data = read(place, "fit_data.csv").query("endpoint == 'pfs'").drop_duplicates("time")
    texts = [text.get_text() for text in ax.texts]
    for tick in ax.get_xticks():
        row = data[data["time"] == tick].iloc[0]
        assert f"{row['at_risk']}\n{row['censored']}\n{row['events']}" in texts


def test_hazards_are_those_of_the_files(place):
    ax = drawn(place).axes[1]
    table = read(place, "fit_hazards.csv").query("endpoint == 'pfs'")
    np.testing.assert_array_equal(
        labelled(ax, "fit").get_ydata(), table[table["model"] == "fit"]["hazard"]
    )
    pieces = table[table["model"] == "data"]
    points = next(line for line in ax.lines if line.get_marker() == "o")
    np.testing.assert_array_equal(points.get_ydata(), pieces["hazard"])
    low, high = ax.get_ylim()
    assert ax.get_yscale() == "log" and low < pieces["lower"].min() < pieces["upper"].max() < high


def test_profiles_are_those_of_the_file_and_say_what_is_not_identified(place):
    axes = drawn(place).axes[4:]
    profile = read(place, "fit_profile.csv")
    for ax, name in zip(axes, NAMES, strict=True):
        rows = profile[profile["parameter"] == name]
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), rows["deviance"])
        assert ax.lines[1].get_ydata()[0] == 3.84
        said = any("not identified" in text.get_text() for text in ax.texts)
        assert said == (name == "durable")
        colour = to_hex(ax.lines[0].get_color()).upper()
        assert colour == (MID_GREY if name == "durable" else BLUE)
        assert ax.get_xscale() == ("log" if LABELS[name][3] else "linear")


@pytest.mark.parametrize(
    ("endpoints", "parameters"), [(("pfs", "os"), NAMES), (("os",), NAMES[:2]), (("pfs",), ())]
)
def test_nothing_leaves_the_page_and_no_texts_overlap(tmp_path, endpoints, parameters):
    with matplotlib.rc_context(fname=STYLE):
        figure = draw_calibration(leave_fit(tmp_path, endpoints, parameters=parameters))
        assert len(figure.axes) == 2 * len(endpoints) + len(parameters)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        page = figure.bbox
        boxes = []
        for ax in figure.axes:
            labels = [ax.xaxis.label, ax.yaxis.label]
            for axis in (ax.xaxis, ax.yaxis):
                low, high = axis.get_view_interval()
                labels += [
                    tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high
                ]
            for text in [*ax.texts, *labels, ax._left_title]:
                if text.get_text() and text.get_visible():
                    boxes.append((text.get_text(), text.get_window_extent(renderer)))
        boxes += [
            (text.get_text(), text.get_window_extent(renderer))
            for text in figure.texts
            if text.get_text()
        ]
    for text, box in boxes:
        assert page.x0 <= box.x0 and box.x1 <= page.x1, text
        assert page.y0 <= box.y0 and box.y1 <= page.y1, text
    for i, (text, box) in enumerate(boxes):
        for other, beside in boxes[:i]:
            across = min(box.x1, beside.x1) - max(box.x0, beside.x0)
            down = min(box.y1, beside.y1) - max(box.y0, beside.y0)
            assert across < 1.0 or down < 3.0, f"{text!r} over {other!r}"


def test_the_page_is_written_whole_and_the_same_each_time(place):
    written = write_calibration(place)
    assert [path.name for path in written] == ["calibration.png", "calibration.svg"]
    before = [path.read_bytes() for path in written]
    assert [path.read_bytes() for path in write_calibration(place)] == before
    assert drawn(place).get_size_inches()[0] == PAGE


def test_files_that_are_not_there_or_lack_something(tmp_path):
    with pytest.raises(ResultFileError, match=r"fit.json: cannot be read"):
        draw_calibration(tmp_path)
    leave_fit(tmp_path, ("os",))
    about = json.loads((tmp_path / "fit.json").read_text())
    del about["endpoints"]["os"]["horizon"]
    (tmp_path / "fit.json").write_text(json.dumps(about))
    with pytest.raises(ResultFileError, match="an entry is missing: 'horizon'"):
        draw_calibration(tmp_path)
    (tmp_path / "fit_hazards.csv").unlink()
    with pytest.raises(ResultFileError, match=r"fit_hazards.csv: no such file"):
        draw_calibration(tmp_path)
    (tmp_path / "fit_curves.csv").write_text("endpoint,model\npfs,fit\n")
    with pytest.raises(ResultFileError, match=r"fit_curves.csv: no column time"):
        draw_calibration(tmp_path)
