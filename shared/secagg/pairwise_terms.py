"""The numbers that a round of topology P rests on, and the local minima that each client holds them against."""

from dataclasses import dataclass

from shared.errors import BadSetting, PolicyViolation
from shared.secagg import graph
from shared.secagg.context import pairwise_context


@dataclass(frozen=True, kw_only=True)
class PairwiseTerms:
    """What all parties of a round agree on; part of its context, so that nobody can be told other numbers.

    num_parties: how many are invited; fewer may come. degree: neighbours of each, num_parties - 1 or more for all.
    threshold: shares that open a secret. min_active: least number of parties in a sum.
    """

    num_parties: int
    degree: int
    threshold: int
    min_active: int

    def __post_init__(self) -> None:
        numbers = (self.num_parties, self.degree, self.threshold, self.min_active)
        if not all(type(number) is int and 0 < number <= graph.MAX_PARTIES for number in numbers):
            raise BadSetting(f"pairwise terms must be whole numbers from 1 to {graph.MAX_PARTIES}")
        if not (self.threshold <= self.degree and self.min_active <= self.num_parties):
            raise BadSetting("pairwise terms: threshold is at most degree, min_active at most num_parties")
        if self.degree % 2 and self.degree < self.num_parties - 1:
            raise BadSetting("pairwise terms: the degree must be even, or num_parties - 1")

    def context(self, base: bytes) -> bytes:
        """The round's context: `base`, which says what is summed, with these numbers."""
        return pairwise_context(
            base,
            num_parties=self.num_parties,
            degree=self.degree,
            threshold=self.threshold,
            min_active=self.min_active,
        )


@dataclass(frozen=True, kw_only=True)
class PairwiseMinima:
    """What one client insists on, whatever the server asks; from its own policy and never from a message.

    corrupt: share of the tenants on the roster that may collude with the server. Of the roster, for the server chooses
    whom it invites and would invite those. dropped: share of the parties that may fall silent.
    privacy_bits, recovery_bits: see `shared.secagg.graph`; they matter beyond 100 parties only.
    min_active: least number of parties in a sum. min_users: least number of users that these declare together.
    least_colluding: colluding parties that the round itself is to bear, if they are more than that share.
    """

    corrupt: float
    dropped: float
    privacy_bits: int
    recovery_bits: int
    min_active: int
    min_users: int
    least_colluding: int = 0

    def colluding(self, num_tenants: int) -> int:
        """How many parties may collude, of `num_tenants` on the roster."""
        return max(self.least_colluding, graph.share_of(self.corrupt, num_tenants))

    def min_honest(self, terms: PairwiseTerms, num_tenants: int) -> int:
        """Honest parties in every sum that can open: as many shares of noise may be counted, and no more."""
        return terms.min_active - self.colluding(num_tenants)

    def least_degree(self, terms: PairwiseTerms) -> int:
        """The least degree that bears the shares. Raises BadSetting if no graph would do."""
        degree, _ = graph.choose_degree(
            terms.num_parties,
            corrupt=self.corrupt,
            dropped=self.dropped,
            privacy_bits=self.privacy_bits,
            recovery_bits=self.recovery_bits,
        )
        return degree

    def check(self, terms: PairwiseTerms, *, num_tenants: int) -> None:
        """Raise PolicyViolation, naming what is asked and what is allowed, or BadSetting if no graph would do."""
        _at_least("degree", terms.degree, self.least_degree(terms))
        _at_least("min_active", terms.min_active, self.min_active)
        self.check_threshold(terms, num_parties=terms.num_parties, num_tenants=num_tenants)
        # A sum with one honest party in it is that party's vector to all the others.
        _at_least("honest parties in a sum (min_active less those that may collude)", terms.min_active,
                  self.colluding(num_tenants) + 2)  # fmt: skip

    def check_threshold(self, terms: PairwiseTerms, *, num_parties: int, num_tenants: int) -> None:
        """The same for the threshold, with the parties that came: fewer than were invited leave fewer honest ones.

        Beyond 100 parties a server that expects absences asks for a threshold that fits the fewest it will take.
        """
        degree = min(terms.degree, num_parties - 1)
        colluding = self.colluding(num_tenants)
        _at_least(
            "threshold", terms.threshold, graph.least_threshold(num_parties, degree, colluding, self.privacy_bits)
        )


def _at_least(what: str, asked: int, allowed: int) -> None:
    if asked < allowed:
        raise PolicyViolation(f"{what}: the server asks for {asked}, the local minimum is {allowed}")
