"""What one user can do to a sum, and that a federation's sums are the pooled ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.interactions import Interactions, concatenate
from shared.recipes.cooccurrence import (
    condensed_index,
    head_items,
    num_pairs,
    pair_sum,
    pair_vectors,
    popularity_vectors,
)
from shared.recipes.recon import clipped_gradient_sum, gradient_norms, solve_users

NUM_ITEMS = 12


@st.composite
def histories(draw: st.DrawFn, min_users: int = 0) -> Interactions:
    rows = draw(st.lists(st.permutations(range(NUM_ITEMS)), min_size=min_users, max_size=6))
    cuts = [row[: draw(st.integers(0, NUM_ITEMS))] for row in rows]
    items = np.array([item for row in cuts for item in row], dtype=np.int32)
    weights = draw(st.lists(st.floats(0.0625, 50, width=32), min_size=len(items), max_size=len(items)))
    return Interactions(
        num_items=NUM_ITEMS,
        offsets=np.concatenate(([0], np.cumsum([len(row) for row in cuts]))).astype(np.int64),
        items=items,
        weights=np.array(weights, dtype=np.float32),
    )


HEADS = st.lists(st.integers(0, NUM_ITEMS - 1), min_size=2, unique=True).map(
    lambda items: np.array(items, dtype=np.int32)
)
GAMMAS = st.sampled_from([0.0, 0.5, 1.0, 2.0])


def oracle_pairs(items: list[int], head: list[int], gamma: float, most: int) -> NDArray[np.float64]:
    kept = [head.index(item) for item in items if item in head][-most:]
    vector = np.zeros(num_pairs(len(head)))
    for i in range(len(kept)):
        for j in range(i + 1, len(kept)):
            low, high = sorted((kept[i], kept[j]))
            place = sum(len(head) - 1 - row for row in range(low)) + high - low - 1
            vector[place] += (j - i) ** -gamma
    norm = np.linalg.norm(vector)
    return vector / norm if norm else vector


@given(histories(), HEADS, GAMMAS, st.integers(2, 8))
def test_pair_vectors_are_the_definition_user_by_user(
    history: Interactions, head: NDArray[np.int32], gamma: float, most: int
) -> None:
    vectors = pair_vectors(history, head, gamma=gamma, max_head_items_per_user=most)
    for user in range(history.num_users):
        dense = np.zeros(vectors.num_coordinates)
        entries = slice(vectors.offsets[user], vectors.offsets[user + 1])
        np.add.at(dense, vectors.coordinates[entries], vectors.values[entries])
        expected = oracle_pairs(history.history(user).tolist(), head.tolist(), gamma, most)
        np.testing.assert_allclose(dense, expected, atol=1e-12)


@given(histories(), HEADS, GAMMAS)
def test_no_user_moves_either_sum_by_more_than_one(
    history: Interactions, head: NDArray[np.int32], gamma: float
) -> None:
    assert np.all(popularity_vectors(history).norms() <= 1 + 1e-12)
    norms = pair_vectors(history, head, gamma=gamma, max_head_items_per_user=6).norms()
    assert np.all(np.isclose(norms, 1) | (norms == 0))


def test_the_norm_check_notices_vectors_that_are_not_scaled() -> None:
    history = Interactions(
        num_items=3,
        offsets=np.array([0, 3], dtype=np.int64),
        items=np.arange(3, dtype=np.int32),
        weights=np.ones(3, dtype=np.float32),
    )
    assert popularity_vectors(history).norms()[0] == pytest.approx(1)
    assert np.linalg.norm(history.weights) > 1.7


@settings(max_examples=60)
@given(st.lists(histories(min_users=1), min_size=1, max_size=4), HEADS, GAMMAS)
def test_tenants_sums_add_up_to_the_pooled_cooccurrence(
    tenants: list[Interactions], head: NDArray[np.int32], gamma: float
) -> None:
    pooled = concatenate(tenants)
    parts = [pair_sum(tenant, head, gamma=gamma, max_head_items_per_user=5) for tenant in tenants]
    np.testing.assert_allclose(
        np.sum(parts, axis=0), pair_sum(pooled, head, gamma=gamma, max_head_items_per_user=5), atol=1e-6
    )
    popularity = np.sum([popularity_vectors(tenant).total() for tenant in tenants], axis=0)
    np.testing.assert_allclose(popularity, popularity_vectors(pooled).total(), atol=1e-6)


@settings(max_examples=60)
@given(st.lists(histories(min_users=1), min_size=1, max_size=4), st.integers(1, 14), st.floats(0.01, 5))
def test_tenants_sums_add_up_to_the_pooled_recon_gradient(
    tenants: list[Interactions], num_factors: int, max_grad_norm: float
) -> None:
    item_factors = np.random.default_rng(num_factors).standard_normal((NUM_ITEMS, num_factors))

    def gradient(history: Interactions) -> NDArray[np.float64]:
        users = solve_users(item_factors, history, ridge=0.3, negative_weight=0.2)
        return clipped_gradient_sum(item_factors, users, history, negative_weight=0.2, max_grad_norm=max_grad_norm)

    np.testing.assert_allclose(
        np.sum([gradient(tenant) for tenant in tenants], axis=0), gradient(concatenate(tenants)), atol=1e-6
    )


@settings(max_examples=60)
@given(histories(min_users=1), st.integers(1, 14), st.floats(0.0, 1.5), st.floats(0.05, 3))
def test_recon_matches_the_dense_definition(
    history: Interactions, num_factors: int, negative_weight: float, max_grad_norm: float
) -> None:
    item_factors = np.random.default_rng(num_factors).standard_normal((NUM_ITEMS, num_factors))
    users = solve_users(item_factors, history, ridge=0.7, negative_weight=negative_weight)
    norms = gradient_norms(item_factors, users, history, negative_weight=negative_weight)
    total = np.zeros_like(item_factors)
    for user in range(history.num_users):
        liked = np.zeros(NUM_ITEMS)
        liked[history.history(user)] = 1
        weight = np.where(liked == 1, 1.0, negative_weight)
        gram = (item_factors * weight[:, None]).T @ item_factors + 0.7 * np.eye(num_factors)
        expected = np.linalg.solve(gram, item_factors.T @ liked)
        np.testing.assert_allclose(users[user], expected, atol=1e-9)
        residual = 2 * weight * (item_factors @ expected - liked)
        gradient = np.outer(residual, expected)
        size = float(np.linalg.norm(gradient))
        assert norms[user] == pytest.approx(size, abs=1e-9)
        total += gradient * min(1.0, max_grad_norm / size) if size else 0
    measured = clipped_gradient_sum(
        item_factors, users, history, negative_weight=negative_weight, max_grad_norm=max_grad_norm
    )
    np.testing.assert_allclose(measured, total, atol=1e-9)


@given(st.integers(2, 40))
def test_condensed_positions_are_those_of_the_upper_triangle(size: int) -> None:
    low, high = (axis.astype(np.int64) for axis in np.triu_indices(size, 1))
    assert condensed_index(low, high, size).tolist() == list(range(num_pairs(size)))


def test_the_head_is_sorted_by_popularity_and_ties_by_index() -> None:
    assert head_items(np.array([1.0, 5.0, 1.0, 7.0, -2.0]), 4).tolist() == [3, 1, 0, 2]
