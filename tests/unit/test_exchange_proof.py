"""Proofs of an exchange against the library's own X25519, and everything that must not pass for one."""

from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from shared.errors import BadSignature, UnknownKey
from shared.secagg import exchange_proof
from shared.secagg.exchange_proof import (
    POINT_BYTES,
    PROOF_BYTES,
    prove_exchange,
    verify_exchange,
)

P = 2**255 - 19
# Of the subgroup of edwards25519 that proofs are about (RFC 8032, section 5.1).
ORDER = 2**252 + 27742317777372353535851937790883648493
STATEMENT = b"these two, in this round"


def secret(name: str) -> bytes:
    return sha256(name.encode()).digest()


def public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def exchanged(private: bytes, peer: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(peer))


def a_proof(name: str = "anna", peer: str = "bert") -> tuple[bytes, bytes, bytes, bytes]:
    own, other = public(secret(name)), public(secret(peer))
    return *prove_exchange(secret(name), own, other, STATEMENT), own, other


@pytest.mark.parametrize("number", range(12))
def test_a_proof_gives_what_x25519_gives(number: int) -> None:
    private, peer = secret(f"own {number}"), public(secret(f"peer {number}"))
    point, proof = prove_exchange(private, public(private), peer, STATEMENT)
    assert (len(point), len(proof)) == (POINT_BYTES, PROOF_BYTES)
    assert verify_exchange(point, proof, public(private), peer, STATEMENT) == exchanged(private, peer)


def test_bits_that_x25519_ignores_are_ignored() -> None:
    private = secret("anna")[:31] + b"\xff"
    peer = public(secret("bert"))
    high = peer[:31] + bytes([peer[31] | 0x80])
    for each in (peer, high):
        point, proof = prove_exchange(private, public(private), each, STATEMENT)
        assert verify_exchange(point, proof, public(private), each, STATEMENT) == exchanged(private, each)


def test_the_same_arguments_give_the_same_bytes_and_others_another_nonce() -> None:
    own, peer = public(secret("anna")), public(secret("bert"))
    assert prove_exchange(secret("anna"), own, peer, STATEMENT) == prove_exchange(secret("anna"), own, peer, STATEMENT)
    answers = set()
    for statement in (b"one", b"two"):
        _, proof = prove_exchange(secret("anna"), own, peer, statement)
        challenge, answer = (int.from_bytes(part, "little") for part in (proof[:32], proof[32:]))
        scalar = exchange_proof._clamped(secret("anna")) // 8
        answers.add((answer - challenge * scalar) % exchange_proof._ORDER)
    assert len(answers) == 2


@pytest.mark.parametrize("place", [0, 15, 31, 32, 47, 63])
def test_no_other_bytes_pass_for_the_proof(place: int) -> None:
    point, proof, own, peer = a_proof()
    other = proof[:place] + bytes([proof[place] ^ 1]) + proof[place + 1 :]
    with pytest.raises(BadSignature):
        verify_exchange(point, other, own, peer, STATEMENT)


@pytest.mark.parametrize("part", ["challenge", "answer"])
def test_the_same_number_written_larger_by_the_order_is_refused(part: str) -> None:
    """Modulo the order of the group it is the same proof, and whoever carries it could write it in other bytes."""
    point, proof, own, peer = a_proof()
    verify_exchange(point, proof, own, peer, STATEMENT)
    challenge, answer = (int.from_bytes(each, "little") for each in (proof[:32], proof[32:]))
    larger = {"challenge": (challenge + ORDER, answer), "answer": (challenge, answer + ORDER)}[part]
    other = b"".join(number.to_bytes(32, "little") for number in larger)
    with pytest.raises(BadSignature, match="too large"):
        verify_exchange(point, other, own, peer, STATEMENT)


def test_a_proof_holds_for_its_keys_and_its_statement_alone() -> None:
    point, proof, own, peer = a_proof()
    third = public(secret("carl"))
    for keys in ((own, third), (third, peer), (peer, own)):
        with pytest.raises(BadSignature):
            verify_exchange(point, proof, *keys, STATEMENT)
    with pytest.raises(BadSignature):
        verify_exchange(point, proof, own, peer, b"another round")


def test_the_exchange_with_another_key_is_not_proved_by_it() -> None:
    own, peer = public(secret("anna")), public(secret("bert"))
    false, _ = prove_exchange(secret("anna"), own, public(secret("carl")), STATEMENT)
    _, proof = prove_exchange(secret("anna"), own, peer, STATEMENT)
    with pytest.raises(BadSignature):
        verify_exchange(false, proof, own, peer, STATEMENT)
    # Nor by one who does not hold the key: everything of it but the secret.
    false, proof = prove_exchange(secret("carl"), own, peer, STATEMENT)
    with pytest.raises(BadSignature):
        verify_exchange(false, proof, own, peer, STATEMENT)


def low_order_point() -> exchange_proof._Point:
    """(0, -1), of order two."""
    return exchange_proof._affine(0, P - 1)


@pytest.mark.parametrize("which", ["exchange", "own key"])
def test_a_part_of_low_order_hides_no_other_exchange(which: str) -> None:
    """What a prover gains that adds a point of order two, with a challenge that happens to cancel it."""
    point, _, own, peer = a_proof()
    shifted = exchange_proof._plus(exchange_proof._decode(point), low_order_point())
    key = exchange_proof._plus(exchange_proof._from_montgomery(own), low_order_point())
    private = exchange_proof._clamped(secret("anna")) // 8
    base, other = (
        exchange_proof._eightfold(each) for each in (exchange_proof._BASE, exchange_proof._from_montgomery(peer))
    )
    false = exchange_proof._encode(shifted) if which == "exchange" else point
    held = exchange_proof._to_montgomery(key) if which == "own key" else own
    tried = 0
    for nonce in range(1, 12):
        commitments = exchange_proof._times(nonce, base), exchange_proof._times(nonce, other)
        challenge = exchange_proof._challenge(held, peer, false, *commitments, STATEMENT)
        if challenge % 2:
            continue  # An odd multiple of the added point is there to be seen in the proof itself.
        tried += 1
        proof = challenge.to_bytes(32, "little") + ((nonce + challenge * private) % exchange_proof._ORDER).to_bytes(
            32, "little"
        )
        with pytest.raises(BadSignature, match="prime order"):
            verify_exchange(false, proof, held, peer, STATEMENT)
    assert tried > 2


@pytest.mark.parametrize(
    "u", [0, 1, P - 1, P, P + 1, 325606250916557431795983626356110631294008115727848805560023387167927233504]
)
def test_keys_of_low_order_give_no_proof(u: int) -> None:
    with pytest.raises(UnknownKey):
        prove_exchange(secret("anna"), public(secret("anna")), u.to_bytes(32, "little"), STATEMENT)


@pytest.mark.parametrize(
    ("point", "proof"),
    [
        (bytes(32), bytes(63)),
        (b"\xff" * 32, bytes(64)),
        (bytes(31), bytes(64)),
        ((1).to_bytes(32, "little"), bytes(64)),
        (bytes(32), b"\xff" * 64),
    ],
)
def test_what_is_no_point_or_no_number_is_refused(point: bytes, proof: bytes) -> None:
    _, _, own, peer = a_proof()
    with pytest.raises(BadSignature):
        verify_exchange(point, proof, own, peer, STATEMENT)
