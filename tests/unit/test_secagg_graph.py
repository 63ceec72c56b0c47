"""The graph is symmetric and regular, and its numbers are those of an independent, slower computation."""

from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from shared.errors import BadSetting, PolicyViolation, UnknownKey
from shared.secagg.graph import (
    COMPLETE_UP_TO,
    build_graph,
    choose_degree,
    least_sparse,
    least_threshold,
    quorum,
    rarely_above,
    share_of,
)
from shared.secagg.pairwise_terms import PairwiseMinima, PairwiseTerms
from tests.pairwise_cast import names

ROOT = bytes(range(32))


@given(size=st.integers(2, 40), half=st.integers(1, 12), root=st.binary(min_size=32, max_size=32))
@settings(max_examples=60, deadline=None)
def test_every_party_has_the_degree_and_is_its_neighbours_neighbour(size: int, half: int, root: bytes) -> None:
    graph = build_graph(root, names(size), 2 * half)
    for name in graph.order:
        neighbours = graph.neighbours(name)
        assert len(set(neighbours)) == len(neighbours) == min(2 * half, size - 1)
        assert name not in neighbours
        assert list(neighbours) == sorted(neighbours)
        assert all(name in graph.neighbours(other) for other in neighbours)


def test_the_order_hangs_on_the_root_and_on_nothing_else() -> None:
    one = build_graph(ROOT, names(30), 6)
    assert build_graph(ROOT, names(30)[::-1], 6) == one
    assert build_graph(ROOT[::-1], names(30), 6).order != one.order
    assert one.points == {name: rank for rank, name in enumerate(names(30), start=1)}


@pytest.mark.parametrize("degree", [9, 10, 99])
def test_a_degree_that_reaches_everybody_gives_the_complete_graph(degree: int) -> None:
    graph = build_graph(ROOT, names(10), degree)
    assert all(len(graph.neighbours(name)) == 9 for name in names(10))


@pytest.mark.parametrize(("members", "degree"), [(("a",), 2), (("a", "a", "b"), 2), (names(10), 7), (names(10), 0)])
def test_a_graph_that_is_none_is_refused(members: tuple[str, ...], degree: int) -> None:
    with pytest.raises(BadSetting):
        build_graph(ROOT, members, degree)


def test_a_stranger_has_no_neighbours() -> None:
    with pytest.raises(UnknownKey, match="mallory"):
        build_graph(ROOT, names(5), 2).neighbours("mallory")


# --- the numbers ---


@pytest.mark.parametrize(
    ("parties", "marked", "places"), [(100, 20, 54), (1000, 200, 138), (500, 100, 17), (50, 45, 30)]
)
@pytest.mark.parametrize("bits", [1, 10, 20])
def test_the_tail_is_the_hypergeometric_one(parties: int, marked: int, places: int, bits: int) -> None:
    above = rarely_above(parties, marked, places, bits)
    law = hypergeom(parties - 1, marked, places)
    assert parties * law.sf(above) <= 2.0**-bits * (1 + 1e-9)
    assert above == 0 or parties * law.sf(above - 1) > 2.0**-bits * (1 - 1e-9)


def test_the_tail_is_exact_where_every_case_can_be_listed() -> None:
    # 9 others, 4 of them marked, 5 places: all 126 choices.
    counts = [len({0, 1, 2, 3} & set(chosen)) for chosen in combinations(range(9), 5)]
    for bits in range(12):
        above = rarely_above(10, 4, 5, bits)
        tail = [10 * Fraction(sum(count > x for count in counts), len(counts)) for x in range(5)]
        assert above == min(x for x in range(5) if tail[x] <= Fraction(1, 2**bits))


def loosely(parties: int, corrupt: int, dropped: int) -> tuple[int, int]:
    """The least degree and threshold for conditions 1 and 3 alone, with scipy's tails in place of exact integers."""

    def above(marked: int, places: int, bits: int) -> int:
        law = hypergeom(parties - 1, marked, places)
        return next(x for x in range(places + 1) if parties * law.sf(x) <= 2.0**-bits)

    for degree in range(2, parties, 2):
        threshold = (degree + above(corrupt, degree, 40)) // 2 + 1
        if threshold <= degree - above(dropped, degree, 20):
            return degree, threshold
    raise AssertionError


def test_without_drop_outs_chosen_after_the_graph_the_numbers_are_the_smaller_ones() -> None:
    assert loosely(1000, 200, 100) == (138, 102)
    # 20 colluding parties of 100 can all be neighbours, 10 dropped ones too: (54, 38) is safe, and (42, 32) the least.
    assert loosely(100, 20, 10) == (42, 32)
    assert 54 + rarely_above(100, 20, 54, 40) < 2 * 38
    assert 54 - rarely_above(100, 10, 54, 20) >= 38


def test_the_numbers_against_a_server_that_picks_its_drop_outs() -> None:
    assert least_sparse(1000, 200, 100, 40, 20) == (196, 152)
    assert least_sparse(100, 20, 10, 40, 20) == (62, 52)
    # Against 2^40 tries at the order.
    assert least_sparse(1000, 200, 100, 80, 20) == (264, 211)


@pytest.mark.parametrize("parties", [200, 1000])
def test_the_least_degree_meets_every_condition_and_the_next_smaller_none(parties: int) -> None:
    corrupt, dropped = parties // 5, parties // 10
    degree, threshold = least_sparse(parties, corrupt, dropped, 40, 20)

    def good(k: int, t: int) -> bool:
        def chance(marked: int, places: int, above: int) -> float:
            return float(parties * hypergeom(parties - 1, marked, places).sf(above))

        both_secrets = chance(corrupt, k, 2 * t - k - 1)
        cut = chance(corrupt, k // 2, t - k // 2 - 1)
        return max(both_secrets, cut) <= 2.0**-41 and chance(dropped, k, k - t) <= 2.0**-20

    assert good(degree, threshold)
    assert not any(good(degree - 2, t) for t in range(1, degree - 1))


@pytest.mark.parametrize(("parties", "expected"), [(5, (4, 3)), (10, (9, 6)), (20, (19, 12)), (100, (99, 60))])
def test_few_parties_form_the_complete_graph(parties: int, expected: tuple[int, int]) -> None:
    settings_ = {"corrupt": 0.2, "dropped": 0.1, "privacy_bits": 40, "recovery_bits": 20}
    assert parties <= COMPLETE_UP_TO
    degree, threshold = choose_degree(parties, **settings_)  # type: ignore[arg-type]
    assert (degree, threshold) == expected
    colluding, silent = share_of(0.2, parties), share_of(0.1, parties)
    assert 2 * threshold > degree + colluding >= 2 * (threshold - 1)
    assert threshold <= degree - silent


@pytest.mark.parametrize(
    ("parties", "corrupt", "dropped"), [(2, 0.0, 0.0), (3, 0.2, 0.1), (50, 0.4, 0.4), (300, 0.5, 0.4)]
)
def test_shares_that_no_graph_can_bear_are_refused(parties: int, corrupt: float, dropped: float) -> None:
    with pytest.raises(BadSetting, match="cannot sum"):
        choose_degree(parties, corrupt=corrupt, dropped=dropped, privacy_bits=40, recovery_bits=20)


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(BadSetting):
        share_of(share, 10)


def test_shares_round_up_as_the_written_decimal_does() -> None:
    assert [share_of(0.07, 100), share_of(0.071, 100), share_of(0.0, 9), share_of(0.29, 100)] == [7, 8, 0, 29]


@given(parties=st.integers(1, 60), data=st.data())
def test_two_quorums_share_an_honest_party(parties: int, data: st.DataObject) -> None:
    colluding = data.draw(st.integers(0, parties))
    needed = quorum(parties, colluding)
    # Each colluding party signs both; the honest ones that remain to be found are too many to be different.
    assert 2 * (needed - colluding) > parties - colluding
    assert 2 * (needed - 1 - colluding) <= parties - colluding


# --- local minima ---

MINIMA = PairwiseMinima(corrupt=0.2, dropped=0.1, privacy_bits=40, recovery_bits=20, min_active=18, min_users=1)
TERMS = {"num_parties": 20, "degree": 19, "threshold": 12, "min_active": 18}


def test_terms_at_the_minima_are_accepted_and_larger_ones_too() -> None:
    MINIMA.check(PairwiseTerms(**TERMS), num_tenants=20)
    MINIMA.check(PairwiseTerms(**{**TERMS, "threshold": 15, "min_active": 20}), num_tenants=20)


@pytest.mark.parametrize(
    ("change", "tenants", "field"),
    [
        ({"degree": 18}, 20, "degree"),
        ({"threshold": 11}, 20, "threshold"),
        ({"min_active": 17}, 20, "min_active"),
        # Twenty invited of a hundred: all twenty that may collude could be among them.
        ({}, 100, "threshold"),
    ],
)
def test_a_client_refuses_terms_below_its_own_minima(change: dict[str, int], tenants: int, field: str) -> None:
    with pytest.raises(PolicyViolation, match=field):
        MINIMA.check(PairwiseTerms(**{**TERMS, **change}), num_tenants=tenants)


def test_a_sum_with_one_honest_party_in_it_is_refused() -> None:
    loose = PairwiseMinima(corrupt=0.2, dropped=0.1, privacy_bits=40, recovery_bits=20, min_active=1, min_users=1)
    with pytest.raises(PolicyViolation, match="honest"):
        loose.check(PairwiseTerms(**{**TERMS, "min_active": 5}), num_tenants=20)
    assert loose.min_honest(PairwiseTerms(**{**TERMS, "min_active": 6}), 20) == 2


def test_a_large_federation_needs_the_sparse_numbers() -> None:
    large = {"num_parties": 1000, "degree": 196, "threshold": 152, "min_active": 900}
    MINIMA.check(PairwiseTerms(**large), num_tenants=1000)
    for change in ({"degree": 194}, {"threshold": 151}):
        with pytest.raises(PolicyViolation):
            MINIMA.check(PairwiseTerms(**{**large, **change}), num_tenants=1000)
    assert least_threshold(1000, 138, 200, 40) > 102


@pytest.mark.parametrize(
    "change",
    [{"degree": 7}, {"threshold": 20}, {"min_active": 21}, {"threshold": 0}, {"num_parties": 2**31}, {"degree": True}],
)
def test_terms_that_are_none_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(BadSetting):
        PairwiseTerms(**{**TERMS, **change})
