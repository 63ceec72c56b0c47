"""Touched-item inference: what one masked vector tells the server about which items its client touched.

The adversary sees one vector and must say, of coordinates half of which carry a large value and half zero, which is
which. It tries every statistic it has, and, where masks are weak, their structure.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from shared.secagg import ring
from shared.secagg.context import CONTEXT_BYTES
from shared.secagg.mask_sharing import MaskSharing
from shared.secagg.topology_h import contribute
from simulations.auditing.findings import CONFIDENCE, Finding, found
from simulations.auditing.statistics import Interval, auc, unit_mean_interval

SIZE = 4_096
TOUCHED_VALUE = 3_000
BITS = 16
SEED_BITS = 28
# The weak generator's seed lies within so many guesses; 2^28 would only take the adversary longer.
GUESSES = 400
_PLAIN_SCORES = 5

Integers = NDArray[np.int64]
Masking = Callable[[Integers, int], Integers]
"""A client's integers and the number of the trial -> what the server sees of them, as signed ring values."""


@dataclass(frozen=True, kw_only=True)
class Inference:
    """Area under the ROC curve of touched against untouched coordinates. trials: vectors that measured it."""

    auc: float
    interval: Interval
    trials: int


def touched_items(trial: int, seed: int = 0) -> NDArray[np.bool_]:
    """Which coordinates the client touched: half of them."""
    touched = np.zeros(SIZE, dtype=bool)
    touched[np.random.default_rng([seed, trial]).permutation(SIZE)[: SIZE // 2]] = True
    return touched


def masked_by_product(values: Integers, random_bytes: Callable[[int], bytes]) -> Integers:
    """What the server sees of a contribution made by the product's own code."""
    sharing = MaskSharing(helpers=("north", "south"))
    keys = {name: X25519PrivateKey.generate().public_key().public_bytes_raw() for name in sharing.helpers}
    contribution = contribute(
        ctx=bytes(CONTEXT_BYTES),
        client="amber",
        declared_users=10,
        values=values,
        bits=BITS,
        sharing=sharing,
        helper_keys=keys,
        signing_key=Ed25519PrivateKey.generate(),
        random_bytes=random_bytes,
    )
    return ring.decode(ring.unpack(contribution.masked, BITS, SIZE), BITS)


def real_mask(values: Integers, trial: int) -> Integers:
    return masked_by_product(values, os.urandom)


def no_mask(values: Integers, trial: int) -> Integers:
    return values


def guessable_mask(values: Integers, trial: int) -> Integers:
    """A Mersenne Twister seeded with few bits, as a careless client might use."""
    return ring.decode(ring.reduce(values - _twister(2**SEED_BITS - GUESSES + trial % GUESSES), BITS), BITS)


def scores(masked: Integers) -> list[NDArray[np.float64]]:
    """Numbers that may be higher, or lower, at touched coordinates: five plain ones, then those unmasked by a guess."""
    plain = masked.astype(float)
    low_byte = (masked & 255).astype(float)
    found_scores = [
        plain, np.abs(plain), -np.abs(plain - TOUCHED_VALUE), -np.abs(plain - np.median(plain)), low_byte,
    ]  # fmt: skip
    for seed in range(2**SEED_BITS - GUESSES, 2**SEED_BITS):
        unmasked = ring.decode(ring.reduce(masked + _twister(seed), BITS), BITS)
        if np.abs(unmasked).mean() < 2**BITS / 8:  # uniform values have a mean of 2^bits / 4
            found_scores.append(unmasked.astype(float))
    return found_scores


def infer_touched(mask: Masking, *, trials: int, seed: int = 0, confidence: float = CONFIDENCE) -> Inference:
    """Half of the trials choose the score and its direction, the other half measures it."""
    areas = np.array([_areas(mask, trial, seed) for trial in range(2 * (trials // 2))])
    half = len(areas) // 2
    lean = areas[:half].mean(axis=0) - 0.5
    best = int(np.argmax(np.abs(lean)))
    measured = areas[half:, best] if lean[best] >= 0 else 1 - areas[half:, best]
    return Inference(auc=float(measured.mean()), interval=unit_mean_interval(measured, confidence), trials=half)


def mask_findings(*, trials: int, seed: int) -> list[Finding]:
    """The real mask, and two broken ones that the same adversary must read through."""
    cases = (
        ("real masks", "attack", real_mask, "AES-256-CTR masks from the operating system's seeds"),
        ("no mask", "control", no_mask, "the integers as they are"),
        ("guessable seed", "control", guessable_mask, f"Mersenne Twister, seed among {GUESSES} guesses"),
    )
    rows = []
    for name, kind, mask, note in cases:
        seen = infer_touched(mask, trials=trials, seed=seed)
        row = found(
            seen.auc,
            seen.interval,
            attack="masks",
            kind="attack" if kind == "attack" else "control",
            name=f"touched items, {name}",
            world=f"one masked vector of {SIZE} coordinates, half of them touched",
            statistic="AUC",
            allowed=0.5,
            trials=seen.trials,
            seed=seed,
            note=note,
        )
        rows.append(row)
    return rows


def _areas(mask: Masking, trial: int, seed: int) -> list[float]:
    touched = touched_items(trial, seed)
    values = np.where(touched, TOUCHED_VALUE, 0).astype(np.int64)
    areas = [auc(score[touched], score[~touched]) for score in scores(mask(values, trial))]
    # What structure gives beyond the plain scores counts as one more.
    return [*areas[:_PLAIN_SCORES], max(areas[_PLAIN_SCORES:], default=0.5)]


@cache
def _twister(seed: int) -> Integers:
    return np.random.RandomState(seed).randint(0, 2**BITS, SIZE, dtype=np.int64)
