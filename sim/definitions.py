"""Rules that tell primary from acquired resistance by what was observed.

Consensus groups and trials define resistance differently, and none of them
can see the latent class. A rule here is applied to an observed record (best
response, progression, exposure, time off drug) and never to anything latent.
What the rules leave open is a label of its own, not a guess.

References
----------
.. [1] Kluger et al. (2020), JITC 8:e000398 (SITC, monotherapy).
.. [2] Rizvi et al. (2023), JITC 11:e005920 (SITC, chemotherapy combinations).
.. [3] Schoenfeld et al. (2021), Annals of Oncology 32:1597.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.assessment import CR, PD, PR, SD, Observed
from sim.errors import ScenarioError
from sim.scenario import DAYS_PER_MONTH

__all__ = ["KINDS", "LABELS", "Definition", "classify"]

KINDS = ("best_response", "time", "response", "exposure")
"""What a rule goes by: response and duration, time alone, response alone, exposure alone."""

LABELS = (
    "no_progression",
    "primary",
    "acquired",
    "gap",
    "not_acquired",
    "unconfirmed",
    "late_off_drug",
    "not_evaluable",
    "early_death",
    "not_applicable",
)
"""What a rule can say of a patient, in the order of the codes."""

(
    NO_PROGRESSION, PRIMARY, ACQUIRED, GAP, NOT_ACQUIRED, UNCONFIRMED, LATE_OFF_DRUG,
    NOT_EVALUABLE, EARLY_DEATH, NOT_APPLICABLE,
) = range(len(LABELS))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Definition:
    """One rule. Thresholds are in months, exposures and off-drug windows in weeks."""

    name: str
    label: str

    kind: str
    """One of `KINDS`."""

    threshold: float = 6.0
    """Months that separate primary from acquired resistance."""

    threshold_is_primary: bool = False
    """Whether progression at exactly the threshold is primary."""

    early_responder: str = "gap"
    """What progression before the threshold is called in a patient who had responded."""

    exposure_primary: float = 0.0
    """Least exposure for primary resistance, weeks; waived where progression is rapid."""

    exposure_acquired: float = 0.0
    """Least exposure for acquired resistance, weeks."""

    off_drug: float = np.inf
    """Weeks after the last dose within which progression still counts."""

    confirmation: bool = False
    """Whether progression must be confirmed; waived where it is rapid."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ScenarioError(f"kind must be one of {', '.join(KINDS)}, got '{self.kind}'")


def classify(observed: Observed, rule: Definition) -> NDArray[np.int8]:
    """Label every patient of an observed record by one rule.

    Parameters
    ----------
    observed : Observed
        Arrays of any one shape.
    rule : Definition
        The rule.

    Returns
    -------
    ndarray of int8
        Codes of `LABELS`, in the shape of the record. Death without
        progression is covered by no rule: before the threshold it is
        `early_death`, later `no_progression`. A strategy without ICI is
        `not_applicable`.
    """
    week = 7.0 / DAYS_PER_MONTH
    progressed = np.isfinite(observed.progression_time)
    time = np.where(progressed, observed.progression_time, 0.0)
    exposure = np.minimum(observed.last_dose, time) if progressed.any() else time
    off = np.maximum(time - observed.last_dose, 0.0)
    early = time <= rule.threshold if rule.threshold_is_primary else time < rule.threshold
    responded = np.isin(observed.best_response, (CR, PR))

    label = _by_kind(observed, rule, early, responded, exposure >= rule.exposure_acquired * week)
    label = np.where(
        (label == PRIMARY) & (exposure < rule.exposure_primary * week) & ~observed.rapid,
        NOT_EVALUABLE,
        label,
    )
    label = np.where(off > rule.off_drug * week, LATE_OFF_DRUG, label)
    if rule.confirmation:
        label = np.where(~observed.confirmed & ~observed.rapid, UNCONFIRMED, label)
    died_early = observed.os_event & (observed.os_time <= rule.threshold)
    label = np.where(progressed, label, np.where(died_early, EARLY_DEATH, NO_PROGRESSION))
    return np.where(observed.immune, label, NOT_APPLICABLE).astype(np.int8)


def _by_kind(
    observed: Observed,
    rule: Definition,
    early: NDArray[np.bool_],
    responded: NDArray[np.bool_],
    exposed: NDArray[np.bool_],
) -> NDArray[np.intp]:
    acquired = np.where(exposed, ACQUIRED, NOT_EVALUABLE)
    if rule.kind == "time":
        return np.where(early, PRIMARY, acquired)
    if rule.kind == "response":
        return np.where(responded, ACQUIRED, NOT_ACQUIRED)
    if rule.kind == "exposure":
        return np.where(exposed, ACQUIRED, NOT_ACQUIRED)
    codes = {"primary": PRIMARY, "acquired": ACQUIRED, "gap": GAP}
    after_response = np.where(early, codes[rule.early_responder], acquired)
    after_control = np.where(early, PRIMARY, acquired)
    best = observed.best_response
    label = np.where(best == PD, PRIMARY, np.where(best == SD, after_control, NOT_EVALUABLE))
    return np.where(responded, after_response, label)
