"""What names a cell, and the file that keeps it."""

import dataclasses

import numpy as np
import pytest

from sim.config import read_config
from sim.errors import OutputError
from sim.override import with_values
from sim.sweep.cell import Asked, Base, content_key, is_finished, make_cell
from sim.sweep.store import DamagedCellError, Store, Stored, environment, environments
from tests.sweeps_run import SMALL, definition

ASKED = Asked(n_replicates=200, precision=None, cohort=False, true_values=False)


@pytest.fixture(scope="module")
def base(composed):
    return Base.of(read_config(composed(*SMALL)))


def key(base, values=None, asked=ASKED):
    return content_key(base.changed(values or {}), asked, base)


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 2),
        ("trial.n_patients", 61),
        ("trial.dropout", 0.0100000001),
        ("trial.alpha", 0.05),
        ("trial.comparisons", ["logrank"]),
        ("agents.delayed.onset", 5.0),
        ("population.acquired.rates", [0.07]),
        ("assessment.jitter_sd", 1.0),
        ("backbone", ""),
    ],
)
def test_whatever_moves_a_result_gives_another_name(base, path, value):
    assert key(base, {path: value}) != key(base)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("n_replicates", 7),
        ("n_workers", 2),
        ("precision", 0.1),
        ("max_replicates", 5000),
        ("estimand_patients", 3),
        ("analysis.figures", True),
        ("cohort.n_patients", 7),
        ("description", "other words"),
        ("trial.label", "other words"),
        ("agents.delayed.label", "other words"),
        ("trial.dropout", 0.01 + 1e-15),
    ],
)
def test_what_moves_no_result_gives_the_same_name(base, path, value):
    assert key(base, {path: value}) == key(base)


def test_what_is_asked_beside_counts_where_it_is_asked(base):
    cohort = dataclasses.replace(ASKED, cohort=True)
    assert key(base, asked=cohort) != key(base)
    assert key(base, {"cohort.n_patients": 7}, cohort) != key(base, asked=cohort)
    true = dataclasses.replace(ASKED, true_values=True)
    assert key(base, {"estimand_patients": 3}, true) != key(base, asked=true)
    more = dataclasses.replace(ASKED, n_replicates=10_000)
    assert key(base, asked=more) == key(base)


def test_a_name_does_not_depend_on_how_it_was_come_by(base):
    changed = with_values(base.whole, {"trial.dropout": 0.02})
    assert content_key(changed, ASKED, base) == content_key(changed, ASKED)
    assert content_key(Base.of(changed).whole, ASKED) == content_key(changed, ASKED)


def test_the_environment_says_what_bytes_hang_on():
    about = environment().about
    assert {"resistime", "code", "numpy", "scipy", "simd", "machine"} <= about.keys()
    other = dataclasses.replace(environment(), about={**about, "numpy": "1.0"})
    assert other.name != environment().name


# ---------------------------------------------------------------- files


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path).open()


@pytest.fixture(scope="module")
def made(base):
    (only,) = make_cell(base.cell({}), ASKED, None)
    return only


def test_a_cell_comes_back_as_it_was_kept(store, made):
    store.write("a" * 32, made.to_bytes())
    back = store.read("a" * 32)
    assert back.rows == made.rows
    assert back.paired == made.paired
    assert back.names == made.names
    np.testing.assert_array_equal(back.replicates, made.replicates)
    assert store.read("b" * 32) is None
    assert environments(store.place) == [environment().name]


def test_any_flipped_byte_and_any_missing_end_is_noticed(store, made):
    whole = made.to_bytes()
    path = store.path("a" * 32)
    rng = np.random.default_rng(1)
    headers = 0
    for place in rng.integers(0, len(whole), 300):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        try:
            back = store.read("a" * 32)
        except DamagedCellError as error:
            assert str(path) in str(error)
            continue
        # The archive also holds dates and padding, which say nothing.
        headers += 1
        assert back.rows == made.rows
        np.testing.assert_array_equal(back.replicates, made.replicates)
    assert headers < 15
    for end in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(DamagedCellError):
            store.read("a" * 32)


def test_a_cell_that_is_made_has_not_failed(store, made):
    store.write_failure("a" * 32, "too bad", "trace")
    assert store.failure("a" * 32) == "too bad"
    store.write("a" * 32, made.to_bytes())
    assert store.failure("a" * 32) == ""


def test_what_cannot_be_written_is_said(tmp_path, made):
    store = Store(tmp_path)  # Its folder has not been made.
    with pytest.raises(OutputError, match="cannot write"):
        store.write("a" * 32, made.to_bytes())


# ---------------------------------------------------------------- more replicates


def made_of(base, asked, kept=None):
    *_, last = make_cell(base.cell({}), asked, kept)
    return last


def test_more_replicates_are_added_and_give_what_all_at_once_would(base, made, monkeypatch):
    import sim.sweep.cell as module

    more = dataclasses.replace(ASKED, n_replicates=900)
    conducted = []
    conduct = module.conduct_blocks
    monkeypatch.setattr(
        module, "conduct_blocks", lambda plan, b: conducted.extend(b) or conduct(plan, b)
    )
    grown = made_of(base, more, made)
    assert conducted == [1, 2, 3, 4]
    at_once = made_of(base, more)
    assert grown.rows == at_once.rows
    assert grown.paired == at_once.paired
    np.testing.assert_array_equal(grown.replicates, at_once.replicates)
    assert grown.replicates.shape[1] == 1000  # whole blocks are kept
    # Fewer again are read off what there is.
    fewer = made_of(base, ASKED, grown)
    assert fewer.rows == made.rows
    assert fewer.replicates.shape[1] == 1000


def test_a_precision_asks_for_the_replicates_that_a_run_of_its_own_would_make(base, composed):
    from analysis.operating import Tally
    from sim.conduct import Precision, conduct_chunks

    precision = Precision(0.015, 5000)
    asked = dataclasses.replace(ASKED, precision=precision)
    made = made_of(base, asked)
    tally = Tally(0.025)
    for chunk in conduct_chunks(base.run.trial, 200, precision=precision):
        tally.add(chunk.cuts)
    assert made.n_replicates == tally.n_replicates
    assert 400 < made.n_replicates < 5000
    # What else is there does not matter.
    more = made_of(base, dataclasses.replace(ASKED, n_replicates=4000))
    assert made_of(base, asked, more).rows == made.rows
    assert is_finished(base.cell({}), asked, made)
    assert not is_finished(base.cell({}), asked, more)


def test_rows_are_those_of_a_run_of_its_own(base, made):
    from analysis.operating import summarise
    from analysis.paired import COLUMNS
    from sim.conduct import conduct_trials

    table = summarise(conduct_trials(base.run.trial, 200).cuts, 0.025)
    assert [row[:8] for row in made.rows] == table.to_numpy(dtype=object).tolist()
    assert len(made.paired[0]) == len(COLUMNS)


def test_a_cohort_leaves_rows_and_curves():
    swept = definition(
        "strategy=[anti_pd1,chemotherapy]", "cohort.n_patients=400",
        "sweep.grid={coupling.spearman: [0.3]}",
    )  # fmt: skip
    cell = swept.base({}).cell({})
    (made,) = make_cell(cell, swept.asked, None)
    measures = {(row[2], row[4]) for row in made.rows}
    assert {
        ("pfs", "median"), ("os", "rate_24"), ("response", "orr"), ("latent", "primary_resistance"),
        ("os", "rmst_difference_60"), ("sitc2020", "labelled_primary"),
        ("sitc2020", "recognised_primary"),
    } <= measures  # fmt: skip
    assert sum(n for *_, n in made.curves) == len(made.points)
    back = Stored.from_bytes(made.to_bytes())
    np.testing.assert_array_equal(back.points, made.points)
    assert all(row[7] is None and row[8] == 400 for row in made.rows)
