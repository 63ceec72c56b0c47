"""What a party would give away that deals its keys of one round under two lists of parties, and so why it notes that
it dealt in its ledger, where no restored file of rounds can take it back."""

from collections.abc import Sequence

import numpy as np

from shared.roster import Roster
from shared.secagg.pairwise_keys import pair_key, private_key
from shared.secagg.pairwise_messages import Agreement
from shared.secagg.pairwise_opening import _Shares, deliveries_to
from shared.secagg.pairwise_state import Advertised
from shared.secagg.pairwise_terms import PairwiseMinima
from shared.secagg.prg import MaskSeed, sum_packed
from shared.secagg.secret import Secret
from tests.pairwise_cast import Round, names, roster

NAMES = names(10)
VICTIM, FIRST, SECOND = NAMES[5], NAMES[:5], NAMES[6:]
MINIMA = PairwiseMinima(corrupt=0.2, dropped=0.1, privacy_bits=40, recovery_bits=20, min_active=2, min_users=20)


class OfTen(Round):
    """Rounds of six of the ten tenants on the roster, with the shares of a policy that changed nothing."""

    @property
    def roster(self) -> Roster:
        return roster(len(NAMES))


ROUND = OfTen(num_parties=6, degree=5, threshold=4, min_active=5, minima=MINIMA)
ADVERTISED = {name: ROUND.advertise(name) for name in NAMES}
VALUES = {name: np.arange(ROUND.num_coordinates) + 100 * place for place, name in enumerate(NAMES)}


def a_round(state: Advertised, parties: Sequence[str], active: Sequence[str]) -> tuple[Agreement, _Shares, bytes]:
    """One list of parties, asked to the end: who is not active is said to have dropped out.

    Gives what the shares of the others open, and the victim's masked vector where it sent one.
    """
    bundles = [ADVERTISED[name][1] for name in sorted(parties)]
    dealt = {name: ROUND.deal(state if name == VICTIM else ADVERTISED[name][0], bundles) for name in sorted(parties)}
    dealings = [dealing for _, dealing in dealt.values()]
    masked = {name: ROUND.mask(dealt[name][0], deliveries_to(name, dealings), VALUES[name]) for name in active}
    signed = {name: ROUND.sign(masked[name][0], sorted(active)) for name in active}
    signatures = [signature for _, signature in signed.values()]
    unmaskings = [ROUND.unmask(signed[name][0], signatures)[1] for name in active if name != VICTIM]
    agreement = ROUND.agree(bundles)
    sent = masked[VICTIM][1].masked if VICTIM in masked else b""
    return agreement, _Shares(agreement, dealings, unmaskings), sent


def test_a_second_dealing_would_open_the_vector_of_an_honest_party_among_honest_ones() -> None:
    before = ADVERTISED[VICTIM][0]
    _, first, _ = a_round(before, [*FIRST, VICTIM], FIRST)
    private = private_key(Secret(first.mask_secret(VICTIM)))
    agreement, second, vector = a_round(before, [*SECOND, VICTIM], [*SECOND, VICTIM])

    pairs = {
        peer: pair_key(private, agreement.bundles[peer].mask_key, ctx=ROUND.ctx, own=VICTIM, peer=peer)
        for peer in SECOND
    }
    opened = sum_packed(
        [vector],
        ROUND.bits,
        ROUND.num_coordinates,
        added=[key for peer, key in pairs.items() if peer > VICTIM],
        subtracted=[
            MaskSeed(second.self_seed(VICTIM)).key(ROUND.ctx),
            *(key for peer, key in pairs.items() if peer < VICTIM),
        ],
    )
    assert np.array_equal(opened, VALUES[VICTIM])
