"""Two worlds, told apart by the server's whole transcript: nothing but the noisy sums may depend on a history.

`presence`: a device's one user, with a long history, is there or is not. `history`: an institution's users are as many,
with histories as long, of other items. Worlds are played in random order, each job from the same bytes on disk.
"""

import logging
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.interactions import Interactions
from simulations.auditing import flaws, transcript
from simulations.auditing.classifier import distinguish, guessed
from simulations.auditing.collusion import log_likelihood_ratio
from simulations.auditing.findings import CONFIDENCE, Finding, Kind, found
from simulations.auditing.stage import (
    DELTA,
    EPSILON,
    HELPERS,
    TARGET,
    USERS_EACH,
    Stage,
    history_of,
    make_stage,
    random_history,
    with_target,
)
from simulations.auditing.statistics import allowed_advantage
from simulations.auditing.transcript import Transcript, Until, record

Progress = Callable[[str], None]
Name = Literal["presence", "history"]
_USER_ITEMS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """Two worlds of one federation. users_differ: how many users the group is that the two differ in, one or many."""

    name: Name
    description: str
    stages: tuple[Stage, Stage]
    users_differ: int

    @property
    def targets(self) -> tuple[Interactions, Interactions]:
        return self.stages[0].histories[TARGET], self.stages[1].histories[TARGET]

    @property
    def mu(self) -> float:
        """What the sums may tell the server and one helper: mu for one user, k mu for k."""
        return self.stages[0].plan.mu * self.users_differ


@dataclass(frozen=True, kw_only=True, eq=False)
class Played:
    """Transcripts of as many jobs in either world. worlds: bool (jobs,), True for the second."""

    transcripts: tuple[Transcript, ...]
    worlds: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class _Control:
    # A broken client or helper, the feature that must show it, and what the statement would allow there.
    name: str
    # extra_jobs: so that one answer that was slow for another reason does not hide what is there.
    flaw: Callable[[], AbstractContextManager[None]]
    feature: str
    extra_jobs: int = 0


CONTROLS = (
    _Control(
        name="frames as long as their contents compress to",
        flaw=partial(flaws.sends_compressed, TARGET),
        feature="sizes",
    ),
    _Control(name="refuses when its history is empty", flaw=flaws.refuses_when_empty, feature="conduct"),
    _Control(
        name="takes longer with more interactions",
        flaw=partial(flaws.answers_slowly_with_more, TARGET),
        feature="time",
        extra_jobs=8,
    ),
    _Control(name="forgets to mask", flaw=flaws.sends_without_mask, feature="bytes"),
    _Control(name="helpers add no noise", flaw=flaws.helpers_without_noise, feature="sums"),
)
_BESIDE_THE_SUMS: dict[str, Callable[[Transcript], NDArray[np.float64]]] = {
    "conduct": transcript.conduct,
    "sizes": transcript.sizes,
    "bytes": transcript.contents,
    "time": transcript.times,
}
_WHAT = {
    "conduct": "kinds, order, counts, refusals, cohort",
    "sizes": "sizes of every message",
    "bytes": "bytes of every masked vector",
    "time": "how long every answer took",
    "sums": "opened sums, server with one helper",
    "together": "all but sums and time, one classifier",
}


def transcript_findings(
    folder: Path, *, jobs: int, control_jobs: int, seed: int, progress: Progress = lambda _: None
) -> list[Finding]:
    """Both pairs of worlds through the real system, then the broken ones. jobs: in each pair, half of them a world."""
    rows = []
    pairs = (_presence(folder / "presence", seed), _history(folder / "history", seed))
    for pair in pairs:
        played = play(pair, folder / "job", jobs, seed=seed, progress=progress)
        rows += [_attacked(pair, played, feature, seed) for feature in ("conduct", "sizes", "bytes")]
        rows += [_attacked(pair, played, feature, seed) for feature in ("together", "time", "sums")]
    for control in CONTROLS:
        rows.append(_controlled(pairs[0], control, folder / "job", control_jobs, seed, progress))
    return rows


def play(
    pair: Pair,
    folder: Path,
    jobs: int,
    *,
    seed: int,
    until: Until = "end",
    progress: Progress = lambda _: None,
    label: str = "",
) -> Played:
    """Run jobs // 2 jobs of either world, in random order, so that no drift of the machine tells the worlds apart."""
    rng = np.random.default_rng([seed, jobs])
    worlds = rng.permutation(np.arange(2 * (jobs // 2)) % 2 == 1)
    transcripts = []
    log = logging.getLogger("zhiyin.client")
    with flaws.replaced(log, "disabled", True):
        for number, world in enumerate(worlds):
            progress(f"transcripts: {label or pair.name}, job {number + 1} of {len(worlds)}")
            transcripts.append(record(pair.stages[int(world)], folder, until=until))
            shutil.rmtree(folder)
    return Played(transcripts=tuple(transcripts), worlds=worlds)


def features(pair: Pair, played: Played, feature: str) -> NDArray[np.float64]:
    """float64 (jobs, d): one row a transcript."""
    if feature == "sums":
        stage = pair.stages[0]
        return np.array([log_likelihood_ratio(each, stage, pair.targets) for each in played.transcripts])
    if feature == "together":
        return np.hstack([features(pair, played, part) for part in ("conduct", "sizes", "bytes")])
    return transcript.table([_BESIDE_THE_SUMS[feature](each) for each in played.transcripts])


def _attacked(pair: Pair, played: Played, feature: str, seed: int) -> Finding:
    # Python gives no constant time and nothing here claims it: what time tells is shown, and is no broken promise.
    kind: Kind = "residual" if feature == "time" else "attack"
    note = _statement(pair) if feature == "sums" else ""
    return _finding(pair, played, feature, seed, kind=kind, name=f"{pair.name}: {_WHAT[feature]}", note=note)


def _controlled(
    pair: Pair, control: _Control, folder: Path, jobs: int, seed: int, progress: Progress
) -> Finding:  # fmt: skip
    with control.flaw():
        until: Until = "first sum" if control.feature == "sums" else "first replies"
        played = play(
            pair, folder, jobs + control.extra_jobs, seed=seed, until=until, progress=progress, label=control.name
        )
    note = f"up to the {until} of each job; the test sees this feature alone"
    return _finding(pair, played, control.feature, seed, kind="control", name=f"control: {control.name}", note=note)


def _finding(
    pair: Pair, played: Played, feature: str, seed: int, *, kind: Kind, name: str, note: str
) -> Finding:  # fmt: skip
    rng = np.random.default_rng([seed, len(feature)])
    values = features(pair, played, feature)
    # The likelihood ratio is a test that needs no fitting, so every transcript measures it.
    if feature == "sums":
        seen = guessed(values[:, 0], played.worlds, confidence=CONFIDENCE)
    else:
        seen = distinguish(values, played.worlds, rng=rng, confidence=CONFIDENCE)
    return found(
        seen.advantage,
        seen.interval,
        attack="transcript",
        kind=kind,
        name=name,
        world=pair.description,
        statistic=f"advantage, {feature}",
        allowed=allowed_advantage(pair.mu) if feature == "sums" else 0.0,
        trials=seen.trials,
        seed=seed,
        note=note,
    )


def _statement(pair: Pair) -> str:
    stated = f"({EPSILON:g}, {DELTA:g}) for one user, mu {pair.stages[0].plan.mu:.3f}"
    if pair.users_differ == 1:
        return stated
    return f"{stated}; for {pair.users_differ} users at once it says nothing: no privacy of an institution is claimed"


def _others(seed: int) -> Mapping[str, Interactions]:
    rng = np.random.default_rng([seed, 1])
    return {name: random_history(rng, rng.integers(2, 8, USERS_EACH).tolist()) for name in HELPERS}


def _presence(folder: Path, seed: int) -> Pair:
    there = random_history(np.random.default_rng([seed, 2]), [_USER_ITEMS])
    declared = {**dict.fromkeys(HELPERS, USERS_EACH), TARGET: 1}
    gone = make_stage(folder / "0", histories={**_others(seed), TARGET: history_of([])}, declared=declared)
    return Pair(
        name="presence",
        description=f"one device's user, {_USER_ITEMS} items, is there or not",
        stages=(gone, with_target(gone, folder / "1", there)),
        users_differ=1,
    )


def _history(folder: Path, seed: int) -> Pair:
    rng = np.random.default_rng([seed, 3])
    lengths = rng.integers(2, 8, USERS_EACH).tolist()
    declared = dict.fromkeys((*HELPERS, TARGET), USERS_EACH)
    first, second = random_history(rng, lengths), random_history(rng, lengths)
    stage = make_stage(folder / "0", histories={**_others(seed), TARGET: first}, declared=declared)
    return Pair(
        name="history",
        description=f"one tenant's {USERS_EACH} users have these histories or others as long",
        stages=(stage, with_target(stage, folder / "1", second)),
        # Each of them leaves and another one comes.
        users_differ=2 * USERS_EACH,
    )
