"""How fast masks, noise and a whole round of secure aggregation are. Run: python benchmarks/secagg_masks.py

Machines differ and so do minutes, so the mask engine is measured in turns with raw AES-256-CTR and the ratio is what to
compare; it exceeds 1 on processors where the engine does better than counter mode by that name (`shared.secagg.prg`).
Every figure is the least processor time of the repetitions, which other work on the machine disturbs least.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from rich.console import Console
from rich.table import Table

from shared.roster import Member, Roster
from shared.sealing_certificate import SealingCertificate, certify_sealing_key
from shared.secagg import discrete_gaussian, ring
from shared.secagg.mask_sharing import MaskSharing
from shared.secagg.prg import add_keystreams
from shared.secagg.topology_h import Contribution, HelperAnswer, contribute, helper_answer, open_sum

REPETITIONS = 20
# A million coordinates of 32 bits.
MASK_BYTES = 4 * 2**20
CLIENTS = 20
HELPERS = ("north", "south")
SHARING = MaskSharing(helpers=HELPERS)


def seconds(*tasks: Callable[[], object], repetitions: int = REPETITIONS) -> list[float]:
    """Least processor time of each task, the tasks taking turns."""
    times: list[list[float]] = [[] for _ in tasks]
    for _ in range(repetitions):
        for measured, task in zip(times, tasks, strict=True):
            start = time.process_time()
            task()
            measured.append(time.process_time() - start)
    return [min(measured) for measured in times]


def raw_aes(size_bytes: int) -> Callable[[], None]:
    """AES-256-CTR alone, over one reused buffer of 64 KiB."""
    zeros, out = bytes(64 * 1024), bytearray(64 * 1024 + 15)

    def run() -> None:
        encryptor = Cipher(algorithms.AES256(bytes(32)), modes.CTR(bytes(16))).encryptor()
        for _ in range(size_bytes // len(zeros)):
            encryptor.update_into(zeros, out)

    return run


def masks(console: Console) -> None:
    table = Table(
        "ring",
        "mask engine GB/s",
        "raw AES-256-CTR GB/s",
        "ratio",
        title=f"{CLIENTS} masks added to a vector of {MASK_BYTES // 2**20} MiB",
    )
    raw, keys = raw_aes(MASK_BYTES), [bytes([index]) * 32 for index in range(CLIENTS)]
    for bits in ring.WIDTHS:
        buffer = ring.zeros(bits, MASK_BYTES // ring.computing_type(bits).itemsize)
        engine_s, raw_s = seconds(lambda buffer=buffer: add_keystreams(buffer, keys), raw)  # type: ignore[misc]
        speeds = CLIENTS * MASK_BYTES / engine_s / 1e9, MASK_BYTES / raw_s / 1e9
        table.add_row(f"{bits} bits", f"{speeds[0]:.2f}", f"{speeds[1]:.2f}", f"{CLIENTS * raw_s / engine_s:.2f}")
    console.print(table)


def noise(console: Console) -> None:
    table = Table("noise_std", "seconds a million samples", title="Exact discrete Gaussian noise")
    for sigma in (1, 1_000, 100_000, 2**40):
        (spent,) = seconds(lambda sigma=sigma: discrete_gaussian.sample(sigma, 10**6, os.urandom), repetitions=5)  # type: ignore[misc]
        table.add_row(f"{sigma:,}", f"{spent:.3f}")
    console.print(table)


def certified(name: str, key: X25519PrivateKey, signing_key: Ed25519PrivateKey) -> SealingCertificate:
    public = key.public_key().public_bytes_raw().hex()
    return certify_sealing_key(name, public, not_before=0, not_after=10, signing_key=signing_key)


def whole_round(num_coordinates: int, bits: int) -> Sequence[float]:
    """Seconds of one client, one helper and the server's opening."""
    signing = {name: Ed25519PrivateKey.generate() for name in [*HELPERS, *(f"t{index}" for index in range(CLIENTS))]}
    sealing = {name: X25519PrivateKey.generate() for name in HELPERS}
    entries = tuple(
        Member(
            name=name,
            signing_key=key.public_key().public_bytes_raw().hex(),
            sealing=certified(name, sealing[name], key) if name in sealing else None,
            roles=("helper",) if name in sealing else ("tenant",),
            not_before=0,
            not_after=10,
        )
        for name, key in signing.items()
    )
    roster, ctx = Roster(entries=entries, epoch=1, issued_at=0, expires_at=10), bytes(32)
    pins = {name: key.public_key().public_bytes_raw() for name, key in sealing.items()}
    values = np.arange(num_coordinates, dtype=np.int64) % 1_000
    shape: dict[str, Any] = {"bits": bits, "num_coordinates": num_coordinates}

    def client(name: str = "t0") -> Contribution:
        return contribute(
            ctx=ctx, client=name, declared_users=1, values=values, bits=bits, sharing=SHARING,
            helper_keys=pins, signing_key=signing[name], random_bytes=os.urandom,
        )  # fmt: skip

    sent = [client(name) for name in signing if name not in sealing]
    headers = [each.header() for each in sent]

    def helper(name: str = "north") -> HelperAnswer:
        return helper_answer(
            ctx=ctx, helper=name, slots=(name,), sharing=SHARING, contributions=headers, roster=roster, now=5,
            min_contributions=2, noise_std=10_000, seal_key=sealing[name], signing_key=signing[name],
            random_bytes=os.urandom, **shape,
        )  # fmt: skip

    answers = [helper(name) for name in HELPERS]

    def server() -> object:
        return open_sum(ctx=ctx, sharing=SHARING, contributions=sent, answers=answers, roster=roster, now=5, **shape)

    return seconds(client, helper, server, repetitions=5)


def rounds(console: Console) -> None:
    title = f"One round, {CLIENTS} clients, {len(HELPERS)} helpers with noise, 32 bits"
    table = Table("coordinates", "a client ms", "a helper ms", "server ms", "uploaded MB a client", title=title)
    for size in (10_000, 100_000, 640_000):
        spent = whole_round(size, 32)
        table.add_row(f"{size:,}", *(f"{each * 1e3:.1f}" for each in spent), f"{ring.size_bytes(32, size) / 1e6:.2f}")
    console.print(table)


if __name__ == "__main__":
    console = Console()
    masks(console)
    noise(console)
    rounds(console)
