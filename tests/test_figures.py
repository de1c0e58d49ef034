"""Figures are read back: what is drawn is what the files say."""

import json
import shutil
from dataclasses import replace

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from figures.definitions import LABELS, draw_definitions, place_bars
from figures.incidence import cause_label, cause_order, choose_colours, draw_incidence
from figures.kaplan_meier import (
    Curve,
    choose_looks,
    draw_counts,
    draw_kaplan_meier,
    draw_published,
    group_panels,
    median_text,
    spread_ticks,
)
from figures.occupancy import STATES, draw_occupancy
from figures.run import STYLE, _figures, draw_run
from figures.shared import ResultFileError, Strategy, read_about, text_width
from figures.targets import draw_targets

STRATEGIES = [
    ("anti_pd1", "anti-PD-1", "Backbone", 1.0),
    ("chemotherapy", "chemotherapy", "Chemotherapy", 2.6),
    ("anti_pd1_chemotherapy", "anti-PD-1 + chemotherapy", "Chemotherapy", 0.72),
    ("anti_pd1_ctla4", "anti-PD-1 + anti-CTLA-4", "Coinhibitory", 0.8),
    ("anti_pd1_tigit", "anti-PD-1 + anti-TIGIT", "Coinhibitory", 0.93),
    ("anti_pd1_ox40", "anti-PD-1 + OX40 agonist", "Costimulatory", 0.97),
    ("anti_pd1_vegf", "anti-PD-1 + anti-VEGF", "Microenvironment", 0.85),
    ("anti_pd1_adenosine", "anti-PD-1 + adenosine blockade", "Microenvironment", 0.9),
    ("anti_pd1_vaccine", "anti-PD-1 + vaccine", "Priming", 0.88),
    ("sequenced", "anti-PD-1, anti-TIGIT added at 6 months", "Sequenced or tailored", 0.9),
    ("tailored", "anti-PD-1 + partner matched to mechanism", "Sequenced or tailored", 0.68),
]
MECHANISMS = {
    "stk11_keap1_loss": "STK11/KEAP1 loss",
    "antigen_presentation_loss": "antigen-presentation loss",
    "priming_deficit": "priming deficit",
    "regulatory_t_cells": "regulatory T cells",
    "checkpoint_exhaustion": "TIGIT/LAG-3/TIM-3 exhaustion",
    "vegf_exclusion": "VEGF-driven exclusion",
    "adenosine_suppression": "adenosine suppression",
    "costimulation_deficit": "costimulation deficit",
}
RULES = {
    "sitc2020": "SITC 2020, monotherapy",
    "sitc2023_chemotherapy": "SITC 2023, chemotherapy combinations",
    "schoenfeld2021": "Schoenfeld 2021",
    "hudson2024": "HUDSON trial rule",
    "s1800a": "S1800A entry rule",
}
FOLLOW_UP, EVERY = 60.0, 12.0


def kaplan_meier(time, event):
    """Columns of curves.csv for one sample, with a row at every tick of the table."""
    order = np.argsort(time)
    time, event = time[order], event[order]
    at = np.unique(np.concatenate([time, np.arange(0.0, FOLLOW_UP + 1.0, EVERY)]))
    gone = np.searchsorted(time, at, side="right")
    events = np.searchsorted(time[event], at, side="right")
    before = len(time) - np.searchsorted(time, at, side="left")
    deaths = np.diff(events, prepend=0)
    share = np.divide(deaths, before, out=np.zeros(len(at)), where=before > 0)
    survival = np.cumprod(1.0 - share)
    spread = np.divide(deaths, before * (before - deaths), out=np.zeros(len(at)),
                       where=before > deaths)  # fmt: skip
    error = survival * np.sqrt(np.cumsum(spread))
    columns = {
        "time": at,
        "survival": survival,
        "lower": np.clip(survival - 1.96 * error, 0.0, 1.0),
        "upper": np.clip(survival + 1.96 * error, 0.0, 1.0),
        "at_risk": len(time) - gone,
        "events": events,
        "censored": gone - events,
    }
    keep = np.unique(np.linspace(0, len(at) - 1, 990).astype(int))
    keep = np.union1d(keep, np.searchsorted(at, np.arange(0.0, FOLLOW_UP + 1.0, EVERY)))
    return pd.DataFrame(columns).iloc[keep]


def simulate(name, hazard, n):
    """Latent and observed times of one strategy, plausible and no more."""
    rng = np.random.default_rng([len(name), n])
    primary = rng.random(n) < min(0.27 * hazard, 0.5)
    durable = ~primary & (rng.random(n) < 0.3 / hazard)
    response = ~primary & (rng.random(n) < 0.6)
    scale = np.where(durable, 190.0, np.where(response, 15.0, 6.0) / hazard)
    resistance = np.where(primary, 0.0, 0.7 + scale * rng.weibull(1.1, n))
    lag = rng.lognormal(np.log(np.where(primary, 1.0, 2.5)), 0.6)
    detected = np.ceil((resistance + lag + rng.normal(0, 0.1, n)) / 1.4) * 1.4
    detected = detected + np.abs(rng.normal(0.0, 0.08, n))
    death = np.minimum(resistance + lag + rng.exponential(11.0, n), rng.exponential(130.0, n))
    share = np.array([0.05, 0.25, 0.05, 0.1, 0.25, 0.15, 0.1, 0.05])
    cause = rng.choice(len(share), n, p=share)
    return primary, durable, response, resistance, detected, death, cause


def leave_run(place, names=None, n=400, seed=1):
    """Write the files of a run with the strategies in `names` (all by default)."""
    chosen = [row for row in STRATEGIES if names is None or row[0] in names]
    curves, summary, incidence, occupancy, resistance_rows = [], [], [], [], []
    grid = np.arange(0.0, FOLLOW_UP + 0.1, 0.5)
    for name, _, _, hazard in chosen:
        primary, durable, response, resistance, detected, death, cause = simulate(name, hazard, n)
        first = np.minimum(detected, death)
        end = np.minimum(FOLLOW_UP, np.random.default_rng(seed).exponential(400.0, n))
        lasting = response & (first > 3.0)
        samples = {
            "pfs": (np.minimum(first, end), first <= end),
            "os": (np.minimum(death, end), death <= end),
            "duration_of_response": (
                np.minimum(first, end)[lasting] - 2.0,
                (first <= end)[lasting],
            ),
            "acquired_resistance": (
                np.minimum(np.minimum(resistance, death), end)[~primary],
                (resistance <= np.minimum(death, end))[~primary],
            ),
        }
        for endpoint, (time, event) in samples.items():
            curve = kaplan_meier(np.maximum(time, 0.1), event)
            curves.append(curve.assign(arm=name, endpoint=endpoint))
            median = [
                min(curve.loc[curve[column] <= 0.5, "time"], default=np.inf)
                for column in ("survival", "lower", "upper")
            ]
            summary.append((name, endpoint, "median", *median, 0.2))
        acquired = np.array([f"acquired/{m}" for m in MECHANISMS])[cause]
        if "chemotherapy" in name:
            acquired = np.where(cause % 2 == 0, "acquired/platinum_doublet", acquired)
        kinds = np.where(primary, "primary_resistance", acquired)
        kinds = np.where(detected < death, kinds, "death_without_progression")
        for kind in np.unique(kinds):
            happened = np.sort(first[kinds == kind])
            incidence += [
                (name, kind, t, np.searchsorted(happened, t, side="right") / n, 0.01) for t in grid
            ]
        alive = death[:, None] > grid
        benefit = alive & (resistance[:, None] > grid)
        seen = alive & ~benefit & (detected[:, None] <= grid)
        kept, deep = durable[:, None], response[:, None]
        states = {
            "durable_benefit": benefit & kept,
            "response": benefit & ~kept & deep,
            "control": benefit & ~kept & ~deep,
            "undetected_resistance": alive & ~benefit & ~seen,
            "progressed": seen,
            "dead": ~alive,
        }
        for state, inside in states.items():
            shares = zip(grid, inside.mean(axis=0), strict=True)
            occupancy += [(name, state, *pair) for pair in shares]
        latent = np.where(primary, "primary", np.where(resistance < death, "acquired", "none"))
        for k, rule in enumerate(RULES):
            label = np.where(detected < 6.0 + k % 2, "primary", "acquired")
            label = np.where(response & (detected < 6.0), ("gap", "primary")[k % 2], label)
            if rule == "schoenfeld2021":
                label = np.where(response, "acquired", "not_acquired")
            label = np.where((cause == 3) & (k == 0), "unconfirmed", label)
            label = np.where((detected > 30.0) & (k in (0, 2)), "late_off_drug", label)
            label = np.where((cause == 2) & (detected < 4.0), "not_evaluable", label)
            label = np.where(first < FOLLOW_UP, label, "no_progression")
            label = np.where(death < detected, "no_progression", label)
            label = np.where((death < detected) & (death < 6.0), "early_death", label)
            if name == "chemotherapy":
                label = np.full(n, "not_applicable")
            counts = pd.DataFrame({"latent": latent, "label": label}).value_counts()
            resistance_rows += [(name, rule, *key, count) for key, count in counts.items()]
    columns = ["arm", "endpoint", "time", "survival", "lower", "upper"]
    columns += ["at_risk", "events", "censored"]
    pd.concat(curves)[columns].to_csv(place / "curves.csv", index=False)
    tables = {
        "summary": (
            summary,
            ("arm", "endpoint", "measure", "estimate", "lower", "upper", "standard_error"),
        ),
        "incidence": (incidence, ("arm", "cause", "time", "incidence", "standard_error")),
        "occupancy": (occupancy, ("arm", "state", "time", "share")),
        "resistance": (resistance_rows, ("arm", "rule", "latent", "label", "patients")),
    }
    for stem, (rows, header) in tables.items():
        pd.DataFrame(rows, columns=header).to_csv(place / f"{stem}.csv", index=False)
    about = {
        "description": "First-line NSCLC without EGFR or ALK alterations, anti-PD-1 and its "
        "combinations",
        "seed": seed,
        "n_patients": n,
        "version": "0.1.0",
        "follow_up": FOLLOW_UP,
        "table_every": EVERY,
        "reference_strategy": "anti_pd1",
        "strategies": [{"name": a, "label": b, "family": c} for a, b, c, _ in chosen],
        "labels": {**MECHANISMS, "platinum_doublet": "platinum doublet", **RULES},
        "coupling": {"spearman": 0.3, "reversal": 0.0},
        "scenario": "",
        "citations_withdrawn": False,
    }
    (place / "provenance.json").write_text(json.dumps(about))
    return about


def leave_targets(place):
    rows = [
        ("anti_pd1", "median_pfs", 7.7, 8.3, 0.9, 0.3, 0.63, "reck2019", "Table 2", "verified"),
        ("anti_pd1", "rate_os_24", 0.515, 0.553, 0.04, 0.02, 0.85, "reck2019", "Fig 1", "derived"),
        ("anti_pd1", "orr", 0.46, 0.40, 0.04, 0.02, -1.34, "reck2019", "Table 3", "memory"),
        ("anti_pd1_chemotherapy", "median_os", 22.0, 31.0, 2.1, 1.0, 3.87, "x", "y", "verified"),
        ("anti_pd1_chemotherapy", "bor_pd", 0.09, 0.19, 0.01, 0.0, 10.0, "x", "y", "memory"),
        ("chemotherapy", "rate_pfs_12", 0.15, 0.14, 0.02, 0.01, -0.45, "x", "y", "verified"),
        ("chemotherapy", "median_acquired_resistance", 5.0, np.inf, 0.5, 0.2, np.nan, "x", "y",
         "verified"),
    ]  # fmt: skip
    pd.DataFrame(
        rows,
        columns=["strategy", "measure", "published", "simulated", "standard_error", "tolerance",
                 "z", "source", "where", "checked"],
    ).to_csv(place / "targets.csv", index=False)  # fmt: skip


def leave_published(place, arms):
    curves = pd.read_csv(place / "curves.csv")
    rows = curves[curves["arm"].isin(arms) & curves["endpoint"].isin(["pfs", "os"])].copy()
    rows["survival"] = rows["survival"] ** 1.08
    rows[["arm", "endpoint", "time", "survival"]].to_csv(place / "published.csv", index=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two finished runs, which no test changes."""
    place = tmp_path_factory.mktemp("run")
    for name, arms in (("many", None), ("few", ["anti_pd1", "chemotherapy"])):
        (place / name).mkdir()
        leave_run(place / name, arms)
    return place


@pytest.fixture
def place(finished, tmp_path):
    """A run of eleven strategies."""
    return shutil.copytree(finished / "many", tmp_path / "many")


@pytest.fixture
def small(finished, tmp_path):
    """A run of two strategies."""
    return shutil.copytree(finished / "few", tmp_path / "few")


def read(place, name):
    return pd.read_csv(place / name, float_precision="round_trip")


def axes():
    return Figure(figsize=(6.0, 4.0)).add_axes((0.2, 0.5, 0.7, 0.4))


def panel(curves, looks, horizon=FOLLOW_UP):
    ax = axes()
    ticks = list(np.arange(0.0, horizon + 1.0, EVERY))
    draw_kaplan_meier(ax, curves, looks, horizon=horizon, ticks=ticks)
    draw_counts(ax, curves, looks, ticks=ticks, medians={})
    return ax, ticks


def curve_lines(ax):
    """Lines of a panel without the keys of its table."""
    return [line for line in ax.lines if line.get_label()]


def columns_of_counts(ax):
    """The counts below a panel: by month, at risk, censored and events of each curve in turn."""
    found = {}
    for text in ax.texts:
        lines = text.get_text().split("\n")
        if all(line.isdigit() for line in lines):
            found.setdefault(text.get_position()[0], []).append([int(line) for line in lines])
    return found


def strategies(names):
    known = {name: Strategy(name, label, family) for name, label, family, _ in STRATEGIES}
    return [known[name] for name in names]


# ---------------------------------------------------------------- curves and counts


def test_lines_are_the_curves_of_the_file(place):
    curves = read(place, "curves.csv").query("endpoint == 'os'")
    looks = choose_looks(strategies(["anti_pd1", "anti_pd1_ctla4"]), "anti_pd1")
    ax, _ = panel(curves, looks)
    for look in looks:
        rows = curves[curves["arm"] == look.arm]
        drawn = [line for line in ax.lines if line.get_label() == look.label]
        x = np.concatenate([line.get_xdata() for line in drawn])
        y = np.concatenate([line.get_ydata() for line in drawn])
        # The pale end starts with the point that the rest ends with.
        assert np.array_equal(np.unique(x), rows["time"])
        assert set(zip(x, y, strict=True)) == set(zip(rows["time"], rows["survival"], strict=True))
        assert {line.get_drawstyle() for line in drawn} == {"steps-post"}
    assert ax.get_ylim() == (0.0, 1.0)
    assert ax.get_xlim() == (0.0, FOLLOW_UP)


def test_bands_are_the_limits_of_the_file(place):
    curves = read(place, "curves.csv").query("endpoint == 'os' and arm == 'anti_pd1'")
    ax, _ = panel(curves, choose_looks(strategies(["anti_pd1"]), "anti_pd1"))
    corners = np.vstack([band.get_paths()[0].vertices for band in ax.collections])
    for limit in ("lower", "upper"):
        assert set(zip(curves["time"], curves[limit], strict=True)) <= set(map(tuple, corners))


def test_counts_are_those_of_the_file_and_stand_under_their_ticks(place):
    curves = read(place, "curves.csv").query("endpoint == 'pfs'")
    arms = ["anti_pd1", "chemotherapy", "anti_pd1_chemotherapy"]
    ax, ticks = panel(curves, choose_looks(strategies(arms), "anti_pd1"))
    drawn = columns_of_counts(ax)
    assert sorted(drawn) == ticks == list(ax.get_xticks())
    for tick in ticks:
        at = curves[curves["time"] == tick].set_index("arm")
        wanted = at.loc[arms, ["at_risk", "censored", "events"]].to_numpy().tolist()
        assert drawn[tick] == wanted
        assert np.sum(wanted, axis=1).tolist() == [400, 400, 400]


def test_a_month_without_a_row_has_no_count(place):
    curves = read(place, "curves.csv").query("endpoint == 'pfs' and arm == 'anti_pd1'")
    curves = curves[curves["time"] != 24.0]
    ax, ticks = panel(curves, choose_looks(strategies(["anti_pd1"]), "anti_pd1"))
    assert sorted(columns_of_counts(ax)) == [tick for tick in ticks if tick != 24.0]


@pytest.mark.parametrize(("patients", "limit"), [(400, 20), (100, 10)])
def test_a_curve_is_pale_where_few_are_left(patients, limit):
    time = np.arange(patients + 1.0)
    curves = pd.DataFrame(
        {
            "arm": "a", "time": time, "survival": 1.0 - time / patients, "lower": 0.0,
            "upper": 1.0, "at_risk": patients - time, "events": time, "censored": 0,
        }
    )  # fmt: skip
    ax, _ = panel(curves, [Curve("a", "A", "C0")], horizon=12.0)
    full, pale = curve_lines(ax)
    assert (full.get_alpha(), pale.get_alpha() < 0.5) == (1.0, True)
    assert full.get_xdata()[-1] == pale.get_xdata()[0] == patients - limit + 1
    assert full.get_xdata()[0] == 0.0
    assert pale.get_xdata()[-1] == patients


def test_a_curve_with_enough_left_is_not_pale(place):
    curves = read(place, "curves.csv").query("endpoint == 'os' and arm == 'tailored'")
    curves = curves[curves["time"] < 30.0]
    ax, _ = panel(curves, choose_looks(strategies(["tailored"]), ""))
    assert [line.get_alpha() for line in curve_lines(ax)] == [1.0]


def test_an_arm_without_rows_is_left_out(place):
    curves = read(place, "curves.csv").query("endpoint == 'pfs' and arm == 'anti_pd1'")
    ax, _ = panel(curves, choose_looks(strategies(["anti_pd1", "tailored"]), "anti_pd1"))
    assert {line.get_label() for line in curve_lines(ax)} == {"anti-PD-1"}


def test_published_curves_are_black_broken_and_told_apart(place):
    leave_published(place, ["anti_pd1", "chemotherapy"])
    published = read(place, "published.csv").query("endpoint == 'os'")
    looks = choose_looks(strategies(["anti_pd1", "chemotherapy", "tailored"]), "anti_pd1")
    ax = draw_published(axes(), published, looks)
    assert [line.get_label() for line in ax.lines] == ["anti-PD-1", "chemotherapy"]
    assert {line.get_color() for line in ax.lines} == {"#000000"}
    assert len({line.get_linestyle() for line in ax.lines} - {"-"}) == 1
    assert len({str(line._unscaled_dash_pattern) for line in ax.lines}) == 2
    assert ax.get_legend().get_title().get_text() == "published (digitised)"
    for line, arm in zip(ax.lines, ("anti_pd1", "chemotherapy"), strict=True):
        rows = published[published["arm"] == arm]
        assert np.array_equal(line.get_ydata(), rows["survival"])
    assert draw_published(axes(), published, looks[2:]).get_legend() is None


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ((8.84, 8.61, 9.1), "median 8.8 (8.6 to 9.1)"),
        ((30.0, 25.0, np.inf), "median 30.0 (25.0 to not reached)"),
        ((np.inf, 40.0, np.inf), "median not reached"),
        ((np.nan, np.nan, np.nan), "median not reached"),
        ((7.0, np.nan, np.nan), "median 7.0"),
    ],
)
def test_medians_in_words(row, text):
    summary = pd.DataFrame(
        [("a", "pfs", "median", *row)],
        columns=["arm", "endpoint", "measure", "estimate", "lower", "upper"],
    )
    assert median_text(summary, "a", "pfs") == text
    assert median_text(summary, "a", "os") == ""
    assert median_text(None, "a", "pfs") == ""


# ---------------------------------------------------------------- panels


def test_up_to_four_strategies_share_a_panel():
    names = ["chemotherapy", "anti_pd1", "anti_pd1_ctla4", "tailored"]
    ((title, members),) = group_panels(strategies(names), "anti_pd1")
    assert title == ""
    assert [item.name for item in members] == [names[1], names[0], *names[2:]]


def test_more_strategies_are_shown_by_family_beside_the_reference():
    names = [row[0] for row in STRATEGIES]
    panels = group_panels(strategies(names), "anti_pd1")
    assert [title for title, _ in panels] == [
        "Chemotherapy", "Coinhibitory", "Microenvironment", "Sequenced or tailored",
        "Costimulatory", "Priming",
    ]  # fmt: skip
    assert all(members[0].name == "anti_pd1" for _, members in panels)
    others = [item.name for _, members in panels for item in members[1:]]
    assert sorted(others) == sorted(names[1:])


def test_curves_of_a_panel_differ_in_colour_and_in_style():
    looks = choose_looks(
        [Strategy(name, name, "") for name in ("reference", "a", "b", "c")], "reference"
    )
    assert len({look.colour for look in looks}) == 4
    assert len({str(look.dashes) for look in looks[1:]}) == 3
    assert looks[0].width < looks[1].width


def test_a_column_of_the_table_has_room():
    crowded = spread_ticks(60.0, 3.0, 3.2, "20000")
    assert crowded[-1] == 60.0
    assert len(crowded) * text_width("20000", 8.0) < 3.2
    assert spread_ticks(30.0, 12.0, 5.0, "20") == [0.0, 12.0, 24.0]
    assert spread_ticks(5.0, 12.0, 5.0, "20") == [0.0]


# ---------------------------------------------------------------- areas and bars


def heights(area, x):
    """Height of an area of a stack at the time `x` of one of its corners, just after it."""
    vertices = area.vertices[:-1]
    half = len(vertices) // 2
    at = np.flatnonzero(vertices[:half, 0] == x)[-1]
    return vertices[at, 1] - vertices[2 * half - 1 - at, 1]


def test_incidences_stand_on_each_other(place):
    about = read_about(place)
    table = read(place, "incidence.csv").query("arm == 'anti_pd1_chemotherapy'")
    order = cause_order(table, about)
    ax = draw_incidence(axes(), table, order, choose_colours(order))
    (areas,) = ax.collections
    assert len(areas.get_paths()) == len(order)
    for cause, area in zip(order, areas.get_paths(), strict=True):
        rows = table[table["cause"] == cause].set_index("time")["incidence"]
        for month in (6.0, 24.0, 60.0):
            assert heights(area, month) == pytest.approx(rows[month], abs=1e-12)


def test_causes_have_one_order_and_distinct_colours(place):
    about = read_about(place)
    table = read(place, "incidence.csv")
    order = cause_order(table.iloc[::-1], about)
    assert order[0] == "primary_resistance"
    assert order[1:9] == [f"acquired/{name}" for name in MECHANISMS]
    assert order[9:] == ["acquired/platinum_doublet", "death_without_progression"]
    assert len(set(choose_colours(order).values())) == len(order)
    assert cause_label(order[9], about) == "acquired: platinum doublet"


def test_causes_at_different_times_are_refused(place):
    table = read(place, "incidence.csv").query("arm == 'tailored'").iloc[:-1]
    order = cause_order(table, read_about(place))
    with pytest.raises(ResultFileError, match=r"incidence\.csv: the causes of an arm must share"):
        draw_incidence(axes(), table, order, choose_colours(order))


def test_states_fill_the_panel(place):
    table = read(place, "occupancy.csv").query("arm == 'tailored'")
    (areas,) = draw_occupancy(axes(), table).collections
    assert areas.get_paths()[-1].vertices[:, 1].max() == pytest.approx(1.0)
    for state, area in zip(STATES, areas.get_paths(), strict=True):
        rows = table[table["state"] == state].set_index("time")["share"]
        assert heights(area, 12.0) == pytest.approx(rows[12.0], abs=1e-12)


def test_an_unknown_state_is_named(place):
    table = read(place, "occupancy.csv").query("arm == 'tailored'").replace("dead", "ded")
    with pytest.raises(ResultFileError, match=r"occupancy\.csv: no state named 'ded'\. Known: "):
        draw_occupancy(axes(), table)


def test_bars_are_the_shares_of_labels(place):
    table = read(place, "resistance.csv").query("latent == 'acquired'")
    ax = draw_definitions(axes(), table, ["anti_pd1"], list(RULES))
    (areas,) = ax.collections
    bars, _, _ = place_bars(["anti_pd1"], list(RULES))
    of_arm = table[table["arm"] == "anti_pd1"]
    n = of_arm[of_arm["rule"] == "sitc2020"]["patients"].sum()
    assert f"n = {n}" in [text.get_text() for text in ax.texts]
    for rule in RULES:
        drawn = {
            colour: path.vertices[:, 0].max() - path.vertices[:, 0].min()
            for path, colour in zip(
                areas.get_paths(), map(to_hex, areas.get_facecolor()), strict=True
            )
            if path.vertices[:, 1].mean() == pytest.approx(bars["anti_pd1", rule], abs=0.2)
        }
        rows = of_arm[of_arm["rule"] == rule].set_index("label")["patients"]
        assert drawn == pytest.approx(
            {LABELS[label][1].lower(): count / n for label, count in rows.items()}
        )


def test_a_latent_class_without_patients_is_an_empty_column(place):
    table = read(place, "resistance.csv").query("latent == 'nobody'")
    (areas,) = draw_definitions(axes(), table, ["anti_pd1"], list(RULES)).collections
    assert areas.get_paths() == []


def test_an_unknown_label_is_named(place):
    table = read(place, "resistance.csv").replace("gap", "gpa")
    with pytest.raises(ResultFileError, match=r"resistance\.csv: no label named 'gpa'"):
        draw_definitions(axes(), table, ["anti_pd1"], list(RULES))


def test_targets_are_dots_at_their_z(place):
    leave_targets(place)
    table = read(place, "targets.csv")
    ax = draw_targets(axes(), table, {"anti_pd1": "anti-PD-1"})
    dots = [line for line in ax.lines if line.get_marker() in ("o", "<", ">")]
    z = table["z"].dropna()
    assert [float(line.get_xdata()[0]) for line in dots] == pytest.approx(z.clip(-6.0, 6.0))
    hollow = [line.get_markerfacecolor() == "white" for line in dots]
    assert hollow == (table.loc[z.index, "checked"] == "memory").tolist()
    assert [line.get_marker() for line in dots].count(">") == 1
    texts = [text.get_text() for text in ax.texts]
    assert {"anti-PD-1", "10.0", "not reached", "51.5 %", "31.0"} <= set(texts)
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert {"median PFS, months", "OS at 24 months", "objective response"} <= set(names)


# ---------------------------------------------------------------- whole runs


def stems(paths):
    return [path.stem for path in paths if path.suffix == ".png"]


ALL = [
    "km_pfs", "km_os", "km_duration_of_response", "km_acquired_resistance", "incidence",
    "occupancy", "definitions", "targets",
]  # fmt: skip


def test_a_whole_run_is_drawn(place):
    leave_targets(place)
    leave_published(place, ["anti_pd1"])
    paths = draw_run(place)
    assert stems(paths) == ALL
    assert [path.suffix for path in paths] == [".png", ".svg"] * len(ALL)
    assert all(path.parent == place and path.stat().st_size > 5000 for path in paths)
    assert not list(place.glob(".partial*"))


def test_only_what_the_files_allow_is_drawn(small):
    for name in ("incidence", "occupancy", "resistance", "summary"):
        (small / f"{name}.csv").unlink()
    assert stems(draw_run(small)) == ALL[:4]
    (small / "curves.csv").unlink()
    assert draw_run(small) == []


@pytest.mark.parametrize("names", [["chemotherapy"], ["anti_pd1"], ["anti_pd1", "chemotherapy"]])
def test_few_strategies_are_drawn(tmp_path, names):
    leave_run(tmp_path, names, n=40)
    drawn = stems(draw_run(tmp_path))
    # No rule of resistance applies to chemotherapy alone.
    assert drawn == ALL[: 6 if names == ["chemotherapy"] else 7]


def test_the_same_files_give_the_same_bytes(tmp_path):
    drawn = []
    for name in ("one", "two"):
        place = tmp_path / name
        place.mkdir()
        leave_run(place, ["anti_pd1", "chemotherapy"], n=60)
        drawn.append({path.name: path.read_bytes() for path in draw_run(place)})
    assert drawn[0] == drawn[1]
    assert b"<dc:date>" not in drawn[0]["km_pfs.svg"]


def test_the_settings_of_the_user_do_not_change_a_figure(tmp_path):
    leave_run(tmp_path, ["anti_pd1"], n=60)
    before = {path.name: path.read_bytes() for path in draw_run(tmp_path)}
    with matplotlib.rc_context({"font.size": 20.0, "lines.linewidth": 9.0, "svg.hashsalt": "x"}):
        after = {path.name: path.read_bytes() for path in draw_run(tmp_path)}
        assert matplotlib.rcParams["font.size"] == 20.0
    assert before == after


def test_text_stays_text_and_the_caption_says_what_this_is(small):
    draw_run(small)
    svg = (small / "km_pfs.svg").read_text(encoding="utf-8")
    for words in ("Progression-free survival", "At risk", "400\u00a0patients", "seed\u00a01",
                  "Spearman", "Simulated", "not for treating patients"):  # fmt: skip
        assert words in svg
    assert "Months since response" in (small / "km_duration_of_response.svg").read_text()
    assert "latent, patients without primary resistance" in (
        small / "km_acquired_resistance.svg"
    ).read_text(encoding="utf-8")


def test_the_caption_owns_up(small):
    about = replace(
        read_about(small), scenario="KEYNOTE024", reversal=0.2, realised=(0.22, 0.24),
        citations_withdrawn=True,
    )  # fmt: skip
    caption = about.caption("Note.")
    assert caption.startswith("Note. Simulated with Resistime 0.1.0: 400")
    assert "scenario KEYNOTE024" in caption
    assert "(Spearman 0.3 asked for, 0.22 to 0.24 reached, reversals 0.2)" in caption
    assert "replaced by the user" in caption
    assert "Spearman" not in about.caption(paired=False)


def test_the_axis_ends_where_the_report_does(small):
    content = json.loads((small / "provenance.json").read_text())
    assert read_about(small).horizon == 60.0
    (small / "provenance.json").write_text(json.dumps({**content, "horizon": 48.0}))
    assert read_about(small).horizon == 48.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "provenance.json: cannot be read"),
        ("[]", "provenance.json: cannot be read"),
        ("{}", "provenance.json: no entry 'seed'"),
    ],
)
def test_a_bad_provenance_is_named(tmp_path, content, message):
    (tmp_path / "provenance.json").write_text(content)
    with pytest.raises(ResultFileError, match=message):
        draw_run(tmp_path)


def test_a_run_without_provenance_is_refused(tmp_path):
    with pytest.raises(ResultFileError, match=r"provenance\.json: cannot be read"):
        draw_run(tmp_path)


def test_a_missing_column_is_named(small):
    table = read(small, "curves.csv").drop(columns=["at_risk", "lower"])
    table.to_csv(small / "curves.csv", index=False)
    with pytest.raises(ResultFileError, match=r"curves\.csv: no column lower, at_risk"):
        draw_run(small)


def test_a_table_of_other_strategies_is_refused(small):
    table = read(small, "incidence.csv").assign(arm="other")
    table.to_csv(small / "incidence.csv", index=False)
    with pytest.raises(ResultFileError, match=r"incidence\.csv: no row is of a strategy"):
        draw_run(small)


def test_nothing_stands_outside_the_page(place):
    leave_targets(place)
    leave_published(place, ["anti_pd1", "chemotherapy", "anti_pd1_chemotherapy"])
    with matplotlib.rc_context(fname=STYLE):
        for stem, figure in _figures(place, read_about(place)):
            renderer = FigureCanvasAgg(figure).get_renderer()
            figure.draw(renderer)
            page = figure.bbox
            for text in figure.findobj(Text):
                if text.get_text().strip() and text.get_visible():
                    box = text.get_window_extent(renderer)
                    inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.x1 and box.y1 <= page.y1
                    assert inside, f"{stem}: '{text.get_text()}'"


@pytest.mark.parametrize(
    ("text", "weight"), [("anti-PD-1 + chemotherapy", "bold"), ("20000", "normal")]
)
def test_widths_are_those_that_are_drawn(text, weight):
    figure = Figure(dpi=200)
    written = figure.text(0.1, 0.5, text, size=8.0, weight=weight)
    drawn = written.get_window_extent(FigureCanvasAgg(figure).get_renderer()).width / 200.0
    assert text_width(text, 8.0, weight) == pytest.approx(drawn, rel=0.05)
