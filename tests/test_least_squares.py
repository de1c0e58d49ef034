"""Most probable parameters against closed forms, SciPy's own fits, and refits by brute force."""

import numpy as np
import pytest
from scipy.optimize import curve_fit, minimize

from analysis.least_squares import Block, Fit, Priors, _jacobian, fit, profile

RNG = np.random.default_rng(7)
DESIGN = RNG.standard_normal((40, 3))
SEEN = DESIGN @ np.array([0.5, -1.0, 0.3]) + 0.3 * RNG.standard_normal(40)
MEANS, SDS = np.array([0.1, 0.0, -0.2]), np.array([1.0, 0.5, 2.0])
PRIORS = Priors.of_each(MEANS, SDS)


def linear(x):
    return (DESIGN @ x - SEEN) / 0.3


BLOCKS = (Block(np.arange(3), linear),)


def closed_form(prior_sds=SDS):
    """Mean and covariance of the normal posterior."""
    precision = DESIGN.T @ DESIGN / 0.09 + np.diag(prior_sds**-2.0)
    mean = np.linalg.solve(precision, DESIGN.T @ SEEN / 0.09 + MEANS / prior_sds**2)
    return mean, np.linalg.inv(precision)


def test_a_linear_problem_is_the_closed_form():
    found = fit(BLOCKS, PRIORS, np.zeros(3))
    mean, covariance = closed_form()
    # Round-off: the search ends at a relative change of 1e-5, and one step is all it takes.
    assert found.x == pytest.approx(mean, abs=1e-7)
    assert found.covariance == pytest.approx(covariance, rel=1e-6)
    assert found.converged
    assert found.deviance == pytest.approx(np.sum(linear(mean) ** 2), rel=1e-9)
    assert found.penalty == pytest.approx(np.sum(((mean - MEANS) / SDS) ** 2), rel=1e-6)
    assert np.abs(closed_form(2.0 * SDS)[0] - mean).max() > 1e-4


def test_correlated_priors_are_the_closed_form():
    weights = np.array([[1.0, 0.0, 0.0], [2.0, -2.0, 0.0], [0.0, 0.0, 0.7]])
    found = fit(BLOCKS, Priors(weights, np.array([0.1, 0.4, 0.0])), np.zeros(3))
    precision = DESIGN.T @ DESIGN / 0.09 + weights.T @ weights
    right = DESIGN.T @ SEEN / 0.09 + weights.T @ np.array([0.1, 0.4, 0.0])
    assert found.x == pytest.approx(np.linalg.solve(precision, right), abs=1e-7)
    assert abs(found.x - closed_form()[0]).max() > 1e-3


TIMES = np.linspace(0.2, 8.0, 30)
DECAY = 2.0 * np.exp(-0.4 * TIMES) + 0.5 + 0.05 * RNG.standard_normal(30)


def decay(x):
    return (np.exp(x[0] - np.exp(x[1]) * TIMES) + x[2] - DECAY) / 0.05


CURVED = (Block(np.arange(3), decay),)
FLAT = Priors.of_each(np.zeros(3), np.full(3, 1e4))


def test_a_curved_problem_is_that_of_curve_fit():
    found = fit(CURVED, FLAT, np.array([0.0, 0.0, 0.0]), tolerance=1e-12)
    theirs, covariance = curve_fit(
        lambda t, a, b, c: np.exp(a - np.exp(b) * t) + c, TIMES, DECAY, p0=np.zeros(3),
        sigma=np.full(30, 0.05), absolute_sigma=True, ftol=1e-14, xtol=1e-14,
    )  # fmt: skip
    # Derivatives over steps of 0.02 move the optimum by the square of that at most.
    errors = np.sqrt(np.diag(covariance))
    assert np.abs((found.x - theirs) / errors).max() < 0.02
    assert np.sqrt(np.diag(found.covariance)) == pytest.approx(errors, rel=0.01)
    assert found.deviance == pytest.approx(np.sum(decay(theirs) ** 2), rel=1e-4)


def refitted(blocks, priors, index, value, start):
    """The same with one parameter held, by a simplex: slow and without derivatives."""
    free = np.arange(3) != index

    def objective(rest):
        x = np.empty(3)
        x[free], x[index] = rest, value
        data = np.concatenate([block.residuals(x[block.depends]) for block in blocks])
        prior = np.delete(priors.residuals(x), index)
        return np.sum(data**2) + np.sum(prior**2)

    best = minimize(objective, start[free], method="Nelder-Mead",
                    options={"xatol": 1e-9, "fatol": 1e-9, "maxiter": 5000})  # fmt: skip
    return best.fun


@pytest.mark.parametrize("index", range(3))
def test_a_profile_is_that_of_refits(index):
    found = fit(CURVED, FLAT, np.zeros(3), tolerance=1e-12)
    sd = float(np.sqrt(found.covariance[index, index]))
    values = found.x[index] + sd * np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    ours = profile(CURVED, found, index, values, turns=3)
    brute = np.array([refitted(CURVED, FLAT, index, v, found.x) for v in values])
    brute -= refitted(CURVED, FLAT, index, found.x[index], found.x)
    assert ours == pytest.approx(brute, abs=0.05, rel=0.02)
    # With the others left where they are the deviance rises much more.
    x = found.x.copy()
    x[index] = values[0]
    assert np.sum(decay(x) ** 2) - found.deviance > 1.5 * ours[0]


def test_a_profile_of_a_linear_problem_is_a_parabola_without_the_own_prior():
    found = fit(BLOCKS, PRIORS, np.zeros(3))
    values = np.array([-1.5, 0.0, 0.4])
    ours = profile(BLOCKS, found, 1, values)
    brute = np.array([refitted(BLOCKS, PRIORS, 1, v, found.x) for v in values])
    base = np.sum(linear(found.x) ** 2) + np.sum(np.delete(PRIORS.residuals(found.x), 1) ** 2)
    assert ours == pytest.approx(brute - base, rel=1e-5, abs=1e-6)


def test_effective_parameters_count_what_data_determine():
    known = fit(BLOCKS, Priors.of_each(MEANS, np.full(3, 1e3)), np.zeros(3))
    assert known.effective_parameters == pytest.approx(3.0, abs=1e-4)
    held = fit(BLOCKS, Priors.of_each(MEANS, np.array([1e3, 1e-4, 1e-4])), np.zeros(3))
    assert held.effective_parameters == pytest.approx(1.0, abs=1e-4)
    blind = (Block(np.array([0, 1]), lambda x: DESIGN[:, :2] @ x - SEEN),)
    found = fit(blind, PRIORS, np.zeros(3))
    assert found.shrinkage[2] == pytest.approx(1.0, abs=1e-12)
    assert found.shrinkage[:2].max() < 0.2
    assert found.x[2] == pytest.approx(MEANS[2], abs=1e-9)


def test_shrinkage_is_the_share_of_variance_that_is_left():
    found = fit(BLOCKS, PRIORS, np.zeros(3))
    assert found.shrinkage == pytest.approx(np.diag(closed_form()[1]) / SDS**2, rel=1e-6)


def test_blocks_give_the_dense_derivative():
    blocks = (
        Block(np.array([0, 2]), lambda x: np.array([x[0] * x[1], np.sin(x[0])])),
        Block(np.array([1]), lambda x: x**2),
        Block(np.array([2, 1]), lambda x: np.array([x[0] - 3.0 * x[1]])),
    )

    def whole(x):
        return np.concatenate([block.residuals(x[block.depends]) for block in blocks])

    x = np.array([0.4, -0.7, 1.2])
    dense = _jacobian((Block(np.arange(3), whole),), x)
    sparse = _jacobian(blocks, x)
    # Products are formed in the same order: equal to the bit.
    assert np.array_equal(sparse, dense)
    assert np.array_equal(sparse[2], [0.0, sparse[2, 1], 0.0])
    exact = np.array([[x[2], 0, x[0]], [np.cos(x[0]), 0, 0], [0, 2 * x[1], 0], [0, -3.0, 1.0]])
    # Central differences over 0.02: the third derivative of the sine, 1, times 0.02^2 / 6.
    assert sparse == pytest.approx(exact, abs=1e-4)


def test_each_block_is_asked_for_its_own_numbers_only():
    asked = []

    def told(x):
        asked.append(len(x))
        return x - 1.0

    _jacobian((Block(np.array([1]), told), Block(np.array([0, 2]), told)), np.zeros(3))
    assert asked == [1, 1, 2, 2, 2, 2]


def test_information_adds_data_and_priors():
    found = Fit(np.zeros(2), 0.0, 0.0, np.array([[1.0, 2.0]]),
                Priors.of_each(np.zeros(2), np.array([0.5, 1.0])), True, 1)  # fmt: skip
    assert found.information.tolist() == [[5.0, 2.0], [2.0, 5.0]]
