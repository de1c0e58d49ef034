"""Every figure of a run, from the files in its directory.

Size, style and saving are decided here; what is drawn on the axes is in the
module of each figure.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures import (
    accuracy,
    definitions,
    estimates,
    incidence,
    kaplan_meier,
    occupancy,
    operating,
    paired,
    size,
    targets,
)
from figures.page import MARGIN, PAGE, Page, key_height
from figures.shared import (
    BLACK,
    BLUE,
    VERMILLION,
    About,
    ResultFileError,
    Strategy,
    method_words,
    months_axis,
    read_about,
    read_table,
    save,
    text_width,
    wrap,
)

__all__ = ["draw_run"]

Drawn = tuple[str, Figure]
"""Name of a figure, without suffix, and the figure."""

STYLE = Path(__file__).with_name("style.mplstyle")

CURVE_COLUMNS = ("arm", "endpoint", "time", "survival")
COUNT_COLUMNS = ("lower", "upper", "at_risk", "events", "censored")
SUMMARY_COLUMNS = ("arm", "endpoint", "measure", "estimate", "lower", "upper")
OPERATING_COLUMNS = ("cut", "arm", "endpoint", "method", "measure", "estimate", "mc_error")
ESTIMATE_COLUMNS = ("cut", "arm", "endpoint", "method", "lower", "upper", "replicates")
PAIRED_COLUMNS = (
    "versus", "cut", "arm", "endpoint", "method", "other", "difference", "mc_error",
    "mc_error_unpaired",
)  # fmt: skip
SIZE_COLUMNS = ("size", "power", "mc_error", "n_replicates")
SIZE_CURVE_COLUMNS = ("size", "power", "lower", "upper")
TARGET_COLUMNS = ("strategy", "measure", "published", "simulated", "z", "checked")


def draw_run(
    place: Path, progress: Callable[[Iterable[Drawn]], Iterable[Drawn]] = iter
) -> list[Path]:
    """Draw every figure for which a run has left the files.

    Parameters
    ----------
    place : pathlib.Path
        Directory of the run, with ``provenance.json`` and any of ``curves.csv``
        (with ``summary.csv`` and ``published.csv``), ``incidence.csv``,
        ``occupancy.csv``, ``resistance.csv``, ``targets.csv``, ``operating.csv`` (with
        ``estimates.csv``), ``paired.csv`` and ``size.csv`` (with ``size.json`` and
        ``size_curve.csv``).
    progress : callable, optional
        Wraps the figures as they are drawn, to show how far it has come.

    Returns
    -------
    list of pathlib.Path
        The files written: a PNG and an SVG for each figure.

    Raises
    ------
    ResultFileError
        If a file that is there cannot be drawn from.
    OutputError
        If a figure cannot be written.
    """
    about = read_about(place)
    written = []
    with matplotlib.rc_context(fname=STYLE), _no_collection():
        for stem, figure in progress(_figures(place, about)):
            written += save(figure, place, stem)
    return written


@contextmanager
def _no_collection() -> Iterator[None]:
    """Put off garbage collection.

    A figure is tens of thousands of small objects. Looking for cycles among
    them while they are made takes a tenth of the time and finds next to nothing.
    """
    active = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if active:
            gc.enable()


def _figures(place: Path, about: About) -> Iterator[Drawn]:
    curves = read_table(place, "curves.csv", (*CURVE_COLUMNS, *COUNT_COLUMNS))
    if curves is not None:
        summary = read_table(place, "summary.csv", SUMMARY_COLUMNS)
        published = read_table(place, "published.csv", CURVE_COLUMNS)
        for endpoint in curves["endpoint"].unique():
            yield (
                f"km_{endpoint}",
                _kaplan_meier_page(about, str(endpoint), curves, summary, published),
            )
    table = read_table(place, "incidence.csv", ("arm", "cause", "time", "incidence"))
    if table is not None:
        yield "incidence", _incidence_page(about, table)
    table = read_table(place, "occupancy.csv", ("arm", "state", "time", "share"))
    if table is not None:
        yield "occupancy", _occupancy_page(about, table)
    table = read_table(place, "resistance.csv", ("arm", "rule", "latent", "label", "patients"))
    if table is not None:
        applies = table[table["label"] != definitions.NOT_APPLICABLE]
        if not applies.empty:
            yield "definitions", _definitions_page(about, table, applies)
    table = read_table(place, "targets.csv", TARGET_COLUMNS)
    if table is not None:
        yield "targets", _targets_page(about, table)
    table = read_table(place, "operating.csv", OPERATING_COLUMNS)
    if table is not None:
        yield "operating", _operating_page(about, table)
        if set(accuracy.PANELS) <= set(table["measure"]):
            yield "accuracy", _accuracy_page(about, table)
        bins = read_table(place, "estimates.csv", ESTIMATE_COLUMNS)
        if bins is not None:
            yield "estimates", _estimates_page(about, bins, table)
    table = read_table(place, "paired.csv", PAIRED_COLUMNS)
    if table is not None:
        for versus in table["versus"].unique():
            rows = table[table["versus"] == versus]
            yield f"paired_{versus}", _paired_page(about, rows, table)
    table = read_table(place, "size.csv", SIZE_COLUMNS)
    if table is not None:
        yield "size", _size_page(about, place, table)


def _shown(about: About, table: pd.DataFrame, name: str) -> list[Strategy]:
    """Strategies of the run that have rows in a table, in the order of the run."""
    present = set(table["arm"])
    shown = [item for item in about.strategies if item.name in present]
    if not shown:
        raise ResultFileError(f"{name}: no row is of a strategy that provenance.json lists")
    return shown


# ---------------------------------------------------------------- Kaplan-Meier

_HANG = 0.92  # inches left of the axes, for the names of the rows
_GAP = 0.34  # between panels: half a count, and air
_END = 0.3
_BETWEEN = 0.16


def _kaplan_meier_page(
    about: About,
    endpoint: str,
    curves: pd.DataFrame,
    summary: pd.DataFrame | None,
    published: pd.DataFrame | None,
) -> Figure:
    curves = curves[curves["endpoint"] == endpoint]
    shown = _shown(about, curves, "curves.csv")
    panels = [
        (title, kaplan_meier.choose_looks(members, about.reference))
        for title, members in kaplan_meier.group_panels(shown, about.reference)
    ]
    columns = 1 if len(panels) == 1 else 2
    width = (PAGE - MARGIN - columns * _HANG - (columns - 1) * _GAP - _END) / columns
    tall = 3.6 if columns == 1 else 1.65
    titled = 0.24 if any(title for title, _ in panels) else 0.1
    medians = {item.name: kaplan_meier.median_text(summary, item.name, endpoint) for item in shown}
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    heights = [
        titled + tall + kaplan_meier.AXIS_INCHES + _BETWEEN
        + kaplan_meier.LINE_INCHES
        * max(kaplan_meier.count_lines(looks, medians, width) for _, looks in row)
        for row in rows
    ]  # fmt: skip
    page = Page(
        kaplan_meier.TITLES.get(endpoint, endpoint.replace("_", " ").capitalize()),
        about.description, sum(heights),
        about.caption(kaplan_meier.NOTE + kaplan_meier.ENDPOINT_NOTES.get(endpoint, "")),
    )  # fmt: skip
    counts = curves[["at_risk", "events", "censored"]].to_numpy()
    ticks = kaplan_meier.spread_ticks(
        about.horizon, about.table_every, width, str(int(counts.max()))
    )
    overlay = published[published["endpoint"] == endpoint] if published is not None else None
    drawn: set[str] = set()
    top = titled
    for row, height in zip(rows, heights, strict=True):
        for column, (title, looks) in enumerate(row):
            left = MARGIN + _HANG + column * (width + _HANG + _GAP)
            ax = page.axes(left, top, width, tall)
            kaplan_meier.draw_kaplan_meier(
                ax, curves, looks, horizon=about.horizon, ticks=ticks,
                endpoint=kaplan_meier.AXIS.get(endpoint, "Share without the event"),
                since=kaplan_meier.SINCE.get(endpoint, "randomisation"),
            )  # fmt: skip
            ax.set_title(title)
            if overlay is not None:
                # The reference is in every panel; its published curve is in the first.
                kaplan_meier.draw_published(
                    ax, overlay, [look for look in looks if look.arm not in drawn]
                )
            kaplan_meier.draw_counts(ax, curves, looks, ticks=ticks, medians=medians)
            drawn.update(look.arm for look in looks)
        top += height
    return page.figure


# ---------------------------------------------------------------- one small panel per strategy


def _small_multiples(
    about: About,
    table: pd.DataFrame,
    draw: Callable[[Axes, pd.DataFrame], Axes],
    *,
    file: str,
    title: str,
    vertical: str,
    note: str,
    key: list[tuple[str, str]],
) -> Figure:
    """A panel for each strategy of `table` and one key, of (label, colour), below them all."""
    parts = dict(tuple(table.groupby("arm", sort=False)))
    shown = _shown(about, table, file)
    columns = 1 if len(shown) == 1 else 2 if len(shown) <= 4 else 3
    left, gap = 0.66, 0.26
    width = (PAGE - left - MARGIN - gap * (columns - 1)) / columns
    tall = {1: 3.4, 2: 2.4, 3: 1.75}[columns]
    names = [wrap(item.label, width, 10.0, "bold") for item in shown]
    rows = [range(i, min(i + columns, len(shown))) for i in range(0, len(shown), columns)]
    titled = [0.1 + 0.17 * max(len(names[i]) for i in row) for row in rows]
    grid = sum(titled) + len(rows) * (tall + 0.28) + 0.24
    body = grid + key_height(len(key)) + 0.1
    page = Page(title, about.description, body, about.caption(note))
    ticks = kaplan_meier.spread_ticks(about.horizon, about.table_every, width, "000")
    top = 0.0
    for row, above in zip(rows, titled, strict=True):
        for column, i in enumerate(row):
            ax = page.axes(left + column * (width + gap), top + above, width, tall)
            draw(ax, parts[shown[i].name])
            months_axis(ax, about.horizon, ticks)
            ax.set_title("\n".join(names[i]))
            if column == 0:
                ax.set_ylabel(vertical)
            else:
                ax.tick_params(labelleft=False)
            if i + columns >= len(shown):
                ax.set_xlabel("Months since randomisation")
        top += above + tall + 0.28
    page.key(
        [Patch(facecolor=colour, edgecolor="white") for _, colour in key],
        [label for label, _ in key],
        grid,
    )
    return page.figure


def _incidence_page(about: About, table: pd.DataFrame) -> Figure:
    order = incidence.cause_order(table, about)
    colours = incidence.choose_colours(order)
    return _small_multiples(
        about, table,
        lambda ax, rows: incidence.draw_incidence(ax, rows, order, colours),
        file="incidence.csv", title="Why progression-free survival ends",
        vertical="Cumulative incidence", note=incidence.NOTE,
        key=[(incidence.cause_label(cause, about), colours[cause]) for cause in order],
    )  # fmt: skip


def _occupancy_page(about: About, table: pd.DataFrame) -> Figure:
    return _small_multiples(
        about, table, occupancy.draw_occupancy,
        file="occupancy.csv", title="Where the patients are",
        vertical="Share of patients", note=occupancy.NOTE,
        key=list(occupancy.STATES.values()),
    )  # fmt: skip


# ---------------------------------------------------------------- definitions and targets


def _definitions_page(about: About, table: pd.DataFrame, applies: pd.DataFrame) -> Figure:
    shown = _shown(about, applies, "resistance.csv")
    left_out = [item for item in _shown(about, table, "resistance.csv") if item not in shown]
    rules = list(table["rule"].unique())
    used = [label for label in definitions.LABELS if label in set(applies["label"])]
    bars, headings, end = definitions.place_bars([item.name for item in shown], rules)
    line = 0.165
    names = {rule: about.label(rule) for rule in rules}
    left = MARGIN + 0.15 + max(text_width(name, 8.5) for name in names.values())
    gap = 0.22
    width = (PAGE - left - 0.3 - 2 * gap) / 3
    body = 0.3 + end * line + 0.35 + key_height(len(used)) + 0.1
    note = definitions.NOTE
    if left_out:
        note += f" No rule applies to {_listed(left_out)}."
    page = Page(
        "What each definition calls primary and acquired resistance",
        about.description,
        body,
        about.caption(note),
    )
    for i, (latent, title) in enumerate(definitions.LATENT.items()):
        ax = page.axes(left + i * (width + gap), 0.3, width, end * line)
        rows = table[table["latent"] == latent]
        definitions.draw_definitions(ax, rows, [item.name for item in shown], rules)
        ax.set_title(title)
        if i == 0:
            ax.set_yticks(list(bars.values()), [names[rule] for _, rule in bars])
            ax.tick_params(axis="y", length=0)
            for item in shown:
                ax.text(
                    (MARGIN - left) / width, headings[item.name], item.label, va="center",
                    weight="bold", transform=ax.get_yaxis_transform(),
                )  # fmt: skip
    page.key(
        [Patch(facecolor=definitions.LABELS[label][1]) for label in used],
        [definitions.LABELS[label][0] for label in used],
        0.3 + end * line + 0.35,
    )
    return page.figure


def _listed(strategies: list[Strategy]) -> str:
    labels = [item.label for item in strategies]
    return " and ".join([", ".join(labels[:-1]), labels[-1]] if len(labels) > 1 else labels)


def _targets_page(about: About, table: pd.DataFrame) -> Figure:
    _, _, end = targets.place_rows(table["strategy"])
    tall = 0.22 * end
    page = Page(
        "Simulated against published results", about.description, tall + 0.85,
        about.caption(targets.NOTE, paired=False),
    )  # fmt: skip
    ax = page.axes(MARGIN - targets.NAMES, 0.1, 3.6, tall)
    targets.draw_targets(ax, table, {item.name: item.label for item in about.strategies})
    marks = [
        Line2D([], [], color=BLUE, marker="o", markerfacecolor=face, linestyle="none")
        for face in (BLUE, "white")
    ]
    page.key(marks, ["read in its source, or derived from it", "recalled"], tall + 0.6)
    return page.figure


# ---------------------------------------------------------------- trials


def _operating_page(about: About, table: pd.DataFrame) -> Figure:
    cuts = operating.power_rows(table)
    names, room, line = _row_names(
        [operating.comparison_names(rows, about.arm_labels) for _, rows in cuts]
    )
    heights = [line * len(rows) + 0.95 for _, rows in cuts]
    page = Page("Power", about.description, sum(heights) + 0.1, about.trial_caption(operating.NOTE))
    width = PAGE - 2.0 * MARGIN - room - 0.6
    top = 0.3
    for (cut, rows), own, height in zip(cuts, names, heights, strict=True):
        ax = page.axes(MARGIN + room, top, width, line * len(rows))
        operating.draw_power(ax, rows, own, about.alpha, cut)
        top += height
    return page.figure


def _row_names(names: list[list[str]]) -> tuple[list[list[str]], float, float]:
    """Names of rows broken to fit beside the axes, inches they take, and the height of a row."""
    broken = [[wrap(name, 4.2, 8.5) for name in part] for part in names]
    lines = [line for part in broken for name in part for line in name]
    room = max(text_width(line, 8.5) for line in lines) + 0.15
    most = max(len(name) for part in broken for name in part)
    return [["\n".join(name) for name in part] for part in broken], room, 0.08 + 0.14 * most


def _accuracy_page(about: About, table: pd.DataFrame) -> Figure:
    cuts = accuracy.accuracy_rows(table)
    names, room, line = _row_names(
        [operating.comparison_names(rows["coverage"], about.arm_labels) for _, rows in cuts]
    )
    heights = [line * len(own) + 0.95 for own in names]
    page = Page(
        "Bias and coverage", about.description, sum(heights) + 0.1,
        about.trial_caption(accuracy.NOTE),
    )  # fmt: skip
    gap = 0.35
    width = (PAGE - 2.2 * MARGIN - 0.1 - room - gap) / len(accuracy.PANELS)
    limits = {
        measure: _limits([rows[measure] for _, rows in cuts], "estimate", wanted)
        for measure, (_, wanted) in accuracy.PANELS.items()
    }
    top = 0.3
    for (cut, rows), own, height in zip(cuts, names, heights, strict=True):
        for i, measure in enumerate(accuracy.PANELS):
            ax = page.axes(MARGIN + room + i * (width + gap), top, width, line * len(own))
            accuracy.draw_accuracy(ax, rows[measure], measure, limits[measure])
            if i == 0:
                ax.set_yticks(range(len(own)), own)
                ax.tick_params(axis="y", length=0)
                ax.set_title(cut)
        top += height
    return page.figure


def _limits(
    tables: list[pd.DataFrame], column: str, centre: float, error: str = "mc_error"
) -> tuple[float, float]:
    """Ends of an axis that has room for every error bar and for a line at `centre`."""
    rows = pd.concat(tables)
    reach = 1.96 * rows[error]
    low = min(float((rows[column] - reach).min()), centre)
    high = max(float((rows[column] + reach).max()), centre)
    air = 0.05 * (high - low) or 0.05
    return low - air, high + air


def _paired_page(about: About, table: pd.DataFrame, whole: pd.DataFrame) -> Figure:
    labels = about.arm_labels
    title, rows = paired.against_the_first(table, labels)
    facets = [name for name in ("cut", "arm", "endpoint", "method") if whole[name].nunique() > 1]
    (names,), room, line = _row_names(
        [
            [
                paired.row_name(row, facets or ["method"], labels)
                for row in rows.to_dict(orient="records")
            ]
        ]
    )
    width = PAGE - 2.0 * MARGIN - room - 0.65
    titles = wrap(title, width, 10.0, "bold")
    head = 0.1 + 0.17 * len(titles)
    page = Page(
        "Differences of power, in the same trials", about.description,
        head + line * len(rows) + 0.6, about.trial_caption(paired.NOTE),
    )  # fmt: skip
    ax = page.axes(MARGIN + room, head, width, line * len(rows))
    paired.draw_paired(ax, rows, names, _limits([rows], "difference", 0.0, "mc_error_unpaired"))
    ax.set_title("\n".join(titles))
    ax.set_xlabel("Difference of power")
    return page.figure


def _estimates_page(about: About, bins: pd.DataFrame, table: pd.DataFrame) -> Figure:
    keys = ["cut", "arm", "endpoint", "method"]
    panels = list(bins.groupby(keys, sort=False))
    measures = table.set_index([*keys, "measure"])["estimate"].to_dict()
    columns = min(3, bins["method"].nunique())
    gap, tall = 0.3, 0.95
    width = (PAGE - 2.0 * MARGIN - gap * (columns - 1)) / columns
    facets = [name for name in ("cut", "arm", "endpoint") if bins[name].nunique() > 1]
    titles = []
    for key, _ in panels:
        named = dict(zip(keys, key, strict=True))
        parts = [paired.row_name(named, part, about.arm_labels) for part in (facets, ["method"])]
        titles.append([line for part in parts for line in wrap(part, width, 10.0, "bold")])
    titled = 0.11 + 0.17 * max(map(len, titles))
    rows, high = -(-len(panels) // columns), titled + tall + 0.5
    page = Page(
        "Estimates over trials", about.description, rows * high + key_height(2) + 0.15,
        about.trial_caption(estimates.NOTE),
    )  # fmt: skip
    for i, (key, own) in enumerate(panels):
        row, column = divmod(i, columns)
        ax = page.axes(MARGIN + column * (width + gap), titled + row * high, width, tall)
        truth, mean = (measures[(*key, name)] for name in ("estimand", "mean_estimate"))
        estimates.draw_estimates(ax, own, truth, mean)
        ax.set_title("\n".join(titles[i]))
        ax.set_xlabel(estimates.unit(key[-1]))
    page.key(
        [
            Line2D([], [], color=BLACK, linestyle=(0, (4.0, 2.0)), linewidth=1.4),
            Line2D([], [], color=VERMILLION, linewidth=1.4),
        ],
        ["true value", "mean estimate"],
        rows * high + 0.05,
    )
    return page.figure


# ---------------------------------------------------------------- the size of a trial


def _size_page(about: About, place: Path, tried: pd.DataFrame) -> Figure:
    record = size.read_answer(place)
    curve = read_table(place, "size_curve.csv", SIZE_CURVE_COLUMNS)
    answer = record["answer"]
    if answer is None:
        note = size.NO_ANSWER
    else:
        note = size.NOTE.format(n=f"{answer['n_replicates']:,}", at=answer["conducted_at"])
    handles, words = size.key(answer is not None)
    tall, left = 3.6, 0.6
    told = record["reason"] if answer is None else " ".join(record["assumptions"])
    told = told[:1].upper() + told[1:]
    page = Page(
        f"Power of {method_words(record['method'])} over the number of {record['unit']}", told,
        tall + 0.62 + key_height(len(handles)), about.trial_caption(note),
    )  # fmt: skip
    ax = page.axes(MARGIN + left, 0.12, PAGE - 2.0 * MARGIN - left - 0.15, tall)
    size.draw_size(ax, tried, curve, record)
    if handles:
        page.key(handles, words, tall + 0.6)
    return page.figure
