"""Seal keys that were made out of another party's: what they would open, and the signature that keeps them out."""

from dataclasses import replace
from hashlib import sha512

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import BadSeal, BadSignature
from shared.secagg import exchange_proof, share_complaint
from shared.secagg.pairwise_keys import open_exchanged, pair_key, private_key, public_key
from shared.secagg.pairwise_messages import (
    Agreement,
    Bundle,
    Dealing,
    SealedShares,
    signed,
    verify_bundle,
    verify_possession,
)
from shared.secagg.pairwise_opening import deliveries_to
from shared.secagg.prg import MaskSeed, sum_packed
from shared.secagg.seal_key import make_seal_key, require_possession
from shared.secagg.secret import Secret
from shared.secagg.shamir import SHARE_BYTES, combine
from shared.secagg.topology_p import check_deliveries, prove_bad_shares
from tests.pairwise_cast import NOW, Round, resigned, signing_key

ROUND = Round()
VICTIM, ROGUE = ROUND.names[2], ROUND.names[5]
HONEST = [name for name in ROUND.names if name != ROGUE]
CTX, SEED = bytes(range(32)), bytes(range(32, 64))
P = 2**255 - 19


def multiple(key: bytes, factor: int) -> bytes:
    """`factor` times another party's key; once is the same point in other bytes."""
    if factor == 1:
        return key[:31] + bytes([key[31] | 0x80])
    point = exchange_proof._times(factor, exchange_proof._from_montgomery(key))
    return exchange_proof._to_montgomery(point)


class Attack:
    """One tenant announces a multiple of the victim's seal key and deals garbage; neighbours are asked for proof."""

    def __init__(self, factor: int) -> None:
        self.factor, self.values = factor, ROUND.values()
        self.advertised = {name: ROUND.advertise(name) for name in ROUND.names}
        key = multiple(self.advertised[VICTIM][1].seal_key, factor)
        self.bundles: list[Bundle] = [
            resigned(bundle, seal_key=key) if name == ROGUE else bundle for name, (_, bundle) in self.advertised.items()
        ]
        self.agreement: Agreement = ROUND.agree(self.bundles)
        self.dealt = {name: ROUND.deal(self.advertised[name][0], self.bundles) for name in HONEST}
        garbage = tuple(
            SealedShares(receiver=name, sealed=bytes(2 * SHARE_BYTES + 16), self_digest=bytes(32), key_digest=bytes(32))
            for name in self.agreement.graph.neighbours(ROGUE)
        )
        unsigned = Dealing(
            client=ROGUE, ctx=self.agreement.ctx, root=self.agreement.root, shares=garbage, signature=b""
        )
        self.garbage = signed(unsigned, signing_key(ROGUE))

    def ask(self, name: str) -> share_complaint.ShareComplaint:
        state = self.dealt[name][0]
        delivered = deliveries_to(name, [*(dealing for _, dealing in self.dealt.values()), self.garbage])
        with pytest.raises(BadSeal, match=ROGUE):
            check_deliveries(state, delivered)
        return prove_bad_shares(state, self.garbage, roster=ROUND.roster, now=NOW, signing_key=signing_key(name))

    def opened(self) -> np.ndarray:
        """The victim's own vector, from what its neighbours tell, the victim's dealing and its masked vector."""
        told = {}
        for name in HONEST:
            if name != VICTIM:
                point = exchange_proof._decode(self.ask(name).exchange)
                back = pow(self.factor, -1, exchange_proof._ORDER)
                told[name] = exchange_proof._to_montgomery(exchange_proof._times(back, point))
        where = {"ctx": self.agreement.ctx, "root": self.agreement.root}
        sealed = {each.receiver: each.sealed for each in self.dealt[VICTIM][1].shares}
        both = {
            self.agreement.graph.points[name]: open_exchanged(
                sealed[name], exchanged, sender=VICTIM, receiver=name, **where
            )
            for name, exchanged in told.items()
        }
        own, secret = (
            combine({point: each[part] for point, each in both.items()}, threshold=ROUND.threshold)
            for part in (slice(0, SHARE_BYTES), slice(SHARE_BYTES, None))
        )
        good = [dealing for _, dealing in self.dealt.values()]
        _, vector = ROUND.mask(self.dealt[VICTIM][0], deliveries_to(VICTIM, good), self.values[VICTIM])
        private = private_key(Secret(secret))
        pairs = {
            name: pair_key(
                private, self.agreement.bundles[name].mask_key, ctx=self.agreement.ctx, own=VICTIM, peer=name
            )
            for name in HONEST
            if name != VICTIM
        }
        return sum_packed(
            [vector.masked],
            ROUND.bits,
            ROUND.num_coordinates,
            added=[key for name, key in pairs.items() if name > VICTIM],
            subtracted=[MaskSeed(own).key(self.agreement.ctx), *(key for name, key in pairs.items() if name < VICTIM)],
        )


@pytest.mark.parametrize("factor", [1, 7])
def test_nobody_proves_anything_about_a_key_that_was_made_out_of_another(factor: int) -> None:
    attack = Attack(factor)
    for name in HONEST:
        with pytest.raises(BadSignature, match=f"{ROGUE} did not show that it holds the secret"):
            attack.ask(name)
    with pytest.raises(BadSignature, match="did not show"):
        verify_possession(attack.agreement.bundles[ROGUE])


@pytest.mark.parametrize("factor", [1, 7])
def test_without_that_guard_one_tenant_and_the_server_open_an_honest_vector(
    factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The control: these bundles pass every other check, and what neighbours then tell opens the victim's own values.
    monkeypatch.setattr(share_complaint, "verify_possession", lambda bundle: None)
    attack = Attack(factor)
    assert np.array_equal(attack.opened(), attack.values[VICTIM])


def test_every_honest_party_shows_that_it_holds_its_key() -> None:
    for name in ROUND.names:
        verify_possession(ROUND.advertise(name)[1])


def test_a_seal_key_that_no_proof_could_be_about_shows_no_possession() -> None:
    # u = 2 is on the twist, which X25519 takes: 2^3 + 486662 * 2^2 + 2 is no square.
    assert pow(8 + 486662 * 4 + 2, (P - 1) // 2, P) == P - 1
    bundle = ROUND.advertise(ROGUE)[1]
    twisted = resigned(bundle, seal_key=(2).to_bytes(32, "little"))
    verify_bundle(twisted, ctx=ROUND.ctx, roster=ROUND.roster, now=NOW)
    for last in (bundle.possession[-1], bundle.possession[-1] ^ 0x80):
        with pytest.raises(BadSignature, match=f"{ROGUE} did not show"):
            verify_possession(replace(twisted, possession=bundle.possession[:-1] + bytes([last])))


@pytest.mark.parametrize("seed", [bytes([number]) * 32 for number in range(8)])
def test_a_seal_key_is_an_ed25519_key_in_other_coordinates(seed: bytes) -> None:
    secret, key, possession = make_seal_key(seed, ctx=CTX, client="anna")
    edwards = int.from_bytes(Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw(), "little")
    y = edwards & ((1 << 255) - 1)
    assert int.from_bytes(key, "little") == (1 + y) * pow(1 - y, -1, P) % P
    assert (secret, key) == (sha512(seed).digest()[:32], public_key(secret))
    assert possession[-1] >> 7 == edwards >> 255
    require_possession(key, possession, ctx=CTX, client="anna")


def test_possession_is_shown_by_one_party_in_one_context_for_one_key() -> None:
    _, key, possession = make_seal_key(SEED, ctx=CTX, client="anna")
    other_key = make_seal_key(bytes(32), ctx=CTX, client="anna")[1]
    for changed in (
        {"client": "bert"},
        {"ctx": bytes(32)},
        {"key": other_key},
        {"key": multiple(key, 1)},
        {"key": multiple(key, 7)},
        {"key": (P - 1).to_bytes(32, "little")},
        {"key": key[:31]},
        {"possession": possession[:-1]},
        {"possession": possession + b"\0"},
        {"possession": bytes(64)},
        {"possession": b""},
    ):
        given = {"key": key, "possession": possession, "ctx": CTX, "client": "anna", **changed}
        with pytest.raises(BadSignature, match="did not show"):
            require_possession(given.pop("key"), given.pop("possession"), **given)


def test_every_byte_of_a_possession_counts() -> None:
    _, key, possession = make_seal_key(SEED, ctx=CTX, client="anna")
    for place in range(len(possession)):
        for bit in (1, 0x80):
            changed = possession[:place] + bytes([possession[place] ^ bit]) + possession[place + 1 :]
            with pytest.raises(BadSignature):
                require_possession(key, changed, ctx=CTX, client="anna")


def test_the_possession_stands_under_the_party_s_own_signature() -> None:
    bundle = ROUND.advertise(VICTIM)[1]
    other = ROUND.advertise(ROGUE)[1]
    bundles = [ROUND.advertise(name)[1] for name in ROUND.names]
    changed = [replace(each, possession=other.possession) if each.client == VICTIM else each for each in bundles]
    with pytest.raises(BadSignature):
        ROUND.agree(changed)
    assert bundle.possession != other.possession
