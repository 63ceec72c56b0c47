from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import BadInput, BadSetting
from shared.plan import ReconPlan
from shared.recipes.cooccurrence import head_items
from shared.recipes.readouts import (
    CooccurrenceRelease,
    FactorsSettings,
    WeightsSettings,
    enough_signal,
    entry_std,
    factors_readout,
    pair_matrix,
    rotation_invariant_shrinkage,
    strongest_entries,
    weights_readout,
)
from shared.recipes.recon import active_items, apply_gradient, initial_state, training_history
from tests.recipes_cast import chain_histories


def release(noise: float = 0.0, size: int = 60, rank: int = 3) -> tuple[CooccurrenceRelease, NDArray[np.float64]]:
    rng = np.random.default_rng(3)
    tastes = np.abs(rng.standard_normal((size, rank)))
    truth = 20 * tastes @ tastes.T
    drawn = truth[np.triu_indices(size, 1)] + noise * rng.standard_normal(size * (size - 1) // 2)
    popularity = np.sort(rng.random(size))[::-1] * 100 + 50
    made = CooccurrenceRelease(
        head=np.arange(size, dtype=np.int32), popularity=popularity, pairs=drawn * np.sqrt(2),
        popularity_std=1.0, pairs_std=noise * np.sqrt(2), num_users=1000,
    )  # fmt: skip
    return made, truth


def test_weights_are_ease_on_the_thresholded_matrix() -> None:
    made, _ = release(noise=4.0)
    settings = WeightsSettings(threshold=1.5, ridge=0.01, diagonal=0.5)
    matrix = pair_matrix(made, diagonal=0.5)
    kept = np.maximum(matrix - 1.5 * entry_std(made), 0)
    np.fill_diagonal(kept, 0.5 * 1000 * made.popularity / made.popularity.sum())
    regularised = kept + 0.01 * 1000 * np.eye(60)
    values, vectors = np.linalg.eigh(kept)
    if np.linalg.eigvalsh(regularised)[0] <= 0:
        regularised = (vectors * (np.maximum(values, 0) + 10)) @ vectors.T
    precision = np.linalg.inv(regularised)
    expected = -precision / precision.diagonal()[None, :]
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(weights_readout(made, settings), expected, atol=1e-5)


def test_a_projection_of_full_rank_changes_nothing_and_a_small_one_lowers_the_rank() -> None:
    made, _ = release(noise=1.0)
    settings = WeightsSettings(threshold=0.0, ridge=0.05, diagonal=1.0)
    full = weights_readout(made, settings)
    assert np.array_equal(full, weights_readout(made, replace(settings, rank=60)))
    low = weights_readout(made, replace(settings, rank=5)).astype(np.float64)
    off_diagonal = np.linalg.svd(low, compute_uv=False)
    assert np.sum(off_diagonal > 0.3 * off_diagonal[0]) <= 6
    assert np.all(low.diagonal() == 0)


@pytest.mark.parametrize(("ridge", "definite"), [(1.0, True), (1e-3, False)])
def test_weights_from_eigenvalues_are_those_from_an_inverse(ridge: float, definite: bool) -> None:
    made, _ = release()
    settings = WeightsSettings(threshold=0.0, ridge=ridge, diagonal=0.5)
    values, vectors = np.linalg.eigh(np.maximum(pair_matrix(made, diagonal=0.5), 0.0))
    assert (values[0] + ridge * made.num_users > 0) == definite
    if not definite:
        values = np.maximum(values, 0.0)
    inverse = np.linalg.inv(vectors @ np.diag(values + ridge * made.num_users) @ vectors.T)
    expected = inverse / -inverse.diagonal()[None, :]
    np.fill_diagonal(expected, 0.0)
    for eigh in (None, np.linalg.eigh):
        np.testing.assert_allclose(weights_readout(made, settings, eigh=eigh), expected, atol=1e-6)


def test_factors_without_noise_reproduce_the_shrunk_matrix() -> None:
    made, _ = release()
    factors = factors_readout(made, FactorsSettings(ridge=0.01, diagonal=1.0)).astype(np.float64)
    values, vectors = np.linalg.eigh(pair_matrix(made, diagonal=1.0))
    gains = np.where(values > 0, values / (values + 10), 0)
    np.testing.assert_allclose(factors @ factors.T, (vectors * gains) @ vectors.T, atol=1e-5)


def test_shrinkage_brings_a_noisy_matrix_nearer_to_the_truth() -> None:
    rng = np.random.default_rng(5)
    size, std = 200, 2.0
    directions, _ = np.linalg.qr(rng.standard_normal((size, 4)))
    truth = (directions * [200.0, 120.0, 90.0, 70.0]) @ directions.T
    noise = np.triu(rng.standard_normal((size, size)), 1) * std
    noisy = truth + noise + noise.T
    values, vectors = np.linalg.eigh(noisy)
    cleaned = rotation_invariant_shrinkage(values, std)
    error = np.linalg.norm((vectors * cleaned) @ vectors.T - truth)
    assert error < 0.6 * np.linalg.norm(noisy - truth)
    # The best any estimator with these eigenvectors can do is q^T truth q; ours must come close to it.
    oracle = np.einsum("ij,ij->j", vectors, truth @ vectors)
    best = np.linalg.norm((vectors * oracle) @ vectors.T - truth)
    assert error < 1.25 * best


def test_factors_of_pure_noise_keep_next_to_nothing() -> None:
    rng = np.random.default_rng(9)
    size = 150
    made = CooccurrenceRelease(
        head=np.arange(size, dtype=np.int32), popularity=np.full(size, 1e-3), num_users=10,
        pairs=rng.standard_normal(size * (size - 1) // 2) * 5, popularity_std=1.0, pairs_std=5.0,
    )  # fmt: skip
    factors = factors_readout(made, FactorsSettings(ridge=0.01, diagonal=1e-6))
    energy = float(np.sum(np.linalg.eigvalsh(pair_matrix(made, diagonal=1e-6)) ** 2))
    cleaned = rotation_invariant_shrinkage(np.linalg.eigvalsh(pair_matrix(made, diagonal=1e-6)), entry_std(made))
    assert np.sum(np.maximum(cleaned, 0) ** 2) < 0.1 * energy
    assert factors.shape[1] < size


def test_the_strongest_entries_of_a_row_are_kept() -> None:
    columns, values = strongest_entries(np.array([[0.0, 3.0, -5.0, 1.0], [2.0, 0.0, 0.1, -0.2]], dtype=np.float32), 2)
    assert columns.tolist() == [[1, 2], [0, 3]]
    np.testing.assert_allclose(values, [[3, -5], [2, -0.2]])


def test_small_cohorts_fall_back_where_the_signal_is_below_fifty() -> None:
    mu = 0.25
    border = 5 / (0.03 * mu)
    assert not enough_signal(int(border) - 1, mu)
    assert enough_signal(int(border) + 1, mu)


@pytest.mark.parametrize("field", ["ridge", "diagonal"])
def test_a_setting_that_cannot_work_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="above 0"):
        WeightsSettings(**{"threshold": 1.0, "ridge": 1.0, "diagonal": 1.0, field: 0.0})


PLAN = ReconPlan(
    num_factors=6, num_rounds=3, num_head_items=10, max_items_per_user=4, ridge=0.3, negative_weight=0.4,
    learning_rate=0.2, momentum=0.0, init_seed=1, init_std=0.1, max_grad_norm=1.0,
)  # fmt: skip


def test_recon_starts_from_popularity_on_the_head_alone() -> None:
    popularity = np.arange(20.0)
    state = initial_state(popularity, PLAN)
    assert np.flatnonzero(active_items(state.item_factors)).tolist() == sorted(head_items(popularity, 10))
    assert np.all(np.diff(state.item_factors[10:, 0]) > 0)
    assert np.array_equal(state.item_factors, initial_state(popularity, PLAN).item_factors)


def test_the_server_step_has_the_length_it_states_and_touches_the_head_alone() -> None:
    state = initial_state(np.arange(20.0), PLAN)
    gradient = np.random.default_rng(0).standard_normal((20, 6)) * 1e3
    after = apply_gradient(state, gradient, noise_std=0.0, plan=PLAN)
    step = after.item_factors - state.item_factors
    assert np.sqrt(np.mean(step[10:] ** 2)) == pytest.approx(0.2)
    assert np.all(step[:10] == 0)
    np.testing.assert_allclose(
        apply_gradient(state, gradient * 7, noise_std=0.0, plan=PLAN).item_factors, after.item_factors
    )
    with pytest.raises(BadInput, match="shape"):
        apply_gradient(state, gradient[:5], noise_std=0.0, plan=PLAN)


def test_rows_that_do_not_stand_above_the_noise_do_not_move() -> None:
    state = initial_state(np.arange(20.0), PLAN)
    gradient = np.zeros((20, 6))
    gradient[15] = 100.0
    gradient[16] = 0.5
    after = apply_gradient(state, gradient, noise_std=1.0, plan=PLAN)
    assert np.all(after.item_factors[16] == state.item_factors[16])
    assert np.all(after.item_factors[15] < state.item_factors[15])


def test_recon_trains_on_recent_items_that_take_part() -> None:
    state = initial_state(np.arange(20.0), PLAN)
    history = chain_histories(num_users=5, num_items=20, length=12)
    kept = training_history(state.item_factors, history, max_items_per_user=4)
    for user in range(5):
        expected = [item for item in history.history(user) if item >= 10][-4:]
        assert kept.history(user).tolist() == expected


def test_a_head_larger_than_the_catalogue_is_refused() -> None:
    with pytest.raises(BadSetting, match="num_head_items"):
        head_items(np.zeros(5), 6)
