"""The sweeps that are shipped: each a question and its answer, every cell of which can be made."""

from __future__ import annotations

import functools
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import configs
from figures.sweep import check_kind
from figures.sweep_choice import PATHS_OF_CUT, Choice
from figures.sweep_tables import FACETS
from sim.config import read_config
from sim.sweep.cell import make_cell
from sim.sweep.definition import Definition
from sim.sweep.folder import define, record

ROOT = Path(configs.__file__).parent / "sweep"
NAMES = sorted(path.stem for path in ROOT.glob("*.yaml"))
each_sweep = pytest.mark.parametrize("name", NAMES)

COLUMNS = [
    "cut", "arm", "endpoint", "method", "measure", "estimate", "mc_error", "n_replicates",
    "n_patients",
]  # fmt: skip


@pytest.fixture(scope="module")
def sweep(composed) -> Callable[..., Definition]:
    """A shipped sweep, perhaps with other overrides."""

    @functools.cache
    def defined(name: str, *overrides: str) -> Definition:
        typed = [f"sweep={name}", *overrides]
        return define(read_config(composed(*typed)), typed)

    return defined


def rows_of(definition: Definition, **swept: Any) -> pd.DataFrame:
    """What the one cell with these values shows; paths are given by their end."""
    paths = {
        next(p for p in definition.grid.paths if p.endswith(end)): x for end, x in swept.items()
    }
    found = [
        values
        for values in definition.grid.cells
        if all(values.get(path) == value for path, value in paths.items())
        and (definition.config.each is None or set(values) == set(paths))
    ]
    assert found, swept
    cell = definition.base(found[0]).cell(definition.own_values(found[0]))
    *_, made = make_cell(cell, definition.asked, None)
    return pd.DataFrame(made.rows, columns=COLUMNS)


def one(rows: pd.DataFrame, measure: str, **facets: str) -> tuple[float, float]:
    """Estimate and Monte Carlo error of one row."""
    own = rows[rows["measure"] == measure]
    for name, value in facets.items():
        own = own[own[name] == value]
    assert len(own) == 1, (measure, facets)
    return float(own["estimate"].iloc[0]), float(own["mc_error"].iloc[0])


# ---------------------------------------------------------------- the files


def test_there_are_ten():
    assert len(NAMES) == 10


@each_sweep
def test_it_is_a_question_with_what_to_notice(sweep, name):
    config = sweep(name).config
    assert config.name == name
    assert config.question.endswith("?")
    assert 80 < len(config.notice) < 1000
    # What is noticed is numbers.
    assert sum(word[0].isdigit() for word in config.notice.split()) >= 4


def examples(name: str, command: str) -> list[list[str]]:
    """Arguments of the commands in a file's opening comment; three spaces begin a remark."""
    lines = (ROOT / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    shown = [line[4:] for line in lines if line.startswith(f"#   {command} ")]
    return [shlex.split(re.split(r" {3,}", line)[0])[1:] for line in shown]


@each_sweep
def test_it_opens_with_commands_that_can_be_typed(sweep, name):
    lines = (ROOT / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith("# ")
    typed = examples(name, "resistime")
    assert len(typed) >= 2
    for first, *others in typed:
        assert first == f"sweep={name}"
        # Its first cell is checked.
        assert sweep(name, *others).grid.cells


@each_sweep
def test_the_figures_in_its_opening_can_be_asked_for(sweep, name):
    definition = sweep(name)
    for kind, folder, *options in examples(name, "resistime-figures"):
        check_kind(kind)
        assert folder == "DIR"
        given = dict(zip(options[::2], options[1::2], strict=True))
        Choice.of(kind, {option.removeprefix("--"): value for option, value in given.items()})
        for option in {"--over", "--by", "--where"} & set(given):
            end = given[option].partition("=")[0]
            paths = [p for p in definition.grid.paths if p == end or p.endswith(f".{end}")]
            assert len(paths) == 1 or end in FACETS or end in PATHS_OF_CUT, end


@each_sweep
def test_every_axis_has_a_label(sweep, name):
    definition = sweep(name)
    for path in definition.grid.paths:
        assert definition.config.labels.get(path), path


@each_sweep
def test_its_figures_are_of_kinds_that_there_are(sweep, name):
    definition = sweep(name)
    assert definition.config.figures
    stems = []
    for figure in definition.config.figures:
        check_kind(figure.kind)
        Choice.of(figure.kind, figure.options)
        stems.append(figure.options.get("output", f"sweep_{figure.kind}"))
        where = figure.options.get("where", [])
        asked = [
            *where,
            *(figure.options[k] for k in ("over", "by", "size") if k in figure.options),
        ]
        for text in asked:
            path = text.partition("=")[0]
            assert path in {*definition.grid.paths, *FACETS}, path
    # None is drawn over another.
    assert len(set(stems)) == len(stems)


@each_sweep
def test_every_cell_passes_the_gate(sweep, name):
    definition = sweep(name)
    for values in definition.grid.cells:
        definition.base(values).cell(definition.own_values(values))


@each_sweep
def test_it_differs_only_in_what_it_sweeps(sweep, name):
    """A number about patients that a sweep sets without sweeping it would keep its citation."""
    definition = sweep(name)
    text = (ROOT / f"{name}.yaml").read_text(encoding="utf-8")
    keys = {line.partition(":")[0] for line in text.splitlines() if line[:1].isalpha()}
    assert keys <= {
        "defaults", "n_replicates", "cohort", "trial", "analysis", "assessment", "strategies",
        "sweep",
    }  # fmt: skip
    assert len(definition.grid.cells) <= 100


# ---------------------------------------------------------------- what they show


def test_a_later_benefit_costs_the_log_rank_test_power_and_late_weights_less(sweep):
    """In 200 trials of the same patients, with errors of at most 0.035 for each power."""
    definition = sweep("late_benefit", "n_replicates=200")
    power = {
        onset: [
            one(rows, "power", method=method)[0]
            for method in ("logrank", "fleming_harrington(0,1)")
        ]
        for onset in (0.0, 4.0, 8.0)
        for rows in [rows_of(definition, onset=onset, n_patients=400)]
    }
    assert power[0.0][0] > power[4.0][0] + 0.08 > power[8.0][0] + 0.28
    assert power[0.0][1] - power[8.0][1] < power[0.0][0] - power[8.0][0]
    assert power[0.0][0] > power[0.0][1]
    assert power[8.0][1] > power[8.0][0] + 0.1


def test_as_many_are_screened_as_the_test_lets_through(sweep):
    """All enter before the cut in these cells: n over the share of positive tests, to 4 errors."""
    definition = sweep("enrichment", "n_replicates=400")
    for sensitivity, specificity in ((1.0, 0.0), (0.6, 0.0), (0.6, 0.6)):
        rows = rows_of(
            definition, checkpoint_exhaustion=0.1, sensitivity=sensitivity, specificity=specificity
        )
        positive = sensitivity * 0.1 + (1.0 - specificity) * 0.9
        screened, error = one(rows, "screened")
        assert one(rows, "enrolled")[0] == 300.0
        assert abs(screened - 300.0 / positive) <= 4.0 * error
        assert error < 3.0


def test_early_and_late_differences_of_one_hazard_ratio_have_different_tests(sweep):
    """Fleming-Harrington less log-rank in 200 trials: -0.37 and 0.09, with errors below 0.035."""
    definition = sweep("primary_or_acquired", "n_replicates=200", "sweep.cohort=false")
    rows = rows_of(definition, n_patients=900, follow_up=24.0)
    for arm, sign in (("anti_pd1_less_primary", -1.0), ("anti_pd1_less_acquired", 1.0)):
        late, even = (
            one(rows, "power", arm=arm, endpoint="pfs", method=method)[0]
            for method in ("fleming_harrington(0,0.5)", "logrank")
        )
        assert sign * (late - even) > 0.03
    (first, e1), (second, e2) = (
        one(rows, "mean_estimate", arm=arm, endpoint="pfs", method="cox")
        for arm in ("anti_pd1_less_primary", "anti_pd1_less_acquired")
    )
    # One log hazard ratio of -0.23, within 4 errors and what it was matched to.
    assert abs(first - second) <= 4.0 * np.hypot(e1, e2) + 0.005
    assert np.hypot(e1, e2) < 0.01


def test_what_delays_the_scan_moves_pfs_and_what_prevents_resistance_moves_survival(sweep):
    definition = sweep(
        "delay_or_prevention", "n_replicates=50", "cohort.n_patients=4000", "trial.n_patients=100"
    )
    delayed, prevented = (
        rows_of(definition, **x) for x in ({"growth_ratio": 0.5}, {"durability": 0.28})
    )
    gain = functools.partial(one, measure="rmst_difference_60")
    for rows, least, most in ((delayed, 0.05, 0.3), (prevented, 0.4, 0.9)):
        (pfs, _), (os, error) = (gain(rows, endpoint=name) for name in ("pfs", "os"))
        assert least < os / pfs < most
        # 4 errors fit between the two ranges.
        assert 8.0 * error / pfs < 0.5
    # Slower regrowth leaves the time of resistance, and who resists from the start, as they were.
    share = [
        one(rows, "primary_resistance", arm=arm)[0]
        for rows in (delayed, prevented)
        for arm in ("anti_pd1", "anti_pd1_partner")
    ]
    assert len(set(share)) == 1


def test_scans_change_what_is_called_primary_and_not_what_is(sweep):
    definition = sweep(
        "scan_interval", "n_replicates=50", "cohort.n_patients=4000", "trial.n_patients=100"
    )
    often, rarely = (rows_of(definition, every=weeks) for weeks in (3.0, 24.0))
    latent = [one(x, "primary_resistance", arm="anti_pd1") for x in (often, rarely)]
    assert latent[0] == latent[1]
    labelled = [
        one(x, "labelled_primary", arm="anti_pd1", endpoint="hudson2024") for x in (often, rarely)
    ]
    assert labelled[0][0] - labelled[1][0] > 4.0 * np.hypot(labelled[0][1], labelled[1][1])
    median = [one(x, "median", arm="anti_pd1", endpoint="pfs")[0] for x in (often, rarely)]
    assert median[1] - median[0] > 1.0


def test_the_coupling_moves_the_combination_and_neither_drug_alone(sweep):
    definition = sweep(
        "independent_action", "n_replicates=50", "cohort.n_patients=4000", "trial.n_patients=100"
    )
    none, strong = (
        rows_of(definition, rule="independent_action", spearman=rho) for rho in (0.0, 0.6)
    )
    own = [x[(x["arm"] == "anti_pd1") & (x["cut"] == "")] for x in (none, strong)]
    pd.testing.assert_frame_equal(*(x.reset_index(drop=True) for x in own))
    # The other drug's rank is drawn anew, from the same law.
    (first, e1), (second, e2) = (
        one(x, "rate_12", arm="chemotherapy", endpoint="pfs") for x in (none, strong)
    )
    assert abs(first - second) <= 4.0 * np.hypot(e1, e2)
    gain = [
        one(x, "rate_difference_12", arm="anti_pd1_chemotherapy", endpoint="os")
        for x in (none, strong)
    ]
    assert gain[0][0] - gain[1][0] > 4.0 * np.hypot(gain[0][1], gain[1][1])


def test_more_toxicity_takes_more_of_the_benefit_of_a_third_drug(sweep):
    definition = sweep(
        "triplet_toxicity", "n_replicates=50", "cohort.n_patients=4000", "trial.n_patients=100"
    )
    gain = {
        (durable, fatal): one(
            rows_of(
                definition,
                **{"discontinuation.early": 0.018, "durability": durable, "fatal.early": fatal},
            ),
            "rmst_difference_60",
            endpoint="os",
        )
        for durable in (0.0, 0.45)
        for fatal in (0.001, 0.02)
    }
    for durable in (0.0, 0.45):
        (mild, e1), (toxic, e2) = gain[durable, 0.001], gain[durable, 0.02]
        assert mild - toxic > 4.0 * np.hypot(e1, e2)
    for fatal in (0.001, 0.02):
        (without, e1), (lasting, e2) = gain[0.0, fatal], gain[0.45, fatal]
        assert lasting - without > 4.0 * np.hypot(e1, e2)


def test_what_to_notice_says_whose_numbers_it_has(sweep, tmp_path):
    notices = []
    for others in ([], ["agents.delayed.hazard_ratio.escape=0.5"]):
        definition = sweep("late_benefit", *others)
        record(definition, tmp_path)
        notices.append(json.loads((tmp_path / "sweep.json").read_text(encoding="utf-8"))["notice"])
    assert notices[0] == definition.config.notice
    assert notices[1] == f"Without further settings: {notices[0]}"
