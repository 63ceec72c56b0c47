"""Which helper holds which mask seed, so that some helpers may be absent: replicated secret sharing (Ito et al. 1987).

A contribution is masked under one seed for each set of `spare + 1` helpers, called a slot, and every member of the set
gets that slot's seed. With no spare that is one seed a helper. Whichever `spare` helpers are absent, each slot still
has somebody who can answer for it; and whoever controls all helpers but `spare + 1` still lacks one slot entirely.

Two holders of one slot can be asked about two sets of contributions in one context, and none of them can know it. That
is why a plan with spare helpers accounts `spare + 1` releases a step (see `shared.plan`).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import comb

from shared.errors import BadSetting

MIN_HELPERS = 2
MAX_SPARE = 2
# Sixteen helpers without a spare one, eight with one, six with two; a contribution carries 80 bytes for each.
MAX_SEALS = 64
_JOIN = "+"
_NUMBERS = ("none", "one", "two", "three", "four")


@dataclass(frozen=True, kw_only=True)
class MaskSharing:
    """helpers: names, at least two more than `spare`, kept sorted. spare: how many of them may be absent.

    Raises BadSetting for anything else, and where a contribution would need more than MAX_SEALS seals.
    """

    helpers: tuple[str, ...]
    spare: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "helpers", tuple(sorted(self.helpers)))
        if not 0 <= self.spare <= MAX_SPARE:
            raise BadSetting(f"spare_helpers must be from 0 to {MAX_SPARE}, got {self.spare}")
        least = MIN_HELPERS + self.spare
        if len(set(self.helpers)) != len(self.helpers) or len(self.helpers) < least:
            absent = f", for {self.spare} of them may be absent" if self.spare else ""
            raise BadSetting(f"helpers must name at least {_NUMBERS[least]} different parties{absent}")
        if any(_JOIN in name for name in self.helpers):
            raise BadSetting(f"helpers must be names without {_JOIN!r}")
        num_seals = comb(len(self.helpers), self.spare + 1) * (self.spare + 1)
        if num_seals > MAX_SEALS:
            raise BadSetting(
                f"helpers are {len(self.helpers)}, of which {self.spare} may be absent: {num_seals} seals in every "
                f"contribution, at most {MAX_SEALS} are possible"
            )

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """Names of the slots, sorted: their holders joined by a plus sign, which no name of a party has."""
        return tuple(sorted(_JOIN.join(holders) for holders in combinations(self.helpers, self.spare + 1)))

    @cached_property
    def places(self) -> tuple[tuple[str, str], ...]:
        """(slot, helper) of every seal in a contribution, sorted."""
        return tuple((slot, helper) for slot in self.slots for helper in self.holders(slot))

    @property
    def colluders(self) -> int:
        """The least number of helpers that, together with the server, open a contribution."""
        return len(self.helpers) - self.spare

    def holders(self, slot: str) -> tuple[str, ...]:
        return tuple(slot.split(_JOIN))

    def held_by(self, helper: str) -> tuple[str, ...]:
        return tuple(slot for slot in self.slots if helper in self.holders(slot))

    def assign(self, open_slots: Iterable[str], absent: Collection[str]) -> dict[str, tuple[str, ...]] | None:
        """Who is to be asked for which of `open_slots`: helper -> slots, each slot once; None if one has nobody left.

        The first present holder in the order of names, so that no more helpers are asked, and add noise, than needed.
        """
        asked: dict[str, tuple[str, ...]] = {}
        for slot in sorted(open_slots):
            present = [helper for helper in self.holders(slot) if helper not in absent]
            if not present:
                return None
            asked[present[0]] = (*asked.get(present[0], ()), slot)
        return asked
