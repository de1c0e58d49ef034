"""What ``resistime`` does with a trial: conduct it, stream its results, and tell its measures.

Replicates pass through in chunks: each is added to the sums, written and let
go, so that a million take no more memory than ten thousand. True values and
what hangs on them come in a second pass over the file that was written.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.conduct import Precision, check_plan, conduct_chunks
from sim.config import Run
from sim.endpoint.endpoint import short_name
from sim.errors import ScenarioError
from sim.estimand import estimate_truths
from sim.output import design_words, draw_figures, provenance, remove_stale, write_table
from sim.plan import TrialPlan
from sim.storage import write_json, write_whole

if TYPE_CHECKING:
    import pandas as pd

    from analysis.operating import Tally
    from analysis.paired import CoRejections, Rejections

__all__ = ["check_trial", "execute_trial"]

Measures = dict[tuple[str, ...], tuple[float, float]]
"""Estimate and Monte Carlo error by cut, arm, endpoint, method and measure."""


def check_trial(run: Run, plan: TrialPlan) -> None:
    """Refuse what is wrong with a trial before anything is left behind.

    Raises
    ------
    ScenarioError
        If it cannot be conducted, or not be paired with what `paired_with` names.
    """
    check_plan(plan)
    if run.paired_with:
        _other_design(run, plan)


def execute_trial(
    run: Run, plan: TrialPlan, place: Path, config: Any, overrides: list[str], scenario: str
) -> None:
    """Conduct the replicates of a trial and leave their operating characteristics.

    Parameters
    ----------
    run : Run
        The configuration, from the gate.
    plan : TrialPlan
        Its trial.
    place : pathlib.Path
        An existing folder.
    config, overrides, scenario
        As in `sim.command.execute`.

    Raises
    ------
    ResistimeError
        If something in it cannot be done as asked.
    """
    from analysis.operating import Accuracy, Tally, estimate_table, operating_table
    from analysis.paired import CoRejections, paired_table
    from analysis.replicates import read_runs

    start = time.perf_counter()
    other = _other_design(run, plan) if run.paired_with else None
    tally = Tally(plan.alpha)
    together = CoRejections(_keys(plan), plan.alpha, other)
    file = place / "comparisons.parquet"
    seconds = {"simulate": 0.0, "analyse": 0.0}
    write_whole(file, lambda path: _conduct_into(path, run, plan, tally, together, seconds))
    seconds["total"] = time.perf_counter() - start

    truths = {}
    if run.estimand_patients:
        truths = estimate_truths(plan, tally.mean_dates(), run.estimand_patients)
    accuracy = Accuracy(tally, truths)
    if truths:
        for key, (estimate, error) in read_runs(file, ("estimate", "standard_error")):
            accuracy.add(key, estimate, error)
    tables = {
        "operating.csv": operating_table(tally, accuracy),
        "paired.csv": paired_table(together),
        "estimates.csv": estimate_table(accuracy),
    }
    tables = {name: table for name, table in tables.items() if len(table)}
    for name, table in tables.items():
        write_table(place / name, table)
    record = provenance(run, config, overrides, scenario, seconds)
    record |= _trial_record(run, plan, tally, seconds)
    write_json(place / "provenance.json", record)
    remove_stale(place, (*tables, file.name))
    pictures = draw_figures(run, place)
    lines = _summary(run, plan, tally, tables)
    lines.append(
        f"{len(tables) + 1} tables and {pictures} figures in {place} "
        f"({time.perf_counter() - start:.1f} s)"
    )
    print("\n".join(lines))


def _keys(plan: TrialPlan) -> list[tuple[str, str, str, str]]:
    """Every comparison in its order."""
    return [(cut, *key) for cut in plan.cuts for key in plan.compared]


def _conduct_into(
    path: Path,
    run: Run,
    plan: TrialPlan,
    tally: Tally,
    together: CoRejections,
    seconds: dict[str, float],
) -> None:
    """Conduct the replicates: sums into `tally` and `together`, rows into the file."""
    from tqdm import tqdm

    from analysis.replicates import ComparisonWriter

    precision = Precision(run.precision, run.max_replicates) if run.precision else None
    with (
        tqdm(desc="trials", total=run.n_replicates, unit="", disable=None, leave=False) as bar,
        ComparisonWriter(path, _keys(plan)) as writer,
        closing(
            conduct_chunks(plan, run.n_replicates, run.n_workers, precision, _advance(bar))
        ) as chunks,
    ):
        for chunk in chunks:
            tally.add(chunk.cuts)
            together.add(chunk.first, chunk.cuts)
            writer.write(chunk.first, chunk.cuts)
            seconds["simulate"] += chunk.simulate_seconds
            seconds["analyse"] += chunk.analyse_seconds


def _advance(bar: Any) -> Callable[[int, int], None]:
    def advance(made: int, wanted: int) -> None:
        bar.total = wanted
        bar.update(made - bar.n)

    return advance


def _other_design(run: Run, plan: TrialPlan) -> Rejections:
    """Rejections of the run that this one is paired with; read first, so that a bad path is cheap.

    Replicates pair by their number. Any two runs may be paired; only with the
    same seed do the same patients come, and only at the same level are powers
    comparable, so these must agree.
    """
    from analysis.paired import read_rejections

    place = Path(run.paired_with)
    try:
        record = json.loads((place / "provenance.json").read_text(encoding="utf-8"))
        n_replicates = int(record.get("n_replicates", 0))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "cannot be read"
        raise ScenarioError(
            f"paired_with: no provenance.json of a run in '{place}': {reason}"
        ) from error
    if not n_replicates or not (place / "comparisons.parquet").exists():
        raise ScenarioError(f"paired_with must be the folder of a trial run, got '{place}'")
    for name, own in (("seed", run.seed), ("alpha", plan.alpha)):
        if record.get(name) != own:
            path = "seed" if name == "seed" else "trial.alpha"
            raise ScenarioError(
                f"paired_with: {path} must be the same in both, got {own:g} here and "
                f"{record.get(name)} in '{place}'"
            )
    try:
        other = read_rejections(
            place / "comparisons.parquet", run.paired_with, n_replicates, plan.alpha
        )
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ScenarioError(
            f"paired_with: cannot read '{place / 'comparisons.parquet'}': {reason}"
        ) from error
    if not any(key in other.rejected for key in _keys(plan)):
        raise ScenarioError(
            f"paired_with: no comparison of '{place}' has the cut, arm, endpoint and method of one "
            "of this run"
        )
    return other


def _trial_record(
    run: Run, plan: TrialPlan, tally: Tally, seconds: dict[str, float]
) -> dict[str, Any]:
    """What the provenance says of a trial alone."""
    busy = seconds["simulate"] + seconds["analyse"]
    record: dict[str, Any] = {
        "n_replicates": tally.n_replicates,
        "alpha": plan.alpha,
        "design": design_words(plan, run.labels),
        "replicates_per_second": round(tally.n_replicates / busy, 1),
        "largest_mc_error_of_power": tally.largest_error(),
        "estimand_patients": run.estimand_patients,
    }
    if run.precision is not None:
        record["precision"] = {
            "asked": run.precision,
            "reached": tally.largest_error() <= run.precision,
            "max_replicates": run.max_replicates,
        }
    if run.paired_with:
        record["paired_with"] = run.paired_with
    return record


def _summary(
    run: Run, plan: TrialPlan, tally: Tally, tables: Mapping[str, pd.DataFrame]
) -> list[str]:
    """Power, bias and coverage of every comparison with their errors, and when the cuts were."""
    rows = tables["operating.csv"].itertuples(index=False)
    measures: Measures = {tuple(row[:5]): (row.estimate, row.mc_error) for row in rows}
    lines = []
    heads = {
        (arm.strategy, endpoint): f"  {run.labels[arm.strategy]}, {short_name(endpoint)}"
        for arm in plan.design.arms[1:]
        for endpoint in plan.endpoints
    }
    width = max(map(len, (*heads.values(), *(4 * " " + item[2] for item in plan.compared))))
    for cut in plan.cuts:
        lines.append(_cut_line(cut, plan, measures))
        for (arm, endpoint), head in heads.items():
            lines.append(
                f"{head:{width}}{'power, %':>15}{'true value':>13}{'bias':>20}{'coverage, %':>15}"
            )
            for method in plan.methods(endpoint):
                cells = _cells(measures, (cut, arm, endpoint, method))
                lines.append(f"{4 * ' ' + method:{width}}{cells}".rstrip())
        lines += _too_early(plan, measures[cut, "", "", "", "date"][0])
    if run.paired_with:
        lines += _paired_lines(run, tables["paired.csv"])
    lines += [
        "",
        f"{tally.n_replicates} simulated trials of {plan.design.n_patients} patients, "
        f"seed {run.seed}; one-sided level {plan.alpha:g}. In brackets: Monte Carlo errors.",
    ]
    if run.precision is not None:
        largest = tally.largest_error()
        told = f"Precision {run.precision:g} asked for, {largest:.3g} reached"
        hit = "" if largest <= run.precision else f": max_replicates is {run.max_replicates}"
        lines.append(f"{told}{hit}.")
    lines.append("For research and teaching, not for treating patients.")
    return lines


def _too_early(plan: TrialPlan, date: float) -> list[str]:
    """Comparisons that look further than anybody can have been followed at a cut."""
    far = [name for name in plan.comparisons if horizon_of(name) > date]
    if not far:
        return []
    return [
        f"    No patient can have been followed that long yet: {', '.join(far)} carry curves on "
        "beyond what was seen."
    ]


def horizon_of(method: str) -> float:
    """Months up to which a comparison reads the curves; 0 where it reads what there is.

    Examples
    --------
    >>> horizon_of("rmst_difference(24)"), horizon_of("fleming_harrington(0,1)")
    (24.0, 0.0)
    """
    name, _, numbers = method.partition("(")
    if name not in ("average_hazard_ratio", "milestone_difference") and not name.startswith(
        ("rmst_", "time_lost_")
    ):
        return 0.0
    return float(numbers.rstrip(")").partition(",")[0])


def _paired_lines(run: Run, paired: pd.DataFrame) -> list[str]:
    """Differences of power to the design that this one is paired with."""
    lines = [f"Power less that of {run.paired_with}, %, with its paired Monte Carlo error:"]
    for row in paired[paired["versus"] == "design"].itertuples(index=False):
        arm = run.labels[row.arm]
        lines.append(
            f"  {row.cut}, {arm}, {short_name(row.endpoint)}, {row.method}: "
            f"{100 * row.difference:+.2f} ({100 * row.mc_error:.2f})"
        )
    return lines


def _cut_line(cut: str, plan: TrialPlan, measures: Measures) -> str:
    """When a cut was, and how much was known then."""

    def of(measure: str, endpoint: str = "") -> float:
        return measures[cut, "", endpoint, "", measure][0]

    events = ", ".join(
        f"{of('events', name):.1f} {short_name(name)} events" for name in plan.endpoints
    )
    looked = (cut, "", "", "", "screened")
    screened = f" of {measures[looked][0]:.1f} screened" if looked in measures else ""
    return (
        f"{cut}: month {of('date'):.1f} (80 % of trials {of('date_quantile_10'):.1f} to "
        f"{of('date_quantile_90'):.1f}), {of('enrolled'):.1f} patients{screened}, {events}, "
        f"target reached in {100 * of('target_reached'):.1f} %"
    )


def _cells(measures: Measures, key: tuple[str, str, str, str]) -> str:
    """Power, true value, bias and coverage of one comparison."""

    def cell(measure: str, factor: float, digits: str, width: int) -> str:
        if (*key, measure) not in measures:
            return " " * width
        estimate, error = (factor * value for value in measures[(*key, measure)])
        return f"{f'{estimate:{digits}} ({error:{digits[-3:]}})':>{width}}"

    true, _ = measures.get((*key, "estimand"), ("", ""))
    missing = measures[(*key, "not_estimable")][0]
    return (
        cell("power", 100.0, ".2f", 15)
        + (f"{true:13.4f}" if true != "" else " " * 13)
        + cell("bias", 1.0, "+.4f", 20)
        + cell("coverage", 100.0, ".2f", 15)
        + (f"  {100 * missing:.1f} % not estimable" if missing > 0.0 else "")
    )
