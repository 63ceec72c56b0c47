"""A small federation to aggregate in: three tenants, two helpers, an issuer; keys from fixed bytes, so runs repeat."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from shared.roster import Member, Roster
from shared.sealing_certificate import SealingCertificate, certify_sealing_key
from shared.secagg.context import context
from shared.secagg.mask_sharing import MaskSharing
from shared.secagg.prg import Keystream
from shared.secagg.topology_h import Contribution, ContributionHeader, HelperAnswer, contribute, helper_answer, open_sum

NOW = 1_000
TENANTS = ("amber", "birch", "cedar")
HELPERS = ("north", "south")
THREE_HELPERS = ("east", "north", "south")
ONE_MAY_BE_ABSENT = MaskSharing(helpers=THREE_HELPERS, spare=1)


def signing_key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha256(f"sign {name}".encode()).digest())


def sealing_key(name: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(sha256(f"seal {name}".encode()).digest())


def public_hex(key: Ed25519PrivateKey | X25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def random_bytes(seed: int) -> Callable[[int], bytes]:
    return Keystream(seed.to_bytes(32, "big")).read


def certified(name: str, /, **changes: Any) -> SealingCertificate:
    """The sealing key of `name` in its own words."""
    fields: dict[str, Any] = {
        "name": name,
        "key": public_hex(sealing_key(name)),
        "not_before": 0,
        "not_after": 2 * NOW,
        "signing_key": signing_key(name),
    }
    return certify_sealing_key(**{**fields, **changes})


def member(name: str, /, **changes: Any) -> Member:
    helper = name in THREE_HELPERS
    fields: dict[str, Any] = {
        "name": name,
        "signing_key": public_hex(signing_key(name)),
        "sealing": certified(name) if helper else None,
        "roles": ("helper",) if helper else ("tenant",),
        "not_before": 0,
        "not_after": 2 * NOW,
    }
    return Member(**{**fields, **changes})


ROSTER = Roster(
    entries=tuple(member(name) for name in TENANTS + THREE_HELPERS), epoch=1, issued_at=0, expires_at=2 * NOW
)


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round of the protocol with every argument open to change."""

    num_coordinates: int = 7
    bits: int = 32
    roster: Roster = ROSTER
    now: int = NOW
    step: int = 0
    seed: int = 1
    sharing: MaskSharing = MaskSharing(helpers=HELPERS)

    @property
    def pins(self) -> dict[str, bytes]:
        return {name: sealing_key(name).public_key().public_bytes_raw() for name in self.sharing.helpers}

    @property
    def ctx(self) -> bytes:
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

    def contribution(self, client: str, values: Sequence[int] | NDArray[np.int64], **changes: Any) -> Contribution:
        fields: dict[str, Any] = {
            "ctx": self.ctx,
            "client": client,
            "declared_users": 10,
            "values": np.asarray(values, dtype=np.int64),
            "bits": self.bits,
            "sharing": self.sharing,
            "helper_keys": self.pins,
            "signing_key": signing_key(client),
            "random_bytes": random_bytes(self.seed + sum(client.encode())),
        }
        return contribute(**{**fields, **changes})

    def contributions(self, clients: Sequence[str] = TENANTS) -> list[Contribution]:
        rng = np.random.default_rng(self.seed)
        return [self.contribution(name, rng.integers(-99, 99, self.num_coordinates)) for name in clients]

    def answer(self, helper: str, headers: Sequence[ContributionHeader], **changes: Any) -> HelperAnswer:
        fields: dict[str, Any] = {
            "ctx": self.ctx,
            "helper": helper,
            "slots": self.sharing.held_by(helper),
            "sharing": self.sharing,
            "contributions": headers,
            "roster": self.roster,
            "now": self.now,
            "bits": self.bits,
            "num_coordinates": self.num_coordinates,
            "min_contributions": 2,
            "noise_std": None,
            "seal_key": sealing_key(helper),
            "signing_key": signing_key(helper),
            "random_bytes": random_bytes(self.seed + 1_000_000),
        }
        return helper_answer(**{**fields, **changes})

    def answers(
        self, contributions: Sequence[Contribution], *, absent: Sequence[str] = (), **changes: Any
    ) -> list[HelperAnswer]:
        headers = [contribution.header() for contribution in contributions]
        asked = self.sharing.assign(self.sharing.slots, absent)
        assert asked is not None
        return [self.answer(helper, headers, slots=slots, **changes) for helper, slots in asked.items()]

    def open(
        self, contributions: Sequence[Contribution], answers: Sequence[HelperAnswer], **changes: Any
    ) -> NDArray[np.int64]:
        fields: dict[str, Any] = {
            "ctx": self.ctx,
            "sharing": self.sharing,
            "contributions": contributions,
            "answers": answers,
            "roster": self.roster,
            "now": self.now,
            "bits": self.bits,
            "num_coordinates": self.num_coordinates,
        }
        return open_sum(**{**fields, **changes})
