"""When a client's answer leaves, against how many interactions it holds: with `answer_seconds`, and without.

Timed is `client.release_time.answer_on_time` on one frame, from bytes to bytes, on this machine and by its clock:
reading the store, the user vectors, rounding, masking, the durable charge, and the wait. No network, no Flower. The
number of users is the same everywhere. Without the wait the same measurement has to find how long summing took.
"""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from client.durable_files import write_file
from client.home import POLICY_FILE
from client.policy_file import render_policy
from client.release_time import Timer, answer_on_time
from shared.plan import plan_to_json, steps
from shared.wire import ContributionReply, ContributionRequest, decode, encode
from simulations.auditing.findings import CONFIDENCE, Finding, Kind, found
from simulations.auditing.stage import HELPERS, TARGET, Stage, make_stage, random_history, with_target
from simulations.auditing.statistics import Interval

NUM_ITEMS = 160
USERS = 60
LENGTHS = (2, 40, 80, 120)
_LEDGER = "ledger.*"
# The audit waits for no longer than it must, but for more than any scheduler keeps a process from waking up.
_LEAST_SECONDS = 0.2
_TIMES_THE_LONGEST = 3.0
_TIMER = Timer(clock=time.perf_counter, sleep=time.sleep)


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
    """Two rows a step of the plan: answers as soon as they are ready, and on time. calls: of each size of store."""
    stages = _stages(folder, seed)
    rows = []
    for step in steps(stages[0].plan):
        _set_answer_seconds(stages, 0.0)
        interactions, seconds = measure(stages, step.index, calls=calls, seed=seed, progress=progress)
        # Pairs take long enough that not to find them would show a blind audit; popularity is shown as it is.
        kind: Kind = "control" if step.kind == "pairs" else "residual"
        rows.append(_finding(f"time of an answer, {step.kind}, at once", kind, interactions, seconds, seed))
        period = max(_LEAST_SECONDS, _TIMES_THE_LONGEST * float(seconds.max()))
        _set_answer_seconds(stages, period)
        interactions, seconds = measure(stages, step.index, calls=calls, seed=seed + 1, progress=progress)
        row = _finding(f"time of an answer, {step.kind}, on time", "attack", interactions, seconds, seed)
        rows.append(replace(row, note=f"answer_seconds {period:.2f}; {row.note}"))
    return rows


def _finding(
    name: str, kind: Kind, interactions: NDArray[np.int64], seconds: NDArray[np.float64], seed: int
) -> Finding:
    slope = fit(interactions, seconds)
    medians = [float(np.median(seconds[interactions == size])) * 1e3 for size in np.unique(interactions)]
    correlation = float(np.corrcoef(interactions, seconds)[0, 1])
    return found(
        slope.microseconds_a_thousand,
        slope.interval,
        attack="transcript",
        kind=kind,
        name=name,
        world=f"{USERS} users with {USERS * LENGTHS[0]:,} to {USERS * LENGTHS[-1]:,} interactions",
        statistic="microseconds a thousand interactions",
        allowed=0.0,
        trials=slope.trials,
        seed=seed,
        note=f"median {medians[0]:.2f} ms for the least and {medians[-1]:.2f} ms for the most, "
        f"correlation {correlation:.2f}",
    )


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


def _set_answer_seconds(stages: Sequence[Stage], seconds: float) -> None:
    for stage in stages:
        home = stage.home(TARGET)
        write_file(home.folder / POLICY_FILE, render_policy(replace(home.policy, answer_seconds=seconds)).encode())


def _seconds(stage: Stage, step: int) -> float:
    plan, home = stage.plan, stage.home(TARGET)
    inputs = {} if step == 0 else {"head": np.arange(NUM_ITEMS, dtype=np.int32)}
    roster = stage.cast.roster.read_bytes()
    request = ContributionRequest(plan_json=plan_to_json(plan), step=step, attempt=0, roster=roster, inputs=inputs)
    frame, now = encode(request), int(time.time())
    before = _TIMER.clock()
    reply = answer_on_time(
        home, frame, came_in=before, waits_seconds=inf, timer=_TIMER, now=now, random_bytes=os.urandom
    )
    seconds = _TIMER.clock() - before
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
