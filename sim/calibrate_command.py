"""The command ``resistime-calibrate``: the resistance model fitted to the survival of one arm.

Reads the data, composes where the fit begins, has `analysis` fit and judge, and
writes the fitted scenario, tables and a figure. What goes wrong through the
user's doing ends as one line and status 2.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim.arguments import OneLineParser, answer_arguments
from sim.config import check_run, read_config
from sim.errors import ScenarioError, unknown_name
from sim.parameter import Parameter, Template
from sim.provenance import program_version
from sim.schema import RunConfig
from sim.storage import write_json

if TYPE_CHECKING:
    from analysis.calibration import Calibration, Profile
    from analysis.judge import Judgement

__all__ = ["main"]

FloatArray = NDArray[np.float64]

KINDS = {
    "ici": "calibration_ici",
    "platinum": "calibration_chemotherapy",
    "docetaxel": "calibration_chemotherapy",
    "ici+platinum": "calibration_both",
    "ici+docetaxel": "calibration_both",
}
"""What an arm may be given, and the strategy that stands for it."""

DESCRIPTION = """\
Fit the resistance model to the survival of one arm: how many resist from the start, how long
benefit lasts, how many keep it, and how death follows. The file has the columns arm, endpoint
(PFS or OS), time_months and event, one row for each patient and endpoint, as from patients or
from a digitised curve.
"""

EPILOG = """\
examples
  resistime-calibrate trial.csv --arm pembrolizumab --kind ici --scans keynote024 --stop 24.15
  resistime-calibrate trial.csv --arm docetaxel --kind docetaxel --line later --scans oak \\
                      --crossover 0.2
  resistime-calibrate trial.csv --arm atezolizumab --line later --scans oak --targets t.csv
  resistime --config-dir=outputs/calibration/config scenario=fitted      simulate what was fitted

what is fitted, and how
  Progression is seen at scans: its likelihood is of the intervals between them, so the scan grid
  of the trial must be given (--scans, a file of configs/assessment). Deaths are counted by the
  month. Estimates are the most probable values; priors are what eight published trials together
  say of a new trial of the same line, PD-L1 and treatment, with twice the scatter, so that data
  outweigh them. Lags from resistance to progression come from the kinetics of tumours and hardly
  move.

what data can say
  One survival curve gives a shape, and no share of primary resistance: that needs best-response
  rates (--targets: orr, bor_pd). A durable share needs five years of follow-up. Numbers that
  these data do not settle are marked "not identified": their estimate is mostly the prior's.
  Profiles show it.

For research and teaching, not for treating patients.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``resistime-calibrate`` with the arguments of the command line."""
    answer_arguments(_parser(), _run, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="resistime-calibrate",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="DATA.csv", help="survival data")
    data = parser.add_argument_group("which data")
    data.add_argument("--arm", help="arm to fit, where the file holds several")
    data.add_argument("--trial", help="its trial, where the file holds several")
    data.add_argument(
        "--unit", choices=("months", "weeks", "days", "years"),
        help="of the times; without it they must look like months",
    )  # fmt: skip
    data.add_argument(
        "--targets", metavar="FILE", help="published numbers beside the curves: measure,value,n"
    )
    arm = parser.add_argument_group("what the arm was given, and how it was watched")
    arm.add_argument("--kind", default="ici", metavar="KIND", help=f"{', '.join(KINDS)} (ici)")
    arm.add_argument(
        "--line", default="first", metavar="LINE", help="first, later or after_ici (first)"
    )
    arm.add_argument(
        "--pdl1", default="all", metavar="MIX",
        help="high, low, negative, all, or shares as high=0.3,low=0.7 (all)",
    )  # fmt: skip
    arm.add_argument(
        "--scans", metavar="NAME",
        help="scan grid: a file of configs/assessment, such as keynote024; needed with PFS",
    )  # fmt: skip
    arm.add_argument(
        "--stop", type=float, default=float("inf"), metavar="MONTHS",
        help="planned end of the ICI (none)",
    )  # fmt: skip
    arm.add_argument(
        "--crossover", type=float, default=0.0, metavar="SHARE",
        help="of patients of a chemotherapy arm who cross over to an ICI once they progress (0)",
    )  # fmt: skip
    output = parser.add_argument_group("output")
    output.add_argument(
        "--folder", type=Path, default=Path("outputs/calibration"), metavar="DIR",
        help="what is written goes there (outputs/calibration)",
    )  # fmt: skip
    output.add_argument("--name", default="fitted", help="of the scenario that is written (fitted)")
    output.add_argument("--no-figure", action="store_true", help="do not draw the page")
    return parser


def _run(asked: argparse.Namespace) -> None:
    _check(asked)
    from analysis.survival_data import read_survival_data, read_targets

    data = read_survival_data(asked.file, arm=asked.arm, trial=asked.trial, unit=asked.unit)
    targets = read_targets(asked.targets, data) if asked.targets else ()
    if "pfs" in data.endpoints and asked.scans is None:
        raise ScenarioError(
            "--scans must name the trial's scan grid, because progression is seen at scans; "
            f"one of {', '.join(_grids())}"
        )
    start = _start(asked)
    template = Template(start, _parameters(asked))
    from analysis.calibration import PublishedValue, calibrate, calibration_rows, profile_parameters
    from analysis.judge import judge

    scenario = check_run(start).scenario
    rows = calibration_rows(
        {name: (one.time, one.event) for name, one in data.endpoints.items()}, scenario.assessment
    )
    published = [PublishedValue(t.measure, t.value, t.standard_error) for t in targets]
    strategy = KINDS[asked.kind]
    print(f"fitting {len(template.parameters)} numbers to {data.arm} of {asked.file} ...")
    found = calibrate(template.scenario, strategy, template.parameters, rows, published)
    profiles = profile_parameters(found)
    curves = {name: (one.time, one.event) for name, one in data.endpoints.items()}
    judged = judge(found, curves, profiles, [t.measure for t in targets])
    _report(asked, data.arm, found, judged)
    _write(asked, data, template, found, profiles, judged)


# ---------------------------------------------------------------- what is asked


def _check(asked: argparse.Namespace) -> None:
    from analysis.pooling import LINES

    if asked.kind not in KINDS:
        raise unknown_name("--kind", "kind of arm", asked.kind, KINDS)
    if asked.line not in LINES:
        raise unknown_name("--line", "line", asked.line, LINES)
    if asked.scans is not None and asked.scans not in _grids():
        raise unknown_name("--scans", "scan grid", asked.scans, _grids())
    if not asked.stop > 0.0:
        raise ScenarioError(f"--stop must be greater than 0 months, got {asked.stop:g}")
    if not 0.0 <= asked.crossover <= 1.0:
        raise ScenarioError(
            f"--crossover must be a fraction between 0 and 1, got {asked.crossover:g}"
        )
    if asked.crossover and KINDS[asked.kind] != "calibration_chemotherapy":
        raise ScenarioError(f"--crossover is for arms of chemotherapy alone, not for {asked.kind}")
    if not asked.name.isidentifier():
        raise ScenarioError(f"--name must be letters, digits and _, got '{asked.name}'")
    pdl1_mix(asked.pdl1)


def pdl1_mix(text: str) -> dict[str, float]:
    """Shares of PD-L1 classes that `--pdl1` names.

    Raises
    ------
    ScenarioError
        If a class is unknown or shares do not add up to 1.

    Examples
    --------
    >>> pdl1_mix("high=0.4,low=0.6")
    {'high': 0.4, 'low': 0.6}
    """
    from analysis.pooling import CLASSES

    classes = ("high", "low", "negative")
    if text == "all":
        return dict(CLASSES["all"])
    if text in classes:
        return {text: 1.0}
    mix: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        if name not in classes:
            raise unknown_name("--pdl1", "PD-L1 class", name, (*classes, "all"))
        try:
            mix[name] = float(share)
        except ValueError:
            raise ScenarioError(f"--pdl1: '{part}' must be {name}=SHARE") from None
    total = sum(mix.values())
    if any(not 0.0 <= share <= 1.0 for share in mix.values()) or abs(total - 1.0) > 1e-6:
        raise ScenarioError(f"--pdl1 must be fractions that add up to 1, got {text}")
    return mix


def _grids() -> list[str]:
    from importlib.resources import files

    names = (path.name for path in (files("configs") / "assessment").iterdir())
    return sorted(
        name.removesuffix(".yaml")
        for name in names
        if name.endswith(".yaml") and not name.startswith("special_")
    )


def _start(asked: argparse.Namespace) -> RunConfig:
    """The configuration where the fit begins."""
    from sim.command import register_schema
    from sim.sweep.definition import composed

    register_schema(RunConfig)
    strategy = KINDS[asked.kind]
    overrides = ["scenario=calibration", f"strategy=[{strategy}]"]
    overrides.append(f"assessment={asked.scans or 'continuous'}")
    if strategy != "calibration_chemotherapy" and np.isfinite(asked.stop):
        overrides.append(f"strategies.{strategy}.doses.calibration_ici.stop={asked.stop}")
    if asked.crossover:
        overrides.append(f"strategies.{strategy}.crossover={asked.crossover}")
    return read_config(composed(overrides))


WIDER = 2.0
"""Factor on the standard deviations of the pooled priors."""

LAGS = (("primary_lag", 1.05), ("acquired_lag", 2.5))
LAG_SD = 0.25
"""Of the logarithms of the median lags: how well tumour kinetics tell them (assumption)."""


def _parameters(asked: argparse.Namespace) -> tuple[Parameter, ...]:
    """The free numbers with their priors: a new trial of the pool, scattered twice as much."""
    from importlib.resources import files

    from analysis.pooling import PooledMeans, new_trial, tied_parameters

    pool = PooledMeans.read(files("configs") / "pool" / "nsclc.json")
    immune = KINDS[asked.kind] != "calibration_chemotherapy"
    chemotherapy = asked.kind.rpartition("+")[2]
    active = {} if asked.kind == "ici" else {"calibration_chemotherapy": chemotherapy}
    strata = {"all": pdl1_mix(asked.pdl1)}
    tied = tied_parameters(asked.line, strata, immune, active, joint=immune and bool(active))
    trial = new_trial(pool, tied)
    sds = np.sqrt(np.diag(trial.calibration) + trial.between)
    found = []
    for one, mean, sd in zip(tied, trial.centre.tolist(), sds.tolist(), strict=True):
        p = one.parameter
        name = p.name.partition("/")[0]
        found.append(Parameter(name, p.path, p.scale, p.value(mean), WIDER * sd))
    lags = [Parameter(name, f"course.{name}", "log", mean, LAG_SD) for name, mean in LAGS]
    return (*found, *lags)


# ---------------------------------------------------------------- what is said


def _report(asked: argparse.Namespace, arm: str, found: Calibration, judged: Judgement) -> None:
    print(f"\n{'':22s} estimate  std.error     prior mean   identified by these data")
    for p, value, error, why in zip(
        found.parameters, found.values, found.standard_errors, judged.unidentified, strict=True
    ):
        print(f"{p.name:22s} {value:8.4g}  {error:9.3g}     {p.mean:10.4g}   {why or 'yes'}")
    for row in judged.endpoints:
        print(
            f"\n{row.endpoint.upper()}: mean absolute difference from Kaplan-Meier, largest, "
            "AIC, BIC"
        )
        for fit in row.fits:
            print(
                f"  {fit.name:18s} {fit.mean_difference:7.4f} {fit.largest_difference:7.4f} "
                f"{fit.aic:9.1f} {fit.bic:9.1f}"
            )
    for warning in judged.warnings:
        print(f"\nwarning: {warning}")
    if not found.fit.converged:
        print("\nwarning: the search ended before it settled; estimates are not to be relied on")


def _write(
    asked: argparse.Namespace,
    data: Any,
    template: Template,
    found: Calibration,
    profiles: Sequence[Profile],
    judged: Judgement,
) -> None:
    from analysis.judge import fit_tables
    from sim.output import write_table

    place: Path = asked.folder
    place.mkdir(parents=True, exist_ok=True)
    curves = {name: (one.time, one.event) for name, one in data.endpoints.items()}
    tables, about = fit_tables(found, curves, profiles, judged, data.arm)
    for name, table in tables.items():
        write_table(place / f"{name}.csv", table)
    about |= {
        "arm": data.arm,
        "trial": data.trial or "",
        "file": Path(asked.file).name,
        "version": program_version(),
        "model": "Resistance model",
        "kind": asked.kind,
        "line": asked.line,
        "pdl1": pdl1_mix(asked.pdl1),
        "scans": asked.scans or "",
    }
    write_json(place / "fit.json", about)
    _write_configuration(asked, template, found, judged)
    written = [str(place / "fit.json"), *(str(place / f"{name}.csv") for name in tables)]
    if not asked.no_figure:
        from figures.calibration import write_calibration

        written += [str(path) for path in write_calibration(place)]
    print("\nwritten: " + ", ".join(written))
    print(f"simulate it: resistime --config-dir={place / 'config'} scenario={asked.name}")


@dataclass(frozen=True)
class _File:
    """One file of the fitted configuration."""

    path: str
    header: str
    content: Mapping[str, Any]


def _write_configuration(
    asked: argparse.Namespace, template: Template, found: Calibration, judged: Judgement
) -> None:
    """The fitted scenario as files of its own, each claim with where it comes from."""
    import yaml

    from sim.storage import write_text

    whole = template.config(found.values.tolist())
    for file in _files(asked, whole, _sources(asked, found, judged)):
        path = asked.folder / "config" / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        body = yaml.safe_dump(dict(file.content), sort_keys=False, width=100, allow_unicode=True)
        write_text(path, f"{file.header}\n{body}")


def _sources(
    asked: argparse.Namespace, found: Calibration, judged: Judgement
) -> dict[str, dict[str, str]]:
    """What to say of each fitted number, by its path."""
    said = {}
    for p, value, error, why in zip(
        found.parameters, found.values, found.standard_errors, judged.unidentified, strict=True
    ):
        note = f"fit to {Path(asked.file).name}: {value:.4g}, standard error {error:.2g}"
        if why:
            note += f"; not identified ({why}), mostly the prior's"
        said[p.path] = {"source": "calibrated", "where": note}
    return said


def _files(
    asked: argparse.Namespace, whole: RunConfig, said: Mapping[str, Mapping[str, str]]
) -> list[_File]:
    from dataclasses import asdict

    name, strategy = asked.name, KINDS[asked.kind]
    agents = list(whole.strategies[strategy].doses)
    if asked.crossover and "calibration_ici" not in agents:
        agents.append("calibration_ici")
    renamed = {agent: f"{name}_{agent.removeprefix('calibration_')}" for agent in agents}
    about = f"# Fitted to {Path(asked.file).name} by resistime-calibrate."

    def part(node: Any, group: str) -> dict[str, Any]:
        content = asdict(node)
        for path, source in said.items():
            if path.startswith(f"{group}."):
                content["sources"][_claim(path.removeprefix(f"{group}."))] = dict(source)
        return content

    files = [
        _File(f"population/{name}.yaml", about, part(whole.population, "population")),
        _File(f"course/{name}.yaml", about, part(whole.course, "course")),
        _File(f"assessment/{name}.yaml", about, asdict(whole.assessment)),
    ]
    for agent, own in renamed.items():
        header = f"# @package agents.{own}\n{about}"
        content = part(whole.agents[agent], f"agents.{agent}")
        files.append(_File(f"agent/{own}.yaml", header, content))
    arm = asdict(whole.strategies[strategy])
    arm["doses"] = {renamed[agent]: dose for agent, dose in arm["doses"].items()}
    files.append(_File(f"strategy/{name}.yaml", f"# @package strategies.{name}\n{about}", arm))
    backbone = renamed.get("calibration_ici", "")
    scenario = {
        "defaults": [
            {"override /population": name},
            {"override /agent": list(renamed.values())},
            {"override /strategy": [name]},
            {"override /course": name},
            {"override /assessment": name},
            {"override /coupling": "independent_action"},
            "_self_",
        ],
        "description": f"Fitted to {Path(asked.file).name}",
        "backbone": backbone,
    }
    files.append(_File(f"scenario/{name}.yaml", f"# @package _global_\n{about}", scenario))
    return files


def _claim(path: str) -> str:
    """The key under `sources` of a fitted path."""
    if path.endswith(".primary"):
        return path.removesuffix("primary") + "baseline"
    return path.rpartition(".")[0] if path.rpartition(".")[2].isdigit() else path


if __name__ == "__main__":
    main()
