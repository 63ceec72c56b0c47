"""Whole rounds of secure aggregation, processor time and memory: python -m benchmarks.secagg_rounds [options]

First ours beside Flower's SecAgg+ in one run, 20 clients of which 2 drop out after the shares are dealt (--many-only
leaves this out); then pairwise rounds of 100 (complete graph) and 1,000 parties (regular graph) with a tenth dropping
out, which take minutes, with --large half an hour and gigabytes. All is one process and one thread; noise is left
out on both sides, for SecAgg+ has none. Memory is what a step adds at its peak, and for the server also the messages
that it holds. The floor is what the primitives of a round with helpers take when nothing is done but calling them, on
buffers that stay in the cache; the ratio to SecAgg+ cannot pass that of the floor. SecAgg+ signs nothing and compares
no digest; what these take of the floor is told apart, and so is the round without them, as what is left of it.

Much of what is left of a client's time with helpers is the kernel's, which hands out memory page by page. With
GLIBC_TUNABLES=glibc.malloc.hugetlb=1 in the environment it hands out large pages, for both sides.
"""

import os
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.secagg_masks import certified
from benchmarks.secagg_peer import flower_round
from shared.roster import Member, Roster
from shared.secagg import pairwise_opening as pairwise_server
from shared.secagg import ring
from shared.secagg import topology_p as pairwise
from shared.secagg.context import vector_digest
from shared.secagg.graph import choose_degree
from shared.secagg.mask_sharing import MaskSharing
from shared.secagg.pairwise_messages import Agreement, Bundle, Dealing, Delivery, agree, verify_possession
from shared.secagg.pairwise_terms import PairwiseMinima, PairwiseTerms
from shared.secagg.prg import add_keystreams
from shared.secagg.sealing import open_seal, seal
from shared.secagg.topology_h import Contribution, HelperAnswer, contribute, helper_answer, open_sum

NOW, BITS = 5, 32
CORRUPT, DROPPED = 0.2, 0.1
HELPERS = MaskSharing(helpers=("north", "south"))
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Processor seconds: of all clients, of the helpers, of the server; bytes that one client sends in all.

    client_bytes, server_bytes: peak of memory of one client and of the server; 0 where it was not measured.
    """

    clients_s: float
    helpers_s: float
    server_s: float
    sent_bytes: int
    client_bytes: int = 0
    server_bytes: int = 0

    @property
    def total_s(self) -> float:
        return self.clients_s + self.helpers_s + self.server_s


class _Timer:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, task: Callable[[], _T]) -> _T:
        start = time.process_time()
        found = task()
        self.seconds += time.process_time() - start
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Cast:
    """Tenants with keys, the helpers, and a roster of them all."""

    signing: dict[str, Ed25519PrivateKey]
    sealing: dict[str, X25519PrivateKey]
    tenants: tuple[str, ...]
    roster: Roster

    @classmethod
    def of(cls, num_tenants: int) -> "Cast":
        tenants = tuple(f"tenant-{index:04d}" for index in range(num_tenants))
        signing = {name: Ed25519PrivateKey.generate() for name in (*tenants, *HELPERS.helpers)}
        sealing = {name: X25519PrivateKey.generate() for name in HELPERS.helpers}
        entries = tuple(
            Member(
                name=name,
                signing_key=key.public_key().public_bytes_raw().hex(),
                sealing=certified(name, sealing[name], key) if name in sealing else None,
                roles=("helper",) if name in sealing else ("tenant",),
                not_before=0,
                not_after=2 * NOW,
            )
            for name, key in signing.items()
        )
        roster = Roster(entries=entries, epoch=1, issued_at=0, expires_at=2 * NOW)
        return cls(signing=signing, sealing=sealing, tenants=tenants, roster=roster)


class _Memory:
    """What tasks hold at their peak beyond what was there before. Steps are pure, so one is run again to be watched."""

    def __init__(self) -> None:
        self.peak_bytes = 0

    def watch(self, task: Callable[[], object]) -> None:
        tracemalloc.start()
        task()
        self.peak_bytes = max(self.peak_bytes, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()


def vector(size: int) -> NDArray[np.int64]:
    return np.arange(size, dtype=np.int64) % 1_000


def helpers_round(cast: Cast, size: int, dropped: int) -> Cost:
    """Topology H. Who drops out has computed and sent nothing that counts, or sent it in vain: the same cost."""
    ctx, values = bytes(32), vector(size)
    pins = {name: key.public_key().public_bytes_raw() for name, key in cast.sealing.items()}
    clients, helpers, server = _Timer(), _Timer(), _Timer()

    def contribution(name: str) -> Contribution:
        return contribute(
            ctx=ctx, client=name, declared_users=1, values=values, bits=BITS, sharing=HELPERS, helper_keys=pins,
            signing_key=cast.signing[name], random_bytes=os.urandom,
        )  # fmt: skip

    sent = [clients(lambda name=name: contribution(name)) for name in cast.tenants][dropped:]  # type: ignore[misc]
    headers = server(lambda: [each.header() for each in sent])
    common: dict[str, Any] = {
        "ctx": ctx,
        "sharing": HELPERS,
        "roster": cast.roster,
        "now": NOW,
        "bits": BITS,
        "num_coordinates": size,
    }

    def answer(name: str) -> HelperAnswer:
        return helper_answer(
            helper=name, slots=(name,), contributions=headers, min_contributions=2, noise_std=None,
            seal_key=cast.sealing[name], signing_key=cast.signing[name], random_bytes=os.urandom, **common,
        )  # fmt: skip

    answers = [helpers(lambda name=name: answer(name)) for name in HELPERS.helpers]  # type: ignore[misc]
    total = server(lambda: open_sum(contributions=sent, answers=answers, **common))
    assert np.array_equal(total, len(sent) * values)
    return Cost(
        clients_s=clients.seconds,
        helpers_s=helpers.seconds,
        server_s=server.seconds,
        sent_bytes=len(sent[0].masked) + sum(len(each.sealed) for each in sent[0].seals),
    )


@dataclass(frozen=True, kw_only=True)
class Floor:
    """Processor seconds. proofs_s: of digests and signatures, made and checked; masks_s: of everything else."""

    masks_s: float
    proofs_s: float

    @property
    def total_s(self) -> float:
        return self.masks_s + self.proofs_s


def helpers_floor(size: int, *, count: int, dropped: int) -> Floor:
    """What no round of topology H can do without: each stream of AES-256-CTR added to a vector once, each vector
    digested by its sender and the server, written once into memory of its own and added to the sum once; seals and
    signatures made and checked."""
    helpers, active = len(HELPERS.helpers), count - dropped
    signing, sealing = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
    verifying, opening = signing.public_key(), sealing.public_key().public_bytes_raw()
    masked = ring.zeros(BITS, size)
    keys = [os.urandom(32) for _ in range(helpers * (count + active))]
    timer, proofs = _Timer(), _Timer()
    timer(lambda: add_keystreams(masked, keys))
    packed = ring.pack(masked, BITS)
    proofs(lambda: [vector_digest(packed) for _ in range(count + active + 2 * helpers)])
    kept = timer(lambda: [np.full_like(masked, 1) for _ in range(count + helpers)])
    timer(lambda: [np.add(masked, each, out=masked) for each in kept[dropped:]])
    seals = timer(
        lambda: [seal(opening, bytes(32), associated=b"", random_bytes=os.urandom) for _ in range(helpers * count)]
    )
    timer(lambda: [open_seal(sealing, each, associated=b"") for each in seals[: helpers * active]])
    signatures = proofs(lambda: [signing.sign(bytes(256)) for _ in range(count + helpers)])
    checks = active * (helpers + 1) + helpers
    proofs(lambda: [verifying.verify(signatures[0], bytes(256)) for _ in range(checks)])
    return Floor(masks_s=timer.seconds, proofs_s=proofs.seconds)


def pairwise_round(cast: Cast, size: int, dropped: int, console: Console | None = None) -> Cost:
    """Topology P: `dropped` tenants deal their shares and fall silent before their vector."""
    count = len(cast.tenants)
    minima = PairwiseMinima(
        corrupt=CORRUPT, dropped=DROPPED, privacy_bits=40, recovery_bits=20, min_active=2, min_users=2
    )
    degree, threshold = choose_degree(count, corrupt=CORRUPT, dropped=DROPPED, privacy_bits=40, recovery_bits=20)
    least = count - int(2 * DROPPED * count)
    terms = PairwiseTerms(num_parties=count, degree=degree, threshold=threshold, min_active=least)
    values = vector(size)
    place: dict[str, Any] = {"roster": cast.roster, "now": NOW}
    clients, server, watched, opening = _Timer(), _Timer(), _Memory(), _Memory()

    def each(names: Sequence[str], phase: str, step: Callable[[str], _T]) -> dict[str, _T]:
        shown = track(names, phase, console=console, transient=True) if console else names
        done = {name: clients(lambda name=name: step(name)) for name in shown}  # type: ignore[misc]
        if console:
            # The last party is like all others and lives to the end.
            watched.watch(lambda: step(names[-1]))
        return done

    advertised = each(
        cast.tenants,
        "keys",
        lambda name: pairwise.advertise(
            base=bytes(32), client=name, declared_users=1, terms=terms, minima=minima, roster=cast.roster,
            signing_key=cast.signing[name], random_bytes=os.urandom,
        ),
    )  # fmt: skip
    bundles = [bundle for _, bundle in advertised.values()]
    agreement = server(lambda: _agreement(bundles, terms, cast.roster))
    dealt = each(
        cast.tenants,
        "shares",
        lambda name: pairwise.deal(advertised[name][0], bundles, signing_key=cast.signing[name], **place),
    )
    dealings = [dealing for _, dealing in dealt.values()]
    active = cast.tenants[dropped:]
    deliveries = server(lambda: _all_deliveries(dealings))
    masked = each(
        active,
        "masked vectors",
        lambda name: pairwise.mask_vector(
            dealt[name][0], deliveries[name], values, bits=BITS, signing_key=cast.signing[name]
        ),
    )
    vectors = [vector for _, vector in masked.values()]
    signed = each(
        active,
        "active set",
        lambda name: pairwise.sign_active(masked[name][0], active, signing_key=cast.signing[name]),
    )
    signatures = [signature for _, signature in signed.values()]
    unmasked = each(
        active,
        "unmasking",
        lambda name: pairwise.unmask(
            signed[name][0], [one for one in signatures if one.client != name], signing_key=cast.signing[name], **place
        ),
    )
    unmaskings = [one for _, one in unmasked.values()]

    def opened() -> pairwise_server.OpenedSum:
        return pairwise_server.open_pairwise_sum(
            agreement=agreement, dealings=dealings, vectors=vectors, unmaskings=unmaskings,
            bits=BITS, num_coordinates=size, **place,
        )  # fmt: skip

    total = server(opened).total
    if console:
        opening.watch(opened)
    assert np.array_equal(total, len(active) * values)
    sealed = sum(len(each.sealed) + 64 for each in dealings[-1].shares)
    held = sum(len(each.masked) for each in vectors) + len(dealings) * sealed + 33 * len(unmaskings) * degree
    return Cost(
        clients_s=clients.seconds, helpers_s=0.0, server_s=server.seconds,
        sent_bytes=len(vectors[-1].masked) + sealed + 33 * degree,
        client_bytes=watched.peak_bytes, server_bytes=held + opening.peak_bytes,
    )  # fmt: skip


def _agreement(bundles: Sequence[Bundle], terms: PairwiseTerms, roster: Roster) -> Agreement:
    for bundle in bundles:
        verify_possession(bundle)
    return agree(bundles, ctx=terms.context(bytes(32)), terms=terms, roster=roster, now=NOW)


def _all_deliveries(dealings: Sequence[Dealing]) -> dict[str, list[Delivery]]:
    found: dict[str, list[Delivery]] = {dealing.client: [] for dealing in dealings}
    for dealing in dealings:
        for shares in dealing.shares:
            found[shares.receiver].append(Delivery(sender=dealing.client, shares=shares))
    return {name: sorted(each, key=lambda delivery: delivery.sender) for name, each in found.items()}


def beside_flower(console: Console) -> None:
    table = Table(
        "coordinates", "SecAgg+ (Flower)", "pairwise", "helpers", "without proofs", "floor", "floor without proofs",
        title="One round of 20 clients, 2 drop out: processor seconds of all parties together, SecAgg+ as a multiple",
    )  # fmt: skip
    cast = Cast.of(20)
    for size in (10_000, 100_000, 640_000):
        ours_p = min(pairwise_round(cast, size, 2).total_s for _ in range(3))
        ours_h = min(helpers_round(cast, size, 2).total_s for _ in range(3))
        floor = min((helpers_floor(size, count=20, dropped=2) for _ in range(3)), key=lambda each: each.total_s)
        peer = flower_round(num_clients=20, num_coordinates=size, num_dropped=2)
        spent = peer.clients_s + peer.server_s
        ours = (ours_p, ours_h, ours_h - floor.proofs_s, floor.total_s, floor.masks_s)
        table.add_row(f"{size:,}", f"{spent:.2f}", *(f"{each:.3f} ({spent / each:.0f} x)" for each in ours))
    console.print(table)


def many_parties(console: Console, *, large: bool) -> None:
    title = "Pairwise rounds, a tenth drops out after dealing"
    columns = (
        "parties",
        "neighbours",
        "coordinates",
        "a client s",
        "server s",
        "sent by a client MB",
        "a client's memory MB",
        "server's memory MB",
    )
    table = Table(*columns, title=title)
    for count, size in ((100, 100_000), (100, 1_000_000), (1_000, 100_000), *(((1_000, 1_000_000),) if large else ())):
        degree, _ = choose_degree(count, corrupt=CORRUPT, dropped=DROPPED, privacy_bits=40, recovery_bits=20)
        cost = pairwise_round(Cast.of(count), size, count // 10, console)
        table.add_row(
            f"{count:,}", f"{degree}", f"{size:,}", f"{cost.clients_s / count:.3f}", f"{cost.server_s:.2f}",
            f"{cost.sent_bytes / 1e6:.2f}", f"{cost.client_bytes / 1e6:.1f}", f"{cost.server_bytes / 1e6:,.0f}",
        )  # fmt: skip
    console.print(table)
    console.print(f"Vectors of {BITS} bits; {ring.size_bytes(BITS, 1_000_000) / 1e6:.0f} MB a million coordinates.")


if __name__ == "__main__":
    console = Console()
    if "--many-only" not in sys.argv[1:]:
        beside_flower(console)
    many_parties(console, large="--large" in sys.argv[1:])
