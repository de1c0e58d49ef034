"""The command ``resistime-analyse``: the comparisons of a trial, on data of one's own.

Reads a file, has `analysis` compare the arms, prints a table and, when asked,
writes a JSON file and draws the Kaplan-Meier figure. What goes wrong through
the user's doing ends as one line and status 2.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sim.errors import OutputError, ResistimeError
from sim.storage import write_json, write_whole

if TYPE_CHECKING:
    from analysis.analyse import Finding, Report, TrialData

__all__ = ["main"]

STATUS_BAD_INPUT = 2
PICTURES = (".png", ".svg", ".pdf")

DESCRIPTION = """\
Compare the two arms of a trial with the tests that Resistime uses on simulated
ones. The file has one row for each patient and its first row names the columns.
"""

EPILOG = """\
example:
  resistime-analyse trial.csv --time months --event died --arm arm --control placebo

what is computed:
  log-rank and Fleming-Harrington (rho, gamma): no difference between the arms,
    with all times weighing alike (log-rank), late ones more (0, 0.5 and 0, 1),
    early ones (1, 0) or those in the middle (1, 1)
  MaxCombo: the largest of four of these, with a p-value that allows for choosing it
  Cox regression: hazard ratio of the experimental arm, Efron's method for ties
  restricted mean: months gained on average, of those up to tau
  Positive z favours the experimental arm; p is one-sided, for that arm being better.
  Choose the test before looking at the data: the smallest of these p-values is none.

Immunotherapy often helps late. Where hazards are not proportional, the hazard ratio
depends on how long patients were followed; restricted means and milestones do not.
For research and teaching, not for treating patients.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``resistime-analyse`` with the arguments of the command line."""
    asked = _parser().parse_args(arguments)
    try:
        _run(asked)
    except ResistimeError as error:
        print(f"resistime-analyse: {error}", file=sys.stderr)
        sys.exit(STATUS_BAD_INPUT)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resistime-analyse",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE.csv", help="comma-separated values")
    columns = parser.add_argument_group("columns of the file")
    columns.add_argument(
        "--time", required=True, metavar="COLUMN", help="follow-up, at least 0, in any unit"
    )
    columns.add_argument(
        "--event", required=True, metavar="COLUMN", help="1 if it ended with the event, else 0"
    )
    columns.add_argument(
        "--arm", required=True, metavar="COLUMN", help="which of the two arms, by any names"
    )
    columns.add_argument(
        "--stratum", metavar="COLUMN", help="adds log-rank tests and Cox regression within strata"
    )
    choices = parser.add_argument_group("choices")
    choices.add_argument(
        "--control",
        metavar="VALUE",
        help="the control arm (default: 'control' or 'placebo', or else the first when sorted)",
    )
    choices.add_argument(
        "--tau",
        type=float,
        metavar="TIME",
        help="end of the restricted mean (default: the smaller of the arms' largest follow-ups)",
    )
    choices.add_argument(
        "--milestone", type=float, metavar="TIME", help="adds the difference of survival then"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--json", metavar="FILE", help="write everything at full precision")
    output.add_argument(
        "--figure",
        metavar="FILE",
        help="where the Kaplan-Meier curves are drawn: .png, .svg or .pdf "
        "(default: km_NAME.png in this folder, after FILE.csv)",
    )
    output.add_argument(
        "--no-figure", action="store_true", help="do not draw the Kaplan-Meier curves"
    )
    return parser


def _run(asked: argparse.Namespace) -> None:
    from analysis.analyse import AnalysisError, compare, read_trial

    # What cannot be written is said before anything is computed.
    if asked.no_figure and asked.figure is not None:
        raise AnalysisError("--figure: leave it out, or --no-figure.")
    for option, name in (("--json", asked.json), ("--figure", asked.figure)):
        if name is not None and not Path(name).parent.is_dir():
            raise AnalysisError(f"{option}: no folder '{Path(name).parent}' to write '{name}' in.")
        if name is not None and Path(name).is_dir():
            raise AnalysisError(f"{option}: '{name}' is a folder; give the name of a file in it.")
        if name is not None and Path(name).resolve() == Path(asked.file).resolve():
            raise AnalysisError(f"{option}: '{name}' holds the data; give another name.")
    if asked.figure is not None and Path(asked.figure).suffix.lower() not in PICTURES:
        raise AnalysisError(
            f"--figure: '{asked.figure}' must end in .png, .svg or .pdf, which chooses the format."
        )
    data = read_trial(
        asked.file,
        time=asked.time,
        event=asked.event,
        arm=asked.arm,
        control=asked.control,
        stratum=asked.stratum,
    )
    report = compare(data, tau=asked.tau, milestone=asked.milestone)
    print(_table(report))
    if asked.json is not None:
        _write("--json", lambda: write_json(Path(asked.json), report.as_mapping()))
    if not asked.no_figure:
        picture = Path(asked.figure or f"km_{Path(asked.file).stem}.png")
        _write("--figure", lambda: _draw(picture, data, asked))
        print(f"Kaplan-Meier curves: {picture}")


def _write(option: str, write: object) -> None:
    assert callable(write)
    try:
        write()
    except OutputError as error:
        reason = str(error).partition(": ")[2] or str(error)
        raise OutputError(f"{option}: {reason}") from error


def _table(report: Report) -> str:
    """What the terminal shows: the arms, the comparisons, and what to know about them."""
    width = max(len(finding.name) for finding in report.findings)
    names = max(len(arm.name) for arm in report.arms)
    lines = [f"{'':{names}}  {'':12} {'patients':>9} {'events':>7} {'median':>12} {'longest':>9}"]
    for arm in report.arms:
        median = f"{arm.median:g}" if math.isfinite(arm.median) else "not reached"
        lines.append(
            f"{arm.name:{names}}  {arm.role:12} {arm.patients:9d} {arm.events:7d} {median:>12} "
            f"{arm.longest:9g}"
        )
    lines.append("")
    lines.append(f"{'':{width}} {'z':>8} {'p (one-sided)':>14}   estimate (95 % interval)")
    for finding in report.findings:
        z, p = finding.result.z[0], finding.result.p_value[0]
        lines.append(f"{finding.name:{width}} {z:8.3f} {_p(p):>14}   {_told(finding)}".rstrip())
    lines.append("")
    lines.append(f"Positive z favours '{report.data.experimental}'.")
    lines += report.notes
    return "\n".join(lines)


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 1e-4 else f"{value:.1e}"


def _told(finding: Finding) -> str:
    told = finding.interval()
    if told is None:
        return ""
    centre, low, high = told
    if math.isfinite(low) and math.isfinite(high):
        return f"{finding.quantity} {centre:.4g} ({low:.4g} to {high:.4g})"
    return f"{finding.quantity} {centre:.4g} (no interval)"


def _draw(path: Path, data: TrialData, asked: argparse.Namespace) -> None:
    """The Kaplan-Meier curves of both arms, with the counts below."""
    import matplotlib
    import numpy as np
    import pandas as pd

    from analysis.survival import fit_kaplan_meier
    from figures import kaplan_meier
    from figures.page import MARGIN, PAGE, Page
    from figures.run import STYLE
    from figures.shared import Strategy

    horizon = float(data.time.max())
    every = _step(horizon)
    ticks = np.arange(0.0, horizon + 1e-9 * every, every)
    tables, medians = [], {}
    for name, mine in ((data.control, ~data.arm), (data.experimental, data.arm)):
        fit = fit_kaplan_meier(data.time[mine], data.event[mine])
        # The last time is a row too, so that the curve ends where follow-up does.
        table = fit.table(np.append(ticks, horizon))
        table = table[table["time"] <= data.time[mine].max() + 1e-12].assign(arm=name)
        tables.append(table)
        middle, low, high = fit.median
        summary = pd.DataFrame(
            [(name, "", "median", middle, low, high)],
            columns=["arm", "endpoint", "measure", "estimate", "lower", "upper"],
        )
        medians[name] = kaplan_meier.median_text(summary, name, "")
    curves = pd.concat(tables, ignore_index=True)
    members = [Strategy(name, name, "") for name in (data.control, data.experimental)]
    looks = kaplan_meier.choose_looks(members, data.control)
    left, tall, right = 0.92, 3.6, 0.5
    width = PAGE - 2.0 * MARGIN - left - right
    with matplotlib.rc_context(fname=STYLE):
        lines = kaplan_meier.count_lines(looks, medians, width)
        body = 0.1 + tall + kaplan_meier.AXIS_INCHES + lines * kaplan_meier.LINE_INCHES + 0.16
        note = kaplan_meier.NOTE.replace("that month", "that time")
        page = Page("Kaplan-Meier curves", Path(asked.file).name, body, note)
        ax = page.axes(MARGIN + left, 0.1, width, tall)
        shown = [float(tick) for tick in ticks]
        kaplan_meier.draw_kaplan_meier(
            ax, curves, looks, horizon=horizon, ticks=shown, endpoint="Share without the event"
        )
        ax.set_xlabel("Time" if asked.time.lower() == "time" else f"Time ({asked.time})")
        kaplan_meier.draw_counts(ax, curves, looks, ticks=shown, medians=medians)
        write_whole(path, lambda place: page.figure.savefig(place))


def _step(horizon: float) -> float:
    """A round distance between labels, so that there are 5 to 10 up to `horizon`."""
    if horizon <= 0.0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(horizon / 10.0))
    return next(size * k for k in (1.0, 2.0, 5.0, 10.0, 20.0) if horizon / (size * k) <= 10.0)


if __name__ == "__main__":
    main()
