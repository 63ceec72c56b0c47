"""How long a client's answer takes, against how many interactions it holds: a leak that remains, measured.

Timed is `client.answer.answer` on one frame, from bytes to bytes, on this machine: reading the store, the user vectors,
rounding, masking, the durable charge. No network, no Flower. The number of users is the same everywhere.
"""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from client.answer import answer
from shared.plan import plan_to_json, steps
from shared.wire import ContributionReply, ContributionRequest, decode, encode
from simulations.auditing.findings import CONFIDENCE, Finding, found
from simulations.auditing.stage import HELPERS, TARGET, Stage, make_stage, random_history, with_target
from simulations.auditing.statistics import Interval

NUM_ITEMS = 160
USERS = 60
LENGTHS = (2, 40, 80, 120)
_LEDGER = "ledger.*"


@dataclass(frozen=True, kw_only=True)
class Slope:
    """Least squares over all calls: microseconds a thousand interactions, and at none at all."""

    microseconds_a_thousand: float
    interval: Interval
    base_microseconds: float
    trials: int


def timing_findings(
    folder: Path, *, calls: int, seed: int, progress: Callable[[str], None] = lambda _: None
) -> list[Finding]:
    """One row a step of the plan. calls: for each of the four sizes of store."""
    stages = _stages(folder, seed)
    rows = []
    for step in steps(stages[0].plan):
        interactions, seconds = measure(stages, step.index, calls=calls, seed=seed, progress=progress)
        slope = fit(interactions, seconds)
        medians = [float(np.median(seconds[interactions == size])) * 1e3 for size in np.unique(interactions)]
        row = found(
            slope.microseconds_a_thousand,
            slope.interval,
            attack="transcript",
            kind="residual",
            name=f"time of an answer, {step.kind}",
            world=f"{USERS} users with {USERS * LENGTHS[0]:,} to {USERS * LENGTHS[-1]:,} interactions",
            statistic="microseconds a thousand interactions",
            allowed=0.0,
            trials=slope.trials,
            seed=seed,
            note=f"median {medians[0]:.1f} ms for the least and {medians[-1]:.1f} ms for the most",
        )
        rows.append(row)
    return rows


def measure(
    stages: Sequence[Stage], step: int, *, calls: int, seed: int, progress: Callable[[str], None]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(interactions, seconds) of every call, in random order, each on the ledger that the others started from."""
    order = np.random.default_rng([seed, step]).permutation(np.repeat(np.arange(len(stages)), calls))
    interactions, seconds = [], []
    for number, which in enumerate(order):
        progress(f"timing: step {step}, call {number + 1} of {len(order)}")
        stage = stages[which]
        interactions.append(len(stage.histories[TARGET].items))
        seconds.append(_seconds(stage, step))
    return np.array(interactions), np.array(seconds)


def fit(interactions: NDArray[np.int64], seconds: NDArray[np.float64]) -> Slope:
    """Ordinary least squares with Student's interval for the slope."""
    thousands, micro = interactions / 1e3, seconds * 1e6
    centred = thousands - thousands.mean()
    slope = float(centred @ micro / (centred @ centred))
    left = micro - micro.mean() - slope * centred
    error = sqrt(float(left @ left) / (len(micro) - 2) / float(centred @ centred))
    reach = float(t.ppf((1 + CONFIDENCE) / 2, len(micro) - 2)) * error
    return Slope(
        microseconds_a_thousand=slope,
        interval=Interval(slope - reach, slope + reach),
        base_microseconds=float(micro.mean() - slope * thousands.mean()),
        trials=len(micro),
    )


def _stages(folder: Path, seed: int) -> list[Stage]:
    rng = np.random.default_rng([seed, 4])
    few = {name: random_history(rng, [2] * USERS, NUM_ITEMS) for name in (*HELPERS, TARGET)}
    first = make_stage(
        folder / "0", histories=few, declared=dict.fromkeys((*HELPERS, TARGET), USERS), num_items=NUM_ITEMS
    )
    others = [
        with_target(first, folder / str(length), random_history(rng, [length] * USERS, NUM_ITEMS))
        for length in LENGTHS[1:]
    ]
    stages = [first, *others]
    for stage in stages:
        _keep_ledger(stage)
    return stages


def _seconds(stage: Stage, step: int) -> float:
    plan, home = stage.plan, stage.home(TARGET)
    inputs = {} if step == 0 else {"head": np.arange(NUM_ITEMS, dtype=np.int32)}
    roster = stage.cast.roster.read_bytes()
    request = ContributionRequest(plan_json=plan_to_json(plan), step=step, attempt=0, roster=roster, inputs=inputs)
    frame, now = encode(request), int(time.time())
    before = time.perf_counter()
    reply = answer(home, frame, now=now, random_bytes=os.urandom)
    seconds = time.perf_counter() - before
    if not isinstance(decode(reply), ContributionReply):
        raise RuntimeError(f"the client refused to be timed: {decode(reply)}")
    _restore_ledger(stage)
    return seconds


def _keep_ledger(stage: Stage) -> None:
    kept = _kept(stage)
    kept.mkdir()
    for file in stage.cast.homes[TARGET].glob(_LEDGER):
        shutil.copy2(file, kept / file.name)


def _restore_ledger(stage: Stage) -> None:
    # A context is answered once; the same one again needs the ledger as it was.
    home, kept = stage.cast.homes[TARGET], _kept(stage)
    for file in home.glob(_LEDGER):
        file.unlink()
    for file in kept.iterdir():
        shutil.copy2(file, home / file.name)


def _kept(stage: Stage) -> Path:
    return stage.cast.folder.with_name(f"{stage.cast.folder.name}-ledger")
