"""One line of an audit: what an attack achieved, how sure that is, and what it was allowed to achieve."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shared.errors import BadSetting
from simulations.auditing.statistics import Interval

# Of every interval. A run judges some fifty attacks by their lower bounds, so a sound system fails one run in twenty.
CONFIDENCE = 0.999
Attack = Literal["masks", "transcript", "membership", "canary"]
Kind = Literal["attack", "control", "residual"]
Verdict = Literal["within the statement", "exceeds the statement", "caught", "not caught", "residual leak"]
_BAD: tuple[Verdict, ...] = ("exceeds the statement", "not caught")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One attack in one world.

    kind: `attack` is on the real system and may not be shown to exceed `allowed`. `control` is on a broken one and must
    be shown to. `residual` is on the real system, about something that it does not promise to hide: shown, not judged.
    allowed: the most that the statement lets the statistic be. low, high: bounds on it at `confidence`, high None for a
    one-sided bound. trials: independent experiments behind the estimate. seed: of the experiment's design; the
    protocol's own randomness is the operating system's.
    """

    name: str
    attack: Attack
    kind: Kind
    world: str
    statistic: str
    estimate: float
    low: float
    high: float | None
    confidence: float
    allowed: float
    trials: int
    seed: int
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        beyond = self.low > self.allowed
        if self.kind == "control":
            return "caught" if beyond else "not caught"
        if not beyond:
            return "within the statement"
        return "residual leak" if self.kind == "residual" else "exceeds the statement"

    @property
    def is_bad(self) -> bool:
        """Whether the statement is refuted, or the audit shown to be blind."""
        return self.verdict in _BAD


def found(
    estimate: float,
    interval: Interval,
    *,
    attack: Attack,
    kind: Kind,
    name: str,
    world: str,
    statistic: str,
    allowed: float,
    trials: int,
    seed: int,
    note: str = "",
) -> Finding:
    """A finding of a two-sided interval at CONFIDENCE."""
    if not interval.low <= estimate <= interval.high:
        raise BadSetting(f"{name}: estimate {estimate} is outside its interval")
    return Finding(
        name=name,
        attack=attack,
        kind=kind,
        world=world,
        statistic=statistic,
        estimate=estimate,
        low=interval.low,
        high=interval.high,
        confidence=CONFIDENCE,
        allowed=allowed,
        trials=trials,
        seed=seed,
        note=note,
    )


def all_good(findings: Sequence[Finding]) -> bool:
    """Whether no attack refuted the statement and every control was caught."""
    return not any(finding.is_bad for finding in findings)
