from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shared.catalogue import CatalogueSnapshot, Item
from shared.errors import ArtifactRejected, BadInput, CatalogueMismatch
from shared.interactions import from_events
from shared.ranking import (
    FoldIn,
    RankingModel,
    fold_in_weights,
    for_device,
    for_many_users,
    recommend,
    score,
    score_many,
    user_vector,
)
from shared.recipes.recon import solve_users
from shared.text_features import build_text_features

TEXTS = ["python 数据分析", "python 编程入门", "古典音乐欣赏", "音乐史与古典作品", "python 数据科学", "古典诗词"]
FEATURES = build_text_features(TEXTS, 4)
CATALOGUE = CatalogueSnapshot(
    version=1, items=tuple(Item(id=f"c{i}", title=text) for i, text in enumerate(TEXTS)), features=FEATURES
)
WEIGHTS = np.array([[0, 3, 1, 0], [3, 0, 0, 2], [1, 0, 0, 5], [0, 2, 5, 0]], dtype=np.float32)


def model(**changes: Any) -> RankingModel:
    fields: dict[str, Any] = {
        "catalogue_digest": CATALOGUE.digest,
        "recipe": "cooccurrence",
        "readout": "weights",
        "popularity": np.array([6, 5, 4, 3, 2, 1], dtype=np.float32),
        "head": np.arange(4, dtype=np.int32),
        "fold_in": FoldIn(),
        "item_weights": WEIGHTS,
    }
    return RankingModel(**{**fields, **changes})


def history(*items: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.array(items, dtype=np.int32)


def test_the_user_vector_is_recent_first_and_of_unit_length() -> None:
    vector = user_vector(history(4, 2, 9), 1.0)
    np.testing.assert_allclose(vector / vector[-1], [1 / 3, 1 / 2, 1])
    assert np.linalg.norm(vector) == pytest.approx(1)
    assert len(user_vector(history(), 1.0)) == 0


def test_scores_of_the_head_follow_the_weights_and_recency() -> None:
    even = score(model(), None, history(0, 3))
    assert np.argsort(-even[:4], kind="stable")[0] == 2  # 1 from item 0 and 5 from item 3
    sharp = score(model(fold_in=FoldIn(recency=20.0)), None, history(3, 0))
    assert np.argmax(sharp) == 1


def test_items_outside_the_head_stand_below_it_in_order_of_popularity() -> None:
    scores = score(model(), None, history(0))
    assert scores[:4].min() > scores[4] > scores[5]


def test_an_empty_or_unknown_history_is_ranked_by_popularity() -> None:
    for items in (history(), history(5)):
        scores = score(model(), None, items)
        assert np.argsort(-scores, kind="stable").tolist() == [0, 1, 2, 3, 4, 5]


def test_a_popularity_model_ranks_by_popularity() -> None:
    plain = model(readout="popularity", item_weights=None, head=history())
    assert np.argsort(-score(plain, None, history(2))).tolist() == [0, 1, 2, 3, 4, 5]


def test_text_lifts_an_item_that_no_sum_knows() -> None:
    scores = score(model(fold_in=FoldIn(text_weight=50.0)), FEATURES, history(0, 1))
    assert max(range(2, 6), key=lambda item: scores[item]) == 4


def test_many_users_score_as_each_alone() -> None:
    rng = np.random.default_rng(0)
    events = from_events(
        users=np.array([0, 0, 1, 2, 2, 2]),
        items=np.array([0, 3, 5, 1, 2, 4]),
        order=rng.random(6),
        num_users=4,
        num_items=6,
    )
    factors = rng.standard_normal((4, 3)).astype(np.float32)
    kinds = [
        model(fold_in=FoldIn(recency=0.7, popularity_discount=0.3, text_weight=0.5)),
        for_device(model(), 2),
        model(readout="factors", item_weights=None, item_factors=factors),
        model(
            readout="reconstruction", item_weights=None, item_factors=factors, fold_in=FoldIn(recency=1.0, ridge=0.5)
        ),
    ]
    for kind in kinds:
        together = score_many(kind, FEATURES, events)
        for user in range(4):
            np.testing.assert_allclose(together[user], score(kind, FEATURES, events.history(user)), atol=1e-4)


@pytest.mark.parametrize("readout", ["weights", "factors"])
def test_short_histories_score_as_in_one_dense_product(readout: str) -> None:
    rng = np.random.default_rng(3)
    size, num_users = 130, 40
    table = rng.standard_normal((size, size if readout == "weights" else 7)).astype(np.float32)
    known = {"item_weights": table, "item_factors": None}
    if readout == "factors":
        known = {"item_weights": None, "item_factors": table}
    large = model(
        readout=readout,
        popularity=np.ones(size, dtype=np.float32),
        head=rng.permutation(size).astype(np.int32),
        **known,
    )
    lengths = rng.integers(0, 4, num_users)
    users = np.repeat(np.arange(num_users), lengths)
    short = from_events(
        users=users,
        items=np.concatenate([rng.choice(size, length, replace=False) for length in lengths]),
        order=np.arange(len(users), dtype=np.float64),
        num_users=num_users,
        num_items=size,
    )
    dense = np.zeros((num_users, size))
    dense[short.rows(), short.items] = fold_in_weights(large, short)
    in_head = dense[:, large.head]
    expected = in_head @ table if readout == "weights" else in_head @ table @ table.T
    heard = short.lengths > 0
    table_scores = score_many(for_many_users(large), None, short)
    np.testing.assert_allclose(table_scores, score_many(large, None, short), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        score_many(large, None, short)[:, large.head][heard], expected[heard], rtol=1e-4, atol=1e-5
    )


def test_factors_score_as_v_vt_w() -> None:
    factors = np.random.default_rng(1).standard_normal((4, 2)).astype(np.float32)
    made = score(model(readout="factors", item_weights=None, item_factors=factors), None, history(0, 2))[:4]
    expected = factors @ (factors[0] + factors[2])
    np.testing.assert_allclose(np.corrcoef(made, expected)[0, 1], 1, atol=1e-6)


def test_reconstruction_scores_are_those_of_the_closed_form() -> None:
    factors = np.random.default_rng(1).standard_normal((6, 2)).astype(np.float32)
    everything = np.arange(6, dtype=np.int32)
    fold_in = FoldIn(ridge=0.5, negative_weight=0.1)
    made = model(readout="reconstruction", item_weights=None, item_factors=factors, head=everything, fold_in=fold_in)
    one = from_events(
        users=np.zeros(2, dtype=np.int64), items=np.array([1, 4]), order=np.arange(2.0), num_users=1, num_items=6
    )
    user = solve_users(factors.astype(np.float64), one, ridge=0.5, negative_weight=0.1)[0]
    np.testing.assert_allclose(np.corrcoef(score(made, None, history(1, 4)), factors @ user)[0, 1], 1, atol=1e-6)


def test_only_the_most_recent_items_speak_when_asked_so() -> None:
    short = model(fold_in=FoldIn(max_items=1))
    np.testing.assert_allclose(score(short, None, history(3, 2, 0)), score(model(), None, history(0)))


def test_a_device_model_keeps_the_strongest_entries_and_their_scores() -> None:
    full = score(model(), None, history(1, 2))
    np.testing.assert_allclose(score(for_device(model(), 4), None, history(1, 2)), full, atol=1e-5)
    pruned = for_device(model(), 1)
    assert pruned.item_weights is not None
    assert pruned.item_weights.shape == (4, 1)
    assert for_device(pruned) is pruned


def test_recommendations_leave_out_what_is_known_or_excluded_and_say_why() -> None:
    first, second = recommend(model(), CATALOGUE, history(0, 2), 2, exclude={1})
    assert (first.item, first.reason, first.because_of) == (3, "because_of_item", 2)
    assert second.item == 4
    assert second.reason == "similar_text"
    cold = recommend(model(), CATALOGUE, history(), 3)
    assert [(line.item, line.reason) for line in cold] == [(0, "popular"), (1, "popular"), (2, "popular")]


def test_the_last_place_goes_to_text_when_the_head_would_fill_the_list() -> None:
    wide = model(head=np.arange(5, dtype=np.int32), item_weights=np.pad(WEIGHTS, (0, 1)))
    digest_free = replace(CATALOGUE, features=build_text_features([*TEXTS[:5], "python 数据"], 4))
    bigger = replace(wide, catalogue_digest=digest_free.digest)
    with_slot = recommend(bigger, digest_free, history(0), 5)
    assert {line.item for line in with_slot} == {1, 2, 3, 4, 5}
    full_head = [line.item for line in recommend(bigger, digest_free, history(0), 4)]
    assert 5 not in full_head


def test_a_model_of_another_catalogue_is_refused() -> None:
    with pytest.raises(CatalogueMismatch):
        recommend(model(catalogue_digest="0" * 64), CATALOGUE, history(0), 2)
    events = from_events(
        users=np.zeros(1, dtype=np.int64), items=np.array([7]), order=np.zeros(1), num_users=1, num_items=8
    )
    with pytest.raises(BadInput, match="6 items"):
        score_many(model(), None, events)


@pytest.mark.parametrize(
    "changes",
    [
        {"head": np.array([0, 0, 1, 2], dtype=np.int32)},
        {"head": np.array([0, 1, 2, 6], dtype=np.int32)},
        {"item_weights": WEIGHTS[:3]},
        {"item_weights": np.full((4, 4), np.nan, dtype=np.float32)},
        {"item_weights": WEIGHTS[:, :2]},
        {"item_weights": WEIGHTS[:, :2], "item_columns": np.full((4, 2), 4, dtype=np.int32)},
        {"readout": "oracle"},
        {"readout": "factors"},
        {"popularity": np.full(6, np.inf, dtype=np.float32)},
    ],
)
def test_a_model_whose_arrays_do_not_fit_is_rejected(changes: dict[str, Any]) -> None:
    with pytest.raises(ArtifactRejected):
        model(**changes)


@pytest.mark.parametrize("k", [0, 1, 3, 7, 40, 60, 100])
def test_the_best_are_those_of_a_whole_sort_however_many_scores_are_equal(k: int) -> None:
    random = np.random.default_rng(11)
    items = tuple(Item(id=f"c{number}", title="") for number in range(60))
    catalogue = CatalogueSnapshot(version=1, items=items, features=np.zeros((60, 0), dtype=np.float32))
    for _ in range(20):
        popularity = random.integers(0, 6, 60).astype(np.float32)
        excluded = random.choice(60, size=15, replace=False)
        made = model(
            catalogue_digest=catalogue.digest, readout="popularity", popularity=popularity, item_weights=None,
            head=np.empty(0, dtype=np.int32),
        )  # fmt: skip
        nobody = np.empty(0, dtype=np.int32)
        for exclude in (excluded, {int(each) for each in excluded}):
            found = [line.item for line in recommend(made, catalogue, nobody, k, exclude=exclude)]
            rest = set(range(60)) - {int(each) for each in excluded}
            assert found == sorted(rest, key=lambda item: (-popularity[item], item))[:k]
