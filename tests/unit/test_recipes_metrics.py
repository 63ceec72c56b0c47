import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.metrics import (
    cosine,
    coverage,
    exposure_gini,
    f1,
    hit_rate,
    mean_reciprocal_rank,
    ndcg,
    precision,
    rank_of_target,
    recall,
    tail_share,
)


def test_precision_recall_and_f1_of_the_worked_example() -> None:
    p, r = precision(10, 10), recall(10, 90)
    assert (p, r) == (0.5, 0.1)
    assert f1(p, r) == pytest.approx(0.1667, abs=5e-5)


def test_nothing_shown_or_nothing_relevant_scores_zero() -> None:
    assert precision(0, 0) == recall(0, 0) == f1(0.0, 0.0) == 0.0


def test_cosine_is_the_plain_one() -> None:
    likes = np.array([0.2, 0.3, 0.5])
    assert cosine(likes, np.array([0.1, 0.8, 0.0])) == pytest.approx(0.5231, abs=5e-5)
    assert cosine(likes, np.array([0.1, 0.2, 0.7])) == pytest.approx(0.9492, abs=5e-5)
    assert cosine(likes, np.zeros(3)) == 0.0
    assert cosine(10 * likes, likes) == pytest.approx(1.0)


def test_a_constant_score_earns_what_chance_earns() -> None:
    ranks = rank_of_target(np.zeros((5, 21), dtype=np.float32), np.arange(5))
    assert ranks.tolist() == [10.0] * 5


@given(st.lists(st.integers(0, 4), min_size=2, max_size=12), st.data())
def test_the_rank_is_the_mean_place_over_all_orders_of_ties(values: list[int], data: st.DataObject) -> None:
    target = data.draw(st.integers(0, len(values) - 1))
    seen = data.draw(st.sets(st.integers(0, len(values) - 1))) - {target}
    scores = np.array([values], dtype=np.float32)
    scores[0, list(seen)] = -np.inf
    others = [value for place, value in enumerate(values) if place != target and place not in seen]
    best = sum(value > values[target] for value in others)
    worst = sum(value >= values[target] for value in others)
    assert rank_of_target(scores, np.array([target]))[0] == (best + worst) / 2


def test_rank_metrics_by_hand() -> None:
    ranks = np.array([0.0, 2.0, 9.0, 9.5, 10.0])
    assert hit_rate(ranks, 10) == 4 / 5
    assert ndcg(ranks[:3], 10) == pytest.approx((1 + 1 / 2 + 1 / np.log2(11)) / 3)
    assert mean_reciprocal_rank(np.array([0.0, 3.0])) == (1 + 1 / 4) / 2
    assert np.isnan(ndcg(np.array([]), 10))


def test_exposure_measures_by_hand() -> None:
    lists = np.array([[0, 1], [0, 1], [0, 2]])
    assert coverage(lists, 4) == 3 / 4
    assert exposure_gini(np.array([[0, 1], [2, 3]]), 4) == 0.0
    assert exposure_gini(np.zeros((1, 8), dtype=np.int64), 4) == pytest.approx(0.75)
    assert tail_share(lists, np.array([9.0, 1.0, 1.0, 1.0, 1.0])) == 0.5
