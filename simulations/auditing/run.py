"""All four attacks in one run, each real one beside its controls, at two sizes."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from shared.errors import BadSetting
from shared.interactions import Interactions, concatenate
from simulations.auditing.canaries import canary_findings
from simulations.auditing.findings import Attack, Finding
from simulations.auditing.masks import mask_findings
from simulations.auditing.membership import Size, membership_findings
from simulations.auditing.report import AuditReport
from simulations.auditing.timing import timing_findings
from simulations.auditing.worlds import transcript_findings
from simulations.datasets import load_folder
from simulations.marketplace import generate
from simulations.report import peak_memory_mb

ATTACKS: tuple[Attack, ...] = ("masks", "transcript", "membership", "canary")
# Scratch space in memory where there is any: a disk's own delays are noise in the clock, which is the weaker attack.
_MEMORY = Path("/dev/shm")  # noqa: S108
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How many trials each attack gets.

    mask_vectors: masked vectors of each kind. jobs: real jobs of each pair of worlds. control_jobs: of each control;
    24 at least, or twelve right guesses of twelve would not be proof. timed_calls: of each size of store.
    membership: models and users. trainings: of each canary in each world, at each of canary_epsilons.
    """

    mask_vectors: int
    jobs: int
    control_jobs: int
    timed_calls: int
    membership: Size
    trainings: int
    canary_epsilons: tuple[float, ...]


FULL = Effort(
    mask_vectors=200,
    jobs=400,
    control_jobs=40,
    timed_calls=25,
    membership=Size(references=128, targets=96, num_users=300),
    trainings=40_000,
    canary_epsilons=(1.0, 2.0, 8.0),
)
QUICK = Effort(
    mask_vectors=32,
    jobs=12,
    control_jobs=24,
    timed_calls=4,
    membership=Size(references=24, targets=24, num_users=160),
    trainings=5_000,
    canary_epsilons=(2.0, 8.0),
)


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """What to run. data: folder whose histories the published model is attacked on, None for a generated marketplace.

    seed: of histories, halves and orders; keys, masks and noise are the operating system's, as in a deployment.
    """

    seed: int
    quick: bool = False
    data: Path | None = None
    attacks: tuple[Attack, ...] = ATTACKS

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise BadSetting(f"seed must not be below zero, got {self.seed}")
        if not self.attacks:
            raise BadSetting("name at least one attack to run")

    @property
    def effort(self) -> Effort:
        return QUICK if self.quick else FULL


def run_audit(settings: AuditSettings, progress: Progress = lambda _: None) -> AuditReport:
    """Run the attacks in the order given. Raises MalformedFile or NoInteractions for a folder that cannot be read."""
    population, source = _population(settings)
    findings: list[Finding] = []
    seconds: dict[str, float] = {}
    for attack in settings.attacks:
        before = perf_counter()
        findings += _run_one(attack, settings, population, progress)
        seconds[attack] = round(perf_counter() - before, 1)
    return AuditReport(
        findings=tuple(findings),
        seed=settings.seed,
        quick=settings.quick,
        data=source,
        timings_seconds=seconds,
        peak_memory_mb=peak_memory_mb(),
    )


def _run_one(
    attack: Attack, settings: AuditSettings, population: Interactions, progress: Progress
) -> list[Finding]:  # fmt: skip
    effort, seed = settings.effort, settings.seed
    match attack:
        case "masks":
            progress("masks")
            return mask_findings(trials=effort.mask_vectors, seed=seed)
        case "membership":
            return membership_findings(population, size=effort.membership, seed=seed, progress=progress)
        case "canary":
            return canary_findings(
                epsilons=effort.canary_epsilons, trainings=effort.trainings, seed=seed, progress=progress
            )
        case "transcript":
            with tempfile.TemporaryDirectory(prefix="zhiyin-audit-", dir=_scratch()) as name:
                folder = Path(name)
                jobs, controls = effort.jobs, effort.control_jobs
                rows = transcript_findings(folder, jobs=jobs, control_jobs=controls, seed=seed, progress=progress)
                return rows + timing_findings(folder / "time", calls=effort.timed_calls, seed=seed, progress=progress)


def _population(settings: AuditSettings) -> tuple[Interactions, str]:
    # Read before anything else runs, so that a folder that cannot be read is refused at once.
    if settings.data is not None:
        dataset = load_folder(settings.data)
        return dataset.histories, f"{dataset.name}, sha256 {dataset.sha256}"
    market = generate(seed=settings.seed, num_users=2 * settings.effort.membership.num_users, num_items=120)
    return concatenate([tenant.interactions for tenant in market.tenants]), "generated marketplace"


def _scratch() -> Path | None:
    return _MEMORY if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) else None
