"""Which cohort of a step each tenant is summed in: a public function of the attempt's context and the roster.

No tenant chooses. Client, helper and server work it out from values that all of them hold, so there is no field in
which a server could name a cohort, and a tenant cannot be in two: its name has one place. Another attempt is another
context and deals the tenants anew, so a tenant that spoils its cohort is in other company every time. A server can try
attempts and inputs beforehand until the places suit it, so cohorts are a guard against tenants and not against the
server: against it stands the noise, which every cohort's sum has in full.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shared.errors import UnknownKey, WrongContext
from shared.roster import Roster
from shared.secagg.context import CONTEXT_BYTES, digest_fields

_PLACE = b"zhiyin/cohort-place/1"
_COHORT = b"zhiyin/context-cohort/1"


@dataclass(frozen=True, kw_only=True)
class Cohorts:
    """contexts: of each cohort, 32 bytes, in order. members: the cohort of every tenant on the roster."""

    contexts: tuple[bytes, ...]
    members: Mapping[str, int]

    def of(self, client: str) -> int:
        """Raises UnknownKey for a party that is no tenant on the roster."""
        if client not in self.members:
            raise UnknownKey(f"{client!r} is not on the roster as a tenant")
        return self.members[client]

    def context_of(self, client: str) -> bytes:
        """What this client's contribution is made in. Raises UnknownKey."""
        return self.contexts[self.of(client)]

    def of_all(self, clients: Iterable[str]) -> int:
        """The one cohort of `clients`; 0 where there is no other. Raises UnknownKey, WrongContext for two."""
        names = tuple(clients)
        if len(self.contexts) == 1 or not names:
            return 0
        first = self.of(names[0])
        for name in names[1:]:
            if self.of(name) != first:
                raise WrongContext(
                    f"{names[0]} is in cohort {first} of this attempt and {name} in cohort {self.of(name)}: "
                    "they are not summed together"
                )
        return first


def divide(base: bytes, roster: Roster, cohorts: int) -> Cohorts:
    """Deal the roster's tenants into `cohorts` that differ by one tenant at most.

    base: the attempt's context. In the order of SHA-256(base, name) the tenants go to cohorts 0, 1, ..., 0, 1, ...
    One cohort has `base` itself as its context. Raises WrongContext for a base that is no context.
    """
    if len(base) != CONTEXT_BYTES:
        raise WrongContext(f"a context has {CONTEXT_BYTES} bytes, got {len(base)}")
    tenants = sorted(
        (member.name for member in roster.entries if "tenant" in member.roles),
        key=lambda name: digest_fields(_PLACE, base, name.encode()),
    )
    members = {name: place % cohorts for place, name in enumerate(tenants)}
    if cohorts == 1:
        return Cohorts(contexts=(base,), members=members)
    number = cohorts.to_bytes(8, "big")
    contexts = (digest_fields(_COHORT, base, number, cohort.to_bytes(8, "big")) for cohort in range(cohorts))
    return Cohorts(contexts=tuple(contexts), members=members)
