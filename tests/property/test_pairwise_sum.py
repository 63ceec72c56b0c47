"""Masks cancel exactly, whoever falls silent and when; what cannot be opened is refused and never opened wrong."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.errors import TooFewClients
from shared.secagg import ring
from shared.secagg.pairwise_keys import pair_key, private_key
from shared.secagg.pairwise_messages import Agreement, MaskedVector
from shared.secagg.pairwise_opening import deliveries_to
from shared.secagg.prg import mask_packed
from tests.pairwise_cast import Course, Round

STEPS = ("r0", "r1", "r2", "r3", "r4")
NAMES = Round().names
LENGTHS = st.one_of(st.integers(1, 70), st.sampled_from([8191, 16385, 32769]))
# Each party speaks to the end or falls silent at one step.
SILENCE = st.fixed_dictionaries({name: st.sampled_from((*STEPS, "never", "never", "never", "never")) for name in NAMES})


def may_sum(fell: Mapping[str, str]) -> bool:
    """Whether enough are left: by the protocol's text, for the complete graph on 8 with threshold 5 and 2 colluding."""

    def past(step: str) -> set[str]:
        return {name for name in NAMES if fell[name] == "never" or STEPS.index(fell[name]) > STEPS.index(step)}

    came, dealt, active, signed, answered = map(past, STEPS)
    quorum = (len(came) + 2) // 2 + 1
    # An active party's seed opens from 5 answers of others, a dropped one's key from 5 answers.
    opens = all(len(answered - {name}) >= 5 for name in active) and (dealt == active or len(answered) >= 5)
    return len(came) >= 6 and len(dealt) >= 6 and len(active) >= 6 and len(signed) >= max(6, quorum) and opens


@given(fell=SILENCE, bits=st.sampled_from(ring.WIDTHS), size=LENGTHS, seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
@example(fell=dict.fromkeys(NAMES, "never"), bits=32, size=7, seed=0)
@example(fell={**dict.fromkeys(NAMES, "never"), NAMES[0]: "r2", NAMES[7]: "r2"}, bits=24, size=9, seed=1)
@example(fell={**dict.fromkeys(NAMES, "never"), NAMES[3]: "r2", NAMES[1]: "r4"}, bits=16, size=9, seed=1)
@example(fell={**dict.fromkeys(NAMES, "never"), NAMES[3]: "r0", NAMES[5]: "r1"}, bits=64, size=9, seed=1)
@example(fell={**dict.fromkeys(NAMES, "never"), NAMES[3]: "r3", NAMES[5]: "r4"}, bits=64, size=1, seed=1)
def test_the_opened_sum_is_the_plain_sum_of_the_active_whoever_fell_silent(
    fell: dict[str, str], bits: int, size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    share = 2 ** (bits - 1) // len(NAMES)
    values = {name: rng.integers(-share, share, size) for name in NAMES}
    silent = {step: [name for name in NAMES if fell[name] == step] for step in STEPS}
    the_round = Round(num_coordinates=size, bits=bits, seed=seed)
    if not may_sum(fell):
        with pytest.raises(TooFewClients):
            the_round.run(values, **silent).open()
        return
    course = the_round.run(values, **silent)
    opened = course.open()
    assert opened.active == tuple(name for name in NAMES if fell[name] not in ("r0", "r1", "r2"))
    assert np.array_equal(opened.total, sum(values[name] for name in opened.active))


@given(data=st.data(), bits=st.sampled_from(ring.WIDTHS))
@settings(max_examples=10, deadline=None)
def test_a_sum_wraps_as_the_ring_does_at_the_very_edges(data: st.DataObject, bits: int) -> None:
    half = 2 ** (bits - 1)
    rows = {name: np.array(data.draw(st.lists(st.integers(-half, half - 1), min_size=2, max_size=2))) for name in NAMES}
    opened = Round(num_coordinates=2, bits=bits).run(rows).open()
    columns = zip(*(map(int, row) for row in rows.values()), strict=True)
    assert opened.total.tolist() == [(sum(column) + half) % (2 * half) - half for column in columns]


def test_a_sparse_graph_sums_too(monkeypatch: pytest.MonkeyPatch) -> None:
    # Below 101 parties the rule asks for the complete graph; what is tried here is that the masks cancel without it.
    monkeypatch.setattr("shared.secagg.graph.COMPLETE_UP_TO", 3)
    minima = {"corrupt": 0.0, "dropped": 0.0, "privacy_bits": 0, "recovery_bits": 0, "min_active": 9, "min_users": 1}
    sparse = Round(num_parties=14, degree=6, threshold=4, min_active=9, minima=type(Round().minima)(**minima))  # type: ignore[arg-type]
    course = sparse.run(r2=[sparse.names[4]], r4=[sparse.names[9]])
    assert {len(course.agreement.graph.neighbours(name)) for name in sparse.names} == {6}
    assert np.array_equal(course.open().total, sum(sparse.values()[name] for name in course.active))


def test_the_order_of_messages_does_not_matter() -> None:
    course = Round().run(r2=[NAMES[2]])
    backwards = {name: getattr(course, name)[::-1] for name in ("dealings", "vectors", "unmaskings")}
    assert np.array_equal(course.open(**backwards).total, course.open().total)
    shuffled = course.dealings[::-1]
    assert deliveries_to(NAMES[0], shuffled) == deliveries_to(NAMES[0], course.dealings)


# --- what is left uniform, with the mistakes that must show ---


def unpacked(vector: MaskedVector, the_round: Round) -> Any:
    return ring.decode(ring.unpack(vector.masked, the_round.bits, the_round.num_coordinates), the_round.bits)


def test_a_masked_vector_is_noise_and_partial_sums_are_noise() -> None:
    wide = Round(bits=64, num_coordinates=256)
    course = wide.run({name: np.ones(256, dtype=np.int64) for name in wide.names})
    total = np.zeros(256, dtype=np.int64)
    for vector in course.vectors:
        masked = unpacked(vector, wide)
        assert np.median(np.abs(masked.astype(float))) > 2.0**60
        total = total + masked
        # Even all of them: every party's own mask is still on.
        assert np.median(np.abs(total.astype(float))) > 2.0**60


def test_without_its_own_masks_the_sum_lies_open_before_anybody_unmasks(monkeypatch: pytest.MonkeyPatch) -> None:
    # The control of the test above: with the pairs' masks alone, a late vector or a lie about drop-outs opens one.
    def pairs_only(values: Any, bits: int, *, added: list[bytes], **rest: Any) -> bytes:
        return mask_packed(values, bits, added=added[1:], **rest)

    monkeypatch.setattr("shared.secagg.topology_p.mask_packed", pairs_only)
    wide = Round(bits=64, num_coordinates=256)
    course = wide.run({name: np.ones(256, dtype=np.int64) for name in wide.names})
    total = sum(unpacked(vector, wide) for vector in course.vectors)
    assert np.array_equal(total, np.full(256, len(NAMES)))


def test_nobody_else_knows_a_pairs_mask_and_both_know_the_same() -> None:
    course: Course = Round().run()
    agreement: Agreement = course.agreement

    def key(own: str, peer: str) -> bytes:
        secret = course.advertised[own][0].mask_secret
        return pair_key(private_key(secret), agreement.bundles[peer].mask_key, ctx=agreement.ctx, own=own, peer=peer)

    pairs = {key(own, peer) for own in NAMES for peer in NAMES if own < peer}
    assert len(pairs) == 28
    assert all(key(own, peer) == key(peer, own) for own in NAMES for peer in NAMES if own < peer)
