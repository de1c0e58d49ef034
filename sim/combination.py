"""How the effects of agents make the effect of a strategy.

A rule says how chances (of undoing a mechanism, of responding, of durability),
hazard ratios (on acquiring a mechanism) and times (until the benefit of an ICI
and of an agent with activity of its own are lost) combine. Each rule is a
function of those, with its closed form; nothing here draws a random number or
knows which agents are meant.

References
----------
.. [1] Palmer & Sorger (2017), Cell 171:1678-1691, on independent action.
.. [2] Hwangbo et al. (2023), Nature Cancer, on additivity of approved combinations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sim.errors import unknown_name

__all__ = ["RULES", "Rule", "conditional_chances", "find_rule"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rule:
    """One way in which effects combine."""

    name: str

    chance: Callable[[FloatArray, float], FloatArray]
    """Total chance from the agents' chances, (A, ...) to (...), and psi."""

    hazard_ratio: Callable[[Sequence[FloatArray], float], FloatArray]
    """Joint ratio from the agents' ratios, each of one shape, and psi."""

    time: Callable[[FloatArray, FloatArray, float], FloatArray]
    """Time of joint resistance from the times of two benefits and that of the first scan."""

    comonotone: bool = False
    """Whether benefits are ranked alike in all patients, whatever the coupling."""

    scales_exposure: bool = False
    """Whether psi also multiplies the hazards with which two benefits are lost."""


def _complement_product(chances: FloatArray, psi: float) -> FloatArray:
    return np.asarray(1.0 - np.prod(1.0 - chances, axis=0))


def _product(ratios: Sequence[FloatArray], psi: float) -> FloatArray:
    return np.asarray(np.prod(np.stack(ratios), axis=0))


def _later(first: FloatArray, second: FloatArray, first_scan: float) -> FloatArray:
    return np.maximum(first, second)


def _synergy_chance(chances: FloatArray, psi: float) -> FloatArray:
    if len(chances) < 2:
        return _complement_product(chances, psi)
    left = np.prod(1.0 - chances, axis=0)
    helped = np.count_nonzero(chances, axis=0) > 1
    return np.clip(1.0 - np.where(helped, psi * left, left), 0.0, 1.0)


def _synergy_ratio(ratios: Sequence[FloatArray], psi: float) -> FloatArray:
    acting = sum((ratio < 1.0).astype(np.int64) for ratio in ratios)
    return np.where(acting > 1, psi, 1.0) * _product(ratios, psi)


def _additive_chance(chances: FloatArray, psi: float) -> FloatArray:
    return np.minimum(np.sum(chances, axis=0), 1.0)


def _additive_ratio(ratios: Sequence[FloatArray], psi: float) -> FloatArray:
    return np.maximum(1.0 - sum(1.0 - ratio for ratio in ratios), 0.0)


def _additive_time(first: FloatArray, second: FloatArray, first_scan: float) -> FloatArray:
    total = first + second - first_scan
    return np.maximum(np.maximum(first, second), total)


INDEPENDENT_ACTION = Rule("independent_action", _complement_product, _product, _later)
"""Each agent acts as if alone: chances miss independently, ratios multiply, the later time counts.

With times coupled by a Gaussian copula of correlation r, the joint survival is
``1 - Phi2(z(1 - S_A), z(1 - S_B); r)``, which is ``S_A + S_B - S_A S_B`` for r = 0.
"""

HIGHEST_SINGLE_AGENT = Rule(
    "highest_single_agent",
    lambda chances, psi: np.max(chances, axis=0),
    lambda ratios, psi: np.asarray(np.min(np.stack(ratios), axis=0)),
    _later,
    comonotone=True,
)
"""The better agent alone: largest chance, smallest ratio, ``S = max(S_A, S_B)``.

The last holds for two times only where each is a function of the shared rank: with depths or
frailties of their own the later of the two lies above it, and the gate refuses the rule.
"""

ADDITIVE = Rule("additive", _additive_chance, _additive_ratio, _additive_time)
"""Benefits add up: chances, reductions of hazard, and times beyond the first scan.

``T = max(T_A, T_B, T_A + T_B - first scan)``, so a benefit that is no longer than the first scan
adds nothing.
"""

SYNERGY = Rule("synergy", _synergy_chance, _synergy_ratio, _later, scales_exposure=True)
"""Independent action with every chance of failing and every hazard multiplied by psi.

psi = 1 is independent action; with two times, ``S = 1 - (1 - S_A^psi) (1 - S_B^psi)`` for r = 0.
Psi acts only where two agents or more have a benefit to combine: chances above 0, ratios below 1.
"""

RULES = {rule.name: rule for rule in (INDEPENDENT_ACTION, HIGHEST_SINGLE_AGENT, ADDITIVE, SYNERGY)}
"""The rules by name."""


def find_rule(where: str, name: str) -> Rule:
    """The rule called `name`; a `ScenarioError` that starts with `where` if there is none."""
    if name not in RULES:
        raise unknown_name(where, "combination rule", name, RULES)
    return RULES[name]


def conditional_chances(rule: Rule, chances: FloatArray, psi: float = 1.0) -> FloatArray:
    """Chance of each agent's success given that those before it failed.

    Independent draws against these thresholds succeed at least once with the
    rule's total chance, and adding an agent never undoes a success.

    Parameters
    ----------
    rule : Rule
        How chances combine.
    chances : ndarray, shape (A, ...)
        Each agent's own chance, in the order in which they are tried.
    psi : float, default 1
        Departure from independence, for the rule `synergy`.

    Returns
    -------
    ndarray, shape (A, ...)

    Examples
    --------
    >>> conditional_chances(RULES["additive"], np.array([0.2, 0.4]))
    array([0.2, 0.5])
    >>> conditional_chances(RULES["highest_single_agent"], np.array([0.5, 0.4]))
    array([0.5, 0. ])
    """
    totals = [np.zeros(chances.shape[1:])]
    totals += [rule.chance(chances[: a + 1], psi) for a in range(len(chances))]
    gains = []
    for before, after in pairwise(totals):
        left = 1.0 - before
        gain = np.divide(after - before, left, out=np.zeros_like(left), where=left > 0.0)
        gains.append(np.clip(gain, 0.0, 1.0))
    return np.stack(gains)
