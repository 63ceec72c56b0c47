"""Who masks with whom: a complete graph for up to 100 parties, beyond that a k-regular circulant in a hashed order.

Bell, Bonawitz, Gascon, Lepoint, Raykova 2020 ("Secure Single-Server Aggregation with (Poly)Logarithmic Overhead", CCS):
the Harary graph on randomly renamed nodes of its section 3, with the condition 2t > k + colluding neighbours of its
section 4 against a server that lies. Up to COMPLETE_UP_TO parties nothing is left to chance: the complete graph needs
no random order, and everything below holds with certainty for up to c colluding parties.

What must hold, with n parties, c of them colluding with the server, degree k, threshold t (a good graph):

1. 2t > k + x, where no honest party has more than x colluding neighbours. Honest neighbours give one of the two shares
   that they hold of a party, colluding ones both, so otherwise both secrets of one party could be had.
2. t > k/2 + w, where no k/2 places that follow an honest party hold more than w colluding ones. Then an opened party
   has an honest neighbour among those places that answered, and answering parties are joined to all their neighbours in
   the active set. From one to the next they lead around the whole circle, k/2 places a step at most, so every honest
   party of the active set is next to one of them: what opens is one sum over all of them. This holds for every choice
   of whom the server calls dropped, made *after* it saw the graph. Theorems about a random set of drop-outs do not give
   that, for a server picks its drop-outs.
3. t <= k - y, where no party has more than y dropped neighbours: the round opens.

Chance. With the order uniform and the colluding parties fixed before it, the number among k places (k/2 in 2) is
hypergeometric: k draws from n - 1 with c marked. Union bound: 1 over all n parties with half of 2^-privacy_bits, 2 over
all n parties with the other half, 3 over all n parties with 2^-recovery_bits, where the drop-outs are those of an
honest server and independent of the order. All tails are exact integers. Conditions 1 and 3 alone give (138, 102) for
n = 1000, 20 % corrupt, 10 % dropped, 40 and 20 bits; 2, the price of drop-outs chosen after the graph, makes it
(196, 152).

Grinding. The order is a hash of everybody's first messages, and a server whose parties speak last can try many, by
their signatures and by whom it lists. So privacy_bits counts per try: against a server that has the time for 2^g tries,
ask for g bits more. The complete graph has no order to grind.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from math import ceil, comb

from shared.errors import BadSetting, UnknownKey
from shared.secagg.context import digest_fields

COMPLETE_UP_TO = 100
# Exact tails take time that grows with the parties: a server must not choose how long a client computes.
MAX_PARTIES = 4_000
_ORDER = b"zhiyin/pairwise-order/1"


@dataclass(frozen=True, kw_only=True)
class Graph:
    """An undirected graph on parties: `build_graph` makes it.

    order: the parties around the circle. degree: neighbours of each, even, or len(order) - 1 if the graph is complete.
    """

    order: tuple[str, ...]
    degree: int

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.order)}

    @cached_property
    def points(self) -> dict[str, int]:
        """Each party's x-coordinate in secret sharing: its rank by name, from 1."""
        return {name: rank for rank, name in enumerate(sorted(self.order), start=1)}

    def neighbours(self, name: str) -> tuple[str, ...]:
        """Sorted by name; symmetric. Raises UnknownKey for a party that is not in the graph."""
        if name not in self._places:
            raise UnknownKey(f"{name!r} is not among the parties of this round")
        size, place = len(self.order), self._places[name]
        if self.degree == size - 1:
            return tuple(sorted(other for other in self.order if other != name))
        steps = range(1, self.degree // 2 + 1)
        return tuple(sorted(self.order[(place + sign * step) % size] for step in steps for sign in (1, -1)))


def build_graph(root: bytes, names: tuple[str, ...], degree: int) -> Graph:
    """The circulant of `degree` on `names` in the order of H(root, name); complete if degree >= len(names) - 1.

    root: 32 bytes that nobody could foresee when the parties came forward. Raises BadSetting for an odd degree.
    """
    if len(set(names)) != len(names) or len(names) < 2:
        raise BadSetting("a graph needs two parties or more, each once")
    if degree < 2 or (degree % 2 and degree < len(names) - 1):
        raise BadSetting(f"the degree must be even, or that of the complete graph, got {degree}")
    order = tuple(sorted(names, key=lambda name: digest_fields(_ORDER, root, name.encode())))
    return Graph(order=order, degree=min(degree, len(names) - 1))


def choose_degree(
    num_parties: int, *, corrupt: float, dropped: float, privacy_bits: int, recovery_bits: int
) -> tuple[int, int]:
    """(degree, threshold) of the smallest good graph, complete up to COMPLETE_UP_TO parties.

    corrupt, dropped: shares of the parties that may collude with the server, and that may fall silent; rounded up.
    Raises BadSetting if no graph is good, as when there are too few parties for these shares.
    """
    if num_parties > MAX_PARTIES:
        raise BadSetting(f"a round has at most {MAX_PARTIES} parties, got {num_parties}")
    colluding, silent = share_of(corrupt, num_parties), share_of(dropped, num_parties)
    if num_parties > COMPLETE_UP_TO:
        try:
            return least_sparse(num_parties, colluding, silent, privacy_bits, recovery_bits)
        except BadSetting:
            pass  # Then only the complete graph can do.
    degree = num_parties - 1
    threshold = least_threshold(num_parties, degree, colluding, privacy_bits)
    enough = threshold <= degree - silent and quorum(num_parties, colluding) <= num_parties - silent
    if num_parties < 3 or not enough:
        raise BadSetting(
            f"{num_parties} parties of which {colluding} may collude cannot sum without the {silent} that may drop out"
        )
    return degree, threshold


@lru_cache(maxsize=64)
def least_sparse(
    num_parties: int, colluding: int, silent: int, privacy_bits: int, recovery_bits: int
) -> tuple[int, int]:
    """The least even degree, and its least threshold, that the three conditions allow; raises BadSetting."""
    for degree in range(2, num_parties - 1, 2):
        threshold = least_threshold(num_parties, degree, colluding, privacy_bits)
        if threshold <= degree - rarely_above(num_parties, silent, degree, recovery_bits):
            return degree, threshold
    raise BadSetting(f"no sparse graph on {num_parties} parties can lose {silent} of them and bear {colluding}")


@lru_cache(maxsize=1024)
def least_threshold(num_parties: int, degree: int, colluding: int, privacy_bits: int) -> int:
    """The least threshold that conditions 1 and 2 allow; above `degree` if none does."""
    if degree >= num_parties - 1:
        return (degree + min(colluding, degree)) // 2 + 1
    # Half of the failure probability for each of the two.
    near = rarely_above(num_parties, colluding, degree, privacy_bits + 1)
    after = rarely_above(num_parties, colluding, degree // 2, privacy_bits + 1)
    return max((degree + near) // 2, degree // 2 + after) + 1


def rarely_above(num_parties: int, marked: int, places: int, bits: int) -> int:
    """The least x such that n P(more than x of the `places` nearest a party are marked) <= 2^-bits.

    Hypergeometric: `places` draws without replacement from n - 1 parties, `marked` of them marked; exact.
    """
    others = num_parties - 1
    most = min(marked, places)
    allowed = comb(others, places)
    ways = comb(marked, most) * comb(others - marked, places - most)
    tail = 0
    for count in range(most, 0, -1):
        tail += ways
        if num_parties * tail << bits > allowed:
            return count
        ways = ways * count * (others - marked - places + count) // ((marked - count + 1) * (places - count + 1))
    return 0


def quorum(num_parties: int, colluding: int) -> int:
    """How many must sign one set so that no other set can be signed by as many.

    Honest parties sign once, colluding ones often: two quorums of q need 2 (q - c) different honest parties out of
    n - c. The neighbours' signatures alone would prove agreement only among parties with common neighbours; tenants are
    few enough to verify everybody's.
    """
    return (num_parties + colluding) // 2 + 1


def share_of(fraction: float, num_parties: int) -> int:
    """The share as a number of parties, rounded up; the decimal that is written counts, not its binary neighbour."""
    if not 0 <= fraction < 1:
        raise BadSetting(f"a share of the parties must be from 0 to below 1, got {fraction}")
    return ceil(Fraction(repr(float(fraction))) * num_parties)
