"""The command ``resistime-catalogue``: published trials, what is known of each, and how it fits.

Lists them, prints one with every target and claim and where they come from, or
simulates them and holds the results against what was published. What goes wrong
through the user's doing ends as one line and status 2.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sim.arguments import OneLineParser, answer_arguments
from sim.catalogue import Entry, find_entry, published_entries, unreviewed
from sim.cohort import simulate_cohort
from sim.command import register_schema
from sim.config import Run, check_run, read_config
from sim.output import progress_bar, write_table
from sim.provenance import citations, claim_counts
from sim.schema import TargetConfig
from sim.sweep.definition import composed
from sim.target import target_name

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["main"]


SCORES = "scores.csv"

DESCRIPTION = """\
Published trials that can be simulated. Each is a closed scenario: population, agents, arms, scans,
crossover and stop rule are its own, and every number says where it comes from.
"""

EPILOG = """\
examples
  resistime-catalogue                    which trials there are
  resistime-catalogue KEYNOTE189         one of them: design, arms, targets, claims and sources
  resistime-catalogue score KEYNOTE189   simulate it and hold it against what was published
  resistime-catalogue score all          all of them: scores.csv, and a figure for each trial
  resistime scenario=KEYNOTE189          run it, with curves, tables and figures

how to read it
  target   a published result. z is (simulated - published) over the root of the summed squares of
           the published standard error, the tolerance of the target and the Monte Carlo error.
           Hazard ratios are compared on the log scale.
  checked  verified: read in the source or a report of it. derived: computed from what was read.
           memory: recalled and not read again; its tolerance counts three times.
  rms z    root mean square of z: about 1 where misfits are what chance and tolerance allow.
           A |z| above 3 on a result that was read is a misfit, whatever the others do.
  claim    a number about nature that goes into the simulation. calibrated: fitted to targets.
           assumption: chosen, since no source gives it.
  reviewed every number has been derived a second time, by somebody else. A trial that is not
           reviewed has no citation: do not quote its results as those of a validated model.

A target that was fitted is no test of the model; a good fit says that it can, not that it is right.
For research and teaching, not for treating patients.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``resistime-catalogue`` with the arguments of the command line."""
    answer_arguments(_parser(), _answer, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="resistime-catalogue",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "words", nargs="*", metavar="[score] ID",
        help="name or alias of a trial, or 'all'; without any, they are listed",
    )  # fmt: skip
    parser.add_argument(
        "--folder", type=Path, default=Path("outputs/catalogue"), metavar="DIR",
        help="of scores and their figures (default: outputs/catalogue)",
    )  # fmt: skip
    parser.add_argument(
        "--patients", type=_positive, default=20_000, metavar="N",
        help="score: simulated in each arm (default: 20000)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=_whole, default=1, metavar="N", help="score: of the patients (default: 1)"
    )
    parser.add_argument("--no-figures", action="store_true", help="score: write the table only")
    return parser


def _positive(text: str) -> int:
    number = _whole(text)
    if number == 0:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def _whole(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, got '{text}'")
    return int(text)


def _answer(asked: argparse.Namespace) -> None:
    score = asked.words[:1] == ["score"]
    names = asked.words[1:] if score else asked.words
    if not names and not score:
        print("\n".join(_listing(published_entries(), asked.folder)))
        return
    everything = not names or "all" in names
    entries = published_entries() if everything else [find_entry(name) for name in names]
    register_schema()
    if score:
        _score(list({entry.name: entry for entry in entries}.values()), asked)
        return
    for i, entry in enumerate(entries):
        print("\n".join([*([""] if i else []), *_page(entry, _load(entry))]))


def _load(entry: Entry) -> Run:
    return check_run(read_config(composed([f"scenario={entry.name}"])))


# ---------------------------------------------------------------- list and page


def _listing(entries: Sequence[Entry], folder: Path) -> Iterator[str]:
    """A line for each trial, with its last score where there is one."""
    known = _stored(folder)
    yield f"{'scenario':19}{'alias':15}{'patients':>10}{'targets':>9}{'rms z':>7}  reviewed  trial"
    for entry in entries:
        z = known.get(entry.name)
        patients = " + ".join(f"{n}" for n in entry.n.values())
        yield (
            f"{entry.name:19}{entry.alias:15}{patients:>10}{entry.n_targets:>9}"
            f"{'-' if z is None else f'{z:.2f}':>7}  {'yes' if entry.reviewed else 'no':8}  "
            f"{entry.title.partition(': ')[2]}"
        )
    yield ""
    yield (
        f"rms z is of {folder / SCORES}."
        if known
        else "No scores yet: resistime-catalogue score all"
    )
    yield "resistime-catalogue ALIAS prints one; resistime scenario=ALIAS runs it."


def _stored(folder: Path) -> dict[str, float]:
    """Root mean square z of each scenario in the scores of a folder."""
    path = folder / SCORES
    if not path.is_file():
        return {}
    import csv

    squares: dict[str, list[float]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                z = float(row["z"] or "nan")
                if z == z:
                    squares.setdefault(row["scenario"], []).append(z * z)
    except (KeyError, ValueError):
        return {}
    return {name: (sum(found) / len(found)) ** 0.5 for name, found in squares.items()}


def _page(entry: Entry, run: Run) -> Iterator[str]:
    """Everything that is known of one trial."""
    published = run.published
    assert published is not None
    yield f"{entry.name}, alias {entry.alias}"
    yield published.title
    if published.reviewed:
        yield from (f"Cite: {line}" for line in citations([published.citation]).values())
    else:
        yield f"Warning: {unreviewed(published.title)}."
    yield "\nDesign"
    yield from (f"  {what}: {told}" for what, told in published.design.items())
    yield f"  follow-up of hazard ratios: {published.follow_up:g} months"
    yield "\nArms"
    for strategy in run.scenario.strategies:
        doses = ", ".join(
            run.labels[dose.agent]
            + (f" until {dose.stop:g} months" if dose.stop < float("inf") else "")
            for dose in strategy.doses
        )
        control = ", control" if strategy.name == published.control else ""
        n = published.n.get(strategy.name)
        count = "" if n is None else f", {n} patients"
        yield f"  {strategy.name}: {doses}{count}{control}"
        if strategy.crossover > 0.0:
            yield f"    crossing over at detected progression: {strategy.crossover:g}"
    yield f"\nTargets ({len(run.targets)}): value, tolerance, n; source; how it was checked"
    yield from _target_lines(run.targets, published.misfits)
    counts = ", ".join(f"{n} {kind}" for kind, n in claim_counts(run.claims).items() if n)
    yield f"\nClaims ({len(run.claims)}: {counts})"
    width = max(len(claim.path) for claim in run.claims)
    for claim in run.claims:
        checked = f" ({claim.checked})" if claim.checked else ""
        yield f"  {claim.path:{width}}  {claim.value:<8g}  {claim.source}{checked}: {claim.where}"


def _target_lines(targets: Sequence[TargetConfig], misfits: Mapping[str, str]) -> Iterator[str]:
    arm = ""
    for target in targets:
        if target.strategy != arm:
            arm = target.strategy
            yield f"  {arm}"
        what = target.measure + (f" in {target.stratum}" if target.stratum else "")
        limits = f" ({target.interval[0]:g} to {target.interval[1]:g})" if target.interval else ""
        yield (
            f"    {what:48}{target.value:g}{limits}, {target.tolerance:g}, {target.n}; "
            f"{target.source}: {target.where}; {target.checked}"
        )
        reason = misfits.get(target_name(target))
        if reason:
            yield f"      known misfit: {reason}"


# ---------------------------------------------------------------- scores


def _score(entries: Sequence[Entry], asked: argparse.Namespace) -> None:
    import pandas as pd

    from analysis.published import compare_targets

    asked.folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, pd.DataFrame] = {}
    for entry in progress_bar("trials")(entries):
        run = _load(entry)
        cohort = simulate_cohort(
            run.scenario, n_patients=asked.patients, seed=asked.seed, follow_up=run.follow_up
        )
        table = compare_targets(run.targets, cohort, run.scenario, run.published)
        table.insert(0, "scenario", entry.name)
        tables[entry.name] = table
        print("\n".join(_score_lines(entry, run, table)), end="\n\n")
        if not asked.no_figures:
            _draw(asked, entry, run, table)
    scores = pd.concat([_others(asked.folder, tables), *tables.values()], ignore_index=True)
    write_table(asked.folder / SCORES, scores)
    print(f"{len(tables)} trials, {asked.patients} simulated patients an arm, seed {asked.seed}.")
    print("Targets that were fitted are no test of the model.")
    print(f"{asked.folder / SCORES}" + ("" if asked.no_figures else ", and a figure for each"))


def _others(folder: Path, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """What an earlier call has left in the folder of trials that are not scored now."""
    import pandas as pd

    empty = next(iter(tables.values())).iloc[:0]
    try:
        old = pd.read_csv(folder / SCORES, keep_default_na=False, na_values={"z": [""]})
    except (OSError, ValueError):
        return empty
    if list(old.columns) != list(empty.columns):
        return empty
    return old[~old["scenario"].isin(tables)]


def _score_lines(entry: Entry, run: Run, table: pd.DataFrame) -> Iterator[str]:
    from analysis.published import score_arms

    published = run.published
    assert published is not None
    yield f"{entry.name}: {published.title}"
    if not published.reviewed:
        yield f"Warning: {unreviewed(published.title)}."
    for (name, rows), score in zip(
        table.groupby("strategy", sort=False), score_arms(table), strict=True
    ):
        yield f"  {run.labels[str(name)]} ({name})"
        yield f"    {'':48}{'published':>10}{'simulated':>11}{'mc error':>10}{'z':>8}"
        for i, row in rows.iterrows():
            what = row["measure"] + (f" in {row['stratum']}" if row["stratum"] else "")
            recalled = "  recalled" if row["checked"] == "memory" else ""
            yield (
                f"    {what:48}{row['published']:>10.4g}{row['simulated']:>11.4g}"
                f"{row['mc_error']:>10.2g}{row['z']:>8.2f}{recalled}"
            )
            reason = published.misfits.get(target_name(run.targets[int(i)]))
            if reason:
                yield f"      known misfit: {reason}"
        yield (
            f"    rms z {score.rms:.2f} ({score.rms_read:.2f} of the {score.n_read} that were "
            f"read), {score.n_beyond} of these beyond 3"
        )


def _draw(asked: argparse.Namespace, entry: Entry, run: Run, table: pd.DataFrame) -> None:
    from figures.catalogue import draw_scores

    assert run.published is not None
    draw_scores(
        asked.folder,
        f"score_{entry.alias.lower()}",
        title=run.published.title,
        table=table,
        labels=run.labels,
        note=f"{asked.patients:,} simulated patients in each arm, seed {asked.seed}."
        + ("" if run.published.reviewed else " Not reviewed."),
    )


if __name__ == "__main__":
    main()
