"""What was done to a value before it was released, as frozen data that the accountant interprets.

Neighbouring relation throughout: add or remove one user with their whole history.
All sensitivities are in L2 over everything that one user can change in the release.
"""

from dataclasses import dataclass
from typing import Any

from shared.canonical import finite
from shared.errors import UnknownMechanism


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Continuous spherical Gaussian noise. `noise_std` and `sensitivity` share one unit."""

    noise_std: float
    sensitivity: float

    def __post_init__(self) -> None:
        _positive(noise_std=self.noise_std, sensitivity=self.sensitivity)


@dataclass(frozen=True, kw_only=True)
class DiscreteGaussian:
    """Independent discrete Gaussians N_Z(0, noise_std^2) on integers (Canonne, Kamath, Steinke 2020, Def. 1).

    noise_std: integer, in fixed-point steps. sensitivity: L2 of integer vectors, rounding included, in steps.
    num_coordinates: length of the released vector; the accountant's bound depends on it.
    """

    noise_std: int
    sensitivity: float
    num_coordinates: int

    def __post_init__(self) -> None:
        _positive(noise_std=self.noise_std, sensitivity=self.sensitivity, num_coordinates=self.num_coordinates)


@dataclass(frozen=True, kw_only=True)
class PoissonSampledGaussian:
    """`steps` Gaussian releases, each on a Poisson sample of the users with probability `sample_rate`."""

    sample_rate: float
    noise_multiplier: float
    steps: int

    def __post_init__(self) -> None:
        _positive(sample_rate=self.sample_rate, noise_multiplier=self.noise_multiplier, steps=self.steps)
        if self.sample_rate > 1:
            raise ValueError(f"sample_rate must be at most 1, got {self.sample_rate}")


@dataclass(frozen=True, kw_only=True)
class Skellam:
    """Independent symmetric Skellam noise on integers, the sum of many parties' (Agarwal, Kairouz, Liu 2021).

    variance: of the counted noise, in steps squared: what one honest party adds, times the honest parties that are in
    every sum. sensitivity, l1_sensitivity: L2 and L1 of integer vectors, rounding included, in steps. Of integers, the
    L1 norm is at most the square of the L2 norm, and at most sqrt(num_coordinates) times it.
    """

    variance: int
    sensitivity: float
    l1_sensitivity: float

    def __post_init__(self) -> None:
        _positive(variance=self.variance, sensitivity=self.sensitivity, l1_sensitivity=self.l1_sensitivity)
        if self.l1_sensitivity < self.sensitivity:
            raise ValueError("l1_sensitivity is never below the L2 sensitivity")


Mechanism = Gaussian | DiscreteGaussian | PoissonSampledGaussian | Skellam
_KINDS: dict[str, type[Mechanism]] = {
    "gaussian": Gaussian,
    "discrete-gaussian": DiscreteGaussian,
    "poisson-sampled-gaussian": PoissonSampledGaussian,
    "skellam": Skellam,
}


def to_json(mechanism: Mechanism) -> dict[str, Any]:
    """A JSON object with a `kind` and the fields."""
    for kind, known in _KINDS.items():
        if type(mechanism) is known:
            return {"kind": kind, **vars(mechanism)}
    raise UnknownMechanism(f"mechanism {type(mechanism).__name__} is not one that can be accounted")


def from_json(value: dict[str, Any]) -> Mechanism:
    """Inverse of `to_json`; raises UnknownMechanism for another kind or other fields."""
    fields = dict(value) if isinstance(value, dict) else {}
    kind = fields.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise UnknownMechanism(f"mechanism of kind {kind!r} is not one that can be accounted")
    try:
        return _KINDS[kind](**fields)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnknownMechanism(f"mechanism {kind}: {error}") from error


def _positive(**fields: float) -> None:
    for name, value in fields.items():
        if finite(name, value) <= 0:
            raise ValueError(f"{name} must be above zero, got {value}")
