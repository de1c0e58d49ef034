"""Forecasts of hazard ratios against what was published: ``python tests/verification/backtest.py``.

Writes ``docs/validation/backtest.md`` and the two pictures of it in ``figures/gallery``. Takes about
two minutes. The script leaves with status 1 if Wilson's interval of the coverage of the pool's
forecasts does not hold 0.8, or a baseline beats the pool by more than two standard errors.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from analysis.backtest import backtest, compare_baselines, nearest_forecasts, score_forecasts
from analysis.effect_pooling import (
    Prior,
    family_effects,
    fit_pool,
    pooled_effects,
    predict_effect,
    probability_of_success,
    publication_table,
)
from analysis.effect_table import FAMILIES, known_before, read_effects
from figures.effects import backtest_page, effects_page
from figures.run import STYLE
from sim.provenance import software

ROOT = Path(__file__).parents[2]
NAMES = {
    "pooled": "pool", "nearest": "nearest contrast, its own interval",
    "nearest_both": "nearest contrast, with the error of both", "earlier": "mean of all earlier contrasts", "phase2": "raw phase 2",
}  # fmt: skip
VARIANTS = {
    "as stated": {},
    "prior of the means of kinds twice as wide": {"mean": 0.6},
    "prior of the spread of families twice as wide": {"family": 0.6},
    "prior of the spread of trials twice as wide": {"trial": 0.4},
    "prior of the spread of trials half as wide": {"trial": 0.1},
    "errors of PFS and OS correlate by 0.3": {"sampling": 0.3},
    "errors of PFS and OS correlate by 0.7": {"sampling": 0.7},
}
CITYSCAPE = {"pfs": (0.57, 0.37, 0.90, 0.95), "os": (0.69, 0.44, 1.07, 0.95)}
EVENTS = 400


def interval(low, middle, high):
    low, middle, high = np.exp([low, middle, high])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def forecast_rows(near):
    yield "| year | n | trial | endpoint | published | forecast (80 %) | | nearest | phase 2 |"
    yield "| --- " * 9 + "|"
    for row in near.itertuples(index=False):
        where = "" if row.stratum == "any" else f", PD-L1 {row.stratum}"
        phase2 = f"{np.exp(row.phase2):.2f} ({row.phase2_trial})" if np.isfinite(row.phase2) else ""
        yield (
            f"| {row.cutoff} | {row.n_pooled} | {row.trial}{where}: {row.agent} | {row.endpoint.upper()} | "
            f"{np.exp(row.observed):.2f} | {interval(row.pooled_lower, row.pooled, row.pooled_upper)} | "
            f"{'' if row.pooled_covered else '**outside**'} | {np.exp(row.nearest):.2f} ({row.nearest_trial}) | "
            f"{phase2} |"
        )


def score_rows(forecasts):
    yield "| | contrasts (trials) | coverage of 80 % | Wilson 95 % | absolute error of log HR (SE) | log score (SE) |"
    yield "| --- " * 6 + "|"
    for row in score_forecasts(forecasts).itertuples(index=False):
        if row.n:
            yield (
                f"| {NAMES[row.method]} | {row.n} ({row.trials}) | {row.covered}/{row.n} = {row.coverage:.2f} | "
                f"{row.coverage_lower:.2f} to {row.coverage_upper:.2f} | {row.error:.3f} ({row.error_se:.3f}) | "
                f"{row.log_score:+.2f} ({row.log_score_se:.2f}) |"
            )


def gain_rows(forecasts):
    yield "| pool less ... | contrasts (trials) | absolute error (SE) | log score (SE) | pool closer |"
    yield "| --- " * 5 + "|"
    for row in compare_baselines(forecasts).itertuples(index=False):
        if row.n:
            yield (
                f"| {NAMES[row.baseline]} | {row.n} ({row.trials}) | {row.error:+.3f} ({row.error_se:.3f}) | "
                f"{row.log_score:+.2f} ({row.log_score_se:.2f}) | {row.closer} of {row.n} |"
            )


def variant_rows(table):
    yield "| | coverage | absolute error | log score |"
    yield "| --- " * 4 + "|"
    runs = [(name, Prior(**more), 1.0) for name, more in VARIANTS.items()]
    runs += [(f"disappointing phase 2 published {p:g} times as often", None, p) for p in (0.5, 0.1)]
    for name, prior, publication in runs:
        near = nearest_forecasts(backtest(table, prior, publication=publication))
        row = score_forecasts(near).iloc[0]
        yield f"| {name} | {row['coverage']:.2f} | {row['error']:.3f} | {row['log_score']:+.2f} |"


def example_rows(table):
    """CITYSCAPE, as it stood in 2022, and the phase 3 that could follow."""
    known = known_before(table, 2022)
    pool = fit_pool(known)
    yield "| | median hazard ratio (80 %) | power at raw phase 2 | by shrinkage | by uncertainty | probability of success |"
    yield "| --- " * 6 + "|"
    for endpoint, name in (("pfs", "PFS"), ("os", "OS")):
        effect = predict_effect(pool, "tigit_added", CITYSCAPE, endpoint)
        found = probability_of_success(effect, EVENTS)
        low, middle, high = effect.interval()
        yield (
            f"| {name}, {EVENTS} events | {middle:.2f} ({low:.2f} to {high:.2f}) | {found.power_at_phase2:.2f} | "
            f"{found.shrinkage:+.2f} | {found.uncertainty:+.2f} | {found.probability:.2f} |"
        )


def publication_rows(table):
    yield "| chance of publication | shift, standard errors | median hazard ratio, OS (80 %) | probability of success |"
    yield "| --- " * 4 + "|"
    rows = publication_table(known_before(table, 2100), "tigit_added", "os", EVENTS)
    for row in rows.itertuples(index=False):
        yield (
            f"| {row.publication:g} | {row.shift:.2f} | {row.hazard_ratio:.2f} ({row.lower:.2f} to {row.upper:.2f}) | "
            f"{row.success:.2f} |"
        )


def draw(table, near):
    """Both pictures, with few colours as those of the gallery have."""
    pool = fit_pool(known_before(table, 2100))
    with matplotlib.rc_context(fname=STYLE):
        pages = {
            "effects_pooled": effects_page(
                pooled_effects(pool), family_effects(pool, 0.8), FAMILIES
            ),
            "effects_backtest": backtest_page(near),
        }
        for name, page in pages.items():
            memory = BytesIO()
            page.savefig(memory, format="png", metadata={"Software": None})
            picture = Image.open(memory).convert("RGB").quantize(256)
            picture.save(ROOT / "figures" / "gallery" / f"{name}.png", optimize=True)


def main() -> int:
    table = read_effects()
    forecasts = backtest(table)
    near = nearest_forecasts(forecasts)
    score, gain = score_forecasts(near).iloc[0], compare_baselines(near)
    draw(table, near)
    worse = near[near["pooled_error"] >= near["nearest_error"]]
    beaten = ", ".join(f"{r.trial} {r.endpoint.upper()}" for r in worse.itertuples(index=False))
    parameters = fit_pool(known_before(table, 2100)).parameters.set_index("parameter")
    told = ", ".join(
        f"{words} {parameters.loc[name, 'mean']:.2f} ({parameters.loc[name, 'sd']:.2f})"
        for name, words in (
            ("family", "spread of families"), ("trial", "spread of trials in a family"),
            ("correlation", "correlation of PFS and OS effects"), ("os_scale", "OS effects as a share of PFS effects"),
            ("agent_share", "share of the spread of trials that goes with the agent"),
        )
    )  # fmt: skip
    versions = software()
    lines = [
        "# Forecasts of hazard ratios",
        "",
        "`python tests/verification/backtest.py`. For each year the pool is fitted to the contrasts published in "
        "earlier years and predicts the phase 3 contrasts of trials first reported from then on. No number of a trial "
        "takes part in predicting the trial. Intervals are for the estimate that is published and hold its error.",
        "",
        "## Just before each trial's first report",
        "",
        *score_rows(near), "",
        *gain_rows(near), "",
        f"Copying the nearest contrast came closer for: {beaten}. The raw phase 2 can be judged on {int(near['phase2'].notna().sum())} "
        "contrasts only, too few to say anything: no agent of the table has a phase 2 that was published before its "
        "phase 3. S1800A is a phase 2 of the same class. CITYSCAPE, COAST and PEMBRO-RT have no phase 3 in the table, "
        "bintrafusp alfa and the LEAP trials no randomised phase 2, epacadostat no hazard ratio; POPLAR's number is "
        "its final one, later than OAK's first. The mean of all earlier contrasts, which knows nothing of strategies, "
        "is a harder rival than the two: the pool's medians are no closer than it to within the error of the "
        "difference, and what the pool knows of families shows in its intervals, if anywhere (log score).",
        "",
        "## All cut-off years",
        "",
        "Each contrast counts once for every year before its first report, so that rows go together even more.",
        "",
        *score_rows(forecasts), "",
        *gain_rows(forecasts), "",
        "## PFS and OS apart", "",
        "PFS:", "", *score_rows(near[near["endpoint"] == "pfs"]), "",
        "OS:", "", *score_rows(near[near["endpoint"] == "os"]), "",
        "## Families with and without an earlier contrast of that endpoint", "",
        "With one, so that what is copied is of the same family:", "",
        *score_rows(near[near["family_known"]]), "", *gain_rows(near[near["family_known"]]), "",
        "Without:", "", *score_rows(near[~near["family_known"]]), "", *gain_rows(near[~near["family_known"]]), "",
        "## With other assumptions", "",
        "Just before the first report; none of this was used to choose the assumptions.", "",
        *variant_rows(table), "",
        "## Shrinkage and the chance of success", "",
        "CITYSCAPE (phase 2, TIGIT: PFS 0.57, OS 0.69) with what was known before 2022: the true effect in a phase 3, "
        "and the chance that its log-rank test rejects at a one-sided 0.025.", "",
        *example_rows(table), "",
        "How a new TIGIT trial looks with all of the table, were disappointing phase 2 results published less often "
        "than encouraging ones (those with a one-sided p-value of at most 0.1):", "",
        *publication_rows(table), "",
        "## Every forecast", "",
        "n: contrasts known then.", "",
        *forecast_rows(near), "",
        "## The pool of today", "",
        f"{len(known_before(table, 2100))} contrasts. Posterior mean (standard deviation): {told}.", "",
        f"NumPy {versions['numpy']}, SciPy {versions['scipy']}.",
    ]  # fmt: skip
    place = ROOT / "docs" / "validation" / "backtest.md"
    place.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    asked = gain[gain["baseline"] != "earlier"]
    beats = (asked["error"] > 2.0 * asked["error_se"]).any()
    return int(beats or not score["coverage_lower"] <= 0.8 <= score["coverage_upper"])


if __name__ == "__main__":
    sys.exit(main())
