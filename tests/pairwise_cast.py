"""A federation that sums without helpers: tenants in any number, one honest server, every argument open to change."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from shared.roster import Member, Roster
from shared.secagg import pairwise_opening as server
from shared.secagg import pairwise_state as states
from shared.secagg import topology_p as client
from shared.secagg.context import context
from shared.secagg.pairwise_messages import (
    ActiveSignature,
    Agreement,
    Bundle,
    Dealing,
    Delivery,
    MaskedVector,
    Unmasking,
    agree,
    signed,
)
from shared.secagg.pairwise_terms import PairwiseMinima, PairwiseTerms
from shared.secagg.prg import Keystream

NOW = 1_000
MINIMA = PairwiseMinima(corrupt=0.15, dropped=0.15, privacy_bits=40, recovery_bits=20, min_active=5, min_users=20)


@cache
def signing_key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha256(f"sign {name}".encode()).digest())


def names(count: int) -> tuple[str, ...]:
    return tuple(f"tenant-{index:03d}" for index in range(count))


@cache
def roster(count: int, extra: tuple[str, ...] = ()) -> Roster:
    entries = tuple(
        Member(
            name=name,
            signing_key=signing_key(name).public_key().public_bytes_raw().hex(),
            sealing_key="",
            roles=("tenant",),
            not_before=0,
            not_after=2 * NOW,
        )
        for name in (*names(count), *extra)
    )
    return Roster(entries=entries, issued_at=0, expires_at=2 * NOW)


def random_bytes(seed: int | str) -> Callable[[int], bytes]:
    return Keystream(sha256(str(seed).encode()).digest()).read


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round among `num_parties` tenants; each step can be asked for alone, with every argument open to change."""

    num_parties: int = 8
    num_coordinates: int = 7
    bits: int = 32
    step: int = 0
    seed: int = 1
    degree: int = 7
    threshold: int = 5
    min_active: int = 5
    minima: PairwiseMinima = field(default=MINIMA)

    @property
    def names(self) -> tuple[str, ...]:
        return names(self.num_parties)

    @property
    def roster(self) -> Roster:
        return roster(self.num_parties)

    @property
    def terms(self) -> PairwiseTerms:
        return PairwiseTerms(
            num_parties=self.num_parties, degree=self.degree, threshold=self.threshold, min_active=self.min_active
        )

    @property
    def base(self) -> bytes:
        return context(
            plan_digest="ab" * 32,
            job_id="job-1",
            step=self.step,
            attempt=0,
            num_coordinates=self.num_coordinates,
            bits=self.bits,
            inputs_digest=bytes(32),
            roster_digest=self.roster.digest,
        )

    @property
    def ctx(self) -> bytes:
        return self.terms.context(self.base)

    def values(self) -> dict[str, NDArray[np.int64]]:
        rng = np.random.default_rng(self.seed)
        return {name: rng.integers(-99, 99, self.num_coordinates) for name in self.names}

    def advertise(self, name: str, **changes: Any) -> tuple[states.Advertised, Bundle]:
        arguments: dict[str, Any] = {
            "base": self.base,
            "client": name,
            "declared_users": 10,
            "terms": self.terms,
            "minima": self.minima,
            "roster": self.roster,
            "signing_key": signing_key(name),
            "random_bytes": random_bytes(f"{self.seed} {name}"),
        }
        return client.advertise(**{**arguments, **changes})

    def deal(
        self, state: states.ClientState, bundles: Sequence[Bundle], **changes: Any
    ) -> tuple[states.Dealt, Dealing]:
        arguments = {"roster": self.roster, "now": NOW, "signing_key": signing_key(state.client), **changes}
        return client.deal(state, bundles, **arguments)

    def mask(
        self, state: states.ClientState, deliveries: Sequence[Delivery], values: NDArray[np.int64]
    ) -> tuple[states.Masked, MaskedVector]:
        return client.mask_vector(state, deliveries, values, bits=self.bits, signing_key=signing_key(state.client))

    def sign(self, state: states.ClientState, active: Sequence[str]) -> tuple[states.Committed, ActiveSignature]:
        return client.sign_active(state, active, signing_key=signing_key(state.client))

    def unmask(
        self, state: states.ClientState, signatures: Sequence[ActiveSignature]
    ) -> tuple[states.Finished, Unmasking]:
        others = [each for each in signatures if each.client != state.client]
        return client.unmask(state, others, roster=self.roster, now=NOW, signing_key=signing_key(state.client))

    def agree(self, bundles: Sequence[Bundle], **changes: Any) -> Agreement:
        arguments = {"ctx": self.ctx, "terms": self.terms, "roster": self.roster, "now": NOW, **changes}
        return agree(bundles, **arguments)

    def run(self, values: Mapping[str, NDArray[np.int64]] | None = None, **silent: Sequence[str]) -> "Course":
        """The honest round; `silent["r1"]` says nothing from R1 on, and so forth."""
        return Course(self, self.values() if values is None else values, silent)


class Course:
    """How an honest round went: every state and message of it."""

    def __init__(
        self, the_round: Round, values: Mapping[str, NDArray[np.int64]], silent: Mapping[str, Sequence[str]]
    ) -> None:
        self.round = the_round
        gone: set[str] = set(silent.get("r0", ()))

        def here(step: str) -> list[str]:
            gone.update(silent.get(step, ()))
            return [name for name in the_round.names if name not in gone]

        self.advertised = {name: the_round.advertise(name) for name in here("r0")}
        self.bundles = [bundle for _, bundle in self.advertised.values()]
        self.agreement = the_round.agree(self.bundles)
        self.dealt = {name: the_round.deal(self.advertised[name][0], self.bundles) for name in here("r1")}
        self.dealings = [dealing for _, dealing in self.dealt.values()]
        self.masked = {
            name: the_round.mask(self.dealt[name][0], server.deliveries_to(name, self.dealings), values[name])
            for name in here("r2")
        }
        self.vectors = [vector for _, vector in self.masked.values()]
        self.active = tuple(self.masked)
        self.committed = {name: the_round.sign(self.masked[name][0], self.active) for name in here("r3")}
        self.signatures = [signature for _, signature in self.committed.values()]
        self.finished = {name: the_round.unmask(self.committed[name][0], self.signatures) for name in here("r4")}
        self.unmaskings = [unmasking for _, unmasking in self.finished.values()]

    def open(self, **changes: Any) -> server.OpenedSum:
        arguments: dict[str, Any] = {
            "agreement": self.agreement,
            "dealings": self.dealings,
            "vectors": self.vectors,
            "unmaskings": self.unmaskings,
            "roster": self.round.roster,
            "now": NOW,
            "bits": self.round.bits,
            "num_coordinates": self.round.num_coordinates,
        }
        return server.open_pairwise_sum(**{**arguments, **changes})


def resigned(message: Any, **changes: Any) -> Any:
    """The message with other fields, signed by the party it then names: what a malicious party may say."""
    changed = replace(message, **changes)
    return signed(changed, signing_key(changed.client))
