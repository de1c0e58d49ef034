"""The command ``resistime-figures``: a figure of a sweep, from the tables in its folder.

Nothing is simulated. What goes wrong through the user's doing ends as one line
and status 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sim.errors import OutputError, ResistimeError

__all__ = ["main"]

STATUS_BAD_INPUT = 2

DESCRIPTION = """\
Draw a figure of a sweep from the tables in its folder. Nothing is simulated again.
"""

EPILOG = """\
kinds:
  power        power, or another measure, over a swept parameter, a line for each method
  heatmap      the same over two swept parameters, as coloured cells
  sample_size  patients (or events, or months) needed for a power, with required.csv
  paired       differences of power between tests in the same trials
  tornado      which swept parameter matters most
  curves       Kaplan-Meier curves, a panel for each cell

examples:
  resistime-figures power sweeps/late
      over the swept number with most values, at the last cut, of the first endpoint
  resistime-figures power sweeps/late --endpoint os --method logrank --by onset
      one test, a line for each value of the swept parameter that ends in onset
  resistime-figures power sweeps/late --over events --by method --where onset=6
      power against the mean number of events, where onset is 6
  resistime-figures power sweeps/late --measure coverage --method cox
  resistime-figures heatmap sweeps/late --over trial.n_patients --by onset --method logrank
  resistime-figures sample_size sweeps/late --target 0.8 --output eighty
      writes eighty.png, eighty.svg and eighty.csv
  resistime-figures paired sweeps/late --against logrank
  resistime-figures curves sweeps/cohorts --where assessment=every_6_weeks --endpoint os

Bars and bands are 95 % Monte Carlo intervals. A difference of tests in the same trials
is known better than each power: look at paired before choosing between lines that cross.
Simulated under assumptions; for research and teaching, not for treating patients.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``resistime-figures`` with the arguments of the command line."""
    asked = _parser().parse_args(arguments)
    try:
        for path in _draw(asked):
            print(path)
    except OutputError as error:
        # The simulator's own commands are asked for a folder in another way.
        reason = str(error).removeprefix("hydra.run.dir: ")
        print(f"resistime-figures: {reason}", file=sys.stderr)
        sys.exit(STATUS_BAD_INPUT)
    except ResistimeError as error:
        print(f"resistime-figures: {error}", file=sys.stderr)
        sys.exit(STATUS_BAD_INPUT)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resistime-figures",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("kind", metavar="KIND", help="what is drawn; see below")
    parser.add_argument("folder", metavar="DIR", help="folder of a sweep, with sweep.json")
    rows = parser.add_argument_group("what is shown")
    rows.add_argument(
        "--measure", default="", metavar="NAME", help="default: power, or median of a cohort"
    )
    for facet, usual in (
        ("cut", "the last"),
        ("arm", "all"),
        ("endpoint", "the first"),
        ("method", "all"),
    ):
        rows.add_argument(
            f"--{facet}",
            action="append",
            default=[],
            metavar="NAME",
            help=f"may be repeated; 'all' for every one (default: {usual})",
        )
    rows.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="PARAM=VALUE",
        help="only cells with this value; may be repeated",
    )
    axes = parser.add_argument_group("where it stands")
    axes.add_argument(
        "--over",
        default="",
        metavar="PARAM",
        help="swept parameter of the horizontal axis, or events or date of the cut; "
        "the end of its path will do",
    )
    axes.add_argument(
        "--by",
        default="",
        metavar="PARAM",
        help="a line for each value of this parameter, or cut, arm, endpoint or method; "
        "of a heat map, the vertical axis; of paired, what the pairs differ in",
    )
    more = parser.add_argument_group("of single kinds")
    more.add_argument(
        "--target",
        type=float,
        default=0.9,
        metavar="POWER",
        help="sample_size: power wanted (default: 0.9)",
    )
    more.add_argument(
        "--size",
        default="",
        metavar="PARAM",
        help="sample_size: the swept size, where there are several",
    )
    more.add_argument(
        "--against", default="", metavar="NAME", help="paired: what others are set against"
    )
    parser.add_argument(
        "--output",
        default="",
        metavar="STEM",
        help="name of the files, in DIR, without suffix (default: sweep_KIND)",
    )
    return parser


def _draw(asked: argparse.Namespace) -> list[Path]:
    # Loading what draws takes a second, which help should not.
    from figures.sweep import draw_kind
    from figures.sweep_choice import Choice

    choice = Choice(
        measure=asked.measure,
        cut=tuple(asked.cut),
        arm=tuple(asked.arm),
        endpoint=tuple(asked.endpoint),
        method=tuple(asked.method),
        over=asked.over,
        by=asked.by,
        where=tuple(asked.where),
        size=asked.size,
        against=asked.against,
        target=asked.target,
        output=asked.output,
    )
    return draw_kind(Path(asked.folder), asked.kind, choice)


if __name__ == "__main__":
    main()
