"""Rules of resistance on records made by hand: the cases on which they disagree.

Each record is one patient, written as a trial would have it. The rules are
those that are shipped, read through the gate, and what each of them should say
is written out; none of the expected labels is computed.
"""

from dataclasses import replace

import numpy as np
import pytest

from sim.assessment import RESPONSES, TICK, Observed, to_tick
from sim.definitions import LABELS, Definition, classify
from sim.errors import ScenarioError

WEEK = 7.0 / 30.4375
NEVER = np.inf
RULES = ("sitc2020", "sitc2023_chemotherapy", "schoenfeld2021", "hudson2024", "s1800a")


def record(
    best,
    *,
    progression=NEVER,
    last_dose=None,
    confirmed=True,
    rapid=False,
    death=NEVER,
    end=60.0,
    immune=True,
):
    """The observed record of one patient; the last dose is at progression unless told."""
    seen = min(death, end)
    event = min(progression, seen)
    last_dose = min(event, seen) if last_dose is None else last_dose
    responded = best in ("CR", "PR")
    return Observed(
        pfs_time=np.array([event]),
        pfs_event=np.array([event < end]),
        os_time=np.array([seen]),
        os_event=np.array([death <= end]),
        progression_time=np.array([progression]),
        confirmed=np.array([confirmed and np.isfinite(progression)]),
        rapid=np.array([rapid]),
        best_response=np.array([RESPONSES.index(best)], dtype=np.int8),
        response_time=np.array([9.0 * WEEK if responded else NEVER]),
        last_dose=np.array([last_dose]),
        immune=np.array([immune]),
    )


CASES = {
    "1: PR at week 9, PD at month 5": (
        record("PR", progression=5.0),
        "gap", "primary", "acquired", "acquired", "acquired",
    ),
    "2: SD for 8 months, then PD": (
        record("SD", progression=8.0),
        "acquired", "acquired", "not_acquired", "acquired", "acquired",
    ),
    "3: PD at week 5, less than 6 weeks on drug": (
        record("PD", progression=5.0 * WEEK),
        "not_evaluable", "not_evaluable", "not_acquired", "primary", "not_acquired",
    ),
    "3: the same, with rapid clinical decline": (
        record("PD", progression=5.0 * WEEK, rapid=True),
        "primary", "primary", "not_acquired", "primary", "not_acquired",
    ),
    "4: PR, stop at month 24, PD at month 29": (
        record("PR", progression=29.0, last_dose=24.0),
        "late_off_drug", "acquired", "acquired", "acquired", "acquired",
    ),
    "5: SD, PD at exactly 6.0 months": (
        record("SD", progression=6.0),
        "acquired", "primary", "not_acquired", "acquired", "acquired",
    ),
    "6: first PD at month 2 not confirmed, the next scan shows response": (
        record("PD", progression=2.0, confirmed=False, last_dose=8.0),
        "unconfirmed", "primary", "not_acquired", "primary", "not_acquired",
    ),
    "7: death before any scan": (
        record("NE", death=0.8),
        "early_death", "early_death", "early_death", "early_death", "early_death",
    ),
}  # fmt: skip


OTHERS = {
    "one tick before 6 months": (
        record("SD", progression=6.0 - TICK),
        "primary", "primary", "not_acquired", "acquired", "acquired",
    ),
    "one tick after 6 months": (
        record("SD", progression=6.0 + TICK),
        "acquired", "acquired", "not_acquired", "acquired", "acquired",
    ),
    "stable disease until the scan of week 24": (
        record("SD", progression=float(to_tick(np.array(168 / 30.4375)))),
        "primary", "primary", "not_acquired", "acquired", "acquired",
    ),
    "stable disease until the day before that": (
        record("SD", progression=float(to_tick(np.array(167 / 30.4375)))),
        "primary", "primary", "not_acquired", "primary", "acquired",
    ),
    "CR, PD at month 30 on drug": (
        record("CR", progression=30.0),
        "acquired", "acquired", "acquired", "acquired", "acquired",
    ),
    "PR, stop at month 2 for toxicity, PD at month 3": (
        record("PR", progression=3.0, last_dose=2.0),
        "gap", "primary", "acquired", "acquired", "not_acquired",
    ),
    "PR, stop at month 2 for toxicity, PD at month 9": (
        record("PR", progression=9.0, last_dose=2.0),
        "late_off_drug", "not_evaluable", "late_off_drug", "acquired", "not_acquired",
    ),
    "SD, stop at month 5, PD at month 7, within 12 weeks": (
        record("SD", progression=7.0, last_dose=5.0),
        "not_evaluable", "not_evaluable", "not_acquired", "acquired", "acquired",
    ),
    "PR, stop at month 24, PD at month 31": (
        record("PR", progression=31.0, last_dose=24.0),
        "late_off_drug", "acquired", "late_off_drug", "acquired", "acquired",
    ),
    "PD at week 6 on the day, six weeks on drug": (
        record("PD", progression=float(to_tick(np.array(42 / 30.4375)))),
        "primary", "primary", "not_acquired", "primary", "not_acquired",
    ),
    "PD at week 12 on the day, 84 days on drug": (
        record("PD", progression=float(to_tick(np.array(84 / 30.4375)))),
        "primary", "primary", "not_acquired", "primary", "acquired",
    ),
    "PD not confirmed but rapid": (
        record("SD", progression=3.0, confirmed=False, rapid=True),
        "primary", "primary", "not_acquired", "primary", "acquired",
    ),
    "treated beyond progression": (
        record("PD", progression=2.0, last_dose=9.0),
        "primary", "primary", "not_acquired", "primary", "not_acquired",
    ),
    "no progression in five years": (
        record("CR", last_dose=24.0),
        *["no_progression"] * 5,
    ),
    "lost to follow-up at month 3": (
        record("SD", end=3.0),
        *["no_progression"] * 5,
    ),
    "death without progression, on treatment, at month 5": (
        record("SD", death=5.0),
        *["early_death"] * 5,
    ),
    "death without progression at month 8": (
        record("SD", death=8.0),
        *["no_progression"] * 5,
    ),
    "progression, then early death": (
        record("PD", progression=2.0, death=2.5),
        "primary", "primary", "not_acquired", "primary", "not_acquired",
    ),
    "chemotherapy, PD at month 3": (
        record("PD", progression=3.0, immune=False),
        *["not_applicable"] * 5,
    ),
    "chemotherapy, early death": (
        record("NE", death=0.5, immune=False),
        *["not_applicable"] * 5,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def rules(default_run):
    found = {rule.name: rule for rule in default_run.definitions}
    return [found[name] for name in RULES]


@pytest.mark.parametrize(
    ("seen", "labels"),
    [(case[0], case[1:]) for case in CASES.values()],
    ids=CASES.keys(),
)
def test_the_rules_disagree_as_published(rules, seen, labels):
    assert tuple(LABELS[classify(seen, rule)[0]] for rule in rules) == labels


@pytest.mark.parametrize(
    ("seen", "labels"),
    [(case[0], case[1:]) for case in OTHERS.values()],
    ids=OTHERS.keys(),
)
def test_every_rule_says_what_its_text_says(rules, seen, labels):
    assert tuple(LABELS[classify(seen, rule)[0]] for rule in rules) == labels


@pytest.mark.parametrize("called", ["primary", "acquired", "gap"])
def test_early_progression_after_response_is_called_as_the_rule_chooses(rules, called):
    rule = replace(rules[0], early_responder=called)
    assert LABELS[classify(record("PR", progression=5.0), rule)[0]] == called
    assert LABELS[classify(record("PR", progression=7.0), rule)[0]] == "acquired"


def test_death_at_exactly_the_threshold_is_early(rules):
    assert LABELS[classify(record("SD", death=6.0), rules[0])[0]] == "early_death"
    assert LABELS[classify(record("SD", death=6.0 + TICK), rules[0])[0]] == "no_progression"


def test_records_of_any_shape_are_labelled_one_by_one(rules):
    seen = [case[0] for case in [*CASES.values(), *OTHERS.values()]]
    names = Observed.__slots__
    stacked = Observed(
        **{n: np.stack([getattr(s, n) for s in seen]).reshape(2, -1, 1) for n in names}
    )
    for rule in rules:
        together = classify(stacked, rule)
        assert together.shape == (2, len(seen) // 2, 1)
        assert together.ravel().tolist() == [int(classify(s, rule)[0]) for s in seen]


def test_the_labels_have_the_names_that_files_use():
    assert LABELS == (
        "no_progression", "primary", "acquired", "gap", "not_acquired", "unconfirmed",
        "late_off_drug", "not_evaluable", "early_death", "not_applicable",
    )  # fmt: skip


def test_a_kind_of_rule_that_is_not_known_is_refused():
    with pytest.raises(ScenarioError) as error:
        Definition(name="x", label="x", kind="feeling")
    assert str(error.value) == (
        "kind must be one of best_response, time, response, exposure, got 'feeling'"
    )
