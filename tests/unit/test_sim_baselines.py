import numpy as np
import pytest

from shared.interactions import Interactions, from_events
from shared.metrics import rank_of_target
from simulations.baselines import (
    content_scorer,
    ease_weights,
    ials_scorer,
    item_to_next_scorer,
    markov_scorer,
    popularity_scorer,
    weights_scorer,
)
from simulations.evaluate import (
    Cases,
    chance,
    measure,
    rank_cases,
    sample_cases,
    select_users,
    shuffled_order,
    without_last,
)
from simulations.tenants import assign_tenants
from tests.recipes_cast import chain_histories

HISTORY = chain_histories(num_users=300, num_items=30, length=8)
TRAIN, TARGETS = without_last(HISTORY)
CASES = Cases(histories=TRAIN, targets=TARGETS)


def test_markov_follows_the_chain_and_beats_popularity() -> None:
    following = markov_scorer(TRAIN)(select_users(TRAIN, np.arange(20)))
    ends = [TRAIN.history(user)[-1] for user in range(20)]
    assert np.mean(np.argmax(following, axis=1) == (np.array(ends) + 1) % 30) > 0.9
    assert measure(markov_scorer(TRAIN), CASES).ndcg_at_10 > 2 * measure(popularity_scorer(TRAIN), CASES).ndcg_at_10


def test_transitions_are_counted_by_distance_and_direction() -> None:
    events = from_events(
        users=np.array([0, 0, 0, 1, 1]), items=np.array([0, 1, 2, 0, 2]), order=np.arange(5.0), num_users=2, num_items=4
    )
    scorer = item_to_next_scorer(events, window=2, recency=np.inf, smoothing=0.0)
    only_zero = from_events(
        users=np.zeros(1, dtype=int), items=np.array([0]), order=np.zeros(1), num_users=1, num_items=4
    )
    np.testing.assert_allclose(scorer(only_zero)[0], [0, 1 / 2, (1 / 2 + 1) / 2, 0], atol=1e-6)


def test_ease_is_the_closed_form_and_ranks_above_chance() -> None:
    weights = ease_weights(TRAIN, ridge=0.05)
    dense = np.zeros((TRAIN.num_users, 30))
    dense[TRAIN.rows(), TRAIN.items] = 1
    inverse = np.linalg.inv(dense.T @ dense + 0.05 * 300 * np.eye(30))
    np.testing.assert_allclose(weights[0, 1], -inverse[0, 1] / inverse[1, 1], atol=1e-5)
    assert np.all(weights.diagonal() == 0)
    assert measure(weights_scorer(weights, recency=1.0), CASES).hr_at_10 > 1.2 * chance(CASES).hr_at_10


def test_ials_learns_the_chain() -> None:
    scorer = ials_scorer(TRAIN, num_factors=16, ridge=1.0, confidence=10.0, sweeps=8, seed=0)
    assert measure(scorer, CASES).ndcg_at_10 > 1.5 * chance(CASES).ndcg_at_10


def test_content_prefers_like_text() -> None:
    features = np.eye(30, dtype=np.float32)
    features[7] = features[3]
    one = from_events(users=np.zeros(1, dtype=int), items=np.array([3]), order=np.zeros(1), num_users=1, num_items=30)
    scores = content_scorer(features, recency=1.0)(one)[0]
    assert np.flatnonzero(scores).tolist() == [3, 7]


def test_a_random_score_earns_the_stated_chance() -> None:
    rng = np.random.default_rng(0)

    def at_random(histories: Interactions) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        return rng.random((histories.num_users, 30)).astype(np.float32)

    runs = [measure(at_random, CASES) for _ in range(40)]
    assert np.mean([run.ndcg_at_10 for run in runs]) == pytest.approx(chance(CASES).ndcg_at_10, rel=0.03)
    assert np.mean([run.hr_at_10 for run in runs]) == pytest.approx(chance(CASES).hr_at_10, rel=0.03)


def test_ranks_match_a_plain_loop_and_ignore_seen_items() -> None:
    scorer = popularity_scorer(TRAIN)
    ranks = rank_cases(scorer, CASES)
    popularity = np.bincount(TRAIN.items, minlength=30)
    for user in range(0, 300, 37):
        seen = set(TRAIN.history(user).tolist())
        rest = [popularity[item] for item in range(30) if item not in seen and item != TARGETS[user]]
        goal = popularity[TARGETS[user]]
        assert ranks[user] == sum(v > goal for v in rest) + sum(v == goal for v in rest) / 2


def test_a_target_that_was_counted_as_seen_would_be_noticed() -> None:
    scores = np.array([[3.0, 2.0, 1.0]], dtype=np.float32)
    honest = rank_of_target(scores, np.array([2]))[0]
    scores[0, :2] = -np.inf
    assert rank_of_target(scores, np.array([2]))[0] < honest


def test_shuffling_keeps_the_items_and_loses_the_order() -> None:
    mixed = shuffled_order(HISTORY, np.random.default_rng(1))
    assert all(set(mixed.history(user)) == set(HISTORY.history(user)) for user in range(300))
    train, targets = without_last(mixed)
    drop = measure(markov_scorer(train), Cases(histories=train, targets=targets)).ndcg_at_10
    assert drop < 0.6 * measure(markov_scorer(TRAIN), CASES).ndcg_at_10


def test_a_sample_of_cases_is_a_subset_with_its_targets() -> None:
    few = sample_cases(CASES, 10, np.random.default_rng(0))
    pairs = {(tuple(TRAIN.history(u)), int(TARGETS[u])) for u in range(300)}
    assert all((tuple(few.histories.history(u)), int(few.targets[u])) in pairs for u in range(10))
    assert sample_cases(CASES, 1000, np.random.default_rng(0)) is CASES


@pytest.mark.parametrize("by", ["equal", "taste"])
def test_every_user_belongs_to_exactly_one_tenant(by: str) -> None:
    parts = assign_tenants(HISTORY, 5, by, np.random.default_rng(0))  # type: ignore[arg-type]
    assert len(parts) == 5
    assert min(len(part) for part in parts) > 0
    assert np.sort(np.concatenate(parts)).tolist() == list(range(300))


def test_tenants_by_taste_differ_more_than_equal_ones() -> None:
    blocks = chain_histories(num_users=100, num_items=30, length=8, seed=1)
    shifted = from_events(
        users=np.concatenate([blocks.rows(), blocks.rows() + 100]),
        items=np.concatenate([blocks.items, blocks.items + 30]).astype(np.int64),
        order=np.tile(np.arange(800.0), 2),
        num_users=200,
        num_items=60,
    )
    first, second = assign_tenants(shifted, 2, "taste", np.random.default_rng(0))
    assert {bool(np.all(part < 100)) for part in (first, second)} == {True, False}
    assert {bool(np.all(part >= 100)) for part in (first, second)} == {True, False}
